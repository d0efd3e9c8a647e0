"""The instruments most tests trade; a test that needs other terms replaces just those."""

from __future__ import annotations

from bot.domain.instruments import Option, Payoff, Perpetual, TickSchedule

PERPETUAL = Perpetual(
    instrument_id="ETH-PERPETUAL",
    venue="sim",
    base="ETH",
    quote="USD",
    settle="USD",
    price_currency="USD",
    payoff=Payoff.LINEAR,
    contract_size=1.0,
    lot_contracts=0.1,
    tick_schedule=TickSchedule(0.05),
)
INVERSE = Perpetual(
    instrument_id="BTC-PERPETUAL",
    venue="sim",
    base="BTC",
    quote="USD",
    settle="BTC",
    price_currency="USD",
    payoff=Payoff.INVERSE,
    contract_size=10.0,
    lot_contracts=1.0,
    tick_schedule=TickSchedule(0.5),
)
CALL = Option(
    instrument_id="ETH-28APR23-1900-C",
    venue="sim",
    base="ETH",
    quote="USD",
    settle="ETH",
    price_currency="ETH",
    payoff=Payoff.INVERSE,
    contract_size=1.0,
    lot_contracts=1.0,
    tick_schedule=TickSchedule(0.0005),
    strike_px=1900.0,
    expiry_ns=10**18,
    is_call=True,
)
