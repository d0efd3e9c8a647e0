"""Published contracts and tools, by pinned npm package: fetched with `npm pack`, checked, unpacked, never committed.

They live in `.chains/` at the project's root, or where EVENKEEL_CHAINS_CACHE says. Nothing is installed and no script
of a package is run. `./scripts/test` fetches what is missing beforehand; a test that finds something missing does too.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[2]
SECONDS_PER_FETCH = 300.0


class Package(NamedTuple):
    """An npm package, and the sha512 of its tarball in npm's spelling."""

    name: str
    version: str
    sha512: str

    @property
    def folder(self) -> Path:
        """Where it is unpacked."""
        return cache_folder() / "packages" / f"{self.name.lstrip('@').replace('/', '-')}-{self.version}"


ANVIL = {
    "x86_64": Package(
        "@foundry-rs/anvil-linux-amd64",
        "1.7.1",
        "+XmShybEaxfCrr0OUUZwYEy2OnYZt5pHH9TzBtLv3+VrK0O/ANuNSVEahqNhKHlgX7GRJ59383ofNhxkRWIYTg==",
    ),
    "aarch64": Package(
        "@foundry-rs/anvil-linux-arm64",
        "1.7.1",
        "ykHJmFOGdBR8+9smOKBm9ZZDCCCkLQctiHOAddLvmYx9mPeBDMfq6jP51hKYsO5MG8ClPLSlWe+JpiXPjoXgBQ==",
    ),
}
PACKAGES = {
    package.name: package
    for package in (
        Package(
            "@uniswap/v3-core",
            "1.0.1",
            "7pVk4hEm00j9tc71Y9+ssYpO6ytkeI0y7WE9P6UcmNzhxPePwyAxImuhVsTqWK9YFvzgtvzJHi64pBl4jUzKMQ==",
        ),
        Package(
            "@uniswap/v3-periphery",
            "1.4.4",
            "S4+m+wh8HbWSO3DKk4LwUCPZJTpCugIsHrWR86m/OrUyvSqGDTXKFfc2sMuGXCZrD1ZqO3rhQsKgdWg3Hbb2Kw==",
        ),
        Package(
            "@uniswap/swap-router-contracts",
            "1.3.1",
            "mh/YNbwKb7Mut96VuEtL+Z5bRe0xVIbjjiryn+iMMrK2sFKhR4duk/86mEz0UO5gSx4pQIw9G5276P5heY/7Rg==",
        ),
        Package(
            "viem",  # the creation code of Multicall3
            "2.57.20",
            "LSvREzKT7xFXpmxW2YFJ/OtcZRkSGLp5zywSgadBf0qQCeqh2+FxHHWyrS2zEG7ZfBWQQvk8HI1i4HPzSMD14g==",
        ),
        Package(
            "@aave/core-v3",
            "1.19.3",
            "Xr7+VcoU5b4mPwM4IUCnskw3lciwrnL4Xloyad8GOddYeixnri2lZYobNmErm1LwE50vqjI0O+9QGNKY2TDkeQ==",
        ),
        Package(
            "@perp/curie-contract",
            "2.8.4",
            "fTHxpzzuHlSyCEvI6T8Ya10Oz3Y4T06YTiCciR/4uvR9rx/9Afmm8nDLJ85ZwXiA0edce9bPUkE/ZcKY4xkJEw==",
        ),
        Package(
            "@perp/perp-oracle-contract",
            "0.6.7",
            "Pqoy4dlcMoy5oEbWOnaHbS1CQTee0ZbfEc//fS2ze0o1IVCrvhP1S+wS+6ZZtJ6Oz1RGPtGnF/F98Av7SHlVaA==",
        ),
        Package(
            "@chainlink/contracts",
            "1.5.0",
            "1fGJwjvivqAxvVOTqZUEXGR54CATtg0vjcXgSIk4Cfoad2nUhSG/qaWHXjLg1CkNTeOoteoxGQcpP/HiA5HsUA==",
        ),
        Package(
            "solc",
            "0.8.37",
            "ieUYdPDRGNKMsZpCfi9tY64Q+ASoL8tyhLuvf9cFiqDs+6ijlx8Wn2CRi0N71AlCvRx0V092rlUYu3b3PuxWlA==",
        ),
    )
}


@dataclass(frozen=True)
class Artifact:
    """A compiled contract: its ABI, and its creation code, in which libraries may still have to be named."""

    name: str
    abi: list[dict[str, Any]]
    creation_hex: str  # without 0x; holes for libraries are not hexadecimal
    holes: dict[str, dict[str, list[dict[str, int]]]]  # source file, library, places of 20 bytes

    def bytecode(self, libraries: dict[str, str] | None = None) -> bytes:
        """Return the creation code, linked with the addresses of `libraries` by name."""
        code = self.creation_hex
        for names in self.holes.values():
            for name, places in names.items():
                if name not in (libraries or {}):
                    raise KeyError(f"expected the address of library {name} to link {self.name}, found none")
                address = (libraries or {})[name].removeprefix("0x").lower()
                for place in places:
                    start = 2 * place["start"]
                    code = code[:start] + address + code[start + 2 * place["length"] :]
        return bytes.fromhex(code)


def cache_folder() -> Path:
    """Return the folder of all that is fetched and built."""
    return Path(os.environ.get("EVENKEEL_CHAINS_CACHE") or ROOT / ".chains")


def anvil_package() -> Package:
    """Return the package with Anvil for this machine."""
    machine = platform.machine()
    if machine not in ANVIL:
        raise RuntimeError(f"expected a machine Anvil is published for ({', '.join(ANVIL)}), found {machine}")
    return ANVIL[machine]


def all_packages() -> list[Package]:
    """Return every package that tests use on this machine."""
    return [anvil_package(), *PACKAGES.values()]


def missing() -> list[Package]:
    """Return the packages that are not in the cache."""
    return [package for package in all_packages() if not package.folder.is_dir()]


def folder_of(name: str) -> Path:
    """Return the unpacked folder of a package; fetches it if need be."""
    return ensure(PACKAGES[name])


def anvil_binary() -> Path:
    """Return the program."""
    return ensure(anvil_package()) / "bin" / "anvil"


def ensure(package: Package) -> Path:
    """Return the unpacked folder of a package; fetches it if need be."""
    if not package.folder.is_dir():
        fetch([package])
    return package.folder


def fetch(packages: list[Package]) -> None:
    """Fetch, check and unpack packages. Whoever else does the same at the same time does no harm."""
    npm = shutil.which("npm")
    if npm is None:
        raise RuntimeError("expected npm to fetch published contracts with, found none; hint: apt-get install npm")
    store = cache_folder() / "packages"
    store.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=store, prefix=".fetch-") as temporary:
        names = [f"{package.name}@{package.version}" for package in packages]
        packed = subprocess.run(
            [npm, "pack", "--loglevel=error", "--pack-destination", temporary, *names],
            cwd=temporary, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
            timeout=SECONDS_PER_FETCH,
        )  # fmt: skip
        if packed.returncode:
            code = re.search(r"npm \w+ code (\w+)", packed.stderr)
            reason = code[1] if code else f"exit code {packed.returncode}"
            raise RuntimeError(f"expected `npm pack` to fetch {', '.join(names)}; found {reason}; hint: is npm online?")
        for package in packages:
            unpack(package, Path(temporary))


def unpack(package: Package, fetched: Path) -> None:
    """Check a fetched tarball against its pinned hash, and put its files where they belong."""
    tarball = fetched / f"{package.folder.name}.tgz"
    found = sha512_of(tarball)
    if found != package.sha512:
        raise RuntimeError(f"expected sha512 {package.sha512} of {package.name} {package.version}, found {found}")
    with tarfile.open(tarball) as archive:
        archive.extractall(fetched / package.folder.name, filter="data")
    unpacked = fetched / package.folder.name / "package"
    try:
        unpacked.rename(package.folder)
    except OSError:
        if not package.folder.is_dir():  # else somebody else was faster
            raise


def sha512_of(path: Path) -> str:
    """Return a file's hash in npm's spelling."""
    return base64.b64encode(hashlib.sha512(path.read_bytes()).digest()).decode()


@lru_cache(maxsize=256)
def artifact(package: str, path: str) -> Artifact:
    """Return a contract of a package by its name, or by as much of its path as tells it from others of that name."""
    root = folder_of(package) / "artifacts"
    parts = tuple(path.split("/"))
    found = [file for file in root.rglob(f"{parts[-1]}.json") if file.with_suffix("").parts[-len(parts) :] == parts]
    if len(found) != 1:
        names = [str(file.relative_to(root)) for file in found] or "none"
        raise LookupError(f"expected one contract {path} in {package}, found {names}")
    content = json.loads(found[0].read_text(encoding="utf-8"))
    return Artifact(
        content["contractName"],
        content["abi"],
        content["bytecode"].removeprefix("0x"),
        content.get("linkReferences") or {},
    )


@cache
def multicall3_creation_code() -> bytes:
    """Return the creation code of Multicall3, the same on every chain."""
    text = (folder_of("viem") / "_cjs" / "constants" / "contracts.js").read_text(encoding="utf-8")
    match = re.search(r"multicall3Bytecode = '0x([0-9a-f]+)'", text)
    if match is None:
        raise LookupError("expected the creation code of Multicall3 in viem, found none")
    return bytes.fromhex(match[1])


def write_at_once(path: Path, data: bytes) -> None:
    """Write a file that others may be about to read or write: they see it whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent)
    with os.fdopen(handle, "wb") as file:
        file.write(data)
    Path(temporary).rename(path)


def main() -> None:
    """Fetch what is missing, with one line that says so."""
    if absent := missing():
        names = ", ".join(f"{package.name} {package.version}" for package in absent)
        sys.stderr.write(f"fetching what tests of chains need (once): {names}\n")
        try:
            fetch(absent)
        except RuntimeError as error:
            sys.exit(str(error))


if __name__ == "__main__":
    main()
