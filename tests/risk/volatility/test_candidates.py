"""Who competes: plain HAR in every contest, no two by one name, and every regressor means something."""

from __future__ import annotations

import pytest

from bot.risk.volatility.candidates import BY_DAY, BY_HOUR, BY_WEEK, PLAIN, Candidate
from bot.risk.volatility.features import DAYS, HOURS_OF_DAY, MAKERS


@pytest.mark.parametrize("contest", [BY_DAY, BY_HOUR, BY_WEEK])
def test_every_contest_can_be_held(contest: tuple[Candidate, ...]) -> None:
    names = [one.name for one in contest]
    assert PLAIN in names
    assert len(set(names)) == len(names)
    for one in contest:
        assert len(set(one.regressors)) == len(one.regressors)
        assert one.is_boosted or one.regressors[0] == "one"
        kinds = {name.rstrip("0123456789") for name in one.regressors if name not in HOURS_OF_DAY}
        assert kinds <= {"one", "season", *DAYS, *MAKERS}
