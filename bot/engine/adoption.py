"""New settings for an engine that runs: what it can take up while it does, and what stays as it began.

`Engine.adopt` gives them to everybody who keeps any. What is not named here never changes, whatever new settings say:
the vault's name, its book, its instruments, its accounts and chains, and all that risk was built from.
"""

from __future__ import annotations

from typing import Final

import msgspec

from bot.domain.errors import InvariantBroken
from bot.engine.margin.risk_settings import RiskSettings
from bot.engine.settings import EngineSettings

ADOPTED: Final = (
    "policy",
    "limits",
    "ages",
    "pnl_step_ns",
    "routing",
    "venue_limits",
    "account_max_age_ns",
    "foreign_policy",
    "option_hedges",
    "operator",
)  # besides hedges, the ages of fused prices and what follows of risk
ADOPTED_OF_RISK: Final = (
    "states",
    "max_initial_ratio",
    "review_ns",
    "review_move_fraction",
    "report_max_age_ns",
    "target_ratio",
    "slice_share",
)


def adopted(old: EngineSettings, new: EngineSettings) -> EngineSettings:
    """Return what `old` is with everything of `new` that can be taken up.

    Raises InvariantBroken where other instruments are to be traded: positions and orders are counted in the old ones.
    """
    traded, wanted = _traded(old), _traded(new)
    if traded != wanted:
        raise InvariantBroken(f"expected settings that trade {traded}, found {wanted}")
    hedges = {
        underlying: tuple(
            msgspec.structs.replace(after, instrument=before.instrument)
            for before, after in zip(lines, new.hedges[underlying], strict=True)
        )
        for underlying, lines in old.hedges.items()
    }
    fusion = {
        underlying: msgspec.structs.replace(one, index_max_age_ns=new.fusion[underlying].index_max_age_ns)
        for underlying, one in old.fusion.items()
    }
    risk = None if old.risk is None or new.risk is None else _adopted_risk(old.risk, new.risk)
    taken = {name: getattr(new, name) for name in ADOPTED}
    return msgspec.structs.replace(old, **taken, hedges=hedges, fusion=fusion, risk=risk)


def _adopted_risk(old: RiskSettings, new: RiskSettings) -> RiskSettings:
    return msgspec.structs.replace(old, **{name: getattr(new, name) for name in ADOPTED_OF_RISK})


def _traded(settings: EngineSettings) -> dict[str, list[str]]:
    """Return what is traded: by underlying the hedges in order, the venue of its options, and what has rules at all."""
    found = {base: [one.instrument.instrument_id for one in lines] for base, lines in settings.hedges.items()}
    found |= {f"options of {base}": [one.venue] for base, one in settings.option_hedges.items()}
    return found | {"fused": sorted(settings.fusion), "risk": sorted(settings.risk.accounts if settings.risk else ())}
