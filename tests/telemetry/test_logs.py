"""No secret reaches a log line, whatever way it gets in; lines are JSON for machines and plain for people."""

from __future__ import annotations

import base64
import io
import json
import logging
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote, quote_plus

import msgspec
import pytest
import structlog
from hypothesis import given, settings
from hypothesis import strategies as st

from bot.telemetry.logs import (
    MASK,
    OnceLogger,
    configure_logging,
    keep_address,
    keep_environment_secret,
    keep_secret,
    mask_secrets,
    without_secrets,
)

PRIVATE_KEY = "0x" + "4c0F" * 16


SECRET_NAMES = [
    *("api_key", "apiKey", "API-KEY", "secret", "api_secret", "client_secret", "password", "passwd", "passphrase"),
    *("private_key", "privateKey", "token", "access_token", "AUTH_TOKEN", "mnemonic", "Authorization", "seed_phrase"),
]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def _restored_logging() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


@pytest.fixture
def stream() -> io.StringIO:
    out = io.StringIO()
    configure_logging("debug", stream=out)
    return out


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def masked(**fields: object) -> dict[str, Any]:
    return dict(mask_secrets(None, "info", dict(fields)))


def fail() -> None:
    cause = ValueError(f"bad key {PRIVATE_KEY}")
    raise RuntimeError("POST https://ops:hunter2@example.org?token=hunter2") from cause


class TestLines:
    def test_json_when_nobody_watches(self, stream: io.StringIO) -> None:
        structlog.get_logger().info("hedged", lots=3, px=1900.5, side=None, is_maker=False)
        (line,) = lines(stream)
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z", line.pop("timestamp"))
        assert line == {"event": "hedged", "level": "info", "lots": 3, "px": 1900.5, "side": None, "is_maker": False}

    def test_plain_at_a_terminal(self) -> None:
        out = Terminal()
        configure_logging("info", stream=out)
        structlog.get_logger().info("hedged", lots=3, api_key="abc-123")
        assert "hedged" in out.getvalue()
        assert "abc-123" not in out.getvalue()
        with pytest.raises(json.JSONDecodeError):
            json.loads(out.getvalue())

    def test_json_at_a_terminal_on_request(self) -> None:
        out = Terminal()
        configure_logging("info", as_json=True, stream=out)
        structlog.get_logger().info("hedged")
        assert lines(out)[0]["event"] == "hedged"

    def test_stderr_by_default(self, capsys: pytest.CaptureFixture[str]) -> None:
        configure_logging()
        structlog.get_logger().info("hedged")
        written = capsys.readouterr()
        assert written.out == ""
        assert json.loads(written.err)["event"] == "hedged"

    def test_levels(self) -> None:
        out = io.StringIO()
        configure_logging("warning", stream=out)
        structlog.get_logger().info("quiet")
        structlog.get_logger().error("loud")
        assert [line["event"] for line in lines(out)] == ["loud"]

    def test_libraries_take_the_same_way(self, stream: io.StringIO) -> None:
        log = logging.getLogger("some.library")
        log.info("chatter")
        try:
            fail()
        except RuntimeError:
            log.exception("cannot reach %s", "https://ops:hunter2@example.org/x")
        (line,) = lines(stream)
        assert (line["event"], line["level"]) == ("cannot reach https://***@example.org/x", "error")
        assert line["logger"] == "some.library"
        assert f"ValueError: bad key {MASK}" in line["exception"]

    def test_configuring_again_does_not_double_lines(self, stream: io.StringIO) -> None:
        again = io.StringIO()
        configure_logging("info", stream=again)
        logging.getLogger("some.library").warning("once")
        structlog.get_logger().info("once")
        assert stream.getvalue() == ""
        assert [line["event"] for line in lines(again)] == ["once", "once"]


class TestMasking:
    @pytest.mark.parametrize(
        "key",
        SECRET_NAMES,
    )
    def test_secret_keys_at_any_depth(self, key: str) -> None:
        fields = masked(venue={"accounts": [{key: "hunter2", "name": "main"}]}, **{key: ["hunter2"]})
        assert fields == {"venue": {"accounts": [{key: MASK, "name": "main"}]}, key: MASK}

    @pytest.mark.parametrize("key", ["seed", "instrument_id", "token_address", "tokens", "keys", "commands_sha256"])
    def test_other_keys_stay(self, key: str) -> None:
        assert masked(**{key: "a7"}) == {key: "a7"}

    def test_an_absent_secret_is_seen_to_be_absent(self) -> None:
        assert masked(api_key=None) == {"api_key": None}

    @pytest.mark.parametrize(
        ("text", "shown"),
        [
            (f"signer {PRIVATE_KEY}.", "signer ***."),
            ("postgresql://ops:hunter2@db:5432/x", "postgresql://***@db:5432/x"),
            ("redis://:hun@ter2@cache", "redis://***@cache"),
            ("wss://rpc.example.org/v3/0123456789abcdef0123456789abcdef", "wss://rpc.example.org/v3/***"),
            ("GET /private?api_key=hunter2&size=3", "GET /private?api_key=***&size=3"),
            ("Venue(apiKey='hunter 2', secret=\"h'2\", size=3)", "Venue(apiKey=***, secret=***, size=3)"),
            ('{"api_key": "hun\\"ter2", "size": 3}', '{"api_key": ***, "size": 3}'),
            ("Authorization: Bearer eyJhbGciOi.eyJzdWIi", "Authorization: *** ***"),
            ("sent with Bearer eyJhbGciOi.eyJzdWIi", "sent with Bearer ***"),
            ("password = hunter2", "password = ***"),
        ],
    )
    def test_secrets_in_text(self, text: str, shown: str) -> None:
        assert masked(event=text) == {"event": shown}

    @pytest.mark.parametrize(
        "text",
        [
            "net delta 7.2 left its band [-5.0, 5.0]",
            "https://docs.example.org/v2/orders?mail=a@b",
            "contract 0x5FbDB2315678afecb367f032d93F642f64180aa3",
            "commands_sha256 " + "ab" * 32,
        ],
    )
    def test_ordinary_text_stays(self, text: str) -> None:
        assert masked(event=text) == {"event": text}

    def test_objects_are_masked_as_they_would_be_printed(self, stream: io.StringIO) -> None:
        class Account(msgspec.Struct):
            api_key: str
            size: int

        structlog.get_logger().info(
            "opened", account=Account("hunter2", 3), raw=b"token=hunter2", seen={"a"}, at=(1, 2)
        )
        (line,) = lines(stream)
        assert line["account"].endswith("Account(api_key=***, size=3)")
        assert line["raw"] == "b'token=***'"
        assert (line["seen"], line["at"]) == (["a"], [1, 2])

    def test_exception_texts_and_their_causes(self, stream: io.StringIO) -> None:
        log = structlog.get_logger()
        try:
            fail()
        except RuntimeError as error:
            log.exception("failed")
            log.warning("again", exc_info=error)
            log.warning("as a value", error=error)
        first, second, third = lines(stream)
        for line in (first, second):
            assert "ValueError: bad key ***" in line["exception"]
            assert "RuntimeError: POST https://***@example.org?token=***" in line["exception"]
        assert third["error"] == "POST https://***@example.org?token=***"
        assert "hunter2" not in stream.getvalue()
        assert PRIVATE_KEY not in stream.getvalue()

    def test_bound_and_context_fields(self, stream: io.StringIO) -> None:
        with structlog.contextvars.bound_contextvars(token="hunter2"):
            structlog.get_logger().bind(secret="hunter2").info("opened")
        (line,) = lines(stream)
        assert (line["secret"], line["token"]) == (MASK, MASK)

    def test_endless_structures_end(self) -> None:
        loop: list[object] = []
        loop.append(loop)
        assert "…" in str(masked(loop=loop))

    @given(st.text(max_size=30), st.from_regex(r"[A-Za-z0-9+/]{8,40}", fullmatch=True), st.text(max_size=30))
    def test_no_surroundings_let_a_value_through(self, before: str, value: str, after: str) -> None:
        shown = masked(event=f'{before} api_key="{value}" {after}', other=f"{before}\npassword={value}\n{after}")
        assert f'="{value}"' not in shown["event"]
        assert f"={value}" not in shown["other"]

    @given(
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.sampled_from("abc"),
            lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from("xyz"), inner),
            max_leaves=10,
        )
    )
    def test_data_without_secrets_is_unchanged(self, data: object) -> None:
        assert masked(data=data) == {"data": data}


class TestOnceLogger:
    def test_the_failure_once_and_the_recovery_once(self, stream: io.StringIO) -> None:
        once = OnceLogger(structlog.get_logger())
        once.recovered("deribit")
        for attempt in range(3):
            once.failed("deribit", attempt=attempt)
        once.failed("bybit")
        once.recovered("deribit", after_s=9)
        once.recovered("deribit")
        once.failed("deribit")
        said = [(line["level"], line["event"], line["subject"], line.get("failures")) for line in lines(stream)]
        assert said == [
            ("warning", "subject.failed", "deribit", None),
            ("warning", "subject.failed", "bybit", None),
            ("info", "subject.recovered", "deribit", 3),
            ("warning", "subject.failed", "deribit", None),
        ]


class TestKnownSecrets:
    """What is secret is masked wherever it turns up; the values are this process's from then on, so they are odd."""

    @settings(max_examples=30)
    @given(st.text(st.characters(codec="utf-8"), min_size=12, max_size=40), st.text(max_size=10), st.text(max_size=10))
    def test_a_known_value_never_shows(self, value: str, before: str, after: str) -> None:
        secret = f"q{value}7"
        keep_secret(secret)
        for shown in (secret, quote(secret), quote_plus(secret), base64.b64encode(secret.encode()).decode()):
            found = str(masked(text=f"{before}{shown}{after}", inner=[{"deep": Exception(shown)}]))
            assert shown.rstrip("=") not in found

    @pytest.mark.parametrize("before", ["", "a", "ab", "abc", "user:"])
    def test_nor_inside_of_base64(self, before: str) -> None:
        secret = "zqx-hidden-credential-vnm"
        keep_secret(secret)
        shown = base64.b64encode(f"{before}{secret}".encode()).decode()
        found = masked(text=f"Sent {shown}")["text"]
        assert isinstance(found, str)
        decoded = base64.b64decode(found.removeprefix("Sent ").split(MASK)[0] + "====")
        assert b"hidden" not in decoded
        assert found != f"Sent {shown}"

    def test_the_environment_is_known_by_its_names(self) -> None:
        keep_environment_secret(
            {"OKX_API_KEY": "key-of-okx-xyzzy", "HOOK": "https-plugh-hook", "HOME": "home-of-nobody"}, also=["HOOK"]
        )
        found = masked(text="key-of-okx-xyzzy and https-plugh-hook and home-of-nobody")
        assert found == {"text": f"{MASK} and {MASK} and home-of-nobody"}

    def test_a_short_value_is_left_alone(self) -> None:
        keep_secret("true")
        assert masked(text="it is true") == {"text": "it is true"}

    @pytest.mark.parametrize(
        ("url", "secrets", "others"),
        [
            ("json://u:pw-qzv1@host.test/a-long-token-qzv2", ["pw-qzv1", "a-long-token-qzv2"], ["host.test"]),
            ("tgram://1234567890:bot-token-qzv3-xy/77", ["1234567890:bot-token-qzv3-xy", "bot-token-qzv3-xy"], ["77"]),
            ("https://n.test/v2/a-long-key-of-qzv4", ["a-long-key-of-qzv4"], ["n.test", "v2"]),
            ("https://n.test/?to=a%2Flong%2Ftoken%2Fqzv5&as=text", ["a/long/token/qzv5"], ["text"]),
            ("http://127.0.0.1:8545", [], ["http://127.0.0.1:8545"]),
        ],
    )
    def test_of_an_address_what_is_secret(self, url: str, secrets: list[str], others: list[str]) -> None:
        keep_address(url)
        assert [without_secrets(f"a {text} b") for text in secrets] == [f"a {MASK} b" for _ in secrets]
        assert [without_secrets(text) for text in others] == others
