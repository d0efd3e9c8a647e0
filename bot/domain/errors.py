"""Errors named by who acts next: the engine, the gateway, the operator or the programmer.

Stale data, missing vol and limit breaches are not errors but typed refusals (`bot.domain.decisions`); a definitive no
from a venue is an event (`OrderRejected`).
"""

from __future__ import annotations


class EvenkeelError(Exception):
    """Base of every error Evenkeel raises on purpose."""


class ConfigError(EvenkeelError):
    """Wrong before start: the operator edits a file. Carries every problem found, one `file:line: …` text each."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class RecordingError(EvenkeelError):
    """A recording cannot be read as one: the operator repairs or re-imports it."""


class JournalError(EvenkeelError):
    """The journal is damaged, locked or of another run: the operator decides."""


class Retryable(EvenkeelError):
    """Provably not done: the gateway tries again with bounded backoff."""


class OutcomeUnknown(EvenkeelError):
    """Sent, and no answer that can be trusted: the engine widens its exposure and asks."""


class VenueFatal(EvenkeelError):
    """Authentication, clock skew, delisting: the operator mends the venue."""


class InvariantBroken(EvenkeelError):
    """Our bug: the daemon journals, cancels working orders and exits 70."""
