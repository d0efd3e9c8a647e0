"""The buffer of a vault that trades: filled of its gains, counted nowhere, drawn where an account runs short, told."""

from __future__ import annotations

from typing import Any

import pytest

from bot.domain.risk import MarginState, TransferCollateral
from bot.domain.units import NS_PER_MIN
from bot.engine.margin.insurance import Insurance
from bot.risk.buffer import BufferRule, InsuranceBuffer, Move
from bot.risk.margin_states import StateRule
from bot.risk.transfers import Route, TransferRules
from strategies import DeltaBand
from tests.engine.margin_vault import INITIAL_SHARE, A, B, MarginVault

RULE = BufferRule(full_quote=150.0)
PER_BASE = INITIAL_SHARE * 1.25 * 2000.0
ROUTE = Route(
    name="ARB", asset="USD", from_venue="b", to_venue="a", address_label="a-usd", p95_ns=10 * NS_PER_MIN,
    fee=0.0, max_amount=1e6,
)  # fmt: skip


def insured(usd: dict[str, float], rule: BufferRule = RULE, **changes: Any) -> MarginVault:
    risk = {"insurance": rule, "states": StateRule(step_up_ns=0), "buffers": None, **changes.pop("risk", {})}
    return MarginVault(usd, risk=risk, **changes)


def insurance_of(vault: MarginVault) -> Insurance:
    assert vault.engine.insurance is not None
    return vault.engine.insurance


def put_aside(vault: MarginVault, amount: float) -> None:
    insurance_of(vault).buffer = InsuranceBuffer(balance_quote=amount, high_quote=1e9, funded_quote=amount)


def lacking(ratio: float, aside: float, rule: BufferRule = BufferRule(full_quote=1e5)) -> MarginVault:  # noqa: B008
    """Return a vault hedged at A alone, where so much is kept aside and margin over the rest of equity is `ratio`."""
    vault = insured({"a": 1e6}, rule, instruments=(A,))
    vault.hedge_all()
    found = vault.margin.accounts["a"]
    found.moved["USD"] = found.figures.maintenance / ratio + aside - 1e6
    put_aside(vault, aside)
    vault.margin.note_change()
    return vault


def critical(aside: float) -> MarginVault:
    """Return one that has got to CRITICAL: states are gone through one by one."""
    vault = lacking(0.93, aside)
    for _ in range(3):
        vault.tick()
    return vault


class TestFunding:
    def open_coins(self) -> MarginVault:
        """Ten coins that nobody hedges: each dollar of the index is ten of P&L."""
        vault = insured({"a": 10_000.0, "b": 30_000.0}, policy=DeltaBand(half_width_base=50.0))
        vault.tick()
        return vault

    def test_a_share_of_what_was_earned_by_the_hour_is_kept(self) -> None:
        vault = self.open_coins()
        vault.tick(px=2040.0)
        vault.tick(px=2080.0, after_s=600.0)
        assert insurance_of(vault).buffer.balance_quote == 0.0  # a high within the hour is none yet
        vault.tick(px=2080.0, after_s=3_600.0)
        assert insurance_of(vault).buffer.balance_quote == pytest.approx(80.0)
        vault.tick(px=2010.0, after_s=3_600.0)
        vault.tick(px=2060.0, after_s=3_600.0)
        assert insurance_of(vault).buffer.balance_quote == pytest.approx(80.0)  # earned back, not earned
        for px in (2150.0, 2250.0, 2250.0):
            vault.tick(px=px, after_s=3_600.0)
        assert insurance_of(vault).buffer.balance_quote == 150.0  # full
        record = insurance_of(vault).record()
        assert (record.funded_quote, record.full_quote, record.drawn_quote) == (150.0, 150.0, 0.0)

    def test_what_is_aside_counts_nowhere_each_account_by_what_is_there(self) -> None:
        vault = self.open_coins()
        vault.tick(px=2040.0)
        vault.tick(px=2080.0, after_s=3_600.0)
        vault.tick(px=2080.0, after_s=3_600.0)
        a, b = vault.margin.accounts["a"], vault.margin.accounts["b"]
        assert (a.whole_quote, b.whole_quote) == (10_000.0, 30_000.0)
        assert (a.equity_quote, b.equity_quote) == (pytest.approx(9_980.0), pytest.approx(29_940.0))
        assert "beside 20 of the buffer" in vault.margin.tell(a)

    def test_nothing_is_kept_while_an_account_is_in_trouble(self) -> None:
        vault = self.open_coins()
        vault.tick(px=2040.0)
        vault.margin.accounts["a"].moved["USD"] = -10_001.0  # something is owed
        vault.margin.note_change()
        for _ in range(3):
            vault.tick(px=2080.0, after_s=3_600.0)
        assert insurance_of(vault).buffer.balance_quote == 0.0


def test_hedges_go_no_further_than_without_what_is_aside() -> None:
    usd = 3.05 * PER_BASE / 0.9
    free, kept = insured({"a": usd}, instruments=(A,)), insured({"a": usd}, instruments=(A,))
    put_aside(kept, PER_BASE / 0.9)
    assert (free.orders(), kept.orders()) == ({"A": -30}, {"A": -20})


def test_a_top_up_leaves_what_is_aside_where_it_is() -> None:
    found = []
    for aside in (0.0, 4_000.0):
        rules = TransferRules(routes=(ROUTE,), day_caps={"USD": 1e6})
        vault = insured({"a": 1e6, "b": 5_000.0}, instruments=(A, B), risk={"transfers": rules})
        vault.hedge_all()
        one = vault.margin.accounts["a"]
        one.moved["USD"] = one.figures.maintenance / 0.85 - 1e6
        put_aside(vault, aside)
        vault.margin.note_change()
        (command,) = [one for one in vault.tick() if isinstance(one, TransferCollateral)]
        found.append((command.amount, vault.margin.accounts["b"]))
    (all_of_it, _), (less, b) = found
    assert all_of_it == pytest.approx(5_000.0)
    assert less == pytest.approx(5_000.0 - vault.margin.part_of(b, 4_000.0), abs=1.0)
    assert less < 4_500.0


class TestDraws:
    def test_critical_draws_its_share_once_and_it_counts_again_at_once(self) -> None:
        vault = critical(aside=400.0)
        before = vault.margin.accounts["a"].figures.maintenance / 0.93
        entry = insurance_of(vault).buffer.entries[-1]
        assert (entry.move, entry.amount_quote, entry.balance_quote) == (Move.DRAWN, 200.0, 200.0)
        assert "needed in critical, 50% may go" in entry.reason
        assert vault.margin.accounts["a"].equity_quote == pytest.approx(before + 200.0)
        for _ in range(5):
            vault.tick(after_s=60.0)
        assert insurance_of(vault).buffer.drawn_quote == 200.0

    def test_an_emergency_draws_all_of_it(self) -> None:
        vault = lacking(1.05, aside=300.0)
        for _ in range(4):  # the states are gone through one by one
            vault.tick(after_s=60.0)
        assert insurance_of(vault).buffer.balance_quote == 0.0
        assert insurance_of(vault).record().drawn_quote == 300.0

    def test_in_a_state_that_is_not_named_it_is_refused_once(self) -> None:
        vault = lacking(0.85, aside=400.0)
        for _ in range(3):
            vault.tick(after_s=60.0)
        (entry,) = insurance_of(vault).buffer.entries
        assert (entry.move, entry.balance_quote) == (Move.REFUSED, 400.0)
        assert "refused in act, drawn only in critical, emergency" in entry.reason

    def test_no_more_than_the_account_lacks(self) -> None:
        vault = critical(aside=90_000.0)
        found = vault.margin.accounts["a"]
        assert insurance_of(vault).buffer.drawn_quote == pytest.approx(found.figures.maintenance * (1 / 0.5 - 1 / 0.93))
        assert found.utilisation_ratio == pytest.approx(0.5)

    def test_what_was_drawn_goes_back_once_all_is_well_without_it(self) -> None:
        vault = critical(aside=400.0)
        vault.margin.accounts["a"].moved["USD"] += 20_000.0
        vault.margin.note_change()
        vault.tick(after_s=60.0)
        assert vault.margin.accounts["a"].standing is not None
        assert vault.margin.accounts["a"].standing.state is MarginState.NORMAL
        vault.tick(after_s=3_700.0)
        found = insurance_of(vault).buffer
        assert (found.balance_quote, found.returned_quote) == (400.0, 200.0)
        assert found.entries[-1].reason == "every account is normal without it"
        assert insurance_of(vault).tell().startswith("400.00 of 100,000.00: 400.00 kept of gains, 200.00 drawn, 200.00")

    def test_it_does_not_go_back_where_an_account_would_miss_it(self) -> None:
        vault = critical(aside=400.0)
        found = vault.margin.accounts["a"]
        found.moved["USD"] += found.figures.maintenance / 0.549 - found.equity_quote  # well, by a hair
        vault.margin.note_change()
        for _ in range(3):
            vault.tick(after_s=3_700.0)
        assert insurance_of(vault).buffer.returned_quote == 0.0


def test_a_run_again_is_the_same_run() -> None:
    told = []
    for _ in range(2):
        vault = lacking(0.93, aside=400.0)
        commands = [vault.tick(after_s=60.0) for _ in range(6)]
        told.append((repr(commands), insurance_of(vault).buffer))
    assert told[0] == told[1]
