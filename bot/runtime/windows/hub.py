"""What windows share: the vaults they watch, what they know of one another, and how a word reaches a daemon."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from bot.domain.windows import Alert
from bot.runtime.configuration.vault import Vault
from bot.runtime.operators import control
from bot.telemetry.alerts.keeper import Telling


class Watched(NamedTuple):
    """A vault whose daemon is watched, the file it was read from, and where its daemon and its journal are."""

    vault: Vault
    vault_file: Path
    socket_path: Path
    journal_path: Path


class Hub:
    """What windows know of one another; each fills in its own part.

    `refused_commands` counts commands that were refused, by reason; `broker_away_ns` is since when the broker is away
    (wall clock, 0: it is not). `notice` takes what people are told. `open_alerts` returns a vault's open alerts, ""
    those of the desk; `acknowledge` takes note that somebody has seen one and returns why not, "" if so. `handlers`
    answer the verbs asked at the windows' own socket.
    """

    def __init__(self) -> None:
        self.refused_commands: Counter[str] = Counter()
        self.broker_away_ns = 0
        self.dropped = 0  # states that made way for newer ones before they were published
        self.notice: Callable[[Telling, int], None] = lambda _told, _now_ns: None
        self.open_alerts: Callable[[str], Sequence[Alert]] = lambda _vault: ()
        self.acknowledge: Callable[[str, str], str] = lambda _alert_id, _who: "no alerts are kept here"
        self.handlers: dict[str, Callable[[dict[str, Any]], Awaitable[dict[str, Any]]]] = {}


async def order_daemon(watched: Watched, question: Mapping[str, Any], timeout_s: float = 5.0) -> dict[str, Any]:
    """Put an operator's word to a vault's daemon; return its answer, {"error": …} if it gave none.

    `question` is that of the verb `operate` without the verb.
    """
    line = control.Line(watched.socket_path, timeout_s)
    try:
        answer: dict[str, Any] = msgspec.json.decode(await line.ask({"verb": "operate", **question}))
    except control.NotRunningError:
        return {"error": f"expected a running daemon of {watched.vault.vault}, found none"}
    except TimeoutError:
        return {"error": f"expected an answer within {timeout_s:g} s, found none; it may still do what it was told"}
    except (OSError, ValueError, msgspec.DecodeError) as error:
        return {"error": f"expected an answer, found {type(error).__name__}: {str(error)[:200]}"}
    finally:
        line.close()
    return answer
