"""Public pages on loopback: whatever JSON a test puts at a path, with ETags, failures, and a list of who asked."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

from aiohttp import web

from tests.venues.faults import FaultScript, answer_http
from tests.venues.listening import HOST

Page = Callable[[dict[str, str]], Any]


class Pages:
    """A server of pages. `pages` is path → JSON, or a function of the query; an unknown path is 404."""

    def __init__(self, pages: dict[str, Any] | None = None, faults: FaultScript | None = None) -> None:
        self.pages: dict[str, Any] = dict(pages or {})
        self.faults = faults or FaultScript()
        self.asked: list[tuple[str, dict[str, str]]] = []
        self.headers: list[dict[str, str]] = []
        self.answer_headers: dict[str, str] = {}
        self.has_etags = True
        self.unchanged = 0
        self._runner: web.AppRunner | None = None
        self.port = 0

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}"

    async def __aenter__(self) -> Self:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._serve)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, HOST, 0).start()
        self.port = int(self._runner.addresses[0][1])
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        path, query = request.match_info["path"], dict(request.query)
        self.asked.append((path, query))
        self.headers.append(dict(request.headers))

        async def execute() -> web.Response:
            if path not in self.pages:
                return web.json_response({"error": f"no page {path}"}, status=404)
            page = self.pages[path]
            text = json.dumps(page(query) if callable(page) else page)
            tag = f'"{hashlib.sha256(text.encode()).hexdigest()[:16]}"'
            if self.has_etags and request.headers.get("If-None-Match") == tag:
                self.unchanged += 1
                return web.Response(status=304, headers={"ETag": tag, **self.answer_headers})
            headers = {"ETag": tag} if self.has_etags else {}
            return web.Response(text=text, content_type="application/json", headers={**headers, **self.answer_headers})

        return await answer_http(
            request, self.faults.request(path), execute, lambda word: web.Response(status=400, text=word)
        )
