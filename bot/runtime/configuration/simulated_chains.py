"""From the simulated chains of a vault file to their pools: the instruments they offer, and the chains themselves.

Must never contact anybody. What a pool's quote money is called and when a chain ends, the recording beside it tells.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from statistics import median
from typing import Final

from bot.domain.instruments import Instrument, Payoff, Spot, TickSchedule
from bot.domain.units import NS_PER_S
from bot.runtime.configuration.chain_sections import ChainSection, SimulatedSection
from bot.runtime.configuration.vault import Vault
from bot.simulation.chain import WEI_PER_GWEI, ChainModel, PoolModel, SimulatedChain
from bot.simulation.recording import recorded_gas_prices_wei
from bot.simulation.venue import Latency

POOL: Final = "POOL"  # after the chain's name in the instrument id
LOT_BASE: Final = 0.001
TICK_PX: Final = 0.01
PIP: Final = 1e-6
MOVE_OF_DEPTH: Final = 0.02  # what `liquidity_quote` moves the price by, to first order


def pool_instrument(chain: str, base: str, instruments: Iterable[Instrument]) -> Spot:
    """Return what trades the pool of a simulated chain, priced in the money that these instruments price its base in.

    The pool's fee is inside its prices, so there is none on top.
    """
    quote = next((one.quote for one in instruments if one.base == base), "USD")
    return Spot(
        instrument_id=f"{chain}:{POOL}",
        venue=chain,
        base=base,
        quote=quote,
        settle=quote,
        price_currency=quote,
        payoff=Payoff.LINEAR,
        contract_size=1.0,
        lot_contracts=LOT_BASE,
        tick_schedule=TickSchedule(TICK_PX),
        taker_bps=0.0,
        maker_bps=0.0,
    )


def pool_instruments(vault: Vault, instruments: Iterable[Instrument]) -> tuple[Spot, ...]:
    """Return the pools of all simulated chains of a vault, beside the instruments of its recording."""
    listed = tuple(instruments)
    return tuple(
        pool_instrument(name, chain.simulated.base, listed)
        for name, chain in vault.chains.items()
        if chain.simulated is not None
    )


def open_simulated_chain(
    section: ChainSection, pool: Spot, *, end_ns: int, latency: Latency, seed: int
) -> SimulatedChain:
    """Return the simulated chain of a pool, before its first block; there are none after `end_ns`.

    Its base fee has the shape of a recorded day of Ethereum and the section's median. Every chain of a vault draws from
    a seed of its own. Raises ValueError for a section without `simulated`.
    """
    simulated = section.simulated
    if simulated is None:
        raise ValueError(f"expected {pool.venue} to be simulated, found a real chain; hint: say so in its section")
    model = ChainModel(
        venue=pool.venue,
        coin=section.coin,
        block_ns=round(section.block_s * NS_PER_S),
        base_fees_wei=_base_fees_wei(simulated),
        tip_wei=simulated.tip_gwei * WEI_PER_GWEI,
        take_probability=simulated.taken_share,
    )
    terms = PoolModel(
        instrument=pool,
        fee_fraction=simulated.fee_pips * PIP,
        depth_quote=simulated.liquidity_quote * 2.0 / MOVE_OF_DEPTH,  # x of base moves the price by 2x/depth
        gas_units=simulated.gas_units,
    )
    own_seed = hashlib.sha256(f"{seed}:{pool.venue}".encode()).digest()
    return SimulatedChain(model, [terms], latency=latency, seed=int.from_bytes(own_seed[:8], "big"), until_ns=end_ns)


def _base_fees_wei(simulated: SimulatedSection) -> tuple[float, ...]:
    """Return the base fee of every minute of a day."""
    recorded_wei = recorded_gas_prices_wei()
    scale = simulated.base_fee_gwei * WEI_PER_GWEI / median(recorded_wei)
    return tuple(fee_wei * scale for fee_wei in recorded_wei)
