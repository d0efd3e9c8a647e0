"""An operator at a vault that hedges on a chain: what is shown, a hand on what is stuck, and no secret anywhere."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

from bot.domain.orders import Fill, OrderCanceled
from bot.runtime.operators.control import NotRunningError, ask
from tests.acceptance.chain_vaults import PASSWORD, ChainVault, until
from tests.chains.artifacts import ROOT
from tests.chains.proxy import ChaosProxy
from tests.chains.world import World
from tests.gateways.chain.nodes import passed_on, scripted
from tests.runtime.command_line import PATIENCE_S, CommandLine, Result, open_command_line

KEY_OF_NODE, KEY_OF_SPARE, KEY_OF_WS, KEY_OF_RELAY = (
    "nK7zQw3vXm9LtR2b",
    "sP4yHc8dFj1GuN6e",
    "wB5aJx0kVo3TzM7i",
    "rE2uCq6hYl9DsG4p",
)
WRONG = "hB2oWv7eKs5XfA3n"  # a password that does not open the key, but perhaps another
SECRETS = (KEY_OF_NODE, KEY_OF_SPARE, KEY_OF_WS, KEY_OF_RELAY, PASSWORD, WRONG)


def funded(world: World, folder: Path, **options: Any) -> ChainVault:
    """Return a vault whose book is long three ether, and whose key may sell as many out of ten that are no hedge.

    From then on there is a block every second.
    """
    chain = ChainVault(world, folder, inventory_base=10.0, **options)
    chain.grant(world.uniswap.router.address)
    world.give(world.hedger, WETH=10, USDC=30_000)
    world.give(chain.holder, WETH=3)
    world.anvil.set_automine(False)
    world.anvil.set_interval(1)
    return chain


@pytest.fixture(scope="module")
def commands(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CommandLine]:
    """The command line in processes of its own."""
    with open_command_line(tmp_path_factory.mktemp("processes")) as found:
        yield found


async def told(
    commands: CommandLine, *words: object, code: int = 0, environ: Mapping[str, str] = MappingProxyType({})
) -> Result:
    """Run a command as typed, with some more in its environment, and return what it left."""
    result = await asyncio.to_thread(commands.run, *map(str, words), cwd=ROOT, environ=environ)
    assert result.code == code, (words, result)
    return result


async def seen(line: Path, wanted: Callable[[dict[str, Any]], Any]) -> dict[str, Any]:
    """Return the daemon's view as soon as it is as wanted."""

    def ask_on() -> dict[str, Any]:
        deadline_s = time.monotonic() + 2 * PATIENCE_S
        while time.monotonic() < deadline_s:
            with contextlib.suppress(NotRunningError, TimeoutError):
                view = ask(line, {"verb": "view"})
                if view["chains"] and wanted(view):
                    return view
            time.sleep(0.05)
        raise AssertionError("waited in vain")

    return await asyncio.to_thread(ask_on)


async def test_a_stuck_hedge_is_shown_sped_up_and_canceled_through_the_daemon(
    world: World, tmp_path: Path, commands: CommandLine
) -> None:
    with ChaosProxy(world.anvil) as proxy:
        chain = funded(world, tmp_path, block_s=12.0, urls=(proxy.http_url, proxy.ws_url))
        proxy.hold_next(20)
        async with chain.running():
            line = tmp_path / "chain.sock"
            view = await seen(line, lambda view: [one["state"] for one in view["chains"][0]["pending"]] == ["sent"])
            [local] = view["chains"]
            [pending] = local["pending"]
            key = pending["key"]
            assert (local["chain"], local["coin"], pending["state"], pending["nonce"]) == ("local", "ETH", "sent", 2)
            assert local["head"] > 0
            assert local["balance_coin"] > local["reserve_coin"] == 0.01
            text = (await told(commands, "status", chain.path)).out
            assert f"transaction {key}" in text
            assert "chain local gas money" in text
            [listed] = (await told(commands, "tx", "list", chain.path, "--json")).json
            assert listed["key"] == key
            sped = (await told(commands, "tx", "speed-up", chain.path, key, "--json")).json
            assert sped["versions"] >= 2
            assert sped["reason"].startswith("replaced at ")
            asked = {"verb": "transaction", "chain": "local", "key": key, "action": "burn"}
            assert await asyncio.to_thread(ask, line, asked) == {
                "error": "expected an action of cancel, speed-up, found 'burn'"
            }
            elsewhere = await asyncio.to_thread(ask, line, asked | {"chain": "mars", "action": "cancel"})
            assert elsewhere == {"error": "expected a chain of the vault, found 'mars'"}
            unknown = await asyncio.to_thread(ask, line, asked | {"key": "nobody's", "action": "cancel"})
            assert "found none by the key nobody's" in unknown["error"]
            canceled = (await told(commands, "tx", "cancel", chain.path, key, "--json")).json
            assert canceled["reason"] == "canceled on request"
            proxy.release(canceled["tx_hash"])
            [over] = await until(lambda: [one for one in chain.events(OrderCanceled, Fill) if one.order_id == key])  # type: ignore[attr-defined]
            assert isinstance(over, OrderCanceled)
            late = await told(commands, "tx", "cancel", chain.path, key, code=4)
            assert "expected a transaction that is not mined yet" in late.err


async def test_no_secret_is_ever_shown_or_kept(world: World, tmp_path: Path, commands: CommandLine) -> None:
    chain = funded(world, tmp_path)
    locked = tmp_path / "locked.yaml"  # the same with a password that does not open the key
    text = chain.path.read_text().replace("vault: chain", "vault: locked").replace("  local:", "  locked:")
    locked.write_text(text.replace("{chain: local}", "{chain: locked}").replace('"local:', '"locked:'))
    said: list[Result] = []
    environ: dict[str, str] = {}
    async with scripted(passed_on(world.anvil.http_url), f"/v2/{KEY_OF_NODE}") as node:
        for name, password in (("LOCAL", PASSWORD), ("LOCKED", WRONG)):
            environ |= {
                f"EVENKEEL_{name}_PASSWORD": password,
                f"EVENKEEL_{name}_RPC": f"{node.url},http://127.0.0.1:1/v3/{KEY_OF_SPARE}",
                f"EVENKEEL_{name}_WS": f"ws://127.0.0.1:1/ws/{KEY_OF_WS}",
                f"EVENKEEL_{name}_RELAY": f"http://127.0.0.1:1/{KEY_OF_RELAY}",
            }
        daemon = await asyncio.to_thread(
            commands.start, "-v", "run", str(chain.path), "--live", cwd=ROOT, environ=environ
        )
        try:
            line = tmp_path / "chain.sock"
            await seen(line, lambda view: any(lots for desk in view["desks"] for lots in desk["hedges"].values()))
            said.append(await told(commands, "status", chain.path, environ=environ))
            said.append(await told(commands, "tx", "list", chain.path, "--all", environ=environ))
            said.append(await told(commands, "tx", "approve", chain.path, environ=environ))
            said.append(await told(commands, "doctor", chain.path, code=4, environ=environ))  # the spare node is away
        finally:
            daemon.send(signal.SIGINT)
            said.append(await asyncio.to_thread(daemon.wait))
        said.append(await told(commands, "run", locked, "--live", code=4, environ=environ))
    everything = "".join(one.out + one.err for one in said)
    assert "http://127.0.0.1:1/***" in everything  # so that it is known whose trouble it is
    assert "opens with the password, found that it does not" in everything
    kept = {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    assert "chain.sqlite" in kept
    assert any(name.startswith("transactions-") for name in kept)
    kept["said"] = everything.encode()
    for secret in SECRETS:
        assert [name for name, content in kept.items() if secret.encode() in content] == []
