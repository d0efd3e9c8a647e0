"""A command as it travels: a text that says everything, and a signature over exactly that text.

The algorithm is the issuer's, never the message's: nobody can ask for a weaker one.
"""

from __future__ import annotations

import msgspec

MAX_COMMAND_BYTES = 4096
MAX_LIFE_S = 300.0  # from issue to expiry; ids are remembered for longer than that
SIGNED_PREFIX = b"evenkeel-command-1\n"  # what is signed begins with it, so that no other signed text is a command

ACTIONS = (
    "pause", "resume", "reduce_only", "halt", "flatten", "hedge_now", "set_target", "set_band", "reload", "acknowledge",
)  # fmt: skip


class Arguments(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What an action needs beyond its name; all None or "" where it needs nothing."""

    underlying: str = ""
    target_base: float | None = None
    low_base: float | None = None
    high_base: float | None = None
    confirm: str = ""
    alert_id: str = ""


class CommandBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a person orders: what, of which vault, why, and until when it may be carried out (wall clock)."""

    command_id: str
    vault: str
    issuer: str
    action: str
    reason: str
    issued_ns: int
    expires_ns: int
    arguments: Arguments = Arguments()


class SignedCommand(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The text of a CommandBody in JSON, and the signature over `SIGNED_PREFIX` and that text, in base64."""

    command: str
    signature: str
