"""Keys: opened only from private files, never shown, and an outside signer is believed only what was asked."""

from __future__ import annotations

import asyncio
import copy
import json
import pickle
import subprocess
import sys
import traceback
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from aiohttp import web
from eth_account import Account

from bot.domain.errors import Retryable, VenueFatal
from bot.gateways.chain.settings import ChainSettings, WalletSettings
from bot.gateways.chain.signing import (
    ExternalSigner,
    KeystoreSigner,
    Unsigned,
    check_signed,
    load_password,
    open_signer,
)
from tests.runtime.command_line import PATIENCE_S

KEY = "0x" + "4c" * 32
PASSWORD = "correct horse"
ACCOUNT = Account.from_key(KEY)
OTHER = Account.from_key("0x" + "5d" * 32)
UNSIGNED = Unsigned(
    chain_id=31337,
    nonce=7,
    to=OTHER.address,
    value_wei=3 * 10**19,
    data=b"\x01\x02",
    gas_limit=60_000,
    max_fee_wei=2 * 10**9,
    tip_wei=10**9,
)
Wrong = Callable[[dict[str, Any]], Any]


def keystore(folder: Path, mode: int = 0o600) -> Path:
    """Write a keystore whose password costs little to check; the real cost is the file's own choice."""
    path = folder / "key.json"
    path.write_text(json.dumps(Account.encrypt(KEY, PASSWORD, kdf="scrypt", iterations=2)))
    path.chmod(mode)
    return path


def fields(unsigned: Unsigned) -> dict[str, Any]:
    return {
        "type": 2,
        "chainId": unsigned.chain_id,
        "nonce": unsigned.nonce,
        "to": unsigned.to,
        "value": unsigned.value_wei,
        "data": unsigned.data,
        "gas": unsigned.gas_limit,
        "maxFeePerGas": unsigned.max_fee_wei,
        "maxPriorityFeePerGas": unsigned.tip_wei,
    }


async def test_a_keystore_signs_what_was_asked(tmp_path: Path) -> None:
    signer = await KeystoreSigner.open(keystore(tmp_path), PASSWORD, ACCOUNT.address)
    signed = await signer.sign(UNSIGNED)
    check_signed(signed.raw, UNSIGNED, ACCOUNT.address)
    expected = ACCOUNT.sign_transaction(fields(UNSIGNED))
    assert signed.raw == bytes(expected.raw_transaction)
    assert signed.tx_hash == "0x" + bytes(expected.hash).hex()


async def test_a_key_is_never_shown(tmp_path: Path) -> None:
    path = keystore(tmp_path)
    signer = await KeystoreSigner.open(path, PASSWORD, ACCOUNT.address)
    assert KEY[2:] not in repr(signer) + str(signer) + str(vars(signer))
    for take in (pickle.dumps, copy.deepcopy):
        with pytest.raises(TypeError):
            take(signer)
    guess = PASSWORD[::-1]
    with pytest.raises(VenueFatal) as wrong:
        await KeystoreSigner.open(path, guess, ACCOUNT.address)
    assert guess not in "".join(traceback.format_exception(wrong.value))
    assert wrong.value.__context__ is None
    assert wrong.value.__cause__ is None


async def test_only_a_private_file_of_the_right_key_is_opened(tmp_path: Path) -> None:
    path = keystore(tmp_path, 0o640)
    with pytest.raises(VenueFatal, match="found mode 0640"):
        await KeystoreSigner.open(path, PASSWORD, ACCOUNT.address)
    path.chmod(0o600)
    link = tmp_path / "link.json"
    link.symlink_to(path)
    with pytest.raises(VenueFatal, match="a link is not followed"):
        await KeystoreSigner.open(link, PASSWORD, ACCOUNT.address)
    with pytest.raises(VenueFatal, match=f"expected .* to hold the key of {OTHER.address}, found .*{ACCOUNT.address}"):
        await KeystoreSigner.open(path, PASSWORD, OTHER.address)
    with pytest.raises(VenueFatal, match="with its checksum"):
        await KeystoreSigner.open(path, PASSWORD, ACCOUNT.address.lower())


async def test_decrypting_does_not_hold_up_the_loop(tmp_path: Path) -> None:
    path = tmp_path / "slow.json"
    path.write_text(json.dumps(Account.encrypt(KEY, PASSWORD, kdf="scrypt", iterations=2**15)))
    path.chmod(0o600)
    opening = asyncio.create_task(KeystoreSigner.open(path, PASSWORD, ACCOUNT.address))
    turns = 0
    while not opening.done():
        await asyncio.sleep(0)
        turns += 1
    assert (await opening).address == ACCOUNT.address
    assert turns > 10


def test_the_password_comes_from_the_environment_or_a_private_file(tmp_path: Path) -> None:
    assert load_password("main-net", {"EVENKEEL_MAIN_NET_PASSWORD": PASSWORD}) == PASSWORD
    path = tmp_path / "password"
    path.write_text(PASSWORD + "\n")
    path.chmod(0o600)
    environ = {"EVENKEEL_MAINNET_PASSWORD_FILE": str(path)}
    assert load_password("mainnet", environ) == PASSWORD
    path.chmod(0o644)
    with pytest.raises(VenueFatal, match="mode 0644"):
        load_password("mainnet", environ)
    with pytest.raises(VenueFatal, match="EVENKEEL_MAINNET_PASSWORD"):
        load_password("mainnet", {})


@asynccontextmanager
async def outside_signer(answer: Callable[[dict[str, Any]], Any]) -> AsyncIterator[tuple[str, list[dict[str, Any]]]]:
    """Serve `eth_signTransaction` on loopback, answering what `answer` makes of the asked fields."""
    asked: list[dict[str, Any]] = []

    async def handle(request: web.Request) -> web.Response:
        question = await request.json()
        asked.append(question)
        return web.json_response({"jsonrpc": "2.0", "id": question["id"], **answer(question["params"][0])})

    app = web.Application()
    app.router.add_post("/", handle)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}", asked
    finally:
        await runner.cleanup()


def sign_as(account: Any, **changes: Any) -> str:
    return "0x" + bytes(account.sign_transaction(fields(UNSIGNED) | changes).raw_transaction).hex()


async def test_an_outside_signer_signs_in_either_shape() -> None:
    for shape in ("clef", "web3signer"):
        raw = sign_as(ACCOUNT)
        result = {"raw": raw, "tx": {}} if shape == "clef" else raw
        async with (
            outside_signer(lambda _, result=result: {"result": result}) as (url, asked),
            ExternalSigner(url, ACCOUNT.address, PATIENCE_S) as signer,
        ):
            signed = await signer.sign(UNSIGNED)
            assert "0x" + signed.raw.hex() == raw
            assert signed.tx_hash == "0x" + bytes(ACCOUNT.sign_transaction(fields(UNSIGNED)).hash).hex()
            assert asked[0]["method"] == "eth_signTransaction"
            assert asked[0]["params"][0] == {
                "from": ACCOUNT.address,
                "to": OTHER.address,
                "gas": "0xea60",
                "maxFeePerGas": "0x77359400",
                "maxPriorityFeePerGas": "0x3b9aca00",
                "value": hex(3 * 10**19),
                "nonce": "0x7",
                "data": "0x0102",
                "chainId": "0x7a69",
            }


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"chainId": 1}, "chain_id"),
        ({"nonce": 8}, "nonce"),
        ({"to": ACCOUNT.address}, "to"),
        ({"value": 3 * 10**19 + 1}, "value_wei"),
        ({"data": b"\x01\x03"}, "data"),
        ({"gas": 60_001}, "gas_limit"),
        ({"maxFeePerGas": 2 * 10**9 + 1}, "max_fee_wei"),
        ({"maxPriorityFeePerGas": 10**9 - 1}, "tip_wei"),
        ({"accessList": [{"address": OTHER.address, "storageKeys": []}]}, "access list"),
    ],
)
async def test_another_transaction_than_asked_is_never_used(changes: dict[str, Any], told: str) -> None:
    async with (
        outside_signer(lambda _: {"result": sign_as(ACCOUNT, **changes)}) as (url, _),
        ExternalSigner(url, ACCOUNT.address, PATIENCE_S) as signer,
    ):
        with pytest.raises(VenueFatal, match=told):
            await signer.sign(UNSIGNED)


async def test_another_key_or_rubbish_is_refused() -> None:
    wrong: list[tuple[Any, type[Exception], str]] = [
        ({"result": sign_as(OTHER)}, VenueFatal, f"found {OTHER.address}"),
        ({"result": "0x1234"}, VenueFatal, "no EIP-1559 transaction"),
        ({"result": "xyz"}, Retryable, "no hexadecimal"),
        ({"error": {"code": -32000, "message": "denied by the operator"}}, Retryable, "denied by the operator"),
        ({"result": "0x" + "00" * 1_100_000}, Retryable, "does not end"),
    ]
    for answer, kind, told in wrong:
        async with (
            outside_signer(lambda _, answer=answer: answer) as (url, _),
            ExternalSigner(url, ACCOUNT.address, PATIENCE_S) as signer,
        ):
            with pytest.raises(kind, match=told):
                await signer.sign(UNSIGNED)


async def test_no_signer_there_is_provably_not_signed() -> None:
    async with outside_signer(lambda _: {}) as (url, _):
        pass
    async with ExternalSigner(url, ACCOUNT.address, PATIENCE_S) as signer:
        with pytest.raises(Retryable, match="not signed"):
            await signer.sign(UNSIGNED)


@pytest.mark.parametrize("url", ["http://signer.example:9000", "http://10.0.0.1", "ftp://127.0.0.1", "signer"])
def test_a_signer_over_the_open_network_needs_https(url: str) -> None:
    with pytest.raises(VenueFatal, match="https"):
        ExternalSigner(url, ACCOUNT.address, PATIENCE_S)
    ExternalSigner("https://signer.example", ACCOUNT.address, PATIENCE_S)


def test_every_field_of_a_transaction_is_compared() -> None:
    raw = bytes.fromhex(sign_as(ACCOUNT)[2:])
    for name in Unsigned.__struct_fields__:
        value = getattr(UNSIGNED, name)
        other = ACCOUNT.address if name == "to" else value + (b"\0" if isinstance(value, bytes) else 1)
        with pytest.raises(VenueFatal, match=name):
            check_signed(raw, msgspec.structs.replace(UNSIGNED, **{name: other}), ACCOUNT.address)


async def test_the_wallet_says_which_signer_it_is(tmp_path: Path) -> None:
    def settings(**wallet: str) -> ChainSettings:
        found = WalletSettings(address=ACCOUNT.address, **wallet)
        return ChainSettings(venue="mainnet", chain_id=1, coin="ETH", http_urls=(), wallet=found)

    environ = {"EVENKEEL_MAINNET_PASSWORD": PASSWORD}
    async with open_signer(settings(keystore=str(keystore(tmp_path))), environ) as signer:
        check_signed((await signer.sign(UNSIGNED)).raw, UNSIGNED, ACCOUNT.address)
    async with outside_signer(lambda _: {"result": sign_as(ACCOUNT)}) as (url, asked):
        async with open_signer(settings(signer_url=url), {}) as signer:
            check_signed((await signer.sign(UNSIGNED)).raw, UNSIGNED, ACCOUNT.address)
        assert len(asked) == 1
    with pytest.raises(VenueFatal, match="a keystore or a signer"):
        async with open_signer(settings(), environ):
            pass


def test_opening_keystores_leaves_the_limit_of_recursion_as_it_was() -> None:
    program = "import sys; was = sys.getrecursionlimit(); import bot.gateways.chain.signing; print(was, end=' ');"
    program += "print(sys.getrecursionlimit(), 'py_ecc' in sys.modules)"
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, cwd=Path(__file__).parents[3], capture_output=True, text=True, check=True)
    was, left, is_loaded = done.stdout.split()
    assert (left, is_loaded) == (was, "True")
