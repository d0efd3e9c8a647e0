"""Secrets planted everywhere a desk has one; every byte that leaves it is searched for them, whole, in part, and as
URLs, JSON, base64 and hexadecimal have them. Everything runs for real; the gathering is done once for all tests here.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import random
import secrets
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, Final, NamedTuple
from urllib.parse import quote, quote_plus
from urllib.request import urlopen

import msgspec
import pytest
from argon2 import PasswordHasher
from eth_account import Account
from playwright.sync_api import Page

from bot.domain.errors import ConfigError
from bot.runtime.cli.order import KEY_ENV
from bot.runtime.configuration.broker import Broker
from bot.runtime.configuration.desk import MqttSection
from bot.runtime.configuration.desk_file import load_desk
from bot.runtime.configuration.issuers import load_issuers
from bot.runtime.operators import control
from bot.telemetry.commands.keys import Ed25519Key, HmacSecret, new_private_key, new_secret
from bot.telemetry.commands.signing import compose, encode, sign_text
from tests.acceptance.stand import Stand, open_stand, showing, until
from tests.broker import HOST, Mosquitto, free_port, mosquitto
from tests.browser.stand import VAULT_FILE, Chromium, log_in
from tests.runtime.chain_files import WALLET, chain_vault
from tests.runtime.command_line import PATIENCE_S, CommandLine, Process, open_command_line
from tests.venues.deribit import TEST_KEY, TEST_SECRET, DeribitServer
from tests.venues.faults import garbage, http

PART_CHARS: Final = 12  # of a secret that may not be seen either: enough to know it again, too long to be chance
SPEED: Final = "2"
FUZZED: Final = 60  # pieces of garbage for each door
USER: Final = "windows"
PATHS: Final = ("/", "/audit", "/vault/busy", "/vault/mm", "/risk", "/replay")

DESK: Final = """\
mqtt: {{host: 127.0.0.1, port: {mqtt_port}, username: {user}, password_env: EVENKEEL_TEST_BROKER,
        state_every_s: 1}}
http: {{port: {http_port}}}
issuers:
  alice: {{public_key: {alice}, may: [all]}}
  bob: {{secret_env: EVENKEEL_TEST_BOB, may: [pause, resume]}}
alerts: {{destinations: [{{url_env: EVENKEEL_TEST_ALERTS, at_least: info}}], settle_s: 0}}
dashboard:
  port: {port}
  issuer: bob
  signing_key_env: EVENKEEL_TEST_BOB
  users:
    carol: {{password_hash: "{hash}", role: operator}}
"""


class Planted:
    """A secret of each kind, all drawn anew; `texts` by what they are."""

    def __init__(self) -> None:
        self.alice: Ed25519Key = new_private_key()
        self.bob: HmacSecret = new_secret()
        self.alert_port = free_port()  # where nobody listens, so that failing is told of
        self.texts = {
            "key of the venue": TEST_KEY,
            "secret of the venue": TEST_SECRET,
            "wrong key, from the environment": _drawn(),
            "wrong secret, from the environment": _drawn(),
            "wrong key, from a file": _drawn(),
            "wrong secret, from a file": _drawn(),
            "password of the broker": f'{_drawn()}/+"&=é',
            "secret of the alerts": _drawn(),
            "token of the alerts": _drawn(),
            "password of the dashboard": f"{_drawn()} <&'\"> {_drawn()}",
            "key of a node": _drawn(),
            "password of a keystore": f"{_drawn()}$%/ {_drawn()}",
            "private key of alice": self.alice.text().partition(":")[2],
            "secret of bob": self.bob.text().partition(":")[2],
        }
        self.hash = PasswordHasher(time_cost=1, memory_cost=64, parallelism=1).hash(self["password of the dashboard"])
        self.texts["hash of the dashboard's password"] = self.hash.rpartition("$")[2]

    def __getitem__(self, what: str) -> str:
        return self.texts[what]

    @property
    def environ(self) -> dict[str, str]:
        """What the desk's processes are told."""
        return {
            "EVENKEEL_TEST_BROKER": self["password of the broker"],
            "EVENKEEL_TEST_BOB": self.bob.text(),
            "EVENKEEL_TEST_ALERTS": f"json://desk:{self['secret of the alerts']}@127.0.0.1:{self.alert_port}/"
            f"{self['token of the alerts']}",
            "EVENKEEL_DERIBIT_API_KEY": self["wrong key, from the environment"],
            "EVENKEEL_DERIBIT_SECRET": self["wrong secret, from the environment"],
            "EVENKEEL_LOCAL_RPC": f"http://127.0.0.1:{self.alert_port}/v2/{self['key of a node']}",
            "EVENKEEL_LOCAL_WS": f"ws://127.0.0.1:{self.alert_port}/v2/{self['key of a node']}",
            "EVENKEEL_LOCAL_PASSWORD": self["password of a keystore"],
        }

    def needles(self) -> dict[bytes, tuple[str, str]]:
        """Return what is looked for; what holds another of these is found with it."""
        found = {needle: (what, form) for what, text in self.texts.items() for form, needle in forms(text).items()}
        return {one: named for one, named in found.items() if not any(other in one for other in found if other != one)}


def found_in(content: bytes, needles: Mapping[bytes, tuple[str, str]]) -> list[str]:
    """Return which needles a content gives away, and in which words."""
    return [
        f"{what} as {form}: …{content[max(0, at - 60) : at + 60]!r}…"
        for needle, (what, form) in needles.items()
        if (at := content.find(needle)) >= 0
    ]


def _drawn() -> str:
    return secrets.token_urlsafe(18)


def forms(text: str) -> dict[str, bytes]:
    """Return how a secret may be written; parts of it count too, since texts are cut to a length."""
    raw = text.encode()
    found = {
        "it is": raw,
        "its beginning": text[:PART_CHARS].encode(),
        "its end": text[-PART_CHARS:].encode(),
        "hexadecimal": raw.hex().encode(),
        "of a URL": quote(text, safe="").encode(),
        "of a path": quote(text).encode(),
        "of a form": quote_plus(text).encode(),
        "JSON": json.dumps(text)[1:-1].encode(),
        "UTF-16": text.encode("utf-16-le"),
    }
    for shift in range(3):  # base64 of something that holds it, wherever it begins
        kept = slice(4 if shift else 0, -4)
        found[f"base64 at {shift}"] = base64.b64encode(bytes(shift) + raw)[kept]
        found[f"URL-safe base64 at {shift}"] = base64.urlsafe_b64encode(bytes(shift) + raw)[kept]
    with suppress(ValueError):  # a key is base64 itself: its bytes count too
        if len(key := base64.b64decode(raw, validate=True)) >= PART_CHARS:
            found |= {"bytes": key, "hexadecimal bytes": key.hex().encode()}
    return found


class Evidence(NamedTuple):
    """What was gathered: contents by where they come from, and what the doors answered to garbage."""

    planted: Planted
    contents: dict[str, bytes]
    ended: list[str]  # what ended that should not have
    after_garbage: list[str]  # what a door says once more, when all is over


@pytest.fixture(scope="module")
def evidence() -> Iterator[Evidence]:
    """Run the desk once, and keep what it said."""
    with ExitStack() as stack:
        planted = Planted()
        outputs = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ek-out-")))
        evenkeel = stack.enter_context(open_command_line(outputs))
        stand = stack.enter_context(open_stand(evenkeel))
        broker, heard = stack.enter_context(_guarded_broker(planted))
        gathering = Gathering(evenkeel, stand, broker, planted, heard)
        found = asyncio.run(gathering.gather())
        for path in sorted(outputs.rglob("*")):
            if path.is_file():
                found.contents[f"output {path.relative_to(outputs)}"] = path.read_bytes()
        yield found


@contextmanager
def _guarded_broker(planted: Planted) -> Iterator[tuple[Mosquitto, Path]]:
    """Run a broker that wants our password, and a stock client that writes down all it hears."""
    with tempfile.TemporaryDirectory(prefix="ek-pw-") as name:
        folder, password = Path(name), planted["password of the broker"]
        known = folder / "passwords"
        known.touch(0o600)
        known.write_text(f"{USER}:{password}\n")
        subprocess.run(["mosquitto_passwd", "-U", str(known)], check=True, capture_output=True)
        (folder / "mosquitto_sub").write_text(f"-u {USER}\n-P {password}\n")  # not among the arguments
        with mosquitto(config=["allow_anonymous false", f"password_file {known}"]) as broker:
            command = ["mosquitto_sub", *broker.arguments(), "-V", "5", "-t", "#", "-F", "%t %R %D %P %p"]
            environ = {**os.environ, "XDG_CONFIG_HOME": name}
            with (folder / "heard").open("wb") as heard:
                listener = subprocess.Popen(command, stdout=heard, stderr=heard, env=environ)
            try:
                yield broker, folder / "heard"
            finally:
                listener.kill()
                listener.wait()


class Arguments(threading.Thread):
    """Looks at the arguments of every process of the machine, again and again."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.seen: set[bytes] = set()
        self.over = threading.Event()

    def run(self) -> None:
        while not self.over.wait(0.25):
            for path in Path("/proc").glob("[0-9]*/cmdline"):
                with suppress(OSError):
                    self.seen.add(path.read_bytes())


class Gathering:
    """Runs everything, in order, and collects what is said."""

    def __init__(self, evenkeel: CommandLine, stand: Stand, broker: Mosquitto, planted: Planted, heard: Path) -> None:
        self.evenkeel = evenkeel
        self.stand = stand
        self.broker = broker
        self.planted = planted
        self.heard = heard
        self.port, self.http_port = free_port(), free_port()
        self.contents: dict[str, bytes] = {}
        self.ended: list[str] = []
        self.private = {"deribit-keys.yaml", "wrong-keys.yaml", "desk.yaml", "new.key", "shared.key"}  # hold them
        self._rng = random.Random(7)

    async def gather(self) -> Evidence:
        arguments = Arguments()
        arguments.start()
        try:
            async with DeribitServer(self.stand.market.book) as server, showing(self.stand.market.show):
                self._write(server)
                body = f"<html>{TEST_KEY} {TEST_SECRET} {quote(TEST_SECRET)}"
                server.faults.next("create", http(502, body=body), count=2)
                server.faults.next("create", garbage(is_executed=False, body=body), count=2)
                server.faults.next("positions", garbage(body=body), count=2)
                daemon, dashboard = await self._start()
                await self._order()
                await asyncio.to_thread(self._browse)
                await self._run_others()
                after = await asyncio.to_thread(self._throw_garbage)
                self._collect_files("while it runs")
                self.ended += [one.err[-2_000:] for one in (daemon, dashboard) if one.is_over]
                for process in (daemon, dashboard):
                    process.send(signal.SIGTERM)
                    code = (await asyncio.to_thread(process.wait)).code
                    if code:
                        self.ended.append(f"{code}: {process.err[-2_000:]}")
        finally:
            arguments.over.set()
        self._collect_files("afterwards")
        self.contents["arguments"] = b"\n".join(arguments.seen)
        self.contents["log of the broker"] = self.broker.log.encode()
        lines = self.heard.read_bytes().splitlines()
        ours = [line for line in lines if not line.partition(b" ")[0].endswith(b"/commands")]  # what we sent ourselves
        self.contents["messages"] = b"\n".join(ours)
        return Evidence(self.planted, self.contents, self.ended, after)

    def _write(self, server: DeribitServer) -> None:
        """Write vaults and desk: a replay, a live one, one whose keys are wrong, one of a chain nobody answers for."""
        folder, planted = self.stand.folder, self.planted
        self.stand.write_vault(server)
        right = self.stand.file.read_text()
        from_file = right.replace("vault: mm", "vault: wrong").replace("deribit-keys", "wrong-keys")
        from_environ = right.replace("vault: mm", "vault: environ").replace("deribit-keys.yaml", "env")
        (folder / "wrong.yaml").write_text(from_file)
        (folder / "environ.yaml").write_text(from_environ)
        wrong = {"api_key": planted["wrong key, from a file"], "secret": planted["wrong secret, from a file"]}
        self.stand.write_keys("wrong", wrong)
        (folder / "busy.yaml").write_text(VAULT_FILE + "state_dir: s\n")
        (folder / "chain.yaml").write_text(chain_vault().replace("mode: paper", "mode: live") + "state_dir: s\n")
        keystore = Account.encrypt("0x" + secrets.token_hex(32), "another password", iterations=2)
        (folder / "hedger.json").touch(0o600)
        (folder / "hedger.json").write_text(json.dumps(keystore | {"address": WALLET[2:].lower()}))
        text = DESK.format(
            mqtt_port=self.broker.port, user=USER, http_port=self.http_port, port=self.port, hash=planted.hash,
            alice=planted.alice.verifier().text(),
        )  # fmt: skip
        (folder / "desk.yaml").write_text(text)

    async def _start(self) -> tuple[Process, Process]:
        vaults = ("busy.yaml", "mm.yaml")
        daemon = await self._launch("run", *vaults, "--live", "--speed", SPEED, "--desk", "desk.yaml")
        dashboard = await self._launch("dashboard", "desk.yaml", *vaults)
        for name in ("busy", "mm"):
            assert await until(lambda name=name: daemon.is_over or self._hears(name)), daemon.err[-3_000:]
        assert await until(lambda: dashboard.is_over or "dashboard at" in dashboard.err)
        assert not daemon.is_over, daemon.err[-3_000:]
        assert not dashboard.is_over, dashboard.err[-3_000:]
        assert await until(lambda: "commands.open" in daemon.err), daemon.err[-3_000:]
        return daemon, dashboard

    async def _launch(self, *arguments: str, **more: str) -> Process:
        environ = self.planted.environ | more
        return await asyncio.to_thread(
            self.evenkeel.start, "-v", "--log-json", *arguments, cwd=self.stand.folder, environ=environ
        )

    async def _run(self, *arguments: str, **more: str) -> int:
        process = await self._launch(*arguments, **more)
        return (await asyncio.to_thread(process.wait)).code

    def _hears(self, vault: str) -> bool:
        return f"/{vault}/".encode() in self.heard.read_bytes()

    async def _order(self) -> None:
        """Order what is done, what is refused, and what holds secrets where none belong."""
        alice, bob = {KEY_ENV: self.planted.alice.text()}, {KEY_ENV: self.planted.bob.text()}
        half, bare = {KEY_ENV: self.planted.alice.text()[:-9]}, {KEY_ENV: self.planted["private key of alice"]}
        steps: list[tuple[str, str, dict[str, str], int, tuple[str, ...]]] = [
            ("pause", "alice", alice, 0, ()),
            ("resume", "bob", bob, 0, ()),
            ("halt", "bob", bob, 1, ()),
            ("pause", "alice", half, 2, ()),
            ("pause", "alice", bare, 2, ()),
            ("pause", "bob", alice, 5, ("--wait", "0.1")),
        ]
        line = self.stand.folder / "s" / "busy.sock"
        for verb, action in (("operate", "pause"), ("operate", "halt"), ("reload", "")):
            for what in ("password of the broker", "token of the alerts"):  # as a person at this machine would
                asked = {"verb": verb, "action": action, "issuer": "kim", "reason": f"it is {self.planted[what]}"}
                if ("error" in (told := control.ask(line, asked))) is (action == "halt"):
                    self.ended.append(f"{verb} {action}: expected only a halt to be carried out, found {told}")
        control.ask(line, {"verb": "operate", "action": "resume", "issuer": "kim", "reason": "a test"})
        for action, issuer, key, code, more in steps:
            order = ("order", action, "busy", "--desk", "desk.yaml", "--issuer", issuer, "--reason", "a test", *more)
            found = await self._run(*order, **key)
            if found != code:
                self.ended.append(f"{action} by {issuer}: expected exit code {code}, found {found}")
        section = MqttSection(host=HOST, port=self.broker.port, username=USER, password_env="EVENKEEL_TEST_BROKER")
        async with Broker(section, self.planted.environ).client("test") as client:
            for payload in self._mangled():
                await client.publish("evenkeel/v1/busy/commands", payload, qos=1)
        last = await self._run(
            "order", "pause", "busy", "--desk", "desk.yaml", "--issuer", "alice", "--reason", "the last", **alice
        )
        assert last == 0  # everything before it has been looked at

    def _mangled(self) -> Iterator[bytes]:
        """Yield commands with secrets that the windows hold in every place of theirs, signed, forged and broken."""
        for text in (self.planted["secret of bob"], self.planted["password of the broker"]):
            good = msgspec.to_builtins(
                compose("pause", vault="busy", issuer="alice", reason="a test", now_ns=time.time_ns())
            )
            for field in ("command_id", "vault", "issuer", "action", "reason", text):
                wrong = json.dumps(good | {field: text})
                yield encode(sign_text(wrong, self.planted.alice))
                yield json.dumps({"command": wrong, "signature": text}).encode()
            given = {"action": "acknowledge", "arguments": {"alert_id": text}, "command_id": secrets.token_hex(16)}
            yield encode(sign_text(json.dumps(good | given), self.planted.alice))
            yield text.encode()

    def _browse(self) -> None:
        """Look at every page as a person does, log in wrongly and rightly, give an order."""
        chromium = Chromium()
        try:
            chromium.do(lambda: self._look(chromium.profile().new_page()))
        finally:
            chromium.close()

    def _look(self, page: Page) -> None:
        url = f"http://127.0.0.1:{self.port}"
        said: list[bytes] = []

        def keep(frame: str | bytes) -> None:
            said.append(frame.encode() if isinstance(frame, str) else frame)

        page.set_default_timeout(60_000)
        page.on("websocket", lambda line: line.on("framereceived", keep))
        page.on("console", lambda message: keep(message.text))
        page.goto(f"{url}/login")
        for user, password in ((self.planted["password of the dashboard"], "carol"), ("carol", "a wrong one")):
            log_in(page, user, password)
            page.wait_for_selector("#problem")
            said.append(page.content().encode())
        log_in(page, "carol", self.planted["password of the dashboard"])
        for path in PATHS:
            answer = page.goto(url + path)
            assert answer is not None
            said += [answer.body(), json.dumps(answer.headers).encode()]
            page.wait_for_selector("html[data-live]")
            said.append(page.content().encode())
        (cookie,) = page.context.cookies()
        self.planted.texts["session at the dashboard"] = cookie["value"]
        wishes: list[tuple[str, str]] = [("resume", "a test"), ("pause", self.planted["secret of bob"])]
        for action, reason in wishes:
            said.append(page.evaluate(GIVE, {"vault": "busy", "action": action, "reason": reason}).encode())
        page.goto(f"{url}/audit")
        page.get_by_text("carol: a test").first.wait_for()
        said.append(page.content().encode())
        self.contents["pages"] = b"\n".join(said)

    async def _run_others(self) -> None:
        """Run what else people run, on good files and on bad ones."""
        folder, planted = self.stand.folder, self.planted
        malformed = {
            "EVENKEEL_TEST_BOB": planted["secret of bob"],
            "EVENKEEL_TEST_ALERTS": planted["token of the alerts"],
            "EVENKEEL_TEST_BROKER": "",
        }
        steps: list[tuple[tuple[str, ...], int, dict[str, str]]] = [
            (("doctor", "wrong.yaml", "environ.yaml", "chain.yaml"), 4, {}),
            (("run", "environ.yaml", "--live"), 4, {}),
            (("run", "wrong.yaml", "--live", "--desk", "desk.yaml"), 2, malformed),
            (("windows", "desk.yaml", "wrong.yaml"), 2, malformed),
            (("dashboard", "desk.yaml", "wrong.yaml"), 2, malformed),
            (("keys", "new", "--out", "new.key"), 0, {}),
            (("keys", "new", "--hmac", "--out", "shared.key"), 0, {}),
            (("status", "mm.yaml", "--json"), 0, {}),
            (("alerts", "busy.yaml", "mm.yaml"), 0, {}),
            (("tail", "busy.yaml", "mm.yaml", "--since", "0"), 0, {}),
            (("journal", "export", "s/mm.sqlite"), 0, {}),
        ]
        for arguments, expected, environ in steps:
            if (code := await self._run(*arguments, **environ)) != expected:
                self.ended.append(f"{arguments}: expected exit code {expected}, found {code}")
        for name in ("new", "shared"):
            planted.texts[f"{name} key"] = (folder / f"{name}.key").read_text().strip().partition(":")[2]
        self.private.add("bad.yaml")
        for number, text in enumerate(self._bad_files()):
            (folder / "bad.yaml").write_text(text)
            try:  # as every command does that is given one
                load_issuers(load_desk(folder / "bad.yaml"), planted.environ)
            except ConfigError as error:
                self.contents[f"bad file {number}"] = str(error).encode()
            else:
                self.ended.append(f"bad file {number}: expected an error, found none")

    def _bad_files(self) -> Iterator[str]:
        """Yield desk files of people who put a secret where its variable's name belongs, or elsewhere."""
        planted = self.planted
        password, url = (
            json.dumps(planted["password of the broker"]),
            json.dumps(planted.environ["EVENKEEL_TEST_ALERTS"]),
        )
        alice, bob = json.dumps(planted.alice.text()), json.dumps(planted.bob.text())
        yield f"mqtt: {{password: {password}}}\n"
        yield f"mqtt: {{password_env: {password}}}\n"
        yield f"mqtt: {{username: [{password}]}}\n"
        yield f"mqtt: {{host: {{{password}: 1}}}}\n"
        yield f"issuers: {{alice: {{public_key: {alice}, may: [all]}}}}\n"
        yield f"issuers: {{bob: {{secret_env: {bob}, may: [all]}}}}\n"
        yield f"issuers: {{bob: {{key: {bob}, may: [all]}}}}\n"
        yield f"issuers: {{bob: {bob}}}\n"
        yield f"alerts: {{destinations: [{url}]}}\n"
        yield f"alerts: {{destinations: [{{url: {url}}}]}}\n"
        yield f"alerts: {{destinations: [{{url_env: {url}}}]}}\n"
        yield f"alerts: {{destinations: {url}}}\n"
        carol = json.dumps(planted["password of the dashboard"])
        yield f"dashboard: {{users: {{carol: {{password_hash: {carol}}}}}}}\n"
        yield f"dashboard: {{users: {{carol: {carol}}}}}\n"
        yield f"dashboard: {{users: {{carol: {{hash: {planted.hash}}}}}}}\n"
        yield f"dashboard: {{issuer: alice, signing_key_env: {alice}}}\n"
        yield f"dashboard: {{signing_key: {alice}}}\n"
        yield f"mqtt: {{host: *{planted['token of the alerts']}}}\n"
        yield f'mqtt: {{host: "{planted["token of the alerts"]}\n'

    def _throw_garbage(self) -> list[str]:
        """Throw garbage at every door, and return what the doors say when asked properly afterwards."""
        folder = self.stand.folder / "s"
        doors: dict[str, Callable[[], socket.socket]] = {
            "dashboard": lambda: socket.create_connection((HOST, self.port), PATIENCE_S),
            "metrics": lambda: socket.create_connection((HOST, self.http_port), PATIENCE_S),
            "windows": lambda: _called(folder / ".windows.sock"),
            "daemon": lambda: _called(folder / "busy.sock"),
        }
        for name, call in doors.items():
            pieces = self._asked_badly() if name in ("windows", "daemon") else self._requested_badly()
            answers = [_thrown(call, next(pieces)) for _ in range(FUZZED)]
            self.contents[f"answers of the {name} to garbage"] = b"\n".join(answers)
        found = []
        for port, path in ((self.http_port, "metrics"), (self.http_port, "healthz"), (self.port, "login")):
            with urlopen(f"http://127.0.0.1:{port}/{path}", timeout=PATIENCE_S) as answer:
                self.contents[f"page {path}"] = answer.read()
                found.append(f"{path}: {answer.status}")
        self.contents["page readyz"] = _thrown(doors["metrics"], b"GET /readyz HTTP/1.1\r\nHost: a\r\n\r\n")
        found.append(f"windows: {sorted(control.ask(folder / '.windows.sock', {'verb': 'alerts'}))}")
        found.append(f"daemon: {control.ask(folder / 'busy.sock', {'verb': 'state'})['vault']}")
        return found

    def _requested_badly(self) -> Iterator[bytes]:
        """Yield what HTTP is not, or barely: noise, half requests, forms with secrets and nonsense in them."""
        rng, texts = self._rng, list(self.planted.texts.values())
        while True:
            text = quote(rng.choice(texts), safe="")
            noise = rng.randbytes(rng.randrange(1, 300))
            form = b"user=" + text.encode() + b"&password=" + quote(noise).encode() + b"&token=" + noise.hex().encode()
            head = f"Host: 127.0.0.1:{self.port}\r\nOrigin: http://127.0.0.1:{self.port}\r\n".encode()
            kind = b"Content-Type: application/x-www-form-urlencoded\r\n"
            length = b"Content-Length: %d\r\n\r\n" % rng.choice([len(form), len(form) + 7, 3, 10**12])
            yield rng.choice(
                [
                    noise,
                    b"GET " + noise + b" HTTP/1.1\r\n\r\n",
                    b"POST /login HTTP/1.1\r\n" + head + kind + length + form,
                    b"POST /login HTTP/1.1\r\n"
                    + head
                    + kind
                    + b"Cookie: evenkeel_before=x; evenkeel="
                    + text.encode()
                    + b"\r\n"
                    + length
                    + form,
                    b"POST /login HTTP/1.1\r\n" + head + b"Transfer-Encoding: chunked\r\n\r\nffffffff\r\n" + form,
                    b"GET /metrics HTTP/1.1\r\nX: " + noise + b"\r\n\r\n",
                    b"GET /metrics?"
                    + quote(noise).encode()
                    + b" HTTP/1.1\r\nHost: "
                    + noise.hex().encode() * 9
                    + b"\r\n\r\n",
                    b"GET /login HTTP/1.1\r\n" + b"X: y\r\n" * 500 + b"\r\n",
                    b"OPTIONS * HTTP/3.7\r\n\r\n",
                ]
            )

    def _asked_badly(self) -> Iterator[bytes]:
        """Yield what no question is: noise, deep and long JSON, verbs and fields of all types."""
        rng = self._rng
        odd: list[Any] = [None, True, -1, 1e308, "", "x" * 900, [], {}, {"verb": "alerts"}, "\x00", "\ud800", [[[]]]]
        while True:
            fields = {
                name: rng.choice(odd) for name in ("action", "issuer", "reason", "command_id", "alert_id", "underlying")
            }
            verb = rng.choice([*odd, "operate", "acknowledge", "alerts", "state", "reload"])
            asked = json.dumps({"verb": verb, **fields}).encode()
            yield rng.choice(
                [
                    rng.randbytes(rng.randrange(1, 300)) + b"\n",
                    asked + b"\n",
                    asked + b"\n",
                    asked[: rng.randrange(len(asked))] + b"\n",
                    b"[" * 5_000 + b"\n",
                    b'"' + b"a" * 70_000 + b'"\n',
                    b"\n\n\n",
                ]
            )

    def _collect_files(self, when: str) -> None:
        for path in sorted(self.stand.folder.rglob("*")):
            if path.is_file() and path.name not in self.private:
                with suppress(FileNotFoundError):
                    self.contents[f"{path.relative_to(self.stand.folder)} {when}"] = path.read_bytes()


GIVE: Final = """async (wish) => (await fetch("/order", {
    method: "POST", body: JSON.stringify(wish),
    headers: { "Content-Type": "application/json", "X-CSRF-Token": document.getElementById("top").dataset.csrf },
})).text()"""


def _called(path: Path) -> socket.socket:
    line = socket.socket(socket.AF_UNIX)
    line.settimeout(PATIENCE_S)
    line.connect(str(path))
    return line


def _thrown(call: Callable[[], socket.socket], piece: bytes) -> bytes:
    """Send something, and return what comes back until the other side hangs up or has nothing more to say."""
    said = b""
    with call() as line, suppress(ConnectionError, BrokenPipeError):
        line.sendall(piece)
        line.shutdown(socket.SHUT_WR)
        while part := line.recv(65_536):
            said += part
    return said


def test_no_secret_is_found_in_anything_that_leaves_the_desk(evidence: Evidence) -> None:
    needles = evidence.planted.needles()
    leaks = [f"{where}: {leak}" for where, content in evidence.contents.items() for leak in found_in(content, needles)]
    assert not leaks, "\n".join(leaks)


def test_the_search_finds_what_is_there(evidence: Evidence) -> None:
    needles = evidence.planted.needles()
    for what, text in evidence.planted.texts.items():
        for written in (text, quote(text), json.dumps(text), base64.b64encode(f"user:{text}".encode()).decode()):
            found = found_in(f"<{written}>".encode(), needles)
            assert [leak for leak in found if leak.startswith(what)], (what, written)


def test_everything_was_searched(evidence: Evidence) -> None:
    contents = evidence.contents
    assert evidence.ended == []
    for name in (
        "s/busy.sqlite",
        "s/mm.sqlite",
        "s/mm.sqlite-wal",
        "s/busy.published",
        "s/busy.commands",
        "s/windows.alerts",
    ):
        assert contents[f"{name} while it runs"], name
    for topic in (b"v1/busy/status", b"v1/mm/", b"/answers"):
        assert topic in contents["messages"], topic
    outputs = b"\n".join(text for name, text in contents.items() if name.startswith("output "))
    for said in (
        b"command.answered",
        b"command.refused",
        b"alert.told",
        b"command_refused",
        b"dashboard.login_refused",
        b"found Authentication",
    ):
        assert said in outputs, said
    assert b"--until-eof" in contents["arguments"]
    assert b"evenkeel_http_requests_total" in contents["page metrics"]
    assert b"carol: a test" in contents["pages"]


def test_garbage_at_the_doors_breaks_nothing(evidence: Evidence) -> None:
    assert evidence.after_garbage == [
        "metrics: 200",
        "healthz: 200",
        "login: 200",
        "windows: ['alerts']",
        "daemon: busy",
    ]
    for name in ("dashboard", "metrics"):
        assert b" 500 " not in evidence.contents[f"answers of the {name} to garbage"]
    outputs = b"\n".join(text for name, text in evidence.contents.items() if name.startswith("output "))
    assert b"Traceback" not in outputs, outputs[outputs.find(b"Traceback") - 500 :][:4_000].decode()
