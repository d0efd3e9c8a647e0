"""`evenkeel tail`: the life of vaults, event by event, read from their journals; no daemon is asked."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.console import Console
from rich.text import Text

from bot.domain.errors import ConfigError
from bot.domain.units import utc_text
from bot.domain.windows import Told
from bot.runtime.daemon import stopping
from bot.runtime.journal_tail import JournalTail
from bot.runtime.windows import Watched
from bot.runtime.windows_cli import watch

LOOK_EVERY_S = 0.25
AT_ONCE = 1_000  # events of a vault before others have their turn
NEWEST = 20  # events shown of the past unless told otherwise
