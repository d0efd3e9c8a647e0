"""The `chains` of a vault file as people write them: what is held, priced and hedged on each, with units and bounds.

Node addresses hold keys more often than not, so a file has them only where they do not: else they come from the
environment. Must never contact anybody.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic_core import PydanticCustomError


class ChainPart(BaseModel):
    """A part of a chain's section: frozen, its types taken at their word, unknown keys refused."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", allow_inf_nan=False)


def _checksummed(value: str) -> str:
    from eth_utils.address import is_address, to_checksum_address  # noqa: PLC0415 — only vaults with chains need it

    if not is_address(value):
        raise PydanticCustomError("address", "an address, 0x and 40 hexadecimal digits")
    address: str = to_checksum_address(value)
    if value not in (address, value.lower()):
        raise PydanticCustomError("checksum", "an address with its checksum right, or all in lower case")
    return address


Address = Annotated[str, AfterValidator(_checksummed)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,39}$")]


class RateSection(ChainPart):
    """Where a wrapped or staked asset's redemption rate is read."""

    contract: Address = Field(description="Contract that knows the rate")
    function: str = Field(
        pattern=r"^[A-Za-z_]\w*\(\)$", description="Its view function without arguments; 18 decimals per whole token"
    )


class AssetSection(ChainPart):
    """One ERC-20 and what it is exposed to."""

    address: Address = Field(description="The ERC-20 contract")
    decimals: int = Field(ge=0, le=36, description="Decimals of its smallest unit")
    underlying: str = Field(default="", max_length=20, description="Coin it moves with; none for quote money")
    rate: RateSection | None = Field(default=None, description="Redemption rate of a wrapped or staked asset")
    charge_bps: float = Field(
        default=0.0, ge=0, le=10_000, description="Share of its value not counted on, for getting out of it"
    )


class OracleSection(ChainPart):
    """One price source on the chain."""

    kind: Literal["chainlink", "pyth", "twap"] = Field(description="chainlink, pyth, or twap of a Uniswap v3 pool")
    underlying: str = Field(min_length=1, max_length=20, description="Coin whose price it tells, in quote money")
    address: Address = Field(description="The aggregator, the Pyth contract, or the pool")
    feed_id: str = Field(default="", pattern=r"^(0x[0-9a-fA-F]{64})?$", description="Feed of a Pyth contract")
    window_s: int = Field(default=1800, ge=1, le=86_400, description="Window of a twap")
    max_age_s: float = Field(default=3660.0, gt=0, le=200_000, description="Oldest its word may be")
    low_px: float = Field(default=0.0, ge=0, description="Below it nothing is believed")
    high_px: float = Field(default=1e12, gt=0, description="Above it nothing is believed")
    base: str = Field(default="", max_length=20, description="Asset that a twap's pool prices")
    quote: str = Field(default="", max_length=20, description="Asset it is priced in")


class PoolSection(ChainPart):
    """One Uniswap v3 pool."""

    address: Address = Field(description="The pool's contract")
    base: str = Field(min_length=1, max_length=20, description="Asset that is priced")
    quote: str = Field(min_length=1, max_length=20, description="Asset it is priced in")
    fee_pips: int = Field(ge=1, le=1_000_000, description="Fee in hundredths of a basis point: 500 is 0.05 %")


class ChainHedgeSection(ChainPart):
    """One instrument that the chain offers for hedging, `CHAIN:NAME` under `hedge`."""

    protocol: Literal["uniswap_v3", "aave_v3", "perp_v2", "guarded_vault"] = Field(
        description="uniswap_v3 swaps, aave_v3 borrows and sells, perp_v2 is a perpetual, guarded_vault is ours"
    )
    underlying: str = Field(min_length=1, max_length=20, description="Coin it hedges")
    base: str = Field(default="", max_length=20, description="Asset that is bought and sold; none for a perpetual")
    quote: str = Field(min_length=1, max_length=20, description="Asset it is paid in")
    contracts: dict[Name, Address] = Field(description="Contracts of the protocol by role")
    route: tuple[str, ...] = Field(default=(), max_length=4, description="Pools from base to quote")
    lot_base: float = Field(default=0.001, gt=0, description="Smallest amount traded, in base units")
    tick_px: float = Field(default=0.01, gt=0, description="Step of limits, in quote money")
    inventory_base: float = Field(
        default=0.0, description="What the wallet holds (owes, if negative) of base that is the book's and no hedge"
    )
    floor_health_factor: float = Field(
        default=1.5, gt=1, le=100, description="Health factor that no hedge may bring a loan below"
    )


class HolderSection(ChainPart):
    """One address whose positions are the book, or part of it."""

    address: Address = Field(description="Whose positions they are")
    assets: tuple[str, ...] = Field(default=(), description="Balances that count")
    lp_pools: tuple[str, ...] = Field(default=(), description="Pools whose LP positions count")
    position_manager: Address | None = Field(default=None, description="Uniswap's NonfungiblePositionManager")
    aave_pool: Address | None = Field(default=None, description="Aave's Pool, where supplies and debts count")
    aave_assets: tuple[str, ...] = Field(default=(), description="Assets supplied or borrowed there")
    shares: tuple[str, ...] = Field(default=(), description="ERC-4626 assets, worth what they convert to")


class WalletSection(ChainPart):
    """The key that signs; it never stands in a file of ours."""

    address: Address = Field(description="Address of the key")
    keystore: str = Field(
        default="", max_length=200, description="Encrypted keystore (V3) of mode 0600; password from the environment"
    )
    signer: str = Field(default="", max_length=200, description="Address of an external signer that holds the key")


class FeesSection(ChainPart):
    """What transactions may cost, and how patient we are."""

    max_fee_gwei: float = Field(default=300.0, gt=0, le=100_000, description="Most a unit of gas may cost")
    min_tip_gwei: float = Field(default=0.01, ge=0, le=1_000, description="Least tip, also on empty blocks")
    max_replacements: int = Field(default=4, ge=0, le=20, description="Replacements of one transaction")
    max_gas_quote: float = Field(default=100.0, gt=0, description="Most one transaction may cost, in quote money")
    replace_after_blocks: int = Field(default=3, ge=1, le=1000, description="Blocks after which a tx is replaced")
    gas_limit_margin: float = Field(default=1.3, ge=1, le=3, description="Gas limit as a multiple of what is expected")
    reserve_coin: float = Field(
        default=0.05, ge=0, description="Coin kept for gas; below it only what shrinks the exposure is sent"
    )


class SimulatedSection(ChainPart):
    """A chain that is simulated beside a recording: one pool, arbitraged to the recorded index."""

    liquidity_quote: float = Field(
        gt=0, description="Depth: quote money that moves the pool's price by about 2 % from the start of the recording"
    )
    fee_pips: int = Field(default=500, ge=1, le=100_000, description="The pool's fee: 500 is 0.05 %")
    base_fee_gwei: float = Field(
        default=20.0, ge=0, le=10_000, description="Median base fee of a day; it moves as on a recorded day of Ethereum"
    )
    tip_gwei: float = Field(default=0.1, ge=0, le=10_000, description="Median tip that a block asks for")
    gas_units: int = Field(default=130_000, ge=21_000, description="Gas of one swap")
    taken_share: float = Field(
        default=0.05, ge=0, le=1, description="Share of our swaps from which all that their limit allows is taken"
    )
    base: str = Field(default="ETH", min_length=1, max_length=20, description="Coin of the pool")


class ChainSection(ChainPart):
    """One chain: its nodes, what is priced, held and hedged there, and the key that signs."""

    chain_id: int = Field(ge=1, description="Chain id that every node must confirm")
    coin: str = Field(default="ETH", min_length=1, max_length=20, description="The chain's own coin, which pays gas")
    rpc: tuple[str, ...] = Field(
        default=(), max_length=8, description="Nodes without a key in their address; else EVENKEEL_<CHAIN>_RPC"
    )
    ws: str = Field(default="", max_length=200, description="Node for new heads; else EVENKEEL_<CHAIN>_WS, else polled")
    block_s: float = Field(default=12.0, gt=0, le=3600, description="Typical time between two blocks")
    confirmations: int = Field(default=1, ge=1, le=1000, description="Blocks until a fill counts; reorgs take it back")
    final_blocks: int = Field(default=12, ge=1, le=10_000, description="Blocks after which nothing is taken back")
    max_lag_blocks: int = Field(default=3, ge=1, le=1000, description="A node further behind the others is not asked")
    max_silence_s: float = Field(
        default=60.0, gt=0, le=3600, description="Without a new block for this long it is down"
    )
    timeout_s: float = Field(default=5.0, gt=0, le=60, description="Longest wait for an answer to one request")
    multicall: Address = Field(
        default="0xcA11bde05977b3631167028862bE2a173976CA11", description="Multicall3, the same on nearly all chains"
    )
    sequencer_feed: Address | None = Field(default=None, description="Sequencer uptime feed of a layer 2")
    sequencer_grace_s: float = Field(default=3600.0, ge=0, le=86_400, description="Wait after the sequencer came back")
    wallet: WalletSection | None = Field(default=None, description="The key that signs, for mode: live")
    assets: dict[Name, AssetSection] = Field(default_factory=dict, description="ERC-20s by symbol")
    oracles: dict[Name, OracleSection] = Field(default_factory=dict, description="Price sources by name")
    pools: dict[Name, PoolSection] = Field(default_factory=dict, description="Uniswap v3 pools by name")
    hedges: dict[Name, ChainHedgeSection] = Field(default_factory=dict, description="What the chain offers for hedging")
    holders: tuple[HolderSection, ...] = Field(default=(), description="Addresses whose positions are the book")
    fees: FeesSection = Field(default=FeesSection(), description="What transactions may cost")
    simulated: SimulatedSection | None = Field(
        default=None, description="Simulate this chain instead, beside a recording; then nothing else is needed"
    )


class FusionSection(ChainPart):
    """How the words of several price sources become one price."""

    min_sources: int = Field(default=2, ge=2, le=10, description="Live sources needed; with fewer nothing is traded")
    outlier_bps: float = Field(default=200.0, gt=0, le=5000, description="Farthest from the median that is kept")
    divergence_bps: float = Field(
        default=200.0, gt=0, le=5000, description="Spread between kept sources from which on only reducing is allowed"
    )
    stop_bps: float = Field(default=500.0, gt=0, le=10_000, description="… and from which on nothing is traded")
