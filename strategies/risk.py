"""Risk aversion in words a desk uses: what the policies that weigh cost against risk have in common."""

from __future__ import annotations

from math import inf, isfinite
from typing import ClassVar, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from bot.domain.decisions import HedgeView
from bot.pricing.bands import daily_sd_half_base, implied_risk_aversion_per_quote
from strategies.policy import Policy

_HINT = "hint: risk_aversion: {daily_sd_quote: 2000} holds what is left unhedged to 2,000 a day, one standard deviation"


class RiskWords(BaseModel):
    """The risk aversion g of somebody who does not think in g, in one of two ways.

    `pay_quote` and `to_remove_sd_quote`: "worth paying X to be rid of a standard deviation of Y". A certain loss of X
    is as bad as one of mean 0 and standard deviation Y if X = ½ g Y², so g = 2X/Y².

    `daily_sd_quote`: what the hedge leaves open may move by L a day, one standard deviation. Net delta is anywhere in
    its band with equal probability, so that is S σ H/√(3 · 365) = L: the band is H = L √(3 · 365)/(S σ) whatever gamma
    is, and g = 3/2 · k S Γ²/H³ is the risk aversion whose band this is.
    """

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", allow_inf_nan=False)

    pay_quote: float | None = Field(default=None, gt=0, description="Worth paying this much …")
    to_remove_sd_quote: float | None = Field(
        default=None, gt=0, description="… to be rid of this standard deviation: g = 2 · pay / sd²"
    )
    daily_sd_quote: float | None = Field(
        default=None, gt=0, description="What is left unhedged may move by this much a day, one standard deviation"
    )

    @model_validator(mode="after")
    def _is_one_of_them(self) -> Self:
        given = [name for name, value in self if value is not None]
        if given not in (["pay_quote", "to_remove_sd_quote"], ["daily_sd_quote"]):
            found = " and ".join(given) or "neither"
            raise ValueError(
                f"expected pay_quote and to_remove_sd_quote, or daily_sd_quote alone, found {found}; {_HINT}"
            )
        if self.pay_quote is not None and not 0.0 < self.averse_per_quote < inf:
            raise ValueError(
                f"expected amounts of one currency, found {self.pay_quote:g} to be rid of {self.to_remove_sd_quote:g};"
                f" hint: g = 2 · pay / sd² is {self.averse_per_quote:g}, which is no risk aversion"
            )
        return self

    @property
    def averse_per_quote(self) -> float:
        """The risk aversion g of what one would pay to be rid of a standard deviation; 0 for a daily limit."""
        if self.pay_quote is None or self.to_remove_sd_quote is None:
            return 0.0
        return 2.0 * self.pay_quote / self.to_remove_sd_quote / self.to_remove_sd_quote  # its square may overflow


class RiskAverse(Policy):
    """A policy with a risk aversion g per unit of quote money, given as a number or in words; exactly one of them."""

    risk_aversion_per_quote: float | None = Field(
        default=None, gt=0, description="Absolute risk aversion g; ten times more about halves the band"
    )
    risk_aversion: RiskWords | None = Field(default=None, description="The same in words, instead")

    starting_values: ClassVar[dict[str, str]] = {"risk_aversion_per_quote": "3e-4"}
    alternatives: ClassVar[tuple[str, ...]] = ("risk_aversion_per_quote", "risk_aversion")

    @model_validator(mode="after")
    def _has_one_risk_aversion(self) -> Self:
        if (self.risk_aversion_per_quote is None) == (self.risk_aversion is None):
            found = "neither" if self.risk_aversion is None else "both"
            raise ValueError(
                f"expected risk_aversion_per_quote or risk_aversion, found {found}; hint: risk_aversion_per_quote:"
                " 3.0e-4, or risk_aversion: {pay_quote: 100, to_remove_sd_quote: 1000},"
                " or risk_aversion: {daily_sd_quote: 2000}"
            )
        return self

    @property
    def known_risk_aversion_per_quote(self) -> float:
        """The risk aversion where it is one number whatever the market does, else 0."""
        if self.risk_aversion_per_quote is not None:
            return self.risk_aversion_per_quote
        return self.risk_aversion.averse_per_quote if self.risk_aversion is not None else 0.0

    @property
    def is_daily_limit(self) -> bool:
        """Whether a daily standard deviation is given, which bounds the band itself."""
        return self.risk_aversion is not None and self.risk_aversion.daily_sd_quote is not None

    def risk_aversion_at(self, view: HedgeView) -> float:
        """Return g for this view; NaN where it takes a vol or a spot that the view has not, 0 without gamma or cost."""
        words = self.risk_aversion
        if words is None or words.daily_sd_quote is None:
            return self.known_risk_aversion_per_quote
        moved_px = view.spot_px * view.vol
        if not (isfinite(moved_px) and moved_px > 0.0 and view.vol > 0.0):
            return float("nan")
        half_base = daily_sd_half_base(words.daily_sd_quote, view.spot_px, view.vol)
        return implied_risk_aversion_per_quote(half_base, view.cost_rate, view.spot_px, view.greeks.gamma_base_per_px)
