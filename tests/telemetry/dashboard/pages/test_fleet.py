from __future__ import annotations

import json

import pytest
from msgspec.structs import replace

from bot.domain.windows import AccountState, Alert, FeedState, Severity, VaultState
from bot.telemetry.dashboard.live import Live
from bot.telemetry.dashboard.mirror import Mirror
from bot.telemetry.dashboard.pages.fleet import (
    FINE,
    NOW,
    SOON,
    beside_state,
    delta_text,
    excess_base,
    of_the_desk,
    show_row,
    summary,
    urgency,
    worst_underlying,
)
from tests.telemetry.states import NOW_NS, a_state, an_account, an_alert, an_underlying

VAULT = "eth-straddle"
OVER = an_alert(Severity.CRITICAL, vault="", title="over", ended_ns=1)


def mirrored(state: VaultState | None, *alerts: Alert, age_s: float = 0.0) -> Mirror:
    came = [0.0]
    mirror = Mirror([VAULT], lambda: NOW_NS, now_s=lambda: came[0])
    if state is not None:
        mirror.take_state(state)
    mirror.take_alerts(VAULT, alerts)
    came[0] += age_s
    return mirror


@pytest.mark.parametrize(
    ("mirror", "expected"),
    [
        (mirrored(a_state()), FINE),
        (mirrored(None), NOW),
        (mirrored(a_state(), age_s=10.0), NOW),
        (mirrored(a_state(state="halted")), NOW),
        (mirrored(a_state(state="paused")), SOON),
        (mirrored(a_state(feeds=(FeedState("ETH index", "index", 90.0, 60.0, is_stale=True),))), SOON),
        (mirrored(a_state(underlyings=(an_underlying(1.5),))), SOON),
        (mirrored(a_state(pnl_today_quote=-600.0, daily_loss_limit_quote=1_000.0)), SOON),
        (mirrored(a_state(pnl_today_quote=-400.0, daily_loss_limit_quote=1_000.0)), FINE),
        (mirrored(a_state(), an_alert(Severity.INFO)), FINE),
        (mirrored(a_state(), an_alert(Severity.WARNING)), SOON),
        (mirrored(a_state(), an_alert(Severity.CRITICAL)), NOW),
        (mirrored(a_state(), an_alert(Severity.CRITICAL, acknowledged_by="alice")), FINE),
        (mirrored(a_state(), an_alert(Severity.CRITICAL, ended_ns=1)), FINE),
    ],
)
def test_what_is_urgent_comes_first(mirror: Mirror, expected: int) -> None:
    assert urgency(mirror, mirror.vaults()[0]) == expected


def test_beside_the_state_stands_what_it_does_not_say() -> None:
    assert beside_state(a_state()) == ""
    assert beside_state(a_state(state="halted", state_reason="operator: enough")) == "operator: enough"
    stale = FeedState("ETH index", "index", 90.0, 60.0, is_stale=True)
    assert beside_state(a_state(feeds=(stale,))) == "▲ stale: ETH index"
    assert beside_state(a_state(feeds=(stale, stale, stale))) == "▲ stale: ETH index and 2 more"


def test_the_fleet_in_a_sentence() -> None:
    for mirror, expected in (
        (mirrored(a_state()), "1 vault, all well"),
        (mirrored(a_state(state="paused")), "1 vault, 1 to look at"),
        (mirrored(a_state(), age_s=10.0), "1 vault, 1 urgent, 1 not heard of lately"),
    ):
        assert summary(mirror, mirror.vaults()) == expected


def test_what_is_wrong_with_the_desk_itself_is_said_the_worst_first() -> None:
    mirror = mirrored(a_state())
    assert of_the_desk(mirror) == ""
    mirror.take_availability("", "online")
    names = ("one", "two", "three", "four")
    warned = [an_alert(vault="", title=name, detail="why", began_ns=at) for at, name in enumerate(names)]
    mirror.take_alerts("", [*warned, an_alert(Severity.CRITICAL, vault="", title="worst", detail="ah"), OVER])
    said = of_the_desk(mirror)
    assert said.startswith("The desk: ⬣ worst: ah; ")
    assert said.endswith(" two: why; 2 more")
    assert [one.vault for one in mirror.vaults()] == [VAULT], "the desk is no vault"
    mirror.take_availability("", "offline: stopped")
    assert of_the_desk(mirror).startswith("✕ The desk's windows are not there (offline: stopped)")


def test_the_underlying_shown_is_the_one_furthest_out_in_money() -> None:
    eth = an_underlying(1.5)
    btc = an_underlying(1.1, underlying="BTC", spot_px=30_000.0)
    calm = an_underlying(0.9, underlying="SOL", spot_px=10.0)
    assert worst_underlying(a_state(underlyings=(calm, eth, btc))) == btc
    assert worst_underlying(a_state(underlyings=(calm, eth))) == eth
    assert worst_underlying(a_state(underlyings=())) is None


def test_how_far_out_it_may_be_counts_the_worse_end_of_an_interval() -> None:
    unsure = an_underlying(delta_low_base=-1.25, delta_high_base=0.5)
    assert excess_base(unsure) == 0.25
    assert delta_text(unsure, 0) == "−1.250 … +0.500 ETH ▲ partly outside"
    assert delta_text(an_underlying(1.5), 0) == "+1.500 ETH ▲ outside"
    assert delta_text(an_underlying(0.5), 2) == "+0.500 ETH (+2 more)"
    assert delta_text(an_underlying(None), 0) == "– ETH"
    assert excess_base(an_underlying(None)) == excess_base(an_underlying(9.0, low_base=None)) == 0.0


def test_a_row_says_all_there_is_to_say() -> None:
    accounts = (an_account(0.25), an_account(None), an_account(0.4))
    mirror = mirrored(a_state(accounts=accounts), an_alert(), an_alert(Severity.CRITICAL, title="Broke"), age_s=1.0)
    live = Live()
    show_row(live, mirror, mirror.vaults()[0])
    cells = json.loads(live.flush() or "")["cells"]
    text = {key.partition(".")[2]: cell.get("#text") for key, cell in cells.items()}
    assert text["state"] == "● running"
    assert text["pnl"] == "+12.50"
    assert text["margin"] == "40.0 %"
    assert text["alerts"] == "⬣ 1 critical, 1 more"
    assert text["age"] == "1.0 s"
    assert "Broke" in cells[f"{VAULT}.alerts"]["title"]
    show_row(live, mirror, mirror.vaults()[0])
    assert live.flush() is None


@pytest.mark.parametrize(
    ("accounts", "said", "level"),
    [
        ((replace(an_account(0.65), state="watch"), an_account(0.4)), "▲ 65.0 % watch", SOON),
        ((an_account(0.95), replace(an_account(0.935), state="critical")), "✕ 93.5 % critical", NOW),
        ((an_account(0.95), replace(an_account(None), state="emergency")), "✕ – emergency", NOW),
        ((an_account(None), an_account(0.2)), "20.0 %", FINE),
    ],
)
def test_an_account_near_liquidation_is_said_in_words_and_comes_first(
    accounts: tuple[AccountState, ...], said: str, level: int
) -> None:
    mirror = mirrored(a_state(accounts=accounts))
    live = Live()
    show_row(live, mirror, mirror.vaults()[0])
    assert json.loads(live.flush() or "")["cells"][f"{VAULT}.margin"]["#text"] == said
    assert urgency(mirror, mirror.vaults()[0]) == level


def test_what_is_not_known_is_a_dash_with_a_reason() -> None:
    mirror = mirrored(a_state(pnl_today_quote=None, accounts=()))
    live = Live()
    show_row(live, mirror, mirror.vaults()[0])
    cells = json.loads(live.flush() or "")["cells"]
    for key in ("pnl", "margin"):
        assert cells[f"{VAULT}.{key}"]["#text"] == "–"
        assert cells[f"{VAULT}.{key}"]["title"]
