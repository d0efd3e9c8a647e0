"""The `risk` of a vault file as people write it: margin by account, states, and the ways collateral may be moved.

Must never read a file; `bot.runtime.configuration.risk_checks` finds the parameters that it names.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError


class RiskPart(BaseModel):
    """A part of the section: frozen, its types taken at their word, unknown keys refused."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", allow_inf_nan=False)


Amount = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]
BadState = Literal["watch", "act", "critical", "emergency"]


class AccountRiskSection(RiskPart):
    """How margin of one account is reckoned, and what is posted there."""

    model: str = Field(min_length=1, max_length=40, description="Margin model of the venue, by its name")
    parameters: str = Field(
        default="",
        max_length=200,
        description="Parameter set by name, or a JSON file; else the newest one of the model",
    )
    collateral: dict[str, Amount] = Field(
        default_factory=dict,
        description="What is posted, currency: amount, where no account tells; default: cash, if only one account",
    )
    haircuts: dict[str, Share] = Field(
        default_factory=dict,
        description="Share of its worth that does not count, currency: share; else that of its asset class",
    )
    liquidation_ratio: float = Field(
        default=1.0, gt=0, le=2, description="Maintenance margin over equity at which the venue liquidates"
    )
    standing_share: float | None = Field(
        default=None, ge=0, le=1, description="Own judgement of the venue, incidents and jurisdiction; 1 is best"
    )
    counts_long_options: bool = Field(
        default=False, description="Whether what options are worth counts as equity there; a negative worth always does"
    )


class MarginStatesSection(RiskPart):
    """From which utilisation on an account is in which state; 1 is where the venue liquidates."""

    watch_ratio: float = Field(default=0.60, gt=0, le=1, description="Utilisation from which on it is said")
    act_ratio: float = Field(default=0.80, gt=0, le=1, description="… nothing is added there, and it is topped up")
    critical_ratio: float = Field(default=0.90, gt=0, le=1, description="… positions there are reduced in slices")
    emergency_ratio: float = Field(default=0.97, gt=0, le=1, description="… and closed")
    act_probability: float = Field(
        default=0.01, gt=0, le=1, description="Chance of liquidation before a transfer arrives, as act_ratio"
    )
    critical_probability: float = Field(default=0.05, gt=0, le=1, description="… as critical_ratio")
    hysteresis_ratio: float = Field(default=0.05, ge=0, le=0.5, description="How far below its edge a state is left")
    critical_until_ratio: float = Field(default=0.70, gt=0, le=1, description="Down to here positions are reduced")
    step_up_s: float = Field(
        default=30.0, ge=0, le=3600, description="Shortest time between two steps to a worse state"
    )

    @model_validator(mode="after")
    def _is_rising(self) -> MarginStatesSection:
        if not self.watch_ratio < self.act_ratio < self.critical_ratio < self.emergency_ratio:
            raise PydanticCustomError("edges", "watch_ratio < act_ratio < critical_ratio < emergency_ratio")
        if not self.act_probability < self.critical_probability < 1.0:
            raise PydanticCustomError("chances", "act_probability < critical_probability < 1")
        if self.critical_until_ratio >= self.critical_ratio or self.hysteresis_ratio >= self.watch_ratio:
            raise PydanticCustomError(
                "edges", "critical_until_ratio below critical_ratio, hysteresis_ratio below watch"
            )
        return self


class RouteLine(RiskPart):
    """One way collateral may be moved; what is not listed is never moved."""

    asset: str = Field(min_length=1, max_length=20, description="Currency that is moved")
    from_venue: str = Field(min_length=1, max_length=40, description="Account or wallet it leaves")
    to_venue: str = Field(min_length=1, max_length=40, description="Account it arrives at")
    route: str = Field(min_length=1, max_length=40, description="Network, as the venues name it")
    address_label: str = Field(
        default="", max_length=40, description="Address of the destination, by its label; none within one venue"
    )
    from_account: str = Field(default="", max_length=40, description="Account it leaves, within one venue: spot …")
    to_account: str = Field(default="", max_length=40, description="Account it arrives at, within one venue")
    max_amount: float = Field(gt=0, description="Most that is moved at once, in units of the asset")
    min_amount: float = Field(default=0.0, ge=0, description="Least that is moved at once, in units of the asset")
    test_amount: float = Field(
        default=0.0, ge=0, description="Sent first where nothing arrived by this route yet, in units of the asset"
    )
    fee: float = Field(default=0.0, ge=0, description="What moving it costs, in units of the asset")
    p95_s: float = Field(default=1800.0, gt=0, le=604_800, description="Time within which 95 % of transfers arrive")
    bridge: str = Field(default="", max_length=40, description="Bridge it goes over, a counterparty of its own")
    confirmations: int = Field(default=0, ge=0, le=10_000, description="Blocks the destination waits for")
    reversible_s: float = Field(
        default=0.0, ge=0, le=604_800, description="How long a reorg may still take back what arrived"
    )


class AddressSection(RiskPart):
    """A place that may be sent to; an address is no secret, the key that sends is."""

    address: str = Field(min_length=1, max_length=200, description="The address itself, as the venue shows it")
    network: str = Field(min_length=1, max_length=40, description="Network it is on, as ccxt names it: ERC20, ARBONE …")
    tag: str = Field(default="", max_length=100, description="Tag or memo, where the network needs one")


class TransfersSection(RiskPart):
    """How collateral may be moved, and whether the daemon moves it."""

    execute: bool = Field(
        default=False, description="With mode: live, whether transfers are made; else they are told as instructions"
    )
    day_caps: dict[str, Annotated[float, Field(gt=0)]] = Field(
        default_factory=dict, description="Most that is moved in 24 hours, asset: amount; without a cap nothing is"
    )
    confirm_above: dict[str, Annotated[float, Field(ge=0)]] = Field(
        default_factory=dict, description="Amount above which a person confirms a transfer, asset: amount"
    )
    addresses: dict[str, AddressSection] = Field(
        default_factory=dict, description="Addresses that may be sent to, by label; no others are"
    )
    routes: tuple[RouteLine, ...] = Field(default=(), description="The ways collateral may be moved; none by default")


ClassFields = dict[str, float | str]


class AssetClassesSection(RiskPart):
    """What this vault sets for itself of the parameters by asset class; an asset's own go before its class's."""

    classes: dict[str, ClassFields] = Field(
        default_factory=dict, description="Parameters of a class, class: {parameter: value}"
    )
    assets: dict[str, ClassFields] = Field(
        default_factory=dict, description="Parameters of one asset, asset: {parameter: value}"
    )
    members: dict[str, str] = Field(default_factory=dict, description="Which class an asset is of, asset: class")


class CollateralSection(RiskPart):
    """How collateral is planned ahead: what accounts shall stand, and what it costs to have it there."""

    plan_s: float = Field(default=300.0, ge=10, le=86_400, description="Time between two plans; sooner when one is due")
    time_limit_s: float = Field(default=1.0, gt=0, le=10, description="How long the solver may take; then greedily")
    buffer_ratio: float = Field(
        default=1.25, gt=1, le=10, description="Equity per maintenance margin that an account shall hold at least"
    )
    needed_by_s: float = Field(
        default=3600.0, gt=0, le=604_800, description="Time from which on accounts shall stand every scenario"
    )
    hold_days: float = Field(
        default=30.0, gt=0, le=3650, description="How long what is posted is expected to stay, for what it costs"
    )
    least_quote: float = Field(default=100.0, ge=0, description="What is worth less than this is not moved")
    moves: tuple[Annotated[float, Field(gt=-1, lt=10)], ...] = Field(
        default=(-0.16, -0.08, 0.08, 0.16), description="Moves of spot that accounts shall stand, as fractions"
    )
    vol_up_fraction: float = Field(default=0.3, ge=0, le=10, description="By what fraction vols rise with each move")
    scenarios: tuple[str, ...] = Field(
        default=(), description="Named scenarios that accounts shall stand too, as risk stress shows them"
    )
    yields: dict[str, Annotated[float, Field(ge=-1, le=10)]] = Field(
        default_factory=dict, description="What an asset earns where it is not posted, asset: fraction a year"
    )
    wallets: dict[str, dict[str, Amount]] = Field(
        default_factory=dict, description="What lies at no venue, wallet: {asset: amount}; else as much as routes carry"
    )
    concentration: dict[str, Share] = Field(
        default_factory=dict, description="Most that an asset counts for of what a venue counts, asset: share"
    )
    caps: dict[str, Amount] = Field(
        default_factory=dict, description="Most in quote money at a venue, wallet or bridge, or of an asset at venues"
    )
    venue_share: float | None = Field(
        default=None, gt=0, le=1, description="Most of everything that one venue may hold, less where its score is low"
    )


class InsuranceSection(RiskPart):
    """Money that is kept aside out of gains, and counts as collateral only in the states that are named here."""

    full_quote: float = Field(gt=0, description="How much is kept aside at most, in quote money")
    share_of_gains: float = Field(
        default=0.10, gt=0, le=1, description="Share of every new high of the P&L that is kept aside"
    )
    draws: dict[BadState, Share] = Field(
        default={"critical": 0.5, "emergency": 1.0},
        description="State of an account: share of what is there that may be drawn for it then; in no other state",
    )


class BuffersSection(RiskPart):
    """What accounts hold above their margin for the time that topping them up takes."""

    enabled: bool = Field(default=True, description="Whether accounts are topped up before they need it")
    base_ratio: float = Field(
        default=1.23, gt=1, le=10, description="Equity over maintenance margin that a bad move is to leave, in calm"
    )
    trigger_share: float = Field(default=0.85, gt=0, le=1, description="Below this share of that it is topped up to it")
    most_multiple: float = Field(
        default=2.0, ge=1, le=10, description="How many times what it has above 1 a high forecast may make of it"
    )
    usual_vols: dict[str, Annotated[float, Field(gt=0, le=10)]] = Field(
        default_factory=dict, description="Vol that counts as usual, underlying: yearly vol; else that of the forecast"
    )


class SeriesLine(RiskPart):
    """One series from outside that a live feed reads."""

    kind: Literal["fred", "deribit_volatility", "funding", "open_interest", "stablecoins"] = Field(
        description="Where it comes from"
    )
    of: str = Field(default="", max_length=60, description="Id of the series (`fred`), else the currency")
    venue: str = Field(default="", max_length=40, description="Venue of the vault, for funding and open interest")
    symbol: str = Field(default="", max_length=60, description="Its symbol there, as ccxt has it: BTC/USDT:USDT")
    base_url: str = Field(default="", max_length=200, description="Address of a mirror")
    key_variable: str = Field(
        default="FRED_API_KEY", min_length=1, max_length=60, description="Environment variable that holds the key"
    )
    pace_s: float = Field(default=0.0, ge=0, le=604_800, description="Time between two readings; 0: the kind's own")

    @property
    def name(self) -> str:
        """What its values are called."""
        prefix = {"deribit_volatility": "DVOL-", "funding": "FUNDING-", "open_interest": "OI-"}.get(self.kind, "")
        return "STABLECOIN-SUPPLY" if self.kind == "stablecoins" else f"{prefix}{self.of}"


class PartySection(RiskPart):
    """What the operator knows of somebody who could fail: a venue, a bridge, an issuer."""

    kind: Literal["venue", "issuer", "bridge"] = Field(default="venue", description="What it is")
    group: str = Field(default="", max_length=40, description="What fails together shares a group, and its limit")
    assets: tuple[str, ...] = Field(default=(), description="What an issuer owes: USDC …; of an issuer only")
    standing_share: float | None = Field(
        default=None,
        ge=0,
        le=1,
        description="Own judgement, incidents and jurisdiction; 1 is best; that of the account",
    )
    loss_given_default: float | None = Field(
        default=None, ge=0, le=1, description="What is lost of what is held if it fails; that of the parameters"
    )


class DrainSection(RiskPart):
    """How a venue is left whose score asks for it."""

    hedge_share: float = Field(
        default=0.5, ge=0, le=1, description="Share of its delta that is hedged elsewhere before it is closed there"
    )
    hedge_tolerance_quote: float = Field(
        default=0.0, ge=0, description="Delta that may be missing of that, quote money"
    )
    rungs: tuple[Annotated[float, Field(gt=0, le=1)], ...] = Field(
        default=(0.05, 0.25, 1.0), description="Shares of what is free that are withdrawn one after another; last 1"
    )
    chains_at_once: int = Field(default=2, ge=1, le=20, description="Networks that withdrawals go over at once")
    close_share: float = Field(default=0.1, gt=0, le=0.1, description="Share of a position that is closed at once")
    dust_quote: float = Field(default=1.0, ge=0, description="What is not worth withdrawing, in quote money")
    hedge_patience_s: float = Field(default=60.0, ge=0, le=86_400, description="Longest wait for the hedge elsewhere")
    cancel_patience_s: float = Field(default=10.0, ge=0, le=86_400, description="Longest wait for cancels")
    retry_s: float = Field(default=60.0, gt=0, le=86_400, description="Time until what failed is tried again")
    give_up_s: float = Field(
        default=86_400.0, gt=0, le=2_592_000, description="Time without progress after which the rest counts as lost"
    )

    @model_validator(mode="after")
    def _reaches_all(self) -> DrainSection:
        if list(self.rungs) != sorted(set(self.rungs)) or self.rungs[-1:] != (1.0,):
            raise PydanticCustomError("rungs", "shares that rise to 1")
        return self


class CounterpartiesSection(RiskPart):
    """Limits on what venues, issuers and bridges may hold, and how one is left."""

    parameters: str = Field(
        default="", max_length=200, description="Parameter set by name, or a JSON file; else the newest one"
    )
    parties: dict[str, PartySection] = Field(
        default_factory=dict, description="What is known of venues, issuers and bridges beyond their names, by name"
    )
    equity_share: float | None = Field(
        default=None,
        gt=0,
        le=1,
        description="Most of the vault's equity at one party, what scores allow in proportion; that of the parameters",
    )
    equity_share_unknown: float | None = Field(
        default=None, gt=0, le=1, description="… at one of which something is not known; that of the parameters"
    )
    open_interest_share: float | None = Field(
        default=None, gt=0, le=1, description="Most of a venue's open interest; that of the parameters"
    )
    group_share: float | None = Field(
        default=None, gt=0, le=1, description="Most of the vault's equity at one group; that of the parameters"
    )
    stress_moves: tuple[Annotated[float, Field(gt=-1, le=5)], ...] = Field(
        default=(-0.3, -0.15, 0.15, 0.3), description="Moves of all prices after which exposure is looked at too"
    )
    rehedge_s: float = Field(
        default=300.0, ge=0, le=86_400, description="Time until a hedge lost with its venue is had again"
    )
    drain: DrainSection = Field(default=DrainSection(), description="How a venue is left whose score asks for it")


class RiskSection(RiskPart):
    """Margin of the accounts that hedges are made at, and what is done about it."""

    accounts: dict[str, AccountRiskSection] = Field(
        min_length=1, description="Accounts whose margin is reckoned, by venue"
    )
    max_initial_ratio: float = Field(
        default=0.9, gt=0, le=1, description="Initial margin over equity that no hedge may bring an account above"
    )
    local_margin_share: float = Field(
        default=0.25, ge=0, le=5, description="What is added to margin that only the local model tells"
    )
    review_s: float = Field(
        default=60.0, gt=0, le=3600, description="Time between two looks at the margin of an account"
    )
    review_move_fraction: float = Field(
        default=0.002, gt=0, le=1, description="Move of an index after which it is looked at sooner"
    )
    report_max_age_s: float = Field(
        default=120.0, gt=0, le=86_400, description="Oldest word of a venue on margin that still goes before the model"
    )
    target_ratio: float = Field(default=0.5, gt=0, le=1, description="Utilisation that a top-up aims at")
    slice_share: float = Field(default=0.1, gt=0, le=0.1, description="Share of a position that is reduced at once")
    states: MarginStatesSection = Field(
        default=MarginStatesSection(), description="From which utilisation on an account is in which state"
    )
    watch_counterparties: bool = Field(
        default=False, description="Whether venues on a live feed are judged by what their pages show"
    )
    counterparties: CounterpartiesSection | None = Field(
        default=None, description="Limits on what venues, issuers and bridges may hold; none by default"
    )
    transfers: TransfersSection = Field(
        default=TransfersSection(), description="How collateral may be moved between accounts; not at all by default"
    )
    forecast: str = Field(
        default="bundled",
        min_length=1,
        max_length=200,
        description="Models that forecast vol: bundled, a JSON file of evenkeel calibrate volatility, or none",
    )
    buffers: BuffersSection = Field(
        default=BuffersSection(), description="What accounts hold above their margin while a transfer takes its time"
    )
    breakers: bool = Field(
        default=True, description="Whether moves, slippage, failed hedges and errors forbid adding risk for a while"
    )
    asset_classes: AssetClassesSection = Field(
        default=AssetClassesSection(), description="Parameters by asset class that this vault sets otherwise"
    )
    collateral: CollateralSection | None = Field(
        default=None, description="How collateral is planned ahead; without it accounts are topped up by rule"
    )
    insurance: InsuranceSection | None = Field(
        default=None, description="Money kept aside out of gains for bad days; none by default"
    )
    series: tuple[SeriesLine, ...] = Field(default=(), description="Series that a live feed reads; none by default")
    conditions: str = Field(
        default="", max_length=200, description="How series raise buffers: a parameter set by name, or a JSON file"
    )
