"""What trading costs, as one function per venue and side: the curve that routing splits a hedge over.

A cost is quote money beyond q · mid for taking q ≥ 0 base on one side of one venue. It is convex but for what is paid
once: fee, half-spread and carry are linear, a book is walked in steps, an order's own impact grows with the power 3/2,
and a pool bends without end. Between venues of one asset `mid_px` is one price for all of them, so that a cheaper venue
is cheaper; a future or perpetual is measured from its own mid, and its basis is carry: it comes back by expiry.

Impact is stated by its peak: the last unit moves the price by the share Y σ_d √(q/V), with σ_d the vol of a day and V
its volume. The average unit pays 2/3 of that, so the cost is P (2/3) Y σ_d q^(3/2)/√V. Source of the square root:
Almgren, Thum, Hauptmann & Li (2005), "Direct estimation of equity market impact", Risk 18(7):58-62, and Tóth et al.
(2011), "Anomalous price impact and the critical nature of liquidity in financial markets", Physical Review X 1:021006.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import inf, isfinite, sqrt

import msgspec

DAYS_PER_YEAR = 365.0
_SLACK = 1e-9  # a size this share beyond what there is counts as all of it


class CostCurve(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """The cost of taking from one side of one venue, in quote money beyond mid.

    `fixed_quote` is paid once if anything is traded. `linear_quote_per_base` may be negative (carry earned). `steps`
    are (cumulative size, extra per base of the units up to it), extras not falling; beyond the last its extra goes on,
    as far as `max_base`. `root_coefficient` · q^1.5 is impact. A pool's virtual reserve of base is `depth_base`,
    negative for selling into it, and `depth_px` its price: u = q/depth costs depth_px · q · |u|/(1 − u). Orders are
    multiples of `lot_base` (0: any amount) of at least `min_base`.
    """

    label: str = ""
    fixed_quote: float = 0.0
    linear_quote_per_base: float = 0.0
    steps: tuple[tuple[float, float], ...] = ()
    root_coefficient: float = 0.0
    depth_base: float = inf
    depth_px: float = 0.0
    lot_base: float = 0.0
    min_base: float = 0.0
    max_base: float = inf

    def cost_quote(self, qty_base: float) -> float:
        """Return what taking this much costs; infinite beyond what can be had. The minimum is not asked about."""
        if qty_base <= 0.0:
            return 0.0
        if qty_base > self.max_base * (1.0 + _SLACK):
            return inf
        cost = self.fixed_quote + self.linear_quote_per_base * qty_base
        if self.steps:
            taken = extra = 0.0
            for size, extra in self.steps:
                if qty_base <= size:
                    break
                cost += extra * (size - taken)
                taken = size
            cost += extra * (qty_base - taken)
        if self.root_coefficient:
            cost += self.root_coefficient * qty_base * sqrt(qty_base)
        if self.depth_px:
            share = qty_base / self.depth_base
            if share >= 1.0:
                return inf
            cost += self.depth_px * qty_base * abs(share) / (1.0 - share)
        return cost

    def marginal_quote(self, qty_base: float) -> float:
        """Return what the next unit costs per base once this much is taken; without the fixed cost."""
        qty_base = max(0.0, qty_base)
        if qty_base >= self.max_base:
            return inf
        marginal = self.linear_quote_per_base
        if self.steps:
            marginal += next((extra for size, extra in self.steps if qty_base < size), self.steps[-1][1])
        if self.root_coefficient:
            marginal += 1.5 * self.root_coefficient * sqrt(qty_base)
        if self.depth_px:
            left = 1.0 - qty_base / self.depth_base
            if left <= 0.0:
                return inf
            marginal += self.depth_px * abs(1.0 / (left * left) - 1.0)
        return marginal

    def size_at(self, marginal_quote: float) -> float:
        """Return the most that can be taken before a unit costs more than `marginal_quote` per base."""
        over = marginal_quote - self.linear_quote_per_base
        if not self.steps:
            return 0.0 if over < 0.0 else min(self._smooth_size(over), self.max_base)
        reached, size = 0.0, inf
        for step_base, extra in self.steps:
            left = over - extra
            if left < 0.0:
                return min(reached, self.max_base)
            size = self._smooth_size(left)
            if size < step_base:
                return min(max(size, reached), self.max_base)
            reached = step_base
        return min(size, self.max_base)

    def _smooth_size(self, left_quote: float) -> float:
        """Return how far impact and a pool's bend go for this much per base."""
        root_base = depth_base = inf
        if self.root_coefficient:
            root_base = left_quote / (1.5 * self.root_coefficient)
            root_base *= root_base
        if self.depth_px:
            bend = left_quote / self.depth_px
            if self.depth_base > 0.0:
                root = sqrt(1.0 + bend)  # 1 − 1/root, in a form that keeps its digits where bend is small
                depth_base = self.depth_base * bend / (root * (1.0 + root))
            elif bend < 1.0:
                root = sqrt(1.0 - bend)
                depth_base = -self.depth_base * bend / (root * (1.0 + root))
        if inf in (root_base, depth_base):
            return min(root_base, depth_base)
        low, high = 0.0, min(root_base, depth_base)
        for _ in range(60):
            middle = 0.5 * (low + high)
            kept = 1.0 - middle / self.depth_base
            bent = self.depth_px * abs(1.0 / (kept * kept) - 1.0)
            if bent + 1.5 * self.root_coefficient * sqrt(middle) <= left_quote:
                low = middle
            else:
                high = middle
        return low


def impact_root(px: float, impact_coefficient: float, daily_vol: float, daily_volume_base: float) -> float:
    """Return c of the impact c q^1.5 = P (2/3) Y σ_d q^1.5/√V; Y is that of the peak, σ_d the vol of one day."""
    if not daily_volume_base > 0.0:
        raise ValueError(f"daily_volume_base: expected more than 0, found {daily_volume_base}")
    return px * (2.0 / 3.0) * impact_coefficient * daily_vol / sqrt(daily_volume_base)


def spread_curve(
    mid_px: float,
    half_spread_rate: float,
    fee_rate: float,
    *,
    root_coefficient: float = 0.0,
    fixed_quote: float = 0.0,
    lot_base: float = 0.0,
    min_base: float = 0.0,
    max_base: float = inf,
    label: str = "",
) -> CostCurve:
    """Return the curve of a venue of which the spread is known and the book is not: PQ(s/2 + f) + impact."""
    return CostCurve(
        label=label,
        fixed_quote=fixed_quote,
        linear_quote_per_base=mid_px * (half_spread_rate + fee_rate),
        root_coefficient=root_coefficient,
        lot_base=lot_base,
        min_base=min_base,
        max_base=max_base,
    )


def order_book_curve(
    mid_px: float,
    levels: Sequence[tuple[float, float]],
    fee_rate: float,
    *,
    is_buy: bool,
    root_coefficient: float = 0.0,
    is_endless: bool = False,
    fixed_quote: float = 0.0,
    lot_base: float = 0.0,
    min_base: float = 0.0,
    max_base: float = inf,
    label: str = "",
) -> CostCurve:
    """Return the curve of walking a book: Σ q_j (p_j (1 + f) − P) for a buy, Σ q_j (P − p_j (1 − f)) for a sale.

    `levels` are (price, size in base) of the side that is taken from, best first. No more than they show can be had,
    unless the book `is_endless`: then the last price goes on. `root_coefficient` comes on top of the walk.
    Raises ValueError where the levels are not sorted.
    """
    side = 1.0 if is_buy else -1.0
    linear = total_base = 0.0
    steps: list[tuple[float, float]] = []
    last_px = 0.0
    for px, size_base in levels:
        if size_base <= 0.0:
            continue
        if steps and side * (px - last_px) < 0.0:
            raise ValueError(f"levels: expected prices from the best one on, found {px} behind {last_px}")
        last_px = px
        each = side * (px - mid_px) + fee_rate * px
        if not steps:
            linear = each
        total_base += size_base
        steps.append((total_base, max(0.0, each - linear)))
    if len(steps) == 1 and not root_coefficient:
        steps_kept: tuple[tuple[float, float], ...] = ()
    else:
        steps_kept = tuple(steps)
    return CostCurve(
        label=label,
        fixed_quote=fixed_quote,
        linear_quote_per_base=linear,
        steps=steps_kept,
        root_coefficient=root_coefficient,
        lot_base=lot_base,
        min_base=min_base,
        max_base=min(max_base, inf if is_endless and steps else total_base),
    )


def pool_curve(
    mid_px: float,
    depth_base: float,
    fee_rate: float,
    *,
    is_buy: bool,
    gas_quote: float = 0.0,
    pool_px: float | None = None,
    lot_base: float = 0.0,
    min_base: float = 0.0,
    max_base: float = inf,
    label: str = "",
) -> CostCurve:
    """Return the curve of one pool, exact within its range of liquidity L at the price P of `pool_px` (default: mid).

    `depth_base` is the virtual reserve L/√P (as `bot.pricing.uniswap_v3.depth_in` gives it for base in). Buying x costs
    P x/((1 − f)(1 − u)) with u = x/depth, selling pays P x (1 − f)/(1 + u (1 − f)): Uniswap v3 Core whitepaper (Adams
    et al. 2021), section 6.2. Split into what is linear and what bends, neither loses digits to the other. The range's
    end belongs into `max_base`: L (1/√P − 1/√P_end).
    """
    px = mid_px if pool_px is None else pool_px
    if is_buy:
        linear = px * fee_rate / (1.0 - fee_rate) + (px - mid_px)
        bend_base, bend_px = depth_base, px / (1.0 - fee_rate)
    else:
        linear = px * fee_rate + (mid_px - px)
        bend_base, bend_px = -depth_base / (1.0 - fee_rate), px * (1.0 - fee_rate)
    is_bent = isfinite(depth_base)
    return CostCurve(
        label=label,
        fixed_quote=gas_quote,
        linear_quote_per_base=linear,
        depth_base=bend_base if is_bent else inf,
        depth_px=bend_px if is_bent else 0.0,
        lot_base=lot_base,
        min_base=min_base,
        max_base=min(max_base, depth_base) if is_buy else max_base,
    )


def with_carry(
    curve: CostCurve,
    mid_px: float,
    holding_days: float,
    *,
    is_buy: bool,
    funding_rate_per_day: float = 0.0,
    basis_px: float = 0.0,
    expiry_days: float = inf,
    borrow_rate_per_year: float = 0.0,
    held_base: float = 0.0,
) -> CostCurve:
    """Return the curve with what holding the units costs until they are no longer needed.

    Funding is what a long pays a short, a share of value per day: a purchase pays it (or stops receiving it), a sale
    receives it. `basis_px` is how far the instrument trades above spot; it closes evenly until `expiry_days`, which a
    purchase loses. What is sold short must be borrowed at `borrow_rate_per_year`; of a sale only what goes below zero
    from `held_base`, of a purchase only what comes back to zero, which saves it.
    """
    side = 1.0 if is_buy else -1.0
    closed_share = min(1.0, holding_days / expiry_days) if expiry_days > 0.0 else 1.0
    linear = curve.linear_quote_per_base + side * (
        mid_px * funding_rate_per_day * holding_days + basis_px * closed_share
    )
    borrow = mid_px * borrow_rate_per_year * holding_days / DAYS_PER_YEAR
    steps = curve.steps
    if borrow:
        # the first units of a sale out of what is held are free, those of a purchase that returns a loan save it
        free_base = max(0.0, held_base) if not is_buy else max(0.0, -held_base)
        first, later = (-borrow, 0.0) if is_buy else (0.0, borrow)
        if free_base <= 0.0:
            linear += later
        elif free_base >= curve.max_base:
            linear += first
        else:
            linear += first
            steps = _with_step(steps, free_base, later - first)
    return msgspec.structs.replace(curve, linear_quote_per_base=linear, steps=steps)


def _with_step(
    steps: tuple[tuple[float, float], ...], from_base: float, extra: float
) -> tuple[tuple[float, float], ...]:
    """Return the steps with `extra` more per base from a size on."""
    below = [step for step in steps if step[0] <= from_base]
    above = [step for step in steps if step[0] > from_base]
    last = steps[-1][1] if steps else 0.0
    raised = [(size, each + extra) for size, each in above] or [(inf, last + extra)]
    if not below or below[-1][0] < from_base:
        below.append((from_base, above[0][1] if above else last))
    return (*below, *raised)
