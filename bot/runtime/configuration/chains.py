"""From the chains of a vault file to what chain gateways take; node addresses and the key's password stay in memory."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from eth_utils.crypto import keccak

from bot.domain.errors import ConfigError
from bot.domain.units import BPS, NS_PER_S
from bot.gateways.chain.settings import (
    GWEI,
    ChainSettings,
    FeeSettings,
    HedgeSection,
    HolderSettings,
    OracleSettings,
    PoolSettings,
    TokenSettings,
    WalletSettings,
)
from bot.gateways.gateway import Clock, Gateway
from bot.runtime.configuration.chain_sections import (
    AssetSection,
    ChainHedgeSection,
    ChainSection,
    FeesSection,
    HolderSection,
    OracleSection,
    PoolSection,
)
from bot.runtime.configuration.credentials import variable
from bot.runtime.configuration.vault import Vault
from bot.telemetry.logs import keep_address, keep_secret

if TYPE_CHECKING:
    from bot.gateways.chain.signing import Signer


class ChainOpener(Protocol):
    """Makes the gateway of one chain, unconnected; without a signer it only watches."""

    def __call__(self, settings: ChainSettings, signer: Signer | None, clock: Clock, *, run_id: str) -> Gateway:
        """Return the gateway."""


def open_chain(settings: ChainSettings, signer: Signer | None, clock: Clock, *, run_id: str) -> Gateway:
    """Return the gateway of an EVM chain, unconnected."""
    from bot.gateways.chain.chain_gateway import ChainGateway  # noqa: PLC0415 — brings web3, which takes a second

    return ChainGateway(settings, signer, clock, run_id=run_id)


async def load_signer(settings: ChainSettings, environ: Mapping[str, str], stack: AsyncExitStack) -> Signer | None:
    """Return what signs on a chain, None where the vault names no wallet; an external one is connected for `stack`.

    Raises VenueFatal if the keystore cannot be opened, or is another address's.
    """
    from bot.gateways.chain.signing import ExternalSigner, KeystoreSigner, load_password  # noqa: PLC0415 — as above

    wallet = settings.wallet
    if wallet is None:
        return None
    if wallet.signer_url:
        external = ExternalSigner(wallet.signer_url, wallet.address, settings.timeout_ns / NS_PER_S)
        return await stack.enter_async_context(external)
    password = load_password(settings.venue, environ)
    keep_secret(password)  # of a file, it is not among what the environment holds
    return await KeystoreSigner.open(Path(wallet.keystore), password, wallet.address)


def chain_settings(vault: Vault, environ: Mapping[str, str]) -> dict[str, ChainSettings]:
    """Return the settings of every real chain of a vault by its name.

    Nodes come from EVENKEEL_<CHAIN>_RPC (several separated by commas) and EVENKEEL_<CHAIN>_WS where they are set, else
    from the file. A private relay, which gets signed hedges instead of the public nodes, is EVENKEEL_<CHAIN>_RELAY.
    Raises ConfigError if a chain has no node.
    """
    return {
        name: _settings(name, section, vault, environ)
        for name, section in vault.chains.items()
        if section.simulated is None
    }


def _settings(name: str, section: ChainSection, vault: Vault, environ: Mapping[str, str]) -> ChainSettings:
    for kind in ("rpc", "ws", "relay"):  # providers put a key into the path or the query
        for url in environ.get(variable(name, kind), "").replace(",", " ").split():
            keep_address(url)
    urls = tuple(url for url in environ.get(variable(name, "rpc"), "").replace(",", " ").split() if url) or section.rpc
    if not urls:
        expected = f"chain {name}: expected a node in {variable(name, 'rpc')} or under rpc, found none"
        raise ConfigError([f"{expected}; hint: http://127.0.0.1:8545 is one of your own"])
    return ChainSettings(
        venue=name,
        chain_id=section.chain_id,
        coin=section.coin,
        http_urls=urls,
        ws_url=environ.get(variable(name, "ws"), "").strip() or section.ws,
        relay_url=environ.get(variable(name, "relay"), "").strip(),
        multicall=section.multicall,
        tokens={symbol: _token(symbol, asset) for symbol, asset in section.assets.items()},
        oracles={source: _oracle(oracle) for source, oracle in section.oracles.items()},
        hedges=tuple(_hedge(key, hedge, section.pools) for key, hedge in section.hedges.items()),
        holders=tuple(_holder(holder, section.pools) for holder in section.holders),
        wallet=WalletSettings(
            address=section.wallet.address, keystore=section.wallet.keystore, signer_url=section.wallet.signer
        )
        if section.wallet is not None
        else None,
        fees=_fees(section.fees),
        sequencer_feed=section.sequencer_feed or "",
        sequencer_grace_ns=_ns(section.sequencer_grace_s),
        confirmations=section.confirmations,
        final_blocks=section.final_blocks,
        block_ns=_ns(section.block_s),
        timeout_ns=_ns(section.timeout_s),
        max_lag_blocks=section.max_lag_blocks,
        max_silence_ns=_ns(section.max_silence_s),
        state_dir=vault.state_dir,
    )


def _token(symbol: str, asset: AssetSection) -> TokenSettings:
    return TokenSettings(
        symbol=symbol,
        address=asset.address,
        decimals=asset.decimals,
        underlying=asset.underlying,
        rate_contract=asset.rate.contract if asset.rate is not None else "",
        rate_call=f"0x{keccak(text=asset.rate.function)[:4].hex()}" if asset.rate is not None else "",
        charge_fraction=asset.charge_bps * BPS,
    )


def _oracle(oracle: OracleSection) -> OracleSettings:
    return OracleSettings(
        kind=oracle.kind,
        underlying=oracle.underlying,
        address=oracle.address,
        feed_id=oracle.feed_id,
        window_s=oracle.window_s,
        max_age_ns=_ns(oracle.max_age_s),
        low_px=oracle.low_px,
        high_px=oracle.high_px,
        base=oracle.base,
        quote=oracle.quote,
    )


def _pool(pool: PoolSection) -> PoolSettings:
    return PoolSettings(address=pool.address, base=pool.base, quote=pool.quote, fee_pips=pool.fee_pips)


def _hedge(name: str, hedge: ChainHedgeSection, pools: Mapping[str, PoolSection]) -> HedgeSection:
    return HedgeSection(
        name=name,
        protocol=hedge.protocol,
        underlying=hedge.underlying,
        base=hedge.base,
        quote=hedge.quote,
        lot_base=hedge.lot_base,
        tick_px=hedge.tick_px,
        contracts=dict(hedge.contracts),
        route=tuple(_pool(pools[step]) for step in hedge.route),
        inventory_base=hedge.inventory_base,
        floor_health_factor=hedge.floor_health_factor,
    )


def _holder(holder: HolderSection, pools: Mapping[str, PoolSection]) -> HolderSettings:
    return HolderSettings(
        address=holder.address,
        tokens=holder.assets,
        lp_pools=tuple(_pool(pools[name]) for name in holder.lp_pools),
        position_manager=holder.position_manager or "",
        aave_pool=holder.aave_pool or "",
        aave_tokens=holder.aave_assets,
        shares=holder.shares,
    )


def _fees(fees: FeesSection) -> FeeSettings:
    return FeeSettings(
        max_fee_wei=round(fees.max_fee_gwei * GWEI),
        min_tip_wei=round(fees.min_tip_gwei * GWEI),
        max_replacements=fees.max_replacements,
        max_gas_quote=fees.max_gas_quote,
        replace_after_blocks=fees.replace_after_blocks,
        gas_limit_margin=fees.gas_limit_margin,
        reserve_coin=fees.reserve_coin,
    )


def _ns(seconds: float) -> int:
    return round(seconds * NS_PER_S)
