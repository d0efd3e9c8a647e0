"""The table of `scripts/bench speed`: pricing beside its peers, decisions by size of book, replay.

Run by the Python that Evenkeel is installed in, with the Python of the peers as its argument. It must print nothing but
the table on stdout, and never time the making of what is timed.
"""

from __future__ import annotations

import gc
import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from math import exp
from pathlib import Path
from time import perf_counter_ns
from typing import Any, Final, NamedTuple

import msgspec
import numpy as np
import polars as pl
import scipy
from mpmath import mp
from numpy.typing import NDArray

from bot import __version__
from bot.domain.events import Event, SubmitOrder
from bot.domain.instruments import Hedgeable, Option, Perpetual
from bot.domain.market import IndexPrice, Quote, VolQuote
from bot.domain.orders import Fill, Liquidity, OrderIntent, OrderSent
from bot.domain.units import BPS, NS_PER_DAY, NS_PER_HOUR, NS_PER_MS, NS_PER_S, NS_PER_US, NS_PER_YEAR
from bot.engine.engine import Engine
from bot.engine.settings import Ages, BookLeg, EngineSettings, HedgeSettings, Limits
from bot.pricing.black76 import greeks
from bot.pricing.implied_vol import implied_vol
from bot.runtime.configuration.config import load_vaults
from bot.runtime.configuration.vault import BookLine, Vault
from bot.runtime.session import open_session
from bot.simulation.recording import open_recording
from bot.simulation.replay import replay
from strategies import policy_from_spec

ALL_GREEKS: Final = (
    "value", "delta", "gamma", "vega", "theta", "rho", "vanna", "volga", "charm", "speed", "zomma", "color",
)  # fmt: skip
SEED: Final = 7
OPTIONS: Final = 10_000
PRICING_ROUNDS: Final = 9
PASSES_A_ROUND: Final = 15
BOOKS: Final = {10: 2_000, 100: 2_000, 1_000: 1_000, 10_000: 500}  # options: decisions timed a round
ROUTED_BOOK: Final = (100, 2_000)
VENUES: Final = 3
POLICY: Final = "impulse"  # the default one, in every row
DECISION_ROUNDS: Final = 5
REPLAY_ROUNDS: Final = 5
RECORDINGS: Final = ("eth-2023-04", "btc-2023-04")
DEMO_VAULT: Final = Path(__file__).parents[1] / "config" / "eth-straddle.yaml"


def main(peer_python: str) -> None:
    """Measure everything and print the table."""
    table: dict[str, Any] = {
        "bench": "speed",
        "evenkeel": __version__,
        "machine": describe_machine(),
        "method": {
            "threads": 1,
            "garbage_collector": "off while pricing is timed, on for decisions and replay",
            "spread": f"over {PRICING_ROUNDS} rounds of pricing, {DECISION_ROUNDS} of decisions, {REPLAY_ROUNDS} of"
            " replay, whoever is compared taking turns; ratios are of medians",
        },
    }
    table["pricing"] = measure_pricing(peer_python)
    table["decision"] = [measure_decisions(options, decisions) for options, decisions in BOOKS.items()]
    table["decision"].append(measure_decisions(*ROUTED_BOOK, venues=VENUES))
    table["hedging"] = [measure_decisions(*ROUTED_BOOK, venues, is_busy=True) for venues in (1, VENUES)]
    table["replay"] = measure_replays()
    print(json.dumps(table, indent=1))


def describe_machine() -> dict[str, Any]:
    """Return what the figures depend on, and nothing that tells one machine from another of its kind."""
    model = platform.processor()
    info = Path("/proc/cpuinfo")
    if info.exists():
        models = [line.partition(":")[2].strip() for line in info.read_text().splitlines() if "model name" in line]
        model = models[0] if models else model
    return {
        "processor": model or platform.machine(),
        "cores": os.cpu_count(),
        "system": platform.system(),
        "load_average": [round(load, 2) for load in os.getloadavg()],
        "python": platform.python_version(),
        "numpy": np.__version__,
        "scipy": scipy.__version__,
    }


def spread(samples: list[float], digits: int = 1) -> dict[str, float]:
    """Return median, least and most."""
    return {
        "median": round(float(np.median(samples)), digits),
        "min": round(min(samples), digits),
        "max": round(max(samples), digits),
    }


def say(text: str) -> None:
    """Report progress."""
    print(text, file=sys.stderr, flush=True)


# Pricing, beside its peers -------------------------------------------------------------------------------------------


class Chain(NamedTuple):
    """Options as arrays; `price` is what Black-76 makes of `vol`, to the last bit."""

    forward_px: NDArray[np.float64]
    strike_px: NDArray[np.float64]
    tau_years: NDArray[np.float64]
    vol: NDArray[np.float64]
    is_call: NDArray[np.bool_]
    price: NDArray[np.float64]


def measure_pricing(peer_python: str) -> dict[str, Any]:
    """Return ns per option for Greeks and for implied vol, ours and each peer's, and how far the numbers agree."""
    chain = quoted_chain(OPTIONS)
    with open_peers(peer_python, chain) as peers:
        works: list[tuple[str, str]] = [
            (name, work)
            for name, offer in peers.offers.items()
            if not isinstance(offer, str)
            for work in offer["calls"]
        ]
        subsets = {name: tuple(peers.offers[name]["greeks"]) for name, _ in works}
        samples: dict[tuple[str, str], list[float]] = {}
        for number in range(PRICING_ROUNDS + 1):  # the first warms up and is dropped
            say(f"pricing: round {number} of {PRICING_ROUNDS}")
            timed = {("", "greeks"): time_greeks(chain, ALL_GREEKS), ("", "implied_vol"): time_implied_vol(chain)}
            timed |= {("", name): time_greeks(chain, subset) for name, subset in subsets.items()}
            timed |= {(name, work): peers.time(name, work) for name, work in works}
            if number:
                for key, sample in timed.items():
                    samples.setdefault(key, []).append(sample)
        agreement = {key: compare(chain, peers, *key) for key in works}
    solved = implied_vol(chain.price, chain.forward_px, chain.strike_px, chain.tau_years, chain.is_call)
    rows: dict[str, list[dict[str, Any]]] = {
        "greeks": [{"library": "evenkeel", "greeks": ALL_GREEKS, "ns_per_option": spread(samples["", "greeks"])}],
        "implied_vol": [
            {
                "library": "evenkeel",
                "ns_per_option": spread(samples["", "implied_vol"]),
                **judge_vols(chain, solved.vol),
            }
        ],
    }
    for name, offer in peers.offers.items():
        if isinstance(offer, str):
            rows["greeks"].append({"library": name, "ns_per_option": offer})
            rows["implied_vol"].append({"library": name, "ns_per_option": offer})
    for name, work in works:
        offer = peers.offers[name]
        theirs = samples[name, work]
        row = {"library": f"{name} {offer['version']}", "call": offer["calls"][work], "ns_per_option": spread(theirs)}
        if work == "greeks":
            row["greeks"] = offer["greeks"]
            row["ours_for_these_greeks_ns_per_option"] = spread(samples["", name])
            row["ours_over_peer_for_these_greeks"] = ratio(samples["", name], theirs)
            row["ours_for_all_twelve_over_peer"] = ratio(samples["", "greeks"], theirs)
            rows["greeks"].append(row | agreement[name, work])
        else:
            row["ours_over_peer"] = ratio(samples["", "implied_vol"], theirs)
            rows["implied_vol"].append(row | agreement[name, work])
    return {"options": len(chain.vol), "chain": f"quoted on both sides in {' and '.join(RECORDINGS)}", **rows}


def quoted_chain(count: int) -> Chain:
    """Return `count` options as the bundled recordings quote them on both sides, at least an hour from expiry."""
    frames = []
    for name in RECORDINGS:
        recording = open_recording(name)
        options = [
            (number, one.strike_px, one.expiry_ns, one.is_call)
            for number, one in enumerate(recording.manifest.instruments)
            if isinstance(one, Option)
        ]
        traits = pl.DataFrame(options, schema=["instrument", "strike_px", "expiry_ns", "is_call"], orient="row")
        quotes = recording.table("vol_quotes").filter((pl.col("bid_vol") > 0.0) & (pl.col("ask_vol") > 0.0))
        frames.append(
            quotes.join(
                traits.lazy().cast({"instrument": pl.UInt16()}), on="instrument", maintain_order="left"
            ).collect()
        )
    rows = pl.concat([frame.select("ts_event_ns", "expiry_ns", "forward_px", "strike_px", "mark_vol", "is_call")
                      for frame in frames])  # fmt: skip
    rows = rows.filter(pl.col("expiry_ns") - pl.col("ts_event_ns") >= NS_PER_HOUR).sample(count, seed=SEED)
    forward_px, strike_px, vol = (rows.get_column(name).to_numpy() for name in ("forward_px", "strike_px", "mark_vol"))
    tau_years = (rows.get_column("expiry_ns") - rows.get_column("ts_event_ns")).to_numpy() / NS_PER_YEAR
    is_call = rows.get_column("is_call").to_numpy()
    with mp.workdps(40):
        columns = (forward_px, strike_px, tau_years, vol, is_call)
        price = np.array([exact_price(*row) for row in zip(*(column.tolist() for column in columns), strict=True)])
    return Chain(forward_px, strike_px, tau_years, vol, is_call, price)


def exact_price(forward_px: float, strike_px: float, tau_years: float, vol: float, is_call: bool) -> float:
    """Return the Black-76 value, rounded once: a solver should not be judged by the errors of the pricer before it."""
    sign = 1 if is_call else -1
    deviation = mp.mpf(vol) * mp.sqrt(tau_years)
    d1 = mp.log(mp.mpf(forward_px) / strike_px) / deviation + deviation / 2
    return float(sign * (forward_px * mp.ncdf(sign * d1) - strike_px * mp.ncdf(sign * (d1 - deviation))))


class Peers:
    """The process in the peers' own environment that holds the same options and works when asked."""

    def __init__(self, process: subprocess.Popen[str], chain: Chain) -> None:
        self._process = process
        self._options = len(chain.vol)
        columns = (chain.forward_px, chain.strike_px, chain.tau_years, chain.vol, chain.is_call, chain.price)
        self.offers: dict[str, Any] = self._ask(list(zip(*(column.tolist() for column in columns), strict=True)))

    def time(self, name: str, work: str) -> float:
        """Return ns per option of one pass."""
        return float(self._ask((name, work))["took_ns"]) / self._options

    def numbers(self, name: str, work: str) -> NDArray[np.float64]:
        """Return the peer's numbers in our units, a column for each Greek it computes."""
        return np.array(self._ask((name, work, "rows"))["rows"]).T

    def _ask(self, request: object) -> Any:  # noqa: ANN401 — any JSON
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        stdin.write(json.dumps(request) + "\n")
        stdin.flush()
        return json.loads(stdout.readline())


@contextmanager
def open_peers(python: str, chain: Chain) -> Iterator[Peers]:
    """Start the peers' process, and end it."""
    script = Path(__file__).with_name("bench_peers.py")
    pipe = subprocess.PIPE
    with subprocess.Popen([python, str(script)], stdin=pipe, stdout=pipe, text=True) as process:
        yield Peers(process, chain)


def time_greeks(chain: Chain, names: tuple[str, ...]) -> float:
    """Return ns per option of `names`, the median of a round's passes."""
    took_ns = []
    with no_collections():
        for _ in range(PASSES_A_ROUND):
            began_ns = perf_counter_ns()
            found = greeks(chain.forward_px, chain.strike_px, chain.tau_years, chain.vol, chain.is_call)
            for name in names:
                getattr(found, name)
            took_ns.append(perf_counter_ns() - began_ns)
    return float(np.median(took_ns)) / len(chain.vol)


def time_implied_vol(chain: Chain) -> float:
    """Return ns per option, the median of a round's passes."""
    took_ns = []
    with no_collections():
        for _ in range(PASSES_A_ROUND):
            began_ns = perf_counter_ns()
            implied_vol(chain.price, chain.forward_px, chain.strike_px, chain.tau_years, chain.is_call)
            took_ns.append(perf_counter_ns() - began_ns)
    return float(np.median(took_ns)) / len(chain.vol)


@contextmanager
def no_collections() -> Iterator[None]:
    """Collect now, and not again before the end."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def compare(chain: Chain, peers: Peers, name: str, work: str) -> dict[str, Any]:
    """Return how far a peer's Greeks are from ours, or its vols from those that made the prices."""
    columns = peers.numbers(name, work)
    if work != "greeks":
        return judge_vols(chain, columns[0])
    found = greeks(chain.forward_px, chain.strike_px, chain.tau_years, chain.vol, chain.is_call)
    differences = {}
    for greek, theirs in zip(peers.offers[name]["greeks"], columns, strict=True):
        differences[greek] = two_digits(np.abs(getattr(found, greek) / theirs - 1.0).max())
    return {"max_relative_difference": differences}


def judge_vols(chain: Chain, vol: NDArray[np.float64]) -> dict[str, Any]:
    """Return the error of vols, plainly and against the least that a price in doubles allows.

    One rounding of the price, eps V, moves the vol by eps V / vega: far in the money, where vega is next to nothing,
    the price says little about the vol whoever solves for it.
    """
    vega = greeks(chain.forward_px, chain.strike_px, chain.tau_years, chain.vol, chain.is_call).vega
    rounding = np.finfo(np.float64).eps * (chain.price / vega + chain.vol)
    is_solved = np.isfinite(vol)
    error = np.abs(vol - chain.vol)[is_solved]
    return {
        "median_relative_error": two_digits(np.median(error / chain.vol[is_solved])),
        "worst_error_in_roundings": two_digits((error / rounding[is_solved]).max()),
        "unsolved": int((~is_solved).sum()),
    }


def two_digits(number: float) -> float:
    """Return `number` rounded to two significant digits."""
    return float(f"{number:.1e}")


def ratio(ours: list[float], theirs: list[float]) -> float:
    """Return our median over theirs, to three digits."""
    return float(f"{np.median(ours) / np.median(theirs):.3g}")


# Decisions -----------------------------------------------------------------------------------------------------------

EXPIRY_DAYS: Final = (2, 9, 16, 30, 44, 79, 170, 352)
MOVE_SD: Final = 1.4e-4  # from one second to the next: 80 % a year …
BUSY_SD: Final = 1.4e-3  # … and where hedges are what is timed
BOOK_BASE: Final = 200.0  # all sizes of book hold as much, so that they hedge alike
START_NS: Final = 1_700_000_000 * NS_PER_S
STEP_NS: Final = NS_PER_S
FEED_NS: Final = 50 * NS_PER_MS
HALF_SPREAD: Final = 0.25 * BPS
TAKER_BPS: Final = 5.0
LEAST_SHARE_OF_VOLS: Final = 20  # one leg in so many has a new vol at every decision


class SyntheticMarket:
    """A market in which everything moves at every step: index, hedge quotes, each forward, and vols in turn.

    With several venues their books are thin and as dear as each other, so that most hedges are split.
    """

    def __init__(self, options: int, venues: int = 1) -> None:
        self._rng = np.random.default_rng(SEED)
        self._px = 2_000.0
        self._seq = 0
        self._now_ns = START_NS
        self._turn = 0
        self.move_sd = MOVE_SD
        templates = open_recording(RECORDINGS[0]).manifest.instruments
        option = next(one for one in templates if isinstance(one, Option))
        self.hedge: Hedgeable = next(one for one in templates if isinstance(one, Perpetual))
        name = self.hedge.instrument_id
        self.hedges: list[Hedgeable] = [
            msgspec.structs.replace(self.hedge, instrument_id=f"{name}-{number}", venue=f"v{number}")
            for number in range(venues)
        ]
        self.touch_base = 500.0
        if venues == 1:
            self.hedges = [self.hedge]
        else:
            self.touch_base = 0.1
        days = EXPIRY_DAYS[: max(2, min(len(EXPIRY_DAYS), options // 5))]
        self.expiries: list[list[Option]] = [[] for _ in days]
        for number in range(options):
            listed = self.expiries[number % len(days)]
            width = 2.0 * 0.7 * (days[number % len(days)] / 365) ** 0.5
            place = 2.0 * (number // len(days) + 0.5) / -(-options // len(days)) - 1.0
            listed.append(
                msgspec.structs.replace(
                    option,
                    instrument_id=f"OPTION-{number}",
                    strike_px=self._px * exp(width * place),
                    expiry_ns=START_NS + days[number % len(days)] * NS_PER_DAY,
                    is_call=bool(len(listed) % 2),
                )
            )

    @property
    def options(self) -> list[Option]:
        """Every option of the chain."""
        return [option for listed in self.expiries for option in listed]

    def opening(self) -> tuple[int, list[Event]]:
        """Return the first moment: everything is quoted once."""
        return self._now_ns + FEED_NS, [*self._underlying(), *self._vols(len(self.options))]

    def step(self) -> tuple[int, list[Event]]:
        """Return the next moment, and what moved until then."""
        self._now_ns += STEP_NS
        self._px *= exp(self.move_sd * self._rng.standard_normal())
        moved = max(1, len(self.options) // LEAST_SHARE_OF_VOLS // len(self.expiries))
        return self._now_ns + FEED_NS, [*self._underlying(), *self._vols(moved)]

    def _underlying(self) -> Iterator[Event]:
        px, now_ns = self._px, self._now_ns
        yield IndexPrice(self.hedge.base, px, now_ns, now_ns + FEED_NS, self._next_seq())
        bid_px, ask_px = px * (1.0 - HALF_SPREAD), px * (1.0 + HALF_SPREAD)
        for hedge in self.hedges:
            yield Quote(
                hedge.instrument_id, bid_px, self.touch_base, ask_px, self.touch_base, now_ns, now_ns + FEED_NS,
                self._next_seq(),
            )  # fmt: skip

    def _vols(self, count: int) -> Iterator[Event]:
        """Up to `count` legs of every expiry, at a forward that has moved with the index."""
        for listed in self.expiries:
            for place in range(self._turn, self._turn + min(count, len(listed))):
                option = listed[place % len(listed)]
                forward_px = self._px * (1.0 + 0.03 * (option.expiry_ns - self._now_ns) / NS_PER_YEAR)
                vol = 0.65 + 0.02 * self._rng.random()
                yield VolQuote(
                    option.instrument_id, vol, vol - 0.01, vol + 0.01, forward_px, self._now_ns,
                    self._now_ns + FEED_NS, self._next_seq(),
                )  # fmt: skip
        self._turn += count

    def _next_seq(self) -> int:
        self._seq += 1
        return self._seq


def measure_decisions(options: int, decisions: int, venues: int = 1, *, is_busy: bool = False) -> dict[str, Any]:
    """Return p50 and p99 of `Engine.decide` in µs, every one of which revalues the whole book; if busy, of hedges only.

    In two thousand decisions of a usual vault a dozen or two hedge: too few to show in the p99 of all of them, or to
    have one of their own. In a busy market the index moves ten times as far between two of them.
    """
    p50s_us, p99s_us = [], []
    hedges, orders = 0, 0
    for number in range(DECISION_ROUNDS + 1):  # the first warms up and is dropped
        what = "hedges" if is_busy else "decisions"
        say(f"{what} with {options} options, {venues} venues: round {number} of {DECISION_ROUNDS}")
        all_ns, hedging_ns, orders = time_decisions(options, decisions, venues, is_busy=is_busy)
        hedges = len(hedging_ns)
        if number:
            p50_us, p99_us = np.percentile(hedging_ns if is_busy else all_ns, (50, 99)) / NS_PER_US
            p50s_us.append(float(p50_us))
            p99s_us.append(float(p99_us))
    return {
        "policy": POLICY,
        "options": options,
        "venues": venues,
        "decisions_a_round": decisions,
        "hedges_a_round": hedges,
        "orders_a_round": orders,
        "p50_us": spread(p50s_us),
        "p99_us": spread(p99s_us),
    }


def time_decisions(
    options: int, decisions: int, venues: int = 1, *, is_busy: bool = False
) -> tuple[list[int], list[int], int]:
    """Return how long all decisions took, how long those that hedged, and the number of orders.

    Orders fill at once and in full. The first decision is left out: it starts everything.
    """
    market = SyntheticMarket(options, venues)
    if is_busy:
        market.move_sd = BUSY_SD
    engine = Engine(settings_of(market))
    desk = engine.desks[market.hedge.base]
    gc.collect()
    now_ns, events = market.opening()
    all_ns = []
    hedging_ns = []
    orders = 0
    for number in range(decisions + 1):
        for event in events:
            engine.apply(event)
        began_ns = perf_counter_ns()
        commands = engine.decide(now_ns)
        took_ns = perf_counter_ns() - began_ns
        if number:
            all_ns.append(took_ns)
        marks = desk.book.option_marks
        if engine.refusals or marks is None or marks.now_ns != now_ns:
            raise SystemExit(f"expected the whole book revalued, found refusals {engine.refusals} and marks {marks}")
        answers: list[Event] = []
        if number and commands:
            hedging_ns.append(took_ns)
            orders += len(commands)
        for command in commands:
            assert isinstance(command, SubmitOrder)
            intent = command.intent
            answers += [OrderSent(intent.order_id, now_ns), fill_of(intent, market.hedge, now_ns)]
        now_ns, events = market.step()
        events[:0] = answers
    return all_ns, hedging_ns, orders


def fill_of(intent: OrderIntent, hedge: Hedgeable, now_ns: int) -> Fill:
    """Return the order filled whole across the spread."""
    px = intent.reference_px * (1.0 + HALF_SPREAD * (1 if intent.qty_lots > 0 else -1))
    fee_quote = abs(intent.qty_lots) * hedge.lot_base(px) * px * TAKER_BPS * BPS
    fee_settle = fee_quote / px if hedge.settle == hedge.base else fee_quote
    return Fill(
        f"{intent.order_id}-fill", intent.order_id, intent.instrument_id, intent.qty_lots, px, fee_settle,
        Liquidity.TAKER, now_ns, now_ns,
    )  # fmt: skip


def settings_of(market: SyntheticMarket) -> EngineSettings:
    """Return a vault short of all of the market's options, with limits too wide to bind."""
    options = market.options
    hedges = tuple(HedgeSettings(instrument=one, maker_bps=0.0, taker_bps=TAKER_BPS) for one in market.hedges)
    ten_minutes_ns = 600 * NS_PER_S
    return EngineSettings(
        vault="bench",
        run_id="bench",
        numeraire="USD",
        policy=policy_from_spec(POLICY),
        book=tuple(BookLeg(option, -BOOK_BASE / len(options)) for option in options),
        cash={"USD": 500_000.0},
        hedges={market.hedge.base: hedges},
        universe=(*options, *market.hedges),
        limits=Limits(max_order_quote=1e9, max_orders_per_min=1_000, daily_loss_quote=1e9, max_hedges_same_way=1_000),
        ages=Ages(vol_ns=ten_minutes_ns, quote_ns=ten_minutes_ns, index_ns=ten_minutes_ns),
        gap_ns=ten_minutes_ns,
    )


# Replay --------------------------------------------------------------------------------------------------------------

REPLAY_OPTIONS: Final = 100


def measure_replays() -> list[dict[str, Any]]:
    """Return events a second of whole replays: reading, simulated venue, decisions and score included."""
    demo = load_vaults([DEMO_VAULT])[0]
    wide = demo.model_copy(update={"book": book_of_recording(BOOK_BASE / REPLAY_OPTIONS)})
    time_replay(demo)  # warms up
    rows = {len(vault.book): {"options": len(vault.book)} for vault in (demo, wide)}
    samples: dict[int, list[float]] = {options: [] for options in rows}
    for number in range(REPLAY_ROUNDS):
        for vault in (demo, wide):
            options = len(vault.book)
            say(f"replay with {options} options: round {number + 1} of {REPLAY_ROUNDS}")
            rate, row = time_replay(vault)
            samples[options].append(rate)
            rows[options] |= row
    return [
        {"recording": RECORDINGS[0], **row, "events_per_second": spread(samples[options], 0)}
        for options, row in rows.items()
    ]


def book_of_recording(qty_base: float) -> tuple[BookLine, ...]:
    """Return a short book of the options with the most quotes among those alive all through the recording."""
    recording = open_recording(RECORDINGS[0])
    manifest = recording.manifest
    counts = recording.table("vol_quotes").group_by("instrument").len().sort("len", "instrument", descending=True)
    busiest = (manifest.instruments[number] for number in counts.collect().get_column("instrument"))
    alive = (one for one in busiest if isinstance(one, Option) and one.expiry_ns > manifest.end_ns)
    return tuple(BookLine(instrument=one.instrument_id, qty_base=-qty_base) for one in islice(alive, REPLAY_OPTIONS))


def time_replay(vault: Vault) -> tuple[float, dict[str, Any]]:
    """Return events a second of one replay, and what happened in it."""
    session = open_session(vault)
    gc.collect()
    began_ns = perf_counter_ns()
    replay(session.engine, session.world, session.score, stopwatch_ns=perf_counter_ns, progress=lambda _now_ns: None)
    took_ns = perf_counter_ns() - began_ns
    score = session.score
    row = {"events": score.events, "decisions": session.engine.decisions, "orders": score.orders}
    return score.events / took_ns * NS_PER_S, row


if __name__ == "__main__":
    main(*sys.argv[1:])
