"""Keys: found where they may be, refused where they may not, and never said aloud."""

from __future__ import annotations

from pathlib import Path

import pytest

from bot.domain.errors import VenueFatal
from bot.gateways.exchange import Credentials
from bot.runtime.configuration.credentials import load_credentials, variable

SECRET = "hunter2-4711"


def key_file(folder: Path, text: str, name: str = "keys.toml", mode: int = 0o600) -> Path:
    path = folder / name
    path.write_text(text)
    path.chmod(mode)
    return path


def refusal(source: Path | str, environ: dict[str, str] | None = None) -> str:
    with pytest.raises(VenueFatal) as caught:
        load_credentials("deribit", str(source), environ or {})
    text = str(caught.value)
    assert SECRET not in text
    assert SECRET not in repr(caught.value.__cause__)
    assert text.startswith("deribit: expected ")
    assert "; hint: " in text
    assert "\n" not in text
    return text


def test_they_come_from_the_environment() -> None:
    environ = {"EVENKEEL_BINANCE_USDM_API_KEY": "k", "EVENKEEL_BINANCE_USDM_SECRET": f" {SECRET}\n", "OTHER": "x"}
    assert load_credentials("binance-usdm", "env", environ) == Credentials(api_key="k", secret=SECRET)
    assert variable("hyperliquid", "private_key") == "EVENKEEL_HYPERLIQUID_PRIVATE_KEY"


def test_none_in_the_environment_says_where_they_were_expected() -> None:
    assert "the environment (EVENKEEL_DERIBIT_API_KEY …), found none" in refusal("env", {"EVENKEEL_OKX_API_KEY": "k"})


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("keys.toml", f'api_key = "k"\nsecret = "{SECRET}"\n'),
        ("keys.yaml", f"api_key: k\nsecret: {SECRET}\n"),
        ("keys", f"api_key: k\nsecret: {SECRET}\n"),
    ],
)
def test_they_come_from_a_private_file(tmp_path: Path, name: str, text: str) -> None:
    path = key_file(tmp_path, text, name)
    assert load_credentials("deribit", str(path), {}) == Credentials(api_key="k", secret=SECRET)


def test_only_a_private_file_of_ours_will_do(tmp_path: Path) -> None:
    path = key_file(tmp_path, f'secret = "{SECRET}"', mode=0o640)
    assert f"found mode 0640; hint: chmod 600 {path}" in refusal(path)
    assert "No such file" in refusal(tmp_path / "gone")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (f'secret = "{SECRET}', "a TOML or YAML mapping of names to texts, found something else"),
        ("", "expected credentials in"),
        (f'apiKey = "{SECRET}"', "found apiKey; hint: the names are in lower case"),
        ("secret = 4711", "found something else"),
        ("[deribit]\nsecret = 'x'", "found something else"),
    ],
)
def test_a_file_that_holds_something_else_is_refused(tmp_path: Path, text: str, said: str) -> None:
    assert said in refusal(key_file(tmp_path, text))
