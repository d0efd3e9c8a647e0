"""Snapshots of risk by hand: two accounts whose figures can be worked out on paper, and what they hold."""

from __future__ import annotations

from functools import cache
from math import nan
from typing import Any

import msgspec

from bot.pricing.black76 import greeks
from bot.risk.book import OPTION, PERPETUAL, Position
from bot.runtime.configuration.margin_parameters import carried_sets
from bot.runtime.configuration.risk_checks import find_parameters
from bot.runtime.configuration.risk_sections import AccountRiskSection
from bot.runtime.configuration.vault import Vault
from bot.runtime.risk.accounts import Accounts
from bot.runtime.risk.snapshot import AccountNow, Snapshot, Tradable
from tests.runtime.vault_files import START_NS, vault

SPOT_PX = 2_000.0
MARK_PX = float(greeks([SPOT_PX], [2_100.0], [30.0 / 365.0], [0.6], [True]).value[0])
PERP = Position(
    kind=PERPETUAL,
    underlying="ETH",
    qty_base=-10.0,
    instrument_id="PERP",
    account="hyperliquid",
    money="USDC",
    forward_px=SPOT_PX,
    mark_px=SPOT_PX,
)
CALL = Position(
    kind=OPTION,
    underlying="ETH",
    qty_base=-50.0,
    instrument_id="CALL",
    account="deribit",
    money="ETH",
    forward_px=SPOT_PX,
    mark_px=MARK_PX,
    strike_px=2_100.0,
    tau_years=30.0 / 365.0,
    vol=0.6,
    is_call=True,
)
ROUTES = {
    "day_caps": {"USDC": 50_000.0, "ETH": 20.0},
    "addresses": {"desk": {"address": "0xaa", "network": "ERC20", "tag": "7"}},
    "routes": (
        {
            "asset": "USDC",
            "from_venue": "treasury",
            "to_venue": "deribit",
            "route": "ERC20",
            "address_label": "desk",
            "max_amount": 50_000.0,
            "fee": 8.0,
            "p95_s": 900.0,
        },
        {
            "asset": "ETH",
            "from_venue": "treasury",
            "to_venue": "deribit",
            "route": "ETH",
            "address_label": "desk",
            "max_amount": 20.0,
            "fee": 0.002,
            "p95_s": 900.0,
        },
    ),
}


def risky_vault(**risk: Any) -> Vault:
    """Return a vault with an account at each of two venues."""
    accounts = {
        "deribit": {"model": "house", "collateral": {"USD": 60_000.0}},
        "hyperliquid": {"model": "hyperliquid", "collateral": {"USDC": 5_000.0}},
    }
    return Vault.model_validate({**vault(), "risk": {"accounts": accounts, **risk}})


def account(name: str, model: str, **changes: Any) -> AccountNow:
    """Return an account in good order whose venue tells nothing."""
    usual: dict[str, Any] = {
        "name": name,
        "model": model,
        "parameters": find_parameters(AccountRiskSection(model=model)),
        "equity_quote": 60_000.0,
        "posted": {"USD": 60_000.0},
        "px": {"USD": 1.0},
        "haircuts": {},
        "liquidation_ratio": 1.0,
        "counts_long_options": False,
        "standing_share": nan,
        "told": None,
        "state": "normal",
        "reason": "",
        "may_add": True,
        "banned": "",
        "degraded": (),
        "unknown": "",
    }
    return AccountNow(**{**usual, **changes})


def snapshot(**changes: Any) -> Snapshot:
    """Return a snapshot of a sold call at one account and a sold perpetual at another."""
    usual: dict[str, Any] = {
        "vault": "eth-straddle",
        "now_ns": START_NS,
        "source": "a test",
        "has_section": True,
        "spot_px": {"ETH": SPOT_PX},
        "positions": (CALL, PERP),
        "accounts": (
            account("deribit", "house", equity_quote=56_000.0),
            account("hyperliquid", "hyperliquid", equity_quote=5_000.0, posted={"USDC": 5_000.0}, px={"USDC": 1.0}),
        ),
        "tradables": (tradable(PERP), tradable(CALL)),
    }
    return Snapshot(**{**usual, **changes})


def tradable(position: Position, **changes: Any) -> Tradable:
    """Return an instrument to trade: lots of a tenth, a dollar to cross; only what is linear is a hedge."""
    usual: dict[str, Any] = {
        "position": msgspec.structs.replace(position, qty_base=0.0),
        "lot_base": 0.1,
        "cost_px": 1.0,
        "is_hedge": position.kind != OPTION,
    }
    return Tradable(**{**usual, **changes})


def accounts(vault_: Vault | None = None, **changes: Any) -> Accounts:
    """Return the accounts of a snapshot."""
    return Accounts(vault_ or risky_vault(), snapshot(**changes))


@cache
def values_of(model: str) -> dict[str, Any]:
    """Return the values of the newest set of a model."""
    return max(carried_sets(model), key=lambda one: (one.as_of, one.name)).values
