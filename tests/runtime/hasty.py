"""`evenkeel …` of somebody who waits a second for a daemon's answer: for tests of daemons that will not give any."""

from __future__ import annotations

from bot.runtime.cli import app as cli
from bot.runtime.operators import control


def main() -> None:
    """Run the command line."""
    control.ANSWER_TIMEOUT_S = 1.0
    cli.main()
