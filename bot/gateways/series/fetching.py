"""JSON pages over HTTP: few retries, what has not changed is not read again, and no key in anything that is shown."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Final, Self

import aiohttp
import msgspec

from bot.domain.errors import Retryable
from bot.domain.units import NS_PER_S
from bot.gateways.addresses import masked, why_failed

_MAX_BYTES: Final = 32 * 1024 * 1024
_MAX_PAGES_KEPT: Final = 64
_HEADERS: Final = {"Accept": "application/json", "User-Agent": "evenkeel"}
_WAIT: Final = frozenset({429, 500, 502, 503, 504})


class SeriesDown(Retryable):
    """A series could not be read: not answered, refused, or not in its shape."""


class _Kept(msgspec.Struct, frozen=True):
    etag: str
    value: Any


class JsonPages:
    """A client of pages; `async with` it. It asks `tries` times at most and waits longer each time."""

    def __init__(
        self, timeout_ns: int = 10 * NS_PER_S, tries: int = 3, pause_s: float = 0.5, longest_s: float = 10.0
    ) -> None:
        self._timeout_s = timeout_ns / NS_PER_S
        self._tries = tries
        self._pause_s = pause_s
        self._longest_s = longest_s
        self._session: aiohttp.ClientSession | None = None
        self._kept: dict[str, _Kept] = {}

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=self._timeout_s),
            headers=_HEADERS,
            middlewares=(_once_only,),
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def get(self, url: str, query: Mapping[str, str | int]) -> Any:  # noqa: ANN401
        """Return the JSON of a page. Raises SeriesDown, in one line and without the query, once every try failed."""
        problem = ""
        for attempt in range(self._tries):
            asked_s = 0.0
            try:
                return await self._once(url, query)
            except _Later as later:
                problem, asked_s = str(later), later.after_s
            except (aiohttp.ClientError, OSError, TimeoutError) as error:
                problem = why_failed(error, self._timeout_s)
            if attempt + 1 < self._tries:
                await asyncio.sleep(min(max(self._pause_s * 2**attempt, asked_s), self._longest_s))
        raise SeriesDown(f"{masked(url)}: {problem}, {self._tries} times")

    async def _once(self, url: str, query: Mapping[str, str | int]) -> Any:  # noqa: ANN401
        if self._session is None:
            raise SeriesDown(f"{masked(url)}: the client is not open")
        place = f"{url}?{sorted(query.items())}"
        kept = self._kept.get(place)
        headers = {"If-None-Match": kept.etag} if kept is not None else {}
        async with self._session.get(url, params=dict(query), headers=headers, allow_redirects=False) as response:
            if response.status == 304 and kept is not None:
                return kept.value
            if response.status in _WAIT:
                after = response.headers.get("Retry-After", "")
                raise _Later(f"HTTP {response.status}", float(after) if after.isdecimal() and len(after) < 7 else 0.0)
            if response.status != 200:
                raise SeriesDown(f"{masked(url)}: HTTP {response.status}; hint: check its address and key")
            body = bytearray()
            async for chunk in response.content.iter_any():
                body += chunk
                if len(body) > _MAX_BYTES:
                    raise SeriesDown(f"{masked(url)}: answered more than {_MAX_BYTES} bytes")
            etag = response.headers.get("ETag", "")
        try:
            value = msgspec.json.decode(body)
        except msgspec.DecodeError:
            raise _Later("expected JSON, found something else", 0.0) from None
        self._keep(place, etag, value)
        return value

    def _keep(self, place: str, etag: str, value: object) -> None:
        self._kept.pop(place, None)
        if etag:
            self._kept[place] = _Kept(etag, value)
            while len(self._kept) > _MAX_PAGES_KEPT:
                del self._kept[next(iter(self._kept))]


async def _once_only(request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
    """Turn the two errors that make aiohttp ask again by itself into one that does not: tries are counted here."""
    try:
        return await handler(request)
    except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError):
        raise
    except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError) as error:
        raise aiohttp.ClientConnectionError(type(error).__name__) from None


class _Later(Exception):
    def __init__(self, text: str, after_s: float) -> None:
        super().__init__(text)
        self.after_s = after_s
