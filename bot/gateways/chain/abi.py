"""What contracts are told and what they say, by Solidity's ABI: calldata, answers, events and reasons of a revert.

Source of every layout: the Contract ABI Specification of the Solidity documentation. Addresses come out checksummed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any, Final

from eth_abi import abi as solidity
from eth_abi.exceptions import DecodingError, EncodingError
from eth_utils.address import to_checksum_address
from eth_utils.crypto import keccak

from bot.gateways.chain.nouns import Log, Read

WORD_BYTES: Final = 32
_SELECTOR_BYTES: Final = 4
_SIGN_BIT: Final = 1 << 255
_MODULUS: Final = 1 << 256
_PRINTABLE: Final = 3  # a legacy reason of fewer letters is taken for bytes

PANICS: Final = {
    0x00: "generic compiler panic",
    0x01: "assertion failed",
    0x11: "arithmetic overflow or underflow",
    0x12: "division by zero",
    0x21: "value is not one of the enum",
    0x22: "storage array is wrongly encoded",
    0x31: "pop of an empty array",
    0x32: "array index out of bounds",
    0x41: "too much memory allocated",
    0x51: "call of an uninitialised function",
}


class Undecodable(ValueError):
    """Bytes that are not what the ABI says they should be."""


@lru_cache(maxsize=4096)
def selector(signature: str) -> bytes:
    """Return the first four bytes of calldata, or of a custom error, of `transfer(address,uint256)`."""
    return keccak(text=signature)[:_SELECTOR_BYTES]


@lru_cache(maxsize=1024)
def topic(signature: str) -> str:
    """Return the first topic of the event `Transfer(address,address,uint256)`."""
    return "0x" + keccak(text=signature).hex()


@lru_cache(maxsize=4096)
def split_types(types: str) -> tuple[str, ...]:
    """Return the types of a parameter list: `(address,(uint24,int24)[])` has two; the outer brackets may stay out."""
    inner = types.strip()
    if inner.startswith("(") and _closes_at_end(inner):
        inner = inner[1:-1]
    parts: list[str] = []
    depth, start = 0, 0
    for at, letter in enumerate(inner):
        depth += (letter == "(") - (letter == ")")
        if letter == "," and depth == 0:
            parts.append(inner[start:at].strip())
            start = at + 1
    last = inner[start:].strip()
    return tuple([*parts, last] if last else parts)


def _closes_at_end(text: str) -> bool:
    """Tell whether the first bracket is closed by the last letter, and not before."""
    depth = 0
    for at, letter in enumerate(text):
        depth += (letter == "(") - (letter == ")")
        if depth == 0:
            return at == len(text) - 1
    return False


def encode(types: str, *values: object) -> bytes:
    """Return `values` as the ABI lays out `(address,uint256)`. Raises ValueError if one does not fit its type."""
    try:
        return solidity.encode(split_types(types), values)
    except (TypeError, OverflowError, EncodingError) as error:
        raise ValueError(f"expected values that fit {types}, found {values!r}: {error}") from error


def decode(types: str, data: bytes) -> tuple[Any, ...]:
    """Return the values `data` holds as `(address,uint256)`. Raises Undecodable if it is no such thing."""
    wanted = split_types(types)
    try:
        values = solidity.decode(wanted, data)
    except (DecodingError, OverflowError, ValueError) as error:
        raise Undecodable(f"expected {types}, found {len(data)} bytes 0x{data[:68].hex()}: {error}") from error
    return tuple(_friendly(kind, value) for kind, value in zip(wanted, values, strict=True))


def _friendly(kind: str, value: Any) -> Any:  # noqa: ANN401
    """Return a decoded value with every address in it checksummed."""
    if "address" not in kind:
        return value
    if kind == "address":
        return to_checksum_address(value)
    if kind.endswith("]"):
        return tuple(_friendly(kind[: kind.rindex("[")], item) for item in value)
    return tuple(_friendly(part, item) for part, item in zip(split_types(kind), value, strict=True))


def uint_at(data: bytes, index: int) -> int:
    """Return word number `index` of an answer as an unsigned integer: what `decode` does, at a tenth of its price."""
    word = data[index * WORD_BYTES : (index + 1) * WORD_BYTES]
    if len(word) != WORD_BYTES:
        raise Undecodable(f"expected at least {index + 1} words, found {len(data)} bytes")
    return int.from_bytes(word)


def int_at(data: bytes, index: int) -> int:
    """Return word number `index` of an answer as a signed integer (two's complement of 256 bits)."""
    value = uint_at(data, index)
    return value - _MODULUS if value & _SIGN_BIT else value


def address_at(data: bytes, index: int) -> str:
    """Return word number `index` of an answer as an address."""
    return _checksummed(uint_at(data, index))


@lru_cache(maxsize=4096)
def _checksummed(word: int) -> str:
    """Return the address in a word; the same few are read with every block, and a checksum takes a hash."""
    return str(to_checksum_address(word.to_bytes(WORD_BYTES)[12:]))


class Function:
    """One function of a contract: `Function("balanceOf(address)", "(uint256)")`."""

    __slots__ = ("_inputs", "outputs", "selector", "signature")

    def __init__(self, signature: str, outputs: str = "()") -> None:
        self.signature = signature
        self.outputs = outputs
        self.selector = selector(signature)
        self._inputs = signature[signature.index("(") :]

    def encode(self, *values: object) -> bytes:
        """Return the calldata that calls it."""
        return self.selector + encode(self._inputs, *values)

    def read(self, to: str, *values: object) -> Read:
        """Return the view call of it at `to`."""
        return Read(to, self.encode(*values))

    def decode(self, data: bytes) -> tuple[Any, ...]:
        """Return what it answered. Raises Undecodable, also on the empty answer of an address without code."""
        return decode(self.outputs, data)

    def arguments(self, data: bytes) -> tuple[Any, ...] | None:
        """Return the arguments of calldata that calls it, None if it calls something else."""
        return decode(self._inputs, data[_SELECTOR_BYTES:]) if data[:_SELECTOR_BYTES] == self.selector else None


BALANCE_OF: Final = Function("balanceOf(address)", "(uint256)")
ALLOWANCE: Final = Function("allowance(address,address)", "(uint256)")
APPROVE: Final = Function("approve(address,uint256)", "(bool)")
"""What every ERC-20 token answers to, as far as it is asked here."""


class Event:
    """One event of a contract: `Event("Transfer(address indexed from, address indexed to, uint256 value)")`."""

    __slots__ = ("_fields", "_plain", "signature", "topic")

    def __init__(self, declaration: str) -> None:
        name, _, fields = declaration.partition("(")
        words = [field.split() for field in split_types("(" + fields)]
        self._fields = [(word[0], "indexed" in word, word[-1]) for word in words]
        self._plain = "(" + ",".join(kind for kind, indexed, _ in self._fields if not indexed) + ")"
        self.signature = f"{name.strip()}({','.join(kind for kind, _, _ in self._fields)})"
        self.topic = topic(self.signature)

    def decode(self, log: Log) -> dict[str, Any] | None:
        """Return the fields of a log of this event by name, None if it is another's or lays its topics out differently.

        An indexed field of a dynamic type is only its hash, as bytes.
        """
        n_indexed = sum(indexed for _, indexed, _ in self._fields)
        if not log.topics or log.topics[0] != self.topic or len(log.topics) != 1 + n_indexed:
            return None
        plain = iter(decode(self._plain, log.data))
        indexed_words = iter(log.topics[1:])
        return {
            name: _indexed(kind, next(indexed_words)) if indexed else next(plain)
            for kind, indexed, name in self._fields
        }

    def all(self, logs: Iterable[Log], address: str = "") -> list[dict[str, Any]]:
        """Return every such event among `logs`, of one contract only where `address` names it."""
        wanted = address.lower()
        decoded = (self.decode(log) for log in logs if not wanted or log.address.lower() == wanted)
        return [fields for fields in decoded if fields is not None]


def _indexed(kind: str, word: str) -> Any:  # noqa: ANN401
    """Return an indexed field from its topic."""
    data = bytes.fromhex(word.removeprefix("0x"))
    is_hashed = kind in {"string", "bytes"} or kind.endswith(("]", ")"))
    return data if is_hashed else decode(f"({kind})", data)[0]


_ERROR: Final = selector("Error(string)")
_PANIC: Final = selector("Panic(uint256)")


def explain_revert(data: bytes, errors: Sequence[str] = ()) -> str:
    """Return the reason of a revert in words; `errors` are signatures such as `NoBalance(uint256,uint256)`."""
    head, body = data[:_SELECTOR_BYTES], data[_SELECTOR_BYTES:]
    if not data:
        return "reverted without a reason"
    try:
        if head == _ERROR:
            return str(decode("(string)", body)[0]) or "reverted with an empty reason"
        if head == _PANIC:
            [code] = decode("(uint256)", body)
            return f"panic 0x{code:02x}: {PANICS.get(code, 'unknown to Solidity')}"
        for signature in errors:
            if head == selector(signature):
                name, _, types = signature.partition("(")
                return f"{name}({', '.join(_said(value) for value in decode('(' + types, body))})"
    except Undecodable as error:
        return f"reverted with 0x{data.hex()}, which cannot be decoded: {error}"
    return f"reverted with an unknown error 0x{data.hex()}" if not _is_text(data) else data.decode("ascii")


def error_name(data: bytes, errors: Sequence[str]) -> str:
    """Return the signature among `errors` that a revert carries, `Error(string)` or `Panic(uint256)`, "" for none."""
    head = data[:_SELECTOR_BYTES]
    return next((s for s in ("Error(string)", "Panic(uint256)", *errors) if selector(s) == head and data), "")


def _said(value: object) -> str:
    return "0x" + value.hex() if isinstance(value, bytes) else str(value)


def _is_text(data: bytes) -> bool:
    """Tell whether a revert is plain text, as hand-written contracts give it."""
    return len(data) > _PRINTABLE and len(data) != _SELECTOR_BYTES and all(32 <= letter < 127 for letter in data)


def to_bytes(text: str) -> bytes:
    """Return the bytes of a 0x-prefixed text as nodes give them. Raises Undecodable on anything else."""
    try:
        return bytes.fromhex(text.removeprefix("0x"))
    except (ValueError, AttributeError, TypeError) as error:
        raise Undecodable(f"expected 0x-prefixed hexadecimal bytes, found {text!r:.80}") from error


def to_int(text: str) -> int:
    """Return the number of a 0x-prefixed text as nodes give it. Raises Undecodable on anything else."""
    try:
        return int(text, 16)
    except (ValueError, TypeError) as error:
        raise Undecodable(f"expected a 0x-prefixed hexadecimal number, found {text!r:.80}") from error
