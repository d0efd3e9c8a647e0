"""`evenkeel …` under a service manager: the first arguments are its socket and how often it wants to hear, in µs."""

from __future__ import annotations

import os
import sys

from bot.runtime.cli import app as cli


def main() -> None:
    """Run the command line."""
    os.environ["NOTIFY_SOCKET"], os.environ["WATCHDOG_USEC"] = sys.argv.pop(1), sys.argv.pop(1)
    os.environ["WATCHDOG_PID"] = str(os.getpid())
    cli.main()
