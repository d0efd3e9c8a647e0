"""Packages are what was pinned, contracts are found by name, libraries are linked."""

from __future__ import annotations

import tarfile
from pathlib import Path

import pytest

from tests.chains import artifacts
from tests.chains.artifacts import Artifact, Package, anvil_binary, artifact, unpack
from tests.chains.uniswap import CORE, PERIPHERY


@pytest.fixture
def tarball(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder into which something of that name was fetched, and let the cache be another one."""
    monkeypatch.setenv("EVENKEEL_CHAINS_CACHE", str(tmp_path / "cache"))
    (tmp_path / "cache" / "packages").mkdir(parents=True)
    content = tmp_path / "package"
    content.mkdir()
    (content / "package.json").write_text("{}")
    with tarfile.open(tmp_path / "some-thing-1.0.0.tgz", "w:gz") as archive:
        archive.add(content, "package")
    return tmp_path


def test_what_is_not_what_was_pinned_is_refused(tarball: Path) -> None:
    wanted = Package("@some/thing", "1.0.0", "AAAA")
    with pytest.raises(RuntimeError, match=r"expected sha512 AAAA of @some/thing 1\.0\.0, found \S{88}"):
        unpack(wanted, tarball)
    assert not wanted.folder.exists()


def test_what_was_pinned_is_unpacked_once(tarball: Path) -> None:
    found = Package("@some/thing", "1.0.0", artifacts.sha512_of(tarball / "some-thing-1.0.0.tgz"))
    unpack(found, tarball)
    assert (found.folder / "package.json").read_text() == "{}"
    unpack(found, tarball)  # as somebody does who was slower
    assert [path.name for path in found.folder.parent.iterdir()] == ["some-thing-1.0.0"]


@pytest.mark.usefixtures("tarball")
def test_an_empty_cache_lacks_everything() -> None:
    assert artifacts.missing() == artifacts.all_packages()
    assert len(artifacts.missing()) == 10
    artifacts.anvil_package().folder.mkdir()
    assert artifacts.missing() == artifacts.all_packages()[1:]


def test_anvil_can_be_run() -> None:
    assert anvil_binary().stat().st_mode & 0o111


def test_contracts_are_found_by_name_or_by_path() -> None:
    pool = artifact(CORE, "UniswapV3Pool")
    assert pool.name == "UniswapV3Pool"
    assert len(pool.bytecode()) > 20_000
    assert artifact(CORE, "UniswapV3Pool.sol/UniswapV3Pool") == pool
    with pytest.raises(LookupError, match="expected one contract UniswapV4Pool in @uniswap/v3-core, found none"):
        artifact(CORE, "UniswapV4Pool")


def test_libraries_are_linked() -> None:
    descriptor = artifact(PERIPHERY, "NonfungibleTokenPositionDescriptor")
    with pytest.raises(KeyError, match="expected the address of library NFTDescriptor to link"):
        descriptor.bytecode()
    address = "0x" + "ab" * 20
    code = descriptor.bytecode({"NFTDescriptor": address})
    assert code.count(bytes.fromhex("ab" * 20)) == 1
    assert Artifact("Plain", [], "6001", {}).bytecode() == b"\x60\x01"
