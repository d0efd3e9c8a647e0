"""Artefacts: what is written is read again, and nothing damaged, mad or foreign is believed."""

from __future__ import annotations

import json
from datetime import date
from typing import Any

import msgspec
import pytest

from bot.risk.volatility.artefact import Artefact, HorizonModels, Scored, decode, encode, expiry, sealed
from bot.risk.volatility.har import Linear
from bot.risk.volatility.regimes import Regimes
from bot.risk.volatility.seasons import FLAT
from bot.risk.volatility.trees import Boosted, Tree

LINEAR = Linear(("one", "rv24"), (-1.0, 0.9), 0.3, -14.0, -8.0)
LIFTED = Linear(("one", "hour3"), (-1.0, 0.9), 0.3, -14.0, -8.0, lift=0.2)
TREES = Boosted(
    ("rv24",), -9.0, 0.1, (Tree((0, -1, -1), (-9.0, 0.0, 0.0), (1, -1, -1), (2, -1, -1), (0.0, -1.0, 2.0)),), 0.2
)
ERRORS = (0.6, 0.9, 1.6)
ARTEFACT = Artefact(
    as_of=date(2025, 6, 15),
    expires=expiry(date(2025, 6, 15)),
    data="made up",
    assets=("BTC",),
    season=FLAT,
    usual={"BTC": 3e-5},
    horizons=(
        HorizonModels(1, (Scored("trees", TREES, 0.4, ERRORS),), 0.5, ERRORS, 0.45),
        HorizonModels(24, (Scored("linear", LINEAR, 0.2, ERRORS),), 0.4, ERRORS, 0.3),
    ),
    regimes={"BTC": Regimes((0.01, 0.04), ((0.9, 0.1), (0.2, 0.8)), (1.0, 0.0))},
)


def of_one(model: Linear | Boosted) -> HorizonModels:
    return HorizonModels(1, (Scored("x", model, 0.2, ERRORS),), 0.5, ERRORS, 0.4)


def test_what_is_written_is_read_again() -> None:
    text = encode(ARTEFACT)
    assert decode(text) == sealed(ARTEFACT)
    assert encode(decode(text)) == text
    assert expiry(date(2025, 6, 15), 10) == date(2025, 6, 25)
    lifted = msgspec.structs.replace(ARTEFACT, horizons=(of_one(LIFTED),))
    assert decode(encode(lifted)).horizons == lifted.horizons
    assert b"lift" in encode(lifted)
    assert b"lift" not in text  # so that artefacts of before there were any keep their digest


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"usual": {"BTC": 4e-5}}, "changed since"),
        ({"form": 2}, "form 1, found 2"),
        ({"season": "none"}, "in JSON"),
    ],
)
def test_a_changed_or_foreign_file_is_refused(change: dict[str, Any], told: str) -> None:
    table = json.loads(encode(ARTEFACT)) | change
    with pytest.raises(ValueError, match=told):
        decode(json.dumps(table))
    with pytest.raises(ValueError, match="in JSON"):
        decode(b"not at all")


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"expires": date(2025, 6, 15)}, "an end"),
        ({"season": (1.0,) * 167}, "season"),
        ({"season": (1.0,) * 167 + (0.0,)}, "season"),
        ({"usual": {"BTC": -1.0}}, "usual"),
        ({"horizons": ()}, "horizons of"),
        ({"horizons": (ARTEFACT.horizons[1], ARTEFACT.horizons[0])}, "horizons of"),
        ({"levels": (0.9, 0.99, 0.95)}, "levels"),
        ({"regimes": {"BTC": Regimes((0.01,), ((0.5,),), (1.0,))}}, "regimes of BTC"),
        ({"horizons": (HorizonModels(1, (), 0.5, (0.9, 0.6, 1.6), 0.4),)}, "errors"),
        ({"horizons": (of_one(msgspec.structs.replace(LINEAR, names=("one",))),)}, "x at 1 hours"),
        ({"horizons": (of_one(msgspec.structs.replace(TREES, names=())),)}, "x at 1 hours"),
    ],
)  # fmt: skip
def test_numbers_that_are_none_are_refused_though_the_hash_is_right(wrong: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        decode(encode(msgspec.structs.replace(ARTEFACT, **wrong)))


def test_a_number_that_is_none_cannot_even_be_written_as_one() -> None:
    bad = msgspec.structs.replace(LINEAR, coefficients=(-1.0, float("nan")))
    with pytest.raises(ValueError, match="expected"):
        decode(encode(msgspec.structs.replace(ARTEFACT, horizons=(of_one(bad),))))
