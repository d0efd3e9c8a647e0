"""A trader of the perpetual for tests: margin in the vault, and a stage to trade on."""

from __future__ import annotations

from bot.gateways.chain.protocols.perp_v2 import PerpV2
from bot.gateways.chain.settings import HedgeSection
from tests.chains.perp import Perp
from tests.chains.world import World
from tests.gateways.chain.protocols.stage import Stage


class PerpStage(Stage):
    """The stage, with the protocol that was deployed on it."""

    protocol: PerpV2

    def __init__(self, world: World, section: HedgeSection, perp: Perp) -> None:
        super().__init__(world, PerpV2(section, {}, "anvil", world.hedger))
        self.section = section
        self.perp = perp

    @property
    def position_wei(self) -> int:
        """What the hedger holds, by the protocol's own word."""
        return self.perp.position(self.wallet)


def perp_section(perp: Perp) -> HedgeSection:
    """Return the section of the market."""
    return HedgeSection(
        name="ETH-PERP", protocol="perp_v2", underlying="ETH", base="", quote="USDC", lot_base=0.001, tick_px=0.01,
        contracts={"clearing_house": perp.clearing_house.address, "base_token": perp.base.address},
    )  # fmt: skip


def perp_stage(world: World, margin: float = 100_000.0) -> PerpStage:
    """Return a hedger with so much USDC deposited, and the newest block read."""
    perp = world.part("perp")
    if margin:
        perp.deposit(world.hedger, margin)
    stage = PerpStage(world, perp_section(perp), perp)
    stage.look()
    return stage
