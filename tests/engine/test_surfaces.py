"""The surface of what is not quoted: fitted to the market's fresh quotes, once a minute, and near what it was not
shown.
"""

import numpy as np
import pytest

from bot.domain.instruments import Option
from bot.domain.market import VolQuote
from bot.domain.units import NS_PER_DAY, NS_PER_MIN, NS_PER_S
from bot.engine.book import UnderlyingBook
from bot.engine.market import MarketState
from bot.engine.settings import Ages, BookLeg
from bot.engine.surfaces import REFIT_AFTER_NS, SurfaceKeeper
from bot.simulation.recording import open_recording
from tests.engine.builders import AGES, T0_NS, Feed, apply_market, option

STRIKES = np.arange(1400.0, 2700.0, 100.0)


def vol_at(strike_px: float) -> float:
    k = np.log(strike_px / 2000.0)
    return float(0.5 - 0.2 * k + 0.6 * k * k)


def quoted_market(days: tuple[float, ...] = (30.0,)) -> MarketState:
    options = [option(strike_px, days=left) for left in days for strike_px in STRIKES]
    market = MarketState(options, AGES)
    feed = Feed(T0_NS)
    apply_market(market, [feed.vol(one, vol_at(one.strike_px), 2000.0) for one in options])
    return market


class TestKeeper:
    def test_it_fits_the_fresh_quotes(self) -> None:
        market = quoted_market()
        keeper = SurfaceKeeper("ETH", market)
        one = keeper.slice_of(market.expiries[0].expiry_ns, T0_NS)
        assert one is not None
        assert one.kind == "svi"
        assert keeper.fallbacks == {}

    def test_it_fits_again_after_a_minute_and_not_before(self) -> None:
        keeper = SurfaceKeeper("ETH", quoted_market())
        for after_ns in (0, NS_PER_S, REFIT_AFTER_NS - 1):
            keeper.surface(T0_NS + after_ns)
        assert keeper.fits == 1
        keeper.surface(T0_NS + REFIT_AFTER_NS)
        assert keeper.fits == 2

    def test_it_says_why_an_expiry_is_not_fitted(self) -> None:
        market = MarketState([option(1900.0), option(2100.0)], AGES)
        feed = Feed(T0_NS)
        apply_market(market, [feed.vol(option(strike_px), 0.6, 2000.0) for strike_px in (1900.0, 2100.0)])
        keeper = SurfaceKeeper("ETH", market)
        keeper.surface(T0_NS)
        assert list(keeper.fallbacks.values()) == ["2 strikes are too few: linear"]

    def test_without_fresh_quotes_there_is_none(self) -> None:
        keeper = SurfaceKeeper("ETH", quoted_market())
        assert keeper.surface(T0_NS + AGES.vol_ns + NS_PER_S) is None


class TestMarks:
    """The strike 2000 is held and not quoted."""

    LATE_NS = T0_NS + AGES.vol_ns + NS_PER_S

    def book(self, shown: np.ndarray, surface: str = "svi") -> UnderlyingBook:
        options = [option(strike_px) for strike_px in STRIKES]
        market = MarketState(options, AGES)
        feed = Feed(T0_NS)
        apply_market(market, [feed.vol(option(2000.0), 0.9, 2000.0)])
        feed = Feed(self.LATE_NS)
        apply_market(market, [feed.vol(option(strike_px), vol_at(strike_px), 2000.0) for strike_px in shown])
        return UnderlyingBook("ETH", market, [BookLeg(option(2000.0), 1.0)], AGES, surface=surface)  # type: ignore[arg-type]

    def test_a_fitted_surface_reaches_over_a_wide_gap(self) -> None:
        shown = STRIKES[np.abs(STRIKES - 2000.0) > 150.0]
        book = self.book(shown)
        assert book.mark(self.LATE_NS) is None
        assert book.interpolated_legs == 1
        assert book.option_marks is not None
        assert book.option_marks.vol[0] == pytest.approx(0.5, abs=0.02)
        refused = self.book(shown, "linear").mark(self.LATE_NS)
        assert refused is not None
        assert "no fresh quotes surround it" in refused[1]

    def test_wings_alone_say_nothing_of_the_middle(self) -> None:
        refused = self.book(STRIKES[np.abs(STRIKES - 2000.0) > 250.0]).mark(self.LATE_NS)
        assert refused is not None
        assert "no fresh quotes surround it" in refused[1]

    def test_between_neighbours_it_bends_as_the_smile_does(self) -> None:
        shown = STRIKES[STRIKES != 2000.0]
        found = {}
        for surface in ("svi", "linear"):
            book = self.book(shown, surface)
            assert book.mark(self.LATE_NS) is None
            assert book.option_marks is not None
            found[surface] = abs(float(book.option_marks.vol[0]) - 0.5)
        assert found["svi"] < 0.5 * found["linear"]

    def test_beyond_the_quotes_nothing_is_guessed(self) -> None:
        refused = self.book(STRIKES[STRIKES > 2000.0]).mark(self.LATE_NS)
        assert refused is not None
        assert "no fresh quotes surround it" in refused[1]

    def test_few_quotes_are_joined_by_lines_and_the_book_says_so(self) -> None:
        book = self.book(np.array([1900.0, 2100.0]))
        assert book.mark(self.LATE_NS) is None
        assert list(book.surface_fallbacks.values()) == ["2 strikes are too few: linear"]

    def test_a_book_that_is_quoted_needs_no_fit(self) -> None:
        book = self.book(STRIKES)
        assert book.mark(self.LATE_NS) is None
        assert book._surface is not None
        assert book._surface.fits == 0


def test_hidden_strikes_of_a_recording_are_marked_nearer_than_by_lines() -> None:
    """Each strike of 26 May is held in turn, of the first sweep; neither it nor its neighbours are ever shown."""
    recording = open_recording("eth-2023-04")
    every = [one for one in recording.manifest.instruments if isinstance(one, Option)]
    expiry_ns = min(
        {one.expiry_ns for one in every}, key=lambda at: abs(at - recording.manifest.start_ns - 44 * NS_PER_DAY)
    )
    options = [one for one in every if one.expiry_ns == expiry_ns]
    names = {one.instrument_id for one in options}
    ages = Ages(vol_ns=10 * NS_PER_MIN, quote_ns=10 * NS_PER_MIN, index_ns=10 * NS_PER_MIN)
    quotes: list[VolQuote] = []
    for event in recording.events():
        if event.ts_event_ns > recording.manifest.start_ns + 4 * NS_PER_MIN:
            break
        if isinstance(event, VolQuote) and event.instrument_id in names:
            quotes.append(event)
    now_ns = quotes[-1].ts_event_ns
    shown_px = sorted({one.strike_px for one in options if one.instrument_id in {q.instrument_id for q in quotes}})
    errors: dict[str, list[float]] = {"svi": [], "linear": []}
    for i in range(2, len(shown_px) - 2):
        hidden_px = shown_px[i - 1 : i + 2]
        held = next(one for one in options if one.strike_px == shown_px[i])
        true_vol = next(q.mark_vol for q in quotes if q.instrument_id == held.instrument_id)
        hidden = {one.instrument_id for one in options if one.strike_px in hidden_px}
        marked: dict[str, float] = {}
        for surface in ("svi", "linear"):
            market = MarketState(options, ages)
            apply_market(market, [q for q in quotes if q.instrument_id not in hidden])
            book = UnderlyingBook("ETH", market, [BookLeg(held, 1.0)], ages, surface=surface)
            if book.mark(now_ns) is None and book.option_marks is not None:
                marked[surface] = float(book.option_marks.vol[0]) - true_vol
        if len(marked) == 2:
            for surface, error in marked.items():
                errors[surface].append(error)
    rms = {surface: float(np.sqrt(np.mean(np.square(found)))) for surface, found in errors.items()}
    assert len(errors["svi"]) >= 4
    assert rms["svi"] < 0.005
    assert rms["svi"] < 0.7 * rms["linear"]
