"""Instruments: what can be held, quoted or traded, with the exact lot and tick arithmetic of its venue.

Quantities go towards a venue as whole lots and prices as whole ticks; floats stay inside the model.
"""

from __future__ import annotations

import math
from enum import StrEnum

import msgspec


class Payoff(StrEnum):
    """LINEAR settles in the quote currency, INVERSE in the base coin."""

    LINEAR = "linear"
    INVERSE = "inverse"


class TickStep(msgspec.Struct, frozen=True, gc=False):
    """From `from_px` upwards, prices move in steps of `step_ticks` times the finest tick."""

    from_px: float
    step_ticks: int


class TickSchedule(msgspec.Struct, frozen=True):
    """The finest tick of an instrument, and the coarser steps that apply from given prices upwards."""

    tick_px: float
    steps: tuple[TickStep, ...] = ()

    def step_ticks(self, px: float) -> int:
        """Return how many finest ticks one price step is at `px`."""
        size = 1
        for step in self.steps:
            if px >= step.from_px:
                size = step.step_ticks
        return size

    def floor_ticks(self, px: float) -> int:
        """Return the highest valid price not above `px`, in finest ticks."""
        step = self.step_ticks(px)
        return math.floor(px / self.tick_px / step + 1e-9) * step

    def ceil_ticks(self, px: float) -> int:
        """Return the lowest valid price not below `px`, in finest ticks."""
        step = self.step_ticks(px)
        return math.ceil(px / self.tick_px / step - 1e-9) * step

    def px(self, ticks: int) -> float:
        """Return the price of `ticks` finest ticks."""
        return ticks * self.tick_px


class InstrumentBase(msgspec.Struct, frozen=True, tag_field="kind", kw_only=True):
    """What every instrument has.

    `contract_size` is in base units for LINEAR payoffs and for options, in quote units for INVERSE futures
    and perpetuals.
    `lot_contracts` is the smallest tradable quantity and `min_lots` the smallest order; `min_quote` is the smallest
    order's worth in quote money (0: any). Fees are shares of the traded worth, None where the venue does not tell.
    """

    instrument_id: str
    venue: str
    base: str
    quote: str
    settle: str
    price_currency: str
    payoff: Payoff
    contract_size: float
    lot_contracts: float
    tick_schedule: TickSchedule
    min_lots: int = 1
    min_quote: float = 0.0
    taker_bps: float | None = None
    maker_bps: float | None = None

    @property
    def is_quote_sized(self) -> bool:
        """Tell whether contracts are counted in quote money, as those of INVERSE futures and perpetuals are."""
        return self.payoff is Payoff.INVERSE

    @property
    def lot_size(self) -> float:
        """One lot in the contract's own unit: quote if `is_quote_sized`, else base."""
        return self.contract_size * self.lot_contracts

    def lot_base(self, px: float) -> float:
        """Return what one lot is worth in base units at `px`."""
        return self.lot_size / px if self.is_quote_sized else self.lot_size


class Option(InstrumentBase, frozen=True, tag="option", kw_only=True):
    """A European option, cash-settled at expiry.

    With a `settlement_window_s` it settles at the average price of that long before expiry. The forward its venue tells
    is, within that time, of the average: what is fixed of it stays, and only the rest still moves with the price.
    """

    strike_px: float
    expiry_ns: int
    is_call: bool
    settlement_window_s: float = 0.0

    @property
    def is_quote_sized(self) -> bool:
        """Options are counted in base units whatever they settle in."""
        return False


class Perpetual(InstrumentBase, frozen=True, tag="perpetual", kw_only=True):
    """A perpetual swap: a future without expiry, held to spot by funding."""


class Future(InstrumentBase, frozen=True, tag="future", kw_only=True):
    """A dated future, cash-settled at expiry."""

    expiry_ns: int


class Spot(InstrumentBase, frozen=True, tag="spot", kw_only=True):
    """A spot pair."""


Instrument = Option | Perpetual | Future | Spot
Hedgeable = Perpetual | Future | Spot
TERMS_THAT_MAY_CHANGE = frozenset({"min_lots", "min_quote", "taker_bps", "maker_bps", "settlement_window_s"})


def contract_of(instrument: Instrument) -> dict[str, object]:
    """Return what must not change while anything is held or working, by name.

    Fees and minimums may, and what we know of how the venue averages.
    """
    fixed = {
        name: value for name, value in msgspec.structs.asdict(instrument).items() if name not in TERMS_THAT_MAY_CHANGE
    }
    return {"kind": type(instrument).__name__.lower(), **fixed}
