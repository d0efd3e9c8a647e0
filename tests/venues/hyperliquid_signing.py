"""Who signed a Hyperliquid action: the address is recovered from the EIP-712 hash, as the venue does it.

Actions of trading are signed as an "L1 action": a phantom agent carries the hash of the action's msgpack bytes, nonce
and vault. Actions about the account itself are signed field by field. The hashing and ABI code is ccxt's own, which has
it for signing; what is checked here is that the action received, byte for byte, is the one that was signed.
"""

from __future__ import annotations

from typing import Any

import ccxt
import coincurve

NO_ADDRESS = "0x" + "0" * 40
APPROVE_BUILDER_FEE = {
    "HyperliquidTransaction:ApproveBuilderFee": [
        {"name": "hyperliquidChain", "type": "string"},
        {"name": "maxFeeRate", "type": "string"},
        {"name": "builder", "type": "address"},
        {"name": "nonce", "type": "uint64"},
    ]
}
AGENT = {"Agent": [{"name": "source", "type": "string"}, {"name": "connectionId", "type": "bytes32"}]}


def signer_of(body: dict[str, Any]) -> str:
    """Return the lower-case address that signed a request to /exchange. Raises ValueError for a malformed signature."""
    action = body["action"]
    if action["type"] == "approveBuilderFee":
        fields = {field["name"]: action[field["name"]] for field in next(iter(APPROVE_BUILDER_FEE.values()))}
        digest = _typed_hash("HyperliquidSignTransaction", 421614, APPROVE_BUILDER_FEE, fields)
    else:
        agent = {"source": "a", "connectionId": action_hash(action, body["nonce"], body.get("vaultAddress"))}
        digest = _typed_hash("Exchange", 1337, AGENT, agent)
    return _recovered(digest, body["signature"])


def address_of(private_key: str) -> str:
    """Return the lower-case address that belongs to a private key of 32 bytes in hex."""
    return _address(coincurve.PrivateKey(bytes.fromhex(private_key.removeprefix("0x"))).public_key)


def action_hash(action: dict[str, Any], nonce_ms: int, vault: str | None) -> bytes:
    """Return the keccak hash of an L1 action: its msgpack bytes, the nonce in 8 bytes, the vault if there is one."""
    packed: bytes = ccxt.Exchange.packb(action) + nonce_ms.to_bytes(8, "big")
    packed += b"\x00" if vault is None else b"\x01" + bytes.fromhex(vault.removeprefix("0x"))
    return _keccak(packed)


def _typed_hash(name: str, chain_id: int, types: dict[str, Any], message: dict[str, Any]) -> bytes:
    domain = {"chainId": chain_id, "name": name, "verifyingContract": NO_ADDRESS, "version": "1"}
    return _keccak(ccxt.Exchange.eth_encode_structured_data(domain, types, message))


def _recovered(digest: bytes, signature: dict[str, Any]) -> str:
    r, s = (int(signature[name], 16).to_bytes(32, "big") for name in ("r", "s"))
    recoverable = r + s + bytes([int(signature["v"]) - 27])
    return _address(coincurve.PublicKey.from_signature_and_message(recoverable, digest, hasher=None))


def _address(public_key: coincurve.PublicKey) -> str:
    return "0x" + _keccak(public_key.format(compressed=False)[1:])[-20:].hex()


def _keccak(data: bytes) -> bytes:
    digest: bytes = ccxt.Exchange.hash(data, "keccak", "binary")
    return digest
