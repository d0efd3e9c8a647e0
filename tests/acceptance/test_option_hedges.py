"""Options as hedges on a live vault against a loopback Deribit: bought, filled, reconciled, and there afterwards."""

from __future__ import annotations

from bot.domain.events import SubmitOrder
from bot.domain.orders import TimeInForce
from tests.acceptance.live_vaults import LiveVault, live_vault
from tests.venues.faults import drop_reply

MOST_BASE = 10.0
CHANGES = {
    "policy: {type: delta_band, half_width_base: 1.0}": (
        "policy: {type: gamma_vega, risk_aversion_per_quote: 0.01}\n"
        f"option_hedges: {{underlying: ETH, max_position_base: {MOST_BASE:g}, max_premium_quote: 1e5, review_s: 0.5}}"
    )
}


def differing(vault: LiveVault) -> dict[str, tuple[int, float]]:
    """Return where ledger and venue hold different amounts of an option."""
    assert vault.session is not None
    held = vault.session.engine.desks["ETH"].book.option_hedges
    pairs = {
        name: (held[name].lots if name in held else 0, vault.book.position(name).amount)
        for name in vault.market.options
    }
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


def bought(vault: LiveVault) -> float:
    return sum(vault.book.position(name).amount for name in vault.market.options)


async def test_options_are_bought_filled_reconciled_and_survive_a_restart() -> None:
    async with live_vault(changes=CHANGES) as vault:
        vault.faults.next("create", drop_reply())
        async with vault.running() as session:
            await vault.soon(lambda: bought(vault) == 2 * MOST_BASE, "as many options as may be held")
            await vault.soon(lambda: not differing(vault) and vault.is_even, "ledger = venue")
            engine = session.engine
            assert engine.accounts.mismatches == {}
            assert engine.accounts.adoption_count == 0
            assert not set(vault.market.options) & set(engine.foreign.unclaimed.get("deribit", ()))
            book = engine.desks["ETH"].book
            assert {name: qty for name, (_, qty) in book.options.items()} == dict.fromkeys(vault.market.options, -100.0)
            engine.close_steps(vault.decision.now_ns)
            assert abs(engine.pnl().total - engine.pnl_total_quote()) < 1e-6
            await vault.kill()
        before = bought(vault)
        async with vault.running() as session:
            await vault.soon(lambda: session.engine.state == "running", "running again")
            await vault.even()
            assert not differing(vault)
            assert bought(vault) == before, "what is held at the most is not bought again"
            assert session.engine.accounts.adoption_count == 0
        vault.check_orders()
        options = [
            command.intent
            for command in vault.commands()
            if isinstance(command, SubmitOrder) and command.intent.instrument_id in vault.market.options
        ]
        assert options
        assert {intent.time_in_force for intent in options} == {TimeInForce.IOC}
