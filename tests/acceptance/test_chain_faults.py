"""What goes wrong on a chain, one fault after the other, for a whole live vault: no hedge is doubled, none is lost."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bot.domain.decisions import BotState, Refusal
from bot.domain.errors import JournalError
from bot.domain.events import OperatorAction
from bot.domain.orders import FillReversed, OrderCanceled, OrderRejected
from bot.domain.units import NS_PER_S
from bot.gateways.chain.nouns import TransactionState
from tests.acceptance.chain_faults import Trouble, behind, in_trouble, start_victim
from tests.chains.anvil import COIN, GWEI
from tests.chains.proxy import ChaosProxy
from tests.chains.world import World

S = TransactionState


@pytest.fixture
def world(worlds: Callable[..., World]) -> Iterator[World]:
    """Return a world whose blocks may come as fast as a test wants them."""
    with behind(worlds()) as lent:
        yield lent


async def _hedged(trouble: Trouble) -> None:
    """Have the first hedge mined and told."""
    await trouble.sent()
    for _ in range(5):  # it may be on its way to the node yet
        await trouble.mine()
        if trouble.ledger_lots:
            return
    raise AssertionError(f"expected the first hedge to be mined, found {trouble.vault.decision}")


@pytest.mark.parametrize("keeps", [True, False], ids=["kept", "lost"])
@pytest.mark.parametrize("depth", [1, 5])
async def test_a_reorg_through_our_hedge_takes_it_back_until_it_is_mined_again(
    world: World, tmp_path: Path, depth: int, *, keeps: bool
) -> None:
    with in_trouble(world, tmp_path) as trouble:
        trouble.proxy.keeps_reorged = keeps
        trouble.need()
        async with trouble.vault.running():
            await _hedged(trouble)
            await trouble.mine(depth - 1)
            world.anvil.reorg(depth)
            await trouble.wait(lambda: not trouble.ledger_lots, "for the fill to be taken back")
            assert trouble.vault.engine.orders.live, "what is in no block is pending"
            await trouble.calm()
            await trouble.check()
        assert len(trouble.intents) == 1
        assert len(trouble.vault.events(FillReversed)) == 1


async def test_what_was_dropped_is_sent_again(world: World, tmp_path: Path) -> None:
    with in_trouble(world, tmp_path) as trouble:
        trouble.proxy.drop_next()
        trouble.need()
        async with trouble.vault.running():
            await trouble.sent()
            await trouble.mine(2)
            await trouble.calm()
            await trouble.check()
        assert len(trouble.intents) == 1
        (life,) = trouble.lives.values()
        assert len(life.attempts) == 1, "the same bytes"


async def test_what_is_stuck_is_replaced_and_counts_once(world: World, tmp_path: Path) -> None:
    with in_trouble(world, tmp_path) as trouble:
        trouble.proxy.hold_next()
        trouble.need()
        async with trouble.vault.running():
            await trouble.sent()
            await trouble.mine_until(lambda: trouble.ledger_lots)
            await trouble.calm()
            await trouble.check()
        assert len(trouble.intents) == 1
        (life,) = trouble.lives.values()
        assert len(life.attempts) == 2
        assert life.attempts[1].max_fee_wei >= 1.1 * life.attempts[0].max_fee_wei


async def test_what_is_stuck_beyond_its_time_is_canceled(world: World, tmp_path: Path) -> None:
    with in_trouble(world, tmp_path) as trouble:
        trouble.proxy.hold_next()
        trouble.need()
        async with trouble.vault.running():
            await trouble.sent()
            await trouble.mine_late(seconds=120)
            await trouble.mine_until(lambda: not trouble.vault.engine.orders.live)
            await trouble.calm(lambda: True)
            await trouble.check(hedges=0, is_hedged=False)
        assert trouble.vault.events(OrderCanceled)
        (life,) = trouble.lives.values()
        assert life.attempts[-1].is_cancel


async def test_a_spike_of_fees_is_followed_up_to_the_caps(world: World, tmp_path: Path) -> None:
    with in_trouble(world, tmp_path) as trouble:
        trouble.need()
        async with trouble.vault.running():
            await trouble.sent()
            world.anvil.set_base_fee(10 * GWEI)
            await trouble.mine(4)
            await trouble.wait(lambda: len(trouble.proxy.sent) > 1, "for the replacement")
            for _ in range(10):
                world.anvil.set_base_fee(10 * GWEI)
                await trouble.mine()
                if trouble.ledger_lots:
                    break
            assert trouble.ledger_lots, "expected the replacement to be mined"
            await trouble.calm()
            await trouble.check()
        assert len(trouble.intents) == 1
        (life,) = trouble.lives.values()
        assert 5 * life.attempts[0].max_fee_wei < life.attempts[-1].max_fee_wei <= 100 * GWEI


async def test_a_node_five_blocks_behind_is_not_believed(world: World, tmp_path: Path) -> None:
    with ChaosProxy(world.anvil) as late, in_trouble(world, tmp_path) as trouble:
        text = trouble.vault.path.read_text()
        urls = f'rpc: ["{late.http_url}", "{trouble.proxy.http_url}"]'
        trouble.vault.path.write_text(text.replace(f'rpc: ["{trouble.proxy.http_url}"]', urls))
        late.lag_blocks = 5
        await trouble.mine_unseen(6)
        trouble.need()
        async with trouble.vault.running():
            await trouble.mine()
            await _hedged(trouble)
            await trouble.calm()
            await trouble.check()
        assert len(trouble.intents) == 1


async def test_two_nodes_that_disagree_stop_trading_until_they_agree(world: World, tmp_path: Path) -> None:
    with ChaosProxy(world.anvil) as liar, in_trouble(world, tmp_path) as trouble:
        text = trouble.vault.path.read_text()
        urls = f'rpc: ["{trouble.proxy.http_url}", "{liar.http_url}"]'
        trouble.vault.path.write_text(text.replace(f'rpc: ["{trouble.proxy.http_url}"]', urls))
        async with trouble.vault.running():
            await trouble.mine()
            (gateway,) = trouble.vault.session.gateways.values()
            gateway._endpoints._patience_ns = 60 * NS_PER_S  # or a slow node's word about a block comes too late
            liar.fork_from(world.anvil.block_number + 1)
            await trouble.mine_unseen(1)
            await trouble.wait(lambda: "no majority" in trouble.venue_reason, "for the split to be seen")
            trouble.need()
            await trouble.mine_unseen(1)
            await asyncio.sleep(0.5)
            assert not trouble.proxy.sent
            assert not trouble.intents
            liar.fork_from(None)
            await trouble.mine(2)
            await _hedged(trouble)
            await trouble.calm()
            await trouble.check()
        assert len(trouble.intents) == 1


async def test_a_stale_oracle_leaves_too_few_to_trade_on(world: World, tmp_path: Path) -> None:
    with in_trouble(world, tmp_path) as trouble:
        trouble.publish(3000.0, age_s=400)
        trouble.need()
        async with trouble.vault.running():
            await trouble.mine(2)
            decision = trouble.vault.decision
            assert decision is not None
            assert decision.refusal is Refusal.ORACLE_HALT
            assert decision.refusal_detail == "ETH: 1 live of 1 sources, 2 needed"
            assert not trouble.intents
            trouble.publish(3000.0)
            await _hedged(trouble)
            await trouble.calm()
            await trouble.check()


async def test_with_an_oracle_frozen_while_the_market_moves_only_what_shrinks_is_traded(
    world: World, tmp_path: Path
) -> None:
    """The feed says 3,000 again and again, whatever happens; Pyth and the pool have moved by 4 %."""
    with in_trouble(world, tmp_path) as trouble:
        trouble.publish(3000.0 * 1.04)
        with trouble.automine():
            world.uniswap.move_to(world.pools["WETH/USDC-500"], world.trader, 3120.0)
        trouble.need()
        async with trouble.vault.running():
            await _hedged(trouble)
            assert "apart" in trouble.vault.engine.desks["ETH"].oracle_doubt
            await trouble.calm()
            await trouble.check()
        assert len(trouble.intents) == 1


async def test_an_oracle_13_percent_off_moves_no_money(world: World, tmp_path: Path) -> None:
    with in_trouble(world, tmp_path) as trouble:
        feed = world.feeds["ETH/USD"]
        with trouble.automine():
            feed.transact("set_answer", round(3000.0 * 1.13 * 10**8))
        trouble.need()
        async with trouble.vault.running():
            await trouble.mine(2)
            decision = trouble.vault.decision
            assert decision is not None
            assert decision.refusal is Refusal.ORACLE_HALT
            assert decision.refusal_detail.startswith("ETH: 0 of 2 live sources near their median 3195, 2 needed")
            assert "chainlink link on local: +6.10% off the median" in decision.refusal_detail
            assert not trouble.intents
            with trouble.automine():
                feed.transact("set_answer", round(3000.0 * 10**8))
            await _hedged(trouble)
            await trouble.calm()
            await trouble.check()


async def test_a_nonce_another_wallet_took_is_a_hedge_that_never_was(world: World, tmp_path: Path) -> None:
    with in_trouble(world, tmp_path) as trouble:
        trouble.proxy.hold_next()
        trouble.need()
        async with trouble.vault.running():
            await trouble.sent()
            others_wei = await trouble.steal_nonce()
            await trouble.mine_until(lambda: len(trouble.intents) == 2)
            await trouble.calm()
            await trouble.check(others_wei=others_wei)
            (gateway,) = trouble.vault.session.gateways.values()
            assert "somebody else signs with the key" in "; ".join(gateway.problems)
        assert len(trouble.intents) == 2


async def test_a_revert_by_slippage_costs_its_gas_and_is_decided_anew(world: World, tmp_path: Path) -> None:
    with in_trouble(world, tmp_path) as trouble:
        trouble.proxy.hold_next()
        trouble.need()
        async with trouble.vault.running():
            await trouble.sent()
            with trouble.automine():
                world.uniswap.move_to(world.pools["WETH/USDC-500"], world.trader, 2985.0)
            trouble.proxy.release()
            await trouble.mine()
            await trouble.wait(lambda: trouble.vault.events(OrderCanceled), "for the revert")
            await trouble.mine(2)
            await trouble.calm()
            await trouble.check()
        assert len(trouble.intents) == 2
        assert all(event.is_expired for event in trouble.vault.events(OrderCanceled))


async def test_without_gas_it_stops_and_says_what_to_send(world: World, tmp_path: Path) -> None:
    changes = {"max_hedges_same_way: 100": "max_hedges_same_way: 100, max_reject_streak: 2"}
    with in_trouble(world, tmp_path, changes=changes) as trouble:
        world.anvil.set_balance(world.hedger, COIN // 100_000)
        trouble.coins_wei = COIN // 100_000
        trouble.need()
        async with trouble.vault.running():
            await trouble.mine_until(lambda: trouble.state[0] is BotState.HALTED)
            why = trouble.state[1]
            assert "gas exhausted" in why
            assert f"hint: send ETH to {world.hedger}" in why
            assert not trouble.proxy.sent
            assert trouble.vault.events(OrderRejected)
            world.anvil.set_balance(world.hedger, COIN)
            trouble.coins_wei = COIN
            await trouble.mine()
            await trouble.operate(OperatorAction.RESUME)
            await trouble.mine_until(lambda: trouble.ledger_lots)
            await trouble.calm()
            await trouble.check()


KILLS = ["before signing", "after signing", "after row signed", "after broadcast", "before row mined",
         "after row mined", "after journal"]  # fmt: skip


@pytest.mark.parametrize("step", KILLS)
def test_killed_at_any_step_there_is_one_hedge(world: World, tmp_path: Path, step: str) -> None:
    with in_trouble(world, tmp_path) as trouble:
        trouble.need()
        trouble.run_to_death(start_victim(trouble, step))

        async def again() -> None:
            async with trouble.vault.running():
                await trouble.mine(3)
                await trouble.calm()
                await trouble.check()

        asyncio.run(again())
        assert len(trouble.intents) in (1, 2), "one that was never signed is decided anew"


async def test_a_reorg_while_no_daemon_runs_is_found_at_the_next_start(world: World, tmp_path: Path) -> None:
    with in_trouble(world, tmp_path) as trouble:
        trouble.proxy.keeps_reorged = False
        trouble.need()
        async with trouble.vault.running():
            await _hedged(trouble)
        world.anvil.reorg(1)
        await trouble.mine_unseen(1)
        async with trouble.vault.running():
            await trouble.mine(2)
            await trouble.calm()
            await trouble.check()
        assert len(trouble.intents) == 1
        assert len(trouble.vault.events(FillReversed)) >= 1


async def test_a_reorg_that_was_written_down_but_never_told_is_told_at_the_next_start(
    world: World, tmp_path: Path
) -> None:
    with in_trouble(world, tmp_path) as trouble:
        trouble.need()
        async with trouble.vault.running():
            await _hedged(trouble)
        trouble.proxy.keeps_reorged = False
        world.anvil.reorg(1)
        trouble.run_to_death(start_victim(trouble, "after row sent reversed"))

        async with trouble.vault.running():
            await trouble.calm()
            await trouble.check()
        assert len(trouble.intents) == 1


async def test_a_pending_hedge_outlives_the_daemon_and_is_followed_by_the_next(
    world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with in_trouble(world, tmp_path) as trouble:
        trouble.proxy.hold_next()
        trouble.need()
        async with trouble.vault.running():
            await trouble.sent()
            await trouble.mine()
        assert "run.transactions_left" in capsys.readouterr().out
        trouble.proxy.release()
        await trouble.mine_unseen(1)
        async with trouble.vault.running():
            await trouble.mine(1)
            await trouble.calm()
            await trouble.check()
        assert len(trouble.intents) == 1


async def test_a_halt_cancels_what_is_pending(world: World, tmp_path: Path) -> None:
    with in_trouble(world, tmp_path) as trouble:
        trouble.proxy.hold_next()
        trouble.need()
        async with trouble.vault.running():
            await trouble.sent()
            await trouble.mine()
            await trouble.operate(OperatorAction.HALT)
            await trouble.wait(lambda: len(trouble.proxy.sent) == 2, "for the cancel")
            await trouble.mine(2)
            await trouble.calm(lambda: True)
            await trouble.check(hedges=0, state=BotState.HALTED, is_hedged=False)


async def test_a_second_daemon_on_the_same_key_is_refused(world: World, tmp_path: Path) -> None:
    with in_trouble(world, tmp_path) as trouble:
        async with trouble.vault.running():
            with pytest.raises(JournalError, match="expected to be the only one that signs with this key") as caught:
                await trouble.run_second()
            assert "hint: stop it first" in str(caught.value)
