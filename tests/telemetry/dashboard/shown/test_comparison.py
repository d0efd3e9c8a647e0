"""Replays side by side: a column each, the figures those of the summaries."""

from __future__ import annotations

from bot.telemetry.dashboard.shown.comparison import bars, table
from tests.telemetry.dashboard.replayed import summary as run
from tests.telemetry.dashboard.sheets import cell, rows


def test_every_run_has_its_column() -> None:
    shown = table([run("impulse", 100.0), run("unhedged", -50.0)])
    assert [one["name"] for one in shown["columns"]] == ["", "impulse", "unhedged"]
    assert cell(shown, "P&L", "impulse")["text"] == "+100.00"
    assert cell(shown, "against unhedged", "impulse")["text"] == "+150.00"
    assert cell(shown, "of P&L: gamma", "unhedged")["text"] == "−50.00"
    assert "of P&L: gas" not in [line[0] for line in rows(shown)]
    assert shown["note"].startswith("v, 2023-04-12T00:00 to 2023-04-14T00:00 UTC")


def test_bars_lie_about_a_marked_zero() -> None:
    shown = bars([run("impulse", 100.0), run("unhedged", -50.0)])
    gain, loss = (cell(shown, f"P&L: {name}", "against zero") for name in ("impulse", "unhedged"))
    assert gain["marks"] == loss["marks"] == (0.3333,)
    assert (gain["bar"], gain["tone"]) == ((0.3333, 1.0), "gain")
    assert (loss["bar"], loss["tone"]) == ((0.3333, 0.0), "loss")
    assert cell(shown, "cost: impulse", "against zero")["is_hatched"]


def test_without_runs_there_is_a_word_for_it() -> None:
    assert table(())["rows"] == bars(())["rows"] == {}
    assert table(())["empty"] == "no replay yet"


def test_the_best_of_a_line_is_marked_among_those_it_can_be_said_of() -> None:
    runs = [
        run("unhedged", -50.0, hedges=0, cost_quote=0.0, delta_rms_base=9.0),
        run("impulse", 100.0, cost_quote=6.0, delta_rms_base=0.5),
        run("leland", 100.0, cost_quote=8.0, delta_rms_base=0.4, hedges=20),
    ]
    shown = table(runs)

    def best(first: str) -> list[str]:
        return [one.policy for one in runs if cell(shown, first, one.policy).get("tone") == "best"]

    assert best("P&L") == ["impulse", "leland"]
    assert best("cost") == best("hedges") == ["impulse"]  # who did not hedge saved nothing by it
    assert best("off target, rms") == ["leland"]
    assert best("max drawdown") == []  # all the same
    assert best("decisions") == []  # more is not better
    assert "★ is the best of its line" in shown["note"]


def test_unexplained_is_best_nearest_to_zero() -> None:
    parts = {"total": 1.0, "unexplained": -0.5}
    shown = table([run("a", 1.0, pnl_quote=parts), run("b", 1.0, pnl_quote={**parts, "unexplained": 3.0})])
    assert cell(shown, "of P&L: unexplained", "a")["tone"] == "best"
    assert "tone" not in cell(shown, "of P&L: unexplained", "b")


def test_runs_of_the_same_commands_are_named() -> None:
    runs = [run(name, 1.0, commands_sha256=digest) for name, digest in (("a", "1"), ("b", "2"), ("c", "1"))]
    assert " a and c sent the same commands." in table(runs)["note"]
    assert "same commands" not in table(runs[:2])["note"]


def test_one_run_alone_is_not_the_best() -> None:
    shown = table([run("impulse", 1.0)])
    assert "tone" not in cell(shown, "P&L", "impulse")
    assert "★" not in shown["note"]
