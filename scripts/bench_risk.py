"""How long risk takes: one pass of scenarios, the full risk of a book over every venue's model, and one quote after it.

CPU time of this thread, min, median and max over many rounds, the garbage collector off while the clock runs. A plain
loop of the same run says how fast the machine was. Prints one JSON object.
"""

from __future__ import annotations

import gc
import itertools
import json
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from bot.risk.book import FUTURE, OPTION, PERPETUAL, Floats, Ints, Position, RiskBook, build_book
from bot.risk.gaps import find_fault
from bot.risk.heatmap import heatmap
from bot.risk.margin.house import HouseParameters, requirement_of
from bot.risk.margin.registry import MODELS, answer_all, decode_values
from bot.risk.netting import NettingParameters, net_exposure
from bot.risk.parameters import ParameterSet, decode_parameters
from bot.risk.quick_distances import Searched, stack_intervals
from bot.risk.repricing import ScenarioMatrix, scenario_pnl
from bot.risk.requirement import Requirement
from bot.risk.sheet import RiskSheet
from bot.risk.stack import BookStack
from bot.risk.stress import MarginTermsOf, decode_scenarios, play

SETS = Path("bot/risk/parameter_sets")
ROUNDS = 31
POSITIONS = 1_000
SPOT_PX = {"BTC": 60_000.0, "ETH": 3_000.0}
NO_OPTIONS = ("hyperliquid", "dydx", "drift")  # what venues list none of is traded there as perpetuals
USUAL = ("deribit_portfolio", "okx", "hyperliquid", "paradex_portfolio")
HEAT_MOVES, HEAT_VOLS, HEAT_HOURS = (-0.5, -0.3, -0.2, -0.1, 0.0, 0.1, 0.2, 0.3, 0.5), (-0.3, 0.0, 0.5), (0.0, 24.0)
LINEAR = frozenset({"drift", "dydx", "hyperliquid"})  # venues that list no options
DAYS = (0.8, 2.0, 7.0, 14.0, 30.0, 60.0, 120.0, 240.0)


def main() -> None:
    """Measure and print."""
    sets = newest_sets()
    loop_us = 1e3 * timed(plain_loop)["median_ms"]
    rows = [one_pass(10_000, sets), *one_quote(sets)]
    rows += full_risk(sets, USUAL) + full_risk(sets, tuple(model for model in sorted(MODELS) if model in sets))
    rows += [on_whole_book(model, sets[model]) for model in sorted(MODELS) if model in sets]
    missing = sorted(set(MODELS) - set(sets))
    print(json.dumps({"rounds": ROUNDS, "plain_loop_us": round(loop_us, 1), "no_set": missing, "rows": rows}, indent=1))


def newest_sets() -> dict[str, ParameterSet]:
    """Return the newest carried parameter set of every model."""
    found: dict[str, ParameterSet] = {}
    for path in sorted(SETS.glob("*.json")):
        try:
            one = decode_parameters(path.read_bytes())
        except ValueError:
            continue  # not a parameter set of a margin model
        if one.model not in found or one.as_of > found[one.model].as_of:
            found[one.model] = one
    return found


def random_book(positions: int, accounts: tuple[str, ...], *, options_only: bool = False) -> RiskBook:
    """Return a seeded book: nine options to one future or perpetual, two underlyings, eight expiries, round strikes."""
    rng = np.random.default_rng(6)
    made: list[Position] = []
    for number in range(positions):
        underlying = "BTC" if rng.random() < 0.6 else "ETH"
        spot, days = SPOT_PX[underlying], float(rng.choice(DAYS))
        common: dict[str, Any] = {
            "underlying": underlying,
            "qty_base": float(rng.normal()) * 60_000.0 / spot,
            "instrument_id": f"instrument-{number}",
            "account": accounts[number % len(accounts)],
        }
        drawn = 1.0 if options_only else rng.random()
        if common["account"] in LINEAR:
            drawn *= 0.1
        if drawn < 0.05 or common["account"] in NO_OPTIONS:
            made.append(Position(kind=PERPETUAL, **common))
        elif drawn < 0.1:
            made.append(Position(kind=FUTURE, forward_px=spot * 1.01, tau_years=days / 365.0, **common))
        else:
            strike = spot * round(float(np.exp(0.25 * rng.normal())), 2)
            vol, is_call = float(rng.uniform(0.35, 0.9)), bool(rng.integers(2))
            made.append(
                Position(kind=OPTION, strike_px=strike, tau_years=days / 365.0, vol=vol, is_call=is_call, **common)
            )
    return build_book(made, SPOT_PX)


def one_pass(positions: int, sets: dict[str, ParameterSet]) -> dict[str, Any]:
    """Measure positions × the house model's scenarios, all of them options."""
    book = random_book(positions, ("a",), options_only=True)
    scenarios = house_of(sets).scenarios()
    what = f"{positions} options x {len(scenarios)} scenarios, one pass"
    return {"what": what, **timed(lambda: scenario_pnl(book, scenarios))}


def full_risk(sets: dict[str, ParameterSet], models: tuple[str, ...]) -> list[dict[str, Any]]:
    """Measure what is asked of every account by its own model, netting, stress and distances, and all in one go."""
    book = random_book(POSITIONS, models)
    decoded = {model: decode_values(model, sets[model].values) for model in models}
    asks = {model: asking(model, decoded[model]) for model in models}
    netting = msgspec.convert(sets["netting"].values, NettingParameters)
    books = {model: book.of_account(model) for model in models}
    now = {model: in_quote(asks[model](books[model])) for model in models}
    equity = {model: 2.0 * now[model] + 1e5 for model in models}
    terms = {
        model: MarginTermsOf(model=model, values=sets[model].values, equity_quote=equity[model]) for model in models
    }
    scenarios = decode_scenarios(sets["stress"])
    shock = house_of(sets).scenarios().shock

    def margins(book: RiskBook) -> None:
        if find_fault(book):
            raise ValueError(find_fault(book))
        for model in models:
            asks[model](book.of_account(model))

    def distances(book: RiskBook, margin_quote: Mapping[str, float]) -> None:
        searched = [
            Searched(
                book=book.of_account(model),
                equity_quote=equity[model],
                maintenance=asking_all(model, decoded[model]),
                px=1.0,
                margin_now_quote=margin_quote[model],
            )
            for model in models
        ]
        stack_intervals(searched)

    def stress(book: RiskBook) -> dict[str, float]:
        heatmap(book, HEAT_MOVES, HEAT_VOLS, HEAT_HOURS, shock)
        played = play(book, scenarios, terms)
        return {one.account: one.before.maintenance for one in played[0].accounts}

    def all_of_it(book: RiskBook) -> None:
        net_exposure(book, netting)
        distances(book, stress(book))  # margin as it is now is asked for with the scenarios, in one question

    def anew(work: Callable[[RiskBook], object]) -> Callable[[], object]:
        return lambda: work(msgspec.structs.replace(book))  # of which nothing is known yet

    sheet = RiskSheet(book, {model: answering(model, decoded[model]) for model in models}, netting)
    options = [np.flatnonzero(book.is_option & (book.account == number))[:1] for number in range(len(models))]
    turns = itertools.cycle([rows for rows in options if rows.size])
    all_of_btc = np.flatnonzero(book.underlying == 0)
    parts: list[tuple[str, Callable[[], object]]] = [
        ("margin", anew(margins)),
        ("netting", anew(lambda book: net_exposure(book, netting))),
        (f"heatmap and {len(scenarios)} named scenarios", anew(stress)),
        ("distances, exact on both sides", anew(lambda book: distances(book, now))),
        ("all of it", anew(all_of_it)),
        ("one option's quote: margin and netting, accounts in turn", lambda: sheet.update(book, next(turns))),
        ("one index price: margin and netting of all accounts", lambda: sheet.update(book, all_of_btc)),
    ]
    where = f"{POSITIONS} positions, {len(models)} accounts"
    return [{"what": f"{where}: {name}", **timed(work)} for name, work in parts]


def in_quote(found: Requirement) -> float:
    """Return maintenance margin in quote money; a coin's model asks in coin."""
    return found.maintenance * SPOT_PX.get(found.money, 1.0)


def asking(model: str, parameters: msgspec.Struct) -> Callable[[RiskBook], Requirement]:
    """Return what answers for an account by that model."""
    return lambda book: MODELS[model].requirement(book, parameters)


def answering(model: str, parameters: msgspec.Struct) -> Callable[[BookStack], list[Requirement]]:
    """Return what answers for every copy of an account's stack by that model."""
    return lambda stack: answer_all(model, stack, parameters)


def asking_all(model: str, parameters: msgspec.Struct) -> Callable[[BookStack], Floats]:
    """Return what answers maintenance margin of several moved books by that model, in quote money."""
    return lambda stack: np.array([in_quote(one) for one in answer_all(model, stack, parameters)])


def one_quote(sets: dict[str, ParameterSet]) -> list[dict[str, Any]]:
    """Measure what one quote costs in a kept matrix of the house model: one option's vol, or one underlying's price."""
    parameters = house_of(sets)
    book = random_book(POSITIONS, ("a",))
    matrix = ScenarioMatrix(book, parameters.scenarios())
    option = np.flatnonzero(book.is_option)[:1]
    moved = np.flatnonzero(book.underlying == 0)
    vol = book.vol.copy()
    vol[option] *= 1.01
    forward, mark = book.forward_px.copy(), book.mark_px.copy()
    forward[moved] *= 1.001
    mark[moved] *= 1.001
    quoted = msgspec.structs.replace(book, vol=vol)
    priced = msgspec.structs.replace(book, forward_px=forward, mark_px=mark, spot_px=book.spot_px * [1.001, 1.0])

    def after(changed: RiskBook, rows: Ints) -> Callable[[], object]:
        def work() -> object:
            matrix.update(changed, rows)
            return requirement_of(matrix, parameters)

        return work

    return [
        {"what": f"after one option's quote, {POSITIONS} positions, house", **timed(after(quoted, option))},
        {
            "what": f"after one index price, {len(moved)} of {POSITIONS} positions priced again, house",
            **timed(after(priced, moved)),
        },
    ]


def on_whole_book(model: str, found: ParameterSet) -> dict[str, Any]:
    """Measure one model on the whole book, as if all of it were at one account."""
    book = random_book(POSITIONS, (model,))
    parameters = decode_values(model, found.values)
    what = f"{model}, {POSITIONS} positions at one account"
    return {"what": what, **timed(lambda: MODELS[model].requirement(book, parameters))}


def house_of(sets: dict[str, ParameterSet]) -> HouseParameters:
    """Return the carried parameters of the house model."""
    return msgspec.convert(sets["house"].values, HouseParameters)


def timed(work: Callable[[], object]) -> dict[str, float]:
    """Return min, median and max of many rounds, in milliseconds."""
    work()
    took: list[float] = []
    gc.collect()
    gc.disable()
    try:
        for _ in range(ROUNDS):
            started = time.thread_time()
            work()
            took.append(1e3 * (time.thread_time() - started))
    finally:
        gc.enable()
    print(".", end="", file=sys.stderr, flush=True)
    return {"min_ms": round(min(took), 3), "median_ms": round(float(np.median(took)), 3), "max_ms": round(max(took), 3)}


def plain_loop() -> float:
    """Add a thousand quotients."""
    total = 0.0
    for number in range(1, 1001):
        total += 1.0 / number
    return total


if __name__ == "__main__":
    main()
