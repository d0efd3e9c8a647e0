"""Shorts on the published Aave v3 and Uniswap v3: predicted to the unit, held to the floor, refused with numbers."""

from __future__ import annotations

import random

import msgspec
import pytest

from bot.domain.errors import ConfigError
from bot.domain.orders import TimeInForce
from bot.gateways.chain.abi import Undecodable
from bot.gateways.chain.nouns import Amounts, Refused
from bot.gateways.chain.protocols.aave_v3 import (
    GAS_BUY_UNITS,
    GAS_POOL_UNITS,
    GAS_SELL_UNITS,
    GAS_TICK_UNITS,
    GAS_USED_UNITS,
    AaveV3,
)
from tests.chains.world import World
from tests.gateways.chain.protocols.aave_stage import FLOOR, aave_section, aave_stage
from tests.gateways.chain.protocols.stage import token_settings

ETH = 10**18
SLACK = 1.06  # what is written anew in a block of its own, such as a pool's first observation in it, is not always
STF = "STF: a purchase would cost more than its limit"
DAY_S = 86_400


class TestTrades:
    """What moves, against prediction, the chain's answer beforehand, and balances."""

    @pytest.mark.parametrize(
        ("base", "route", "sizes"),
        [
            ("WETH", ("WETH/USDC-500",), (-1.0, -3.0, 1.5, 2.5)),  # open, increase, reduce, close
            ("WETH", ("WETH/USDT-500",), (-2.0, 2.0)),  # the same with base as token0
            ("WBTC", ("WBTC/WETH-3000", "WETH/USDC-500"), (-0.3, -0.05, 0.1, 0.25)),
        ],
    )
    def test_a_short_is_opened_increased_reduced_and_closed(
        self, full_world: World, base: str, route: tuple[str, ...], sizes: tuple[float, ...]
    ) -> None:
        stage = aave_stage(full_world, base, *route)
        quote_token = stage.section.quote
        full_world.give(stage.wallet, **{quote_token: 5_000})  # to buy back with, fees and all
        lot_wei = 10 ** stage.protocol.amount_decimals[0] // 1000
        position_lots = 0
        for size in sizes:
            before = full_world.balance(stage.wallet, quote_token), full_world.balance(stage.wallet, base)
            stage.look()
            moved, _ = stage.trade(size)
            after = full_world.balance(stage.wallet, quote_token), full_world.balance(stage.wallet, base)
            position_lots += round(size * 1000)
            assert moved.base_wei == round(size * 1000) * lot_wei
            assert after[0] - before[0] == moved.quote_wei
            assert after[1] == before[1]
            owed = -position_lots * lot_wei
            assert owed <= stage.debt_wei <= owed + 10 ** stage.protocol.amount_decimals[0] // 10**9  # some interest
            assert stage.protocol.position_lots() == position_lots
            for token in (quote_token, base):  # nothing stays with the executor, nor may anybody take from it
                assert full_world.balance(stage.executor.address, token) == 0
                for spender in (full_world.uniswap.router02.address, stage.aave.pool.address):
                    assert full_world.tokens[token].call("allowance", stage.executor.address, spender) == 0

    def test_random_trades_are_exact(self, full_world: World) -> None:
        stage = aave_stage(full_world, collateral=30_000_000)
        full_world.give(stage.wallet, USDC=5_000_000)
        sizes = random.Random(20260101)
        owed_lots = 0
        for _ in range(20):
            size_lots = min(round(10 ** sizes.uniform(0.0, 6.0)), 2_000_000 - owed_lots)
            is_purchase = 0 < size_lots <= owed_lots
            stage.trade((size_lots if is_purchase else -size_lots) / 1000, 9_000.0 if is_purchase else 1.0)
            owed_lots += -size_lots if is_purchase else size_lots
            assert stage.protocol.position_lots() == -owed_lots

    def test_the_quote_is_the_routes_price_with_its_fees(self, full_world: World) -> None:
        stage = aave_stage(full_world, "WBTC", "WBTC/WETH-3000", "WETH/USDC-500")
        quote = stage.protocol.quote(7)
        assert quote is not None
        pools = full_world.pools
        mid_px = pools["WBTC/WETH-3000"].px * pools["WETH/USDC-500"].px
        assert quote.bid_px == pytest.approx(mid_px * 0.997 * 0.9995, rel=1e-12)
        assert quote.ask_px == pytest.approx(mid_px / 0.997 / 0.9995, rel=1e-12)
        small = stage.protocol.expects(stage.intent(-0.001))
        assert small.quote_wei / 1e6 / 0.001 == pytest.approx(quote.bid_px, rel=1e-5)
        assert (quote.ts_recv_ns, quote.seq) == (7, stage.look().number)

    def test_depth_is_what_a_trade_costs_beyond_the_quote(self, full_world: World) -> None:
        stage = aave_stage(full_world, collateral=600_000)
        quote = stage.protocol.quote(0)
        assert quote is not None
        moved = stage.protocol.expects(stage.intent(-50.0, 1.0))
        cost_fraction = 1.0 - moved.quote_wei / 1e6 / 50.0 / quote.bid_px
        assert cost_fraction == pytest.approx(50.0 / stage.protocol.depth_base, rel=0.01)

    def test_interest_makes_the_short_grow(self, full_world: World) -> None:
        stage = aave_stage(full_world, collateral=60_000_000)
        stage.trade(-900.0)
        before = stage.protocol.position_lots()
        full_world.anvil.warp(30 * DAY_S)
        full_world.freshen()
        stage.look()
        assert stage.protocol.position_lots() < before - 10
        lending = stage.protocol.lending
        assert lending is not None
        assert lending.debt.wei == stage.debt_wei

    def test_a_debt_that_is_the_books_is_no_hedge(self, full_world: World) -> None:
        stage = aave_stage(full_world)
        stage.aave.borrow(stage.wallet, "WETH", 2 * ETH)
        section = msgspec.structs.replace(stage.section, inventory_base=-2.0)
        stage.protocol = AaveV3(section, token_settings(full_world), "anvil", stage.wallet)
        stage.look()
        assert stage.protocol.position_lots() == 0
        stage.trade(-1.5)
        assert stage.protocol.position_lots() == -1500

    def test_gas_is_what_it_is_said_to_be(self, full_world: World) -> None:
        stage = aave_stage(full_world, collateral=20_000_000)
        assert stage.protocol.gas_units == GAS_USED_UNITS
        needed = []
        for size in (-1.0, -1.0, 1.0):
            needed.append(stage.needs(stage.protocol.build(stage.intent(size))))
            assert stage.trade(size)[1].gas_used <= GAS_USED_UNITS * SLACK
        for units, said in zip(needed, (GAS_SELL_UNITS, GAS_SELL_UNITS, GAS_BUY_UNITS), strict=True):
            assert said * 0.75 < units < said * SLACK
        small, large = stage.protocol.build(stage.intent(-1.0)), stage.protocol.build(stage.intent(-2_500.0, 1.0))
        assert small.gas_limit == round(GAS_SELL_UNITS * 1.3)
        assert large.gas_limit == round((GAS_SELL_UNITS + GAS_TICK_UNITS) * 1.3)
        assert stage.needs(large) < large.gas_limit / 1.2
        assert stage.send(large).is_success
        two_pools = aave_stage(full_world, "WBTC", "WBTC/WETH-3000", "WETH/USDC-500", collateral=0)
        over_two = two_pools.protocol.build(two_pools.intent(-1.0))
        assert over_two.gas_limit == round((GAS_SELL_UNITS + GAS_POOL_UNITS) * 1.3)
        assert 0.85 < two_pools.needs(over_two) / (GAS_SELL_UNITS + GAS_POOL_UNITS) < SLACK


class TestFloor:
    """No sale brings the health factor below its floor: not by our sums, and not on the chain."""

    def test_the_health_factor_afterwards_is_predicted_by_the_state_of_the_block(self, full_world: World) -> None:
        stage = aave_stage(full_world)
        full_world.give(stage.wallet, USDC=10_000)
        stage.trade(-7.0)
        lending = stage.protocol.lending
        assert lending is not None
        assert lending.health_factor == stage.aave.health_factor(stage.wallet)
        assert lending.health_factor == pytest.approx(60_000 * 0.85 / 21_000, rel=1e-6)

    def test_a_sale_that_would_go_below_is_refused_with_the_numbers(self, full_world: World) -> None:
        stage = aave_stage(full_world)
        stage.trade(-5.0)
        with pytest.raises(Refused) as refusal:
            stage.protocol.build(stage.intent(-7.0))
        assert str(refusal.value) == (
            "expected a health factor of 1.5000 or more after selling 7, found 1.4167 (before: 3.4000); "
            "hint: at most 6.3322 can be sold, or add collateral"
        )
        quote = stage.protocol.quote(0)
        assert quote is not None
        assert quote.bid_base == pytest.approx(6.332)

    def test_all_that_is_quoted_can_be_sold_and_the_floor_holds(self, full_world: World) -> None:
        stage = aave_stage(full_world)
        quote = stage.protocol.quote(0)
        assert quote is not None
        stage.trade(-quote.bid_base)
        assert FLOOR <= stage.aave.health_factor(stage.wallet) < FLOOR * 1.001

    def test_the_chain_holds_the_floor_when_the_price_moves_on_the_way(self, full_world: World) -> None:
        stage = aave_stage(full_world)
        request = stage.protocol.build(stage.intent(-11.0))
        full_world.set_px(3_200.0, pools=False)
        data = stage.reason(request)
        assert stage.protocol.explain_revert(data) == "health factor below floor"
        assert not stage.protocol.is_price_miss(data)
        receipt = stage.send(request)
        assert not receipt.is_success
        assert stage.debt_wei == 0
        assert stage.protocol.read_receipt(stage.intent(-11.0), receipt) == Amounts(0, 0)

    def test_buying_back_is_never_kept_from_anybody_below_the_floor(self, full_world: World) -> None:
        stage = aave_stage(full_world)
        stage.trade(-11.0)
        full_world.set_px(3_600.0)
        stage.look()
        assert stage.protocol.lending is not None
        assert stage.protocol.lending.health_factor < FLOOR
        stage.trade(5.0)
        assert stage.aave.health_factor(stage.wallet) > FLOOR


class TestRefusals:
    """Every reason not to send, in words and with numbers."""

    def test_more_than_is_lent_or_allowed(self, full_world: World) -> None:
        stage = aave_stage(full_world, collateral=200_000_000)
        stage.aave.pool.transact("withdraw", stage.base, 49_000 * ETH, full_world.deployer, sender=full_world.deployer)
        stage.look()
        with pytest.raises(Refused, match=r"expected 1500 to be available in the reserve, found 1000$"):
            stage.protocol.build(stage.intent(-1500.0, 1.0))
        stage.aave.configurator.transact("setBorrowCap", stage.base, 30)
        stage.look()
        with pytest.raises(Refused, match=r"expected 40 to be left under the borrow cap, found 30$"):
            stage.protocol.build(stage.intent(-40.0))
        debt_token = stage.aave.debt_token("WETH")
        debt_token.transact("approveDelegation", stage.executor.address, 2 * ETH, sender=stage.wallet)
        stage.look()
        with pytest.raises(Refused, match=r"expected 3 to be of credit delegated to the executor, found 2$"):
            stage.protocol.build(stage.intent(-3.0))
        quote = stage.protocol.quote(0)
        assert quote is not None
        assert quote.bid_base == pytest.approx(2.0)

    def test_a_frozen_or_paused_reserve(self, full_world: World) -> None:
        stage = aave_stage(full_world)
        stage.aave.configurator.transact("setReserveFreeze", stage.base, True)
        stage.look()
        with pytest.raises(Refused, match=r"can be borrowed, found that the reserve is frozen$"):
            stage.protocol.build(stage.intent(-1.0))
        stage.aave.configurator.transact("setReservePause", stage.base, True)
        stage.look()
        with pytest.raises(Refused, match="the reserve is frozen and the reserve is paused"):
            stage.protocol.build(stage.intent(-1.0))

    def test_collateral_that_does_not_cover_what_its_threshold_would(self, full_world: World) -> None:
        aave = full_world.part("aave")
        aave.supply(full_world.hedger, USDC=60_000)
        section = msgspec.structs.replace(aave_section(full_world, aave.new_executor()), floor_health_factor=1.01)
        stage = aave_stage(full_world, collateral=0)
        stage.protocol = AaveV3(section, token_settings(full_world), "anvil", full_world.hedger)
        stage.grant()
        stage.look()
        with pytest.raises(Refused, match=r"to cover a loan of 16.5 more at a loan-to-value of 8000 bps.*at most 16 "):
            stage.protocol.build(stage.intent(-16.5))

    def test_buying_back_more_than_is_owed(self, full_world: World) -> None:
        stage = aave_stage(full_world)
        stage.trade(-1.0)
        with pytest.raises(Refused, match=r"at most the debt of 1, found 2; hint: this instrument holds shorts only"):
            stage.protocol.build(stage.intent(2.0))

    def test_buying_back_without_the_money_or_the_permission(self, full_world: World) -> None:
        stage = aave_stage(full_world)
        stage.trade(-2.0)
        usdc = full_world.tokens["USDC"]
        usdc.transact("approve", stage.executor.address, 100 * 10**6, sender=stage.wallet)
        stage.look()
        with pytest.raises(Refused, match=r"the wallet to have approved 3001.\d\d quote, found 100.00"):
            stage.protocol.build(stage.intent(1.0))
        usdc.transact("approve", stage.executor.address, 2**256 - 1, sender=stage.wallet)
        usdc.transact("transfer", full_world.trader, usdc.call("balanceOf", stage.wallet) - 10**6, sender=stage.wallet)
        stage.look()
        with pytest.raises(Refused, match=r"the wallet to have 3001.\d\d quote, found 1.00"):
            stage.protocol.build(stage.intent(1.0))

    def test_money_between_the_price_and_the_limit_is_enough(self, full_world: World) -> None:
        stage = aave_stage(full_world)
        stage.trade(-1.0)
        full_world.give(stage.wallet, USDC=5)
        moved, _ = stage.trade(1.0, 3_500.0)
        assert -3_010 * 10**6 < moved.quote_wei < -3_000 * 10**6
        assert 0 <= full_world.balance(stage.wallet, "USDC") < 10 * 10**6

    def test_a_limit_that_the_newest_state_does_not_meet(self, full_world: World) -> None:
        stage = aave_stage(full_world)
        with pytest.raises(Refused, match=r"expected to sell 1 at 2999 or better, found 2998.4\d+ in the newest state"):
            stage.protocol.build(stage.intent(-1.0, 2_999.0))

    def test_more_than_the_pools_hold(self, full_world: World) -> None:
        stage = aave_stage(full_world)
        with pytest.raises(Refused, match="expected the route to carry 1e"):
            stage.protocol.expects(stage.intent(-1_000_000.0, 1.0))

    def test_an_order_no_transaction_can_carry_out(self, full_world: World) -> None:
        stage = aave_stage(full_world)
        with pytest.raises(Refused, match="expected an order that reduces the short"):
            stage.protocol.build(stage.intent(-1.0, reduce_only=True))
        with pytest.raises(Refused, match="expected an ioc order with a limit, found gtc"):
            stage.protocol.build(stage.intent(-1.0, in_force=TimeInForce.GTC))

    def test_before_anything_is_known(self, full_world: World) -> None:
        stage = aave_stage(full_world)
        intent = stage.intent(-1.0)
        fresh = AaveV3(stage.section, token_settings(full_world), "anvil", stage.wallet)
        assert fresh.quote(0) is None
        assert (fresh.position_lots(), fresh.depth_base) == (0, 0.0)
        with pytest.raises(Refused, match="account on Aave"):
            fresh.build(intent)
        with pytest.raises(Refused, match="pools"):
            fresh.expects(intent)
        with pytest.raises(Refused, match="update first"):
            fresh.approvals()

    def test_an_executor_of_another_router(self, full_world: World) -> None:
        stage = aave_stage(full_world)
        contracts = stage.section.contracts | {"router": full_world.uniswap.router.address}
        section = msgspec.structs.replace(stage.section, contracts=contracts)
        stage.protocol = AaveV3(section, token_settings(full_world), "anvil", stage.wallet)
        stage.look()
        with pytest.raises(Refused, match="to trade with the router 0x"):
            stage.protocol.build(stage.intent(-1.0))


class TestOnTheWay:
    """What happens between deciding and inclusion."""

    def test_a_price_that_ran_away_is_a_miss_and_nothing_is_half_done(self, full_world: World) -> None:
        stage = aave_stage(full_world)
        stage.trade(-2.0)
        sale, purchase = (
            stage.protocol.build(stage.intent(size, px)) for size, px in ((-1.0, 2_990.0), (1.0, 3_010.0))
        )
        debt_wei, money = stage.debt_wei, full_world.balance(stage.wallet, "USDC")
        for px, request, said in ((2_900.0, sale, "Too little received"), (3_100.0, purchase, STF)):
            full_world.set_px(px)
            data = stage.reason(request)
            assert stage.protocol.explain_revert(data) == said
            assert stage.protocol.is_price_miss(data)
            assert not stage.send(request).is_success
        assert debt_wei <= stage.debt_wei < debt_wei + ETH // 10**9  # interest
        assert full_world.balance(stage.wallet, "USDC") == money

    def test_a_transaction_that_comes_too_late_does_nothing(self, full_world: World) -> None:
        stage = aave_stage(full_world)
        stage.trade(-2.0)
        requests = [stage.protocol.build(stage.intent(size)) for size in (-1.0, 1.0)]
        full_world.anvil.warp(121)
        for request in requests:
            data = stage.reason(request)
            assert stage.protocol.explain_revert(data) == "deadline is over"
            assert stage.protocol.is_price_miss(data)

    def test_a_receipt_without_our_trade_is_an_error(self, full_world: World) -> None:
        stage = aave_stage(full_world)
        intent = stage.intent(-1.0)
        _, receipt = stage.trade(-1.0)
        with pytest.raises(Undecodable, match="expected one trade of run-"):
            stage.protocol.read_receipt(intent, msgspec.structs.replace(receipt, logs=receipt.logs[:-1]))

    def test_a_debt_that_cannot_be_read_is_still_owed(self, full_world: World) -> None:
        """A price oracle of Aave's that reverts for a while leaves no state, and a short that is as it was."""
        stage = aave_stage(full_world)
        stage.trade(-2.0)
        block = stage.look()
        stage.protocol.update(block, [None] * len(stage.protocol.reads))
        assert stage.protocol.quote(0) is None
        assert stage.protocol.position_lots() == -2000

    def test_an_answer_that_cannot_be_is_no_state_and_nothing_worse(self, full_world: World) -> None:
        stage = aave_stage(full_world)
        stage.trade(-1.0)
        stage.disturb()

    def test_an_answer_that_tells_nothing(self, full_world: World) -> None:
        stage = aave_stage(full_world)
        assert stage.protocol.read_answer(stage.intent(-1.0), b"") is None


class TestApprovals:
    """What a wallet must grant, and how to see whether it has."""

    def test_what_is_granted_can_be_read(self, full_world: World) -> None:
        aave = full_world.part("aave")
        aave.supply(full_world.hedger, USDC=60_000)
        stage = aave_stage(full_world, collateral=0)
        stage.protocol = AaveV3(
            aave_section(full_world, aave.new_executor()), token_settings(full_world), "anvil", stage.wallet
        )
        stage.look()

        def granted() -> list[int]:
            reads = [(approval.check.to, True, approval.check.data) for approval in stage.protocol.approvals()]
            return [int.from_bytes(answer) for _, answer in full_world.multicall.call("aggregate3", reads)]

        assert granted() == [0, 0]
        stage.grant()
        assert granted() == [2**256 - 1] * 2
        assert [approval.what.partition(" 0x")[0] for approval in stage.protocol.approvals()] == [
            "quote for the executor",
            "credit for the executor",
        ]


class TestSection:
    """What a vault file must say."""

    def test_a_route_that_does_not_lead_from_base_to_quote(self, full_world: World) -> None:
        section = aave_section(
            full_world, full_world.part("aave").new_executor(), "WBTC", "WBTC/WETH-3000", "WETH/USDC-500"
        )
        section = msgspec.structs.replace(section, route=section.route[:1])
        with pytest.raises(ConfigError, match="a route to USDC, found it to end at WETH"):
            AaveV3(section, token_settings(full_world), "anvil", full_world.hedger)

    def test_contracts_that_are_missing_are_named(self, full_world: World) -> None:
        section = aave_section(full_world, full_world.part("aave").new_executor())
        section = msgspec.structs.replace(section, contracts={"pool": section.contracts["pool"]})
        with pytest.raises(ConfigError, match="found none for executor, router"):
            AaveV3(section, token_settings(full_world), "anvil", full_world.hedger)
