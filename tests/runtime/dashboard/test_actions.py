from __future__ import annotations

from typing import Any

import msgspec
import pytest

from bot.domain.commands import Arguments, CommandBody, SignedCommand
from bot.domain.errors import ConfigError
from bot.domain.windows import CommandAnswer
from bot.runtime.configuration.desk import Desk
from bot.runtime.dashboard.actions import ONLY_SHOWS, BrokerActions, open_signer
from bot.telemetry.commands.keys import new_private_key, new_secret
from bot.telemetry.dashboard.ports import Order
from bot.telemetry.mqtt.subscriber import NotConnected

NOW_NS = 1_700_000_000_000_000_000
KEY = new_private_key()
ORDER = Order("eth-straddle", "pause", "a look at the venue", "alice")


def desk_of(**changes: Any) -> Desk:
    """Return a desk whose dashboard may pause vaults."""
    issuer = {"public_key": KEY.verifier().text(), "may": ["pause"], **changes}
    dashboard = {"issuer": "desk", "signing_key_env": "EVENKEEL_KEY"}
    return Desk.model_validate({"mqtt": {}, "issuers": {"desk": issuer}, "dashboard": dashboard})


class Sent:
    """Keeps what was sent and answers it, or fails."""

    def __init__(self, failure: Exception | None = None) -> None:
        self.bodies: list[CommandBody] = []
        self._failure = failure

    async def __call__(self, vault: str, payload: bytes, command_id: str, timeout_s: float) -> CommandAnswer:
        if self._failure is not None:
            raise self._failure
        signed = msgspec.json.decode(payload, type=SignedCommand)
        body = msgspec.json.decode(signed.command, type=CommandBody)
        assert body.command_id == command_id
        assert timeout_s > 0
        self.bodies.append(body)
        return CommandAnswer(command_id, vault, body.issuer, body.action, True, "paused", "paused", NOW_NS)


def actions(sent: Sent, desk: Desk | None = None) -> BrokerActions:
    return BrokerActions(sent, open_signer(desk or desk_of(), {"EVENKEEL_KEY": KEY.text()}), lambda: NOW_NS)


async def test_an_order_is_signed_as_the_dashboard_and_says_who_it_was() -> None:
    sent = Sent()
    answer = await actions(sent).order(ORDER)
    assert answer.is_done
    (body,) = sent.bodies
    assert (body.issuer, body.reason, body.action) == ("desk", "alice: a look at the venue", "pause")
    assert NOW_NS < body.expires_ns <= NOW_NS + 60 * 10**9


@pytest.mark.parametrize(
    ("order", "text"),
    [
        (Order("eth-straddle", "halt", "now", "alice"), "halt"),
        (Order("eth-straddle", "pause", "bell\x07", "alice"), "characters that can be seen"),
        (Order("eth-straddle", "pause", "why", "alice", Arguments(target_base=1.0)), "does not need"),
        (Order("eth-straddle", "pause", "ä" * 5000, "alice"), "at most"),
    ],
)
async def test_what_would_not_be_answered_is_not_sent_and_said_at_once(order: Order, text: str) -> None:
    sent = Sent()
    answer = await actions(sent).order(order)
    assert not answer.is_done
    assert text in answer.text
    assert sent.bodies == []


async def test_a_secret_does_not_even_reach_the_broker() -> None:
    sent, desk, words = Sent(), desk_of(may=["all"]), f"with {KEY.text().partition(':')[2]}"
    answer = await actions(sent, desk).order(Order("eth-straddle", "pause", words, "alice"))
    assert (answer.is_done, sent.bodies) == (False, [])
    assert "expected a command without secrets" in answer.text
    assert (await actions(sent, desk).order(Order("eth-straddle", "halt", words, "alice"))).is_done
    assert [body.reason for body in sent.bodies] == ["alice: with ***"]


async def test_without_a_broker_it_is_said_that_nothing_was_sent() -> None:
    with pytest.raises(ConnectionError, match="nothing was sent"):
        await actions(Sent(NotConnected("nothing was sent"))).order(ORDER)
    with pytest.raises(TimeoutError):
        await actions(Sent(TimeoutError())).order(ORDER)


async def test_a_dashboard_without_a_key_only_shows() -> None:
    assert open_signer(Desk.model_validate({"dashboard": {}}), {}) is None
    answer = await BrokerActions(Sent(), None, lambda: NOW_NS).order(ORDER)
    assert (answer.is_done, answer.text) == (False, ONLY_SHOWS)


def test_a_key_that_is_missing_or_anothers_is_found_before_anybody_logs_in() -> None:
    with pytest.raises(ConfigError, match="EVENKEEL_KEY"):
        open_signer(desk_of(), {})
    other = new_private_key().text()
    with pytest.raises(ConfigError, match="expected the key of issuer desk, found another") as error:
        open_signer(desk_of(), {"EVENKEEL_KEY": other})
    assert other not in str(error.value)
    secret = new_secret().text()
    shared = desk_of(public_key=None, secret_env="EVENKEEL_SHARED")
    assert open_signer(shared, {"EVENKEEL_KEY": secret}) is not None
