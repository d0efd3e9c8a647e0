"""A hedger on Aave v3 for tests: an executor, collateral, permissions, and a stage to trade on."""

from __future__ import annotations

from bot.gateways.chain.protocols.aave_v3 import AaveV3
from bot.gateways.chain.settings import HedgeSection, PoolSettings
from tests.chains.aave import Aave
from tests.chains.contracts import Contract
from tests.chains.world import World
from tests.gateways.chain.protocols.stage import Stage, token_settings

FLOOR = 1.5


class AaveStage(Stage):
    """The stage, with the protocol that was deployed on it and the executor of the hedger."""

    protocol: AaveV3

    def __init__(self, world: World, section: HedgeSection, aave: Aave, executor: Contract) -> None:
        super().__init__(world, AaveV3(section, token_settings(world), "anvil", world.hedger))
        self.section = section
        self.aave = aave
        self.executor = executor
        self.base = world.tokens[section.base].address

    @property
    def debt_wei(self) -> int:
        """What the hedger owes, by Aave's own word."""
        return self.aave.debt(self.wallet, self.section.base)


def pool_settings(world: World, name: str) -> PoolSettings:
    """Return a pool of the world as a vault file would name it."""
    pair, _, fee_pips = name.rpartition("-")
    base, _, quote = pair.partition("/")
    return PoolSettings(address=world.pools[name].address, base=base, quote=quote, fee_pips=int(fee_pips))


def aave_section(world: World, executor: Contract, base: str = "WETH", *route: str) -> HedgeSection:
    """Return the section of a short in `base` that is sold for the last pool's quote."""
    pools = tuple(pool_settings(world, name) for name in route or ("WETH/USDC-500",))
    return HedgeSection(
        name=f"{base}-DEBT", protocol="aave_v3", underlying="BTC" if base == "WBTC" else "ETH", base=base,
        quote=pools[-1].quote, lot_base=0.001, tick_px=0.01, route=pools, floor_health_factor=FLOOR,
        contracts={
            "pool": world.part("aave").pool.address, "executor": executor.address,
            "router": world.uniswap.router02.address,
        },
    )  # fmt: skip


def aave_stage(world: World, base: str = "WETH", *route: str, collateral: float = 60_000.0) -> AaveStage:
    """Return a hedger with so much USDC supplied, all permissions granted, and the newest block read."""
    aave = world.part("aave")
    executor = aave.new_executor()
    if collateral:
        aave.supply(world.hedger, USDC=collateral)
    stage = AaveStage(world, aave_section(world, executor, base, *route), aave, executor)
    stage.grant()
    stage.look()
    return stage
