"""The parts of a quote that no formula of `bot.pricing` is: risk aversions of rules, and how often they hedge."""

from __future__ import annotations

import msgspec
import pytest

from bot.domain.errors import ConfigError
from bot.runtime.studies.market_look import look
from bot.runtime.studies.quoting import find_risk_aversion
from bot.runtime.studies.tuning import FAMILIES, Scale
from strategies import Unhedged
from tests.acceptance.vaults import load


def test_every_rule_set_for_a_risk_aversion_is_read_back_as_that() -> None:
    view = look(load("eth-straddle")).views["ETH"]
    for family, choose in FAMILIES.items():
        if family != "unhedged":
            found = find_risk_aversion(choose(Scale(view, 3e-4)), view)
            assert found.per_quote == pytest.approx(3e-4, rel=0.02), family
    with pytest.raises(ConfigError, match="hedges by a rule"):
        find_risk_aversion(Unhedged(), view)
    flat = msgspec.structs.replace(view, greeks=msgspec.structs.replace(view.greeks, gamma_base_per_px=0.0))
    with pytest.raises(ConfigError, match="expected a risk aversion, found none from gamma 0"):
        find_risk_aversion(FAMILIES["delta_band_edge"](Scale(view, 3e-4)), flat)
