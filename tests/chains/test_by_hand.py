"""The world by hand: it says where it is, and does what it is told."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import IO

from tests.chains.anvil import Rpc
from tests.chains.contracts import Contract
from tests.chains.own_contracts import compiled
from tests.runtime.command_line import PATIENCE_S

ROOT = Path(__file__).parents[2]


def read_object(lines: IO[str]) -> dict[str, object]:
    """Return the JSON object that comes next."""
    text = ""
    for line in lines:
        text += line
        if line == "}\n":
            return dict(json.loads(text))
    raise EOFError(f"expected a JSON object, found {text!r}")


def test_the_world_can_be_run_and_steered_by_hand() -> None:
    by_hand = subprocess.Popen(
        [sys.executable, "-m", "tests.chains"],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": "."},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        bufsize=1,
    )
    assert by_hand.stdin is not None
    assert by_hand.stdout is not None
    with by_hand:
        said = read_object(by_hand.stdout)
        node, proxy, feeds, hedger = said["node"], said["proxy"], said["feeds"], said["hedger"]
        assert isinstance(node, dict)
        assert isinstance(proxy, dict)
        assert isinstance(feeds, dict)
        assert isinstance(hedger, dict)
        assert len(hedger["key"]) == 66

        def do(command: str) -> str:
            assert by_hand.stdin is not None
            assert by_hand.stdout is not None
            by_hand.stdin.write(command + "\n")
            return by_hand.stdout.readline().rstrip()

        rpc = Rpc("127.0.0.1", int(node["http"].rpartition(":")[2]))
        feed = Contract(rpc, feeds["ETH/USD"], compiled("aggregator").abi)
        assert do("px 3300") == "done"
        assert feed.call("latestAnswer") == 3_300 * 10**8
        before = int(rpc.rpc("eth_blockNumber"), 16)
        assert do("mine 3") == "done"
        assert int(rpc.rpc("eth_blockNumber"), 16) == before + 3
        assert do("lag 2") == "done"
        late = Rpc("127.0.0.1", int(proxy["http"].rpartition(":")[2]))
        assert int(late.rpc("eth_blockNumber"), 16) == before + 1
        assert do("sequencer down") == "done"
        assert do("px much").startswith("px: could not convert")
        assert do("fly").startswith("expected one of px, mine,")
        rpc.close()
        late.close()
        by_hand.stdin.close()
        assert by_hand.wait(PATIENCE_S) == 0
