"""One account as far as margin goes: what its model asks for, what the venue says of it, what is posted there.

The venue's own word goes before the model, which is its check and stands in where it says nothing: raised by a share,
as nobody confirmed it (C23). What cannot be known is said, and counted against us.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from math import isfinite, nan
from typing import Any, Final, NamedTuple

from bot.domain.risk import MarginTerms
from bot.domain.units import NS_PER_DAY
from bot.domain.venues import AccountReport
from bot.engine.margin.risk_settings import AccountRiskSettings, RiskSettings
from bot.risk.book import Floats, RiskBook
from bot.risk.distances import utilise
from bot.risk.margin.registry import MODELS, answer_all, decode_values
from bot.risk.margin.reported import whole
from bot.risk.margin_states import Permission, Standing, permit
from bot.risk.parameters import ParameterSet, decode_parameters
from bot.risk.requirement import Requirement
from bot.risk.stack import BookStack

EPOCH: Final = date(1970, 1, 1).toordinal()
QUOTE_MONEY: Final = frozenset({"quote", "USD", "USDT", "USDC", "USDe", "DAI", "USDG", "PYUSD", "FDUSD"})
MODEL_ERRORS: Final = (ValueError, ArithmeticError, LookupError)  # what a model may fail with on odd parameters


class Figures(NamedTuple):
    """Initial and maintenance margin in quote money."""

    initial: float
    maintenance: float


class Told(NamedTuple):
    """What a venue said of margin, and what we said of the same moment: the model, and what moves with prices.

    `posted` is what was posted then, by asset, without what positions earned, None where that is not known;
    `moving_quote` is the worth of it and of them.
    """

    equity_quote: float
    figures: Figures
    local: Figures
    at_ns: int
    posted: dict[str, float] | None = None
    moving_quote: float = 0.0


class MarginAccount:
    """Margin of one account, as of its last review; the keeper owns and reviews it."""

    def __init__(self, name: str, settings: AccountRiskSettings, risk: RiskSettings) -> None:
        self.name = name
        self.settings = settings
        self.parameters = settings.parameters
        self.fault = ""  # why the newest terms cannot be used
        self.requirement: Requirement | None = None
        self.whole_quote = nan  # its equity, with what of it is kept aside as insurance …
        self.equity_quote = nan  # … and without: what margin is set against
        self.options_quote = 0.0  # what the options held there are worth
        self.figures = Figures(nan, nan)
        self.utilisation_ratio = nan
        self.touch_probability = nan
        self.safe_move = 0.0  # the move an account should live through until it could be topped up, as a fraction
        self.standing: Standing | None = None
        self.unknown = "not looked at yet"  # why nothing can be said of it
        self.degraded: tuple[str, ...] = ()  # what is not known of it, and what stands in
        self.queue_share = nan  # how much of the venue's queue of automatic deleveraging stands before us
        self.banned = ""  # why nothing may be added there whatever its margin, as where withdrawals stopped
        self.told: Told | None = None
        self.report: AccountReport | None = None  # one whose margins wait for the next review
        self.balances: dict[str, float] | None = None
        self.index_px: dict[str, float] = {}  # what the venue itself counts a unit of an asset as
        self.settled: dict[str, float] = {}  # what expired options of the book paid there
        self.moved: dict[str, float] = {}  # what transfers brought and took
        self.leaving: dict[str, tuple[str, float, int]] = {}  # transfer → asset, amount, since when reports know of it
        self.is_draining = False  # whether all that can leave is to leave, as where withdrawals stopped
        self.shed_for = ""  # why the leg that ranks first for deleveraging is to be closed before the venue does it
        self.move_for = ""  # why hedges there are closed and made elsewhere, before collateral could arrive
        self.balances_ns = 0
        self.earned_then_quote = nan  # what positions there had earned when it last told its balances
        self.last_fill_ns = 0
        self._risk = risk
        self._haircut_share = dict(settings.haircut_share)
        self._today = EPOCH
        self._extra_share = risk.local_margin_share
        self._answer: Callable[[RiskBook, Any], Requirement]
        self._values: Any = None
        self._use(settings.parameters)

    def adopt(self, risk: RiskSettings) -> None:
        """Look at the account by other settings from now on."""
        self._risk = risk

    @property
    def permission(self) -> Permission:
        """What the account may be used for."""
        return permit(self.standing) if self.standing is not None else Permission()

    @property
    def may_add(self) -> bool:
        """Tell whether a hedge there may add to margin at all."""
        return not self.banned and self.permission.may_add

    @property
    def initial_ratio(self) -> float:
        """Initial margin over equity."""
        return utilise(self.equity_quote, self.figures.initial)

    @property
    def is_assumed(self) -> bool:
        """Tell whether the model could not answer and all that is held is counted instead."""
        return self.requirement is None or self.requirement.model == "assumed"

    @property
    def is_told(self) -> bool:
        """Tell whether the venue's own word is what margin is reckoned from."""
        return self.told is not None

    def haircut_share(self, asset: str) -> float:
        """Return what of an asset's worth does not count there: as the vault says of it, else as its class has it."""
        found = self._haircut_share.get(asset)
        if found is None:
            of_class = self._risk.class_of(asset)
            found = self._haircut_share[asset] = 0.0 if of_class is None else of_class.haircut_fraction
        return found

    def take_terms(self, event: MarginTerms) -> None:
        """Use other parameters from now on; what cannot be read changes nothing but what is said of it."""
        try:
            self._use(decode_parameters(event.text))
        except ValueError as error:
            self.fault = f"terms of {self.name} cannot be used: {error}"
            return
        self.fault = ""

    def note_day(self, now_ns: int) -> None:
        """Let parameters expire; what stands in for the venue's word then is raised once more."""
        today = EPOCH + now_ns // NS_PER_DAY
        if today != self._today:
            self._today = today
            is_over = self.parameters.is_expired(date.fromordinal(today))
            share = self._risk.local_margin_share
            self._extra_share = (1.0 + share) ** 2 - 1.0 if is_over else share

    def doubts(self) -> list[str]:
        """Return what is not as it should be of the parameters."""
        found = [self.fault] if self.fault else []
        expires = self.parameters.expires
        if expires is not None and expires.toordinal() <= self._today:
            found.append(
                f"parameters {self.parameters.name} expired on {expires}: margin raised by {self._extra_share:.0%}"
            )
        return found

    def ask(self, book: RiskBook) -> Requirement:
        """Return what the model asks for a book. Raises ValueError where it cannot say."""
        return self._answer(book, self._values)

    def local(self, book: RiskBook, requirement: Requirement) -> Figures:
        """Return the figures of a requirement in quote money. Raises ValueError where they are no numbers."""
        return _figures(requirement, book.underlyings, book.spot_px)

    def reckon(self, local: Figures) -> Figures:
        """Return margin as it is reckoned where the model says `local`: from what the venue told, else raised."""
        if self.told is None:
            return Figures(local.initial * (1.0 + self._extra_share), local.maintenance * (1.0 + self._extra_share))
        told, then = self.told.figures, self.told.local
        return Figures(
            told.initial + self._grow(local.initial - then.initial),
            told.maintenance + self._grow(local.maintenance - then.maintenance),
        )

    def reckon_figures(self, book: RiskBook) -> Figures:
        """Return margin of a book as it is reckoned. Raises ValueError where the model cannot say."""
        return self.reckon(self.local(book, self.ask(book)))

    def reckon_maintenance(self, book: RiskBook) -> float:
        """Return the maintenance margin of a book as it is reckoned; infinite where the model cannot say."""
        try:
            return self.reckon(self.local(book, self.ask(book))).maintenance
        except MODEL_ERRORS:
            return float("inf")

    def reckon_all(self, stack: BookStack, like: RiskBook) -> list[Figures]:
        """Return margin of each copy of a book as it is reckoned. Raises ValueError where the model cannot say."""
        asked = answer_all(self.parameters.model, stack, self._values)
        markets = [stack.spot_px[stack.market_of(copy)] for copy in range(len(stack))]
        return [
            self.reckon(_figures(one, like.underlyings, spot_px)) for one, spot_px in zip(asked, markets, strict=True)
        ]

    def counted_options_quote(self, options_quote: float) -> float:
        """Return what of the worth of all options there counts as equity."""
        return options_quote if self.settings.counts_long_options else min(0.0, options_quote)

    def _grow(self, change: float) -> float:
        return change * (1.0 + self._extra_share) if change > 0.0 else change

    def _use(self, parameters: ParameterSet) -> None:
        if parameters.model != self.settings.model:
            raise ValueError(f"expected parameters of model {self.settings.model}, found {parameters.model}")
        self._values = decode_values(parameters.model, parameters.values)
        self._answer = MODELS[parameters.model].requirement
        self.parameters = parameters
        self._today = EPOCH


def _figures(requirement: Requirement, underlyings: tuple[str, ...], spot_px: Floats) -> Figures:
    px = 1.0
    if requirement.money not in QUOTE_MONEY:
        if requirement.money not in underlyings:
            raise ValueError(f"expected margin in quote money or a coin of the book, found {requirement.money}")
        px = float(spot_px[underlyings.index(requirement.money)])
    found = Figures(*requirement.in_quote(px))
    if not (isfinite(found.initial) and isfinite(found.maintenance)):
        raise ValueError(f"expected margin to be a number, found {found.initial:g} and {found.maintenance:g}")
    return found


def told_of(report: AccountReport) -> tuple[float, Figures] | None:
    """Return equity and margin of a whole account as its venue tells them, None where it does not."""
    told = whole(report.margins)
    if told is None or not all(isfinite(x) for x in (told.equity_quote, told.initial_quote, told.maintenance_quote)):
        return None
    return told.equity_quote, Figures(told.initial_quote, told.maintenance_quote)
