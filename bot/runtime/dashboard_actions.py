"""How operators' orders leave the dashboard: signed as its issuer, over the broker, the reason naming who it was."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from bot.domain.errors import ConfigError
from bot.domain.windows import CommandAnswer
from bot.runtime.desk import DashboardSection
from bot.runtime.desk_file import secret_of
from bot.telemetry.commands.keys import SigningKey, parse_signing_key
from bot.telemetry.commands.signing import compose, encode, sign
from bot.telemetry.dashboard.ports import Order
from bot.telemetry.mqtt.subscriber import NotConnected

WAIT_S: Final = 15.0
LIFE_S: Final = 20.0  # an order nobody answered is not carried out much later than its sender stopped waiting
ONLY_SHOWS: Final = "this dashboard only shows; hint: name an issuer and its signing_key_env under dashboard"

Send = Callable[[str, bytes, str, float], Awaitable[CommandAnswer]]


class BrokerActions:
    """Signs orders and has them sent; without a key it refuses all of them."""

    def __init__(self, send: Send, issuer: str, key: SigningKey | None, now_ns: Callable[[], int]) -> None:
        self._send = send
        self._issuer = issuer
        self._key = key
        self._now_ns = now_ns

    async def order(self, order: Order) -> CommandAnswer:
        """Sign an order, send it, and return what became of it.

        Raises TimeoutError when nobody answers, ConnectionError when it could not be sent.
        """
        now_ns = self._now_ns()
        if self._key is None:
            return _refused(order, now_ns)
        body = compose(
            order.action,
            vault=order.vault,
            issuer=self._issuer,
            reason=f"{order.user}: {order.reason}",
            now_ns=now_ns,
            life_s=LIFE_S,
            arguments=order.arguments,
        )
        try:
            payload = encode(sign(body, self._key))
            return await self._send(order.vault, payload, body.command_id, WAIT_S)
        except NotConnected as error:
            raise ConnectionError(str(error)) from error
        except ConfigError as error:
            raise ConnectionError("; ".join(error.problems)) from error


def _refused(order: Order, now_ns: int) -> CommandAnswer:
    return CommandAnswer(
        command_id="",
        vault=order.vault,
        issuer="",
        action=order.action,
        is_done=False,
        text=ONLY_SHOWS,
        state="",
        answered_ns=now_ns,
    )


def signing_key(section: DashboardSection, environ: Mapping[str, str]) -> SigningKey | None:
    """Return the key that orders are signed with, None for a dashboard that only shows. Raises ConfigError."""
    if section.signing_key_env is None:
        return None
    secret = secret_of(environ, section.signing_key_env, "the dashboard's signing key")
    return parse_signing_key(secret, section.signing_key_env)
