"""The margin of a sold option by the rule most venues share: a share of spot less how far it is out of the money."""

from __future__ import annotations

import msgspec
import numpy as np

from bot.risk.book import Flags, Floats


class ShortOptionRule(msgspec.Struct, frozen=True, gc=False):
    """Shares of spot: the most that counts at the money, the least far from it, and what maintenance asks."""

    most_rate: float
    least_rate: float
    maintenance_rate: float


def short_option_margins(
    spot_px: Floats, strike_px: Floats, mark_px: Floats, is_call: Flags, rule: ShortOptionRule
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
