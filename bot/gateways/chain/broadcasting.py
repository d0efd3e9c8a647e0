"""Handing raw bytes over: to every healthy node, or to a private relay and nobody else, and what the answers mean.

The same bytes may be handed over any number of times: a chain takes them once. So every doubt is `LOST`, never a no.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from typing import Any, Final, Protocol

import msgspec

from bot.domain.errors import EvenkeelError
from bot.gateways.chain.rpc import RpcError

_RELAY_BLOCKS: Final = 25  # how long a relay may try


class Handed(StrEnum):
    """What became of the bytes, best first.

    ACCEPTED: a node has them. LOST: one may have them. NONCE_LOW: their nonce is used. UNDERPRICED: another
    transaction with their nonce is in the pool and pays about as much. TOO_CHEAP: not kept at this price. NO_FUNDS:
    the coin balance does not cover them. REFUSED: they will never be taken.
    """

    ACCEPTED = "accepted"
    LOST = "lost"
    NONCE_LOW = "nonce_low"
    UNDERPRICED = "underpriced"
    TOO_CHEAP = "too_cheap"
    NO_FUNDS = "no_funds"
    REFUSED = "refused"

    @property
    def is_surely_not_taken(self) -> bool:
        """Tell whether no node that was asked keeps the bytes."""
        return self in {Handed.TOO_CHEAP, Handed.NO_FUNDS, Handed.REFUSED}


class Answer(msgspec.Struct, frozen=True):
    """What became of the bytes, and the node's own words where they were not accepted."""

    handed: Handed
    text: str = ""


class Relay(Protocol):
    """Whoever can be asked: the chain's nodes, or an endpoint that takes private transactions."""

    async def call(self, method: str, params: Sequence[object] = ()) -> Any:  # noqa: ANN401
        """Ask and return the result. Raises Retryable without an answer, RpcError if the answer is an error."""


class Node(Relay, Protocol):
    """The chain's nodes asked as one, as far as transactions need them."""

    async def broadcast(self, method: str, params: Sequence[object]) -> Mapping[str, Any]:
        """Ask every node at once and return what each has said, by name: a result, or its error."""


class Broadcaster:
    """Hands bytes over, to the relay if there is one: what is to be private is never shown to the public pool."""

    def __init__(self, node: Node, relay: Relay | None = None) -> None:
        self._node = node
        self._relay = relay

    @property
    def is_private(self) -> bool:
        """Tell whether nodes cannot be expected to know what was handed over."""
        return self._relay is not None

    async def hand_over(self, raw: bytes, head_number: int) -> Answer:
        """Hand the bytes over once and say what became of them; never raises for what a node says or does not say."""
        if self._relay is None:
            try:
                answers = await self._node.broadcast("eth_sendRawTransaction", [f"0x{raw.hex()}"])
                return summary(answers.values())
            except EvenkeelError as error:
                return judged(error)
        wanted = {"tx": f"0x{raw.hex()}", "maxBlockNumber": hex(head_number + _RELAY_BLOCKS)}
        try:
            await self._relay.call("eth_sendPrivateTransaction", [wanted])
        except EvenkeelError as error:
            return judged(error)
        return Answer(Handed.ACCEPTED)


def judged(answer: object) -> Answer:
    """Return what one endpoint's answer to raw bytes means. Words of geth, reth, Nethermind, Besu, Erigon and Anvil."""
    if isinstance(answer, str):
        return Answer(Handed.ACCEPTED)
    text = str(answer)[:200]
    if not isinstance(answer, RpcError):
        return Answer(Handed.LOST, text)
    words = answer.message.lower()
    handed = next((meaning for meaning, signs in _SIGNS if any(sign in words for sign in signs)), Handed.LOST)
    return Answer(handed, "" if handed is Handed.ACCEPTED else text)


def summary(answers: Iterable[object]) -> Answer:
    """Return the best of several endpoints' answers; none at all is a doubt."""
    found = [judged(answer) for answer in answers]
    return min(found, key=lambda one: _ORDER.index(one.handed), default=Answer(Handed.LOST, "no node could be asked"))


_ORDER: Final = tuple(Handed)
# In this order: the first sign found decides.
_SIGNS: Final = (
    (Handed.ACCEPTED, ("already known", "already imported", "known transaction", "alreadyknown", "already in mempool")),
    (Handed.NONCE_LOW, ("nonce too low", "nonce is too low", "oldnonce", "old nonce", "nonce below")),
    (Handed.UNDERPRICED, ("replacement", "could not replace", "future replace")),
    (Handed.NO_FUNDS, ("insufficient funds", "insufficientfunds", "upfront cost exceeds", "insufficient balance")),
    (
        Handed.TOO_CHEAP,
        (
            "underpriced",
            "less than block base fee",
            "below current base fee",
            "gas price too low",
            "gas price below",
            "feetoolow",
            "txpool is full",
            "pool overflow",
            "account limit exceeded",
            "in-flight transaction limit",
        ),
    ),
    (
        Handed.REFUSED,
        (
            "intrinsic gas",
            "exceeds block gas limit",
            "gas limit reached",
            "gaslimitexceeded",
            "invalid sender",
            "invalid chain id",
            "wrong chain id",
            "oversized data",
            "type not supported",
            "higher than max fee per gas",
            "exceeds the configured cap",
            "max initcode size",
        ),
    ),
)
