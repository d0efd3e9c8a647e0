"""How operators' orders leave the dashboard: signed as its issuer, over the broker, the reason naming who it was."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from bot.domain.errors import ConfigError
from bot.domain.windows import CommandAnswer
from bot.runtime.configuration.desk import Desk
from bot.runtime.configuration.desk_file import secret_of
from bot.runtime.operators.reasons import fit_reason
from bot.telemetry.commands.keys import SigningKey, parse_signing_key
from bot.telemetry.commands.signing import compose, encode, sign
from bot.telemetry.commands.verifying import Issuer, Refused, verify
from bot.telemetry.dashboard.ports import Order
from bot.telemetry.mqtt.subscriber import NotConnected

WAIT_S: Final = 15.0
LIFE_S: Final = 20.0  # an order nobody answered is not carried out much later than its sender stopped waiting
ONLY_SHOWS: Final = "this dashboard only shows; hint: name an issuer and its signing_key_env under dashboard"

Send = Callable[[str, bytes, str, float], Awaitable[CommandAnswer]]


class Signer:
    """What orders are signed with, and what their receiver knows of it."""

    def __init__(self, key: SigningKey, issuer: Issuer) -> None:
        self.key = key
        self.issuer = issuer


class BrokerActions:
    """Signs orders and has them sent; without a signer it refuses all of them."""

    def __init__(self, send: Send, signer: Signer | None, now_ns: Callable[[], int]) -> None:
        self._send = send
        self._signer = signer
        self._now_ns = now_ns

    async def order(self, order: Order) -> CommandAnswer:
        """Sign an order, send it, and return what became of it.

        What its receiver would not even answer is not sent. Raises TimeoutError when nobody answers, ConnectionError
        when it could not be sent.
        """
        now_ns = self._now_ns()
        if self._signer is None:
            return _refused(order, ONLY_SHOWS, now_ns)
        issuer = self._signer.issuer
        try:
            body = compose(
                order.action,
                vault=order.vault,
                issuer=issuer.name,
                reason=f"{order.user}: {fit_reason(order.action, order.reason)}",
                now_ns=now_ns,
                life_s=LIFE_S,
                arguments=order.arguments,
            )
            payload = encode(sign(body, self._signer.key))
        except ConfigError as error:
            return _refused(order, "; ".join(error.problems), now_ns)
        found = verify(payload, order.vault, {issuer.name: issuer}, now_ns, frozenset())
        if isinstance(found, Refused):
            return _refused(order, found.text, now_ns)
        try:
            return await self._send(order.vault, payload, body.command_id, WAIT_S)
        except NotConnected as error:
            raise ConnectionError(str(error)) from error


def open_signer(desk: Desk, environ: Mapping[str, str]) -> Signer | None:
    """Return what the dashboard of a desk signs with, None for one that only shows.

    Raises ConfigError without the key, or with one that its issuer is not known by.
    """
    section = desk.dashboard
    if section is None or section.signing_key_env is None or section.issuer is None:
        return None
    key = parse_signing_key(
        secret_of(environ, section.signing_key_env, "the dashboard's signing key"), section.signing_key_env
    )
    known, verifier = desk.issuers[section.issuer], key.verifier()
    if known.public_key is not None and getattr(verifier, "text", str)() != known.public_key:
        expected = f"{section.signing_key_env}: expected the key of issuer {section.issuer}"
        raise ConfigError([f"{expected}, found another; hint: its public half is public_key in the desk file"])
    return Signer(key, Issuer(section.issuer, verifier, frozenset(known.may), frozenset(known.vaults)))


def _refused(order: Order, text: str, now_ns: int) -> CommandAnswer:
    return CommandAnswer(
        command_id="",
        vault=order.vault,
        issuer="",
        action=order.action,
        is_done=False,
        text=text,
        state="",
        answered_ns=now_ns,
    )
