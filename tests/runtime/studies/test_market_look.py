from __future__ import annotations

import math

import pytest

from bot.domain.errors import ConfigError
from bot.domain.instruments import Option
from bot.domain.units import NS_PER_HOUR, NS_PER_S, NS_PER_YEAR
from bot.engine.settings import BookLeg
from bot.runtime.session import open_vault_recording
from bot.runtime.studies.market_look import look
from tests.acceptance.vaults import load


def test_it_shows_what_a_policy_would_see_with_what_is_asked_about_added_last() -> None:
    vault = load("eth-straddle")
    recording = open_vault_recording(vault)
    asked = next(one for one in recording.manifest.instruments if one.instrument_id == "ETH-28APR23-2000-C")
    assert isinstance(asked, Option)
    found = look(vault, [BookLeg(asked, -7.0)], recording=recording)
    view = found.views["ETH"]
    assert view.legs.qty_base.tolist() == [-100.0, -100.0, -7.0]
    assert view.legs.strike_px.tolist() == [1900.0, 1900.0, 2000.0]
    assert [leg.instrument.instrument_id for leg in found.options["ETH"]][-1] == "ETH-28APR23-2000-C"
    assert view.hedge_base == 0.0
    assert found.look_years["ETH"] * NS_PER_YEAR == pytest.approx(300e9, rel=0.01)  # a sweep of the chain


def test_it_looks_from_the_moment_asked_for_and_says_where_nothing_is_to_be_seen() -> None:
    vault = load("eth-straddle")
    recording = open_vault_recording(vault)
    at_ns = recording.manifest.start_ns + 5 * NS_PER_HOUR
    assert 0 <= look(vault, at_ns=at_ns, recording=recording).now_ns - at_ns < NS_PER_HOUR
    with pytest.raises(ConfigError, match="found none of ETH"):
        look(vault, at_ns=recording.manifest.end_ns + NS_PER_HOUR, recording=recording)


def test_what_expires_between_the_moment_asked_for_and_the_first_look_is_left_out() -> None:
    """A second before the expiry of the whole book the next thing to be seen is its settlement."""
    vault = load("eth-near-expiry")
    recording = open_vault_recording(vault)
    expiries = [one.expiry_ns for one in recording.manifest.instruments if one.instrument_id == "ETH-14APR23-1900-C"]
    found = look(vault, at_ns=expiries[0] - NS_PER_S, recording=recording)
    assert found.now_ns >= expiries[0]
    assert found.options["ETH"] == ()
    assert math.isnan(found.look_years["ETH"])
