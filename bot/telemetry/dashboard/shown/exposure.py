"""One underlying of a vault: what is intended and why, the gates before it, and the Greeks down to each leg."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

from bot.domain.units import NS_PER_S
from bot.domain.windows import LegState, UnderlyingState
from bot.telemetry.dashboard import figures
from bot.telemetry.dashboard.parts.cells import BAD, GOOD, MUTED, WARN, Cell, Column, Row, facts, sheet

GREEKS: Final = (
    "delta_base", "gamma_base_per_px", "vega_quote_per_vol", "theta_quote_per_day", "value_quote",
)  # fmt: skip
UNMARKED: Final = "not known: no fresh mark"
UNTARGETED: Final = "none, this vault hedges delta alone"
UNDECIDED: Final = "not known: nothing was decided yet, or a guard refused to"


def intent(one: UnderlyingState, now_ns: int) -> dict[str, Any]:
    """Return what the last decision amounts to, and why, or why not."""
    unit = one.underlying
    pairs = [("decision", Cell(one.plan or "nothing decided yet", tone=BAD if one.refusal else ""))]
    if one.refusal:
        pairs.append(("why not", Cell(f"{figures.words(one.refusal)}: {one.refusal_detail}", tone=BAD)))
    if one.policy_reason and one.policy_reason not in one.plan:
        pairs.append(("why", Cell(one.policy_reason)))
    pairs += [
        ("net delta", net_delta(one)),
        ("band", band(one)),
        ("target", _cell(one.target_delta_base, figures.base(one.target_delta_base, unit), UNDECIDED)),
        ("hedges held", Cell(figures.base(one.hedge_base, unit))),
        ("pending", Cell(figures.base(one.pending_base, unit) if one.pending_base else "nothing")),
        ("spot", _cell(one.spot_px, figures.price(one.spot_px), UNDECIDED)),
        ("decided", _ago(one.decided_ns, now_ns, "never")),
        ("last hedge", _ago(one.last_hedge_ns, now_ns, "none yet")),
    ]
    if one.last_order:
        pairs.append(("last order", Cell(one.last_order)))
    return facts(f"{unit}: intent", pairs)


def net_delta(one: UnderlyingState) -> Cell:
    """Return net delta, as an interval while an outcome is unknown, with where it lies in words."""
    low, high = one.delta_low_base, one.delta_high_base
    if low is None or high is None:
        return Cell(figures.DASH, hint=UNDECIDED)
    where, tone = place(one)
    if one.unknown_base > 0.0:
        span = f"{figures.base(low)} to {figures.base(high, one.underlying)}"
        return Cell(f"{span}, outcomes unknown; {where}", sort=(low + high) / 2.0, tone=WARN)
    return Cell(f"{figures.base(low, one.underlying)}, {where}", sort=low, tone=tone)


def place(one: UnderlyingState) -> tuple[str, str]:
    """Return where net delta lies against its band, in words, and the tone of that."""
    if one.delta_low_base is None or one.delta_high_base is None:
        return "not known", MUTED
    if one.low_base is None or one.high_base is None:
        return "no band now", MUTED
    if one.delta_high_base < one.low_base:
        return "below its band", WARN
    if one.delta_low_base > one.high_base:
        return "above its band", WARN
    if one.delta_low_base < one.low_base or one.delta_high_base > one.high_base:
        return "partly outside its band", WARN
    return "inside its band", GOOD


def band(one: UnderlyingState) -> Cell:
    """Return the no-trade band; none while the policy holds or a guard refused to decide."""
    if one.low_base is None or one.high_base is None:
        return Cell(figures.DASH, hint="no band: the policy holds, or a guard refused to decide")
    return Cell(f"{figures.base(one.low_base)} to {figures.base(one.high_base, one.underlying)}")


def gates(one: UnderlyingState) -> dict[str, Any]:
    """Return every gate between this underlying and its next hedge, open or closed, with its figures."""
    # being inside the band closes the last gate too; that is the aim, not a fault
    rows = {
        f"{place} {gate.name}": Row(
            place,
            (
                Cell(gate.name),
                Cell(
                    "open" if gate.is_open else "closed",
                    tone=GOOD if gate.is_open else MUTED if gate.name == "net delta outside its band" else BAD,
                    is_open=gate.is_open,
                ),
                Cell(gate.detail),
            ),
        )
        for place, gate in enumerate(one.gates)
    }
    closed = sum(not gate.is_open for gate in one.gates)
    note = f"{len(one.gates) - closed} of {len(one.gates)} open: a hedge passes when all are" if one.gates else ""
    columns = (Column("gate"), Column("is"), Column("judged by"))
    return sheet(f"{one.underlying}: gates", columns, rows, empty="no gates known yet", note=note)


def greeks(one: UnderlyingState) -> dict[str, Any]:
    """Return Greeks of the underlying against its target, by leg, with the sums of book and hedges."""
    unit = one.underlying
    columns = (
        Column("leg"),
        Column("quantity", is_number=True, hint=f"in {unit}"),
        Column("mark", is_number=True, is_wide=True),
        Column("vol", is_number=True, is_wide=True, hint="implied, of its mark"),
        Column("expiry", is_wide=True),
        Column("delta", is_number=True, hint=f"in {unit}"),
        Column("gamma", is_number=True, hint=f"{unit} of delta per unit of price"),
        Column("vega", is_number=True, hint="quote money per 1.00 of vol, that is per 100 points"),
        Column("theta", is_number=True, hint="quote money a day"),
        Column("value", is_number=True, hint="quote money"),
    )
    rows = {f"leg {place} {leg.instrument_id}": _leg(place, leg) for place, leg in enumerate(one.legs)}
    total = _sums(one.legs)
    for at, (name, is_hedge) in enumerate((("book", False), ("hedges", True)), start=1000):
        legs = [leg for leg in one.legs if leg.is_hedge is is_hedge]
        if legs:
            rows[name] = _total(at, f"{name}, {len(legs)}", _sums(legs))
    net = _net(one)
    rest = [None if None in (a, b) else (a or 0.0) - (b or 0.0) for a, b in zip(net, total, strict=True)]
    rows["rest"] = _total(1002, "cash and other", rest, "what is in net but in no leg: cash, chains, marks since then")
    rows["net"] = _total(1003, "net, as decided", net)
    target = _cell(one.target_delta_base, figures.base(one.target_delta_base), UNDECIDED)
    none = Cell(figures.DASH, hint="nothing is hedged towards a target of it")
    gamma, vega = one.target_gamma_base_per_px, one.target_vega_quote_per_vol
    options = (
        _cell(gamma, figures.number(gamma, 4, is_signed=True), UNTARGETED),
        _cell(vega, figures.money(vega, is_signed=True), UNTARGETED),
    )
    rows["target"] = Row(
        1004, (Cell("target"), *(Cell("") for _ in range(4)), target, *options, none, none), is_total=True
    )
    note = "Legs are at the newest marks, net as of the last decision: book, hedges, cash and other add up to it. "
    note += f"Target of gamma and vega: {one.option_plan or UNTARGETED}."
    return sheet(f"{unit}: Greeks", columns, rows, note=note, is_sortable=True)


def _leg(at: int, leg: LegState) -> Row:
    expiry = figures.day(leg.expiry_ns) if leg.expiry_ns else ""
    return Row(
        at,
        (
            Cell(f"{leg.instrument_id}{' (hedge)' if leg.is_hedge else ''}"),
            Cell(figures.base(leg.qty_base), sort=leg.qty_base),
            _cell(leg.mark_px, figures.price(leg.mark_px), UNMARKED),
            Cell("") if leg.expiry_ns is None else _cell(leg.vol, figures.percent(leg.vol), UNMARKED),
            Cell(expiry, sort=leg.expiry_ns or 0),
            *_greek_cells([getattr(leg, name) for name in GREEKS]),
        ),
    )


def _net(one: UnderlyingState) -> list[float | None]:
    """Return the net Greeks of the last decision, delta in the middle of its interval."""
    low, high = one.delta_low_base, one.delta_high_base
    middle = None if low is None or high is None else (low + high) / 2.0
    return [middle, *(getattr(one, name) for name in GREEKS[1:])]


def _total(at: int, name: str, values: Sequence[float | None], hint: str = "") -> Row:
    return Row(at, (Cell(name, hint=hint), *(Cell("") for _ in range(4)), *_greek_cells(values)), is_total=True)


def _sums(legs: Iterable[LegState]) -> list[float | None]:
    """Return each Greek over legs, None where one of them is not known: a sum of what is known would mislead."""
    sums: list[float | None] = []
    for name in GREEKS:
        values = [getattr(leg, name) for leg in legs]
        sums.append(None if None in values else sum(values))
    return sums


def _greek_cells(values: Sequence[float | None]) -> tuple[Cell, ...]:
    delta, gamma, vega, theta, value = values
    return (
        _cell(delta, figures.base(delta), UNMARKED),
        _cell(gamma, figures.number(gamma, 4, is_signed=True), UNMARKED),
        _cell(vega, figures.money(vega, is_signed=True), UNMARKED),
        _cell(theta, figures.money(theta, is_signed=True), UNMARKED),
        _cell(value, figures.money(value, is_signed=True), UNMARKED),
    )


def _cell(value: float | None, text: str, why: str) -> Cell:
    return Cell(text, hint=why) if value is None else Cell(text, sort=value)


def _ago(at_ns: int, now_ns: int, never: str) -> Cell:
    if not at_ns:
        return Cell(never)
    return Cell(f"{figures.age((now_ns - at_ns) / NS_PER_S)} ago", hint=f"{figures.moment(at_ns)} UTC")
