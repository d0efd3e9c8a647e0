"""What `evenkeel risk` prints for people: a table per question, and under it in words what a figure alone hides."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from math import isfinite, isnan, nan

from rich.console import Console
from rich.table import Table

from bot.domain.units import utc_text
from bot.engine.margin.collateral_desk import CollateralNow
from bot.risk.asset_classes import Resolved
from bot.risk.replanning import PlannedHedge
from bot.risk.requirement import Charge
from bot.runtime.risk.accounts import MONEYS
from bot.runtime.risk.collateral import CollateralView
from bot.runtime.risk.stress import ScenarioView, StressView
from bot.runtime.risk.view import DistanceLine, MarginLine, RiskView
from bot.runtime.risk.what_if import WhatIf

HOURS_PER_YEAR = 365.0 * 24.0
MOST_CHARGES = 6
WIDEST = 96
NO_BREAK = "\N{NO-BREAK SPACE}"
NOBODY_PLAYS = "nobody plays"  # how a note begins on a venue that a scenario names and nobody is


def print_view(console: Console, view: RiskView) -> None:
    """Print all of a view."""
    console.print(f"{view.vault} as of {view.as_of[:19]} UTC, equity {money(view.equity_quote)}")
    console.print(f"positions: {view.source}")
    for note in view.notes:
        console.print(f"note: {note}")
    console.print(margin_table(view.margin))
    for line in view.margin:
        for text in margin_lines(line):
            console.print(f"  {text}")
    for name, why in view.unknown.items():
        console.print(f"  {name}: NOT KNOWN: {why}")
    _print_netting(console, view)
    _print_distances(console, view)
    _print_counterparties(console, view)
    _print_forecasts(console, view)
    if view.breakers is None:
        console.print("breakers: nobody watches them here")
    elif not view.breakers:
        console.print("breakers: none is tripped")
    for one in view.breakers or ():
        console.print(f"breaker {one.breaker}: {one.reason}; until {utc_text(one.until_ns)[:19]} UTC")
    console.print(f"insurance buffer: {view.insurance}")
    print_classes(console, view.classes)


def margin_table(lines: Sequence[MarginLine]) -> Table:
    """Return margin by account."""
    numbers = ("equity", "initial", "maint.", "use", "free", "room", "state")
    table = _table("margin, quote money", ("account", "model"), numbers)
    for one in lines:
        table.add_row(
            one.account,
            one.model,
            money(one.equity_quote),
            money(one.initial_quote),
            money(one.maintenance_quote),
            share(one.utilisation_ratio),
            money(one.free_quote),
            money(one.room_quote),
            one.state.upper() if one.state != "normal" else one.state,
        )
    return table


def margin_lines(one: MarginLine) -> Iterator[str]:
    """Say whose figures they are, what they are made of, and what is in doubt."""
    model = f"{money(one.model_initial_quote)} / {money(one.model_maintenance_quote)}"
    if one.by == "venue":
        differs = f", {one.difference_share:+.1%} off" if isfinite(one.difference_share) else ""
        yield f"{one.account}: as the venue tells; the model says {model}{differs}"
    else:
        raised = one.maintenance_quote / one.model_maintenance_quote - 1.0 if one.model_maintenance_quote else 0.0
        yield f"{one.account}: the model's {model}, raised by {raised:.0%} as the venue does not tell"
    charges = sorted(one.charges, key=lambda charge: -abs(charge.initial))
    told = [
        f"{c.name} {money(c.initial)} / {money(c.maintenance)}{f' ({c.detail})' if c.detail else ''}" for c in charges
    ]
    if one.parameters:
        yield f"  parameters: {one.parameters} of {one.as_of}"
    if told:
        more = f"; {len(told) - MOST_CHARGES} more" if len(told) > MOST_CHARGES else ""
        yield f"  made of {'; '.join(told[:MOST_CHARGES])}{more}"
    posted = ", ".join(f"{amount:,.8g} {asset}" for asset, amount in one.posted.items()) or "nothing"
    yield f"  posted: {posted}; {one.reason}"
    if one.banned:
        yield f"  nothing is added there: {one.banned}"
    for doubt in one.doubts:
        yield f"  DEGRADED: {doubt}"


def _charge(one: Charge) -> str:
    detail = f" ({one.detail})" if one.detail else ""
    return f"{one.name} {money(one.initial)} / {money(one.maintenance)}{detail}"


def _print_netting(console: Console, view: RiskView) -> None:
    table = _table(
        f"netting, by the {view.netting}",
        ("underlying",),
        ("gross", "net", "gross, money", "net, money", "vega, net", "charge"),
    )
    for one in view.netted.exposures:
        table.add_row(
            one.underlying,
            f"{one.gross_base:,.4g}",
            f"{one.net_base:+,.4g}",
            money(one.gross_quote),
            money(one.net_quote, "+"),
            money(one.vega_net_quote, "+"),
            money(one.charge_quote),
        )
    console.print(table)
    for one in view.netted.exposures:
        parts = ", ".join(f"{name} {base:+,.4g}" for name, base in one.by_account)
        console.print(f"  {one.underlying} by account: {parts}")
        used = [layer for layer in one.layers if layer.matched_quote > 0.0]
        told = [f"{layer.name} {money(layer.matched_quote)} for {money(layer.charge_quote)}" for layer in used]
        if told:
            console.print(f"  {one.underlying} offsets: {', '.join(told)}")
    for layer in view.netted.correlated:
        console.print(f"  {layer.name}: {money(layer.matched_quote)} for {money(layer.charge_quote)}")
    for note in view.netted.notes:
        console.print(f"  note: {note}")
    for account in view.modes:
        best = account.cheapest.mode
        told = [
            f"{one.mode} {'not offered: ' + one.refused if one.refused else money(one.initial_quote)}"
            + (" (cheapest)" if one.mode == best else "")
            for one in account.modes
        ]
        console.print(f"  initial margin at {account.account} by mode: {', '.join(told)}")
    if view.capital is not None:
        console.print(f"  all accounts: {view.capital.verdict}, offsets charged {money(view.capital.charge_quote)}")


def _print_distances(console: Console, view: RiskView) -> None:
    console.print(distance_table(view.distances))
    vols = dict.fromkeys(f"{one.underlying} at {share(one.vol)} ({one.vol_source})" for one in view.distances)
    if vols:
        console.print(f"  by vol of {', '.join(vols)}; chances with option vols a tenth lower and higher too")
    for line in view.distances:
        if line.distance.degraded:
            console.print(f"  {line.account}, {line.underlying}: DEGRADED: {line.distance.degraded}")
    table = _table(
        "equity per maintenance margin, now and after a bad move before a transfer arrives",
        ("account",),
        ("now", "bad move", "then", "to hold", "top-up"),
    )
    for one in view.buffers:
        table.add_row(
            one.account,
            f"{one.ratio:,.2f}",
            f"{one.move_fraction:.2%}",
            f"{one.ratio_after:,.2f}",
            f"{one.target_ratio:,.2f}",
            money(one.topup_quote),
        )
    console.print(table)
    for one in view.buffers:
        degraded = f"; DEGRADED: {one.degraded}" if one.degraded else ""
        if one.should_hold:
            console.print(f"  {one.account}, by the engine itself, {one.should_hold}")
        console.print(f"  {one.account} is to hold {one.target_ratio:,.2f}: {one.reason}{degraded}")


def distance_table(lines: Sequence[DistanceLine]) -> Table:
    """Return how far each account is from liquidation."""
    delay = f"{lines[0].delay_s / 60.0:,.0f} min" if lines else "the delay"
    table = _table(
        "distance to liquidation",
        ("account", "moves"),
        ("at", "below", "above", "sigmas a day", f"in {delay}", "1 % in"),
    )
    for one in lines:
        found = one.distance
        table.add_row(
            one.account,
            one.underlying,
            price(one.spot_px) if one.underlying != "all" else "",
            _end(one, found.interval.down_px, -found.down_fraction),
            _end(one, found.interval.up_px, found.up_fraction),
            f"{_sigmas(found.down_sigmas)} / {_sigmas(found.up_sigmas)}",
            chance(found.touch_probability),
            _time(found.breach_years),
        )
    return table


def _end(line: DistanceLine, px: float, fraction: float) -> str:
    if px == 0.0 or not isfinite(px):
        return "never"
    if not fraction:
        return "now"
    return f"{fraction:+.1%}" if line.underlying == "all" else f"{price(px)} ({fraction:+.1%})"


def _sigmas(value: float) -> str:
    return f"{value:,.1f}" if isfinite(value) else "∞"


def _time(years: float) -> str:
    if not isfinite(years):
        return "never"
    hours = years * HOURS_PER_YEAR
    return f"{hours:,.1f} h" if hours < 48.0 else f"{hours / 24.0:,.1f} d"


def _print_counterparties(console: Console, view: RiskView) -> None:
    table = _table(
        "counterparties",
        ("party",),
        ("at default", "stressed", "limit", "to rehedge", "loss a year", "score", "asks for"),
    )
    for one in view.counterparties:
        table.add_row(
            one.party,
            money(one.ead_quote),
            money(one.stressed_quote),
            f"{money(one.limit_quote)}{' OVER' if one.is_over else ''}",
            money(one.replacement_quote),
            money(one.expected_loss_quote),
            f"{one.score.points:.0f}",
            str(one.action).replace("_", " "),
        )
    console.print(table)
    for one in view.counterparties:
        unknown = len(one.score.unknown)
        told = "none of its signs is known" if unknown == len(one.score.parts) else f"{unknown} signs unknown"
        seen = f"; {told}" if unknown else ""
        console.print(f"  {one.party}: limit is {one.limit_reason}{seen}")
    if not view.is_watched:
        console.print("  nobody watches their signs here: nothing is banned for them")


def _print_forecasts(console: Console, view: RiskView) -> None:
    if not view.forecasts:
        console.print(f"volatility: {view.forecast_source}")
        return
    table = _table(
        f"volatility forecast ({view.forecast_source})",
        ("underlying", "next"),
        ("mean", "90 %", "95 %", "99 %", "model", "regime"),
    )
    for one in view.forecasts:
        hours = one.horizon_years * HOURS_PER_YEAR
        table.add_row(
            one.underlying,
            _span(hours),
            share(one.mean_vol),
            *(share(one.quantile(level)) for level in (0.90, 0.95, 0.99)),
            one.model,
            f"{one.regime} {one.regime_probability:.0%}" if isfinite(one.regime_probability) else one.regime,
        )
    console.print(table)
    for text in dict.fromkeys(f"{one.underlying}: {one.degraded}" for one in view.forecasts if one.degraded):
        console.print(f"  DEGRADED: {text}: taken as {1.25:g} times as wide")


def _span(hours: float) -> str:
    if hours < 1.0:
        return f"{60.0 * hours:.0f} min"
    return f"{hours:.0f} h" if hours < 48.0 else f"{hours / 24.0:.0f} d"


def print_classes(console: Console, classes: Sequence[Resolved]) -> None:
    """Print what applies per asset, and where it comes from where that is not its class in the set."""
    if not classes:
        return
    table = _table("what applies per asset class", ("parameter",), tuple(one.asset for one in classes))
    table.add_row("class", *(one.asset_class for one in classes))
    for name in classes[0].parameters.__struct_fields__:
        table.add_row(name, *(_figure(getattr(one.parameters, name)) for one in classes))
    console.print(table)
    for one in classes:
        for text in origin_lines(one):
            console.print(f"  {text}")


def origin_lines(one: Resolved) -> list[str]:
    """Return one line per origin of an asset's values: which came from there."""
    by_origin: dict[str, list[str]] = {}
    for name, origin in one.origins.items():
        if name != "class":
            by_origin.setdefault(origin, []).append(name)
    most = max(by_origin, key=lambda origin: len(by_origin[origin]))
    found = [f"{one.asset} is {one.asset_class}: {one.origins['class']}; its values: {most}"]
    return found + [
        f"{one.asset}: {', '.join(names)}: {origin}" for origin, names in by_origin.items() if origin != most
    ]


def applies_lines(one: Resolved) -> list[str]:
    """Return what applies to an asset by origin: the class, then each value below where it came from, wrapped."""
    by_origin: dict[str, list[str]] = {}
    for name, origin in one.origins.items():
        if name != "class":
            by_origin.setdefault(origin, []).append(f"{name} {_figure(getattr(one.parameters, name))}")
    found = [f"{one.asset}: class {one.asset_class} ({one.origins['class']})"]
    for origin, values in by_origin.items():
        told = ", ".join(value.replace(" ", NO_BREAK) for value in values)
        lines = textwrap.wrap(
            f"{origin}: {told}", WIDEST, initial_indent="  ", subsequent_indent=" " * 6, break_on_hyphens=False
        )
        found += [line.replace(NO_BREAK, " ") for line in lines]
    return found


def money(amount_quote: float, sign: str = "") -> str:
    """Return quote money to the unit, or what it is where it is no number."""
    if isnan(amount_quote):
        return "unknown"
    if not isfinite(amount_quote):
        return "∞" if amount_quote > 0.0 else "-∞"
    return format(round(amount_quote) + 0, f"{sign},d")


def price(px: float) -> str:
    """Return a price to five digits or more."""
    return f"{px:,.0f}" if px >= 10_000.0 else f"{px:,.5g}"


def share(value: float) -> str:
    """Return a share as a percentage."""
    if isnan(value):
        return "unknown"
    return f"{value:.1%}" if isfinite(value) else "∞"


def chance(value: float) -> str:
    """Return a probability, small ones as being below a limit."""
    if isnan(value):
        return "unknown"
    return "< 0.01 %" if value < 1e-4 else f"{value:.2%}"


def _figure(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _table(title: str, words: Sequence[str], numbers: Sequence[str]) -> Table:
    table = Table(title=title, title_justify="left")
    for name in words:
        table.add_column(name, overflow="fold")
    for name in numbers:
        table.add_column(name, justify="right", overflow="fold")
    return table


def print_stress(console: Console, view: StressView) -> None:
    """Print the map, the named scenarios and the plans after them."""
    console.print(f"{view.vault} as of {view.as_of[:19]} UTC, equity {money(view.equity_quote)}")
    console.print(f"positions: {view.source}")
    for note in view.notes:
        console.print(f"note: {note}")
    heat = view.heat
    later = f", {heat.hours:g} h from now" if heat.hours else ""
    table = _table(f"P&L by move and vol{later}; below it the use of the account nearest to liquidation", ("vol",), ())
    for move in heat.moves:
        table.add_column(f"{move:+.0%}", justify="right")
    for place, vol in enumerate(heat.vols):
        table.add_row(f"{vol:+.0%}", *(money(one, "+") for one in heat.pnl_quote[place]))
        table.add_row("", *(_use(one) for one in heat.use_ratio[place]), end_section=True)
    console.print(table)
    console.print(
        f"  vols move by so much at {heat.reference_days:g} days to expiry; * is liquidated: margin is all of equity"
    )
    table = _table(
        f"{view.scenarios_of}, quote money",
        ("scenario",),
        ("P&L", "equity", "delta", "gamma 1 %", "vega 1 pt", "worst", "use"),
    )
    for line in view.scenarios:
        found = line.result
        worst = next((one for one in found.accounts if one.account == found.worst), None)
        moving = [one for asset, one in found.greeks.items() if asset not in MONEYS]
        total = {name: sum(getattr(one, f"{name}_quote") for one in moving) for name in ("delta", "gamma", "vega")}
        table.add_row(
            found.scenario.name,
            money(found.pnl_quote, "+"),
            money(found.equity_after_quote),
            money(total["delta"], "+"),
            money(total["gamma"], "+"),
            money(total["vega"], "+"),
            found.worst or "none",
            "" if worst is None else "gone" if worst.is_gone else _use(worst.use_after),
        )
    console.print(table)
    for line in view.scenarios:
        for text in scenario_lines(line):
            console.print(f"  {text}")
    absent = [note for line in view.scenarios for note in line.result.notes if note.startswith(NOBODY_PLAYS)]
    for note in dict.fromkeys(absent):
        console.print(f"  note: {note}")


def print_collateral(console: Console, view: CollateralView) -> None:
    """Print a plan: what each account needs and has, what to send and why, what limits it, what is still missing."""
    plan = view.plan
    console.print(f"{view.vault} as of {view.as_of[:19]} UTC")
    console.print(f"positions: {view.source}")
    for note in view.notes:
        console.print(f"note: {note}")
    table = _table(
        "equity against what it is to be, quote money", ("account",), ("equity", "needed as it is", "posted")
    )
    for name, equity in view.equity_quote.items():
        posted = [f"{one.amount:,.8g} {one.asset}" for one in plan.postings if one.venue == name]
        table.add_row(name, money(equity), money(view.needs_quote.get(name, nan)), ", ".join(posted) or "nothing")
    console.print(table)
    console.print(f"  to hold {view.buffer_ratio:,.3g} times maintenance margin: {view.buffer_reason}")
    console.print(f"  as it is and after moves of everything: {', '.join(view.scenarios[1:]) or 'none'}")
    worst = {one.venue: max(v.short_quote for v in plan.violations if v.venue == one.venue) for one in plan.violations}
    verdict = "every need is met" if plan.is_met else f"SHORT by {money(sum(worst.values()))}"
    proven = "nothing better exists" if plan.is_proven else "there may be a better one"
    console.print(f"plan by {plan.method}: {verdict}; costs {plan.cost_quote:,.2f}; {proven}")
    for number, one in enumerate(plan.transfers, 1):
        console.print(
            f"  {number}. {one.amount:,.8g} {one.asset} from {one.from_place} to {one.to_place}: {one.reason}"
        )
    if not plan.transfers:
        console.print("  nothing is to be sent")
    for short in plan.violations:
        console.print(f"  SHORT: {short.text}")
    for excess in plan.excesses:
        console.print(f"  OVER: {excess.text}")
    for price_of in plan.shadow_prices:
        console.print(f"  {price_of.text}")
    for note in (*plan.notes, *plan.warnings):
        console.print(f"  note: {note}")
    if view.daemon is not None:
        for text in _daemon_lines(view.daemon):
            console.print(text)


def _daemon_lines(now: CollateralNow) -> Iterator[str]:
    """Say what the newest plan of the engine itself is, and what became of it."""
    if not now.plan_id:
        yield f"the vault's own plan: none yet{': ' + now.fault if now.fault else ''}"
        return
    verdict = "every need is met" if now.is_met else f"SHORT by {money(now.short_quote)}"
    yield f"the vault's own plan {now.plan_id} of {utc_text(now.planned_ns)[:19]} UTC by {now.method}: {verdict}"
    if now.fault:
        yield f"  DEGRADED: {now.fault}"
    for name in now.moved:
        yield f"  moved: {name}"
    for why in now.not_moved:
        yield f"  not moved: {why}"
    for one in now.told[-3:]:
        yield f"  {utc_text(one.at_ns)[:19]} UTC: {one.text}"


def print_what_if(console: Console, view: WhatIf) -> None:
    """Print what an order would do, and whether it would be refused."""
    side = "buy" if view.qty_base > 0.0 else "sell"
    console.print(f"{view.vault} as of {view.as_of[:19]} UTC: {side} {abs(view.qty_base):,.8g} {view.instrument_id}")
    console.print(f"positions: {view.source}")
    for note in view.notes:
        console.print(f"note: {note}")
    premium = view.premium_quote
    paid = f", premium {'paid' if premium > 0.0 else 'received'} {abs(premium):,.2f}" if premium else ""
    room = "any size" if not isfinite(view.room_base) else f"at most {view.room_base:,.8g}"
    cost = f"costs {view.cost_quote:,.2f} in fee and half the spread{paid}"
    console.print(f"at {price(view.px)}; {cost}; margin leaves room for {room} of it on this side")
    table = _table("before → after, quote money", ("", "before", "after"), ())
    pairs = zip(view.before.margin, view.after.margin, strict=True)
    for before, after in pairs:
        name = before.account
        table.add_row(f"{name} equity", money(before.equity_quote), money(after.equity_quote))
        table.add_row(f"{name} initial margin", money(before.initial_quote), money(after.initial_quote))
        table.add_row(f"{name} maintenance margin", money(before.maintenance_quote), money(after.maintenance_quote))
        table.add_row(f"{name} use", share(before.utilisation_ratio), share(after.utilisation_ratio))
        table.add_row(f"{name} free", money(before.free_quote), money(after.free_quote), end_section=True)
    earlier = {(one.account, one.underlying): one for one in view.before.distances}
    for line in view.after.distances:
        was = earlier.get((line.account, line.underlying))
        table.add_row(f"{line.account} dies, {line.underlying}", _ends(was), _ends(line))
        touched = chance(was.distance.touch_probability) if was is not None else "0"
        minutes = f"{line.delay_s / 60.0:,.0f} min"
        table.add_row(f"  within {minutes}", touched, chance(line.distance.touch_probability), end_section=True)
    known = {one.underlying: one for one in view.before.exposures}
    for exposure in view.after.exposures:
        held = known.get(exposure.underlying)
        for what, form in (("net", "+,.4g"), ("gross", ",.4g")):
            old = getattr(held, f"{what}_base") if held is not None else 0.0
            table.add_row(
                f"{what} {exposure.underlying}", format(old, form), format(getattr(exposure, f"{what}_base"), form)
            )
        table.add_row(
            "  vega, net", money(held.vega_net_quote, "+") if held else "+0", money(exposure.vega_net_quote, "+")
        )
    console.print(table)
    if view.venue is not None:
        told = f"{money(view.venue.initial_quote)} / {money(view.venue.maintenance_quote)}"
        off = f"{view.venue.initial_difference_share:+.1%} / {view.venue.maintenance_difference_share:+.1%}"
        console.print(f"{view.account} itself would ask for {told}; the model is off by {off}")
    elif view.venue_silent:
        console.print(f"{view.account} was not asked what it would ask for: {view.venue_silent}")
    for refusal in view.refusals:
        console.print(f"REFUSED by {refusal.rule}: {refusal.detail}")
    if not view.refusals:
        console.print("no limit would refuse it")


def _ends(line: DistanceLine | None) -> str:
    if line is None:
        return ""
    interval, found = line.distance.interval, line.distance
    below, above = _end(line, interval.down_px, -found.down_fraction), _end(line, interval.up_px, found.up_fraction)
    return f"{below}\n{above}"


def scenario_lines(line: ScenarioView) -> Iterator[str]:
    """Say what a scenario does to accounts, and what would be traded after it."""
    found, name = line.result, line.result.scenario.name
    for one in found.accounts:
        words = []
        if one.is_gone:
            words.append(f"is gone, {money(one.equity_after_quote)} of {money(one.equity_before_quote)} left")
        elif one.is_liquidated:
            words.append(f"is LIQUIDATED: {money(one.shortfall_quote)} short of {money(one.after.maintenance)}")
        if one.is_trading_stopped and not one.is_gone:
            words.append("does not trade")
        if one.are_withdrawals_stopped and not one.is_gone:
            words.append("lets nothing out")
        if words:
            yield f"{name}: {one.account} {', '.join(words)}"
    for hedge in line.plan:
        yield f"{name}: {_plan(hedge)}"
    if line.plan_refused:
        yield f"{name}: {line.plan_refused}"
    for note in found.notes:
        if not note.startswith(NOBODY_PLAYS):
            yield f"{name}: {note}"


def _plan(hedge: PlannedHedge) -> str:
    told = f"{hedge.underlying} delta {hedge.delta_before_base:+,.4g} becomes {hedge.delta_base:+,.4g}"
    passed = f" (passed over: {'; '.join(hedge.passed_over)})" if hedge.passed_over else ""
    if not hedge.trade_base:
        return f"{told}: {'nothing to trade' if hedge.is_affordable else 'NOT HEDGED: ' + hedge.reason}{passed}"
    side = "buy" if hedge.trade_base > 0.0 else "sell"
    trade = f"{side} {abs(hedge.trade_base):,.6g} {hedge.instrument_id} for {money(hedge.cost_quote)}"
    change = f"initial margin {money(hedge.initial_without_quote)} → {money(hedge.initial_with_quote)}"
    verdict = "" if hedge.is_affordable else f", NOT AFFORDABLE with equity {money(hedge.equity_quote)}"
    return f"{told}: {trade}; {change}{verdict}{passed}"


def _use(ratio: float) -> str:
    if ratio < 1.0:
        return share(ratio)
    return f"{ratio:.0%}*" if ratio < 10.0 else ">1000%*"
