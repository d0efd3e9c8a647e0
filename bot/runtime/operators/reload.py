"""A vault's file is read again while its engine lives: checked, held against what is in force, journalled, adopted.

Whoever applies events does so through `take_in`, the daemon and recovery alike, so that a journal replays through every
change of its configuration.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

from pydantic import ValidationError

from bot.domain.errors import InvariantBroken, JournalError
from bot.domain.events import ConfigChanged, Event
from bot.domain.units import NS_PER_S
from bot.engine.adoption import adopted
from bot.engine.settings import EngineSettings
from bot.runtime.configuration.config import config_json, config_sha256, load_vaults
from bot.runtime.configuration.vault import Vault
from bot.runtime.live.session import LiveSession
from bot.runtime.operators.operating import text_of
from bot.runtime.operators.reload_rules import Verdict, judge, limits_after, limits_of, lines_of
from bot.runtime.session import Session

SettingsOf = Callable[[Vault], EngineSettings]

NOTHING: Final = "the file says what is in force already"


class Wish(NamedTuple):
    """What somebody asks for: who and why, the code of a change that needs one, and whether only to look.

    `expected_sha256` is the configuration that the asker read, "" if none did: another one is then not taken. Nor is
    anything where the wish is older than it may be, as one that a frozen daemon finds.
    """

    issuer: str
    reason: str
    confirm: str = ""
    command_id: str = ""
    is_dry_run: bool = False
    expected_sha256: str = ""
    late_s: float = 0.0


class InForce(NamedTuple):
    """A configuration, and of each of its limits the tightest it was since a person confirmed it.

    Those of the start count as confirmed. It follows from the changes of a journal alone, so that the daemon, its next
    start and whoever reads the journal agree.
    """

    vault: Vault
    limits: Mapping[str, object]

    @classmethod
    def began(cls, vault: Vault) -> InForce:
        """Return the configuration of a start."""
        return cls(vault, limits_of(vault))

    def then(self, vault: Vault, confirmed: Collection[str]) -> InForce:
        """Return what is in force after a change, which confirmed these limits."""
        return InForce(vault, limits_after(self.limits, vault, confirmed))


class Plan(NamedTuple):
    """A change that was looked at: from which configuration to which, and what is to be said of it."""

    old: InForce
    new: Vault
    verdict: Verdict


def take_in(session: Session | LiveSession, event: Event) -> Session | LiveSession:
    """Apply one event; return the session to go on with, which knows the configuration now in force.

    Raises JournalError for a configuration that cannot be understood.
    """
    if isinstance(event, ConfigChanged):
        vault = read_vault(event.config_json)
        session.engine.adopt(session.settings_for(vault))
        session = session._replace(vault=vault)
    session.engine.apply(event)
    return session


def read_vault(text: str) -> Vault:
    """Return the configuration that a journal holds as text. Raises JournalError if it cannot be understood."""
    try:
        return Vault.model_validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(step) for step in first["loc"])
        hint = "it was written by another version of Evenkeel, read it with that one"
        raise JournalError(
            f"expected a configuration in the journal, found at {where}: {first['msg']}; hint: {hint}"
        ) from error


def read_plan(old: InForce, vault_file: Path, settings_of: SettingsOf) -> Plan:
    """Read a vault's file again and return what it would change.

    Raises ConfigError with every problem of the file, as `file:line: …`. Nothing is changed: it may run in a thread.
    """
    (new,) = load_vaults([vault_file], allow_live=True)
    verdict = judge(old.vault, new, old.limits)
    if verdict.changes and not verdict.refused:
        try:
            adopted(settings_of(old.vault), settings_of(new))
        except InvariantBroken as error:
            verdict = verdict._replace(refused=(str(error),))
    return Plan(old, new, verdict)


def answer_of(plan: Plan, wish: Wish) -> dict[str, Any]:
    """Return what to say of a plan: its changes and, if it must not be carried out, why as `error`."""
    verdict = plan.verdict
    answer: dict[str, Any] = {
        "vault": plan.new.vault,
        "changes": list(lines_of(verdict.changes)),
        "refused": list(verdict.refused),
        "loosened": list(verdict.loosened),
        "confirm": verdict.code,
        "config_sha256": config_sha256(plan.new),
        "is_applied": False,
    }
    if wish.late_s > 0.0:
        answer["error"] = f"expected a command that is still good, found one that expired {wish.late_s:.0f} s ago"
    elif wish.expected_sha256 not in ("", answer["config_sha256"]):
        hint = "name the file it was started with, and do not save it meanwhile"
        answer["error"] = f"expected the file that was asked about, found another one at the daemon; hint: {hint}"
    elif verdict.refused:
        answer["error"] = "; ".join(verdict.refused)
    elif verdict.code and wish.confirm != verdict.code and not wish.is_dry_run:
        found = f"the code of another change, {wish.confirm[:20]!r}" if wish.confirm else "none"
        told = "; ".join(verdict.loosened)
        hint = f"--confirm {verdict.code} confirms exactly this change"
        answer["error"] = f"expected a second confirmation of looser limits ({told}), found {found}; hint: {hint}"
    return answer


def event_of(plan: Plan, wish: Wish, now_ns: int) -> ConfigChanged:
    """Return the event that carries a plan out."""
    return ConfigChanged(
        config_json=config_json(plan.new),
        config_sha256=config_sha256(plan.new),
        changes=lines_of(plan.verdict.changes),
        issuer=wish.issuer,
        reason=wish.reason,
        ts_recv_ns=now_ns,
        command_id=wish.command_id,
        confirmed=plan.verdict.keys,
    )


def wish_of(question: dict[str, Any]) -> Wish:
    """Return what is asked for over the control socket, whatever its types."""
    expires_ns = question.get("expires_ns")
    return Wish(
        issuer=text_of(question, "issuer")[:100],
        reason=text_of(question, "reason")[:500],
        confirm=text_of(question, "confirm")[:100],
        command_id=text_of(question, "command_id")[:100],
        is_dry_run=question.get("dry_run") is True,
        expected_sha256=text_of(question, "config_sha256")[:64],
        late_s=(time.time_ns() - expires_ns) / NS_PER_S if isinstance(expires_ns, int) and expires_ns > 0 else 0.0,
    )
