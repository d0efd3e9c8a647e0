"""Which protocol a hedge section means. Adding one is a module here and a line in `_MODULES`."""

from __future__ import annotations

from importlib import import_module
from typing import Final

from bot.domain.errors import ConfigError
from bot.gateways.chain.nouns import HedgeProtocol
from bot.gateways.chain.settings import ChainSettings, HedgeSection

_MODULES: Final = {
    "uniswap_v3": ("uniswap_v3", "UniswapV3"),
    "aave_v3": ("aave_v3", "AaveV3"),
    "perp_v2": ("perp_v2", "PerpV2"),
    "guarded_vault": ("guarded_vault", "GuardedVault"),
}


def open_protocol(section: HedgeSection, settings: ChainSettings, wallet: str) -> HedgeProtocol:
    """Return the protocol of a section, unread. Raises ConfigError if there is none, or the section lacks something."""
    if section.protocol not in _MODULES:
        known = ", ".join(_MODULES)
        raise ConfigError([f"{section.name}: expected a protocol of {known}, found {section.protocol!r}"])
    module, name = _MODULES[section.protocol]
    factory = getattr(import_module(f"bot.gateways.chain.protocols.{module}"), name)
    protocol: HedgeProtocol = factory(
        section, settings.tokens, settings.venue, wallet, gas_limit_margin=settings.fees.gas_limit_margin
    )
    return protocol
