"""What venues show of their health, and what follows for the hedges there."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from bot.domain.decisions import Refusal
from bot.domain.events import Command, SubmitOrder
from bot.domain.instruments import Hedgeable
from bot.domain.risk import CounterpartySigns, TransferCollateral, TransferState, TransferUpdate
from bot.engine.margin.counterparty_keeper import CounterpartyKeeper
from bot.engine.margin.risk_settings import CounterpartyRules
from bot.risk.counterparties import Action, CounterpartyParameters, Party, PartyKind
from bot.risk.drain import Stage
from bot.risk.transfers import Route, TransferRules
from bot.runtime.configuration.margin_parameters import carried_sets
from tests.engine.margin_vault import A, B, MarginVault

PARAMETERS = msgspec.convert(carried_sets("counterparties")[-1].values, CounterpartyParameters)
WELL: dict[str, Any] = {
    "withdrawals": "working",
    "fund_quote": 1e9,
    "fund_high_quote": 1e9,
    "open_interest_quote": 1e9,
    "deleverage_rank_share": 0.0,
    "api_error_share": 0.0,
    "perp_discount_share": 0.0,
    "reserves_age_days": 1.0,
    "reserves_coverage_ratio": 1.1,
}


WAY = Route(name="ARB", asset="USD", from_venue="a", to_venue="b", address_label="b", p95_ns=10**12)


def watched(*, instruments: tuple[Hedgeable, ...] = (A, B), **risk: Any) -> MarginVault:
    vault = MarginVault({"a": 1e6, "b": 1e6}, instruments=instruments, risk={"counterparties": PARAMETERS, **risk})
    vault.hedge_all()
    assert vault.engine.desks["ETH"].holdings["ETH-A"].lots == -90
    return vault


def limited(changes: dict[str, Any] | None = None, **rules: Any) -> MarginVault:
    """Return a vault with limits: both venues hold half of what there is."""
    parameters = msgspec.structs.replace(
        PARAMETERS,
        **{"equity_share": 0.6, "equity_share_unknown": 0.6, "score_share": ((0.0, 0.6),), **(changes or {})},
    )
    given = {"counterparties": parameters, "counterparty_rules": CounterpartyRules(is_limiting=True, **rules)}
    vault = MarginVault({"a": 1e6, "b": 1e6}, instruments=(A, B), risk=given)
    vault.hedge_all()
    return vault


def keeper(vault: MarginVault) -> CounterpartyKeeper:
    assert vault.engine.counterparties is not None
    return vault.engine.counterparties


def transfers(commands: list[Command]) -> list[TransferCollateral]:
    return [one for one in commands if isinstance(one, TransferCollateral)]


def show(vault: MarginVault, **changes: Any) -> None:
    vault.wait(1.0)
    vault.apply(CounterpartySigns("a", vault.now_ns, vault.now_ns, **{**WELL, **changes}))


def test_a_venue_that_looks_well_is_hedged_at() -> None:
    vault = watched()
    show(vault)
    vault.engine.desks["ETH"].book.coin_cash = 12.0
    assert vault.orders() == {"A": -20}
    assert vault.engine.counterparties.actions["a"] is Action.NONE  # type: ignore[union-attr]


def test_f31_withdrawals_suspended_hedges_elsewhere_first_then_takes_out_what_leaves_and_closes() -> None:
    vault = watched(transfers=TransferRules(routes=(WAY,), day_caps={"USD": 1e7}))
    show(vault, withdrawals="suspended")
    commands = vault.tick()
    assert not transfers(commands)  # nothing leaves before the hedge is on elsewhere
    assert "withdrawals: suspended" in vault.margin.accounts["a"].banned
    lots = {"ETH-A": -90, "ETH-B": 0}
    seen: list[tuple[str, int]] = []
    for _ in range(60):
        seen += [("USD", round(one.amount)) for one in transfers(commands)]
        for one in commands:
            if isinstance(one, SubmitOrder):
                seen.append((one.intent.instrument_id, one.intent.qty_lots))
                lots[one.intent.instrument_id] += one.intent.qty_lots
                assert -140 <= sum(lots.values()) <= -80  # as if "a" may fail or live, never less than hedged
                vault.accept(one.intent)
                vault.fill(one.intent)
        commands = vault.tick()
    assert seen[0] == ("ETH-B", -45)
    assert seen[1][0] == "USD"
    assert seen[1][1] < 0.05 * 1e6  # the smallest first
    assert [lots_ for name, lots_ in seen if name == "ETH-A"] == [9] * 10
    assert lots == {"ETH-A": 0, "ETH-B": -90}
    drain = keeper(vault).drains["a"]
    stages = [one.stage for one in drain.trail]
    assert stages == sorted(stages, key=[*Stage].index)
    vault.engine.desks["ETH"].book.coin_cash = 14.0
    (intent,) = [one for one in vault.intents() if one.qty_lots < 0]
    assert intent.instrument_id == "ETH-B"
    assert "counterparty_limit of a: only what releases margin, counterparty score 49" in intent.reason


def test_f33_a_fund_that_shrinks_by_a_third_has_the_leg_first_in_line_moved_away_before_it_is_taken() -> None:
    other = msgspec.structs.replace(A, instrument_id="ETH-A2")
    vault = watched(instruments=(A, B, other))
    for instrument, px in ((A, 2000.0), (other, 2400.0)):  # both are short, and the dearer sale has won most
        holding = vault.engine.desks["ETH"].holdings[instrument.instrument_id]
        holding.trade_lots(-holding.lots, 2000.0)
        holding.cash_settle = 0.0
        holding.trade_lots(-45, px)
    show(vault, fund_quote=6.9e8)
    vault.tick()
    (intent,) = vault.intents()
    assert (intent.instrument_id, intent.qty_lots) == ("ETH-A2", 5)
    assert "first in line for deleveraging at a: insurance fund 31% below its high of 8 hours" in intent.reason
    show(vault, fund_quote=7.2e8)  # it has begun, and goes on until a quarter is missing
    vault.tick()
    assert "28% below" in vault.margin.accounts["a"].shed_for
    show(vault, fund_quote=7.6e8)
    vault.tick()
    assert vault.margin.accounts["a"].shed_for == ""
    assert vault.margin.accounts["a"].may_add


def test_a_score_between_stops_adding_only() -> None:
    vault = watched(instruments=(A,))
    show(vault, withdrawals="slow")
    assert vault.orders() == {}
    vault.engine.desks["ETH"].book.coin_cash = 12.0
    assert vault.orders() == {}
    assert vault.decision.refusal is Refusal.COUNTERPARTY_LIMIT
    assert "counterparty score 69 (withdrawals: slow" in vault.decision.refusal_detail
    vault = watched()
    show(vault, withdrawals="slow")
    assert vault.orders() == {}
    vault.engine.desks["ETH"].book.coin_cash = 12.0
    assert vault.orders() == {"B": -20}
    vault.engine.desks["ETH"].book.coin_cash = 5.0
    assert min(vault.orders().values()) > 0


def test_older_signs_and_strangers_change_nothing() -> None:
    vault = watched()
    show(vault)
    board = vault.engine.counterparties
    assert board is not None
    vault.tick()
    vault.apply(CounterpartySigns("a", 1, vault.now_ns, withdrawals="suspended"))
    vault.apply(CounterpartySigns("z", vault.now_ns, vault.now_ns, withdrawals="suspended"))
    vault.tick()
    assert set(board.actions) == {"a"}
    assert board.actions["a"] is Action.NONE


def test_what_a_venue_holds_is_limited_by_a_share_of_equity_and_hedges_go_elsewhere() -> None:
    vault = limited()
    vault.wait(61.0)
    vault.tick()
    risk = keeper(vault).risks["a"]
    # 1 m of collateral and 9 sold at 2,000: a fall of 30 % makes 5,400 more of it
    assert risk.stressed_quote == pytest.approx(1_005_400.0, rel=1e-3)
    assert risk.limit_quote == pytest.approx(0.6 * 2e6, rel=1e-2)
    assert not risk.is_over
    assert risk.action is Action.NONE  # nobody watches: a score made of nothing bans nothing
    assert "withdrawals" in risk.score.unknown
    tight = limited({"equity_share_unknown": 0.4}, parties=(Party(name="a", standing_share=1.0),))
    tight.engine.desks["ETH"].book.coin_cash = 12.0
    assert tight.orders() == {}
    assert tight.decision.refusal is Refusal.COUNTERPARTY_LIMIT
    assert "limit 800,0" in tight.decision.refusal_detail
    show(tight)  # … known to be well
    assert keeper(tight).signs
    assert tight.orders() == {"A": -110}


def test_watched_venues_nothing_is_known_of_are_not_added_to_and_old_signs_are_none() -> None:
    vault = limited(is_watched=True)
    assert keeper(vault).actions == {"a": Action.STOP_ADDING, "b": Action.STOP_ADDING}
    assert vault.engine.desks["ETH"].holdings["ETH-A"].lots == 0
    show(vault)
    assert vault.hedge_all() == {"A": -90}
    vault.wait(901.0)
    vault.tick()
    assert keeper(vault).actions["a"] is Action.STOP_ADDING
    assert "fund" in keeper(vault).scores["a"].unknown


def test_open_interest_bounds_too_and_parties_of_a_group_share_a_limit() -> None:
    vault = limited()
    show(vault, open_interest_quote=1e7)
    vault.tick()
    assert keeper(vault).risks["a"].limit_reason == "5% of the venue's open interest"
    assert keeper(vault).actions["a"] is Action.STOP_ADDING
    both = (Party(name="a", group="holding"), Party(name="b", group="holding"))
    grouped = limited({"group_share": 0.9}, parties=both)
    assert set(keeper(grouped).actions.values()) == {Action.STOP_ADDING}
    assert "a, b of group holding hold 2,0" in grouped.margin.accounts["b"].banned
    assert grouped.engine.desks["ETH"].holdings["ETH-A"].lots == 0


def test_an_issuer_is_owed_by_wherever_its_tokens_lie() -> None:
    vault = limited(issuers={"USD": "fed"})
    risk = keeper(vault).risks["fed"]
    assert keeper(vault).parties["fed"].kind is PartyKind.ISSUER
    assert risk.ead_quote == pytest.approx(2e6)
    assert risk.is_over


def test_what_is_under_way_counts_at_the_venues_and_at_the_bridge_and_fills_its_limit() -> None:
    way = msgspec.structs.replace(WAY, bridge="span")
    vault = MarginVault(
        {"a": 1e6, "b": 1e6},
        instruments=(A, B),
        risk={
            "counterparties": msgspec.structs.replace(PARAMETERS, equity_share=0.7, equity_share_unknown=0.02),
            "counterparty_rules": CounterpartyRules(is_limiting=True),
            "transfers": TransferRules(routes=(way,), day_caps={"USD": 1e7}),
        },
    )
    vault.tick()
    top_ups = vault.engine.top_ups
    assert top_ups is not None
    sent = top_ups.withdraw(way, 1e5, "a test", vault.now_ns)
    assert isinstance(sent, TransferCollateral)
    assert sent.amount == pytest.approx(0.02 * 2e6, rel=0.02)  # what the bridge may hold
    update = TransferUpdate(
        sent.transfer_id, TransferState.SENT, "USD", sent.amount, 0.0, "a", "b", "ARB", "", vault.now_ns, vault.now_ns
    )
    vault.apply(update)
    vault.tick()
    risks = keeper(vault).risks
    assert risks["span"].ead_quote == sent.amount
    assert risks["a"].ead_quote == pytest.approx(1e6)  # still there until it has arrived
    assert risks["b"].ead_quote == pytest.approx(1e6 + sent.amount)
    assert top_ups.bridge_room_quote["span"] < 0.03 * sent.amount


def test_a_drain_ends_when_the_venue_is_well_again_and_hastens_when_it_is_worse() -> None:
    vault = watched()
    show(vault, withdrawals="suspended")
    vault.hedge_all(rounds=6)
    drain = keeper(vault).drains["a"]
    bad = {"api_error_share": 1.0, "fund_quote": 1.0, "perp_discount_share": 1.0, "reserves_age_days": 900.0}
    show(vault, withdrawals="suspended", deleverage_rank_share=1.0, **bad)
    vault.hedge_all(rounds=1)
    assert keeper(vault).actions["a"] is Action.EXIT
    assert any(entry.text.startswith("exit of a: ") for entry in drain.trail)
    show(vault)
    vault.hedge_all(rounds=6)
    assert keeper(vault).drains == {}
    assert keeper(vault).ended[0] is drain
    assert "ended: counterparty score" in drain.trail[-1].text
    assert keeper(vault).shift_base("ETH") == 0.0
    held = vault.engine.desks["ETH"].holdings
    assert -110 <= held["ETH-A"].lots + held["ETH-B"].lots <= -80


def test_where_no_other_venue_can_hedge_nothing_is_closed() -> None:
    vault = watched(instruments=(A,))
    show(vault, withdrawals="suspended")
    vault.hedge_all(rounds=70)
    assert vault.engine.desks["ETH"].holdings["ETH-A"].lots == -90
    assert keeper(vault).shift_base("ETH") == 0.0


def test_collateral_that_cannot_be_counted_is_over_any_limit() -> None:
    vault = limited()
    vault.margin.accounts["a"].balances = {"USD": 1e6, "XYZ": 5.0}
    vault.wait(61.0)
    vault.tick()
    assert keeper(vault).actions["a"] is Action.STOP_ADDING
    assert "what is held there is not known" in vault.margin.accounts["a"].banned
