"""Structured logs on stderr, with secrets masked whatever way they get in.

Masking is the last step before rendering, so that it also sees what earlier steps wrote: exception texts, stack
traces, the `repr` of any object. Nothing here can touch trading, and no log line may ever carry a credential.
"""

from __future__ import annotations

import base64
import json
import logging
import re
import sys
from collections.abc import Iterable, Mapping
from typing import Final, Literal, TextIO
from urllib.parse import parse_qsl, quote, quote_plus, unquote, urlsplit

import structlog
from structlog.typing import EventDict, FilteringBoundLogger, Processor, WrappedLogger

LogLevel = Literal["debug", "info", "warning", "error", "critical"]

MASK: Final = "***"
MIN_SECRET_CHARS: Final = 6
MIN_PART_CHARS: Final = 16  # shorter parts of an address are words


def configure_logging(level: LogLevel = "info", *, as_json: bool = False, stream: TextIO | None = None) -> None:
    """Send all logs, also those of libraries, to `stream` (default: stderr), masked and with ISO UTC timestamps.

    People at a terminal get aligned, coloured lines; everything else, or `as_json`, gets one JSON object a line.
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
    if out.isatty() and not as_json:
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
            self._log.warning("subject.failed", subject=subject, **fields)

    def recovered(self, subject: str, **fields: object) -> None:
        """Note that `subject` works; logged with the number of failures if it had failed."""
        count = self._failures.pop(subject, 0)
        if count:
            self._log.info("subject.recovered", subject=subject, failures=count, **fields)


def mask_secrets(_logger: WrappedLogger, _method: str, event_dict: EventDict) -> EventDict:
    """Mask, at any depth, values under secret keys and whatever looks like a credential inside text.

    A transaction hash looks like a private key (0x and 64 hexadecimal digits) and is masked too: better than the
    reverse. What is not plain data is masked as its `repr`, because that is what a renderer would print.
    """
    return {key: _masked_value(key, value, depth=0) for key, value in event_dict.items()}


def keep_secret(*values: str) -> None:
    """Mask these values from now on wherever they turn up in a log line, also as URLs and base64 have them.

    A value shorter than `MIN_SECRET_CHARS` is not taken: it would be found in words that are no secret. Others of the
    same process see it too; it cannot be taken back.
    """
    global _known_secrets  # noqa: PLW0603 — one process has one environment, and one set of secrets
    forms = {form for value in values if len(value) >= MIN_SECRET_CHARS for form in _forms_of(value)}
    if forms <= _forms:
        return
    _forms.update(forms)
    longest_first = sorted(_forms, key=len, reverse=True)  # or what is left of a longer one would show
    _known_secrets = re.compile("|".join(map(re.escape, longest_first)))


def keep_address(url: str) -> None:
    """Mask what of an address may be a secret: a password, and whatever is long in the rest of it but a host's name."""
    parts = urlsplit(url)
    user, _, host = parts.netloc.rpartition("@")
    values = [value for _, value in parse_qsl(parts.query)]
    held = [user, *user.split(":", 1), *parts.path.split("/"), parts.path.strip("/"), parts.query, *values]
    held += [] if "." in host else [host, *host.split(":")]  # where some services have their token
    held = [part for part in held if len(part) >= MIN_PART_CHARS]
    held += [parts.password] if parts.password else []
    if held:
        keep_secret(url, *held, *map(unquote, held))


def without_secrets(text: str) -> str:
    """Return a text without the secrets this process knows by value, for what leaves it otherwise than by the log."""
    return text if _known_secrets is None else _known_secrets.sub(MASK, text)


def keep_environment_secret(environ: Mapping[str, str], also: Iterable[str] = ()) -> None:
    """Mask the values of variables that by their names hold secrets, and of those that are named in `also`."""
    named = set(also)
    keep_secret(*(value for name, value in environ.items() if name in named or _SECRET_VARIABLE.search(name)))


def _forms_of(value: str) -> set[str]:
    """Return a value as it may turn up: as it is, escaped, in a URL, in base64 at any offset of what surrounds it."""
    raw = value.encode()
    encoded = {base64.b64encode(raw).decode().rstrip("="), base64.urlsafe_b64encode(raw).decode().rstrip("=")}
    # with one or two bytes before it only the middle of the base64 text is the value's own
    shifted = {base64.b64encode(b"\0" * n + raw).decode()[4:].rstrip("=")[:-2] for n in (1, 2)}
    forms = {value, quote(value), quote(value, safe=""), quote_plus(value), repr(value)[1:-1], json.dumps(value)[1:-1]}
    return {form for form in forms | encoded | shifted if len(form) >= MIN_SECRET_CHARS}


_forms: Final[set[str]] = set()
_known_secrets: re.Pattern[str] | None = None
_SECRET_VARIABLE: Final = re.compile(
    r"(SECRET|PASSW(OR)?D|PASSPHRASE|TOKEN|CREDENTIAL|MNEMONIC|(API|PRIVATE|SIGNING|SESSION|ACCESS)_?KEY)"
)
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
    if _known_secrets is not None:
        text = _known_secrets.sub(MASK, text)
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
