"""Black-76: the value and the Greeks of European options on a forward.

It turns arrays of inputs into arrays of numbers and knows nothing of positions, venues or settlement (coin-settled
options are in `inverse`). It must never return NaN, never warn, and never work out a Greek nobody asked for.
"""

from collections.abc import Callable
from math import pi, sqrt
from typing import Final, NamedTuple, Self, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import erfc, erfcx

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]

# 0-d arrays, because a Python number costs a ufunc as much again as its work on a book of a hundred options.
HALF: Final[Floats] = np.array(0.5)
MINUS_HALF: Final[Floats] = np.array(-0.5)
ROOT_HALF: Final[Floats] = np.array(sqrt(0.5))
MINUS_ROOT_2: Final[Floats] = np.array(-sqrt(2.0))
ROOT_HALF_PI: Final[Floats] = np.array(sqrt(0.5 * pi))
PHI_0: Final[Floats] = np.array(1.0 / sqrt(2.0 * pi))

# With less deviation than the first, or further out of the money than the second (in deviations), F N(d1) - K N(d2)
# loses digits, and the value is worked out another way.
NARROW_DEV: Final = 0.01
FAR_DISTANCE: Final = 10.0
# With less deviation than this an option is at expiry. Further than this from the strike it never gets there: from
# |d| = 39 on the density is 0 and N is 0 or 1, so that the limit is the result to the last bit.
LEAST_DEV: Final = 1e-90
MOST_DEV: Final = 1e3
MOST_DISTANCE: Final = 1e6
# These stand in for a zero divisor, where the dividend is an exact 0.
LEAST_YEARS: Final = 1e-200
LEAST_VOL: Final = 1e-100
MOST_EXPONENT: Final = 700.0

# The arrays of a large book fit in malloc's heap, but glibc hands the top of the heap back after each book, and having
# it again, page by page, takes twice as long as the arithmetic. Once it has freed a block of this size (which nobody
# touched, so it costs no memory) it keeps as much for itself.
np.empty(1 << 21)


class Sides(NamedTuple):
    """Which options are calls, as numbers: w/2, and what makes erfc(-w d / sqrt(2)) of d.

    Whoever prices the same options again and again makes it once (`sides_of`).
    """

    half_sign: Floats
    to_erfc: Floats


def sides_of(is_call: Flags) -> Sides:
    """Return the sides of options, to be handed to `greeks` with the same `is_call`."""
    half_sign = is_call.astype(np.float64)
    half_sign -= HALF
    return Sides(half_sign, half_sign * MINUS_ROOT_2)


class _Lazy:
    """An array worked out when it is first read and kept in the instance: the next reading is a dictionary look-up.

    One with a public name is a Greek, and is finished as callers see it: at its limit where the option is pinned, in
    their shape, and read-only.
    """

    def __init__(self, compute: "Callable[[Black76Greeks], Floats]") -> None:
        self.__doc__ = compute.__doc__
        self._compute = compute
        self._name = compute.__name__
        self._is_greek = not self._name.startswith("_")

    @overload
    def __get__(self, instance: None, owner: type) -> Self: ...
    @overload
    def __get__(self, instance: "Black76Greeks", owner: type) -> Floats: ...
    def __get__(self, instance: "Black76Greeks | None", owner: type) -> "Self | Floats":
        if instance is None:
            return self
        if instance._pinned is None:
            array = self._compute(instance)
        else:
            with np.errstate(over="ignore", invalid="ignore"):  # one pinned Greek, infinite, may enter into another
                array = self._compute(instance)
        if self._is_greek:
            if instance._pinned is not None:
                array[instance._pinned] = instance._limit_at_pin(self._name, instance._pinned)
            if not instance.shape:
                array = array.reshape(())
            array.setflags(write=False)
        instance.__dict__[self._name] = array
        return array


class Black76Greeks:
    """The value and the Greeks of an array of options, in quote per unit of base, each worked out when first read.

    Every Greek is a read-only float64 array in the broadcast shape of the inputs. Derivatives are at a fixed forward,
    per year and per 1.00 of vol (100 points). Below, D = exp(-rT), v = vol sqrt(T), d1 = ln(F/K)/v + v/2, d2 = d1 - v,
    n = phi(d1), and w is +1 for a call, -1 for a put. Formulas: Black (1976); Haug, The Complete Guide to Option
    Pricing Formulas, 2nd ed. (2007), chapter 2.

    Made by `greeks`. It keeps the arrays it was given: write into them only after reading the Greeks you want.
    """

    def __init__(
        self,
        forward: Floats,
        strike: Floats,
        tau: Floats,
        vol: Floats,
        is_call: Flags,
        rate: float | Floats,
        shape: tuple[int, ...],
        sides: Sides | None = None,
    ) -> None:
        """Take arrays of one shape, of one dimension at least; the Greeks are handed out in `shape`."""
        self.shape = shape
        if sides is not None:
            self.__dict__["_half_sign"], self.__dict__["_to_erfc"] = sides
        self._forward = forward
        self._strike = strike
        self._tau = self._tau_divisor = tau
        self._vol = self._vol_divisor = vol
        self._is_call = is_call
        self._rate = rate
        self._pinned: Flags | None = None
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            # A log1p of the gap over the lesser of the two gives ln(F/K) to the last digit, at the money and far off.
            gap = forward - strike
            lesser = np.minimum(forward, strike)
            moneyness: Floats = np.copysign(np.log1p(np.abs(gap) / lesser), gap)
            self._root_tau: Floats = np.sqrt(tau)
            self._dev = vol * self._root_tau
            self._distance = moneyness / self._dev
            self._half_dev = self._dev * HALF
            self._d1 = self._distance + self._half_dev
            self._d1_squared = self._d1 * self._d1
        self._is_delicate = False
        if forward.size:
            # A NaN or an infinity in any input makes one of these comparisons false. (item(argmin()) is a quick min().)
            least_dev = self._dev.item(self._dev.argmin())
            most_squared = self._d1_squared.item(self._d1_squared.argmax())
            self._is_delicate = least_dev < NARROW_DEV or most_squared > FAR_DISTANCE**2
            if not (lesser.item(lesser.argmin()) > 0 and least_dev >= LEAST_DEV and most_squared < MOST_DISTANCE**2):
                self._refuse_nonsense()
                self._approach_limits(moneyness)
        self._discount = None if isinstance(rate, float) and rate == 0.0 else _discount_factor(rate, tau)

    @_Lazy
    def value(self) -> Floats:
        """Premium, D w (F N(w d1) - K N(w d2))."""
        out = self._forward * self.delta
        out -= self._strike * self._second_chance
        if self._is_delicate:
            self._refine(out)
        return out

    @_Lazy
    def delta(self) -> Floats:
        """dV/dF = D w N(w d1)."""
        return self._signed_chance(self._d1)

    @_Lazy
    def dual_delta(self) -> Floats:
        """dV/dK = -D w N(w d2)."""
        return np.negative(self._second_chance)

    @_Lazy
    def gamma(self) -> Floats:
        """d2V/dF2 = D n / (F v)."""
        out = self._density / self._forward
        out /= self._dev
        return out

    @_Lazy
    def vega(self) -> Floats:
        """dV/dvol = D F n sqrt(T)."""
        out = self._density * self._forward
        out *= self._root_tau
        return out

    @_Lazy
    def theta(self) -> Floats:
        """dV/dt by the calendar = rV - D F n vol / (2 sqrt(T))."""
        out = self.vega * self._vol_decay
        if self._discount is not None:
            out += self._rate * self.value
        return out

    @_Lazy
    def rho(self) -> Floats:
        """dV/dr = -T V."""
        out = self.value * self._tau
        np.negative(out, out)
        return out

    @_Lazy
    def vanna(self) -> Floats:
        """d2V/dF dvol = -D n d2 / vol."""
        out = self._density * self._d2
        out /= self._vol_divisor
        np.negative(out, out)
        return out

    @_Lazy
    def volga(self) -> Floats:
        """d2V/dvol2 = vega d1 d2 / vol."""
        out = self.vega * self._d1_d2
        out /= self._vol_divisor
        return out

    @_Lazy
    def charm(self) -> Floats:
        """d2V/dF dt by the calendar = r delta + D n d2 / (2T)."""
        out = self.vanna * self._vol_decay
        if self._discount is not None:
            out += self._rate * self.delta
        return out

    @_Lazy
    def speed(self) -> Floats:
        """d3V/dF3 = -gamma / F (d1 / v + 1)."""
        out = self._d1 / self._dev
        np.subtract(-1.0, out, out)
        out *= self.gamma
        out /= self._forward
        return out

    @_Lazy
    def zomma(self) -> Floats:
        """d3V/dF2 dvol = gamma (d1 d2 - 1) / vol."""
        out = self._d1_d2 - 1.0
        out *= self.gamma
        out /= self._vol_divisor
        return out

    @_Lazy
    def color(self) -> Floats:
        """d3V/dF2 dt by the calendar = gamma (r + (1 - d1 d2) / (2T))."""
        out = self.zomma * self._vol_decay
        if self._discount is not None:
            out += self._rate * self.gamma
        return out

    @_Lazy
    def _density(self) -> Floats:
        """D n."""
        out = self._d1_squared * MINUS_HALF
        np.exp(out, out)
        out *= PHI_0
        if self._discount is not None:
            out *= self._discount
        return out

    @_Lazy
    def _d2(self) -> Floats:
        return self._distance - self._half_dev

    @_Lazy
    def _d1_d2(self) -> Floats:
        return self._d1 * self._d2

    @_Lazy
    def _half_sign(self) -> Floats:
        return sides_of(self._is_call).half_sign

    @_Lazy
    def _to_erfc(self) -> Floats:
        return self._half_sign * MINUS_ROOT_2

    @_Lazy
    def _vol_decay(self) -> Floats:
        """-vol / (2T): T enters through v and D alone, so d/dt is this times d/dvol, but for what the rate adds."""
        out = self._vol / self._tau_divisor
        out *= MINUS_HALF
        return out

    @_Lazy
    def _second_chance(self) -> Floats:
        """D w N(w d2)."""
        return self._signed_chance(self._d2)

    def _signed_chance(self, d: Floats) -> Floats:
        """D w N(w d), where N(x) = erfc(-x / sqrt(2)) / 2 keeps every digit of a small tail."""
        out = d * self._to_erfc
        erfc(out, out)
        out *= self._half_sign
        if self._discount is not None:
            out *= self._discount
        return out

    def _refine(self, value: Floats) -> None:
        """Overwrite the delicate ones with D max(w(F - K), 0) + D F n (R(z - v/2) - R(z + v/2)), which loses no digits.

        z = |ln(F/K)| / v, and R(x) = N(-x) / phi(x) is Mills' ratio, a scaled erfc: the bracket is |R(|d1|) - R(|d2|)|
        out of the money, and the rest cancels because F phi(d1) = K phi(d2).
        """
        z = np.abs(self._distance)
        is_narrow = self._dev < NARROW_DEV
        is_far = z > FAR_DISTANCE + self._half_dev
        for is_delicate, fall in ((is_narrow, _fall_in_series), (is_far & ~is_narrow, _fall)):
            rows = np.flatnonzero(is_delicate)
            if rows.size:
                forward = self._forward.take(rows)
                out = fall(z.take(rows), self._half_dev.take(rows))
                out *= forward
                out *= self._density.take(rows)
                payoff = forward - self._strike.take(rows)
                payoff *= self._half_sign.take(rows)
                payoff += np.abs(payoff)  # w/2 (F - K) becomes max(w(F - K), 0)
                if self._discount is not None:
                    payoff *= self._discount.take(rows)
                out += payoff
                value.reshape(-1)[rows] = out

    def _refuse_nonsense(self) -> None:
        for name, array, expected in (
            ("forward", self._forward, "above 0"),
            ("strike", self._strike, "above 0"),
            ("tau_years", self._tau, "not below 0"),
            ("vol", self._vol, "not below 0"),
        ):
            is_right = (array > 0.0 if expected == "above 0" else array >= 0.0) & np.isfinite(array)
            if not is_right.all():
                at = int(is_right.argmin())
                raise ValueError(
                    f"{name}: expected finite and {expected}, found {array.item(at)} at position {at} of {array.size}; "
                    "hint: settle an expired option, and drop a bad quote, before pricing"
                )

    def _approach_limits(self, moneyness: Floats) -> None:
        """Move what is at a limit, or beyond, to where the formulas give it without a zero divisor; mark the pinned."""
        pinned = (self._dev < LEAST_DEV) & (self._forward == self._strike)
        moneyness = np.where(np.isfinite(moneyness), moneyness, np.log(self._forward) - np.log(self._strike))
        self._dev = np.clip(self._dev, LEAST_DEV, MOST_DEV)
        self._distance = np.clip(moneyness / self._dev, -MOST_DISTANCE, MOST_DISTANCE)
        if pinned.any():
            self._pinned = pinned
            self._distance[pinned] = MOST_DISTANCE
        self._half_dev = self._dev * HALF
        self._d1 = self._distance + self._half_dev
        self._d1_squared = self._d1 * self._d1
        self._tau_divisor = np.maximum(self._tau, LEAST_YEARS)
        self._vol_divisor = np.maximum(self._vol, LEAST_VOL)

    def _limit_at_pin(self, name: str, pin: Flags) -> Floats | float:
        """Limit of one Greek at F = K as v goes to 0, of the pinned; where no vol is left, time makes no difference."""
        discount = 1.0 if self._discount is None else self._discount[pin]
        rate = self._rate if isinstance(self._rate, float) else self._rate[pin]
        forward, tau, vol, root_tau = self._forward[pin], self._tau[pin], self._vol[pin], self._root_tau[pin]
        density = discount * PHI_0
        delta = discount * self._half_sign[pin]
        has_time = tau > LEAST_YEARS
        vol_per_root = np.divide(vol, root_tau, out=np.where(vol > 0.0, np.inf, 0.0), where=has_time)
        growth = rate + np.divide(0.5, tau, out=np.full_like(tau, np.inf), where=has_time)
        limits: dict[str, Floats | float] = {
            "value": 0.0,
            "delta": delta,
            "dual_delta": -delta,
            "gamma": np.inf,
            "vega": density * forward * root_tau,
            "theta": -0.5 * density * forward * vol_per_root,
            "rho": 0.0,
            "vanna": 0.5 * density * root_tau,
            "volga": 0.0,
            "charm": rate * delta - 0.25 * density * vol_per_root,
            "speed": -np.inf,
            "zomma": -np.inf,
            "color": np.copysign(np.inf, growth),
        }
        return limits[name]


def greeks(
    forward: ArrayLike,
    strike: ArrayLike,
    tau_years: ArrayLike,
    vol: ArrayLike,
    is_call: ArrayLike,
    *,
    rate: float | ArrayLike = 0.0,
    sides: Sides | None = None,
) -> Black76Greeks:
    """Return the Black-76 value and Greeks of options on a forward, none of them worked out before it is read.

    The inputs are broadcast against each other: forward and strike in quote per base, tau_years, vol (0.65 = 65 %),
    is_call boolean, rate continuously compounded. Arrays of float64 in one shape with a rate that is one number, the
    fast case, are used without a copy; there `sides` may say again what is_call does.

    At expiry (T = 0) and at zero vol the Greeks are the limits: value D max(w(F - K), 0), delta wD in the money and 0
    out of it, the others 0, with theta, rho and charm keeping what the rate adds. At F = K exactly: value 0, delta
    wD/2, gamma and color +inf, speed and zomma -inf, vega D F phi(0) sqrt(T), vanna D phi(0) sqrt(T) / 2, volga and
    rho 0, theta and charm -inf at T = 0 unless vol is 0 too.

    Raises ValueError, naming the input and the place, for a NaN, an infinity, a forward or strike not above 0, a
    negative vol, and a negative time: an option past its expiry is settled, not priced. Raises TypeError if is_call is
    not boolean.
    """
    f, k = np.asarray(forward, np.float64), np.asarray(strike, np.float64)
    t, s = np.asarray(tau_years, np.float64), np.asarray(vol, np.float64)
    calls = np.asarray(is_call)
    if calls.dtype != np.bool_:
        raise TypeError(f"is_call: expected booleans, found {calls.dtype}; hint: for w = +1 or -1 pass w > 0")
    r: float | Floats
    if isinstance(rate, float):
        r = rate
    else:
        rates = np.asarray(rate, np.float64)
        r = rates if rates.ndim else rates.item()
    shape = f.shape
    if not (f.ndim and shape == k.shape == t.shape == s.shape == calls.shape and isinstance(r, float)):
        shape = np.broadcast_shapes(shape, k.shape, t.shape, s.shape, calls.shape, np.shape(r))
        flat = shape or (1,)
        f, k, t, s, calls = (np.broadcast_to(array, flat) for array in (f, k, t, s, calls))
        r = r if isinstance(r, float) else np.broadcast_to(r, flat)
        sides = None
    return Black76Greeks(f, k, t, s, calls, r, shape, sides)


def _discount_factor(rate: float | Floats, tau: Floats) -> Floats:
    with np.errstate(invalid="ignore", over="ignore"):
        exponent = -rate * tau
    if exponent.size and not np.abs(exponent).max() < MOST_EXPONENT:
        found = np.ravel(rate)[0] if np.size(rate) == 1 else f"up to {np.abs(rate).max()}"
        raise ValueError(f"rate: expected finite, and |rate x tau_years| below {MOST_EXPONENT:g}, found {found}")
    discount: Floats = np.exp(exponent)
    return discount


def _fall(z: Floats, half_dev: Floats) -> Floats:
    """R(z - half_dev) - R(z + half_dev)."""
    fall = _mills(z - half_dev)
    fall -= _mills(z + half_dev)
    return fall


def _fall_in_series(z: Floats, half_dev: Floats) -> Floats:
    """-2 (R' h + R^(3) h^3/3! + R^(5) h^5/5!) at z: the same to 1e-15, as long as h = half_dev < NARROW_DEV / 2.

    R' = zR - 1 and R^(k+1) = z R^(k) + k R^(k-1). The idea is Jaeckel's (Let's be rational, 2015).
    """
    square = half_dev * half_dev
    r0 = _mills(z)
    r1 = z * r0 - 1.0
    r2 = z * r1 + r0
    r3 = z * r2 + 2.0 * r1
    r4 = z * r3 + 3.0 * r2
    r5 = z * r4 + 4.0 * r3
    return (((r5 * square) / 20.0 + r3) * square / 6.0 + r1) * half_dev * -2.0


def _mills(z: Floats) -> Floats:
    ratio: Floats = erfcx(z * ROOT_HALF)
    ratio *= ROOT_HALF_PI
    return ratio
