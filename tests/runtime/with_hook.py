"""`evenkeel …` with an alert address in its environment, which the first argument is: the desk file only names it."""

from __future__ import annotations

import os
import sys

from bot.runtime.cli import app as cli


def main() -> None:
    """Run the command line."""
    os.environ["ALERT_HOOK"] = sys.argv.pop(1)
    cli.main()
