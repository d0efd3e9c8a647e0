"""Deribit's words: amounts, ticks in steps, combos left out."""

from __future__ import annotations

from bot.gateways.deribit.market import DeribitMarketWords
from tests.gateways.listings import DERIBIT_COMBO, DERIBIT_INVERSE, DERIBIT_OPTION


def test_combos_are_no_instruments_of_ours() -> None:
    assert not DeribitMarketWords().is_plain(DERIBIT_COMBO)
    assert DeribitMarketWords().is_plain(DERIBIT_OPTION)


def test_amounts_are_money_for_inverse_futures() -> None:
    assert DeribitMarketWords().contract_amount(DERIBIT_INVERSE) == 10.0


def test_steps_that_cannot_be_read_leave_no_schedule() -> None:
    assert DeribitMarketWords().tick_schedule({**DERIBIT_OPTION, "info": {"tick_size_steps": "?"}}) is None
    assert DeribitMarketWords().tick_schedule({**DERIBIT_OPTION, "info": {"tick_size_steps": [{}]}}) is None
