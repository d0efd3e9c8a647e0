"""A short cut of a bundled recording, a vault that trades often on it, and the command line in warm processes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from tests.runtime.command_line import CommandLine, open_command_line
from tests.runtime.short import cut_short

BUSY_VAULT = """\
vault: busy
mode: paper
feed: {recording: RECORDING}
numeraire: USD
book:
  - {instrument: ETH-28APR23-1900-C, qty_base: -100}
  - {instrument: ETH-28APR23-1900-P, qty_base: -100}
cash: {ETH: 0, USD: 500000}
hedge: {instrument: ETH-PERPETUAL, maker_bps: 0, taker_bps: 5}
policy: {type: delta_band, half_width_base: 0.3}
limits: {max_order_quote: 50000, max_orders_per_min: 30, daily_loss_quote: 100000}
latency: {feed_ms: 50, entry_ms: 400, response_ms: 300, jitter: 0.5}
"""


@pytest.fixture(autouse=True)
def own_logs() -> Iterator[None]:
    """Take back how a command that ran in this process set up its logs: the stream it wrote to is closed."""
    yield
    structlog.reset_defaults()


@pytest.fixture(scope="session")
def short_recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four hours of one expiry and everything it is hedged with."""
    return cut_short(tmp_path_factory.mktemp("recordings") / "short")


@pytest.fixture(scope="session")
def lasting_recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same four hours and three days of silence."""
    return cut_short(tmp_path_factory.mktemp("recordings") / "lasting", silence_days=3.0)


@pytest.fixture(scope="session")
def evenkeel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CommandLine]:
    """The command line, in processes of its own."""
    with open_command_line(tmp_path_factory.mktemp("processes")) as command_line:
        yield command_line


@pytest.fixture
def busy(short_recording: Path) -> Iterator[Path]:
    """A fresh folder with `busy.yaml`: a vault that hedges often and waits long for answers."""
    # not pytest's own: its long paths do not fit into a socket's name
    import tempfile

    with tempfile.TemporaryDirectory(prefix="ek-") as name:
        folder = Path(os.path.realpath(name))
        (folder / "busy.yaml").write_text(BUSY_VAULT.replace("RECORDING", str(short_recording)))
        yield folder


@pytest.fixture
def lasting(busy: Path, short_recording: Path, lasting_recording: Path) -> Path:
    """The same folder, for a daemon that keeps time: its run ends when a test ends it, however slow the machine is."""
    vault = busy / "busy.yaml"
    vault.write_text(vault.read_text().replace(str(short_recording), str(lasting_recording)))
    return busy
