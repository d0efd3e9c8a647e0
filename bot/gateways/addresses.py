"""Addresses of nodes and sources may hold a key: what of them, and of a connection that failed, may be shown."""

from __future__ import annotations

from urllib.parse import urlsplit

import aiohttp


def masked(url: str) -> str:
    """Return an address with all but scheme and host taken out, fit to be shown."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        return "***"
    if not parts.scheme or not host:
        return "***"
    has_more = bool(parts.path.strip("/") or parts.query or parts.username or parts.fragment)
    return f"{parts.scheme}://{host}{f':{port}' if port else ''}{'/***' if has_more else ''}"


def why_failed(error: BaseException, timeout_s: float) -> str:
    """Return why a connection failed, without the address that aiohttp's own texts hold."""
    if isinstance(error, TimeoutError):
        return f"no answer within {timeout_s:g} s"
    inner = error.os_error if isinstance(error, aiohttp.ClientConnectorError) else error
    if isinstance(inner, OSError) and inner.strerror:
        return inner.strerror
    return type(error).__name__
