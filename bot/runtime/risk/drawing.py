"""From views of risk to pictures of them: what `bot.telemetry.risk_pictures` is shown, and the files it goes to."""

from __future__ import annotations

from math import inf, nan, sqrt
from pathlib import Path

import typer

from bot.runtime.risk.accounts import Accounts
from bot.runtime.risk.collateral import CollateralView
from bot.runtime.risk.stress import StressView
from bot.runtime.risk.view import RiskView
from bot.telemetry.pictures import Picture, count, render_png
from bot.telemetry.risk_pictures import (
    AccountUse,
    Fan,
    HeatMap,
    PlaceHeld,
    Sent,
    draw_collateral,
    draw_fan,
    draw_heatmap,
    draw_margin,
)

HOURS_PER_YEAR = 365.0 * 24.0


def picture_of_stress(view: StressView) -> Picture:
    """Return the map of a stress view."""
    heat = view.heat
    worst = min(min(row) for row in heat.pnl_quote)
    title = f"{view.vault}: {worst:+,.0f} at worst of equity {view.equity_quote:,.0f}, {view.as_of[:16]} UTC"
    return draw_heatmap(
        HeatMap(title=title, moves=heat.moves, vols=heat.vols, pnl_quote=heat.pnl_quote, use_ratio=heat.use_ratio)
    )


def picture_of_margin(accounts: Accounts, view: RiskView) -> Picture:
    """Return margin use and distance by account; of several underlyings as all of them move alike."""
    rule = accounts.settings.states
    states = [
        ("watch", rule.watch_ratio),
        ("act", rule.act_ratio),
        ("critical", rule.critical_ratio),
        ("emergency", rule.emergency_ratio),
    ]
    shown = []
    for line in view.margin:
        own = [one for one in view.distances if one.account == line.account]
        last = own[-1] if own else None
        shown.append(
            AccountUse(
                name=line.account,
                use_ratio=line.utilisation_ratio,
                down_fraction=_reach(last.distance.down_fraction, last.distance.interval.down_px) if last else inf,
                up_fraction=last.distance.up_fraction if last else inf,
                day_fraction=last.vol / sqrt(365.0) if last else nan,
                state=line.state,
            )
        )
    most = max(view.margin, key=lambda one: one.utilisation_ratio, default=None)
    told = f", {most.account} uses most: {most.utilisation_ratio:.0%}" if most is not None else ""
    return draw_margin(shown, states, f"{view.vault}{told}, {view.as_of[:16]} UTC")


def _reach(fraction: float, px: float) -> float:
    return inf if px == 0.0 else fraction


def picture_of_forecast(accounts: Accounts, view: RiskView) -> Picture | None:
    """Return the fan of every underlying that has a forecast, None where none has."""
    fans = []
    for name, told in accounts.snapshot.forecasts.items():
        if not told:
            continue
        fans.append(
            Fan(
                underlying=name,
                now_ns=accounts.snapshot.now_ns,
                realised=accounts.snapshot.realised_vols.get(name, ()),
                hours=[one.horizon_years * HOURS_PER_YEAR for one in told],
                mean_vol=[one.mean_vol for one in told],
                levels=told[0].levels,
                quantile_vols=[one.quantile_vols for one in told],
                model=told[0].model,
            )
        )
    if not fans:
        return None
    models = ", ".join(dict.fromkeys(one.model for told in accounts.snapshot.forecasts.values() for one in told))
    return draw_fan(fans, f"{view.vault}: vol forecast by {models}, {view.as_of[:16]} UTC")


def picture_of_collateral(view: CollateralView, accounts: Accounts) -> Picture:
    """Return where collateral lies after a plan, and what it sends."""
    held: dict[str, dict[str, float]] = {name: {} for name in view.equity_quote}
    for one in view.plan.postings:
        held.setdefault(one.venue, {})[one.asset] = one.value_quote
    places = [
        PlaceHeld(
            name=name, held_quote=values, needed_quote=view.needs_quote.get(name, nan) - unrealised(accounts, name)
        )
        for name, values in held.items()
    ]
    for transfer in view.plan.transfers:
        if transfer.from_place not in held:
            held[transfer.from_place] = {}
            places.append(PlaceHeld(name=transfer.from_place, held_quote={}, needed_quote=nan))
    sent = [
        Sent(
            asset=one.asset,
            from_place=one.from_place,
            to_place=one.to_place,
            value_quote=one.value_quote,
            text=f"{one.amount:,.6g} {one.asset}",
        )
        for one in view.plan.transfers
    ]
    verdict = "every need is met" if view.plan.is_met else "not every need can be met"
    return draw_collateral(
        places, sent, f"{view.vault}: {verdict}, {count(len(sent), 'transfer')}, {view.as_of[:16]} UTC"
    )


def unrealised(accounts: Accounts, name: str) -> float:
    """Return what of an account's equity is no collateral: P&L not paid out, options."""
    one = accounts.of.get(name)
    if one is None:
        return 0.0
    now = one.now
    worth = sum(
        amount * now.px.get(asset, 0.0) * (1.0 - now.haircuts.get(asset, 0.0)) for asset, amount in now.posted.items()
    )
    return now.equity_quote - worth


def write_picture(picture: Picture, path: Path) -> None:
    """Write a picture as a PNG and say so."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(render_png(picture))
    typer.echo(f"wrote {path}", err=True)
