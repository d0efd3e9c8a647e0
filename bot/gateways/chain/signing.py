"""The key that signs: from an encrypted keystore file, or held by a signer outside that is asked.

A key, its password and what holds them must never be written, logged, shown or pickled, in an error least of all. What
an outside signer returns is never used unless it is, field by field, what was asked for.
"""

from __future__ import annotations

import asyncio
import ipaddress
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Final, NoReturn, Protocol, Self
from urllib.parse import urlsplit

import aiohttp
import msgspec
from eth_account import Account
from eth_account.signers.local import LocalAccount
from eth_account.typed_transactions.typed_transaction import TypedTransaction
from eth_utils.address import is_checksum_address
from eth_utils.crypto import keccak
from hexbytes import HexBytes

from bot.domain.errors import Retryable, VenueFatal
from bot.domain.units import NS_PER_S
from bot.gateways.chain.settings import ChainSettings
from bot.storage.private_files import read_private

_MAX_FILE_BYTES: Final = 64 * 1024
_MAX_ANSWER_BYTES: Final = 1024 * 1024
_EIP_1559: Final = 2


class Unsigned(msgspec.Struct, frozen=True, gc=False):
    """All that a transaction's signature covers (EIP-1559, without an access list)."""

    chain_id: int
    nonce: int
    to: str
    value_wei: int
    data: bytes
    gas_limit: int
    max_fee_wei: int
    tip_wei: int


class Signed(msgspec.Struct, frozen=True, gc=False):
    """A signed transaction: the bytes a node takes, and the hash it will be known by."""

    raw: bytes
    tx_hash: str


class Signer(Protocol):
    """Signs for one address."""

    @property
    def address(self) -> str:
        """The address it signs for, checksummed."""

    async def sign(self, unsigned: Unsigned) -> Signed:
        """Return the transaction signed. Raises Retryable if it could not be, VenueFatal if a person has to act."""


class KeystoreSigner:
    """Signs with a key of ours, decrypted once from a V3 keystore file."""

    def __init__(self, account: LocalAccount) -> None:
        self._account = account

    @classmethod
    async def open(cls, path: Path, password: str, address: str) -> KeystoreSigner:
        """Return the signer of a keystore file of mode 0600, whose key must be that of `address`.

        Takes seconds, by the file's own design, in a thread. Raises VenueFatal.
        """
        keystore = _read_private(path, "a keystore file")
        account = await asyncio.to_thread(_decrypt, keystore, password, path)
        _check_address(account.address, address, f"the keystore {path}")
        return cls(account)

    @property
    def address(self) -> str:
        """The address it signs for, checksummed."""
        return str(self._account.address)

    async def sign(self, unsigned: Unsigned) -> Signed:
        """Return the transaction signed."""
        fields: dict[str, Any] = {
            "type": _EIP_1559,
            "chainId": unsigned.chain_id,
            "nonce": unsigned.nonce,
            "to": unsigned.to,
            "value": unsigned.value_wei,
            "data": unsigned.data,
            "gas": unsigned.gas_limit,
            "maxFeePerGas": unsigned.max_fee_wei,
            "maxPriorityFeePerGas": unsigned.tip_wei,
        }
        signed = self._account.sign_transaction(fields)
        return Signed(bytes(signed.raw_transaction), f"0x{bytes(signed.hash).hex()}")

    def __repr__(self) -> str:
        return f"KeystoreSigner({self.address})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a signer is never pickled: it holds a key")


class ExternalSigner:
    """Asks a signer that holds the key (Clef, web3signer) by `eth_signTransaction`; `async with` it."""

    def __init__(self, url: str, address: str, timeout_s: float) -> None:
        _check_url(url)
        _check_address(address, address, "the wallet's address")
        self._url = url
        self._address = address
        self._timeout = aiohttp.ClientTimeout(total=timeout_s)
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(timeout=self._timeout, trust_env=False)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()

    @property
    def address(self) -> str:
        """The address it signs for, checksummed."""
        return self._address

    async def sign(self, unsigned: Unsigned) -> Signed:
        """Return the transaction signed, after comparing it with what was asked.

        Raises Retryable if there is no signature, VenueFatal if what came back is another transaction.
        """
        wanted = {
            "from": self._address,
            "to": unsigned.to,
            "gas": hex(unsigned.gas_limit),
            "maxFeePerGas": hex(unsigned.max_fee_wei),
            "maxPriorityFeePerGas": hex(unsigned.tip_wei),
            "value": hex(unsigned.value_wei),
            "nonce": hex(unsigned.nonce),
            "data": f"0x{unsigned.data.hex()}",
            "chainId": hex(unsigned.chain_id),
        }
        answer = await self._ask({"jsonrpc": "2.0", "id": 1, "method": "eth_signTransaction", "params": [wanted]})
        result = answer.get("result")
        text = result.get("raw") if isinstance(result, dict) else result  # Clef tells the fields too, web3signer not
        if not isinstance(text, str):
            raise Retryable(f"not signed: the signer says {str(answer.get('error', 'nothing'))[:200]}")
        try:
            raw = bytes.fromhex(text.removeprefix("0x"))
        except ValueError:
            raise Retryable("not signed: the signer's answer is no hexadecimal text") from None
        check_signed(raw, unsigned, self._address)
        return Signed(raw, f"0x{keccak(raw).hex()}")

    async def _ask(self, question: dict[str, object]) -> dict[str, Any]:
        if self._session is None:
            raise Retryable("not signed: the signer is not connected")
        try:
            async with self._session.post(self._url, json=question, allow_redirects=False) as response:
                body = b""
                async for chunk in response.content.iter_any():
                    body += chunk
                    if len(body) > _MAX_ANSWER_BYTES:
                        raise Retryable("not signed: the signer's answer does not end")
                answer = json.loads(body)
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            raise Retryable(f"not signed: no answer from the signer, {type(error).__name__}") from None
        if not isinstance(answer, dict):
            raise Retryable("not signed: the signer's answer is no JSON object")
        return answer

    def __repr__(self) -> str:
        return f"ExternalSigner({self._address})"  # an address may carry a token


@asynccontextmanager
async def open_signer(settings: ChainSettings, environ: Mapping[str, str]) -> AsyncIterator[Signer]:
    """Lend the signer of a chain's wallet for the length of a `with` block.

    Raises VenueFatal if there is no wallet, or the key is not that of its address.
    """
    wallet = settings.wallet
    if wallet is None or not (wallet.keystore or wallet.signer_url):
        raise VenueFatal(f"{settings.venue}: expected a wallet with a keystore or a signer, found none")
    if wallet.signer_url:
        async with ExternalSigner(wallet.signer_url, wallet.address, settings.timeout_ns / NS_PER_S) as signer:
            yield signer
    else:
        password = load_password(settings.venue, environ)
        yield await KeystoreSigner.open(Path(wallet.keystore), password, wallet.address)


def check_signed(raw: bytes, unsigned: Unsigned, address: str) -> None:
    """Check that `raw` is `unsigned` signed by `address`, and nothing else; raises VenueFatal where it is not."""
    try:
        fields = TypedTransaction.from_bytes(HexBytes(raw)).as_dict()
        found = Unsigned(
            chain_id=int(fields["chainId"]),
            nonce=int(fields["nonce"]),
            to=f"0x{bytes(fields['to']).hex()}",
            value_wei=int(fields["value"]),
            data=bytes(fields["data"]),
            gas_limit=int(fields["gas"]),
            max_fee_wei=int(fields["maxFeePerGas"]),
            tip_wei=int(fields["maxPriorityFeePerGas"]),
        )
        is_plain = int(fields["type"]) == _EIP_1559 and not fields["accessList"]
        sender = str(Account.recover_transaction(raw))
    except Exception:  # noqa: BLE001 - the decoder raises a dozen kinds on foreign bytes, all with one meaning
        raise VenueFatal("the signer returned what is no EIP-1559 transaction; hint: check its address") from None
    for name in Unsigned.__struct_fields__:
        asked, got = getattr(unsigned, name), getattr(found, name)
        if (asked.lower() if name == "to" else asked) != got:
            raise VenueFatal(f"the signer returned another transaction: expected {name} {asked!r}, found {got!r}")
    if not is_plain:
        raise VenueFatal("the signer returned another transaction: expected type 2 without access list")
    if sender != address:
        raise VenueFatal(f"the signer signs for another key: expected {address}, found {sender}")


def load_password(venue: str, environ: Mapping[str, str]) -> str:
    """Return the password of a chain's keystore: EVENKEEL_<CHAIN>_PASSWORD, or the file …_PASSWORD_FILE names.

    Such a file has mode 0600; a line break at its end does not count. Raises VenueFatal if there is neither.
    """
    name = f"EVENKEEL_{venue.upper().replace('-', '_')}_PASSWORD"
    if password := environ.get(name, ""):
        return password
    if path := environ.get(f"{name}_FILE", ""):
        try:
            return _read_private(Path(path), "a password file").decode("utf-8").rstrip("\r\n")
        except UnicodeDecodeError:
            raise VenueFatal(f"expected the password file {path} to be UTF-8 text, found something else") from None
    raise VenueFatal(f"{venue}: expected the keystore's password in {name} or the file {name}_FILE names, found none")


def _decrypt(keystore: bytes, password: str, path: Path) -> LocalAccount:
    try:
        account: LocalAccount = Account.from_key(Account.decrypt(json.loads(keystore), password))
    except Exception:  # noqa: BLE001 - nothing of what went wrong may be shown: it may hold the key
        account = None  # type: ignore[assignment]
    if account is None:  # outside of the handler, so that no cause hangs on the error
        raise VenueFatal(f"{path}: expected a V3 keystore that opens with the password, found that it does not")
    return account


def _read_private(path: Path, what: str) -> bytes:
    return read_private(path, f"expected {what} of ours with mode 0600 at {path}", _MAX_FILE_BYTES)


def _check_address(found: str, expected: str, where: str) -> None:
    if not is_checksum_address(expected):
        raise VenueFatal(f"expected the wallet's address with its checksum, found {expected}")
    if found != expected:
        raise VenueFatal(f"expected {where} to hold the key of {expected}, found that of {found}")


def _check_url(url: str) -> None:
    """Refuse an endpoint whose answers somebody on the way could change."""
    parts = urlsplit(url)
    try:
        is_loopback = parts.hostname == "localhost" or ipaddress.ip_address(parts.hostname or "").is_loopback
    except ValueError:
        is_loopback = False
    if not (parts.scheme == "https" or (parts.scheme == "http" and is_loopback)):
        raise VenueFatal(
            f"expected the signer at an https address or on loopback, found {parts.scheme}://{parts.hostname}"
        )
