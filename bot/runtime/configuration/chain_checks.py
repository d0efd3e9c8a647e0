"""The chains of a vault file against the rest of it: every name that is used must be there. Nobody is contacted."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Final

from bot.runtime.configuration.yaml_source import Location, Value, YamlSource

SECRET_IN_URL: Final = re.compile(r"://[^/@\s]*:[^/@\s]*@|[?&][^=\s]*=|/[A-Za-z0-9_-]{20,}(/|$)")
CHAIN_NAME: Final = re.compile(r"[a-z][a-z0-9-]{0,39}")
ROLES: Final = {
    "uniswap_v3": ("router",),
    "aave_v3": ("pool", "executor", "router"),
    "perp_v2": ("clearing_house", "base_token"),
    "guarded_vault": ("vault", "router"),
}
SIMULATED_KEYS: Final = frozenset({"chain_id", "coin", "block_s", "simulated"})
MANUAL: Final = "see docs/configuration.md"


def check_chains(source: YamlSource) -> None:
    """Report every name under `chains` and in lines about chains that means nothing, and every secret in an address."""
    vault = source.value if isinstance(source.value, dict) else {}
    chains = _mapping(vault.get("chains"))
    for place, name in _book_chains(vault):
        if name not in chains:
            source.report(place, _either(chains, "no chain: the vault has none"), name, "name one of chains")
        elif _mapping(chains[name]).get("simulated") is not None:
            source.report(place, "a chain with holders", f"{name}, which is simulated", "state the amounts")
        elif not _mapping(chains[name]).get("holders"):
            hint = "holders: [{address: 0x…, assets: [WETH]}]"
            source.report(("chains", name), "holders, as the book names this chain", "none", hint)
    _check_hedge_lines(source, vault, chains)
    is_live_feed = vault.get("feed") == "live"
    for name, chain in chains.items():
        place = ("chains", name)
        if not CHAIN_NAME.fullmatch(name):
            source.report(place, "lower-case letters, digits and hyphens", repr(name), "rename it")
        if name in _mapping(vault.get("venues")):
            source.report(place, "a name that no venue has", name, "rename one of the two")
        _check_chain(source, place, _mapping(chain), is_live_feed=is_live_feed, vault=vault)
        _check_twins(source, place, _mapping(chain))


def _check_hedge_lines(source: YamlSource, vault: dict[str, Value], chains: dict[str, Value]) -> None:
    """Report what a hedge on a chain cannot be like: a pool takes its fee inside the price, and nothing rests there."""
    lines = vault.get("hedge")
    places: list[tuple[Location, Value]] = [(("hedge",), lines)]
    if isinstance(lines, tuple):
        places = [(("hedge", index), line) for index, line in enumerate(lines)]
    for place, value in places:
        line = _mapping(value)
        venue, colon, _ = str(line.get("instrument", "")).partition(":")
        if not colon or venue not in chains:
            continue
        if line.get("style") in ("maker", "auto"):
            source.report((*place, "style"), "taker: nothing rests on a chain", "maker", "remove style")
        for key in ("maker_bps", "taker_bps"):
            if line.get(key):
                hint = "a pool's fee is inside its price"
                source.report((*place, key), f"no {key} on a chain", str(line[key]), hint)


def _check_chain(
    source: YamlSource, place: Location, chain: dict[str, Value], *, is_live_feed: bool, vault: dict[str, Value]
) -> None:
    if is_live_feed or vault.get("feed") is not None:
        _check_kind(source, place, chain, is_live_feed=is_live_feed)
    for key, urls in (("rpc", chain.get("rpc")), ("ws", (chain.get("ws"),))):
        for url in _tuple(urls):
            if isinstance(url, str) and SECRET_IN_URL.search(url):
                hint = f"keys go into the environment: EVENKEEL_{place[-1]}_{key}".upper().replace("-", "_")
                source.report((*place, key), "no secret in a file", "an address that seems to hold a key", hint)
    assets, pools = _mapping(chain.get("assets")), _mapping(chain.get("pools"))
    known = {"assets": assets, "pools": pools}
    for noun, where, name in _names(chain):
        if name not in known[noun]:
            source.report((*place, *where), f"one of {_either(known[noun], 'none')}", name, f"name one of its {noun}")
    for name, hedge in _mapping(chain.get("hedges")).items():
        _check_hedge(source, (*place, "hedges", name), _mapping(hedge), pools)
    wallet = _mapping(chain.get("wallet"))
    if wallet and bool(wallet.get("keystore")) == bool(wallet.get("signer")):
        source.report((*place, "wallet"), "either keystore or signer", "both or neither", MANUAL)
    if vault.get("mode") == "live" and not wallet and any(_hedges_on(vault, str(place[-1]))):
        source.report(place, "a wallet: hedges are sent from it", "none", "wallet: {address: 0x…, keystore: FILE}")


def _check_twins(source: YamlSource, place: Location, chain: dict[str, Value]) -> None:
    """Report what is there twice under two names: a position would be counted twice, one source taken for two."""
    for group, of_what, why in (
        ("hedges", _held_by_hedge, "hedges whose positions are not one and the same: it would count twice"),
        ("oracles", _told_by_oracle, "sources that are not one and the same: no price may rest on a single one"),
    ):
        for where, name, other in _twins(_mapping(chain.get(group)), of_what):
            source.report((*place, group, where), why, f"{name} is {other} again", "remove one of the two")
    holders = {str(index): one for index, one in enumerate(_tuple(chain.get("holders")))}
    for where, _, other in _twins(holders, lambda one: str(one.get("address")).lower()):
        hint = "name all that it holds in one entry"
        source.report((*place, "holders", int(where)), "every holder once", f"the address of entry {other} again", hint)


def _check_kind(source: YamlSource, place: Location, chain: dict[str, Value], *, is_live_feed: bool) -> None:
    """Report a real chain with a recording, a simulated one with a live feed, and what a simulated one cannot have."""
    if chain.get("simulated") is None:
        if not is_live_feed:
            hint = "simulated: {liquidity_quote: 5000000}, or feed: live"
            source.report(place, "a simulated chain with a recording", "a real one", hint)
        return
    if is_live_feed:
        source.report((*place, "simulated"), "a real chain with feed: live", "a simulated one", "remove simulated")
        return
    for key in chain:
        if key not in SIMULATED_KEYS:
            source.report((*place, key), f"no {key} on a simulated chain", "some", "remove it")


def _check_hedge(source: YamlSource, place: Location, hedge: dict[str, Value], pools: dict[str, Value]) -> None:
    protocol = hedge.get("protocol")
    if not isinstance(protocol, str) or protocol not in ROLES:
        return  # reported by the model
    contracts = _mapping(hedge.get("contracts"))
    for role in ROLES[protocol]:
        if role not in contracts:
            source.report(place, f"contracts.{role} for {protocol}", _either(contracts, "none"), MANUAL)
    route = hedge.get("route")
    steps = [_mapping(pools.get(str(name))) for name in route] if isinstance(route, tuple) else []
    if protocol == "perp_v2":
        return
    if not steps:
        source.report(place, "a route of pools from base to quote", "none", "route: [POOL]")
        return
    at: Value = hedge.get("base")
    for step in steps:
        sides = {step.get("base"), step.get("quote")}
        if step and at not in sides:
            source.report(place, f"a route that goes on from {at}", f"a pool without {at}", MANUAL)
            return
        at = next((side for side in sides if side != at), at)
    if all(steps) and at != hedge.get("quote"):
        source.report(place, f"a route that ends at {hedge.get('quote')}", f"one that ends at {at}", MANUAL)


def _held_by_hedge(hedge: dict[str, Value]) -> object:
    """Return what tells a hedge's position: two that share it would count it twice."""
    protocol, contracts = hedge.get("protocol"), _mapping(hedge.get("contracts"))
    if protocol == "perp_v2":
        return protocol, _low(contracts.get("clearing_house")), _low(contracts.get("base_asset"))
    account = {"aave_v3": "pool", "guarded_vault": "vault"}.get(str(protocol))
    return protocol, _low(contracts.get(account)) if account else "", hedge.get("base")


def _told_by_oracle(oracle: dict[str, Value]) -> object:
    """Return what an oracle's word comes from: windows of one pool are one source."""
    return oracle.get("underlying"), _low(oracle.get("address")), _low(oracle.get("feed_id") or "")


def _low(value: Value) -> str:
    return str(value).lower()


def _twins(group: Mapping[str, Value], of_what: Callable[[dict[str, Value]], object]) -> Iterator[tuple[str, str, str]]:
    """Yield those of a group that are what an earlier one is: where, its name, and the earlier one's."""
    seen: dict[object, str] = {}
    for name, one in group.items():
        what = of_what(_mapping(one))
        if what in seen:
            yield name, name, seen[what]
        seen.setdefault(what, name)


def _names(chain: dict[str, Value]) -> Iterator[tuple[str, Location, str]]:
    """Yield every place where an asset or a pool is named: which of the two, where, and the name."""
    for group in ("oracles", "pools", "hedges"):
        for name, one in _mapping(chain.get(group)).items():
            for key in ("base", "quote"):
                if _mapping(one).get(key):
                    yield "assets", (group, name, key), str(_mapping(one)[key])
            for pool in _tuple(_mapping(one).get("route")):
                yield "pools", (group, name, "route"), str(pool)
    for index, holder in enumerate(_tuple(chain.get("holders"))):
        for key in ("assets", "aave_assets", "shares", "lp_pools"):
            for asset in _tuple(_mapping(holder).get(key)):
                yield "pools" if key == "lp_pools" else "assets", ("holders", index, key), str(asset)


def _hedges_on(vault: dict[str, Value], chain: str) -> Iterator[str]:
    lines = vault.get("hedge")
    for line in lines if isinstance(lines, tuple) else (lines,):
        name = _mapping(line).get("instrument")
        if isinstance(name, str) and name.startswith(f"{chain}:"):
            yield name


def _book_chains(vault: dict[str, Value]) -> Iterator[tuple[Location, str]]:
    lines = vault.get("book")
    for index, line in enumerate(lines if isinstance(lines, tuple) else ()):
        name = _mapping(line).get("chain")
        if isinstance(name, str):
            yield ("book", index, "chain"), name


def _mapping(value: Value) -> dict[str, Value]:
    return value if isinstance(value, dict) else {}


def _tuple(value: Value) -> tuple[Value, ...]:
    return value if isinstance(value, tuple) else ()


def _either(names: Iterable[str], otherwise: str) -> str:
    return " or ".join(sorted(names)) or otherwise
