"""Risk over all vaults: margin accounts, forecasts, counterparties, breakers, drains, transfers, collateral plans.

Reads what `evenkeel status --json` shows as `margin`, field for field; a vault that reckons no margin has no rows here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

from bot.domain.windows import VaultState
from bot.telemetry.dashboard import figures
from bot.telemetry.dashboard.parts.cells import BAD, GOOD, MUTED, WARN, Cell, Column, Row, sheet
from bot.telemetry.dashboard.shown.margin import STATE_TONES

Fields = Mapping[str, Any]
ACTION_TONES: Final = {"none": GOOD, "stop_adding": WARN}  # what is more than that is bad
MOST_CHANGES: Final = 30


def all_sheets(states: Sequence[VaultState]) -> dict[str, dict[str, Any]]:
    """Return every sheet of the risk page by its key, in the order they are shown."""
    makers: dict[str, Callable[[Sequence[VaultState]], dict[str, Any]]] = {
        "accounts": accounts,
        "breakers": breakers,
        "counterparties": counterparties,
        "forecasts": forecasts,
        "transfers": transfers,
        "collateral": collateral,
        "drains": drains,
        "changes": changes,
    }
    return {name: make(states) for name, make in makers.items()}


def accounts(states: Sequence[VaultState]) -> dict[str, Any]:
    """Return every margin account of every vault, those nearest to liquidation first."""
    found = [(state.vault, name, one) for state in states for name, one in _table(state, "accounts").items()]
    found.sort(key=lambda entry: -(_number(entry[2], "utilisation_ratio") or 0.0))
    rows = {f"{vault}/{name}": _account(at, vault, name, one) for at, (vault, name, one) in enumerate(found)}
    columns = (
        Column("account"),
        Column("margin use", hint="maintenance margin over equity; at 100 % it is liquidated"),
        Column("equity", is_number=True),
        Column("initial", is_number=True, is_wide=True),
        Column("maintenance", is_number=True),
        Column("required", is_number=True, is_wide=True, hint="to be posted for a bad move until a transfer arrives"),
        Column("chance", is_number=True, hint="to touch liquidation before a top-up could arrive"),
    )
    return sheet("Margin accounts", columns, rows, empty="no vault reckons margin", is_sortable=True)


def _account(at: int, vault: str, name: str, one: Fields) -> Row:
    use, state = _number(one, "utilisation_ratio"), str(one.get("state", "unknown"))
    tone = MUTED if use is None else STATE_TONES.get(state, BAD)
    why = "not known: margin of this account could not be reckoned"
    shown = Cell(
        f"{figures.percent(use)} {state}",
        sort=use if use is not None else -1.0,
        tone=tone,
        bar=(0.0, round(min(1.0, use), 4)) if use is not None else None,
        hint=why if use is None else "",
    )
    amounts = [_money(one, key, why) for key in ("equity_quote", "initial_quote", "maintenance_quote")]
    required = _money(one, "required_quote", "no predictive buffer is kept for it")
    chance = _number(one, "touch_probability")
    more = [
        *str(one.get("told", "")).split("; "),
        str(one.get("buffer", "")),
        f"no top-up: {one['top_up_refused']}" if one.get("top_up_refused") else "",
        f"banned: {one['banned']}" if one.get("banned") else "",
        *(f"degraded: {why}" for why in one.get("degraded", ())),
        *(_charge(charge) for charge in one.get("charges", ())),
    ]
    cells = (
        Cell(f"{vault} / {name}", hint=f"model {one.get('model', '')}, {one.get('parameters', '')}"),
        shown,
        *amounts,
        required,
        Cell(figures.percent(chance, 2), hint="not known: no forecast of vol yet" if chance is None else ""),
    )
    return Row(at, cells, more=tuple(line for line in more if line))


def _charge(charge: Fields) -> str:
    return "charge: " + ", ".join(
        f"{figures.words(name.removesuffix('_quote'))} {figures.number(value) if isinstance(value, float) else value}"
        for name, value in charge.items()
        if value not in (None, "")
    )


def breakers(states: Sequence[VaultState]) -> dict[str, Any]:
    """Return the breakers that are open now: only what shrinks exposure passes them."""
    rows = {
        f"{state.vault} {one['breaker']} {one['subject']}": Row(
            at,
            (
                Cell(state.vault, link=f"/vault/{state.vault}"),
                Cell(figures.words(str(one["breaker"])), tone=BAD),
                Cell(str(one["subject"])),
                Cell(str(one["since"])[:19]),
                Cell(str(one["reason"])),
            ),
        )
        for at, (state, one) in enumerate(_each(states, "breakers"))
    }
    columns = (Column("vault"), Column("breaker"), Column("of"), Column("since, UTC"), Column("why"))
    return sheet("Breakers", columns, rows, empty="no breaker is open")


def counterparties(states: Sequence[VaultState]) -> dict[str, Any]:
    """Return everybody who could fail: score, what would be lost, what is allowed."""
    found = [(state.vault, name, one) for state in states for name, one in _table(state, "counterparties").items()]
    found += [
        (state.vault, f"group {name}", {**one, "kind": ", ".join(one.get("parties", ()))})
        for state in states
        for name, one in _table(state, "counterparty_groups").items()
    ]
    rows = {f"{vault}/{name}": _party(at, vault, name, one) for at, (vault, name, one) in enumerate(found)}
    columns = (
        Column("counterparty"),
        Column("kind", is_wide=True),
        Column("score", is_number=True),
        Column("if it failed in a crash", hint="loss under stress, as a share of its limit"),
        Column("limit", is_number=True),
        Column("expected loss", is_number=True, is_wide=True),
        Column("follows"),
    )
    return sheet("Counterparties", columns, rows, empty="no vault judges counterparties", is_sortable=True)


def _party(at: int, vault: str, name: str, one: Fields) -> Row:
    stressed, limit, is_over = _number(one, "stressed_quote"), _number(one, "limit_quote"), bool(one.get("is_over"))
    share = stressed / limit if stressed is not None and limit else None
    action = str(one.get("action", ""))
    lost = Cell(
        f"{figures.money(stressed)}{', over its limit' if is_over else ''}",
        sort=stressed or 0.0,
        tone=BAD if is_over else "",
        bar=(0.0, round(min(1.0, max(0.0, share)), 3)) if share is not None else None,
    )
    unknown = [f"not known: {figures.words(str(what))}" for what in one.get("unknown", ())]
    cells = (
        Cell(f"{vault} / {name}"),
        Cell(str(one.get("kind", ""))),
        Cell(figures.number(_number(one, "score"), 0), sort=_number(one, "score")),
        lost,
        _money(one, "limit_quote", "no limit is set for it"),
        _money(one, "expected_loss_quote", "not known"),
        Cell(figures.words(action), tone=ACTION_TONES.get(action, BAD) if action else ""),
    )
    return Row(at, cells, more=tuple(line for line in (str(one.get("reason", "")), *unknown) if line))


def forecasts(states: Sequence[VaultState]) -> dict[str, Any]:
    """Return the newest forecast of each underlying's vol, and how often its quantiles were exceeded so far."""
    rows = {}
    for at, (vault, name, one) in enumerate(
        (state.vault, name, one) for state in states for name, one in _table(state, "forecasts").items()
    ):
        quantiles = one.get("quantile_vol") or {}
        told = ", ".join(f"{level}: {figures.percent(vol)}" for level, vol in quantiles.items())
        breaches = ", ".join(f"{level}: {count}" for level, count in (one.get("breaches") or {}).items())
        degraded = str(one.get("degraded", ""))
        rows[f"{vault}/{name}"] = Row(
            at,
            (
                Cell(f"{vault} / {name}"),
                Cell(figures.percent(_number(one, "mean_vol")), hint="" if one.get("mean_vol") else "none yet"),
                Cell(told or figures.DASH, hint="" if told else "none yet"),
                Cell(_ahead(one), hint="how far ahead"),
                Cell(str(one.get("regime", ""))),
                Cell(f"{one.get('model', '')}{f'; {degraded}' if degraded else ''}", tone=WARN if degraded else ""),
                Cell(f"{breaches or 'none'} of {one.get('outcomes', 0)}"),
            ),
        )
    columns = (
        Column("underlying"),
        Column("mean vol", is_number=True),
        Column("quantiles"),
        Column("ahead", is_number=True, is_wide=True),
        Column("regime", is_wide=True),
        Column("model", is_wide=True),
        Column("exceeded", is_wide=True),
    )
    return sheet("Forecasts of vol", columns, rows, empty="no vault forecasts vol")


def transfers(states: Sequence[VaultState]) -> dict[str, Any]:
    """Return transfers of collateral under way, and what was lately noted of them."""
    rows = {
        f"{state.vault} {one['transfer_id']}": Row(
            at,
            (
                Cell(f"{state.vault} / {one['transfer_id']}"),
                Cell(str(one["state"])),
                Cell(f"{figures.number(_number(one, 'amount'), 4)} {one['asset']}"),
                Cell(f"{one['from_venue']} → {one['to_venue']}"),
                Cell(str(one["route"])),
                Cell(str(one["planned"])[:19]),
                Cell(str(one["reason"])),
            ),
        )
        for at, (state, one) in enumerate(_each(states, "transfers"))
    }
    columns = (
        Column("transfer"), Column("state"), Column("amount", is_number=True), Column("way"),
        Column("route", is_wide=True), Column("planned, UTC", is_wide=True), Column("why", is_wide=True),
    )  # fmt: skip
    return sheet("Transfers under way", columns, rows, empty="no transfer is under way")


def collateral(states: Sequence[VaultState]) -> dict[str, Any]:
    """Return the newest plan of each vault that has collateral planned, with its lines below."""
    rows = {}
    for at, (vault, plan) in enumerate((state.vault, state.risk.get("collateral")) for state in states):
        if not plan:
            continue
        shown = [(name, value) for name, value in plan.items() if isinstance(value, str | int | float) and value != ""]
        more = [f"{figures.words(name)}: {_plain(value)}" for name, value in shown]
        more += [f"{one['at'][:19]} {one['text']}" for one in plan.get("told", ())]
        newest = plan["told"][-1]["text"] if plan.get("told") else "no plan yet"
        rows[vault] = Row(at, (Cell(vault), Cell(newest)), more=tuple(more))
    return sheet("Collateral plans", (Column("vault"), Column("newest")), rows, empty="no vault has collateral planned")


def drains(states: Sequence[VaultState]) -> dict[str, Any]:
    """Return venues that are being left, stage by stage."""
    rows = {
        f"{state.vault} {one['venue']} {at}": Row(
            at,
            (
                Cell(f"{state.vault} / {one['venue']}"),
                Cell(figures.words(str(one["stage"])), tone=MUTED if one["is_over"] else BAD),
                _money(one, "left_quote", "not known"),
                _money(one, "recovery_quote", "not known"),
            ),
            more=tuple(f"{entry['at'][:19]} {entry['stage']}: {entry['what']}" for entry in one["trail"]),
        )
        for at, (state, one) in enumerate(_each(states, "drains"))
    }
    columns = (
        Column("venue"), Column("stage"), Column("still there", is_number=True), Column("recovery", is_number=True),
    )  # fmt: skip
    return sheet("Venues being left", columns, rows, empty="no venue is being left")


def changes(states: Sequence[VaultState]) -> dict[str, Any]:
    """Return what lately changed of breakers, buffers and conditions, newest first."""
    found: list[tuple[str, str, str, str]] = []
    for state in states:
        for kind, key in (("breaker", "breaker_changes"), ("conditions", "condition_changes")):
            found += [(str(one["at"]), state.vault, kind, str(one["change"])) for one in state.risk.get(key) or ()]
        found += [
            (str(one["at"]), state.vault, f"buffer of {one['account']}", _buffer_text(one))
            for one in state.risk.get("buffer_changes") or ()
        ]
    found.sort(reverse=True)
    rows = {
        f"{at} {vault} {kind} {text}": Row(place, (Cell(at[:19]), Cell(vault), Cell(kind), Cell(text)))
        for place, (at, vault, kind, text) in enumerate(found[:MOST_CHANGES])
    }
    columns = (Column("at, UTC"), Column("vault"), Column("of"), Column("change"))
    return sheet("Lately changed", columns, rows, empty="nothing changed yet")


def _buffer_text(one: Fields) -> str:
    before, after = (figures.number(_number(one, key)) for key in ("from_ratio", "to_ratio"))
    return f"{before} to {after} of margin: {one['reason']}"


def _table(state: VaultState, key: str) -> Mapping[str, Fields]:
    found = state.risk.get(key)
    return found if isinstance(found, Mapping) else {}


def _each(states: Iterable[VaultState], key: str) -> list[tuple[VaultState, Fields]]:
    return [(state, one) for state in states for one in state.risk.get(key) or ()]


def _number(one: Fields, key: str) -> float | None:
    value = one.get(key)
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _money(one: Fields, key: str, why: str) -> Cell:
    value = _number(one, key)
    return Cell(figures.money(value), hint=why) if value is None else Cell(figures.money(value), sort=value)


def _ahead(one: Fields) -> str:
    horizon_s = _number(one, "horizon_s")
    return figures.DASH if horizon_s is None else figures.age(horizon_s)


def _plain(value: str | float) -> str:
    return figures.number(value) if isinstance(value, float) else str(value)
