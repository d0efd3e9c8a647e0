"""Tests of what is said about chains that do not fit the rest of a vault file."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from bot.domain.errors import ConfigError
from bot.runtime.configuration.config import load_vaults
from tests.runtime.chain_files import POOL, WALLET, chain_vault


def problems(tmp_path: Path, text: str, *, allow_live: bool = False) -> list[str]:
    path = tmp_path / "vault.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_vaults([path], allow_live=allow_live)
    return [problem.removeprefix(f"{path}:") for problem in caught.value.problems]


def change(text: str, old: str, new: str) -> str:
    assert old in text
    return text.replace(old, new, 1)


def test_a_vault_with_one_chain_and_no_exchange_loads(tmp_path: Path) -> None:
    path = tmp_path / "vault.yaml"
    path.write_text(chain_vault())
    (vault,) = load_vaults([path])
    assert vault.book_chains == ("local",)
    assert not vault.venues


HEDGE = chain_vault().partition("    hedges:\n")[2].partition("    holders:")[0]
ORACLE = next(line for line in chain_vault().splitlines(keepends=True) if "link: {" in line)
HOLDER = next(line for line in chain_vault().splitlines(keepends=True) if "position_manager" in line)


@pytest.mark.parametrize(
    ("part", "twin", "expected"),
    [
        (HEDGE, HEDGE.replace("WETH-USDC:", "again:"), r"it would count twice, found again is WETH"),
        (ORACLE, ORACLE.replace("link:", "again:"), r"on a single one, found again is link again"),
        (HOLDER, HOLDER.replace("[weth-usdc]", "[]"), r"every holder once, found the address of entry 0 again"),
    ],
)
def test_what_would_be_counted_twice_is_refused(tmp_path: Path, part: str, twin: str, expected: str) -> None:
    text = change(chain_vault(), part, part + twin)
    assert any(re.search(expected, problem) for problem in problems(tmp_path, text))


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("{chain: local}", "{chain: lokal}", r"expected local, found lokal; hint: name one of chains"),
        ("route: [weth-usdc]", "route: [weth]", r"expected one of weth-usdc, found weth; hint: name one of its pools"),
        ("assets: [WETH, USDC]", "assets: [WETH, DAI]", r"expected one of USDC or WETH or wstETH, found DAI"),
        ("quote: USDC, fee_pips", "quote: DAI, fee_pips", r"expected one of USDC or WETH or wstETH, found DAI"),
        ("        base: WETH\n", "        base: wstETH\n", r"expected a route that goes on from wstETH"),
        ("contracts: {router:", "contracts: {rooter:", r"expected contracts.router for uniswap_v3, found rooter"),
        ("http://127.0.0.1:8545", "https://node.example/v2/abcdefghijklmnopqrstuvwx", r"no secret in a file"),
        ("http://127.0.0.1:8545", "https://me:pw@node.example", r"no secret in a file"),
        (
            "keystore: hedger.json",
            "keystore: a, signer: b",
            r"expected either keystore or signer",
        ),
        (
            "feed: live",
            "feed: {recording: eth-2023-04}",
            r"expected a simulated chain with a rec",
        ),
        ("    block_s: 2\n", "    block_s: 2\n    simulated: {liquidity_quote: 1000000}\n", r"expected a real chain"),
        ("protocol: uniswap_v3", "protocol: uniswap_v4", r"expected 'uniswap_v3', 'aave_v3', 'perp_v2' or"),
        (f'"{POOL}"', '"0x88e6"', r"expected an address, 0x and 40 hexadecimal digits, found '0x88e6'"),
        ("decimals: 6", "decimals: 99", r"expected a number of at most 36, found 99"),
        ('"local:WETH-USDC"', '"locul:WETH-USDC"', r"expected a venue of local, found locul"),
    ],
)
def test_what_means_nothing_is_named(tmp_path: Path, old: str, new: str, expected: str) -> None:
    found = problems(tmp_path, change(chain_vault(), old, new))
    assert any(re.search(expected, problem) for problem in found), found


def test_the_book_of_a_chain_needs_holders(tmp_path: Path) -> None:
    text = re.sub(r"    holders:\n.*\n", "", chain_vault())
    assert any("expected holders, as the book names this chain, found none" in one for one in problems(tmp_path, text))


def test_a_secret_is_not_shown(tmp_path: Path) -> None:
    text = change(chain_vault(), "http://127.0.0.1:8545", "https://node.example/v2/abcdefghijklmnopqrstuvwx")
    (problem,) = problems(tmp_path, text)
    assert "abcdefgh" not in problem
    assert "EVENKEEL_LOCAL_RPC" in problem


def test_live_needs_a_wallet_where_it_hedges(tmp_path: Path) -> None:
    text = change(chain_vault(), "mode: paper", "mode: live")
    text = change(text, f'    wallet: {{address: "{WALLET}", keystore: hedger.json}}\n', "")
    found = problems(tmp_path, text, allow_live=True)
    assert any("expected a wallet: hedges are sent from it, found none" in one for one in found), found


def test_a_chain_and_a_venue_do_not_share_a_name(tmp_path: Path) -> None:
    text = change(chain_vault(), "chains:\n", "venues: {local: {exchange: deribit}}\nchains:\n")
    assert any("expected a name that no venue has, found local" in one for one in problems(tmp_path, text))
