"""Tellings on their way to people, through apprise: a thread and a bounded queue for each destination.

Whoever hands a telling over does not wait. A destination that is slow, dead or hostile holds up nobody and hides no
other. Addresses are secrets: they are never logged, and apprise, which names them in its texts, logs nothing at all.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

import apprise
import msgspec
import structlog

from bot.domain.windows import Severity
from bot.telemetry.alerts.keeper import Telling, Word
from bot.telemetry.alerts.telling import headline, text

MAX_WAITING: Final = 200  # tellings per destination
MAX_AGE_S: Final = 3600.0  # what could not be delivered for so long is news no more
SEND_TIMEOUT_S: Final = 45.0
MAX_HANGING: Final = 3  # calls that never returned, per destination
AGAIN_S: Final = (1.0, 2.0, 5.0, 10.0, 30.0, 60.0)
PROBE_EVERY: Final = 4  # failures in a row after which the next in line is tried: the first may be what is refused
MAX_PASSED: Final = 3  # of those tried so that got through: then it is the first that nobody takes
PARTING_S: Final = 2.0
SEVERITIES: Final = tuple(Severity)

_KINDS: Final = {
    Severity.INFO: apprise.NotifyType.INFO,
    Severity.WARNING: apprise.NotifyType.WARNING,
    Severity.CRITICAL: apprise.NotifyType.FAILURE,
}

log = structlog.get_logger()


class Destination(msgspec.Struct, frozen=True):
    """Where tellings go. `name` is that of the environment variable and may be shown, `url` may not."""

    name: str
    url: str
    at_least: Severity

    def __repr__(self) -> str:
        """Leave the address out."""
        return f"Destination({self.name})"


class Waiting(msgspec.Struct, frozen=True):
    """A telling that has not arrived; `since_ns` is of the wall clock."""

    told: Telling
    since_ns: int


Deliver = Callable[[Telling], bool]


class Sender:
    """Every destination with its thread. `pending` is what a restart has to take over."""

    def __init__(self, destinations: Sequence[Destination], *, again_s: Sequence[float] = AGAIN_S) -> None:
        silence_libraries()
        self._lines = {one.name: _Line(one, _deliver_by(one), again_s) for one in destinations}

    @property
    def changes(self) -> int:
        """How often what is pending changed; for whoever keeps it."""
        return sum(line.changes for line in self._lines.values())

    def start(self, waiting: Mapping[str, Sequence[Waiting]] | None = None) -> None:
        """Begin to deliver, first what was left from before; destinations that are no more lose theirs."""
        for name, line in self._lines.items():
            line.start((waiting or {}).get(name, ()))

    def send(self, tellings: Iterable[Telling], now_ns: int) -> None:
        """Take tellings to every destination that wants them, and return at once."""
        for told in tellings:
            for line in self._lines.values():
                if SEVERITIES.index(told.alert.severity) >= SEVERITIES.index(line.destination.at_least):
                    line.put(Waiting(told, now_ns))

    def pending(self) -> dict[str, list[Waiting]]:
        """Return what has not arrived yet, by destination."""
        return {name: line.pending() for name, line in self._lines.items()}

    def failing(self) -> dict[str, str]:
        """Return the destinations that nothing gets through to, and what is known of why; never an address."""
        return {name: why for name, line in self._lines.items() if (why := line.trouble())}

    def stop(self, patience_s: float = PARTING_S) -> None:
        """Give what is under way a moment, then end; what is left is `pending`."""
        for line in self._lines.values():
            line.stop()
        deadline_s = time.monotonic() + patience_s
        for line in self._lines.values():
            line.join(max(0.0, deadline_s - time.monotonic()))


class _Line:
    """One destination. Its thread alone delivers; the lock guards the queue and the counts."""

    def __init__(self, destination: Destination, deliver: Deliver, again_s: Sequence[float]) -> None:
        self.destination = destination
        self.changes = 0
        self._deliver = deliver
        self._again_s = again_s
        self._waiting: deque[Waiting] = deque()
        self._lock = threading.Condition()
        self._is_stopping = False
        self._failures = 0
        self._lost = 0
        self._passed = 0  # how often one behind the first in line got through, and that one did not
        self._hanging: list[threading.Thread] = []
        self._thread: threading.Thread | None = None

    def start(self, waiting: Sequence[Waiting]) -> None:
        with self._lock:
            if self._thread is None:  # else it has them already
                self._waiting.extendleft(reversed(waiting[-MAX_WAITING:]))
            self._is_stopping = False
        if self._thread is not None and self._thread.is_alive():
            return
        self._thread = threading.Thread(target=self._work, name=f"alerts to {self.destination.name}", daemon=True)
        self._thread.start()

    def put(self, one: Waiting) -> None:
        with self._lock:
            if len(self._waiting) >= MAX_WAITING:
                self._drop(_least(self._waiting))
            self._waiting.append(one)
            self.changes += 1
            self._lock.notify()

    def pending(self) -> list[Waiting]:
        with self._lock:
            return list(self._waiting)

    def trouble(self) -> str:
        with self._lock:
            if not self._failures:
                return ""
            hanging = f", {len(self._hanging)} calls hang" if self._hanging else ""
            lost = f", {self._lost} lost" if self._lost else ""
            return f"{self._failures} failures in a row, {len(self._waiting)} alerts wait{lost}{hanging}"

    def stop(self) -> None:
        with self._lock:
            self._is_stopping = True
            self._lock.notify()

    def join(self, patience_s: float) -> None:
        if self._thread is not None:
            self._thread.join(patience_s)

    # ── in its thread ────────────────────────────────────────────────────────────────────────────────────────────────

    def _work(self) -> None:
        while (one := self._next()) is not None:
            has_arrived = self._try(one.told)
            with self._lock:
                if has_arrived:
                    self._arrived(one)
                    continue
                self._failures += 1
                if self._failures == 1:
                    log.warning("alert.undelivered", destination=self.destination.name)
                pause_s = self._again_s[min(self._failures, len(self._again_s)) - 1]
                self._lock.wait_for(lambda: self._is_stopping, pause_s)

    def _next(self) -> Waiting | None:
        """Wait for something to deliver and return it, None at the end; what is stale by now is lost."""
        with self._lock:
            while True:
                self._lock.wait_for(lambda: self._waiting or self._is_stopping)
                if not self._waiting or (self._is_stopping and self._failures):
                    return None
                oldest = self._waiting[0]
                if time.time_ns() - oldest.since_ns <= MAX_AGE_S * 1e9:
                    break
                self._drop(oldest)
            is_probing = self._failures % PROBE_EVERY == PROBE_EVERY - 1 and len(self._waiting) > 1
            return self._waiting[1] if is_probing else oldest

    def _arrived(self, one: Waiting) -> None:
        if self._failures:
            log.info("alert.delivered_again", destination=self.destination.name, failures=self._failures)
        self._failures = 0
        self._passed = self._passed + 1 if self._waiting and self._waiting[0] is not one else 0
        if self._passed >= MAX_PASSED:
            self._drop(self._waiting[0])
            self._passed = 0
        with suppress(ValueError):  # it made way for another meanwhile
            self._waiting.remove(one)
        self.changes += 1

    def _drop(self, one: Waiting) -> None:
        with suppress(ValueError):  # it made way for another meanwhile
            self._waiting.remove(one)
        self._lost += 1
        self.changes += 1
        log.error("alert.lost", destination=self.destination.name, alert_id=one.told.alert.alert_id)

    def _try(self, told: Telling) -> bool:
        """Deliver in a thread that may be left behind: no library's timeout is trusted to hold."""
        self._hanging = [thread for thread in self._hanging if thread.is_alive()]
        if len(self._hanging) >= MAX_HANGING:
            return False
        answer: list[bool] = []
        call = threading.Thread(target=self._call, args=(told, answer), daemon=True)
        call.start()
        call.join(SEND_TIMEOUT_S)
        if call.is_alive():
            self._hanging.append(call)
        return answer == [True]

    def _call(self, told: Telling, answer: list[bool]) -> None:
        try:
            answer.append(self._deliver(told))
        except Exception as error:  # noqa: BLE001 — whatever a plugin raises, and its text may hold the address
            log.debug("alert.undelivered", destination=self.destination.name, error=type(error).__name__)


def _least(waiting: Iterable[Waiting]) -> Waiting:
    """Return what can be done without: the oldest of the least severity."""
    return min(waiting, key=lambda one: (one.told.word is not Word.OVER, SEVERITIES.index(one.told.alert.severity)))


def is_address(url: str) -> bool:
    """Tell whether apprise knows how to send to an address; nothing is sent."""
    silence_libraries()
    return bool(_apprise(url))


def _apprise(url: str) -> Any:  # noqa: ANN401 — apprise's own class, or None
    # its own timeout would leave threads behind that hold up the end of the process
    asset = apprise.AppriseAsset(
        service_timeout=0, app_id="Evenkeel", app_desc="Evenkeel", app_url="", async_mode=False
    )
    sending = apprise.Apprise(asset=asset)
    return sending if sending.add(url) else None


def _deliver_by(destination: Destination) -> Deliver:
    """Return what delivers to one destination. Raises ValueError, without the address, if apprise does not know it."""
    sending = _apprise(destination.url)
    if not sending:
        raise ValueError(f"expected an apprise address in {destination.name}, found something else")

    def deliver(told: Telling) -> bool:
        answer = sending.notify(
            title=headline(told),
            body=text(told),
            notify_type=_KINDS[told.alert.severity] if told.word is not Word.OVER else apprise.NotifyType.SUCCESS,
            body_format=apprise.NotifyFormat.TEXT,
        )
        return bool(answer)

    return deliver


def silence_libraries() -> None:
    """Keep what sends from logging: its texts hold addresses, and so credentials."""
    for name in ("apprise", "urllib3", "requests"):
        logger = logging.getLogger(name)
        logger.setLevel(logging.CRITICAL + 1)
        logger.propagate = False
        if not logger.handlers:
            logger.addHandler(logging.NullHandler())
