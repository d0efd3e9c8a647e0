"""How things look: colours that everybody can tell apart, numbers with units, what is old looking old.

Colours are Okabe and Ito's; none of them is ever the only carrier of a meaning.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from bot.domain.units import utc_second_text
from bot.domain.windows import Severity
from bot.telemetry.dashboard.live import Live, slot
from bot.telemetry.dashboard.markup import Markup, el

BLUE: Final = "#0072b2"
SKY: Final = "#56b4e9"
GREEN: Final = "#009e73"
ORANGE: Final = "#e69f00"
VERMILLION: Final = "#d55e00"
PURPLE: Final = "#cc79a7"
YELLOW: Final = "#f0e442"
GREY: Final = "#8a8f98"
PALETTE: Final = (BLUE, ORANGE, GREEN, PURPLE, SKY, VERMILLION, YELLOW, GREY)

DASH: Final = "–"  # a number nobody knows

# State → mark, class of its look. The mark is what people without colours see.
STATE_LOOKS: Final = {
    "running": ("●", "good"),
    "reconciling": ("◌", "busy"),
    "reduce_only": ("◐", "warn"),
    "paused": ("❚❚", "warn"),
    "halted": ("■", "bad"),
}
SEVERITY_LOOKS: Final = {
    Severity.INFO: ("ℹ", "info"),
    Severity.WARNING: ("▲", "warn"),
    Severity.CRITICAL: ("⬣", "bad"),
}


def number(value: float | None, digits: int = 2, unit: str = "", *, is_signed: bool = False) -> str:
    """Return a number with thousands separated and its unit; a real minus sign; DASH for what is not known."""
    if value is None:
        return DASH
    text = f"{value:{'+' if is_signed else ''},.{digits}f}"
    if not text.strip("+-0.,"):
        text = text.lstrip("+-")  # no signed zeros
    return text.replace("-", "−") + (f" {unit}" if unit else "")


def base(value: float | None, unit: str = "", *, is_signed: bool = True) -> str:
    """Return an amount of the underlying."""
    digits = 3 if value is None or abs(value) < 1000 else 1
    return number(value, digits, unit, is_signed=is_signed)


def money(value: float | None, unit: str = "", *, is_signed: bool = False) -> str:
    """Return an amount of quote money: cents below a hundred thousand."""
    digits = 2 if value is None or abs(value) < 100_000 else 0
    return number(value, digits, unit, is_signed=is_signed)


def percent(ratio: float | None, digits: int = 1) -> str:
    """Return a ratio as per cent."""
    return DASH if ratio is None else number(100 * ratio, digits, "%")


def age(seconds: float | None) -> str:
    """Return an age in words short enough for a cell; tenths where they matter."""
    if seconds is None:
        return "never"
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.0f} h" if seconds < 172_800 else f"{seconds / 86_400:.0f} d"


def moment(ns: int) -> str:
    """Return a time as UTC to the second, DASH for 0 and for what no calendar has."""
    try:
        return utc_second_text(ns) if ns else DASH
    except (ValueError, OverflowError, OSError):
        return DASH


def state_badge(key: str) -> Markup:
    """Return a place for a vault's state; `show_state` fills it."""
    return slot(key, cls="badge")


def show_state(live: Live, key: str, state: str, *, is_stale: bool, reason: str = "") -> None:
    """Show a state as mark and word; one that may be over says so."""
    mark, look = STATE_LOOKS.get(state, ("?", "unknown"))
    words = state.replace("_", "-") if state else "no word yet"
    if is_stale and state:
        words = f"was {words}"
    live.set(key, f"{mark} {words}", cls=f"badge {'stale' if is_stale else look}", title=reason or None)


def show_age(live: Live, key: str, age_s: float | None, *, is_stale: bool) -> None:
    """Show how old what is shown is; what is stale is hatched and says so in words."""
    text = age(age_s)
    if is_stale:
        text = f"⚠ {text} old" if age_s is not None else "⚠ never"
    live.set(
        key, text, cls="age stale" if is_stale else "age", title="stale: not heard of lately" if is_stale else None
    )


class Bullet(NamedTuple):
    """A bullet graph in per cent of its width: the band, the interval net delta lies in, the target."""

    band_x: float
    band_width: float
    delta_x: float
    delta_width: float
    marker_x: float
    target_x: float | None
    is_outside: bool
    has_band: bool
    text: str


def place_bullet(
    low_base: float | None,
    high_base: float | None,
    band_low_base: float | None,
    band_high_base: float | None,
    target_base: float | None,
) -> Bullet | None:
    """Return where the parts of a bullet go, None while net delta is not known.

    The scale is symmetric about the band's middle and shows twice the band, or as far out as net delta is.
    """
    if low_base is None or high_base is None:
        return None
    has_band = band_low_base is not None and band_high_base is not None
    middle = target_base or 0.0
    bottom = band_low_base if band_low_base is not None and has_band else middle
    top = band_high_base if band_high_base is not None and has_band else middle
    middle = (bottom + top) / 2
    reach = max(top - bottom, 1.1 * abs(low_base - middle), 1.1 * abs(high_base - middle), 1e-9)

    def x(value: float) -> float:
        return round(50 + 50 * (value - middle) / reach, 1)

    is_outside = has_band and (low_base < bottom or high_base > top)
    delta = base((low_base + high_base) / 2)
    words = f"net delta {delta}"
    if high_base - low_base > 1e-9:
        words = f"net delta between {base(low_base)} and {base(high_base)}"
    if has_band:
        words += f", band {base(bottom)} to {base(top)}: {'outside' if is_outside else 'inside'}"
    else:
        words += ", no band"
    return Bullet(
        band_x=x(bottom),
        band_width=round(x(top) - x(bottom), 1),
        delta_x=x(low_base),
        delta_width=round(max(x(high_base) - x(low_base), 0.0), 1),
        marker_x=x((low_base + high_base) / 2),
        target_x=None if target_base is None else x(target_base),
        is_outside=is_outside,
        has_band=has_band,
        text=words,
    )


def bullet_svg(key: str) -> Markup:
    """Return the empty graph; `show_bullet` moves its parts."""
    return slot(
        key,
        "svg",
        slot(f"{key}.band", "rect", cls="b-band", y="3", height="18", x="0%", width="0%"),
        el("line", cls="b-axis", x1="0%", x2="100%", y1="12", y2="12"),
        slot(f"{key}.target", "line", cls="b-target", x1="50%", x2="50%", y1="3", y2="21"),
        slot(f"{key}.range", "rect", cls="b-range", y="9", height="6", x="0%", width="0%"),
        slot(
            f"{key}.marker",
            "svg",
            slot(f"{key}.shape", "path", cls="b-marker", d=""),
            x="50%",
            y="12",
            overflow="visible",
            width="1",
            height="1",
        ),
        cls="bullet",
        role="img",
        height="24",
        width="100%",
    )


INSIDE_SHAPE: Final = "M0,-6 L6,0 L0,6 L-6,0 Z"  # a diamond
OUTSIDE_SHAPE: Final = "M0,-8 L8,7 L-8,7 Z"  # a triangle, larger


def show_bullet(live: Live, key: str, bullet: Bullet | None) -> None:
    """Show net delta in its band."""
    if bullet is None:
        live.set(key, cls="bullet empty", aria_label="net delta is not known")
        return
    live.set(key, cls="bullet outside" if bullet.is_outside else "bullet", aria_label=bullet.text)
    live.set(f"{key}.band", x=f"{bullet.band_x}%", width=f"{bullet.band_width}%")
    live.set(f"{key}.range", x=f"{bullet.delta_x}%", width=f"{bullet.delta_width}%")
    target_x = 50.0 if bullet.target_x is None else bullet.target_x
    live.set(
        f"{key}.target", x1=f"{target_x}%", x2=f"{target_x}%", visibility="hidden" if bullet.target_x is None else None
    )
    live.set(f"{key}.marker", x=f"{bullet.marker_x}%")
    live.set(f"{key}.shape", d=OUTSIDE_SHAPE if bullet.is_outside else INSIDE_SHAPE)
