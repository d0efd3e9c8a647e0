"""What the book holds on a chain, as of one block: LP positions with their fees, balances, loans, and shares.

What must be read depends on what was read: a new LP position has ticks of its own. So the report is worked out from the
answers there are; whatever it lacks is read next, and whatever it used is read with every block. Nothing is remembered
of positions but which reads they took, so one that came, went or changed hands is seen in the block it did.

Fees owed are exact, by Uniswap v3 Core whitepaper section 6.3 (`bot.pricing.lp`); floats begin with whole units.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import lru_cache, partial
from math import inf, sqrt
from typing import Final, NamedTuple

from msgspec import structs

from bot.domain.chain import ChainReport, LpPosition, TokenPosition
from bot.domain.errors import ConfigError
from bot.domain.units import NS_PER_S
from bot.gateways.chain.abi import BALANCE_OF, Function, address_at, int_at, to_bytes, uint_at
from bot.gateways.chain.nouns import Block, Read
from bot.gateways.chain.settings import ChainSettings, HolderSettings, PoolSettings, TokenSettings
from bot.pricing.lp import fee_growth_inside, fees_owed, px_range, whole_liquidity

MAX_ROUNDS: Final = 8  # balance, ids, positions and ticks are four; the rest is for what changes meanwhile
MAX_LPS: Final = 200  # of one address
MAX_RATE_MOVE: Final = 0.1  # of a redemption rate from one block to the next; a staked coin earns that in years
_WAD: Final = 10**18
_NO_DEBT: Final = 2**256 - 1
_NOBODY: Final = "0x" + 40 * "0"

_ID_AT: Final = Function("tokenOfOwnerByIndex(address,uint256)")
_POSITION: Final = Function("positions(uint256)")
_SLOT0: Final = Function("slot0()")
_GROWTH0: Final = Function("feeGrowthGlobal0X128()")
_GROWTH1: Final = Function("feeGrowthGlobal1X128()")
_TICK: Final = Function("ticks(int24)")
_RESERVE: Final = Function("getReserveData(address)")
_ACCOUNT: Final = Function("getUserAccountData(address)")
_ASSET: Final = Function("asset()")
_TO_ASSETS: Final = Function("convertToAssets(uint256)")

ReadAll = Callable[[Block, Sequence[Read]], Awaitable[tuple[bytes | None, ...]]]


class _Missing(Exception):
    """An answer that was not read yet."""


class _Unreadable(Exception):
    """Something that must be known cannot be; the text says what and why."""


class _Answers:
    """The answers of one block. What is asked for and not among them is remembered as wanted."""

    def __init__(self, answers: Mapping[Read, bytes | None]) -> None:
        self.wanted: dict[Read, None] = {}
        self.lacks = False
        self._answers = answers

    def all(self, what: str, *reads: Read) -> list[bytes]:
        """Return these answers. Raises _Missing if one is still to be read, _Unreadable if one failed."""
        self.wanted.update(dict.fromkeys(reads))
        if any(read not in self._answers for read in reads):
            self.lacks = True
            raise _Missing
        found = [answer for read in reads if (answer := self._answers[read]) is not None]
        if len(found) != len(reads):
            raise _Unreadable(f"{what} reverts")
        return found

    def one(self, what: str, read: Read) -> bytes:
        """Return one answer, likewise."""
        return self.all(what, read)[0]


class _Pool(NamedTuple):
    """A pool of LP positions, and its tokens by their settings."""

    settings: PoolSettings
    base: TokenSettings
    quote: TokenSettings

    @property
    def is_base_first(self) -> bool:
        return int(self.base.address, 16) < int(self.quote.address, 16)

    @property
    def tokens(self) -> tuple[TokenSettings, TokenSettings]:
        return (self.base, self.quote) if self.is_base_first else (self.quote, self.base)

    @property
    def key(self) -> tuple[str, str, int]:
        """What a position says of its pool."""
        token0, token1 = self.tokens
        return token0.address.lower(), token1.address.lower(), self.settings.fee_pips


class _Amount(NamedTuple):
    """An amount of a token in smallest units, and how much of its underlying a whole one is."""

    holding_id: str
    symbol: str  # of what lies in the wallet itself, "" for all else
    token: TokenSettings
    wei: int
    rate: float


class _Found:
    """What one round of answers amounts to."""

    def __init__(self) -> None:
        self.lps: list[LpPosition] = []
        self.amounts: list[_Amount] = []
        self.health_factor = inf
        self.failures: list[str] = []
        self.notes: list[str] = []
        self.rates: dict[str, float] = {}  # redemption rates, by token


_Part = Callable[[_Answers, _Found], None]


class Positions:
    """All that the settings' holders hold. While not `is_settled`, more must be read of the same block.

    `problems` says what fails, in which case there is no report, and which LP positions are not counted.
    """

    def __init__(self, settings: ChainSettings) -> None:
        self.reads: tuple[Read, ...] = ()
        self.is_settled = False
        self.problems: tuple[str, ...] = ()
        self._venue = settings.venue
        self._parts = [part for holder in settings.holders for part in _parts_of(holder, settings)]
        self._block: Block | None = None
        self._rates: dict[str, float] = {}  # as of the newest block that was believed
        self._found = self._find(())  # what to begin with

    def update(self, block: Block, answers: Sequence[bytes | None]) -> None:
        """Take in the answers to `reads` as of `block`; `reads` may be others afterwards."""
        self._found = self._find(answers)
        self._block = block

    def report(self, block: Block, less_wei: Mapping[str, int], ts_recv_ns: int) -> ChainReport | None:
        """Return the report as of `block`; None if more must be read of it first, or something fails.

        `less_wei` is what to leave out, in smallest units: by symbol of what lies in the wallet, else by holding id.
        """
        found = self._found
        if not self.is_settled or found.failures or self._block is None or self._block.block_hash != block.block_hash:
            return None
        tokens = []
        for one in found.amounts:
            wei = one.wei - less_wei.get(one.holding_id, less_wei.get(one.symbol, 0))
            if wei:
                qty_base = wei / 10**one.token.decimals * one.rate
                tokens.append(TokenPosition(one.holding_id, one.token.underlying, qty_base, one.token.charge_fraction))
        return ChainReport(
            venue=self._venue,
            block_number=block.number,
            block_hash=block.block_hash,
            lps=tuple(found.lps),
            tokens=tuple(tokens),
            health_factor=found.health_factor,
            ts_event_ns=block.timestamp_s * NS_PER_S,
            ts_recv_ns=ts_recv_ns,
        )

    async def settle(self, block: Block, read: ReadAll) -> None:
        """Read on in the same block until nothing is lacking: at the start, and when positions come or change."""
        for _ in range(MAX_ROUNDS):
            if self.is_settled and self._block is not None and self._block.block_hash == block.block_hash:
                return
            self.update(block, await read(block, self.reads))
        if not self.is_settled:
            self.problems += (f"{self._venue}: positions are not known after {MAX_ROUNDS} rounds of reading",)

    def _find(self, answers: Sequence[bytes | None]) -> _Found:
        """Work out all that is held from the answers to `reads`, and which reads that takes."""
        told = _Answers(dict(zip(self.reads, answers, strict=True)))
        found = _Found()
        for part in self._parts:
            try:
                part(told, found)
            except _Missing:
                pass
            except (_Unreadable, ValueError) as error:  # what cannot be decoded, or be a tick
                found.failures.append(f"{self._venue}: {error}")
        found.failures += [
            f"{self._venue}: expected a redemption rate of {symbol} within {MAX_RATE_MOVE:.0%} of {last:g}, "
            f"found {rate:g}; hint: look at its contract; what is true after a new start is believed"
            for symbol, rate in found.rates.items()
            if abs(rate / (last := self._rates.get(symbol, rate)) - 1.0) > MAX_RATE_MOVE
        ]
        if not found.failures:
            self._rates |= found.rates
        self.reads = tuple(told.wanted)
        self.is_settled = not told.lacks
        self.problems = (*found.failures, *(f"{self._venue}: {note}" for note in found.notes))
        return found


def _parts_of(holder: HolderSettings, settings: ChainSettings) -> list[_Part]:
    """Return what is to be found out about one holder. Raises ConfigError where the settings lack something."""
    where = f"holder {holder.address} of {settings.venue}"
    known = _Tokens(where, settings)
    is_wallet = settings.wallet is not None and settings.wallet.address.lower() == holder.address.lower()
    parts: list[_Part] = [partial(_find_balance, holder, known.get(symbol), is_wallet) for symbol in holder.tokens]
    parts += [partial(_find_shares, holder, known.get(symbol), known) for symbol in holder.shares]
    if holder.aave_tokens or holder.aave_pool:
        if not holder.aave_pool:
            raise ConfigError([f"{where}: expected aave_pool with aave_tokens, found none"])
        parts += [partial(_find_loan, holder, known.get(symbol)) for symbol in holder.aave_tokens]
        parts.append(partial(_find_health, holder))
    if holder.lp_pools:
        if not holder.position_manager:
            raise ConfigError([f"{where}: expected position_manager with lp_pools, found none"])
        pools = [_Pool(pool, known.get(pool.base), known.get(pool.quote)) for pool in holder.lp_pools]
        for pool in pools:
            if pool.quote.underlying or pool.quote.rate_call or not pool.base.underlying:
                raise ConfigError([f"{where}: expected pools of a coin against money, found {pool.settings}"])
        parts.append(partial(_find_lps, holder, {pool.key: pool for pool in pools}))
    return parts


class _Tokens:
    """The configured tokens, by symbol and by address."""

    def __init__(self, where: str, settings: ChainSettings) -> None:
        self._where = where
        self._by_symbol = settings.tokens
        self._by_address = {token.address.lower(): token for token in settings.tokens.values()}

    def get(self, symbol: str) -> TokenSettings:
        """Return a token by symbol. Raises ConfigError if there is none."""
        if symbol not in self._by_symbol:
            raise ConfigError([f"{self._where}: expected a known token, found {symbol!r}"])
        return self._by_symbol[symbol]

    def at(self, address: str) -> TokenSettings | None:
        """Return a token by address."""
        return self._by_address.get(address.lower())


def _find_balance(
    holder: HolderSettings, token: TokenSettings, is_wallet: bool, answers: _Answers, found: _Found
) -> None:
    """Find an ERC-20 balance, at the token's redemption rate."""
    [balance, *rate] = answers.all(
        f"the balance of {token.symbol}", _read(BALANCE_OF, token.address, holder.address), *_rate_reads(token)
    )
    symbol = token.symbol if is_wallet else ""
    _add(found, f"{token.symbol} of {holder.address}", token, uint_at(balance, 0), rate, symbol)


def _find_shares(
    holder: HolderSettings, share: TokenSettings, known: _Tokens, answers: _Answers, found: _Found
) -> None:
    """Find ERC-4626 shares: what they can be turned into, in the units of the asset and at its rate."""
    what = f"what {share.symbol} is worth"
    [asset, balance] = answers.all(what, _read(_ASSET, share.address), _read(BALANCE_OF, share.address, holder.address))
    token = known.at(address_at(asset, 0))
    if token is None:
        raise _Unreadable(f"{what}: expected a known token, found asset {address_at(asset, 0)}")
    [assets, *rate] = answers.all(what, _read(_TO_ASSETS, share.address, uint_at(balance, 0)), *_rate_reads(token))
    worth = structs.replace(token, underlying=share.underlying, charge_fraction=share.charge_fraction)
    _add(found, f"{share.symbol} of {holder.address}", worth, uint_at(assets, 0), rate)


def _find_loan(holder: HolderSettings, token: TokenSettings, answers: _Answers, found: _Found) -> None:
    """Find what is supplied to Aave v3 and owed to it in one token; both balances grow with the interest by themselves.

    `getReserveData` has the addresses of aToken, stable and variable debt as words 8 to 10; a retired one is zero.
    """
    what = f"the reserve of {token.symbol}"
    reserve = answers.one(what, _read(_RESERVE, holder.aave_pool, token.address))
    places = [address_at(reserve, word) for word in (8, 9, 10)]
    if places[0] == _NOBODY:
        raise _Unreadable(f"{what}: expected it to be listed at Aave, found nothing")
    reads = {place: _read(BALANCE_OF, place, holder.address) for place in places if place != _NOBODY}
    told = answers.all(what, *reads.values(), *_rate_reads(token))
    balances = {place: uint_at(answer, 0) for place, answer in zip(reads, told, strict=False)}
    supplied, stable, variable = (balances.get(place, 0) for place in places)
    rate = told[len(reads) :]
    _add(found, f"aave supply of {token.symbol} of {holder.address}", token, supplied, rate)
    _add(found, f"aave debt of {token.symbol} of {holder.address}", token, -(stable + variable), rate)


def _find_health(holder: HolderSettings, answers: _Answers, found: _Found) -> None:
    """Find the health factor, the sixth word of `getUserAccountData`."""
    account = answers.one("the account at Aave", _read(_ACCOUNT, holder.aave_pool, holder.address))
    factor = uint_at(account, 5)
    found.health_factor = min(found.health_factor, inf if factor == _NO_DEBT else factor / _WAD)


def _find_lps(
    holder: HolderSettings, pools: Mapping[tuple[str, str, int], _Pool], answers: _Answers, found: _Found
) -> None:
    """Find all LP positions, in as few rounds as their ticks allow."""
    count = uint_at(
        answers.one("the number of LP positions", _read(BALANCE_OF, holder.position_manager, holder.address)), 0
    )
    if count > MAX_LPS:
        raise _Unreadable(f"expected at most {MAX_LPS} LP positions, found {count}")
    ids = answers.all(
        "the list of LP positions", *(_read(_ID_AT, holder.position_manager, holder.address, n) for n in range(count))
    )
    token_ids = [uint_at(answer, 0) for answer in ids]
    told = answers.all("an LP position", *(_read(_POSITION, holder.position_manager, one) for one in token_ids))
    is_lacking = False
    for token_id, position in zip(token_ids, told, strict=True):
        key = address_at(position, 2).lower(), address_at(position, 3).lower(), uint_at(position, 4)
        if pool := pools.get(key):
            try:
                _find_lp(f"uniswap {token_id} of {holder.address}", pool, position, answers, found)
            except _Missing:
                is_lacking = True  # the others' ticks are wanted in the same round
        elif uint_at(position, 7) or uint_at(position, 10) or uint_at(position, 11):
            found.notes.append(f"LP position {token_id} is in a pool that is not configured, and not counted: {key}")
    if is_lacking:
        raise _Missing


def _find_lp(position_id: str, pool: _Pool, position: bytes, answers: _Answers, found: _Found) -> None:
    """Find one LP position from the words of `positions`: range, liquidity, and fees up to this block to the unit."""
    low_tick, high_tick, liquidity = int_at(position, 5), int_at(position, 6), uint_at(position, 7)
    place = pool.settings.address
    slot0, growth0, growth1, low, high, *rate = answers.all(
        f"pool {place}",
        _read(_SLOT0, place),
        _read(_GROWTH0, place),
        _read(_GROWTH1, place),
        _read(_TICK, place, low_tick),
        _read(_TICK, place, high_tick),
        *_rate_reads(pool.base),
    )
    tick = int_at(slot0, 1)
    owed = [
        fees_owed(
            liquidity,
            fee_growth_inside(tick, low_tick, high_tick, uint_at(growth, 0), uint_at(low, 2 + n), uint_at(high, 2 + n)),
            uint_at(position, 8 + n),
            uint_at(position, 10 + n),
        )
        for n, growth in enumerate((growth0, growth1))
    ]
    if not liquidity and not any(owed):
        return
    decimals = [token.decimals for token in pool.tokens]
    owed0, owed1 = (wei / 10**places for wei, places in zip(owed, decimals, strict=True))
    owed_base, owed_quote = (owed0, owed1) if pool.is_base_first else (owed1, owed0)
    low_px, high_px = px_range(low_tick, high_tick, *decimals, is_base_token0=pool.is_base_first)
    units = _rate_of(pool.base, rate, found)  # of the underlying in a whole base token: L is sqrt(base × quote)
    found.lps.append(
        LpPosition(
            position_id=position_id,
            underlying=pool.base.underlying,
            liquidity=whole_liquidity(liquidity, *decimals) * sqrt(units),
            low_px=low_px / units,
            high_px=high_px / units,
            owed_base=owed_base * units,
            owed_quote=owed_quote,
        )
    )


def _rate_reads(token: TokenSettings) -> list[Read]:
    """Return the read of a token's redemption rate, none if it has none."""
    return [_raw_read(token.rate_contract, token.rate_call)] if token.rate_call else []


def _rate_of(token: TokenSettings, answers: Sequence[bytes], found: _Found) -> float:
    """Return how much of its underlying a whole token is, from the answer to `_rate_reads`."""
    if not answers:
        return 1.0
    rate = uint_at(answers[0], 0)
    if rate == 0:
        raise _Unreadable(f"expected a redemption rate of {token.symbol}, found 0")
    found.rates[token.symbol] = rate / _WAD
    return rate / _WAD


def _add(
    found: _Found, holding_id: str, token: TokenSettings, wei: int, rate: Sequence[bytes], symbol: str = ""
) -> None:
    """Add an amount of a token."""
    found.amounts.append(_Amount(holding_id, symbol, token, wei, _rate_of(token, rate, found)))


@lru_cache(maxsize=8192)
def _read(function: Function, to: str, *values: object) -> Read:
    """Return a read; the same ones are made with every block."""
    return function.read(to, *values)


@lru_cache(maxsize=256)
def _raw_read(to: str, call: str) -> Read:
    return Read(to, to_bytes(call))
