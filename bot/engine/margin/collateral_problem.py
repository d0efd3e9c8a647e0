"""A vault's collateral as a problem to be solved: what is where, what each account needs and when, what may be moved.

What an account needs is what its own margin model asks for now, as far as it is raised, and after every scenario with
what positions have won or lost by then. Only routes of the vault are in it, and of those only the ones that are open.
Must never move anything.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from math import inf, isfinite, nan
from typing import Final

import msgspec

from bot.domain.units import NS_PER_S
from bot.engine.margin.accounts import QUOTE_MONEY, MarginAccount
from bot.engine.margin.counterparty_keeper import CounterpartyKeeper
from bot.engine.margin.keeper import MarginKeeper
from bot.engine.margin.risk_settings import CollateralRules, RiskSettings
from bot.engine.margin.top_ups import TopUps
from bot.risk.book import OPTION, RiskBook
from bot.risk.collateral.problem import (
    Acceptance,
    Asset,
    Cap,
    CollateralProblem,
    Holding,
    Need,
    Pending,
    Route,
    Tier,
    Venue,
    Wallet,
)
from bot.risk.collateral.stressing import AS_IT_IS, stressed_acceptance
from bot.risk.counterparties import CounterpartyParameters, along
from bot.risk.margin.registry import assume_worst
from bot.risk.predictive import Target, TargetRule, set_target
from bot.risk.scenarios import VolShock
from bot.risk.stress import StressScenario, moved_book, row_pnl_quote
from bot.risk.transfers import Route as VaultRoute

NEVER_S: Final = 10.0 * 365.0 * 86_400.0  # when what is overdue twice arrives, as far as plans go
NO_DAY: Final = date(1970, 1, 1)  # of a move that is no day's


def scenarios_of(rules: CollateralRules) -> tuple[StressScenario, ...]:
    """Return the scenarios that accounts must stand: plain moves, then named ones. Money keeps its worth in a move."""
    still = dict.fromkeys(sorted(QUOTE_MONEY), 0.0)
    shock = VolShock(up=rules.vol_up_fraction)
    moves = [
        StressScenario(name=f"{move:+.0%}", day=NO_DAY, title="", moves=still, other_move=move, vol=shock)
        for move in rules.moves
    ]
    named = [msgspec.structs.replace(one, moves={**still, **one.moves}) for one in rules.scenarios]
    return (*moves, *named)


def route_name(route: VaultRoute) -> str:
    """Return what a route of the vault is called in a problem, where names are alone."""
    return f"{route.name}: {route.asset} {route.from_venue} → {route.to_venue}"


def required_buffer(keeper: MarginKeeper, rules: CollateralRules) -> Target:
    """Return how many times its maintenance margin an account shall hold, which calm never lowers."""
    known = [vol for name in keeper.underlyings if isfinite(vol := keeper.watch.reference_vol(name))]
    reference = max(known, default=nan)
    return set_target(keeper.stressed_vol(), reference, rule=TargetRule(base_ratio=rules.buffer_ratio, scales="buffer"))


class Posing:
    """One problem in the making, from what the engine knows at one moment."""

    def __init__(
        self,
        keeper: MarginKeeper,
        top_ups: TopUps,
        board: CounterpartyKeeper | None,
        risk: RiskSettings,
        now_ns: int,
        buffer_ratio: float,
        multipliers: dict[tuple[str, str], tuple[float, ...]] | None = None,
    ) -> None:
        """Look at what there is. `multipliers`, by venue and asset, are kept from one problem to the next."""
        assert risk.collateral is not None, "a problem is posed for a vault that plans collateral"
        self._keeper = keeper
        self._top_ups = top_ups
        self._board = board
        self._risk = risk
        self._rules = risk.collateral
        self._now_ns = now_ns
        self._buffer_ratio = buffer_ratio
        self._multipliers = {} if multipliers is None else multipliers
        self._accounts = [one for one in keeper.accounts.values() if is_known(one)]
        self._names = {one.name for one in self._accounts}
        self._routes = [one for one in risk.transfers.routes if self._is_open(one)]
        self._posted = {
            one.name: {asset: amount for asset, amount in sorted(keeper.posted(one).items()) if amount > 0.0}
            for one in self._accounts
        }

    def problem(self) -> CollateralProblem:
        """Return the problem. Accounts of which nothing is known are in it as little as those of others."""
        scenarios = scenarios_of(self._rules)
        holdings = [Holding(name, asset, x) for name, held in self._posted.items() for asset, x in held.items()]
        wallets = self._wallets()
        holdings += [Holding(wallet, asset, x) for wallet, held in wallets.items() for asset, x in held.items()]
        pending = self._pending()
        routes = [self._route(one) for one in self._routes]
        names = dict.fromkeys([*(one.asset for one in holdings), *(one.asset for one in pending)])
        names |= dict.fromkeys(one.asset for one in routes)
        assets = tuple(
            Asset(name=name, px=self._px(name), yield_per_year=self._rules.yields.get(name, 0.0)) for name in names
        )
        accepted = [self._acceptance(one, name) for one in self._accounts for name in self._counting(one)]
        needs = [need for one in self._accounts for need in self._needs(one, scenarios)]
        worth_quote = sum(one.equity_quote for one in self._accounts)
        worth_quote += sum(x * (self._px(asset) or 0.0) for held in wallets.values() for asset, x in held.items())
        venues = tuple(self._venue(one, worth_quote) for one in self._accounts)
        carriers = {*(one.carrier for one in routes), *(one.carrier for one in pending)}
        return CollateralProblem(
            assets=assets,
            venues=venues,
            acceptances=tuple(self._stressed(one, scenarios) for one in accepted),
            holdings=tuple(holdings),
            needs=tuple(needs),
            routes=tuple(routes),
            wallets=tuple(Wallet(name=name, chain="") for name in wallets),
            pending=tuple(pending),
            caps=tuple(self._caps(set(names), set(wallets), carriers)),
            scenarios=(AS_IT_IS, *(one.name for one in scenarios)),
            horizons_s=(0.0, self._rules.needed_by_s),
            buffer=self._buffer_ratio,
            hold_years=self._rules.hold_years,
        )

    def _is_open(self, route: VaultRoute) -> bool:
        target, source = self._keeper.accounts.get(route.to_venue), self._keeper.accounts.get(route.from_venue)
        if (
            target is None
            or not is_known(target)
            or target.is_draining
            or (source is not None and not is_known(source))
        ):
            return False
        return not self._top_ups.obstacle(route, self._now_ns)

    def _wallets(self) -> dict[str, dict[str, float]]:
        """Return what wallets hold: what the vault says and what left since, else what the caps let a route carry."""
        found: dict[str, dict[str, float]] = {}
        for name, held in self._rules.wallets.items():
            found[name] = {asset: max(0.0, self._top_ups.stock(name, asset)) for asset in held}
        for route in self._routes:
            if route.from_venue in self._keeper.accounts:
                continue
            held = found.setdefault(route.from_venue, {})
            if not isfinite(self._top_ups.stock(route.from_venue, route.asset)):
                held[route.asset] = max(held.get(route.asset, 0.0), self._most(route))
        return found

    def _most(self, route: VaultRoute) -> float:
        most = min(route.max_amount, self._top_ups.book.left_today(route.asset, self._now_ns))
        room_quote, px = self._top_ups.bridge_room_quote.get(route.bridge, inf), self._px(route.asset)
        return min(most, max(0.0, room_quote) / px) if px else most

    def _pending(self) -> list[Pending]:
        found = []
        for one in self._top_ups.outstanding:
            route = one.route
            if route.to_venue not in self._names:
                continue
            left_ns = one.planned_ns + route.p95_ns - self._now_ns
            arrives_s = (left_ns if left_ns > 0 else route.p95_ns) / NS_PER_S  # late: given as long once more …
            found.append(
                Pending(
                    asset=route.asset,
                    amount=max(0.0, one.amount - route.fee),
                    to_place=route.to_venue,
                    carrier=route.bridge or route.name,
                    arrives_s=NEVER_S if one.is_replanned else arrives_s,  # … and then it counts only as lent
                )
            )
        return found

    def _route(self, one: VaultRoute) -> Route:
        px = self._px(one.asset)
        least_amount = self._rules.least_quote / px if px else 0.0
        score = self._board.scores.get(one.bridge) if self._board is not None and one.bridge else None
        return Route(
            name=route_name(one),
            asset=one.asset,
            from_place=one.from_venue,
            to_place=one.to_venue,
            carrier=one.bridge or one.name,
            fixed_fee=one.fee,
            delay_p50_s=0.5 * one.p95_ns / NS_PER_S,
            delay_p95_s=one.p95_ns / NS_PER_S,
            least=max(one.min_amount, one.fee, least_amount),
            most=self._most(one),
            charge_per_year=self._charge(score.points) if score is not None else 0.0,
        )

    def _counting(self, account: MarginAccount) -> list[str]:
        """Return the assets that may count at an account: those there, under way, and those that could be sent."""
        sent = [one.asset for one in self._routes if one.to_venue == account.name]
        sent += [one.route.asset for one in self._top_ups.outstanding if one.route.to_venue == account.name]
        return list(dict.fromkeys([*self._posted[account.name], *sent]))

    def _acceptance(self, account: MarginAccount, asset: str) -> Acceptance:
        px = self._keeper.asset_px(account, asset)
        return Acceptance(
            venue=account.name,
            asset=asset,
            px=px or None,
            tiers=(Tier(None, account.haircut_share(asset)),),
            share=self._rules.concentration.get(asset),
        )

    def _stressed(self, one: Acceptance, scenarios: Sequence[StressScenario]) -> Acceptance:
        if one.px is None:
            return one
        key = (one.venue, one.asset)
        if key not in self._multipliers:
            self._multipliers[key] = stressed_acceptance(one, scenarios, {}).multipliers
        return msgspec.structs.replace(one, multipliers=self._multipliers[key])

    def _venue(self, account: MarginAccount, worth_quote: float) -> Venue:
        counted_quote = 0.0
        for asset, amount in self._posted[account.name].items():
            px = self._keeper.asset_px(account, asset) or 0.0
            counted_quote += amount * px * (1.0 - account.haircut_share(asset))
        score = self._board.scores.get(account.name) if self._board is not None else None
        return Venue(
            name=account.name,
            cap_quote=self._cap_quote(account.name, worth_quote),
            charge_per_year=self._charge(score.points) if score is not None else 0.0,
            unrealised_quote=account.equity_quote - counted_quote,  # also what its venue tells beyond what we know of
        )

    def _charge(self, points: float) -> float:
        judged = self._judged
        return along(judged.default_per_year, points) * judged.loss_given_default if judged is not None else 0.0

    @property
    def _judged(self) -> CounterpartyParameters | None:
        return self._risk.counterparties

    def _cap_quote(self, venue: str, worth_quote: float) -> float | None:
        """Return the most a venue may hold: its share, or what of it the score allows; None without a limit."""
        share, judged = self._rules.venue_share, self._judged
        if share is None:
            return None
        bounds = [share * worth_quote]
        score = self._board.scores.get(venue) if self._board is not None else None
        if score is not None and judged is not None:
            best = max(allowed for _, allowed in judged.score_share)
            bounds.append(share * worth_quote * along(judged.score_share, score.points) / best)
        return max(0.0, min(bounds))

    def _caps(self, assets: set[str], wallets: set[str], carriers: set[str]) -> list[Cap]:
        places = (*self._names, *wallets)
        found = []
        for name, most_quote in self._rules.caps.items():
            if name in places:
                found.append(Cap(name=name, most_quote=most_quote, places=(name,)))
            elif name in carriers:
                found.append(Cap(name=name, most_quote=most_quote, carriers=(name,)))
            elif name in assets:
                found.append(Cap(name=name, most_quote=most_quote, places=tuple(sorted(self._names)), assets=(name,)))
        return found

    def _needs(self, account: MarginAccount, scenarios: Sequence[StressScenario]) -> list[Need]:
        """Return what an account needs: by now what it must not fall below, later what every scenario asks for.

        Where something is missing already nothing helps before the fastest route: it is needed from then on.
        """
        if account.figures.maintenance <= 0.0 and account.equity_quote >= 0.0:
            return []
        now_quote = max(
            self._buffer_ratio * account.figures.maintenance, account.figures.initial / self._risk.max_initial_ratio
        )
        now_quote = max(now_quote, self._top_ups.buffer_quote(account))
        if account.permission.must_top_up:
            now_quote = max(now_quote, self._top_ups.wanted_quote(account))
        ways_s = [one.p95_ns / NS_PER_S for one in self._routes if one.to_venue == account.name]
        by_s = min(ways_s, default=0.0) if account.equity_quote < now_quote else 0.0
        margin = now_quote / self._buffer_ratio
        none = (0.0,) * len(scenarios)
        needs = [Need(venue=account.name, maintenance_quote=(margin, *none), pnl_quote=(0.0, *none), by_s=by_s)]
        book = self._keeper.book_of(account)
        if book is not None and len(book) and scenarios and not account.is_draining:
            after = [_after(account, book, one) for one in scenarios]
            maintenance, pnl = zip(*after, strict=True)
            needs.append(
                Need(
                    venue=account.name,
                    maintenance_quote=(margin, *maintenance),
                    pnl_quote=(0.0, *pnl),
                    by_s=self._rules.needed_by_s,
                )
            )
        return needs

    def _px(self, asset: str) -> float | None:
        """Return the highest price that an asset counts at anywhere, None where nobody tells any."""
        prices = [self._keeper.asset_px(one, asset) or 0.0 for one in self._keeper.accounts.values()]
        return max(prices, default=0.0) or None


def is_known(account: MarginAccount) -> bool:
    """Tell whether an account's equity and margin are numbers that something can be planned on."""
    figures = (account.equity_quote, *account.figures)
    return not account.unknown and all(isfinite(one) for one in figures)


def _after(account: MarginAccount, book: RiskBook, scenario: StressScenario) -> tuple[float, float]:
    """Return what an account's model asks for after a scenario, and what its positions added to equity by then."""
    moved = moved_book(book, scenario)
    margin = account.reckon_maintenance(moved)
    if not isfinite(margin):
        margin = assume_worst(moved, "the model cannot answer").maintenance
    pnl = row_pnl_quote(book, moved.mark_px, scenario)
    is_option = book.kind == OPTION
    before = float((book.qty_base * book.mark_px)[is_option].sum())
    after = float((moved.qty_base * moved.mark_px)[is_option].sum())
    earned = account.counted_options_quote(after) - account.counted_options_quote(before)
    return margin, float(pnl[~is_option].sum()) + earned
