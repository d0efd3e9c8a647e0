"""Trees as arrays: followed by hand, and refused where they are none."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from bot.risk.volatility.trees import Boosted, Tree, is_sound

STUMP = Tree((0, -1, -1), (0.5, 0.0, 0.0), (1, -1, -1), (2, -1, -1), (0.0, -1.0, 2.0))
DEEP = Tree(
    (1, 0, -1, -1, -1), (1.0, 0.5, 0.0, 0.0, 0.0), (1, 2, -1, -1, -1), (4, 3, -1, -1, -1), (0.0, 0.0, 10.0, 20.0, 30.0)
)
MODEL = Boosted(("a", "b"), -9.0, 0.1, (STUMP, DEEP), 0.2)


def test_values_are_found_by_going_down() -> None:
    rows = np.array([[0.5, 0.0], [0.6, 1.0], [0.0, 2.0]])
    assert MODEL.log_mean(rows) == pytest.approx([-9 - 0.1 + 1.0, -9 + 0.2 + 2.0, -9 - 0.1 + 3.0])
    assert MODEL.variance(rows) == pytest.approx(np.exp(MODEL.log_mean(rows) + 0.1))


@pytest.mark.parametrize(
    "wrong",
    [
        {"left": (0, -1, -1)},  # round in a circle
        {"right": (3, -1, -1)},  # leads out
        {"feature": (2, -1, -1)},  # of no regressor
        {"threshold": (float("nan"), 0.0, 0.0)},
        {"value": (0.0, float("inf"), 2.0)},
        {"value": (0.0, 1.0)},
    ],
)
def test_what_is_no_tree_is_told(wrong: dict[str, tuple[float, ...]]) -> None:
    assert is_sound(MODEL)
    bad = msgspec.structs.replace(STUMP, **wrong)
    assert not is_sound(msgspec.structs.replace(MODEL, trees=(DEEP, bad)))
    assert not is_sound(msgspec.structs.replace(MODEL, base=float("nan")))
