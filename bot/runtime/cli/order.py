"""`evenkeel order` and `evenkeel keys`: signed commands over the broker, from wherever the broker can be reached.

The key comes from the environment and goes nowhere: not into arguments, files of ours, logs or messages.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import msgspec
import typer

from bot.domain.commands import ACTIONS, Arguments
from bot.domain.errors import ConfigError
from bot.domain.events import OperatorAction
from bot.domain.windows import CommandAnswer
from bot.runtime.configuration.config import load_vaults
from bot.runtime.configuration.desk_file import load_desk, secret_of

if TYPE_CHECKING:
    from bot.telemetry.commands.keys import Ed25519Key, HmacSecret

KEY_ENV: Final = "EVENKEEL_ORDER_KEY"
LIFE_S: Final = 60.0  # as long as a person waits for an answer
WAIT_S: Final = 10.0
FAILURE: Final = 1  # the exit codes of the command line that end these commands
STOPPED: Final = 3
VENUE: Final = 4
TIMEOUT: Final = 5
LIMIT: Final = 6
NOT_RUNNING: Final = "not running"  # the states that answers tell
HALTED: Final = "halted"
TRIPPED: Final = ("reduce_only", "paused", "halted")

Action = StrEnum("Action", {name.upper(): name.replace("_", "-") for name in ACTIONS})  # type: ignore[misc]

keys_app = typer.Typer(help="Keys that commands are signed with.", no_args_is_help=True)


@keys_app.callback()
def _keys() -> None:
    """Keys that commands are signed with."""


@keys_app.command("new")
def keys_new(
    out_file: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="File for the key, made with mode 0600")
    ] = None,
    hmac: Annotated[bool, typer.Option("--hmac", help="A secret that both sides hold, instead of a pair")] = False,
    show: Annotated[bool, typer.Option("--show", help="Print the key instead: for a pipe into a secret store")] = False,
) -> None:
    """Make a key for an issuer: the private part into a file or to stdout, the rest as lines of a desk file."""
    if (out_file is None) == (not show):
        raise ConfigError(["expected --out FILE or --show, found both or neither; hint: --out alice.key"])
    from bot.telemetry.commands.keys import new_private_key, new_secret  # noqa: PLC0415 — as below

    key = new_secret() if hmac else new_private_key()
    if out_file is None:
        typer.echo(key.text())
    else:
        _write_private(out_file, key.text() + "\n")
    for line in _told(key, out_file):
        typer.echo(line, err=True)


def _told(key: Ed25519Key | HmacSecret, path: Path | None) -> list[str]:
    held = f'export {KEY_ENV}="$(cat {path})"' if path is not None else f"export {KEY_ENV}=…"
    if key.algorithm == "hmac-sha256":
        both = "the same text goes into the environment of the windows, under the name that secret_env says"
        section = ["issuers:", "  NAME:", "    secret_env: EVENKEEL_NAME_SECRET", "    may: [halt, pause]"]
        return [f"To sign:   {held}", f"To verify: {both}; in the desk file:", *section]
    section = ["issuers:", "  NAME:", f"    public_key: {key.verifier().text()}", "    may: [halt, pause]"]
    return [f"To sign:   {held}", "To verify: in the desk file:", *section]


def _write_private(path: Path, text: str) -> None:
    """Make a file that is ours alone from its first moment on; one that is there already is not touched."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        raise ConfigError([f"{path}: expected no such file yet, found one; hint: keys are never replaced"]) from None
    with os.fdopen(descriptor, "w") as file:
        file.write(text)


def order(
    action: Annotated[Action, typer.Argument(metavar="ACTION", help=", ".join(one.value for one in Action))],
    vault: Annotated[str, typer.Argument(metavar="VAULT", help="A vault's name, or its file")],
    desk_file: Annotated[Path, typer.Option("--desk", metavar="DESK.yaml", help="Desk file that names the broker")],
    issuer: Annotated[str, typer.Option("--issuer", metavar="NAME", help="Who you are in the vault's desk file")],
    reason: Annotated[str, typer.Option("--reason", help="Why; goes into the journal")],
    key_env: Annotated[
        str, typer.Option("--key-env", metavar="NAME", help="Environment variable with your key")
    ] = KEY_ENV,
    underlying: Annotated[str, typer.Option("--underlying", help="Which underlying; default: all")] = "",
    target: Annotated[
        float | None,
        typer.Option("--target", metavar="BASE", help="set-target: net delta to keep; default: the file's"),
    ] = None,
    low: Annotated[float | None, typer.Option("--low", metavar="BASE", help="set-band: lower end of the band")] = None,
    high: Annotated[float | None, typer.Option("--high", metavar="BASE", help="set-band: upper end")] = None,
    confirm: Annotated[
        str, typer.Option("--confirm", help="flatten: the vault's name once more; reload: the code it asked for")
    ] = "",
    alert: Annotated[str, typer.Option("--alert", metavar="ID", help="acknowledge: which alert")] = "",
    life: Annotated[
        float, typer.Option("--life", metavar="SECONDS", min=1, max=300, help="How long the command is good")
    ] = LIFE_S,
    wait: Annotated[
        float, typer.Option("--wait", metavar="SECONDS", min=0, max=600, help="How long to wait for the answer")
    ] = WAIT_S,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object")] = False,
) -> None:
    """Order something of a vault over MQTT, signed, and wait for what became of it."""
    # brings the broker's library and that of the keys; a halt at this machine must not wait for either
    from bot.runtime.configuration.broker import Broker  # noqa: PLC0415
    from bot.runtime.operators.reasons import fit_reason  # noqa: PLC0415
    from bot.runtime.windows.command_sender import NoAnswerError, send  # noqa: PLC0415
    from bot.telemetry.commands.keys import parse_signing_key  # noqa: PLC0415
    from bot.telemetry.commands.signing import compose  # noqa: PLC0415

    desk = load_desk(desk_file)
    if desk.mqtt is None:
        raise ConfigError([f"{desk_file}: expected a section mqtt, found none; hint: see docs/desk.md"])
    name = _vault_name(vault)
    wanted = action.value.replace("-", "_")
    if wanted == OperatorAction.FLATTEN and confirm != name:
        hint = "flattening closes every hedge and leaves the book exposed"
        raise ConfigError([f"--confirm: expected {name}, found {confirm!r:.60}; hint: {hint}"])
    key = parse_signing_key(secret_of(os.environ, key_env, "your key"), key_env)
    arguments = Arguments(underlying, target, low, high, confirm, alert)
    reason = fit_reason(wanted, reason)
    body = compose(
        wanted, vault=name, issuer=issuer, reason=reason, now_ns=time.time_ns(), life_s=life, arguments=arguments
    )
    try:
        answer = asyncio.run(send(Broker(desk.mqtt, os.environ), body, key, wait))
    except NoAnswerError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(TIMEOUT) from None
    if as_json:
        typer.echo(json.dumps(msgspec.to_builtins(answer), indent=2))
    else:
        verdict = "done" if answer.is_done else "refused"
        state = f" ({answer.state})" if answer.state else ""
        typer.echo(f"{name}: {wanted} {verdict}{state}: {answer.text}")
    if code := exit_code(answer):
        raise typer.Exit(code)


def exit_code(answer: CommandAnswer) -> int:
    """Return the exit code an answer stands for, as those of the commands at the machine itself."""
    if answer.state == NOT_RUNNING:
        return STOPPED
    if not answer.is_done:
        return VENUE if answer.action == OperatorAction.HALT and answer.state == HALTED else FAILURE
    return LIMIT if answer.action == OperatorAction.RESUME and answer.state in TRIPPED else 0


def _vault_name(text: str) -> str:
    """Return the vault's name of a name or a file."""
    if text.endswith((".yaml", ".yml")):
        (vault,) = load_vaults([Path(text)], allow_live=True)
        return vault.vault
    return text
