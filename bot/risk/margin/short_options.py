"""The margin of a sold option by the rule most venues share: a share of spot less how far it is out of the money."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import msgspec
import numpy as np

from bot.risk.book import Flags, Floats
from bot.risk.stack import BookStack


class ShortOptionRule(msgspec.Struct, frozen=True, gc=False):
    """Shares of spot: the most that counts at the money, the least far from it, and what maintenance asks."""

    most_rate: float
    least_rate: float
    maintenance_rate: float


class ShortOptionRates(NamedTuple):
    """The rates of `ShortOptionRule` with a number per option, or one for all."""

    most_rate: Floats
    least_rate: Floats
    maintenance_rate: Floats


def short_option_margins(
    spot_px: Floats, strike_px: Floats, mark_px: Floats, is_call: Flags, rule: ShortOptionRule | ShortOptionRates
) -> tuple[Floats, Floats]:
    """Return initial and maintenance margin of one unit sold, in quote money, the option's own value included.

    Call: initial max(most S - out, least S) + mark, maintenance rate S + mark. Put: maintenance max(rate S, rate mark)
    + mark, and never less initial than maintenance (Deribit and Aevo, read in their documents and through third
    parties; a put's strike may be above the spot many times, which is why its own value counts).
    """
    out_px = np.maximum(np.where(is_call, strike_px - spot_px, spot_px - strike_px), 0.0)
    initial = np.maximum(rule.most_rate * spot_px - out_px, rule.least_rate * spot_px) + mark_px
    base_px = np.where(is_call, spot_px, np.maximum(spot_px, mark_px))
    maintenance = rule.maintenance_rate * base_px + mark_px
    return np.maximum(initial, maintenance), maintenance


def sold_option_margins(stack: BookStack, rules: Sequence[ShortOptionRule]) -> tuple[Floats, Floats]:
    """Return initial and maintenance margin of all that is sold, and initially could be, by underlying and copy.

    `rules` are those of the underlyings held, in their order.
    """
    layout, rows = stack.layout, stack.layout.options
    if not rows.size:
        nothing = np.zeros((len(rules), len(stack)))
        return nothing, nothing
    if any(rule != rules[0] for rule in rules):
        of_row = np.array([msgspec.structs.astuple(rule) for rule in rules]).T[:, layout.place[rows]]
    else:
        of_row = np.array(msgspec.structs.astuple(rules[0]))
    spot, mark = stack.spot_px.take(layout.underlying[rows], axis=1), stack.mark_px.take(rows, axis=1)
    strike, is_call = layout.struck
    initial, maintenance = short_option_margins(spot, strike, mark, is_call, ShortOptionRates(*of_row))
    qty, selector = stack.qty_base.take(rows, axis=1), layout.selector.take(rows, axis=0)
    could_be, sold = np.maximum(layout.sell_base[rows] - qty, 0.0), np.maximum(-qty, 0.0)
    return ((initial * could_be) @ selector).T, ((maintenance * sold) @ selector).T
