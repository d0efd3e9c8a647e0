from __future__ import annotations

import re

from starlette.requests import Request

from bot.telemetry.dashboard.app import ASSET_TYPES, ASSETS, _templates
from bot.telemetry.dashboard.gate import NONCE


def test_every_script_and_style_sheet_of_the_framework_carries_the_nonce() -> None:
    request = Request({"type": "http", "headers": [], NONCE: "n0nce"})
    words = dict.fromkeys(("imports", "vue_config", "socket_io_js_query_params", "socket_io_js_transports"), "{}")
    page = _templates().TemplateResponse(request, "index.html", {"translations": {}, **words})
    text = bytes(page.body).decode()
    tags = re.findall(r"<(?:script|style)\b[^>]*>", text)
    assert len(tags) > 5
    assert [tag for tag in tags if 'nonce="n0nce"' not in tag] == []
    assert "http://" not in text
    assert "https://" not in text


def test_what_is_served_is_there_and_names_no_other_place() -> None:
    for name in ASSET_TYPES:
        text = (ASSETS / name).read_text(encoding="utf-8").replace("http://www.w3.org/2000/svg", "")
        assert "http" not in text
        assert "eval" not in text


def test_what_the_scripts_import_is_served() -> None:
    texts = [path.read_text(encoding="utf-8") for path in ASSETS.glob("*.js")]
    imported = {name for text in texts for name in re.findall(r'from "/assets/([^"]+)"', text)}
    assert imported == {"charts.js"}
    assert {ASSET_TYPES.get(name) for name in imported} == {"text/javascript"}
