"""A state split over topics is the same state again, and the documented schemas are those of the code."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest

from bot.domain.windows import VaultState
from bot.runtime.configuration.config import load_vaults
from bot.runtime.meters import DaemonMeters
from bot.runtime.session import open_session
from bot.runtime.window_state import take_state
from bot.telemetry.mqtt.topics import (
    MANNERS,
    MAX_LAG_NS,
    PAYLOADS,
    STATE_TOPICS,
    Topic,
    decode,
    encode,
    join,
    parse_topic,
    schemas,
    split,
    topic_name,
)

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def state() -> VaultState:
    (vault,) = load_vaults([ROOT / "config" / "eth-straddle.yaml"])
    return take_state(open_session(vault), {}, DaemonMeters().read(3, 0.0), 7, "a" * 64)


def test_a_state_is_the_same_after_the_way_over_all_topics(state: VaultState) -> None:
    parts = split(state)
    assert tuple(parts) == STATE_TOPICS
    assert state.underlyings
    assert state.underlyings[0].legs
    arrived = {topic: decode(topic, encode(part)) for topic, part in parts.items()}
    assert join(arrived) == msgspec.json.decode(msgspec.json.encode(state), type=VaultState)  # type: ignore[arg-type]


def test_every_field_of_a_state_is_on_a_topic_of_its_own(state: VaultState) -> None:
    fields = [name for topic in STATE_TOPICS for name in PAYLOADS[topic].__struct_fields__]
    shared = {"taken_ns", "schema_version", "underlyings"}
    assert sorted({*fields}) == sorted(state.__struct_fields__)
    alone = [name for name in fields if name not in shared]
    assert len(alone) == len(set(alone))


def test_there_is_no_state_while_a_part_is_missing(state: VaultState) -> None:
    for topic in STATE_TOPICS:
        parts = split(state)
        del parts[topic]
        assert join(parts) is None


def test_an_underlying_is_shown_once_both_halves_are_there(state: VaultState) -> None:
    parts = split(state)
    parts[Topic.GREEKS] = msgspec.structs.replace(parts[Topic.GREEKS], underlyings=())  # type: ignore[type-var]
    joined = join(parts)
    assert joined is not None
    assert joined.underlyings == ()


def test_a_part_that_no_longer_comes_makes_the_whole_as_old_as_it_is(state: VaultState) -> None:
    parts = split(state)
    later_ns = state.taken_ns + MAX_LAG_NS
    for topic in STATE_TOPICS:
        newer = {name: msgspec.structs.replace(part, taken_ns=later_ns + 1) for name, part in parts.items()}
        joined = join({**newer, topic: msgspec.structs.replace(parts[topic], taken_ns=later_ns)})
        assert joined is not None
        assert joined.taken_ns >= later_ns
        if topic is not Topic.STATUS:
            joined = join({**newer, topic: parts[topic]})
            assert joined is not None
            assert joined.taken_ns == state.taken_ns


@pytest.mark.parametrize("text", [b'"\xff"', b"[" * 5000 + b"]" * 5000, b'{"a":' * 5000 + b"1" + b"}" * 5000])
def test_what_breaks_the_reader_of_json_is_only_a_payload_that_does_not_fit(text: bytes) -> None:
    with pytest.raises(msgspec.DecodeError):
        decode(Topic.RISK, b'{"taken_ns": 1, "accounts": [], "risk": {"a": ' + text + b"}}")


def test_names_of_topics_are_read_as_they_are_written() -> None:
    for topic in Topic:
        assert parse_topic("desk-1", topic_name("desk-1", "a-b", topic)) == ("a-b", topic)


@pytest.mark.parametrize(
    "name",
    [
        "evenkeel/v2/a/status",
        "other/v1/a/status",
        "evenkeel/v1/a/b/status",
        "evenkeel/v1/a/what",
        "evenkeel/v1//status",
    ],
)
def test_other_topics_are_none_of_ours(name: str) -> None:
    assert parse_topic("evenkeel", name) is None


def test_a_command_is_never_kept_by_the_broker() -> None:
    assert set(MANNERS) == set(PAYLOADS) == set(Topic)
    kept = {topic for topic, manner in MANNERS.items() if manner.is_retained}
    assert kept == {*STATE_TOPICS, Topic.AVAILABILITY, Topic.RECENT, Topic.ALERTS}


def test_the_schemas_in_the_documents_are_these() -> None:
    folder = ROOT / "docs" / "schemas"
    documented = {path.stem: json.loads(path.read_text()) for path in folder.glob("*.json")}
    assert documented == json.loads(json.dumps(schemas())), "run scripts/schemas"


def test_every_topic_is_documented_with_its_quality_of_service() -> None:
    text = (ROOT / "docs" / "mqtt.md").read_text()
    for topic, manner in MANNERS.items():
        kept = "yes" if manner.is_retained else "no"
        assert f"| `{topic}` | {manner.qos} | {kept} |" in text, f"expected {topic} in the table of docs/mqtt.md"
