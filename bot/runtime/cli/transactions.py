"""`evenkeel tx`: what the transaction logs of a vault's chains say, canceling by hand, and what hedges need granted.

Looking takes nothing and asks nobody. Canceling and speeding up take the key, which has one owner: a daemon that runs
is asked to do it, and if none does it is done here. Granting is a dry run unless told otherwise.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Annotated, Final

import msgspec
import typer
from rich.console import Console
from rich.table import Table

from bot.domain.errors import ConfigError, JournalError, VenueFatal
from bot.domain.units import NS_PER_S, utc_second_text
from bot.gateways.chain.lives import Life, Row
from bot.gateways.chain.nouns import Refused
from bot.gateways.chain.settings import GWEI, ChainSettings
from bot.gateways.chain.transaction_log import TransactionLog, log_path
from bot.runtime.configuration.chains import chain_settings
from bot.runtime.configuration.config import load_vaults
from bot.runtime.configuration.vault import Vault
from bot.runtime.live.clock import WallClock
from bot.runtime.operators import control

CANCEL: Final = "cancel"  # as the gateway calls them too
SPEED_UP: Final = "speed-up"
NO_TERMINAL_COLUMNS: Final = 160  # of a file or a pipe, which has no width

tx_app = typer.Typer(help="Look at transactions, cancel them, speed them up.", no_args_is_help=True)

VaultFile = Annotated[Path, typer.Argument(metavar="VAULT.yaml", help="Vault file")]
Key = Annotated[str, typer.Argument(metavar="KEY", help="Key or hash of a transaction, as `tx list` shows them")]
ChainName = Annotated[str, typer.Option("--chain", help="Only this chain")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON")]


class TransactionLine(msgspec.Struct, frozen=True):
    """One transaction as `tx list` shows it; amounts in wei are texts, as they exceed what JSON readers keep exactly.

    `outcome` is what it came to: the state, or what a FINAL one ended as. `spent_wei` is the gas it burnt. `tx_hash` is
    that of the version in a block, else of the newest one.
    """

    chain: str
    key: str
    instrument_id: str
    state: str
    outcome: str
    nonce: int
    versions: int
    tx_hash: str
    block_number: int | None
    value_wei: str
    spent_wei: str
    max_fee_gwei: float
    tip_gwei: float
    moved_base_wei: str | None
    moved_quote_wei: str | None
    begun: str
    age_s: float
    reason: str


class StepLine(msgspec.Struct, frozen=True):
    """One row of the log as `tx show` shows it."""

    time: str
    state: str
    head_number: int
    tx_hash: str
    is_cancel: bool
    is_reversed: bool
    max_fee_gwei: float | None
    tip_gwei: float | None
    block_number: int | None
    gas_used: int | None
    gas_price_wei: str | None
    spent_wei: str | None
    revert_data: str | None
    reason: str


def logs_of(vault: Vault, chain: str = "") -> dict[str, Path]:
    """Return where the logs of a vault's chains are, by chain; those with a wallet only.

    Raises ConfigError if there is no such chain, or none with a wallet.
    """
    found = {
        name: log_path(vault.state_dir, section.chain_id, section.wallet.address)
        for name, section in vault.chains.items()
        if section.wallet is not None and chain in {"", name}
    }
    if not found:
        what = f"a chain {chain} with a wallet" if chain else "a chain with a wallet"
        raise ConfigError([f"{vault.vault}: expected {what}, found {', '.join(vault.chains) or 'no chain'}"])
    return found


def line_of(chain: str, life: Life, now_ns: int) -> TransactionLine:
    """Return a transaction as it is shown."""
    receipt = life.receipt
    newest = life.attempts[-1] if life.attempts else None
    gas = life.request.gas
    return TransactionLine(
        chain=chain,
        key=life.key,
        instrument_id=life.request.instrument_id,
        state=life.state.value,
        outcome=(life.outcome if life.state.value == "final" else life.state).value,
        nonce=life.nonce,
        versions=len(life.attempts),
        tx_hash=receipt.tx_hash if receipt is not None else newest.tx_hash if newest is not None else "",
        block_number=life.settled_number or None,
        value_wei=str(life.request.value_wei),
        spent_wei=str(receipt.gas_wei if receipt is not None else 0),
        max_fee_gwei=(newest.max_fee_wei if newest is not None else gas.max_fee_wei) / GWEI,
        tip_gwei=(newest.tip_wei if newest is not None else gas.tip_wei) / GWEI,
        moved_base_wei=None if life.amounts is None else str(life.amounts.base_wei),
        moved_quote_wei=None if life.amounts is None else str(life.amounts.quote_wei),
        begun=utc_second_text(life.reserved_ns),
        age_s=max(0, now_ns - life.reserved_ns) / NS_PER_S,
        reason=life.reason,
    )


def lines_of(chain: str, path: Path, now_ns: int, *, is_all: bool) -> list[TransactionLine]:
    """Return the transactions of a log, newest first: all of them, or those that are not over.

    A log that is not there yet is an empty one. Raises JournalError for one that cannot be read.
    """
    if not path.exists():
        return []
    with TransactionLog.open(path, for_writing=False) as log:
        lives = [life for life in log.lives().values() if is_all or not life.is_over]
    return [line_of(chain, life, now_ns) for life in reversed(lives)]


def find(logs: Mapping[str, Path], key: str) -> tuple[str, Life, list[Row]]:
    """Return chain, life and rows of a transaction by its key or one of its hashes. Raises JournalError if unknown."""
    for chain, path in logs.items():
        if not path.exists():
            continue
        with TransactionLog.open(path, for_writing=False) as log:
            for life in log.lives().values():
                if key == life.key or life.attempt_of(key) is not None:
                    return chain, life, log.rows(life.key)
    raise JournalError(f"expected a transaction by the key or hash {key}, found none in the logs of {', '.join(logs)}")


def steps_of(rows: list[Row]) -> list[StepLine]:
    """Return the rows of a transaction as they are shown."""
    return [
        StepLine(
            time=utc_second_text(row.ts_ns),
            state=row.state.value,
            head_number=row.head_number,
            tx_hash=row.tx_hash,
            is_cancel=row.is_cancel,
            is_reversed=row.is_reversed,
            max_fee_gwei=row.max_fee_wei / GWEI if row.max_fee_wei else None,
            tip_gwei=row.tip_wei / GWEI if row.max_fee_wei else None,
            block_number=row.block_number or None,
            gas_used=None if row.receipt is None else row.receipt.gas_used,
            gas_price_wei=None if row.receipt is None else str(row.receipt.gas_price_wei),
            spent_wei=None if row.receipt is None else str(row.receipt.gas_wei),
            revert_data=f"0x{row.receipt.revert_data.hex()}" if row.receipt and row.receipt.revert_data else None,
            reason=row.reason,
        )
        for row in rows
    ]


async def act(settings: ChainSettings, environ: Mapping[str, str], key: str, action: str) -> TransactionLine:
    """Cancel a transaction or speed it up without a daemon, and return what it then is; everything else is seen to too.

    Raises JournalError if a daemon owns the key, VenueFatal if the transaction cannot be helped any more or the key
    cannot be had, Retryable if no node answers.
    """
    # web3 and the keys take a second to load, which looking shall not
    from bot.gateways.chain.endpoints import Endpoints  # noqa: PLC0415
    from bot.gateways.chain.rpc import Endpoint  # noqa: PLC0415
    from bot.gateways.chain.signing import open_signer  # noqa: PLC0415
    from bot.gateways.chain.transactions import TransactionDesk  # noqa: PLC0415

    if settings.wallet is None:
        raise VenueFatal(f"{settings.venue}: expected a wallet, found none")
    clock = WallClock()
    async with AsyncExitStack() as stack:
        path = log_path(settings.state_dir, settings.chain_id, settings.wallet.address)
        log = stack.enter_context(TransactionLog.open(path, for_writing=True))
        signer = await stack.enter_async_context(open_signer(settings, environ))
        nodes = await stack.enter_async_context(Endpoints(settings, clock))
        relay = None
        if settings.relay_url:
            relay = await stack.enter_async_context(Endpoint(settings.relay_url, settings.timeout_ns))
        desk = TransactionDesk(settings, signer, log, nodes, clock, lambda _: None, relay)
        await desk.recover()
        try:
            await (desk.cancel(key) if action == CANCEL else desk.speed_up(key))
        except Refused as refusal:
            raise VenueFatal(str(refusal)) from None
        life = log.life(key)
        assert life is not None
        return line_of(settings.venue, life, clock.now_ns())


# What is typed -------------------------------------------------------------------------------------------------------


@tx_app.command("list")
def tx_list(
    vault_file: VaultFile,
    chain: ChainName = "",
    show_all: Annotated[bool, typer.Option("--all", help="Those that are over too")] = False,
    as_json: AsJson = False,
) -> None:
    """List transactions that are not final yet, newest first: what they cost, how old they are, and why."""
    logs, now_ns = logs_of(_vault(vault_file), chain), time.time_ns()
    lines = [line for name, path in logs.items() for line in lines_of(name, path, now_ns, is_all=show_all)]
    if as_json:
        _print_json(lines)
        return
    table = Table(box=None)
    for name in ("chain", "key", "nonce", "state", "versions", "gas wei", "fee gwei", "age s", "why"):
        is_figure = name in {"nonce", "versions", "gas wei", "fee gwei", "age s"}
        table.add_column(name, justify="right" if is_figure else "left", overflow="fold")
    for line in lines:
        state = line.state if line.state == line.outcome else f"{line.state} ({line.outcome})"
        figures = (str(line.versions), line.spent_wei, f"{line.max_fee_gwei:.6g}", f"{line.age_s:.0f}")
        table.add_row(line.chain, line.key, str(line.nonce), state, *figures, line.reason)
    _console().print(table if lines else "no transaction is under way" if not show_all else "no transactions")


@tx_app.command("show")
def tx_show(vault_file: VaultFile, key: Key, chain: ChainName = "", as_json: AsJson = False) -> None:
    """Show everything that happened to a transaction, row by row."""
    name, life, rows = find(logs_of(_vault(vault_file), chain), key)
    line, steps = line_of(name, life, time.time_ns()), steps_of(rows)
    if as_json:
        _print_json({"transaction": line, "steps": steps})
        return
    console = _console()
    for field in line.__struct_fields__:
        console.print(f"{field:16} {_text(getattr(line, field))}")
    table = Table(box=None)
    for column in ("time", "state", "head", "hash", "fee gwei", "block", "gas wei", "why"):
        table.add_column(column)
    for step in steps:
        marks = " ".join(_marks(step))
        fee = _text(step.max_fee_gwei and f"{step.max_fee_gwei:.6g}")
        cells = (step.tx_hash[:12], fee, _text(step.block_number), _text(step.spent_wei))
        table.add_row(step.time, marks, str(step.head_number), *cells, step.reason)
    console.print(table)


@tx_app.command(CANCEL)
def tx_cancel(vault_file: VaultFile, key: Key, chain: ChainName = "", as_json: AsJson = False) -> None:
    """Replace a transaction by one that does nothing; the daemon does it if one runs."""
    _act(vault_file, key, chain, CANCEL, as_json=as_json)


@tx_app.command(SPEED_UP)
def tx_speed_up(vault_file: VaultFile, key: Key, chain: ChainName = "", as_json: AsJson = False) -> None:
    """Send a transaction again at higher fees, within the caps; the daemon does it if one runs."""
    _act(vault_file, key, chain, SPEED_UP, as_json=as_json)


@tx_app.command("approve")
def tx_approve(
    vault_file: VaultFile,
    chain: ChainName = "",
    orders: Annotated[
        int, typer.Option("--orders", min=0, help="Grant enough for so many of the largest orders; 0: without end")
    ] = 0,
    send: Annotated[bool, typer.Option("--send", help="Really send; else it is only shown")] = False,
    as_json: AsJson = False,
) -> None:
    """Grant what hedges on chains need of the wallet and do not have. A dry run unless --send is given."""
    from bot.runtime.studies.permissions import grant, lacking, lacking_lines  # noqa: PLC0415 — brings web3

    vault = _vault(vault_file)
    chains = [name for name in logs_of(vault, chain) if vault.chains[name].simulated is None]
    settings = chain_settings(vault, os.environ)
    clock, console = WallClock(), Console(stderr=as_json, soft_wrap=True, markup=False, highlight=False)
    most_quote = vault.limits.max_order_quote
    found = {name: asyncio.run(lacking(settings[name], clock, most_quote, orders=orders)) for name in chains}
    for name, permissions in found.items():
        for line in lacking_lines(permissions):
            console.print(line)
        if not permissions:
            console.print(f"{name}: nothing is lacking")
    granted = []
    for name, permissions in found.items():
        if send and permissions:
            granted += asyncio.run(grant(settings[name], os.environ, clock, permissions, console.print))
    if any(found.values()) and not send:
        console.print("dry run: nothing was sent; --send sends it")
    if as_json:
        _print_json({"lacking": found, "granted": granted})


def _act(vault_file: Path, key: str, chain: str, action: str, *, as_json: bool) -> None:
    vault = _vault(vault_file)
    logs = logs_of(vault, chain)
    name, life, _ = find(logs, key)
    question = {"verb": "transaction", "chain": name, "key": life.key, "action": action}
    try:
        answer = control.ask(control.socket_path(vault.state_dir, vault.vault), question)
    except control.NotRunningError:
        line = asyncio.run(act(chain_settings(vault, os.environ)[name], os.environ, life.key, action))
    else:
        if "error" in answer:
            raise VenueFatal(str(answer["error"]))
        _, life, _ = find(logs, life.key)
        line = line_of(name, life, time.time_ns())
    if as_json:
        _print_json(line)
    else:
        _console().print(f"{line.key}: {line.state}, nonce {line.nonce}, {line.tx_hash}: {line.reason}")


def _vault(path: Path) -> Vault:
    (vault,) = load_vaults([path], allow_live=True)
    return vault


def _marks(step: StepLine) -> Iterator[str]:
    yield step.state
    if step.is_cancel:
        yield "(cancel)"
    if step.is_reversed:
        yield "(reversed)"


def _text(value: object) -> str:
    return "" if value is None else str(value)


def _print_json(value: object) -> None:
    typer.echo(json.dumps(msgspec.to_builtins(value), indent=2, allow_nan=False))


def _console() -> Console:
    width = None if sys.stdout.isatty() else NO_TERMINAL_COLUMNS
    return Console(soft_wrap=True, markup=False, highlight=False, width=width)
