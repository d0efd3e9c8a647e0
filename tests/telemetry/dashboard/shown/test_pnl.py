"""The waterfall: its bars begin where the last one ended, and the total is their end."""

from __future__ import annotations

from itertools import pairwise

import pytest

from bot.telemetry.dashboard.shown.pnl import loss_told, waterfall
from tests.telemetry.dashboard.sheets import cell, rows
from tests.telemetry.states import STATE, state


def test_each_bar_begins_where_the_last_one_ended() -> None:
    shown = waterfall(STATE)
    lines = sorted(shown["rows"].values(), key=lambda row: row["at"])
    bars = [line["cells"][1]["bar"] for line in lines]
    zero = lines[0]["cells"][1]["marks"][0]
    assert bars[0][0] == zero
    for before, after in pairwise(bars[:-1]):
        assert after[0] == before[1]
    assert bars[-1] == (zero, bars[-2][1])
    assert min(min(bar) for bar in bars) == 0.0
    assert max(max(bar) for bar in bars) == 1.0


def test_amounts_are_those_of_the_state_and_add_up() -> None:
    shown = waterfall(STATE)
    amounts = {line["cells"][0]["text"]: line["cells"][2]["sort"] for line in shown["rows"].values()}
    assert amounts.pop("total") == pytest.approx(sum(amounts.values())) == pytest.approx(STATE.pnl_quote["total"])
    assert cell(shown, "theta", "amount")["text"] == "+70.00"
    assert cell(shown, "fees", "from sum to sum")["is_hatched"]
    assert "Hedging cost 5.50" in shown["note"]


def test_a_part_that_is_new_is_shown_and_none_at_all_is_said() -> None:
    assert ["luck", "", "+1.00"] in rows(waterfall(state(pnl_quote={"luck": 1.0, "total": 1.0})))
    assert waterfall(state(pnl_quote={}))["rows"] == {}


@pytest.mark.parametrize(
    ("today_quote", "limit_quote", "told"),
    [
        (None, 1_000.0, ("", "")),
        (-900.0, None, ("", "")),
        (700.0, 1_000.0, ("", "")),
        (-400.0, 1_000.0, ("", "")),
        (-600.0, 1_000.0, ("60 % of a day's loss limit", "warn")),
        (-1_200.0, 1_000.0, ("120 % of a day's loss limit", "bad")),
    ],
)
def test_a_losing_day_is_told_once_it_nears_its_limit(
    today_quote: float | None, limit_quote: float | None, told: tuple[str, str]
) -> None:
    assert loss_told(state(pnl_today_quote=today_quote, daily_loss_limit_quote=limit_quote)) == told
