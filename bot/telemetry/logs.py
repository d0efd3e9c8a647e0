"""Structured logs on stderr, with secrets masked whatever way they get in.

Masking is the last step before rendering, so that it also sees what earlier steps wrote: exception texts, stack
traces, the `repr` of any object. Nothing here can touch trading, and no log line may ever carry a credential.
"""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Mapping
from typing import Final, Literal, TextIO

import structlog
from structlog.typing import EventDict, FilteringBoundLogger, Processor, WrappedLogger

LogLevel = Literal["debug", "info", "warning", "error", "critical"]

MASK: Final = "***"


def configure_logging(level: LogLevel = "info", *, json: bool = False, stream: TextIO | None = None) -> None:
    """Send all logs, also those of libraries, to `stream` (default: stderr), masked and with ISO UTC timestamps.

    People at a terminal get aligned, coloured lines; everything else, or `json`, gets one JSON object a line.
    Libraries that use the standard `logging` are heard from `warning` upwards. Calling it again starts afresh.
    """
    out = sys.stderr if stream is None else stream
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
        structlog.processors.format_exc_info,
    ]
    renderer: Processor = structlog.processors.JSONRenderer()
    if out.isatty() and not json:
        renderer = structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
    structlog.configure(
        processors=[*shared, mask_secrets, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.WriteLoggerFactory(file=out),
        cache_logger_on_first_use=False,
    )
    _route_standard_logging(level, out, shared, renderer)


class OnceLogger:
    """Logs the first failure of a run of failures and the recovery, and counts those in between."""

    def __init__(self, log: FilteringBoundLogger) -> None:
        self._log = log
        self._failures: dict[str, int] = {}

    def failed(self, subject: str, **fields: object) -> None:
        """Note that `subject` (a venue, a feed; a small fixed set) failed; a warning the first time."""
        count = self._failures.get(subject, 0) + 1
        self._failures[subject] = count
        if count == 1:
            self._log.warning("failed", subject=subject, **fields)

    def recovered(self, subject: str, **fields: object) -> None:
        """Note that `subject` works; logged with the number of failures if it had failed."""
        count = self._failures.pop(subject, 0)
        if count:
            self._log.info("recovered", subject=subject, failures=count, **fields)


def mask_secrets(_logger: WrappedLogger, _method: str, event_dict: EventDict) -> EventDict:
    """Mask, at any depth, values under secret keys and whatever looks like a credential inside text.

    A transaction hash looks like a private key (0x and 64 hexadecimal digits) and is masked too: better than the
    reverse. What is not plain data is masked as its `repr`, because that is what a renderer would print.
    """
    return {key: _masked_value(key, value, depth=0) for key, value in event_dict.items()}


_MAX_DEPTH: Final = 16
_SENSITIVE: Final = (
    r"api[_\- ]?key|api[_\- ]?sign|secret|passw(?:or)?d|passphrase|private[_\- ]?key|priv[_\- ]?key|mnemonic"
    r"|seed[_\- ]?phrase|authorization|credential|cookie|signature|token(?![_a-z])"
)
_SENSITIVE_KEY: Final = re.compile(_SENSITIVE, re.IGNORECASE)
_QUOTED_OR_BARE: Final = r"""b?"(?:\\.|[^"\\])*"|b?'(?:\\.|[^'\\])*'|[^\s"'&,;(){}\[\]]+"""
_SENSITIVE_TEXTS: Final[tuple[tuple[re.Pattern[str], str], ...]] = (
    # a private key
    (re.compile(r"\b0x[0-9a-f]{64}\b", re.IGNORECASE), MASK),
    # user:password@ in a URL, and the key that RPC providers put into its path
    (re.compile(r"(?<=://)[^\s/?#]+(?=@)"), MASK),
    (re.compile(r"(://[^\s?#]{1,200}/v\d/)[\w\-]{20,}"), rf"\1{MASK}"),
    (re.compile(r"\b(bearer|basic)\s+[\w\-.~+/]{8,}=*", re.IGNORECASE), rf"\1 {MASK}"),
    # key=value, key: value, "key": "value" and ?key=value
    (
        re.compile(
            rf"""(\b[\w\-]{{0,40}}(?:{_SENSITIVE})[\w\-]{{0,40}}["']?\s*[=:]\s*)(?:{_QUOTED_OR_BARE})""", re.IGNORECASE
        ),
        rf"\1{MASK}",
    ),
)


def _masked_value(key: object, value: object, depth: int) -> object:
    if isinstance(key, str) and _SENSITIVE_KEY.search(key) and value is not None:
        return MASK
    return _masked(value, depth)


def _masked(value: object, depth: int) -> object:
    if value is None or isinstance(value, (bool, int, float)):
        return value
    if isinstance(value, str):
        return _masked_text(value)
    if depth >= _MAX_DEPTH:
        return "…"
    if isinstance(value, Mapping):
        return {_masked(key, depth + 1): _masked_value(key, item, depth + 1) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_masked(item, depth + 1) for item in value]
    return _masked_text(str(value) if isinstance(value, BaseException) else repr(value))


def _masked_text(text: str) -> str:
    for pattern, replacement in _SENSITIVE_TEXTS:
        text = pattern.sub(replacement, text)
    return text


def _route_standard_logging(level: LogLevel, out: TextIO, shared: list[Processor], renderer: Processor) -> None:
    handler = logging.StreamHandler(out)
    handler.set_name(__name__)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.add_logger_name, *shared],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, mask_secrets, renderer],
        )
    )
    root = logging.getLogger()
    for old in [old for old in root.handlers if old.get_name() == __name__]:
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(max(logging.WARNING, logging.getLevelNamesMapping()[level.upper()]))
