"""A wallet for tests: signs EIP-1559 transactions of an account, for sending over any connection."""

from __future__ import annotations

from dataclasses import dataclass

from eth_account import Account as Signer

from tests.chains.anvil import GWEI, Account


@dataclass(frozen=True)
class Wallet:
    """Signs for an account."""

    account: Account
    chain_id: int = 31337

    def sign(
        self, nonce: int, *, to: str | None = None, data: bytes = b"", value_wei: int = 0, gas: int = 21_000,
        max_fee_wei: int = 20 * GWEI, tip_wei: int = GWEI,
    ) -> str:  # fmt: skip
        """Return the raw transaction; without `to` it goes to the account itself."""
        fields = {
            "type": 2,
            "chainId": self.chain_id,
            "nonce": nonce,
            "to": to or self.account.address,
            "data": data,
            "value": value_wei,
            "gas": gas,
            "maxFeePerGas": max_fee_wei,
            "maxPriorityFeePerGas": tip_wei,
        }
        return "0x" + bytes(Signer.sign_transaction(fields, self.account.key).raw_transaction).hex()
