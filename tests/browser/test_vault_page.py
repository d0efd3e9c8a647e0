"""The vault page against the running daemon: its figures are the daemon's, it goes on, and what is old looks old."""

from __future__ import annotations

from signal import SIGCONT, SIGSTOP
from typing import Any

from bot.telemetry.dashboard import figures
from tests.browser.reading import by_first, points, sheets, until, view
from tests.browser.stand import VAULT, Stand

PATH = f"/vault/{VAULT}"


def differences(status: dict[str, Any], shown: dict[str, list[list[str]]]) -> list[str]:
    """Return what of the page is not what the daemon says."""
    (desk,) = status["desks"]
    decision, greeks = desk["decision"], desk["decision"]["greeks"]
    intent, net = by_first(shown["ETH: intent"]), by_first(shown["ETH: Greeks"])["net, as decided"]
    pnl = by_first(shown["P&L by part"])
    middle = (decision["delta_low_base"] + decision["delta_high_base"]) / 2.0
    band = f"{figures.base(decision['low_base'])} to {figures.base(decision['high_base'], 'ETH')}"
    wanted: list[tuple[str, object, object]] = [
        ("plan", desk["plan"], intent["decision"][0].removeprefix("✕ ")),
        ("band", band, intent["band"][0]),
        ("delta", figures.base(middle), net[4]),
        ("gamma", figures.number(greeks["gamma_base_per_px"], 4, is_signed=True), net[5]),
        ("vega", figures.money(greeks["vega_quote_per_vol"], is_signed=True), net[6]),
        ("value", figures.money(greeks["value_quote"], is_signed=True), net[8]),
        *(
            (part, figures.money(amount, is_signed=True), pnl[figures.words(part)][1])
            for part, amount in status["pnl_quote"].items()
        ),
        ("gates", [gate["name"] for gate in desk["gates"]], [row[0] for row in shown["ETH: gates"]]),
        (
            "open gates",
            [gate["name"] for gate in desk["gates"] if gate["is_open"]],
            [row[0] for row in shown["ETH: gates"] if row[1] == "● open"],
        ),
        ("hedges", f"{status['hedges']:,}", by_first(shown["Daemon"])["hedges"][0]),
    ]
    return [f"{name}: expected {expected}, found {found}" for name, expected, found in wanted if expected != found]


def test_every_figure_is_the_daemons_own(stand: Stand) -> None:
    page = stand.open(PATH)
    page.wait_for_selector(".ek-plot canvas")
    last: list[str] = ["nothing was compared"]

    def agrees() -> bool:
        status = view(stand)
        last[:] = differences(status, sheets(page)) if status is not None and status["desks"][0]["decision"] else last
        return not last

    try:
        until(page, agrees)
    except AssertionError:
        raise AssertionError("\n".join(last)) from None


def test_the_chart_goes_on_and_orders_show_their_lives(stand: Stand) -> None:
    page = stand.open(PATH)
    page.wait_for_selector(".ek-plot canvas")
    before = points(page)[0]
    until(page, lambda: points(page)[0] > before + 1)
    until(page, lambda: points(page)[1] > 0)  # a hedge is drawn
    orders = page.locator(".ek-sheet", has_text="Orders and transactions")
    until(page, lambda: any("filled" in row[2] for row in sheets(page)["Orders and transactions"] if len(row) > 2))
    orders.locator("tr", has_text="filled").first.locator("button.ek-unfold").click()
    life = until(page, lambda: orders.locator(".ek-more li").all_inner_texts())
    assert "decision: " in life[0]
    assert "fill: " in life[-1]


def test_tables_are_sorted_by_keyboard(stand: Stand) -> None:
    page = stand.open(PATH)
    sheet = page.locator(".ek-sheet", has_text="ETH: Greeks")
    heading = sheet.get_by_role("button", name="delta")
    heading.focus()
    page.keyboard.press("Enter")
    assert sheet.locator("th[aria-sort]").get_attribute("aria-sort") == "ascending"
    first = sheet.locator("tbody th").first.inner_text()
    page.keyboard.press("Enter")
    assert sheet.locator("th[aria-sort]").get_attribute("aria-sort") == "descending"
    assert sheet.locator("tbody th").first.inner_text() != first
    assert sheet.locator("tbody th").last.inner_text() == "target"  # totals stay below


def test_a_frozen_daemon_leaves_a_page_that_looks_stale(stand: Stand) -> None:
    page = stand.open(PATH)
    page.wait_for_selector(".ek-grid:not(.ek-stale) .ek-plot")
    assert stand.daemon is not None
    stand.daemon.send(SIGSTOP)
    try:
        page.wait_for_selector(".ek-grid.ek-stale")
        assert "how it was, not how it is" in page.locator(".ek-banner").inner_text()
        assert "⚠" in page.locator("[data-k=age]").inner_text()
    finally:
        stand.daemon.send(SIGCONT)
    page.wait_for_selector(".ek-grid:not(.ek-stale)")


def test_it_is_readable_on_a_phone_and_dark(stand: Stand) -> None:
    page = stand.open(PATH, viewport={"width": 390, "height": 844}, color_scheme="dark")
    page.wait_for_selector(".ek-plot canvas")
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    paper, ink = page.evaluate(
        "[...['backgroundColor', 'color']].map((name) => getComputedStyle(document.querySelector('.ek-sheet'))[name])"
    )
    assert _lightness(paper) < 60
    assert _lightness(ink) > 180


def test_a_vault_nobody_knows_is_said_to_be_unknown(stand: Stand) -> None:
    page = stand.open("/vault/nobody%3Cb%3E")
    assert page.locator("h1").inner_text() == "nobody<b>"
    assert "No such vault" in page.inner_text("main")


def _lightness(colour: str) -> float:
    parts = colour[colour.index("(") + 1 : -1].split(",")
    return sum(float(part) for part in parts[:3]) / 3.0
