"""A vault as people write it: the sections and keys of its YAML file, with units, defaults and bounds.

Must never read a file or know a market; `config` beside it does. `docs/configuration.md` is checked against it.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Discriminator, Field, Tag, model_validator
from pydantic_core import PydanticCustomError

from bot.domain.units import NS_PER_MS
from bot.runtime.configuration.chain_sections import ChainSection, FusionSection
from bot.runtime.configuration.risk_sections import RiskSection
from strategies import AnyPolicy

Line = TypeVar("Line")


class Section(BaseModel):
    """A part of a vault file: frozen, its types taken at their word, unknown keys refused."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", allow_inf_nan=False)


class RecordingFeed(Section):
    """Market data from a recording."""

    recording: str = Field(
        min_length=1, max_length=200, description="Bundled name, or path of a folder or .zip from the working directory"
    )


def _refuse_zero(value: float) -> float:
    if value == 0.0:
        raise PydanticCustomError("zero", "a number other than 0")
    return value


class VenueSection(Section):
    """One venue of a live feed: which exchange it is and how to talk to it."""

    exchange: str | None = Field(
        default=None, min_length=1, max_length=40, description="Exchange as ccxt names it; default: the venue's name"
    )
    credentials: str = Field(
        default="env", min_length=1, max_length=200, description="env, or a file of mode 0600 with the keys"
    )
    options: dict[str, Any] = Field(
        default_factory=dict, description="Passed to ccxt as they are: urls, hostname, sandbox, proxies; never a key"
    )
    timeout_s: float = Field(default=5.0, gt=0, le=60, description="Longest wait for an answer to one request")
    requests_per_s: float = Field(default=10.0, gt=0, le=1000, description="Requests a second the venue grants us")
    burst_requests: int = Field(default=20, ge=1, le=10_000, description="Requests it grants at once after a pause")
    account_poll_s: float = Field(default=30.0, gt=0, le=3600, description="Time between two looks at our positions")
    fills_poll_s: float = Field(default=30.0, gt=0, le=3600, description="Time between two looks for fills we missed")
    markets_poll_s: float = Field(
        default=300.0, gt=0, le=86_400, description="Time between two looks at what the venue lists, and its contracts"
    )
    max_silence_s: float = Field(default=5.0, gt=0, le=600, description="Silence after which a stream is reconnected")
    absence_s: float = Field(
        default=10.0, gt=0, le=600, description="An order not found is believed lost only this long after sending"
    )
    dead_man_s: float = Field(
        default=30.0, gt=0, le=3600, description="Resting orders of a silent daemon are gone after this"
    )


class MaxAgeSection(Section):
    """The oldest an input of a live feed may be when it is used."""

    quote_s: float = Field(default=2.0, gt=0, le=3600, description="Age of a hedge's quote")
    index_s: float = Field(default=2.0, gt=0, le=3600, description="Age of an index price")
    vol_s: float = Field(default=30.0, gt=0, le=3600, description="Age of an option's vol and forward")
    account_s: float = Field(default=60.0, gt=0, le=3600, description="Age of a venue's word on our account")


class BookLine(Section):
    """One holding to be hedged."""

    instrument: str = Field(description="Instrument id as the recording or the venue has it")
    qty_base: Annotated[float, AfterValidator(_refuse_zero)] = Field(
        description="Signed amount in base units; short is negative; never 0"
    )


class AccountLine(Section):
    """The positions of an account as the book, or as part of it."""

    account: str = Field(min_length=1, max_length=40, description="Venue whose option positions are to be hedged")


class FileLine(Section):
    """Holdings in a file of its own, OTC trades for example; re-read when it changes."""

    file: str = Field(
        min_length=1, max_length=200, description="YAML or CSV of instrument and qty_base, re-read when it changes"
    )


class ChainLine(Section):
    """What the holders of a chain have there as the book, or as part of it."""

    chain: str = Field(min_length=1, max_length=40, description="Chain whose holders' positions are to be hedged")


class AccountCash(Section):
    """The balances of an account as the collateral."""

    account: str = Field(min_length=1, max_length=40, description="Venue whose balances are the collateral")


def _as_list(value: object) -> object:
    if isinstance(value, dict):
        return (value,)
    return tuple(value) if isinstance(value, list) else value


class DepthLine(Section):
    """What is shown behind the touch of either side, at one distance from it."""

    offset_bps: float = Field(gt=0, le=5000, description="Distance from the touch, away from mid")
    notional_quote: float = Field(gt=0, description="Value shown at this distance itself, not up to it")


class CostsSection(Section):
    """What trading a hedge costs beyond its fees and the spread of the moment; `calibrate costs` measures it."""

    half_spread_bps: float | None = Field(
        default=None,
        ge=0,
        le=500,
        description="Half-spread as measured, kept for the record; routing goes by the newest quote",
    )
    depth: Annotated[tuple[DepthLine, ...], BeforeValidator(_as_list)] = Field(
        default=(), description="Depth behind the touch as measured; routing walks it from the newest best price"
    )
    impact_coefficient: float | None = Field(
        default=None, ge=0, le=10, description="Y of the peak impact Y · σ · √(q/V) of an order; needs the daily volume"
    )
    daily_volume_base: float | None = Field(default=None, gt=0, description="V, traded per day in base units")
    daily_vol_fraction: float | None = Field(
        default=None, gt=0, le=1, description="σ, vol of one day; else that of the view, as hedges see it"
    )
    holding_days: float | None = Field(
        default=None, ge=0, le=3650, description="How long a hedge is held, for carry; else as long as likely needed"
    )
    funding_rate_per_day: float | None = Field(
        default=None,
        ge=-0.05,
        le=0.05,
        description="Share of value a long pays a short per day; else as paid lately",
    )
    borrow_rate_per_year: float | None = Field(
        default=None, ge=0, le=10, description="Interest on what is borrowed to sell short, per year"
    )

    @model_validator(mode="after")
    def _has_volume(self) -> CostsSection:
        if self.impact_coefficient and self.daily_volume_base is None:
            raise PydanticCustomError("no_volume", "daily_volume_base beside impact_coefficient")
        return self


class HedgeLine(Section):
    """One instrument that hedges an underlying, its fees, and how it is traded."""

    instrument: str = Field(description="Instrument id of a perpetual, future or spot pair")
    maker_bps: float | None = Field(
        default=None, ge=-10, le=500, description="Fee of a resting fill, negative is a rebate; else as the venue says"
    )
    taker_bps: float | None = Field(
        default=None, ge=0, le=500, description="Fee of a fill that crosses the spread; else as the venue says"
    )
    max_slippage_bps: float = Field(
        default=25.0, ge=0, le=1000, description="Farthest beyond the best price that an order may fill"
    )
    style: Literal["taker", "maker", "auto"] = Field(
        default="taker",
        description="taker crosses at once; maker rests first; auto rests where that is expected to cost less",
    )
    roll_before_s: float = Field(
        default=3600.0, ge=0, le=2_592_000, description="How long before its expiry a dated future is left for another"
    )
    repeg_ticks: int = Field(default=1, ge=1, description="Move of the touch that a resting order follows, in ticks")
    repeg_every_s: float = Field(default=5.0, gt=0, le=3600, description="Shortest time between two such moves")
    max_rest_s: float = Field(default=60.0, ge=0, le=86_400, description="Longest wait before a hedge crosses")
    escalate_urgency: float = Field(
        default=1.0, gt=0, le=1, description="Urgency of the policy that crosses at once; less of it shortens the wait"
    )
    escalate_bands: float = Field(
        default=1.0, ge=0, le=1000, description="Half-widths outside the band from which on a hedge crosses at once"
    )
    costs: CostsSection = Field(
        default=CostsSection(), description="What trading it costs beyond fees and spread, for planning and routing"
    )
    one_outstanding: bool = Field(default=False, description="Send nothing new here while an order is pending")


class OptionHedgesLine(Section):
    """Which listed options of one underlying a policy may trade as hedges, and how much of them."""

    underlying: str = Field(min_length=1, max_length=40, description="Coin whose options may be traded")
    venue: str = Field(
        default="deribit", min_length=1, max_length=40, description="Venue they are traded at; Deribit's alone so far"
    )
    max_position_base: float = Field(gt=0, description="Largest position in one option, in base units")
    max_premium_quote: float = Field(
        gt=0, description="Largest premium of all option hedges together, bought and sold, in quote money"
    )
    max_order_quote: float | None = Field(
        default=None, gt=0, description="Largest premium of one order, in quote money; else as limits says"
    )
    max_instruments: int = Field(default=5, ge=1, le=50, description="Most different options held as hedges at a time")
    may_sell: bool = Field(default=False, description="Whether options may be sold that were not bought before")
    min_days: float = Field(default=1.0, ge=0, le=3650, description="Fewest days to expiry of an option to be traded")
    max_days: float = Field(default=90.0, gt=0, le=3650, description="Most days to expiry of an option to be traded")
    min_strike_ratio: float = Field(default=0.7, ge=0, le=10, description="Lowest strike, as a multiple of the index")
    max_strike_ratio: float = Field(default=1.4, gt=0, le=10, description="Highest strike, as a multiple of the index")
    max_delta_ratio: float = Field(default=0.8, gt=0, le=1, description="Largest delta of an option traded, unsigned")
    max_spread_vol: float = Field(
        default=0.05,
        gt=0,
        le=1,
        description="Widest spread of vols, and distance of a price from the mark",
    )
    review_s: float = Field(default=300.0, gt=0, le=86_400, description="Time between two looks at what is offered")
    taker_bps: float = Field(default=3.0, ge=0, le=500, description="Fee as a share of the underlying's worth")
    fee_cap_fraction: float = Field(
        default=0.125, gt=0, le=1, description="Largest fee, as a share of the option's price"
    )

    @model_validator(mode="after")
    def _is_a_window(self) -> OptionHedgesLine:
        if self.min_days > self.max_days or self.min_strike_ratio > self.max_strike_ratio:
            raise PydanticCustomError("window", "min_days up to max_days and min_strike_ratio up to max_strike_ratio")
        return self


class Target(Section):
    """Where the net delta of one underlying should be; one of the two."""

    delta_base: float | None = Field(default=None, ge=-1e9, le=1e9, description="Net delta to keep, in base units")
    hedge_ratio: float | None = Field(
        default=None, ge=0, le=1.5, description="Share of the book's delta to hedge away: 0 none, 1 all (the default)"
    )

    @model_validator(mode="after")
    def _is_one_of_two(self) -> Target:
        if self.delta_base is not None and self.hedge_ratio is not None:
            raise PydanticCustomError("two_targets", "either delta_base or hedge_ratio, not both")
        return self


class DeltaSection(Section):
    """How the vol of an option is expected to move with the price."""

    model: Literal["black", "sticky_delta", "skew_stickiness", "minimum_variance"] = Field(
        default="black", description="The delta of options: each strike keeps its vol (black), or as the smile moves"
    )
    gate: Literal["significant", "always"] = Field(
        default="significant", description="Use another model than black while it is significantly better, or always"
    )
    watch: Literal["needed", "always"] = Field(
        default="needed", description="Gather the evidence for every model only where the model needs it, or always"
    )
    every_s: float = Field(default=60.0, ge=1, le=3600, description="Time between two looks at the smiles")
    window: int = Field(
        default=500, ge=120, le=100_000, description="Looks that the record remembers, the older the less"
    )


class LimitsSection(Section):
    """Hard limits; each refuses or cuts an order and says so."""

    max_order_quote: float = Field(gt=0, description="Largest value of one order, in quote money")
    max_order_base: float | None = Field(
        default=None, gt=0, description="Largest size of one order, in base units; none by default"
    )
    max_orders_per_min: int = Field(ge=1, description="Most orders within any 60 s")
    daily_loss_quote: float = Field(
        gt=0, description="Loss since 00:00 UTC from which on hedges may only reduce, in quote money"
    )
    price_collar_bps: float = Field(
        default=200.0, gt=0, le=5000, description="Farthest an order's limit may be from spot"
    )
    max_hedges_same_way: int = Field(
        default=5, ge=1, description="Hedges one way within hedge_loop_window_s that do not arrive, and so pause"
    )
    hedge_loop_window_s: float = Field(default=60.0, gt=0, description="Window of max_hedges_same_way")
    max_reject_streak: int = Field(default=5, ge=1, description="Rejects in a row that halt the bot")


class OperatorSection(Section):
    """What a person may set of one underlying while the bot runs; without bounds nothing may be."""

    target_min_base: float | None = Field(
        default=None, ge=-1e9, le=1e9, description="Lowest net delta that set-target may ask for, in base units"
    )
    target_max_base: float | None = Field(
        default=None, ge=-1e9, le=1e9, description="Highest net delta that set-target may ask for"
    )
    band_min_base: float | None = Field(
        default=None, gt=0, le=1e9, description="Nearest to the target that set-band may put an edge of the band"
    )
    band_max_base: float | None = Field(
        default=None, gt=0, le=1e9, description="Farthest from the target that set-band may put an edge"
    )

    @model_validator(mode="after")
    def _is_a_pair_of_bounds(self) -> OperatorSection:
        for low, high, what in (
            (self.target_min_base, self.target_max_base, "target_min_base up to target_max_base, or neither"),
            (self.band_min_base, self.band_max_base, "band_min_base up to band_max_base, or neither"),
        ):
            if (low is None) is not (high is None) or (low is not None and high is not None and low > high):
                raise PydanticCustomError("bounds", what)
        return self


class LatencySection(Section):
    """What the simulated venue assumes of the way to a venue and back."""

    feed_ms: float = Field(default=50.0, ge=0, le=60_000, description="Venue event to our receipt")
    entry_ms: float = Field(default=20.0, ge=0, le=60_000, description="Our order to the venue")
    response_ms: float = Field(default=20.0, ge=0, le=60_000, description="The venue's answer to us")
    jitter: float = Field(
        default=0.0, ge=0, le=1, description="Each latency is lengthened at random by up to this share of it"
    )

    @property
    def feed_ns(self) -> int:
        """`feed_ms` in nanoseconds."""
        return round(self.feed_ms * NS_PER_MS)

    @property
    def entry_ns(self) -> int:
        """`entry_ms` in nanoseconds."""
        return round(self.entry_ms * NS_PER_MS)

    @property
    def response_ns(self) -> int:
        """`response_ms` in nanoseconds."""
        return round(self.response_ms * NS_PER_MS)


def _feed_tag(value: object) -> str | None:
    if value == "live":
        return "live"
    return "recorded" if isinstance(value, dict | RecordingFeed) else None


def _book_tag(value: object) -> str:
    if isinstance(value, AccountLine) or (isinstance(value, dict) and "account" in value):
        return "account"
    if isinstance(value, ChainLine) or (isinstance(value, dict) and "chain" in value):
        return "chain"
    return "file" if isinstance(value, FileLine) or (isinstance(value, dict) and "file" in value) else "holding"


def _cash_tag(value: object) -> str:
    is_account = isinstance(value, AccountCash) or (isinstance(value, dict) and "account" in value)
    return "of_account" if is_account else "amounts"


def _target_tag(value: object) -> str | None:
    if not isinstance(value, dict):
        return "one" if isinstance(value, Target) else None
    is_each = (
        all(isinstance(entry, dict | Target) for entry in value.values()) and not value.keys() & Target.model_fields
    )
    return "each" if is_each else "one"


def _refuse_empty(value: tuple[Line, ...]) -> tuple[Line, ...]:
    if not value:
        raise PydanticCustomError("empty", "a list with an entry")
    return value


AnyFeed = Annotated[
    Annotated[Literal["live"], Tag("live")] | Annotated[RecordingFeed, Tag("recorded")],
    Discriminator(_feed_tag, custom_error_type="feed", custom_error_message="live or {recording: NAME}"),
]
AnyBookLine = Annotated[
    Annotated[BookLine, Tag("holding")]
    | Annotated[AccountLine, Tag("account")]
    | Annotated[ChainLine, Tag("chain")]
    | Annotated[FileLine, Tag("file")],
    Discriminator(_book_tag),
]
AnyCash = Annotated[
    Annotated[dict[str, float], Tag("amounts")] | Annotated[AccountCash, Tag("of_account")], Discriminator(_cash_tag)
]
AnyTarget = Annotated[
    Annotated[Target, Tag("one")] | Annotated[dict[str, Target], Tag("each")],
    Discriminator(
        _target_tag,
        custom_error_type="target",
        custom_error_message="{delta_base: X}, {hedge_ratio: X}, or one of them per underlying",
    ),
]


class Vault(Section):
    """One vault file."""

    vault: str = Field(pattern=r"^[a-z0-9-]{1,64}$", description="Name: lower-case letters, digits and hyphens")
    mode: Literal["paper", "live"] = Field(description="paper simulates fills; live trades and also needs --live")
    feed: AnyFeed = Field(description="Where market data comes from: {recording: NAME}, or live")
    numeraire: str = Field(description="Money that P&L and delta are measured in: USD, or the book's coin")
    venues: dict[str, VenueSection] = Field(
        default_factory=dict, description="The exchanges of a live feed by name; the first one is the book's"
    )
    chains: dict[str, ChainSection] = Field(
        default_factory=dict, description="The chains by name: what is priced, held and hedged there"
    )
    fusion: FusionSection | None = Field(
        default=None, description="Fuse the prices of exchanges and oracles; as by default where a chain has oracles"
    )
    underlyings: tuple[str, ...] = Field(
        default=(), description="Coins to load from the venues; default: those the instruments begin with"
    )
    max_age: MaxAgeSection = Field(
        default=MaxAgeSection(), description="The oldest an input may be; for live feeds, recordings bring their own"
    )
    clock: Literal["wall", "venue"] = Field(
        default="wall", description="What time it is for a live feed; venue: as its newest event says, for rehearsals"
    )
    foreign: Literal["adopt", "flatten"] = Field(
        default="adopt", description="What becomes of hedge positions and orders that are not ours"
    )
    book: Annotated[tuple[AnyBookLine, ...], AfterValidator(_refuse_empty)] = Field(
        description="Holdings to be hedged, one line each"
    )
    cash: AnyCash = Field(
        default_factory=dict, description="Collateral, currency: amount; coins count as delta when numeraire is USD"
    )
    hedge: Annotated[tuple[HedgeLine, ...], AfterValidator(_refuse_empty), BeforeValidator(_as_list)] = Field(
        description="The hedge instrument, or a list of them: per underlying in order of preference"
    )
    option_hedges: Annotated[tuple[OptionHedgesLine, ...], BeforeValidator(_as_list)] = Field(
        default=(), description="Which listed options may be traded as hedges, a mapping or a list; none by default"
    )
    policy: AnyPolicy = Field(description="When and how far to hedge; its type and the parameters of that type")
    target: AnyTarget = Field(
        default=Target(), description="Where net delta should be: one target for all, or one per underlying"
    )
    bands: Literal["joint", "own"] = Field(
        default="joint",
        description="Hedge several coins by the risk of all of them together, by how they move along, or each alone",
    )
    surface: Literal["svi", "linear"] = Field(
        default="svi",
        description="Vols of strikes without a fresh quote: from a fitted surface, or from lines between quotes",
    )
    delta: DeltaSection = Field(
        default=DeltaSection(),
        description="What the delta of an option is: Black's, or adjusted for how the smile moves",
    )
    limits: LimitsSection = Field(description="Hard limits of every order")
    routing: Literal["cheapest", "preference"] = Field(
        default="cheapest", description="Split a need over the hedges of its coin by cost, or take the first that can"
    )
    venue_limits: dict[str, Annotated[float, Field(gt=0)]] = Field(
        default_factory=dict,
        description="Largest hedge exposure per venue, venue: quote money, orders in flight included",
    )
    risk: RiskSection | None = Field(
        default=None, description="Margin of the accounts: how it is reckoned, how far it may be used; none by default"
    )
    operator: dict[str, OperatorSection] = Field(
        default_factory=dict,
        description="What set-target and set-band may set while the bot runs, per underlying; nothing by default",
    )
    latency: LatencySection = Field(default=LatencySection(), description="Latencies of the simulated venue")
    seed: int = Field(default=1, ge=0, le=2**63 - 1, description="Seed of everything random in the simulated venue")
    pnl_step_s: int = Field(default=60, ge=1, le=86_400, description="Length of the steps that P&L is split over")
    state_dir: str = Field(
        default=".evenkeel",
        min_length=1,
        max_length=200,
        description="Folder of the journal, from the working directory",
    )

    @property
    def is_live_feed(self) -> bool:
        """Tell whether market data comes from venues and not from a recording."""
        return self.feed == "live"

    @property
    def holdings(self) -> tuple[BookLine, ...]:
        """The lines of the book that name an instrument and an amount."""
        return tuple(line for line in self.book if isinstance(line, BookLine))

    @property
    def named_instruments(self) -> tuple[str, ...]:
        """The instruments of the book and of the hedges, as the file names them."""
        return (*(line.instrument for line in self.holdings), *(line.instrument for line in self.hedge))

    @property
    def book_chains(self) -> tuple[str, ...]:
        """The chains whose holders have parts of the book."""
        return tuple(line.chain for line in self.book if isinstance(line, ChainLine))

    @property
    def book_files(self) -> tuple[str, ...]:
        """The files that hold parts of the book."""
        return tuple(line.file for line in self.book if isinstance(line, FileLine))

    @property
    def fixed_cash(self) -> dict[str, float]:
        """The collateral as the file states it; empty where an account's balances are it."""
        return {} if isinstance(self.cash, AccountCash) else dict(self.cash)
