"""Trades of a Perpetual Protocol v2 market, predicted to the last unit, and the margin they leave.

A market is a Uniswap v3 pool of two virtual tokens, base first. Its own fee is worked around (what goes in is scaled up
so that the pool's fee falls out again) and the exchange's fee is charged in quote on top. Positive is what comes to the
trader. All amounts are whole numbers with 18 decimals, rounded as the contracts round.

Source: the contracts' documented accounting: SwapMath (scaling), OrderBook.replaySwap (the fee of each step), Exchange
(price band, realised profit) and Vault (free collateral = the lesser of collateral and account value, less margin).
"""

import msgspec

from bot.pricing.tick_math import MAX_SQRT_PRICE_X96, MIN_SQRT_PRICE_X96, Q96, sqrt_price_x96_at, tick_at
from bot.pricing.uniswap_v3 import PIPS, UNREAD, PoolReverts, PoolState, UnknownTicks, divide_up, next_tick, step

ONE = 10**18


class PerpTrade(msgspec.Struct, frozen=True, gc=False):
    """What a trade moves: position and money before the exchange's fee, that fee (positive = paid), the pool after."""

    base_wei: int
    notional_wei: int
    fee_wei: int
    ticks_crossed: int
    after: PoolState

    @property
    def quote_wei(self) -> int:
        """Money with the fee taken off, which is what a trade's bound is held against."""
        return self.notional_wei - self.fee_wei


class PerpAccount(msgspec.Struct, frozen=True, gc=False):
    """A trader's margin, in quote with 18 decimals, and the position in the one market that counts.

    `collateral_wei` is what was deposited with realised profit and funding, `value_wei` that with unrealised profit,
    `open_notional_wei` what the position brought in (positive of a short).
    """

    collateral_wei: int
    value_wei: int
    position_wei: int
    open_notional_wei: int


class _Step(msgspec.Struct, frozen=True, gc=False):
    """One step of a swap: what went in without the pool's fee, that fee, what came out, and the pool after it."""

    amount_in: int
    pool_fee: int
    amount_out: int
    is_crossing: bool
    after: PoolState


def sell(pool: PoolState, base_wei: int, fee_pips: int) -> PerpTrade:
    """Return what selling exactly `base_wei` moves. Raises as `bot.pricing.uniswap_v3.swap` does."""
    steps = _steps(pool, divide_up(base_wei * PIPS, PIPS - pool.fee_pips), is_sale=True)
    taken = sum(one.amount_in + one.pool_fee for one in steps)
    return PerpTrade(
        -(taken * (PIPS - pool.fee_pips) // PIPS),
        sum(one.amount_out for one in steps),
        sum(divide_up(one.amount_out * fee_pips, PIPS) for one in steps),
        sum(one.is_crossing for one in steps),
        steps[-1].after,
    )


def buy(pool: PoolState, base_wei: int, fee_pips: int) -> PerpTrade:
    """Return what buying exactly `base_wei` moves. Raises as `bot.pricing.uniswap_v3.swap` does."""
    steps = _steps(pool, base_wei, is_sale=False)
    paid = sum(one.amount_in + one.pool_fee for one in steps)
    return PerpTrade(
        base_wei,
        -(paid * (PIPS - pool.fee_pips) // PIPS),
        sum(divide_up(one.amount_in * fee_pips, PIPS - fee_pips) for one in steps),
        sum(one.is_crossing for one in steps),
        steps[-1].after,
    )


def _steps(pool: PoolState, amount: int, *, is_sale: bool) -> list[_Step]:
    """Return the steps of a sale of exactly `amount` (with the pool's fee), or of a purchase of it."""
    if amount <= 0:
        raise PoolReverts(f"AS: expected an amount above 0, found {amount}")
    limit = MIN_SQRT_PRICE_X96 + 1 if is_sale else MAX_SQRT_PRICE_X96 - 1
    price, tick, liquidity = pool.sqrt_price_x96, pool.tick, pool.liquidity
    steps = []
    while amount:
        if price == limit:
            raise PoolReverts(f"UB_UOA: expected the market to have liquidity for all, found {amount} too much for it")
        end, place = next_tick(pool, tick, is_down=is_sale)
        end_x96 = sqrt_price_x96_at(end)
        target = max(end_x96, limit) if is_sale else min(end_x96, limit)
        start = price
        price, amount_in, amount_out, fee = step(start, target, liquidity, amount, pool.fee_pips, is_exact_in=is_sale)
        amount -= amount_in + fee if is_sale else amount_out
        is_crossing = price == end_x96 and place is not None
        if price == end_x96:
            if place == UNREAD:
                raise UnknownTicks(f"expected the trade to end before the tick {end}, which was not read; hint: less")
            if place is not None:
                liquidity += -pool.nets[place] if is_sale else pool.nets[place]
            tick = end - 1 if is_sale else end
        elif price != start:
            tick = tick_at(price)
        after = msgspec.structs.replace(pool, sqrt_price_x96=price, tick=tick, liquidity=liquidity)
        steps.append(_Step(amount_in, fee, amount_out, is_crossing, after))
    return steps


def market_px_wei(sqrt_price_x96: int) -> int:
    """Return a pool's price with 18 decimals, rounded down twice as the contracts do."""
    return (sqrt_price_x96 * sqrt_price_x96 // Q96) * ONE // Q96


def spread_pips(sqrt_price_x96: int, index_px_wei: int) -> int:
    """Return by how many millionths the market's price is above (below: negative) the index, towards zero."""
    difference = market_px_wei(sqrt_price_x96) - index_px_wei
    return _divide(difference * PIPS, index_px_wei)


def is_in_band(before_x96: int, after_x96: int, index_px_wei: int, max_spread_pips: int) -> bool:
    """Tell whether a trade leaves the price within the band around the index, or at least no further outside it."""
    before, after = spread_pips(before_x96, index_px_wei), spread_pips(after_x96, index_px_wei)
    return min(before, -max_spread_pips) <= after <= max(before, max_spread_pips)


def realized_wei(account: PerpAccount, trade: PerpTrade) -> int:
    """Return the profit a trade realises (negative: the loss), 0 if it does not reduce the position."""
    position, moved = account.position_wei, trade.base_wei
    if position == 0 or (position < 0) == (moved < 0):
        return 0
    closed = abs(moved) * ONE // abs(position)
    if closed <= ONE:
        return trade.quote_wei + _divide(account.open_notional_wei * closed, ONE)
    return account.open_notional_wei + _divide(trade.quote_wei * ONE, closed)


def account_after(account: PerpAccount, trade: PerpTrade, mark_px_wei: int) -> PerpAccount:
    """Return the account after a trade, valued at the mark price."""
    realized = realized_wei(account, trade)
    return PerpAccount(
        account.collateral_wei + realized,
        account.value_wei + _divide(trade.base_wei * mark_px_wei, ONE) + trade.quote_wei,
        account.position_wei + trade.base_wei,
        account.open_notional_wei + trade.quote_wei - realized,
    )


def free_collateral_wei(account: PerpAccount, mark_px_wei: int, ratio_pips: int) -> int:
    """Return what is left of an account after the margin that debts of base and of quote ask for at `ratio_pips`."""
    base_debt = -_divide(min(account.position_wei, 0) * mark_px_wei, ONE)
    debt = base_debt + max(-account.open_notional_wei, 0)
    return min(account.collateral_wei, account.value_wei) - debt * ratio_pips // PIPS


def _divide(numerator: int, denominator: int) -> int:
    """Return the quotient cut towards zero, as the contracts' signed division does."""
    quotient = abs(numerator) // denominator
    return -quotient if numerator < 0 else quotient
