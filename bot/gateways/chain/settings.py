"""What a chain gateway must be told: validated values only, built by the runtime's `configuration.chains` from YAML."""

from __future__ import annotations

import msgspec

from bot.domain.units import NS_PER_S

GWEI = 10**9


class TokenSettings(msgspec.Struct, frozen=True, kw_only=True):
    """One ERC-20, and what it is exposed to: `underlying` is a coin, or "" for quote money.

    A wrapped or staked token counts at its redemption rate, read with `rate_call` (calldata, 0x…) from `rate_contract`,
    an 18-decimals number per whole token; without one at 1. `charge_fraction` of its value is not counted on.
    """

    symbol: str
    address: str
    decimals: int
    underlying: str
    rate_contract: str = ""
    rate_call: str = ""
    charge_fraction: float = 0.0


class OracleSettings(msgspec.Struct, frozen=True, kw_only=True):
    """One price source on chain.

    `kind` is chainlink (`latestRoundData`), pyth (`getPriceUnsafe` of `feed_id`), or twap (Uniswap v3 `observe` over
    `window_s`). `low_px` and `high_px` bound what is believed at all.
    """

    kind: str
    underlying: str
    address: str
    feed_id: str = ""
    window_s: int = 1800
    max_age_ns: int = 3660 * NS_PER_S
    low_px: float = 0.0
    high_px: float = float("inf")
    base: str = ""  # token symbols of a twap's pool
    quote: str = ""


class PoolSettings(msgspec.Struct, frozen=True, kw_only=True):
    """One Uniswap v3 pool by its token symbols and fee (in hundredths of a basis point)."""

    address: str
    base: str
    quote: str
    fee_pips: int


class HedgeSection(msgspec.Struct, frozen=True, kw_only=True):
    """One hedge instrument on chain. `protocol` names a module of `protocols/`; `contracts` are its addresses by role.

    `inventory_base` is what the wallet holds (owes, if negative) of base that is the book's: the hedge is the rest.

    uniswap_v3: contracts router, and pools in `route` from base to quote.
    aave_v3: contracts pool, executor (bot/contracts/AaveShort.vy) and the SwapRouter02 it trades on as router; sells
    what it borrows over `route`.
    perp_v2: contracts clearing_house and base_token.
    guarded_vault: contracts vault (bot/contracts/GuardedVault.vy) and the SwapRouter it trades on as router; a
    route of one pool, which is of the vault's pair.
    """

    name: str  # after the chain's name in the instrument id: mainnet:WETH-USDC
    protocol: str
    underlying: str
    base: str
    quote: str
    lot_base: float
    tick_px: float
    contracts: dict[str, str]
    route: tuple[PoolSettings, ...] = ()
    inventory_base: float = 0.0
    floor_health_factor: float = 1.5


class HolderSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Whose positions on this chain are the book: all that is named here, of one address."""

    address: str
    tokens: tuple[str, ...] = ()
    lp_pools: tuple[PoolSettings, ...] = ()
    position_manager: str = ""
    aave_pool: str = ""
    aave_tokens: tuple[str, ...] = ()
    shares: tuple[str, ...] = ()  # symbols of ERC-4626 tokens, valued by convertToAssets


class WalletSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The one key that signs on this chain: an encrypted keystore file, or the address of a signer that holds it."""

    address: str
    keystore: str = ""
    signer_url: str = ""


class FeeSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Bounds on what transactions may cost, and how patient we are with them."""

    max_fee_wei: int = 300 * GWEI
    min_tip_wei: int = GWEI // 100
    max_replacements: int = 4
    max_gas_quote: float = 100.0
    replace_after_blocks: int = 3
    gas_limit_margin: float = 1.3
    reserve_coin: float = 0.05


class ChainSettings(msgspec.Struct, frozen=True, kw_only=True):
    """One chain of a vault. Endpoints may hold keys: they come from the environment and are never shown whole."""

    venue: str
    chain_id: int
    coin: str  # the chain's own, gas is paid in it
    http_urls: tuple[str, ...]
    ws_url: str = ""
    relay_url: str = ""
    multicall: str = "0xcA11bde05977b3631167028862bE2a173976CA11"
    tokens: dict[str, TokenSettings] = {}
    oracles: dict[str, OracleSettings] = {}  # by name for people
    hedges: tuple[HedgeSection, ...] = ()
    holders: tuple[HolderSettings, ...] = ()
    wallet: WalletSettings | None = None
    fees: FeeSettings = FeeSettings()
    sequencer_feed: str = ""
    sequencer_grace_ns: int = 3600 * NS_PER_S
    confirmations: int = 1
    final_blocks: int = 12
    block_ns: int = 12 * NS_PER_S
    timeout_ns: int = 5 * NS_PER_S
    max_lag_blocks: int = 3
    max_silence_ns: int = 60 * NS_PER_S
    state_dir: str = ".evenkeel"
