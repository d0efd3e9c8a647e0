"""Price sources on chain: Chainlink aggregators, Pyth-style feeds with a confidence, averages of Uniswap v3 pools.

Each says what it says or why it cannot be used; whether prices are believed is decided elsewhere, from several sources.
A source that was good and is no more is withdrawn once, by a price of 0.0: without that its last word would stay alive
for as long as it may be old. Rules: checks of feeds as in Chainlink's, Pyth's and Uniswap's documentation.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

import msgspec

from bot.domain.errors import ConfigError
from bot.domain.market import OraclePrice
from bot.domain.units import NS_PER_S
from bot.gateways.chain.abi import Function, Undecodable, address_at, int_at, uint_at
from bot.gateways.chain.nouns import Block, Read
from bot.gateways.chain.settings import ChainSettings, OracleSettings, TokenSettings

MAX_PYTH_AGE_NS: Final = 60 * NS_PER_S
MAX_CONFIDENCE_FRACTION: Final = 0.01
_LATEST_ROUND: Final = Function("latestRoundData()", "(uint80,int256,uint256,uint256,uint80)")
_DECIMALS: Final = Function("decimals()", "(uint8)")
_PYTH_PRICE: Final = Function("getPriceUnsafe(bytes32)", "(int64,uint64,int32,uint256)")
_OBSERVE: Final = Function("observe(uint32[])", "(int56[],uint160[])")
_TOKEN0: Final = Function("token0()", "(address)")
_MAX_EXPONENT: Final = 40  # of ten: whatever has more is no price
_FEED_ID_BYTES: Final = 32
_MAX_TICK: Final = 887_272


class Unusable(Exception):
    """What a source says cannot be used; the text says why."""


class Word(msgspec.Struct, frozen=True, gc=False):
    """What a source said: a price, its half-width or 0.0, and since when it is so."""

    px: float
    confidence_px: float
    since_s: int


Interpret = Callable[[Block, Sequence[bytes]], Word]


class Oracle:
    """One source: what to read of every block, and what the answers mean. `problem` says why it is unusable, or ""."""

    def __init__(self, name: str, venue: str, settings: OracleSettings, reads: Sequence[Read], word: Interpret) -> None:
        self.source = f"{settings.kind} {name} on {venue}"
        self.reads = tuple(reads)
        self.max_age_ns = min(settings.max_age_ns, MAX_PYTH_AGE_NS) if settings.kind == "pyth" else settings.max_age_ns
        self.problem = "nothing read yet"
        self._settings = settings
        self._word = word
        self._is_told = False  # the last event of it had a price
        self._seq = 0

    def update(self, block: Block, answers: Sequence[bytes | None], ts_recv_ns: int) -> OraclePrice | None:
        """Return what the source says as of `block`, its withdrawal if it has just become unusable, else None."""
        try:
            word = self._checked(block, answers)
        except (Unusable, Undecodable) as error:
            self.problem = str(error)
            if not self._is_told:
                return None
            self._is_told = False
            return self._event(Word(0.0, 0.0, block.timestamp_s), ts_recv_ns)
        self.problem = ""
        self._is_told = True
        return self._event(word, ts_recv_ns)

    def _checked(self, block: Block, answers: Sequence[bytes | None]) -> Word:
        told = [answer for answer in answers if answer is not None]
        if len(told) != len(self.reads):
            raise Unusable("it reverts")
        word = self._word(block, told)
        low_px, high_px = self._settings.low_px, self._settings.high_px
        if not low_px < word.px < high_px:
            raise Unusable(f"expected a price between {low_px:g} and {high_px:g}, found {word.px:g}")
        age_s = block.timestamp_s - word.since_s
        if age_s < 0:
            raise Unusable(f"expected an age, found a price {-age_s} s ahead of the block")
        if age_s * NS_PER_S > self.max_age_ns:
            raise Unusable(f"expected a price at most {self.max_age_ns // NS_PER_S} s old, found one {age_s} s old")
        return word

    def _event(self, word: Word, ts_recv_ns: int) -> OraclePrice:
        self._seq += 1
        return OraclePrice(
            source=self.source,
            underlying=self._settings.underlying,
            px=word.px,
            confidence_px=word.confidence_px,
            max_age_ns=self.max_age_ns,
            ts_event_ns=word.since_s * NS_PER_S,
            ts_recv_ns=ts_recv_ns,
            seq=self._seq,
        )


class Oracles:
    """All sources of one chain."""

    def __init__(self, settings: ChainSettings) -> None:
        self._oracles = tuple(
            open_oracle(name, settings.venue, one, settings.tokens) for name, one in settings.oracles.items()
        )
        self.reads = tuple(read for oracle in self._oracles for read in oracle.reads)

    def update(self, block: Block, answers: Sequence[bytes | None], ts_recv_ns: int) -> tuple[OraclePrice, ...]:
        """Return what they say as of `block`; `answers` are those to `reads`, in order."""
        events = []
        at = 0
        for oracle in self._oracles:
            events.append(oracle.update(block, answers[at : at + len(oracle.reads)], ts_recv_ns))
            at += len(oracle.reads)
        return tuple(event for event in events if event is not None)

    @property
    def problems(self) -> tuple[str, ...]:
        """Say which sources cannot be used, and why."""
        return tuple(f"{oracle.source}: {oracle.problem}" for oracle in self._oracles if oracle.problem)


def open_oracle(name: str, venue: str, settings: OracleSettings, tokens: Mapping[str, TokenSettings]) -> Oracle:
    """Return the source that settings describe. Raises ConfigError if they lack something."""
    where = f"oracle {name} of {venue}"
    match settings.kind:
        case "chainlink":
            reads = [_LATEST_ROUND.read(settings.address), _DECIMALS.read(settings.address)]
            return Oracle(name, venue, settings, reads, read_chainlink)
        case "pyth":
            feed_id = _feed_id(settings.feed_id)
            if len(feed_id) != _FEED_ID_BYTES:
                raise ConfigError([f"{where}: expected a feed_id of 32 bytes, found {settings.feed_id!r}"])
            return Oracle(name, venue, settings, [_PYTH_PRICE.read(settings.address, feed_id)], read_pyth)
        case "twap":
            missing = [symbol for symbol in (settings.base, settings.quote) if symbol not in tokens]
            if missing or settings.window_s <= 0:
                what = f"unknown tokens {missing}" if missing else f"window_s {settings.window_s}"
                raise ConfigError([f"{where}: expected two known tokens and a window above 0, found {what}"])
            average = PoolAverage(tokens[settings.base], tokens[settings.quote], settings.window_s)
            reads = [_OBSERVE.read(settings.address, [settings.window_s, 0]), _TOKEN0.read(settings.address)]
            return Oracle(name, venue, settings, reads, average)
        case _:
            raise ConfigError([f"{where}: expected a kind chainlink, pyth or twap, found {settings.kind!r}"])


def _feed_id(text: str) -> bytes:
    try:
        return bytes.fromhex(text.removeprefix("0x"))
    except ValueError:
        return b""


def read_chainlink(block: Block, answers: Sequence[bytes]) -> Word:  # noqa: ARG001 - the others need it
    """Return what `latestRoundData` and `decimals` say. `answeredInRound` is not relied on, as Chainlink advises."""
    answer, updated_s, decimals = int_at(answers[0], 1), uint_at(answers[0], 3), uint_at(answers[1], 0)
    if updated_s == 0:
        raise Unusable("expected a finished round, found none")
    if answer <= 0:
        raise Unusable(f"expected a positive answer, found {answer}")
    return Word(_scaled(answer, -decimals), 0.0, updated_s)


def read_pyth(block: Block, answers: Sequence[bytes]) -> Word:  # noqa: ARG001
    """Return what `getPriceUnsafe` says: price and confidence, both times ten to the exponent."""
    price, confidence = int_at(answers[0], 0), uint_at(answers[0], 1)
    exponent, published_s = int_at(answers[0], 2), uint_at(answers[0], 3)
    if price <= 0:
        raise Unusable(f"expected a positive price, found {price}")
    if confidence > MAX_CONFIDENCE_FRACTION * price:
        raise Unusable(
            f"expected a confidence within {MAX_CONFIDENCE_FRACTION:.1%} of the price, found {confidence / price:.1%}"
        )
    return Word(_scaled(price, exponent), _scaled(confidence, exponent), published_s)


class PoolAverage:
    """The time-weighted average of a Uniswap v3 pool: 1.0001 to the power of the mean tick, in whole quote per base.

    Source: Uniswap v3 Core whitepaper, sections 5.2 and 6.1; the mean tick is rounded down, as OracleLibrary does.
    """

    def __init__(self, base: TokenSettings, quote: TokenSettings, window_s: int) -> None:
        self._is_base_first = int(base.address, 16) < int(quote.address, 16)
        self._token0 = (base if self._is_base_first else quote).address
        first, second = (base, quote) if self._is_base_first else (quote, base)
        self._exponent = first.decimals - second.decimals
        self._window_s = window_s

    def __call__(self, block: Block, answers: Sequence[bytes]) -> Word:
        """Return the average that `observe` of (window, now) amounts to; `token0` tells that it is the right pool."""
        token0 = address_at(answers[1], 0)
        if token0.lower() != self._token0.lower():
            raise Unusable(f"expected a pool with {self._token0} as token0, found {token0}")
        cumulatives = _OBSERVE.decode(answers[0])[0]
        if len(cumulatives) != 2:
            raise Undecodable(f"expected two observations, found {len(cumulatives)}")
        mean_tick = (cumulatives[1] - cumulatives[0]) // self._window_s
        if abs(mean_tick) > _MAX_TICK:
            raise Unusable(f"expected a tick, found {mean_tick}")
        raw = 1.0001**mean_tick * 10.0**self._exponent
        return Word(raw if self._is_base_first else 1.0 / raw, 0.0, block.timestamp_s)


def _scaled(value: int, exponent: int) -> float:
    """Return value × 10^exponent."""
    if abs(exponent) > _MAX_EXPONENT or abs(value) > 10**_MAX_EXPONENT:
        raise Unusable(f"expected a price, found {value} × 10^{exponent}")
    return float(value * 10**exponent if exponent >= 0 else value / 10**-exponent)
