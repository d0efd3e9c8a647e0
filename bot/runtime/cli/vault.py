"""`evenkeel vault`: put a guarded vault on a chain, look at its limits, stop it; deploy what shorts on Aave trade with.

Whatever would change something on the chain is a dry run unless `--send` is given: it prints the transaction in full
and what it would cost. The node's address comes from EVENKEEL_<CHAIN>_RPC, the key from an encrypted keystore file,
its password from EVENKEEL_<CHAIN>_PASSWORD or a prompt; none of them is ever shown.
"""

from __future__ import annotations

import asyncio
import getpass
import json
import os
import re
import sys
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, TypeVar

import msgspec
import typer
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from bot.domain.errors import ConfigError, OutcomeUnknown, Retryable, VenueFatal
from bot.domain.units import BPS, NS_PER_S, utc_text
from bot.runtime.configuration.credentials import variable

if TYPE_CHECKING:
    from bot.gateways.chain.rpc import Endpoint

T = TypeVar("T")
CONTRACTS: Final = Path(__file__).parents[2] / "contracts"
VAULT: Final = "GuardedVault"
EXECUTOR: Final = "AaveShort"
WARNING: Final = "UNAUDITED: nobody but its authors has looked for faults in this contract; risk what you can lose"
NOBODY: Final = "0x" + 40 * "0"
TIMEOUT_NS: Final = 10 * NS_PER_S
MINED_IN_S: Final = 300.0
POLL_S: Final = 0.5
GWEI: Final = 10**9
COIN: Final = 10**18
LEAST_TIP_WEI: Final = GWEI // 100
GAS_MARGIN_PERCENT: Final = 120

# The contract's limits by number, whether they are amounts of quote, and how large they can be.
LIMITS: Final = (
    "slippage_bps", "oracle_age_s", "deviation_bps", "lag_blocks", "trade_quote", "hour_quote", "base_bps",
    "deposit_quote", "twap_s", "delay_s", "reserve_bps", "tail_bps",
)  # fmt: skip
KINDS: Final = {100: "venue", 101: "pool", 102: "hedger", 103: "guardian"}
ROUTER_KINDS: Final = {"swap_router": 1, "swap_router_02": 2}

Address = Annotated[str, msgspec.Meta(pattern="^0x[0-9a-fA-F]{40}$")]
Amount = Annotated[float, msgspec.Meta(ge=0.0)]
Whole = Annotated[int, msgspec.Meta(ge=0)]


class PlannedLimits(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The limits of a vault to be; amounts of quote in whole tokens."""

    slippage_bps: Whole
    oracle_age_s: Whole
    deviation_bps: Whole
    lag_blocks: Whole
    trade_quote: Amount
    hour_quote: Amount
    base_bps: Whole
    deposit_quote: Amount
    twap_s: Whole
    delay_s: Whole
    reserve_bps: Whole
    tail_bps: Whole


class Plan(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A vault to be: what is in the file that `vault deploy` takes. All is explained in docs/guarded-vault.md."""

    chain_id: int
    name: Annotated[str, msgspec.Meta(min_length=1, max_length=64)]
    symbol: Annotated[str, msgspec.Meta(min_length=1, max_length=16)]
    asset: Address
    base: Address
    oracle: Address
    sequencer: Address = NOBODY
    pool: Address
    router: Address
    router_kind: Literal["swap_router", "swap_router_02"]
    owner: Address
    guardian: Address
    hedger: Address
    limits: PlannedLimits


class Draft(msgspec.Struct, frozen=True):
    """A transaction that may be sent: `to` is "" where it creates a contract, a `noun`; `words` say what it does."""

    sender: str
    to: str
    data: bytes
    words: tuple[str, ...]
    noun: str = "vault"


vault_app = typer.Typer(
    help="Guarded vaults on a chain (UNAUDITED): deploy one, look at its limits, stop it.", no_args_is_help=True
)

ChainName = Annotated[str, typer.Argument(metavar="CHAIN", help="Name whose node is in EVENKEEL_<CHAIN>_RPC")]
VaultAddress = Annotated[str, typer.Argument(metavar="ADDRESS", help="Address of the vault")]
Keystore = Annotated[Path | None, typer.Option("--keystore", metavar="FILE", help="Encrypted key that signs (V3)")]
Sender = Annotated[str, typer.Option("--from", metavar="ADDRESS", help="Who would sign, for a dry run without a key")]
Send = Annotated[bool, typer.Option("--send", help="Really send; else it is only shown")]
MaxFee = Annotated[float, typer.Option("--max-fee-gwei", min=0.0, help="Most to pay per unit of gas")]


@vault_app.command()
def deploy(
    chain: ChainName,
    plan_file: Annotated[Path, typer.Argument(metavar="PLAN.yaml", help="What to deploy, docs/guarded-vault.md")],
    keystore: Keystore = None,
    sender: Sender = "",
    send: Send = False,
    max_fee_gwei: MaxFee = 100.0,
) -> None:
    """Deploy a guarded vault. A dry run unless --send is given."""
    plan = read_plan(plan_file)
    _act(chain, keystore, sender, max_fee_gwei, lambda node, who: _draft_deploy(node, who, plan), is_sent=send)


@vault_app.command("deploy-executor")
def deploy_executor(
    chain: ChainName,
    pool: Annotated[str, typer.Option("--pool", metavar="ADDRESS", help="Aave's Pool")],
    router: Annotated[str, typer.Option("--router", metavar="ADDRESS", help="Uniswap's SwapRouter02")],
    keystore: Keystore = None,
    sender: Sender = "",
    send: Send = False,
    max_fee_gwei: MaxFee = 100.0,
) -> None:
    """Deploy the contract through which aave_v3 hedges borrow and sell. A dry run unless --send is given."""
    _act(
        chain, keystore, sender, max_fee_gwei, lambda node, who: _draft_executor(node, who, pool, router), is_sent=send
    )


@vault_app.command()
def pause(
    chain: ChainName,
    address: VaultAddress,
    unpause: Annotated[bool, typer.Option("--unpause", help="Let it go on instead (owner only)")] = False,
    keystore: Keystore = None,
    sender: Sender = "",
    send: Send = False,
    max_fee_gwei: MaxFee = 100.0,
) -> None:
    """Stop hedges, deposits and withdrawals; leaving in kind goes on. A dry run unless --send is given."""
    name = "unpause" if unpause else "pause"
    _act(chain, keystore, sender, max_fee_gwei, lambda node, who: _draft_pause(node, who, address, name), is_sent=send)


@vault_app.command()
def limits(
    chain: ChainName,
    address: VaultAddress,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object")] = False,
) -> None:
    """Show a vault's limits as the chain has them, how much of the hour is used, and who may do what."""
    found = _with_node(chain, lambda node: look(node, address))
    if as_json:
        typer.echo(json.dumps(found, indent=2))
        return
    for line in limit_lines(found):
        typer.echo(line)


# What is asked of the node


def _with_node(chain: str, work: Callable[[Endpoint], Awaitable[T]]) -> T:
    """Do something with the chain's first node; everything that needs web3 is imported in here: it takes a second."""
    from bot.gateways.chain.rpc import Endpoint, RpcError  # noqa: PLC0415 — see above

    urls = os.environ.get(variable(chain, "rpc"), "").replace(",", " ").split()
    if not urls:
        raise ConfigError([f"chain {chain}: expected a node in {variable(chain, 'rpc')}, found none"])

    async def at_node() -> T:
        async with Endpoint(urls[0], TIMEOUT_NS) as node:
            return await work(node)

    try:
        return asyncio.run(at_node())
    except RpcError as error:
        raise VenueFatal(f"chain {chain}: the node refuses: {error}") from None


async def _number(node: Endpoint, method: str, *params: object) -> int:
    return int(await node.call(method, params), 16)


def artifact(contract: str = VAULT) -> dict[str, Any]:
    """Return a built contract of ours: abi, bytecode, compiler and the hash of its source."""
    return dict(json.loads((CONTRACTS / f"{contract}.json").read_text(encoding="utf-8")))


def _inputs(name: str, contract: str = VAULT) -> list[dict[str, Any]]:
    """Return the inputs of a function of a contract, of its constructor for ""."""
    for entry in artifact(contract)["abi"]:
        if entry["type"] == ("function" if name else "constructor") and entry.get("name", "") == name:
            return list(entry["inputs"])
    raise LookupError(f"expected the contract to have {name or 'a constructor'}, found none")


async def _ask(node: Endpoint, to: str, signature: str, outputs: str, *args: object, block: str = "latest") -> Any:  # noqa: ANN401
    """Return what a view of a contract answers: one value, or a tuple of several."""
    from bot.gateways.chain.abi import Function, Undecodable, to_bytes  # noqa: PLC0415 — brings web3

    function = Function(signature, outputs)
    answer = await node.call("eth_call", [{"to": to, "data": "0x" + function.encode(*args).hex()}, block])
    try:
        values = function.decode(to_bytes(answer))
    except Undecodable:
        raise VenueFatal(f"expected {to} to answer {signature}, found that it does not; hint: is it one?") from None
    return values[0] if len(values) == 1 else values


async def _ask_if(node: Endpoint, to: str, signature: str, outputs: str, *args: object, block: str = "latest") -> Any:  # noqa: ANN401
    """Return the same, or None where the view reverts."""
    from bot.gateways.chain.rpc import Reverted  # noqa: PLC0415 — brings web3

    try:
        return await _ask(node, to, signature, outputs, *args, block=block)
    except Reverted:
        return None


# Drafts


def read_plan(path: Path) -> Plan:
    """Return the plan in a file. Raises ConfigError."""
    try:
        content = YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))
        return msgspec.convert(content, Plan)
    except (OSError, UnicodeDecodeError, YAMLError, msgspec.ValidationError) as error:
        raise ConfigError([f"{path}: expected a plan as in docs/guarded-vault.md, found: {error}"]) from None


async def _draft_deploy(node: Endpoint, sender: str, plan: Plan) -> Draft:
    chain_id = await _number(node, "eth_chainId")
    if chain_id != plan.chain_id:
        raise ConfigError([f"expected a node of chain {plan.chain_id} as the plan says, found one of {chain_id}"])
    for role in ("asset", "base", "oracle", "pool", "router"):
        if await node.call("eth_getCode", [getattr(plan, role), "latest"]) == "0x":
            raise ConfigError([f"{role}: expected a contract at {getattr(plan, role)}, found none"])
    decimals = await _ask(node, plan.asset, "decimals()", "(uint256)")
    values = []
    for name in LIMITS:
        value = getattr(plan.limits, name)
        values.append(round(value * 10**decimals) if name.endswith("_quote") else value)
    args = [
        plan.name, plan.symbol, plan.asset, plan.base, plan.oracle, plan.sequencer, plan.pool, plan.router,
        ROUTER_KINDS[plan.router_kind], plan.owner, plan.guardian, plan.hedger, values,
    ]  # fmt: skip
    data, words = _creation(VAULT, args)
    words += [f"  {name:16} {value}" for name, value in zip(LIMITS, values, strict=True)]
    words += await _doubts(node, plan)
    return Draft(sender, "", data, tuple(words))


async def _draft_executor(node: Endpoint, sender: str, pool: str, router: str) -> Draft:
    for role, address in (("pool", pool), ("router", router)):
        if (
            not re.fullmatch("0x[0-9a-fA-F]{40}", address)
            or await node.call("eth_getCode", [address, "latest"]) == "0x"
        ):
            raise ConfigError([f"--{role}: expected the address of a contract, found {address}"])
    data, words = _creation(EXECUTOR, [pool, router])
    return Draft(sender, "", data, tuple(words), "executor")


def _creation(contract: str, args: Sequence[Any]) -> tuple[bytes, list[str]]:
    """Return what creates a contract of ours, and words that say so."""
    from eth_utils.address import to_checksum_address  # noqa: PLC0415 — takes a tenth of a second

    from bot.gateways.chain.abi import encode  # noqa: PLC0415 — brings web3

    built, inputs = artifact(contract), _inputs("", contract)
    code = bytes.fromhex(built["bytecode"].removeprefix("0x"))
    data = code + encode("(" + ",".join(part["type"] for part in inputs) + ")", *args)
    words = [
        f"code       {built['name']} by {built['compiler']}, source sha256 {built['source_sha256']}",
        f"           {len(code):,} bytes of creation code, sha256 {sha256(code).hexdigest()}",
    ]
    for part, value in zip(inputs, args, strict=True):
        if part["name"] != "limits_":
            words.append(f"  {part['name'].rstrip('_'):16} {_said(value, to_checksum_address)}")
    return data, words


def _said(value: object, checksummed: Callable[[str], str]) -> str:
    return checksummed(value) if isinstance(value, str) and value.startswith("0x") else str(value)


async def _doubts(node: Endpoint, plan: Plan) -> list[str]:
    """Return what would make the vault useless or weak, though it can be deployed."""
    found = []
    window_s = plan.limits.twap_s
    told = await _ask_if(node, plan.pool, "observe(uint32[])", "(int56[],uint160[])", (window_s, 0))
    if window_s and told is None:
        hint = "call its increaseObservationCardinalityNext"
        found.append(f"doubt: the pool does not remember {window_s} s, so there will be no good price; hint: {hint}")
    if not window_s:
        found.append("doubt: twap_s 0 compares the oracle with spot only, which one transaction can push")
    if len({plan.owner.lower(), plan.guardian.lower(), plan.hedger.lower()}) < 3:
        found.append("doubt: owner, guardian and hedger should be three keys; who steals one has several roles")
    return found


async def _draft_pause(node: Endpoint, sender: str, address: str, name: str) -> Draft:
    from bot.gateways.chain.abi import Function  # noqa: PLC0415 — brings web3

    is_paused = await _ask(node, address, "paused()", "(bool)")
    if is_paused == (name == "pause"):
        raise ConfigError(
            [f"expected the vault {address} to be {'running' if is_paused else 'paused'}, found it is not"]
        )
    words = (f"calls      {name}()", f"           the vault is {'paused' if is_paused else 'running'} now")
    return Draft(sender, address, Function(f"{name}()").encode(), words)


# To show a draft, and to send it


def _act(
    chain: str,
    keystore: Path | None,
    sender: str,
    max_fee_gwei: float,
    draft_of: Callable[[Endpoint, str], Awaitable[Draft]],
    *,
    is_sent: bool,
) -> None:
    """Show what would be sent; send it and wait for it if told to."""
    who = _sender(keystore, sender)
    if is_sent and keystore is None:
        raise ConfigError(["expected --keystore FILE with --send, found none"])

    async def work(node: Endpoint) -> None:
        draft = await draft_of(node, who)
        typer.echo(WARNING)
        fields = await _priced(node, draft, round(max_fee_gwei * GWEI))
        for line in _draft_lines(chain, draft, fields):
            typer.echo(line)
        if not is_sent:
            typer.echo("dry run: nothing was sent; --send sends it")
            return
        await _send(node, chain, keystore or Path(), draft, fields)

    _with_node(chain, work)


def _sender(keystore: Path | None, sender: str) -> str:
    """Return who signs: the address that the keystore names, or that of `--from`, checksummed."""
    from eth_utils.address import is_address, to_checksum_address  # noqa: PLC0415 — takes a tenth of a second

    named = ""
    if keystore is not None:
        try:
            named = str(json.loads(keystore.read_text(encoding="utf-8")).get("address", ""))
        except (OSError, ValueError, AttributeError):
            raise ConfigError([f"expected a V3 keystore at {keystore}, found none"]) from None
        named = named if named.startswith("0x") or not named else "0x" + named
    if named and sender and named.lower() != sender.lower():
        raise ConfigError([f"expected --from to be the keystore's {named}, found {sender}"])
    who = named or sender
    if not is_address(who):
        raise ConfigError([f"expected --keystore FILE or --from ADDRESS to say who signs, found {who or 'neither'}"])
    return str(to_checksum_address(who))


async def _priced(node: Endpoint, draft: Draft, most_wei: int) -> dict[str, int]:
    """Return chain id, nonce, gas and fees of a draft; the node runs it for that, so what would fail is told here."""
    from bot.gateways.chain.rpc import Reverted, RpcError  # noqa: PLC0415 — brings web3

    asked = {"from": draft.sender, "data": "0x" + draft.data.hex()} | ({"to": draft.to} if draft.to else {})
    try:
        gas = await _number(node, "eth_estimateGas", asked)
    except Reverted as error:
        raise VenueFatal(f"expected the transaction to work, found that it reverts: {error}") from None
    block = await node.call("eth_getBlockByNumber", ["latest", False])
    base_fee_wei = int(block["baseFeePerGas"], 16)
    try:
        tip_wei = max(LEAST_TIP_WEI, await _number(node, "eth_maxPriorityFeePerGas"))
    except RpcError:
        tip_wei = LEAST_TIP_WEI
    max_fee_wei = min(2 * base_fee_wei + tip_wei, most_wei)
    if max_fee_wei < base_fee_wei + tip_wei:
        found = f"a base fee of {base_fee_wei / GWEI:.3g} and a tip of {tip_wei / GWEI:.3g}"
        raise VenueFatal(f"expected gas for {most_wei / GWEI:g} gwei at most, found {found}; hint: --max-fee-gwei")
    return {
        "chain_id": await _number(node, "eth_chainId"),
        "nonce": await _number(node, "eth_getTransactionCount", draft.sender, "pending"),
        "gas": gas,
        "gas_limit": gas * GAS_MARGIN_PERCENT // 100,
        "base_fee_wei": base_fee_wei,
        "tip_wei": tip_wei,
        "max_fee_wei": max_fee_wei,
        "balance_wei": await _number(node, "eth_getBalance", draft.sender, "latest"),
    }


def _draft_lines(chain: str, draft: Draft, fields: Mapping[str, int]) -> Iterator[str]:
    likely_wei = fields["gas"] * (fields["base_fee_wei"] + fields["tip_wei"])
    most_wei = fields["gas_limit"] * fields["max_fee_wei"]
    yield f"chain      {chain}, chain id {fields['chain_id']}"
    yield f"from       {draft.sender}, nonce {fields['nonce']}, holds {fields['balance_wei'] / COIN:.6f} coins"
    yield f"to         {draft.to or 'nobody: a contract is created'}"
    yield "value      0"
    yield from draft.words
    yield f"calldata   {len(draft.data):,} bytes, sha256 {sha256(draft.data).hexdigest()}"
    yield f"           0x{draft.data.hex()}" if draft.to else "           creation code and the arguments above"
    yield f"gas        {fields['gas']:,} estimated, limit {fields['gas_limit']:,}"
    yield (
        f"fees       base {fields['base_fee_wei'] / GWEI:.6g} gwei, tip {fields['tip_wei'] / GWEI:.6g}, "
        f"at most {fields['max_fee_wei'] / GWEI:.6g}"
    )
    yield f"cost       about {likely_wei / COIN:.8f} coins, at most {most_wei / COIN:.8f}"


async def _send(node: Endpoint, chain: str, keystore: Path, draft: Draft, fields: Mapping[str, int]) -> None:
    from bot.gateways.chain.signing import KeystoreSigner, Unsigned  # noqa: PLC0415 — brings web3

    if fields["balance_wei"] < fields["gas_limit"] * fields["max_fee_wei"]:
        raise VenueFatal(f"expected {draft.sender} to hold what the gas may cost, found too little")
    signer = await KeystoreSigner.open(keystore, _password(chain), draft.sender)
    unsigned = Unsigned(
        fields["chain_id"], fields["nonce"], draft.to, 0, draft.data, fields["gas_limit"], fields["max_fee_wei"],
        fields["tip_wei"],
    )  # fmt: skip
    signed = await signer.sign(unsigned)
    typer.echo(f"sending    {signed.tx_hash}")
    try:
        await node.call("eth_sendRawTransaction", ["0x" + signed.raw.hex()])
    except Retryable as error:
        raise OutcomeUnknown(
            f"{signed.tx_hash} may or may not have been sent: {error}; look it up before more"
        ) from None
    receipt = await _mined(node, signed.tx_hash)
    number, gas = int(receipt["blockNumber"], 16), int(receipt["gasUsed"], 16)
    if receipt["status"] != "0x1":
        raise VenueFatal(f"{signed.tx_hash} was mined in block {number} and failed")
    paid_wei = gas * int(receipt["effectiveGasPrice"], 16)
    typer.echo(f"mined      block {number}, {gas:,} gas, {paid_wei / COIN:.8f} coins")
    if not draft.to:
        typer.echo(f"{draft.noun:10} {receipt['contractAddress']}")


async def _mined(node: Endpoint, tx_hash: str) -> dict[str, Any]:
    """Return the receipt as soon as there is one."""
    for _ in range(round(MINED_IN_S / POLL_S)):
        try:
            receipt = await node.call("eth_getTransactionReceipt", [tx_hash])
        except Retryable:
            receipt = None  # asked again: the transaction is out
        if receipt is not None:
            return dict(receipt)
        await asyncio.sleep(POLL_S)
    raise OutcomeUnknown(f"expected {tx_hash} to be mined in {MINED_IN_S:g} s, found it is not; look it up before more")


def _password(chain: str) -> str:
    from bot.gateways.chain.signing import load_password  # noqa: PLC0415 — brings web3

    has_one = any(os.environ.get(variable(chain, name)) for name in ("password", "password_file"))
    if has_one or not sys.stdin.isatty():
        return load_password(chain, os.environ)
    return getpass.getpass("password of the keystore: ")


# Limits


async def look(node: Endpoint, address: str) -> dict[str, Any]:
    """Return all that `vault limits` shows, of one block; amounts of quote in whole tokens."""
    block = await node.call("eth_getBlockByNumber", ["latest", False])
    here = block["number"]

    async def ask(signature: str, outputs: str, *args: object, to: str = address) -> Any:  # noqa: ANN401
        return await _ask(node, to, signature, outputs, *args, block=here)

    asset, base = await ask("asset()", "(address)"), await ask("BASE()", "(address)")
    quote_decimals, base_decimals = [await ask("decimals()", "(uint256)", to=token) for token in (asset, base)]
    unit, base_unit = 10**quote_decimals, 10**base_decimals
    values = await asyncio.gather(*(ask("limits(uint256)", "(uint256)", n) for n in range(len(LIMITS))))
    waiting = await asyncio.gather(
        *(ask("scheduled(uint256,address)", "(uint256,uint256)", n, NOBODY) for n in range(len(LIMITS)))
    )

    def in_units(name: str, value: int) -> float | int:
        return value / unit if name.endswith("_quote") else value

    limit_values = {name: in_units(name, value) for name, value in zip(LIMITS, values, strict=True)}
    is_good, oracle_px, low_px, high_px = await ask("prices()", "(bool,uint256,uint256,uint256)")
    total = await _ask_if(node, address, "totalAssets()", "(uint256)", block=here)
    hour, used = limit_values["hour_quote"], await ask("used_this_hour()", "(uint256)") / unit
    slippage, deviation = limit_values["slippage_bps"] * BPS, limit_values["deviation_bps"] * BPS
    return {
        "vault": address,
        "warning": WARNING,
        "block": int(here, 16),
        "as_of": utc_text(int(block["timestamp"], 16) * NS_PER_S),
        "name": await ask("name()", "(string)"),
        "asset": asset,
        "base": base,
        "oracle": await ask("ORACLE()", "(address)"),
        "reference_pool": await ask("REFERENCE_POOL()", "(address)"),
        "is_paused": await ask("paused()", "(bool)"),
        "owner": await ask("owner()", "(address)"),
        "heir": await ask("heir()", "(address)"),
        "quote_held": await ask("quote_held()", "(uint256)") / unit,
        "base_held": await ask("base_held()", "(uint256)") / base_unit,
        "reserve": await ask("reserve()", "(uint256)") / unit,
        "total_assets": None if total is None else total / unit,
        "price": {"oracle": oracle_px / 1e18, "low": low_px / 1e18, "high": high_px / 1e18} if is_good else None,
        "limits": limit_values,
        "scheduled": {
            name: {"to": in_units(name, value), "from": utc_text(ready_s * NS_PER_S)}
            for name, (value, ready_s) in zip(LIMITS, waiting, strict=True)
            if ready_s
        },
        "hour": {"used_quote": used, "left_quote": max(0.0, hour - used)},
        "worst_hour": {"right_oracle": hour * slippage, "wrong_oracle": hour * (slippage + deviation)},
        "allowed": await _allowed(node, address),
    }


async def _allowed(node: Endpoint, address: str) -> dict[str, list[str]] | None:
    """Return who is allowed by kind, from the vault's own events; None if the node does not tell old ones."""
    from bot.gateways.chain.abi import Event  # noqa: PLC0415 — brings web3
    from bot.gateways.chain.nouns import Log  # noqa: PLC0415 — as above
    from bot.gateways.chain.rpc import RpcError  # noqa: PLC0415 — as above

    changed = Event("Changed(uint256 indexed what, address indexed subject, uint256 value)")
    try:
        told = await node.call("eth_getLogs", [{"address": address, "fromBlock": "0x0", "topics": [changed.topic]}])
    except (RpcError, Retryable):
        return None
    logs = [Log(one["address"], tuple(one["topics"]), bytes.fromhex(one["data"][2:]), 0) for one in told]
    now = {(fields["what"], fields["subject"]): fields["value"] for fields in changed.all(logs)}
    return {
        kind: sorted(subject for (what, subject), value in now.items() if what == number and value)
        for number, kind in KINDS.items()
    }


def limit_lines(found: Mapping[str, Any]) -> Iterator[str]:
    """Yield `vault limits` for people."""
    price, hour, worst = found["price"], found["hour"], found["worst_hour"]
    yield f"{found['name']} {found['vault']}, block {found['block']} of {found['as_of']}"
    yield found["warning"]
    yield f"state      {'PAUSED' if found['is_paused'] else 'running'}"
    held = f"{found['quote_held']:,.2f} quote, of it {found['reserve']:,.2f} reserve"
    yield f"holds      {held}; {found['base_held']:g} base"
    total = found["total_assets"]
    yield f"assets     {'unknown: no good price' if total is None else f'{total:,.2f}'}"
    if price is None:
        yield "price      none: oracle stale, or pool and oracle apart; hedges, deposits and withdrawals are refused"
    else:
        counts = f"base counts at {price['low']:,.2f} to {price['high']:,.2f}"
        yield f"price      {price['oracle']:,.2f} by the oracle, {counts}"
    for name in LIMITS:
        value = found["limits"][name]
        line = f"  {name:16} {value:>16,.2f}" if name.endswith("_quote") else f"  {name:16} {value:>16,}"
        change = found["scheduled"].get(name)
        yield line + (f"   can become {change['to']:,} from {change['from']}" if change else "")
    cap = found["limits"]["hour_quote"]
    share = hour["used_quote"] / cap if cap else 1.0
    yield f"hour       {hour['used_quote']:,.2f} of {cap:,.2f} used ({share:.0%}), {hour['left_quote']:,.2f} left"
    yield (
        f"worst case a stolen hedger's key can lose {worst['right_oracle']:,.2f} an hour while the oracle is right, "
        f"{worst['wrong_oracle']:,.2f} while it is as wrong as is let through"
    )
    yield f"  {'owner':16} {found['owner']}" + (f", offered to {found['heir']}" if found["heir"] != NOBODY else "")
    if found["allowed"] is None:
        yield "  the node does not tell old events, so who else is allowed is not known"
        return
    for kind, subjects in found["allowed"].items():
        yield f"  {kind:16} {', '.join(subjects) or 'none'}"
