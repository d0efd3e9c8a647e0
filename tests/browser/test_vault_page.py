"""The vault page against the running daemon: its figures are the daemon's, it goes on, tables can be sorted."""

from __future__ import annotations

from typing import Any

from playwright.sync_api import expect

from bot.telemetry.dashboard import figures
from tests.browser.reading import by_first, points, sheets, until, until_shown
from tests.browser.stand import VAULT, Stand

PATH = f"/vault/{VAULT}"


def differences(status: dict[str, Any], shown: dict[str, list[list[str]]]) -> list[str]:
    """Return what of the page is not what the daemon says."""
    (desk,) = status["desks"]
    if not desk["decision"]:
        return ["the daemon has not decided yet"]
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
    until_shown(page, stand, differences)


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
    expect(sheet.locator("th[aria-sort]")).to_have_attribute("aria-sort", "ascending")
    first = sheet.locator("tbody th").first.inner_text()
    page.keyboard.press("Enter")
    expect(sheet.locator("th[aria-sort]")).to_have_attribute("aria-sort", "descending")
    expect(sheet.locator("tbody th").first).not_to_have_text(first)
    expect(sheet.locator("tbody th").last).to_have_text("target")  # totals stay below


def test_it_is_readable_on_a_phone_and_dark(stand: Stand) -> None:
    page = stand.open(PATH, size=(390, 844), is_dark=True)
    page.wait_for_selector(".ek-plot canvas")
    page.wait_for_selector(".ek-sheet tbody td")
    page.wait_for_function("document.documentElement.scrollWidth === 390")
    page.wait_for_selector(".ek-sheet td > .ek-bar.with-text")
    page.wait_for_function(
        "[...document.querySelectorAll('.ek-sheet td')].every((c) => c.scrollWidth <= c.clientWidth + 1)"
    )
    paper, ink = page.evaluate(
        "[...['backgroundColor', 'color']].map((name) => getComputedStyle(document.querySelector('.ek-sheet'))[name])"
    )
    assert _lightness(paper) < 60
    assert _lightness(ink) > 180


def test_a_vault_nobody_knows_is_said_to_be_unknown(stand: Stand) -> None:
    page = stand.open("/vault/nobody%3Cb%3E")
    expect(page.locator("h1")).to_have_text("nobody<b>")
    expect(page.get_by_role("main")).to_contain_text("No such vault")


def _lightness(colour: str) -> float:
    parts = colour[colour.index("(") + 1 : -1].split(",")
    return sum(float(part) for part in parts[:3]) / 3.0
