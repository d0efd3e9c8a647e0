"""The report: files that are what they say, a page that stands alone, and figures equal to the summaries'."""

from __future__ import annotations

import math
import re
import struct
from html.parser import HTMLParser
from pathlib import Path

import msgspec
import numpy as np
import pytest

from bot.domain.portfolio import PnlBreakdown
from bot.domain.results import DeltaEvidence, HedgeMark, LatencySummary, MarginRecord, RunSeries, RunSummary, pnl_parts
from bot.domain.units import NS_PER_MIN, NS_PER_S
from bot.telemetry.pictures import NARROW, WIDE, Shape, Units, draw_pictures, render_png, render_svg
from bot.telemetry.report import MAX_HEDGES_LISTED, _labels, _page, render_page, write_report

NAN, INF = math.nan, math.inf
START_NS = 1_681_171_200 * NS_PER_S
NAMES = ["report.html", "net_delta.png", "pnl_by_part.png", "cumulative_cost.png", "pnl_over_time.png"]
VOID = {"meta", "wbr"}


class Page(HTMLParser):
    """What a test wants of a page: every attribute, every table by caption, the text, and balanced tags."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.attributes: list[tuple[str, str, str]] = []
        self.tables: dict[str, dict[str, list[str]]] = {}
        self.text = ""
        self.open: list[str] = []
        self.caption = ""
        self.row: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)
        if tag == "table":
            self.caption = ""
        if tag == "tr":
            self.row = []
        if tag in {"td", "th"}:
            self.row.append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag
        if tag == "caption":
            self.tables[self.caption] = {}
        if tag == "tr":
            self.tables[self.caption][self.row[0]] = self.row[1:]

    def handle_data(self, data: str) -> None:
        self.text += data
        if "caption" in self.open:
            self.caption += data
        if self.open and self.open[-1] in {"td", "th"}:
            self.row[-1] += data

    def table(self, start: str) -> dict[str, list[str]]:
        (rows,) = (rows for caption, rows in self.tables.items() if caption.startswith(start))
        return rows


def a_series(n: int = 500, hedges: int = 12, *, band_base: float = 5.0, seed: int = 7) -> RunSeries:
    """Return a seeded random walk with a gap, a stretch without decisions, and hedges evenly spread."""
    rng = np.random.default_rng(seed)
    ts_ns = START_NS + np.arange(n) * NS_PER_MIN
    if n > 100:
        ts_ns[n // 2 :] += 90 * NS_PER_MIN
    low, high = np.full(n, -band_base), np.full(n, band_base)
    low[n // 5 : n // 4] = high[n // 5 : n // 4] = NAN
    pnl = rng.normal(0, 30, n).cumsum()
    at = np.linspace(0, n - 1, hedges).astype(int)
    return RunSeries(
        ts_ns=ts_ns.tolist(),
        spot_px=(1900 + rng.normal(0, 2, n).cumsum()).tolist(),
        net_delta_base=rng.normal(0, 1, n).cumsum().tolist(),
        low_base=low.tolist(),
        high_base=high.tolist(),
        pnl_quote=pnl.tolist(),
        unhedged_pnl_quote=(3 * pnl).tolist(),
        hedges=[
            HedgeMark(int(ts_ns[i]), f"run-{k}", "ETH-PERPETUAL", (-1.0) ** k * 2.5, 1901.25, 2.38, "outside the band")
            for k, i in enumerate(at)
        ],
        gaps_ns=[(int(ts_ns[n // 2 - 1]), int(ts_ns[n // 2]))] if n > 100 else [],
    )


def a_summary(policy: str = "whalley_wilmott", hedges: int = 12, cost_quote: float = 61.874) -> RunSummary:
    parts = PnlBreakdown(
        delta=-1200.25, gamma=-31877.4, theta=29010.9, vega=1101.5, vanna_volga=-11.2, fees=-cost_quote, slippage=-12.4
    )
    return RunSummary(
        vault="eth-straddle",
        policy=policy,
        seed=7,
        start="2023-04-11T00:00:00Z",
        end="2023-04-13T04:48:00Z",
        events=18_000,
        decisions=6_000,
        hedges=hedges,
        refusals={"stale_forward": 12, "no_vol": 1_201},
        quotes_refused={"crossed": 2},
        pnl_quote=pnl_parts(parts),
        gap_pnl_quote=pnl_parts(PnlBreakdown(gamma=-17.25)),
        unexplained_share_of_abs_parts=0.00412,
        unexplained_share_of_part_totals=0.0317,
        not_deciding_s=0.0,
        delta_rms_by_underlying_base={"ETH": 4.6},
        numeraire="USD",
        pnl_total_numeraire=0.0,
        unhedged_total_quote=-8700.5,
        cost_quote=cost_quote,
        turnover_quote=123_456.7,
        delta_rms_base=4.6234,
        delta_max_base=14.031,
        max_drawdown_quote=245.17,
        commands_sha256="9f86d081884c7d659a2feaa0c55ad015" * 2,
        events_per_second=123_456.0,
        decision_us=LatencySummary(57.0, 180.0),
        state="running",
    )


def a_page(*runs: tuple[RunSummary, RunSeries]) -> Page:
    """Return the page without its pictures, which take two seconds to draw."""
    return Page(_page(_labels([summary.policy for summary, _ in runs]), runs, (), Units("ETH", "USD")))


def a_drawn_page(*runs: tuple[RunSummary, RunSeries]) -> Page:
    """Return the page with its pictures, for runs that are not like others to draw."""
    return Page(render_page(runs, base="ETH"))


def the_first_picture(series: RunSeries) -> str:
    """Return the one picture with a band in it, as the page has it."""
    return render_svg(draw_pictures(["one"], [(a_summary(), series)], Units())[0], WIDE)


@pytest.fixture(scope="module")
def four_runs() -> list[tuple[RunSummary, RunSeries]]:
    return [
        (a_summary(), a_series()),
        (a_summary("fixed_interval", 46, 132.6), a_series(hedges=46, band_base=INF)),
        (a_summary("delta_band", 32, 65.25), a_series(hedges=32)),
        (a_summary("unhedged", 0, 0.0), a_series(hedges=0, band_base=INF)),
    ]


@pytest.fixture(scope="module")
def report(four_runs: list[tuple[RunSummary, RunSeries]], tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return write_report(four_runs, tmp_path_factory.mktemp("report") / "made" / "here", base="ETH")


@pytest.fixture(scope="module")
def page(report: list[Path]) -> Page:
    return Page(report[0].read_text(encoding="utf-8"))


def test_the_page_and_every_picture_are_written(report: list[Path]) -> None:
    assert [path.name for path in report] == NAMES
    for path in report[1:]:
        image = path.read_bytes()
        assert image[:8] == b"\x89PNG\r\n\x1a\n"
        width_px, height_px = struct.unpack(">II", image[16:24])
        assert 1500 <= width_px <= 1700
        assert 500 <= height_px <= 1000


def test_the_page_loads_nothing_and_runs_nothing(report: list[Path], page: Page) -> None:
    text = report[0].read_text(encoding="utf-8")
    assert "://" not in text
    assert "@import" not in text
    assert "<script" not in text
    assert not [value for _, name, value in page.attributes if name in {"src", "srcset", "data"}]
    references = [value for _, name, value in page.attributes if name in {"href", "xlink:href"}]
    references += re.findall(r"url\(([^)]*)\)", text)
    assert references
    assert {reference[0] for reference in references} == {"#"}
    ids = [value for _, name, value in page.attributes if name == "id"]
    assert len(ids) == len(set(ids))
    assert {reference[1:] for reference in references} <= set(ids)


def test_pictures_and_tables_are_described_in_words(page: Page) -> None:
    described = {value for _, name, value in page.attributes if name == "aria-label"}
    assert any(label.startswith("Net delta of whalley_wilmott over time") for label in described)
    assert any("fixed_interval $133 for 46 hedges" in label for label in described)
    assert sum((tag, name, value) == ("div", "role", "img") for tag, name, value in page.attributes) == 8
    assert all(page.tables)
    assert ("html", "lang", "en") in page.attributes


def test_colours_follow_the_readers_light_or_dark(report: list[Path]) -> None:
    text = report[0].read_text(encoding="utf-8")
    assert "prefers-color-scheme: dark" in text
    drawings = "".join(re.findall(r"<svg.*?</svg>", text, re.DOTALL))
    assert set(re.findall(r"var\(--(\w+)\)", drawings)) >= {"ink", "muted", "grid", "blue", "vermillion"}
    assert not re.findall(r"(?:fill|stroke): #", drawings)


def test_the_runs_side_by_side_are_the_summaries(page: Page, four_runs: list[tuple[RunSummary, RunSeries]]) -> None:
    rows = page.table("Each run over the same market")
    assert rows[""] == [summary.policy for summary, _ in four_runs]
    assert rows["hedges"] == ["12", "46", "32", "0"]
    assert rows["hedging cost"] == ["$61.87", "$132.60", "$65.25", "$0.00"]
    assert rows["turnover"][0] == "$123,457"
    assert rows["delta rms (ETH)"][0] == "4.623"
    assert rows["delta at most (ETH)"][0] == "14.03"
    assert rows["unhedged P&L"][0] == "−$8,700.50"
    assert rows["largest drawdown"][0] == "$245.17"
    for written, (summary, _) in zip(rows["P&L"], four_runs, strict=True):
        assert as_number(written) == pytest.approx(summary.pnl_quote["total"], abs=0.005)


def test_the_parts_are_the_summaries_and_gaps_stand_apart(
    page: Page, four_runs: list[tuple[RunSummary, RunSeries]]
) -> None:
    rows = page.table("Profit and loss by cause")
    for place, (summary, _) in enumerate(four_runs):
        for part, amount in summary.pnl_quote.items():
            assert as_number(rows[part.replace("_", " ")][place]) == pytest.approx(amount, abs=0.005)
    assert rows["unexplained, share of absolute parts / of part totals"] == ["0.41% / 3.17%"] * 4
    assert page.table("The steps across gaps")["gamma"] == ["−$17.25"] * 4


def test_refusals_hedges_and_provenance_are_told(page: Page) -> None:
    assert page.table("Decisions refused")["no vol"] == ["1,201"] * 4
    assert page.table("Quotes refused")["crossed"] == ["2"] * 4
    hedges = page.table("Every fill")
    assert len(hedges) == 12 + 1
    assert hedges["2023-04-11 00:00:00"] == [
        "buy", "2.5", "1,901.25", "$2.38", "ETH-PERPETUAL", "run-0", "outside the band",
    ]  # fmt: skip
    provenance = page.table("The same vault")["whalley_wilmott"]
    assert provenance[:3] == ["2023-04-11T00:00:00Z", "2023-04-13T04:48:00Z", "7"]
    assert provenance[-1] == "9f86d081884c7d659a2feaa0c55ad015" * 2
    assert page.table("Gaps in the recording") == {
        "from (UTC)": ["to (UTC)", "length"],
        "2023-04-11 04:09:00": ["2023-04-11 05:40:00", "1 h 31 min"],
    }


def test_the_headline_says_what_was_found(page: Page) -> None:
    text = " ".join(page.text.split())
    assert "Over 9 h 49 min, whalley_wilmott made 12 hedges at a cost of $62." in text
    assert "against −$8,700 unhedged: hedging saved $5,6" in text
    assert "fixed_interval paid $133 for 46 hedges and a delta of 4.6 ETH rms." in text
    assert "12 hedges, cost $62, delta rms 4.6 ETH" in text
    assert "unhedged paid" not in text


def test_the_same_runs_give_the_same_files(report: list[Path], four_runs: list[tuple[RunSummary, RunSeries]]) -> None:
    assert render_page(four_runs, base="ETH") == report[0].read_text(encoding="utf-8")
    pictures = draw_pictures([summary.policy for summary, _ in four_runs], four_runs, Units("ETH", "USD"))
    assert [render_png(picture) for picture in pictures] == [path.read_bytes() for path in report[1:]]


def test_text_from_outside_is_escaped() -> None:
    nasty = "<script>alert('x')</script>&\"$a$"
    series = a_series(hedges=1)
    series.hedges = [msgspec.structs.replace(series.hedges[0], reason=nasty, instrument_id="<b>")]
    summary = msgspec.structs.replace(
        a_summary(nasty), vault=nasty, refusals={nasty: 3}, quotes_refused={"<i>": 1}, state="<halted>", start="<u>"
    )
    text = render_page([(summary, series)], base="<base>", quote="<quote>")
    for raw in ("<script", "<b>", "<i>", "<u>", "<halted>", "<base>", "<quote>"):
        assert raw not in text
    page = Page(text)
    assert page.table("Every fill")["2023-04-11 00:00:00"][-3:] == ["<b>", "run-0", nasty]
    assert page.table("Decisions refused")[nasty] == ["3"]


def test_a_single_run_without_hedges_or_refusals() -> None:
    summary = msgspec.structs.replace(a_summary("unhedged", 0, 0.0), refusals={}, quotes_refused={}, gap_pnl_quote={})
    page = a_drawn_page((summary, a_series(hedges=0, band_base=INF)))
    assert "There were none." in page.text
    assert "No decision was refused." in page.text
    assert "No quote was refused." in page.text
    assert "no hedges, cost $0" in page.text
    assert not [caption for caption in page.tables if caption.startswith("The steps across gaps")]


def test_margin_of_every_account_is_told_where_it_was_reckoned() -> None:
    record = MarginRecord(
        "house", 50_000.0, 20_000.0, None, 0.32, 0.61, "watch", {"normal": 7_200.0, "watch": 1_800.0}, 4, 9, ("<old>",)
    )
    summary = msgspec.structs.replace(a_summary(), margin={"<okx>": record}, transfers=2, late_transfers=1)
    page = a_page((summary, a_series()))
    (cells,) = (row for name, row in page.table("Margin by account").items() if name == "<okx>")
    assert cells == ["house", "50,000", "20,000", "unknown", "unknown", "61.0%", "normal 2.0 h, watch 0.5 h", "4"]
    assert "<okx>: <old>" in page.text
    assert "2 transfers of collateral, 1 late." in page.text
    assert not [caption for caption in a_page((a_summary(), a_series())).tables if caption.startswith("Margin")]


def test_only_the_first_hedges_are_listed_and_that_is_said() -> None:
    page = a_page((a_summary(hedges=400), a_series(hedges=400)))
    hedges = page.table(f"The first {MAX_HEDGES_LISTED} of 400 fills")
    assert len(hedges) == MAX_HEDGES_LISTED + 1


@pytest.mark.parametrize("edge", [INF, NAN])
def test_no_band_is_drawn_while_holding_or_refusing(edge: float) -> None:
    series = a_series(hedges=0)
    series.low_base, series.high_base = [-edge] * len(series.ts_ns), [edge] * len(series.ts_ns)
    series.net_delta_base[3] = NAN
    text = the_first_picture(series)
    assert "no-trade band" not in text
    assert ("not deciding" in text) is math.isnan(edge)


def test_a_band_open_on_one_side_is_drawn() -> None:
    series = a_series()
    series.low_base = [-INF] * len(series.ts_ns)
    text = the_first_picture(series)
    assert "no-trade band" in text


@pytest.mark.parametrize("n", [0, 1, 2])
def test_a_run_of_hardly_any_decisions_still_reports(n: int, tmp_path: Path) -> None:
    paths = write_report([(a_summary(hedges=0), a_series(n, hedges=0))], tmp_path)
    assert [path.name for path in paths] == NAMES


@pytest.mark.parametrize("shape", [WIDE, NARROW], ids=["wide", "narrow"])
@pytest.mark.parametrize("minutes", [3, 20, 119, 179, 239, 290, 1_500, 2_900, 8_640, 60_000, 1_000_000])
def test_times_of_any_run_have_ticks(minutes: int, shape: Shape) -> None:
    series = a_series(3, hedges=1)
    series.ts_ns = [START_NS, START_NS + NS_PER_MIN, START_NS + minutes * NS_PER_MIN]
    svg = render_svg(draw_pictures(["one"], [(a_summary(), series)], Units())[3], shape)
    assert 2 <= svg.count("xtick_") <= 9


def test_hedges_are_marked_though_delta_was_never_known() -> None:
    series = a_series()
    series.net_delta_base = [NAN] * len(series.ts_ns)
    assert "Every fill" in a_drawn_page((a_summary(), series)).text


def test_runs_of_one_policy_are_told_apart() -> None:
    runs = [(a_summary(policy), a_series(hedges=3)) for policy in ("fixed_interval", "unhedged", "fixed_interval")]
    rows = a_page(*runs).table("Each run over the same market")
    assert rows[""] == ["fixed_interval", "unhedged", "fixed_interval (2)"]


def test_figures_that_are_not_numbers_are_said_to_be_missing() -> None:
    summary = msgspec.structs.replace(a_summary(), delta_rms_base=NAN, unhedged_total_quote=NAN, state="halted")
    page = a_drawn_page((summary, a_series()))
    assert page.table("Each run over the same market")["delta rms (ETH)"] == ["n/a"]
    assert "The run ended halted." in page.text
    assert page.text.count("n/a") >= 3
    assert not re.search(r"\bnan\b", page.text)


def test_nothing_is_written_from_nothing_or_from_torn_columns(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="expected at least one run"):
        write_report([], tmp_path / "out")
    torn = a_series()
    torn.spot_px.pop()
    with pytest.raises(ValueError, match="expected 500 values in spot_px, one per ts_ns, found 499"):
        write_report([(a_summary(), torn)], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def as_number(written: str) -> float:
    return float(written.replace("−", "-").replace("$", "").replace(",", ""))


EVIDENCE = DeltaEvidence(
    model="minimum_variance",
    used="black",
    why="not surely better than Black: 1.4 standard errors",
    moments=568,
    stickiness_ratio=3.19,
    stickiness_error_ratio=1.436,
    coefficients_ratio=(-0.015, -0.084, 0.206),
    gain_share={"black": 0.0, "sticky_delta": -0.112, "skew_stickiness": 0.0, "minimum_variance": 0.031},
    t_ratio={"black": 0.0, "sticky_delta": -2.1, "skew_stickiness": 0.0, "minimum_variance": 1.4},
)


def test_the_delta_in_use_and_its_evidence_are_shown() -> None:
    why = {"ETH 2023-05-26": "2 strikes are too few: linear"}
    page = a_page((msgspec.structs.replace(a_summary(), deltas={"ETH": EVIDENCE}, surface_fallbacks=why), a_series()))
    assert "ETH was hedged by the black delta at the end instead of minimum variance: not surely better" in page.text
    assert "skew-stickiness ratio 3.19, standard error 1.44" in page.text
    saved = page.table("Variance each delta would have saved")
    assert saved["sticky delta"] == ["-11.2%", "-2.1"]
    assert saved["minimum variance"] == ["+3.1%", "+1.4"]
    assert page.table("Expiries whose surface")["ETH 2023-05-26"] == ["2 strikes are too few: linear"]


def test_where_nobody_asked_for_a_delta_nothing_is_said_of_it() -> None:
    assert "Deltas and surface" not in a_page((a_summary(), a_series())).text
