"""Alerts arrive at real destinations on loopback, or wait, and hold up nobody."""

from __future__ import annotations

import io
import logging
import socket
import time
from collections.abc import Iterator

import msgspec
import pytest
import structlog
from apprise.plugins.slack import NotifySlack
from apprise.plugins.telegram import NotifyTelegram

from bot.domain.windows import Severity
from bot.telemetry.alerts.keeper import Telling, Word
from bot.telemetry.alerts.sending import MAX_WAITING, Destination, Sender, Waiting, is_address
from bot.telemetry.logs import configure_logging
from tests.runtime.command_line import wait_for
from tests.telemetry.alerts.destinations import Webhook, open_mail_server, open_webhook
from tests.telemetry.alerts.test_telling import ALERT, OPENED

SECRET = "s3cr3t-t0ken-of-nobody"
SOON = (0.01,)


@pytest.fixture
def webhook() -> Iterator[Webhook]:
    with open_webhook() as opened:
        yield opened


@pytest.fixture
def logged() -> Iterator[io.StringIO]:
    """Everything that is logged, by us and by libraries, at the lowest level there is."""
    stream = io.StringIO()
    root = logging.getLogger()
    level, handler = root.level, logging.StreamHandler(stream)
    configure_logging("debug", as_json=True, stream=stream)
    root.addHandler(handler)
    root.setLevel(1)
    yield stream
    root.removeHandler(handler)
    root.setLevel(level)
    structlog.reset_defaults()


def hook(webhook: Webhook, name: str = "HOOK", at_least: Severity = Severity.WARNING) -> Destination:
    # patient: who gives up on an answer that is late sends again, and it arrives twice
    return Destination(name, f"json://user:{SECRET}@127.0.0.1:{webhook.port}/{SECRET}?cto=60&rto=60", at_least)


def tellings(count: int, **changes: object) -> list[Telling]:
    alerts = [msgspec.structs.replace(ALERT, alert_id=f"eth:{n}", title=f"number {n}", **changes) for n in range(count)]
    return [Telling(Word.OPENED, alert, "") for alert in alerts]


def numbers(webhook: Webhook) -> list[int]:
    return [int(title.rpartition(" ")[2]) for title in webhook.titles]


@pytest.fixture
def sent_by(request: pytest.FixtureRequest) -> Iterator[type[Sender]]:
    """Senders that are stopped in the end."""
    made: list[Sender] = []

    class Kept(Sender):
        def start(self, waiting: dict[str, list[Waiting]] | None = None) -> None:  # type: ignore[override]
            made.append(self)
            super().start(waiting)

    del request
    yield Kept
    for sender in made:
        sender.stop(0.2)  # apprise takes its time between two mails


class TestArriving:
    def test_at_a_webhook(self, webhook: Webhook, sent_by: type[Sender]) -> None:
        sender = sent_by([hook(webhook)])
        sender.start()
        sender.send([OPENED, msgspec.structs.replace(OPENED, word=Word.OVER)], time.time_ns())
        wait_for(lambda: len(webhook.posts) == 2)
        (path, body), (_, over) = webhook.posts
        assert path == f"/{SECRET}"
        assert body["title"] == "CRITICAL eth: halted by the bot itself"
        assert (body["type"], over["type"]) == ("failure", "success")
        assert "reject_streak: 5 in a row" in body["message"]
        wait_for(lambda: sender.pending() == {"HOOK": []})
        assert sender.failing() == {}

    def test_by_mail(self, sent_by: type[Sender]) -> None:
        with open_mail_server() as (port, mails):
            url = f"mailto://127.0.0.1:{port}?from=evenkeel@desk.test&to=ann@desk.test"
            sender = sent_by([Destination("MAIL", url, Severity.INFO)])
            sender.start()
            sender.send([OPENED], time.time_ns())
            (mail,) = wait_for(lambda: list(mails))
            assert mail["Subject"] == "CRITICAL eth: halted by the bot itself"
            assert mail["To"] == "ann@desk.test"
            assert "reject_streak: 5 in a row" in mail.as_string()
            wait_for(lambda: sender.pending() == {"MAIL": []})

    def test_at_telegram_as_apprise_has_it(
        self, webhook: Webhook, sent_by: type[Sender], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(NotifyTelegram, "notify_url", f"http://127.0.0.1:{webhook.port}/bot")
        sender = sent_by(
            [Destination("TG", "tgram://123456789:abcdefghijklmnopqrstuvwxyzABCDEFGHI/4242", Severity.INFO)]
        )
        sender.start()
        sender.send([OPENED], time.time_ns())
        ((path, body),) = wait_for(lambda: list(webhook.posts))
        assert path.endswith("/sendMessage")
        assert str(body["chat_id"]) == "4242"
        assert "halted by the bot itself" in body["text"]

    def test_at_slack_as_apprise_has_it(
        self, webhook: Webhook, sent_by: type[Sender], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(NotifySlack, "webhook_url", f"http://127.0.0.1:{webhook.port}/services")
        sender = sent_by(
            [Destination("SLACK", "slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ/#desk", Severity.INFO)]
        )
        sender.start()
        sender.send([OPENED], time.time_ns())
        ((path, body),) = wait_for(lambda: list(webhook.posts))
        assert path.startswith("/services/")
        assert "halted by the bot itself" in str(body)

    def test_only_what_is_bad_enough(self, webhook: Webhook, sent_by: type[Sender]) -> None:
        sender = sent_by([hook(webhook, at_least=Severity.CRITICAL)])
        sender.start()
        sender.send(tellings(3, severity=Severity.WARNING), time.time_ns())
        sender.send([OPENED], time.time_ns())
        wait_for(lambda: webhook.posts)
        assert webhook.titles == ["CRITICAL eth: halted by the bot itself"]

    def test_what_a_restart_left_first(self, webhook: Webhook, sent_by: type[Sender]) -> None:
        first, second = (Waiting(told, time.time_ns()) for told in tellings(2))
        sender = sent_by([hook(webhook)])
        sender.send([OPENED], time.time_ns())
        sender.start({"HOOK": [first, second], "OF_OLD": [first]})
        wait_for(lambda: len(webhook.posts) == 3)
        assert webhook.titles == [
            "CRITICAL eth: number 0",
            "CRITICAL eth: number 1",
            "CRITICAL eth: halted by the bot itself",
        ]


class TestTrouble:
    def test_one_that_refuses_gets_all_of_it_later_in_order(self, webhook: Webhook, sent_by: type[Sender]) -> None:
        webhook.status = 503
        sender = sent_by([hook(webhook)], again_s=SOON)
        sender.start()
        sender.send(tellings(5), time.time_ns())
        why = wait_for(lambda: "10 failures" in str(sender.failing()) and sender.failing()["HOOK"])
        assert "5 alerts wait" in why
        webhook.status = 200
        wait_for(lambda: len(webhook.posts) == 5)
        assert sorted(numbers(webhook)) == [0, 1, 2, 3, 4]
        wait_for(lambda: sender.failing() == {})

    def test_one_that_hangs_hides_no_other_and_holds_up_nobody(self, webhook: Webhook, sent_by: type[Sender]) -> None:
        with open_webhook() as stuck, socket.socket() as dead:
            stuck.hold.clear()
            dead.bind(("127.0.0.1", 0))  # listens to nobody
            gone = Destination("GONE", f"json://127.0.0.1:{dead.getsockname()[1]}/", Severity.INFO)
            sender = sent_by([hook(stuck, "STUCK"), gone, hook(webhook)])
            sender.start()
            sender.send(tellings(MAX_WAITING + 20), time.time_ns())
            wait_for(lambda: len(webhook.posts) >= MAX_WAITING)
            wait_for(lambda: sender.pending()["HOOK"] == [])
            assert stuck.posts == []
            assert len(sender.pending()["STUCK"]) == len(sender.pending()["GONE"]) == MAX_WAITING
            wait_for(lambda: "GONE" in sender.failing())

    def test_one_text_that_nobody_takes_does_not_keep_the_rest(self, webhook: Webhook, sent_by: type[Sender]) -> None:
        webhook.refuses = "number 0"
        sender = sent_by([hook(webhook)], again_s=SOON)
        sender.start()
        sender.send(tellings(4), time.time_ns())
        wait_for(lambda: len(webhook.posts) == 3)
        wait_for(lambda: sender.pending() == {"HOOK": []})
        assert numbers(webhook) == [1, 2, 3]

    def test_one_that_is_taken_late_is_not_lost(self, webhook: Webhook, sent_by: type[Sender]) -> None:
        webhook.refuses = "number 0"
        sender = sent_by([hook(webhook)], again_s=SOON)
        sender.start()
        sender.send(tellings(3), time.time_ns())
        wait_for(lambda: len(webhook.posts) == 2)
        webhook.refuses = ""
        wait_for(lambda: sender.pending() == {"HOOK": []})
        assert numbers(webhook) == [1, 2, 0]

    def test_what_makes_way_when_too_many_wait(self, sent_by: type[Sender], webhook: Webhook) -> None:
        sender = sent_by([hook(webhook)])  # not started: nothing leaves
        sender.send(tellings(1, severity=Severity.WARNING), time.time_ns())
        sender.send(tellings(MAX_WAITING), time.time_ns())
        waiting = sender.pending()["HOOK"]
        assert len(waiting) == MAX_WAITING
        assert {one.told.alert.severity for one in waiting} == {Severity.CRITICAL}

    def test_what_is_no_news_any_more_is_lost(self, webhook: Webhook, sent_by: type[Sender]) -> None:
        sender = sent_by([hook(webhook)])
        sender.send(tellings(1), time.time_ns() - 4000 * 1_000_000_000)
        sender.send([OPENED], time.time_ns())
        sender.start()
        wait_for(lambda: webhook.posts)
        assert webhook.titles == ["CRITICAL eth: halted by the bot itself"]


class TestSecrets:
    def test_an_address_is_never_logged(
        self, webhook: Webhook, sent_by: type[Sender], logged: io.StringIO, capsys: pytest.CaptureFixture[str]
    ) -> None:
        webhook.status = 500
        with socket.socket() as dead:
            dead.bind(("127.0.0.1", 0))
            port = dead.getsockname()[1]
            urls = {
                "HOOK": f"json://user:{SECRET}@127.0.0.1:{webhook.port}/{SECRET}",
                "DEAD": f"json://user:{SECRET}@127.0.0.1:{port}/{SECRET}",
                "MAIL": f"mailto://user:{SECRET}@127.0.0.1:{port}?from=a@desk.test&to=b@desk.test",
            }
            sender = sent_by([Destination(name, url, Severity.INFO) for name, url in urls.items()], again_s=SOON)
            sender.start()
            sender.send([OPENED], time.time_ns())
            wait_for(lambda: len(sender.failing()) == 3)
        assert not is_address(f"nosuch://{SECRET}@127.0.0.1/{SECRET}")
        assert not is_address(f"tgram://{SECRET}")
        with pytest.raises(ValueError, match="expected an apprise address in ODD") as raised:
            Sender([Destination("ODD", f"nosuch://{SECRET}", Severity.INFO)])
        shown = [logged.getvalue(), str(raised.value), repr(Destination("HOOK", urls["HOOK"], Severity.INFO))]
        shown += [str(sender.failing()), str(sender.pending()), *capsys.readouterr()]
        assert "alert.undelivered" in logged.getvalue()
        assert SECRET not in "\n".join(shown)
