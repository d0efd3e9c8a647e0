"""The risk page against the running daemon."""

from __future__ import annotations

from typing import Any

from bot.telemetry.dashboard import figures
from tests.browser.reading import sheets, until_shown
from tests.browser.stand import VAULT, Stand


def differences(status: dict[str, Any], shown: dict[str, list[list[str]]]) -> list[str]:
    """Return what of the account is not what the daemon says."""
    rows = {row[0].removeprefix("▸ "): row[1:] for row in shown.get("Margin accounts", [])}
    found = rows.get(f"{VAULT} / deribit")
    if found is None:
        return [f"expected the account, found {list(rows)}"]
    account = status["margin"]["accounts"]["deribit"]
    use = f"{figures.percent(account['utilisation_ratio'])} {account['state']}"
    wanted = [figures.money(account[name]) for name in ("equity_quote", "initial_quote", "maintenance_quote")]
    return [] if found[0].endswith(use) and found[1:4] == wanted else [f"expected {use} {wanted}, found {found}"]


def test_margin_is_what_the_daemon_says(stand: Stand) -> None:
    page = stand.open("/risk", user="bob")
    page.wait_for_selector(".ek-sheet")
    until_shown(page, stand, differences)
    assert list(sheets(page)) == [
        "Margin accounts", "Breakers", "Counterparties", "Forecasts of vol", "Transfers under way", "Collateral plans",
        "Venues being left", "Lately changed",
    ]  # fmt: skip
