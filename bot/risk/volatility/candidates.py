"""The models that compete to forecast a variance, by name: what each looks at."""

from __future__ import annotations

from typing import Final

import msgspec

from bot.risk.volatility.features import HOURS_OF_DAY


class Candidate(msgspec.Struct, frozen=True):
    """A linear model of log variance in named regressors, or boosted trees on them.

    `is_lifted`: its mean is taken from its residuals as they are, by hour of the day where it looks at that.
    """

    name: str
    regressors: tuple[str, ...]
    ridge: float = 0.0
    is_boosted: bool = False
    is_lifted: bool = False


HAR: Final = ("one", "rv24", "rv168", "rv720")
RANGE: Final = ("one", "range24", "range168", "range720")
WEEKEND: Final = ("saturday", "sunday", "monday")
EVERYTHING: Final = (
    *HAR,
    *WEEKEND,
    "fall24",
    "range24",
    "range168",
    "range1",
    "down24",
    "bipower24",
    "vague24",
    "season",
)

PLAIN: Final = "HAR"
BY_DAY: Final = (
    Candidate(PLAIN, HAR),
    Candidate("HARQ", (*HAR, "vague24")),
    Candidate("HAR semivariance", ("one", "down24", "up24", "rv168", "rv720")),
    Candidate("HAR jumps", ("one", "bipower24", "jump24", "rv168", "rv720")),
    Candidate("HAR range", RANGE),
    Candidate("HAR weekend", (*HAR, *WEEKEND)),
    Candidate("HAR leverage", (*HAR, "fall24")),
    Candidate("HAR weekend leverage", (*HAR, *WEEKEND, "fall24")),
    Candidate("HAR range leverage", (*RANGE, "fall24")),
    Candidate("HAR range weekend", (*RANGE, *WEEKEND)),
    Candidate("HAR range weekend leverage", (*RANGE, *WEEKEND, "fall24")),
    Candidate("HAR season", (*HAR, "season")),
    Candidate("ridge, everything", EVERYTHING, ridge=0.02),
    Candidate("boosted, everything", EVERYTHING[1:], is_boosted=True),
)

HAR_HOUR: Final = ("one", "rv1", "rv24", "rv168")
CALM_HOUR: Final = ("one", "calm1", "calm6", "rv24", "rv168", "season")
SWING_HOUR: Final = ("one", "late1", "swing1", "swing8", "swing64", "season")
LEVERAGE: Final = ("fall6", "fall24")
BY_HOUR: Final = (
    Candidate(PLAIN, HAR_HOUR),
    Candidate("HAR range", ("one", "range1", "range24", "range168")),
    Candidate("HAR leverage", (*HAR_HOUR, *LEVERAGE)),
    Candidate("HAR season", ("one", "calm1", "rv24", "rv168", "season")),
    Candidate("HAR season, six hours", CALM_HOUR),
    Candidate("HAR season leverage", (*CALM_HOUR, *LEVERAGE)),
    Candidate("HAR season range leverage", (*CALM_HOUR, "range1", "range24", *LEVERAGE)),
    Candidate("HAR season swings", SWING_HOUR),
    Candidate("HAR season swings leverage", (*SWING_HOUR, *LEVERAGE)),
    Candidate("HAR season swings leverage hours", (*SWING_HOUR, *LEVERAGE, *HOURS_OF_DAY), ridge=0.05, is_lifted=True),
    Candidate("boosted, season", (*SWING_HOUR[1:], "calm1", "range24", *LEVERAGE), is_boosted=True),
)

HAR_WEEK: Final = ("one", "rv24", "rv168", "rv720")
BY_WEEK: Final = (
    Candidate(PLAIN, HAR_WEEK),
    Candidate("HAR range", RANGE),
    Candidate("HAR leverage", (*HAR_WEEK, "fall168")),
    Candidate("HAR range leverage", (*RANGE, "fall168")),
    Candidate("HAR to the mean", ("one", "rv168")),
)
