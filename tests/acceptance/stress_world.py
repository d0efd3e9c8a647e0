"""A vault under stress, by seed: three venues with margin models of their own, a short book, and what goes wrong.

Prices jump and cluster; venues go down, stop withdrawals, raise margin, mark collateral down, take winning hedges away;
transfers are late, fail, get lost and are taken back. Everything is drawn here, before anything is run.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec
import numpy as np

from bot.domain.instruments import Option, Payoff, Perpetual, TickSchedule
from bot.domain.units import NS_PER_DAY, NS_PER_MIN, NS_PER_S, NS_PER_YEAR
from bot.engine.margin.risk_settings import AccountRiskSettings, RiskSettings
from bot.engine.settings import Ages, BookLeg, EngineSettings, HedgeSettings, Limits
from bot.risk.book import OPTION, Position, build_book
from bot.risk.margin.registry import evaluate
from bot.risk.parameters import ParameterSet, decode_parameters
from bot.risk.transfers import Route, TransferRules
from bot.simulation.stressed_paths import STEP_MINUTES, StressedWorld, draw_returns
from bot.simulation.transfers import RouteWorld, Suspension
from bot.simulation.venue import Faults
from strategies import DeltaBand

SETS: Final = Path(__file__).parents[2] / "bot" / "risk" / "parameter_sets"
STEPS: Final = 36  # of five minutes: three hours
STEP_NS: Final = STEP_MINUTES * NS_PER_MIN
LOOKS_NS: Final = (0, 35 * NS_PER_S)  # within a step: the second one is a state's step later
START_NS: Final = (date(2026, 12, 1) - date(1970, 1, 1)).days * NS_PER_DAY
LATE_NS: Final = (date(2027, 7, 1) - date(1970, 1, 1)).days * NS_PER_DAY  # when the parameters have expired
SPOT_PX: Final = 2_000.0
WALLET: Final = "wallet"
BOOK_VENUE, DOLLAR_VENUE, COIN_VENUE = "alpha", "beta", "gamma"
BOOK_MODELS: Final = ("house", "span", "paradex_portfolio")
DOLLAR_MODELS: Final = ("hyperliquid", "dydx", "binance", "paradex_cross")
P95_NS: Final = 20 * NS_PER_MIN
CRASH: Final = StressedWorld(
    name="crash", vol=0.9, slow_sd=0.5, fast_sd=0.6, jumps_per_day=4.0, jump_sd=0.03, excitation=0.6, jump_kick=0.4
)
MULTIPLIED: Final = frozenset(
    {"initial_fraction", "maintenance_fraction", "initial_rate", "maintenance_rate", "price_range", "deducted_quote"}
    | {"unhedged_factor", "hedged_factor", "rate_per_base", "roll_min", "extreme_move", "minimum_rate"}
)


class Trouble(NamedTuple):
    """Something that happens to a venue: `size` is a multiple of margin, a share of a mark or of a position."""

    kind: str  # "terms", "mark", "taken", "down", "up"
    at_ns: int
    venue: str
    size: float = 0.0
    asset: str = ""


class Account(NamedTuple):
    """A venue as it is at the start."""

    model: str
    parameters: ParameterSet
    collateral: dict[str, float]
    haircuts: dict[str, float]


class Scenario(NamedTuple):
    """All that a run is made of."""

    seed: int
    start_ns: int
    is_told: bool  # whether venues tell balances and margin
    options: tuple[tuple[Option, float], ...]
    perpetuals: dict[str, Perpetual]
    accounts: dict[str, Account]
    prices: np.ndarray[Any, np.dtype[np.float64]]
    vols: np.ndarray[Any, np.dtype[np.float64]]
    target_base: float
    wallet: dict[str, float]
    routes: tuple[Route, ...]
    route_worlds: dict[str, RouteWorld]
    suspensions: tuple[Suspension, ...]
    troubles: tuple[Trouble, ...]
    faults: Faults

    @property
    def end_ns(self) -> int:
        """When it is over."""
        return self.start_ns + len(self.prices) * STEP_NS


def newest(model: str) -> ParameterSet:
    """Return the newest carried parameter set of a model."""
    return decode_parameters(max(SETS.glob(f"{model}-2*.json")).read_bytes())


def raised(found: ParameterSet, multiple: float) -> ParameterSet:
    """Return parameters that ask for about a multiple."""
    values = _raise(found.values, multiple)
    return msgspec.structs.replace(found, name=f"{found.name}, times {multiple:g}", values=values)


def _raise(value: Any, multiple: float, name: str = "") -> Any:
    if isinstance(value, dict):
        return {key: _raise(one, multiple, key) for key, one in value.items()}
    if name == "scenarios":
        return [[max(-0.95, move * multiple), vol, weight] for move, vol, weight in value]
    if name == "moves":
        return [move * multiple for move in value]
    if isinstance(value, list):
        return [_raise(one, multiple, name) for one in value]
    if name == "max_leverage":
        return value / multiple
    return value * multiple if name in MULTIPLIED else value


def draw_scenario(seed: int) -> Scenario:
    """Return the scenario of a seed."""
    rng = np.random.default_rng([seed, 6])
    start_ns = LATE_NS if rng.random() < 0.1 else START_NS
    calls = [(SPOT_PX * (1.0 + round(float(x), 2)), True) for x in rng.uniform(-0.08, 0.12, 2)]
    puts = [(SPOT_PX * (1.0 + round(float(x), 2)), False) for x in rng.uniform(-0.12, 0.08, 2)]
    options = tuple(
        (_option(start_ns, strike, days, is_call=is_call), -float(rng.integers(20, 61)))
        for (strike, is_call), days in zip([*calls, *puts], rng.choice([7, 14, 30, 60], 4).tolist(), strict=True)
    )
    returns = draw_returns(CRASH, 1, 1, seed)[:STEPS, 0]
    if rng.random() < 0.2:  # one move that is no part of any model of prices
        returns[rng.integers(10, STEPS)] += float(rng.choice([-1.0, 1.0])) * float(rng.uniform(0.05, 0.20))
    prices = SPOT_PX * np.exp(np.concatenate([[0.0], np.cumsum(returns)]))
    vols = np.empty(len(prices))
    fear = 0.0
    for step in range(len(prices)):
        fear = 0.97 * fear + (abs(float(returns[step - 1])) * 1.5 if step else 0.0)
        vols[step] = 0.65 + min(fear, 1.0)
    perpetuals = {
        BOOK_VENUE: _perpetual(BOOK_VENUE, Payoff.LINEAR),
        DOLLAR_VENUE: _perpetual(DOLLAR_VENUE, Payoff.LINEAR),
        COIN_VENUE: _perpetual(COIN_VENUE, Payoff.INVERSE),
    }
    accounts = _accounts(rng, start_ns, options, float(vols[0]))
    wallet = {"USDC": 0.0, "ETH": 0.0}
    if rng.random() < 0.8:
        wallet = {"USDC": float(rng.uniform(2_000, 60_000)), "ETH": float(rng.uniform(0, 15))}
    routes, worlds = _routes(rng)
    return Scenario(
        seed=seed,
        start_ns=start_ns,
        is_told=bool(rng.random() < 0.5),
        options=options,
        perpetuals=perpetuals,
        accounts=accounts,
        prices=prices,
        vols=vols,
        target_base=float(rng.choice([0.0, 0.0, -30.0, 30.0])),
        wallet=wallet,
        routes=routes,
        route_worlds=worlds,
        suspensions=_suspensions(rng, start_ns),
        troubles=_troubles(rng, start_ns),
        faults=Faults(reject_probability=0.02, lose_request_probability=0.01, lose_reply_probability=0.01)
        if rng.random() < 0.5
        else Faults(),
    )


def _accounts(
    rng: np.random.Generator, start_ns: int, options: Sequence[tuple[Option, float]], vol: float
) -> dict[str, Account]:
    """Return accounts that are fairly tight: the book's uses 35–85 % of its margin, hedges' have enough for some."""
    short_base = sum(-qty for _, qty in options)
    book_model, dollar_model = str(rng.choice(BOOK_MODELS)), str(rng.choice(DOLLAR_MODELS))
    book = build_book([option_position(one, qty, start_ns, vol) for one, qty in options], {"ETH": SPOT_PX})
    asked = evaluate(book_model, book, newest(book_model).values)
    at_book = asked.maintenance / float(rng.uniform(0.35, 0.85)) - float(book.qty_base @ book.mark_px)
    staked = float(rng.choice([0.0, 0.2, 0.4])) * at_book
    dollars, coins = (float(x) * short_base for x in rng.uniform(0.005, 0.06, 2))
    return {
        BOOK_VENUE: Account(
            book_model, newest(book_model), {"USDC": at_book - staked, "USDe": staked / 0.9}, {"USDe": 0.1}
        ),
        DOLLAR_VENUE: Account(dollar_model, newest(dollar_model), {"USDC": dollars * SPOT_PX}, {}),
        COIN_VENUE: Account("deribit", newest("deribit"), {"ETH": coins}, {"ETH": 0.05}),
    }


def option_position(option: Option, qty_base: float, now_ns: int, vol: float) -> Position:
    """Return an option of the book as a row of a risk book, at its Black-76 worth."""
    return Position(
        kind=OPTION,
        underlying="ETH",
        qty_base=qty_base,
        instrument_id=option.instrument_id,
        account=BOOK_VENUE,
        money="USDC",
        strike_px=option.strike_px,
        tau_years=(option.expiry_ns - now_ns) / NS_PER_YEAR,
        vol=vol,
        is_call=option.is_call,
    )


def _routes(rng: np.random.Generator) -> tuple[tuple[Route, ...], dict[str, RouteWorld]]:
    ways = [
        ("USDC", WALLET, BOOK_VENUE),
        ("USDC", WALLET, DOLLAR_VENUE),
        ("ETH", WALLET, COIN_VENUE),
        ("USDC", BOOK_VENUE, DOLLAR_VENUE),
        ("USDC", DOLLAR_VENUE, BOOK_VENUE),
    ]
    routes, worlds = [], {}
    failing, lost, back = (float(rng.choice([0.0, 0.15])) for _ in range(3))
    for asset, source, target in ways:
        name = f"{source}-{target}"
        fee = 2.0 if asset == "USDC" else 0.002
        routes.append(
            Route(
                name=name, asset=asset, from_venue=source, to_venue=target, address_label=target, p95_ns=P95_NS, fee=fee
            )
        )
        worlds[name] = RouteWorld(
            median_ns=8 * NS_PER_MIN,
            p95_ns=P95_NS,
            fee=fee,
            failure_probability=failing,
            lost_answer_probability=lost,
            reversal_probability=back,
        )
    return tuple(routes), worlds


def _suspensions(rng: np.random.Generator, start_ns: int) -> tuple[Suspension, ...]:
    found = []
    for venue in (WALLET, BOOK_VENUE, DOLLAR_VENUE):
        if rng.random() < 0.2:
            from_ns = start_ns + int(rng.integers(0, STEPS)) * STEP_NS
            found.append(
                Suspension(venue, from_ns, from_ns + int(rng.integers(6, 60)) * STEP_NS, bool(rng.random() < 0.5))
            )
    return tuple(found)


def _troubles(rng: np.random.Generator, start_ns: int) -> tuple[Trouble, ...]:
    """Draw what happens to the venues; each is whole numbers of steps from the start."""

    def moment() -> int:
        return start_ns + int(rng.integers(5, STEPS)) * STEP_NS

    found: list[Trouble] = []
    for venue in (BOOK_VENUE, DOLLAR_VENUE, COIN_VENUE):
        if rng.random() < 0.15:
            at_ns = moment()
            found += [
                Trouble("down", at_ns, venue),
                Trouble("up", at_ns + int(rng.integers(2, 16)) * STEP_NS, venue),
            ]
        if rng.random() < 0.15:
            found.append(Trouble("terms", moment(), venue, float(rng.choice([1.25, 1.5, 2.0]))))
        if rng.random() < 0.1:
            found.append(Trouble("taken", moment(), venue, float(rng.uniform(0.2, 1.0))))
    if rng.random() < 0.25:  # a dollar that slips, at once or in steps
        at_ns, px = moment(), 1.0
        asset = str(rng.choice(["USDe", "USDC"]))
        for step in range(int(rng.integers(1, 5))):
            px *= float(rng.uniform(0.80, 0.98))
            found.append(Trouble("mark", at_ns + step * STEP_NS, BOOK_VENUE, px, asset))
    return tuple(sorted(found, key=lambda one: one.at_ns))


def settings_of(scenario: Scenario) -> EngineSettings:
    """Return the vault that is put under stress."""
    hedges = tuple(
        HedgeSettings(
            instrument=one, maker_bps=0.0, taker_bps=bps, risk_aversion_per_quote=1e-4,
            target_delta_base=scenario.target_base, daily_volume_base=500_000.0, daily_vol_fraction=0.04,
        )
        for one, bps in zip(scenario.perpetuals.values(), (5.0, 3.5, 4.0), strict=True)
    )  # fmt: skip
    risk = RiskSettings(
        accounts={
            name: AccountRiskSettings(
                model=one.model,
                parameters=one.parameters,
                collateral={} if scenario.is_told else one.collateral,
                haircut_share=one.haircuts,
            )
            for name, one in scenario.accounts.items()
        },
        transfers=TransferRules(routes=scenario.routes, day_caps={"USDC": 1e6, "ETH": 200.0}),
        report_max_age_ns=2 * STEP_NS,
    )
    return EngineSettings(
        vault="stress",
        run_id=f"stress{scenario.seed}",
        numeraire="USD",
        policy=DeltaBand(half_width_base=3.0),
        book=tuple(BookLeg(option, qty) for option, qty in scenario.options),
        cash={},
        hedges={"ETH": hedges},
        universe=(*(option for option, _ in scenario.options), *scenario.perpetuals.values()),
        limits=Limits(max_order_quote=60_000.0, max_orders_per_min=60, daily_loss_quote=1e9, max_hedges_same_way=1_000),
        ages=Ages(vol_ns=2 * STEP_NS, quote_ns=STEP_NS, index_ns=2 * STEP_NS),
        gap_ns=4 * STEP_NS,
        account_venues=frozenset(scenario.accounts) if scenario.is_told else frozenset(),
        account_max_age_ns=2 * STEP_NS if scenario.is_told else 0,
        risk=risk,
    )


def _option(start_ns: int, strike_px: float, days: int, *, is_call: bool) -> Option:
    return Option(
        instrument_id=f"ETH-{days}D-{strike_px:.0f}-{'C' if is_call else 'P'}",
        **_terms(BOOK_VENUE, "USDC", Payoff.LINEAR),
        contract_size=1.0,
        lot_contracts=1.0,
        strike_px=strike_px,
        expiry_ns=start_ns + days * NS_PER_DAY,
        is_call=is_call,
    )


def _perpetual(venue: str, payoff: Payoff) -> Perpetual:
    is_inverse = payoff is Payoff.INVERSE
    return Perpetual(
        instrument_id=f"ETH-{venue}",
        **_terms(venue, "ETH" if is_inverse else "USDC", payoff),
        contract_size=10.0 if is_inverse else 1.0,
        lot_contracts=1.0 if is_inverse else 0.1,
    )


def _terms(venue: str, settle: str, payoff: Payoff) -> dict[str, Any]:
    return {
        "venue": venue,
        "base": "ETH",
        "quote": "USD",
        "settle": settle,
        "price_currency": "USD",
        "payoff": payoff,
        "tick_schedule": TickSchedule(0.01),
    }
