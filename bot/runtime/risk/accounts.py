"""Accounts of a snapshot as margin models see them: positions, coins posted, what is asked now and at other prices."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import isfinite
from typing import Final, NamedTuple

import msgspec
import numpy as np

from bot.domain.errors import ConfigError
from bot.domain.units import NS_PER_YEAR
from bot.engine.margin.accounts import MODEL_ERRORS, QUOTE_MONEY, Figures, MarginAccount
from bot.engine.margin.accounts import Told as ToldByVenue
from bot.engine.margin.buffers import DEFAULT_DELAY_NS
from bot.engine.margin.risk_settings import AccountRiskSettings, RiskSettings
from bot.risk.asset_classes import ClassParameters, Resolved
from bot.risk.book import SPOT, Position, RiskBook, build_book
from bot.risk.distances import Health, book_health
from bot.risk.gaps import find_fault
from bot.risk.margin.registry import assume_worst
from bot.risk.repricing import base_deltas
from bot.risk.requirement import Requirement
from bot.risk.stress import MarginTermsOf
from bot.runtime.configuration.risk_checks import build_risk
from bot.runtime.configuration.risk_classes import applying
from bot.runtime.configuration.vault import Vault
from bot.runtime.configuration.venues import vault_underlyings
from bot.runtime.risk.snapshot import AccountNow, Snapshot

MONEYS: Final = QUOTE_MONEY | {"USDE"}


class Accounts:
    """The accounts of one snapshot, and what they hold as risk books."""

    def __init__(self, vault: Vault, snapshot: Snapshot) -> None:
        """Work out every account; raises ValueError where a position lacks what its kind needs."""
        self.vault = vault
        self.snapshot = snapshot
        self.settings = settings_of(vault, snapshot)
        self.spot_px = dict(snapshot.spot_px)
        coins: list[Position] = []
        for one in snapshot.accounts:
            coins += self._coins(one)
        self.positions = tuple(snapshot.positions)
        self.coins = tuple(coins)
        self.book = build_book(self.positions, self.spot_px)
        self.whole = build_book([*self.positions, *coins], self.spot_px)
        self.of = {one.name: Reckoned(one, self, self.settings) for one in snapshot.accounts}

    @property
    def delay_years(self) -> float:
        """How long topping up takes, as the engine takes it."""
        slowest_ns = max([one.p95_ns for one in self.settings.transfers.routes], default=DEFAULT_DELAY_NS)
        return slowest_ns / NS_PER_YEAR

    @property
    def equity_quote(self) -> float:
        """What all accounts are worth together, those that are known."""
        return sum(one.now.equity_quote for one in self.of.values() if isfinite(one.now.equity_quote))

    def classes(self, assets: Iterable[str]) -> tuple[Resolved, ...]:
        """Return what applies to each asset, by its class and by what the vault sets otherwise."""
        return applying(self.vault, assets)

    def class_of(self, asset: str) -> ClassParameters:
        """Return the parameters that apply to one asset."""
        return self.classes([asset])[0].parameters

    def with_order(self, position: Position, cost_quote: float, premium_quote: float = 0.0) -> Accounts:
        """Return the accounts as an order would leave them: a position more, and its cost less."""
        positions = _added(self.positions, position)
        accounts = tuple(
            one
            if one.name != position.account
            else msgspec.structs.replace(one, equity_quote=one.equity_quote - cost_quote + premium_quote)
            for one in self.snapshot.accounts
        )
        changed = msgspec.structs.replace(self.snapshot, positions=positions, accounts=accounts)
        return Accounts(self.vault, changed)

    def _coins(self, one: AccountNow) -> list[Position]:
        """Return what is posted at an account as rows of coins, each as much as counts there after its haircut."""
        found = []
        held = {row.underlying for row in self.snapshot.positions if row.account == one.name and row.kind == SPOT}
        for asset, amount in one.posted.items():
            px = one.px.get(asset)
            if px is None or asset in held:
                continue
            self.spot_px.setdefault(asset, px)
            counted = amount * (1.0 - one.haircuts.get(asset, 0.0)) if amount > 0.0 else amount
            found.append(
                Position(
                    kind=SPOT,
                    underlying=asset,
                    qty_base=counted,
                    instrument_id=asset,
                    account=one.name,
                    forward_px=px,
                    mark_px=px,
                )
            )
        return found


class Marks(NamedTuple):
    """What an order must not take an account beyond, in quote money.

    Initial and maintenance margin, and what has to be there to live through the move that is looked ahead to.
    """

    initial: float
    maintenance: float
    at_risk: float


class Reckoned:
    """One account: its rows, and what its venue or its model asks for them."""

    def __init__(self, now: AccountNow, accounts: Accounts, settings: RiskSettings) -> None:
        self.now = now
        self.book = accounts.book.of_account(now.name)
        self.whole = accounts.whole.of_account(now.name)
        self.moving = without_moneys(self.whole)
        self._account = MarginAccount(now.name, settings.accounts[now.name], settings)
        if now.told is not None:
            told = now.told
            self._account.told = ToldByVenue(
                told.equity_quote,
                Figures(told.initial_quote, told.maintenance_quote),
                Figures(told.local_initial_quote, told.local_maintenance_quote),
                told.at_ns,
            )
        self._account.note_day(accounts.snapshot.now_ns)
        self.requirement = self._ask(self.book)
        self.local = self._local(self.book, self.requirement)
        self.figures = self._account.reckon(self.local)

    @property
    def doubts(self) -> list[str]:
        """What is not as it should be of its parameters."""
        return self._account.doubts()

    def maintenance(self, book: RiskBook) -> float:
        """Return the maintenance margin of a book with its coins, as it is reckoned; infinite where nobody can say."""
        return self._account.reckon_maintenance(without_coins(book))

    def marks(self, book: RiskBook) -> Marks:
        """Return what bounds orders there, for a book; all that is held where the model cannot answer."""
        bare = without_coins(book)
        figures = self._account.reckon(self._local(bare, self._ask(bare)))
        at_risk = figures.maintenance / self.now.liquidation_ratio
        if self.now.safe_move:
            deltas_quote = np.bincount(bare.underlying, base_deltas(bare) * bare.spot_of_row_px)
            at_risk += self.now.safe_move * float(np.abs(deltas_quote).sum())
        return Marks(*figures, at_risk)

    def health(self, underlying: str | None = None) -> Health:
        """Return equity and margin of the account after moves of one underlying, or of all; coins posted move too."""
        return book_health(self.moving, self.now.equity_quote, self.maintenance, underlying)

    def terms(self) -> MarginTermsOf:
        """Return what stress needs of the account: its model, its equity, and that its coins are no positions."""
        parameters = self.now.parameters
        raised = max(1.0, self.figures.maintenance / self.local.maintenance) if self.local.maintenance > 0.0 else 1.0
        return MarginTermsOf(
            model=parameters.model,
            values=parameters.values,
            equity_quote=self.now.equity_quote,
            factor=raised if isfinite(raised) else 1.0,
            degraded="as the venue tells it, or raised where it does not" if raised != 1.0 else "",
            cash=tuple({*self.now.posted, *QUOTE_MONEY}),
        )

    def _ask(self, book: RiskBook) -> Requirement:
        fault = find_fault(book)
        try:
            return assume_worst(book, fault) if fault else self._account.ask(book)
        except MODEL_ERRORS as error:
            return assume_worst(book, str(error))

    def _local(self, book: RiskBook, requirement: Requirement) -> Figures:
        try:
            return self._account.local(book, requirement)
        except MODEL_ERRORS as error:
            worst = assume_worst(book, str(error))
            return Figures(worst.initial, worst.maintenance)


def settings_of(vault: Vault, snapshot: Snapshot) -> RiskSettings:
    """Return the vault's settings with the parameters that are in use; the usual ones where it has none."""
    own = build_risk(vault) if vault.risk is not None else None
    accounts = {
        one.name: AccountRiskSettings(
            model=one.model,
            parameters=one.parameters,
            collateral=one.posted,
            haircut_share=one.haircuts,
            liquidation_ratio=one.liquidation_ratio,
            counts_long_options=one.counts_long_options,
            standing_share=one.standing_share,
        )
        for one in snapshot.accounts
    }
    return RiskSettings(accounts=accounts) if own is None else msgspec.structs.replace(own, accounts=accounts)


def without_moneys(book: RiskBook) -> RiskBook:
    """Return a book without dollars of any kind: they do not move with prices."""
    is_money = np.array([name in MONEYS for name in book.underlyings], dtype=np.bool_)
    return book.where(~is_money[book.underlying]) if is_money.any() else book


def without_coins(book: RiskBook) -> RiskBook:
    """Return a book without what is posted: a model is asked about positions."""
    names = [book.underlyings[number] for number in book.underlying.tolist()]
    is_named = [one == name for one, name in zip(book.instrument_ids, names, strict=True)]
    posted = np.array(is_named, dtype=np.bool_) & (book.kind == SPOT)
    return book.where(~posted) if posted.any() else book


def assets_of(vault: Vault) -> list[str]:
    """Return the assets a vault has to do with: its underlyings, what is posted, and what may be moved."""
    try:
        found = sorted(vault_underlyings(vault))
    except ConfigError:  # names that do not say: only a market does
        found = []
    found += [asset for asset, amount in vault.fixed_cash.items() if amount]
    if vault.risk is not None:
        found += [asset for one in vault.risk.accounts.values() for asset in one.collateral]
        found += [line.asset for line in vault.risk.transfers.routes]
    return list(dict.fromkeys(found))


def _added(positions: Sequence[Position], more: Position) -> tuple[Position, ...]:
    """Return positions with one more, added to the row of its account and id where there is one."""
    found, is_new = [], True
    for one in positions:
        if one.instrument_id == more.instrument_id and one.account == more.account:
            one = msgspec.structs.replace(one, qty_base=one.qty_base + more.qty_base)  # noqa: PLW2901
            is_new = False
        found.append(one)
    return (*found, more) if is_new else tuple(found)
