"""Runs the test world by hand: `python -m tests.chains --block-time-s 2 --parts aave perp`.

Addresses, keys and URLs go to stdout first, as JSON; then commands are read from stdin, one a line, until it ends:

    px 3300            move WETH to 3,300: feeds, Pyth, pools          mine 3           mine blocks
    warp 3600          let an hour pass                                reorg 2          replace the newest two blocks
    base-fee 50        of the next block, in Gwei                      give USDC 1000   to the hedger
    hold | release     transactions sent through the proxy             drop-next        lose the next one
    lag 5              the proxy answers as of five blocks ago         die | revive     the proxy is gone, or back
    sequencer down|up  its uptime feed                                 places           of transactions in the proxy
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable

from tests.chains.anvil import GWEI
from tests.chains.contracts import Reverted
from tests.chains.proxy import ChaosProxy
from tests.chains.world import PARTS, World, open_world

Act = Callable[..., object]


def main() -> None:
    """Start node and proxy, say where they are, and do what stdin says."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.chains", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--block-time-s", type=float, default=None, help="seconds a block; with every transaction else")
    parser.add_argument("--chain-id", type=int, default=31337)
    parser.add_argument("--parts", nargs="*", default=[], choices=PARTS, help="optional protocols")
    parser.add_argument("--proxy-port", type=int, default=0, help="0 lets the system choose")
    wanted = parser.parse_args()
    with (
        open_world(*wanted.parts, block_time_s=wanted.block_time_s, chain_id=wanted.chain_id) as world,
        ChaosProxy(world.anvil, port=wanted.proxy_port) as proxy,
    ):
        world.freshen()
        say(json.dumps(description(world, proxy), indent=1))
        acts = actions(world, proxy)
        for line in sys.stdin:
            say(carried_out(acts, line.split()))


def description(world: World, proxy: ChaosProxy) -> dict[str, object]:
    """Return what somebody needs to know who wants to use the world."""
    return {
        "chain_id": world.anvil.chain_id,
        "node": {"http": world.anvil.http_url, "ws": world.anvil.ws_url},
        "proxy": {"http": proxy.http_url, "ws": proxy.ws_url, "relay": proxy.relay_url},
        "hedger": {"address": world.hedger, "key": world.hedger_key},
        "multicall": world.multicall.address,
        **world.addresses(),
        "pools": {name: pool.address for name, pool in world.pools.items()},
    }


def actions(world: World, proxy: ChaosProxy) -> dict[str, Act]:
    """Return what each command does."""
    anvil = world.anvil

    def sequencer(state: str) -> None:
        now_s = anvil.timestamp_s
        world.feeds["sequencer"].transact("set_round", int(state == "down"), now_s, now_s)

    return {
        "px": lambda px: world.set_px(float(px)),
        "mine": lambda blocks="1": anvil.mine(int(blocks)),
        "warp": lambda seconds: anvil.warp(int(seconds)),
        "reorg": lambda depth: anvil.reorg(int(depth)),
        "base-fee": lambda gwei: anvil.set_base_fee(round(float(gwei) * GWEI)),
        "give": lambda symbol, amount: world.give(world.hedger, **{symbol: float(amount)}),
        "hold": proxy.hold,
        "release": lambda: (proxy.hold(is_on=False), proxy.release()),
        "drop-next": proxy.drop_next,
        "lag": lambda blocks: setattr(proxy, "lag_blocks", int(blocks)),
        "die": proxy.die,
        "revive": proxy.revive,
        "sequencer": sequencer,
        "places": lambda: say(json.dumps(proxy.places(), indent=1)),
    }


def carried_out(acts: dict[str, Act], words: list[str]) -> str:
    """Carry a command out; return what to say about it."""
    if not words:
        return ""
    if words[0] not in acts:
        return f"expected one of {', '.join(acts)}; found {words[0]}"
    try:
        acts[words[0]](*words[1:])
    except (TypeError, ValueError, LookupError, Reverted) as error:
        return f"{words[0]}: {error}"
    return "done"


def say(line: str) -> None:
    """Write a line to stdout at once."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
