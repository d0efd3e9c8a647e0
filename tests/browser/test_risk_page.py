"""The risk page against the running daemon."""

from __future__ import annotations

from bot.telemetry.dashboard import figures
from tests.browser.reading import by_first, sheets, until, view
from tests.browser.stand import VAULT, Stand


def test_margin_is_what_the_daemon_says(stand: Stand) -> None:
    page = stand.open("/risk", user="bob")
    page.wait_for_selector(".ek-sheet")

    def agrees() -> bool:
        status = view(stand)
        shown = by_first(sheets(page)["Margin accounts"])
        found = {name.removeprefix("▸ "): cells for name, cells in shown.items()}.get(f"{VAULT} / deribit")
        if status is None or found is None:
            return False
        account = status["margin"]["accounts"]["deribit"]
        use = f"{figures.percent(account['utilisation_ratio'])} {account['state']}"
        return found[0].endswith(use) and found[1:4] == [
            figures.money(account[name]) for name in ("equity_quote", "initial_quote", "maintenance_quote")
        ]

    until(page, agrees)
    assert list(sheets(page)) == [
        "Margin accounts", "Breakers", "Counterparties", "Forecasts of vol", "Transfers under way", "Collateral plans",
        "Venues being left", "Lately changed",
    ]  # fmt: skip
