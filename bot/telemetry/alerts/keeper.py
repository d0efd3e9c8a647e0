"""Which alerts are open, who has been told of them, and which of them nobody answered. Time is an argument.

It takes findings in and hands tellings out. The same finding is told once, again only while it lasts, and is called
over when it has stayed away for a while; one that comes and goes is counted instead. What it knows goes to a file and
comes back, so that a restart neither tells anything again nor gives anybody more time to answer.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from enum import StrEnum
from typing import Final, NamedTuple

import msgspec

from bot.domain.units import NS_PER_S, utc_text
from bot.domain.windows import Alert, Severity
from bot.telemetry.alerts.rules import RULES, Finding, Rule

MAX_SUBJECTS: Final = 5  # of one kind in one vault that are told one by one; the rest is one alert together
MAX_OPENINGS: Final = 3  # tellings of a beginning within `repeat_s`; after that it only counts
DETAIL_NS: Final = 5 * NS_PER_S  # figures of an open alert are renewed this often: whoever shows it need not flicker
GRACE_NS: Final = 2 * NS_PER_S  # what is away for so long has not lasted
OTHERS: Final = "others"
OF_THE_DESK: Final = "_desk:"  # what ids of the desk's own alerts begin with; no vault has such a name
_UNSAFE: Final = re.compile(r"[^\w.:+/-]+")


class Word(StrEnum):
    """What is told of an alert."""

    OPENED = "opened"
    AGAIN = "again"
    OVER = "over"
    ESCALATED = "escalated"
    STUCK = "stuck"  # nobody answered, and the vault could not be made reduce-only


class Telling(msgspec.Struct, frozen=True):
    """One thing to tell people: the alert, what of it, and why it matters; `note` is what was done, or was not."""

    word: Word
    alert: Alert
    why: str
    note: str = ""


class Escalation(NamedTuple):
    """A vault to be made reduce-only because nobody answered; the same id however often it is tried."""

    vault: str
    command_id: str
    reason: str


class Patience(msgspec.Struct, frozen=True, kw_only=True):
    """How long is waited: to tell again, to call an alert over, and for somebody to answer a critical one.

    A critical one that nobody answered is over only once it stayed away for as long as people have to answer: one that
    comes and goes is there all the time, and ends neither in peace nor in a stream of messages that it has ended.
    """

    repeat_ns: int
    settle_ns: int
    escalate_after_ns: int


class _Case(msgspec.Struct):
    """A finding with its past. It is pending, then open (`opened_ns`), then closed (`ended_ns`) but remembered.

    `found_ns` is since when it is found without a break, `over_ns` since when it was not found any more, `owed_ns`
    since when nobody answered, `openings` when its beginnings were told, `told_count` the `count` last told.
    """

    alert_id: str
    kind: str
    vault: str
    subject: str
    source: str
    detail: str
    seen_ns: int
    last_ns: int
    found_ns: int = 0
    detail_ns: int = 0
    opened_ns: int = 0
    over_ns: int = 0
    ended_ns: int = 0
    told_ns: int = 0
    owed_ns: int = 0
    escalated_ns: int = 0
    acknowledged_by: str = ""
    count: int = 0
    told_count: int = 0
    is_told: bool = False
    is_stuck_told: bool = False
    openings: list[int] = []

    @property
    def rule(self) -> Rule:
        return RULES[self.kind]

    @property
    def is_open(self) -> bool:
        return bool(self.opened_ns) and not self.ended_ns

    @property
    def is_owed(self) -> bool:
        return bool(self.owed_ns) and not self.escalated_ns

    @property
    def may_escalate(self) -> bool:
        return (
            self.rule.severity is Severity.CRITICAL
            and bool(self.vault)
            and not (self.acknowledged_by or self.owed_ns or self.escalated_ns)
        )

    def alert(self) -> Alert:
        is_quiet = self.over_ns and not self.ended_ns and not self.rule.is_event
        return Alert(
            alert_id=self.alert_id,
            vault=self.vault,
            severity=self.rule.severity,
            title=f"{self.rule.title}: {self.subject}" if self.subject else self.rule.title,
            detail=f"{self.detail} (not found since {utc_text(self.over_ns)})" if is_quiet else self.detail,
            began_ns=self.seen_ns,
            ended_ns=self.ended_ns,
            acknowledged_by=self.acknowledged_by,
            escalated_ns=self.escalated_ns,
            count=self.count,
        )


_TIMES: Final = tuple(name for name in _Case.__struct_fields__ if name.endswith("_ns"))


class AlertKeeper:
    """The alerts of every vault of a desk; `vault` is "" for what is the desk's own."""

    def __init__(self, patience: Patience) -> None:
        self.changes = 0  # of what is worth keeping; not every look
        self._patience = patience
        self._cases: dict[str, _Case] = {}
        self._heard: set[tuple[str, str]] = set()  # whose word this process has; before that nothing is over

    # ── what is found ────────────────────────────────────────────────────────────────────────────────────────────────

    def observe(self, source: str, vault: str, findings: Sequence[Finding], now_ns: int) -> None:
        """Take in all that a source finds of a vault now: what it found before and does not now is over."""
        self._heard.add((source, vault))
        found = {alert_id(vault, one): one for one in self._bounded(vault, findings)}
        for name, one in found.items():
            self._find(name, source, vault, one, now_ns)
        for case in list(self._cases.values()):
            if (case.source, case.vault) != (source, vault) or case.alert_id in found or case.ended_ns:
                continue
            if case.opened_ns and not case.over_ns:
                case.over_ns = now_ns
                self.changes += 1
            elif not case.opened_ns and now_ns - case.last_ns > GRACE_NS:
                self._forget_pending(case)

    def unhear(self, source: str, vault: str) -> None:
        """Note that a source does not say anything of a vault any more: nothing it found lasts, or is over."""
        self._heard.discard((source, vault))

    def note(self, vault: str, event: Finding, now_ns: int) -> None:
        """Take in an event: it is told, and further ones like it are counted."""
        name = alert_id(vault, event)
        self._find(name, "", vault, event, now_ns)
        case = self._cases[name]
        if not case.opened_ns:
            case.opened_ns = now_ns
        case.count += 1
        case.over_ns = now_ns
        self.changes += 1

    def _find(self, name: str, source: str, vault: str, one: Finding, now_ns: int) -> None:
        case = self._cases.get(name)
        if case is None:
            case = _Case(name, one.kind, vault, one.subject, source, one.detail, now_ns, now_ns, found_ns=now_ns)
            self._cases[name] = case
            self.changes += 1
        elif case.ended_ns:
            _begin_anew(case, now_ns)
            self.changes += 1
        elif case.over_ns and not case.rule.is_event:
            case.over_ns = 0
            case.found_ns = now_ns
            case.count += 1
            self.changes += 1
        case.last_ns, case.source = now_ns, source
        if not case.opened_ns or now_ns - case.detail_ns >= DETAIL_NS:
            case.detail, case.detail_ns = one.detail, now_ns

    def _bounded(self, vault: str, findings: Sequence[Finding]) -> Iterable[Finding]:
        """Yield findings, those that are too many of one kind as one; what has been found before keeps its place."""
        by_kind: dict[str, list[Finding]] = {}
        for one in findings:
            by_kind.setdefault(one.kind, []).append(one)
        for kind, group in by_kind.items():
            if len(group) <= MAX_SUBJECTS:
                yield from group
                continue
            group.sort(key=lambda one: not self._is_known(vault, one))
            yield from group[:MAX_SUBJECTS]
            more = group[MAX_SUBJECTS:]
            named = ", ".join(one.subject for one in more[:MAX_SUBJECTS])
            yield Finding(kind, OTHERS, f"{len(more)} more: {named}{', …' if len(more) > MAX_SUBJECTS else ''}")

    def _is_known(self, vault: str, one: Finding) -> bool:
        case = self._cases.get(alert_id(vault, one))
        return case is not None and not case.ended_ns

    def _forget_pending(self, case: _Case) -> None:
        self.changes += 1
        if case.openings:
            case.ended_ns = case.last_ns  # it was told before, and how often is still of interest
        else:
            del self._cases[case.alert_id]

    # ── what is told ─────────────────────────────────────────────────────────────────────────────────────────────────

    def tick(self, now_ns: int) -> list[Telling]:
        """Return what is to be told now."""
        told: list[Telling] = []
        for case in list(self._cases.values()):
            if case.ended_ns:
                if now_ns - case.ended_ns > self._patience.repeat_ns and not case.is_owed:
                    del self._cases[case.alert_id]
                    self.changes += 1
            elif case.rule.is_event:
                told += self._tell_event(case, now_ns)
            elif case.opened_ns:
                told += self._tell_open(case, now_ns)
            elif self._is_heard(case) and now_ns - case.seen_ns >= case.rule.after_s * NS_PER_S:
                case.opened_ns = now_ns
                case.count += 1
                self.changes += 1
                told += self._tell_opening(case, now_ns)
        return told

    def _tell_opening(self, case: _Case, now_ns: int) -> list[Telling]:
        case.openings = [at for at in case.openings if now_ns - at < self._patience.repeat_ns]
        if len(case.openings) >= MAX_OPENINGS:
            return []  # it comes and goes: told again once `repeat_ns` have passed and it is still there
        case.openings.append(now_ns)
        last = "it comes and goes, and is told less often from now on" if len(case.openings) == MAX_OPENINGS else ""
        return [self._tell(Word.OPENED, case, now_ns, last)]

    def _tell_open(self, case: _Case, now_ns: int) -> list[Telling]:
        patience = self._patience
        if case.over_ns:
            if now_ns - case.over_ns < self._settle_ns(case):
                return []
            case.ended_ns = now_ns
            self.changes += 1
            return [self._tell(Word.OVER, case, now_ns)] if case.is_told else []
        if not self._is_heard(case) or case.acknowledged_by:
            return []
        lasts = now_ns - case.found_ns >= case.rule.after_s * NS_PER_S
        if case.may_escalate and lasts and now_ns - case.opened_ns >= patience.escalate_after_ns:
            case.owed_ns = now_ns
            self.changes += 1
        if now_ns - case.told_ns >= patience.repeat_ns:
            return [self._tell(Word.AGAIN, case, now_ns)]
        return []

    def _settle_ns(self, case: _Case) -> int:
        """Return for how long an alert has to stay away to be over."""
        settle_ns = self._patience.settle_ns
        return max(settle_ns, self._patience.escalate_after_ns) if case.may_escalate else settle_ns

    def _tell_event(self, case: _Case, now_ns: int) -> list[Telling]:
        if not case.is_told:
            return self._tell_opening(case, now_ns)
        if now_ns - case.over_ns >= self._patience.repeat_ns:
            case.ended_ns = now_ns
            self.changes += 1
        elif (
            case.count > case.told_count
            and not case.acknowledged_by
            and now_ns - case.told_ns >= self._patience.repeat_ns
        ):
            return [self._tell(Word.AGAIN, case, now_ns)]
        return []

    def _tell(self, word: Word, case: _Case, now_ns: int, note: str = "") -> Telling:
        case.told_ns, case.told_count, case.is_told = now_ns, case.count, True
        self.changes += 1
        return Telling(word, case.alert(), case.rule.why, note)

    def _is_heard(self, case: _Case) -> bool:
        return (case.source, case.vault) in self._heard

    # ── who answers ──────────────────────────────────────────────────────────────────────────────────────────────────

    def acknowledge(self, name: str, who: str) -> str:
        """Note that somebody looks after an alert: it is not told again, nor escalates. Return why not, "" if noted."""
        case = self._cases.get(name)
        if case is None or not (case.is_open or case.is_owed):
            return f"expected the id of an open alert, found {name[:200]!r}"
        if case.acknowledged_by:
            return ""  # the first one keeps it
        case.acknowledged_by = who[:100] or "somebody"
        self.changes += 1
        if not case.escalated_ns:
            case.owed_ns = 0
        return ""

    def due(self) -> list[Escalation]:
        """Return the vaults to be made reduce-only, each once however many of its alerts nobody answered."""
        owed: dict[str, list[_Case]] = {}
        for case in self._cases.values():
            if case.is_owed:
                owed.setdefault(case.vault, []).append(case)
        return [_escalation(vault, cases) for vault, cases in owed.items()]

    def escalated(self, vault: str, now_ns: int, note: str) -> list[Telling]:
        """Note that a vault is reduce-only or tighter now; `note` says how it came to be, "" tells nobody."""
        told = []
        for case in self._cases.values():
            if case.vault == vault and case.is_owed:
                case.escalated_ns = now_ns
                self.changes += 1
                if note:
                    told.append(self._tell(Word.ESCALATED, case, now_ns, note))
        return told

    def stuck(self, vault: str, now_ns: int, why: str) -> list[Telling]:
        """Note that a vault could not be made reduce-only; told once for each alert, and tried again."""
        told = []
        for case in self._cases.values():
            if case.vault == vault and case.is_owed and not case.is_stuck_told:
                case.is_stuck_told = True
                told.append(self._tell(Word.STUCK, case, now_ns, why))
        return told

    # ── what is kept ─────────────────────────────────────────────────────────────────────────────────────────────────

    def open_alerts(self) -> tuple[Alert, ...]:
        """Return what is open, the worst first and of those the oldest."""
        order = tuple(reversed(Severity))
        found = [case.alert() for case in self._cases.values() if case.is_open]
        return tuple(sorted(found, key=lambda one: (order.index(one.severity), one.began_ns, one.alert_id)))

    def dump(self) -> bytes:
        """Return all that is known, for `load`."""
        return msgspec.json.encode(list(self._cases.values()))

    def load(self, memory: bytes, now_ns: int) -> None:
        """Take over what another keeper dumped. Raises msgspec.MsgspecError if it is not that.

        What lies ahead of now was noted before the clock was set back, and nobody has the longer to answer for that.
        """
        cases = msgspec.json.decode(memory, type=list[_Case])
        for case in cases:
            for name in _TIMES:
                setattr(case, name, min(getattr(case, name), now_ns))
            case.openings = [min(at, now_ns) for at in case.openings]
        self._cases = {case.alert_id: case for case in cases if case.kind in RULES}


def alert_id(vault: str, one: Finding) -> str:
    """Return the id of an alert: where, what and of what; the same whenever it comes, and safe to type."""
    parts = (vault or OF_THE_DESK[:-1], one.kind, one.subject)
    return ":".join(_UNSAFE.sub("_", part) for part in parts if part)[:200]


def _begin_anew(case: _Case, now_ns: int) -> None:
    case.seen_ns = case.found_ns = now_ns
    if not case.is_owed:  # what nobody answered is not made good by coming again
        case.owed_ns = 0
    case.opened_ns = case.over_ns = case.ended_ns = case.escalated_ns = 0
    case.acknowledged_by = ""
    case.is_told = case.is_stuck_told = False


def _escalation(vault: str, cases: Sequence[_Case]) -> Escalation:
    first = min(cases, key=lambda case: (case.owed_ns, case.alert_id))
    others = f" and {len(cases) - 1} more" if len(cases) > 1 else ""
    reason = f"nobody acknowledged {first.alert_id}{others}: {first.rule.title}: {first.detail}"
    occasion = hashlib.sha256(f"{first.owed_ns} {first.alert_id}".encode()).hexdigest()
    return Escalation(vault, f"alerts-{occasion[:32]}", reason[:500])
