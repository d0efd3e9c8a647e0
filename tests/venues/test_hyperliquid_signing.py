"""Who signed is found out from the bytes: the hash is the venue's, and the slightest change is somebody else's."""

from __future__ import annotations

from typing import Any

import ccxt
import pytest

from tests.venues import hyperliquid_signing
from tests.venues.hyperliquid_signing import address_of, signer_of

KEY = "0x" + "11" * 32
VAULT = "0x" + "22" * 20
ORDER = {"a": 4, "b": True, "p": "1670.1", "s": "0.0147", "r": False, "t": {"limit": {"tif": "Ioc"}}}
ACTION = {"type": "order", "orders": [ORDER], "grouping": "na"}
NONCE_MS = 1_677_777_606_040


def signed(vault: str | None = None) -> dict[str, Any]:
    exchange = ccxt.hyperliquid({"privateKey": KEY, "walletAddress": address_of(KEY)})
    signature = exchange.sign_l1_action(ACTION, NONCE_MS, vault and vault.removeprefix("0x"))
    return {"action": ACTION, "nonce": NONCE_MS, "signature": signature, "vaultAddress": vault}


def test_the_hash_is_the_one_that_the_venues_own_client_makes() -> None:
    """The hash of this very action is published with the venue's reference client."""
    expected = "0fcbeda5ae3c4950a548021552a4fea2226858c4453571bf3f24ba017eac2908"
    assert hyperliquid_signing.action_hash(ACTION, NONCE_MS, None).hex() == expected


@pytest.mark.parametrize("vault", [None, VAULT])
def test_what_ccxt_signed_is_recognized(vault: str | None) -> None:
    assert signer_of(signed(vault)) == address_of(KEY)


@pytest.mark.parametrize(
    "change", [{"nonce": NONCE_MS + 1}, {"vaultAddress": VAULT}, {"action": {**ACTION, "grouping": "normalTpsl"}}]
)
def test_whatever_is_changed_afterwards_was_signed_by_somebody_else(change: dict[str, Any]) -> None:
    assert signer_of({**signed(), **change}) != address_of(KEY)
