"""A perpetual of the published Perpetual Protocol v2: predicted to the unit, margin and band minded, funding told."""

from __future__ import annotations

import random

import msgspec
import pytest

from bot.domain.errors import ConfigError
from bot.domain.orders import TimeInForce
from bot.gateways.chain.abi import Undecodable
from bot.gateways.chain.nouns import Amounts, Refused
from bot.gateways.chain.protocols.perp_v2 import GAS_OPEN_UNITS, GAS_TICK_UNITS, GAS_TRADE_UNITS, PerpV2
from tests.chains.contracts import selector_of
from tests.chains.world import World
from tests.gateways.chain.protocols.perp_stage import perp_section, perp_stage

ETH = 10**18
HOUR_S = 3600


def error_of(reason: str) -> bytes:
    """Return a revert with a reason, as Solidity has it."""
    text = reason.encode()
    return selector_of("Error(string)") + (32).to_bytes(32) + len(text).to_bytes(32) + text.ljust(32, b"\0")


class TestTrades:
    """What moves, against prediction, the chain's answer beforehand, and the protocol's own state."""

    def test_a_short_is_opened_increased_reduced_and_closed(self, full_world: World) -> None:
        stage = perp_stage(full_world)
        position_lots = 0
        for size in (-10.0, -5.5, 7.123, -20.0, 28.376, 0.001):
            moved, _ = stage.trade(size)  # holds prediction against eth_call and receipt
            position_lots += round(size * 1000)
            assert moved.base_wei == round(size * 1000) * ETH // 1000
            assert stage.protocol.position_lots() == position_lots
            assert stage.position_wei == position_lots * ETH // 1000
        assert position_lots == 0

    def test_a_position_that_is_the_books_is_no_hedge(self, full_world: World) -> None:
        stage = perp_stage(full_world)
        stage.perp.open(stage.wallet, 3 * ETH)
        section = msgspec.structs.replace(stage.section, inventory_base=3.0)
        stage.protocol = PerpV2(section, {}, "anvil", stage.wallet)
        stage.look()
        assert stage.protocol.position_lots() == 0
        stage.trade(-5.0)
        assert stage.protocol.position_lots() == -5000

    def test_a_position_turns_from_short_to_long_and_back(self, full_world: World) -> None:
        stage = perp_stage(full_world)
        for size, position_lots in ((-5.0, -5000), (12.0, 7000), (-7.0, 0)):
            stage.trade(size)
            assert stage.protocol.position_lots() == position_lots

    def test_it_is_exact_across_ticks_and_words_of_ticks(self, full_world: World) -> None:
        stage = perp_stage(full_world, 30_000_000)
        for size in (-700.0, -1_800.0, -1_100.0, 900.0, 2_699.5, 0.5):
            stage.trade(size)
        assert stage.position_wei == 0

    def test_random_trades_are_exact(self, full_world: World) -> None:
        stage = perp_stage(full_world, 30_000_000)
        sizes = random.Random(20260101)
        position_lots = 0
        for _ in range(30):
            size_lots = round(10 ** sizes.uniform(0.0, 6.0)) * (1 if position_lots < 0 else -1)
            stage.trade(size_lots / 1000)
            position_lots += size_lots
            assert stage.protocol.position_lots() == position_lots

    def test_the_exchanges_fee_is_charged_apart(self, full_world: World) -> None:
        stage = perp_stage(full_world)
        for size in (-3.0, 3.0):
            moved, _ = stage.trade(size)
            charged_on = abs(moved.quote_wei) if size < 0 else abs(moved.net_quote_wei)
            assert moved.fee_quote_wei == pytest.approx(charged_on * 0.001, rel=1e-12)

    def test_the_quote_is_the_pools_price_with_the_exchanges_fee(self, full_world: World) -> None:
        stage = perp_stage(full_world)
        quote = stage.protocol.quote(7)
        assert quote is not None
        assert quote.bid_px == pytest.approx(3000 * 0.999, rel=1e-12)
        assert quote.ask_px == pytest.approx(3000 / 0.999, rel=1e-12)
        small = stage.protocol.expects(stage.intent(0.001))
        assert -small.net_quote_wei / small.base_wei == pytest.approx(quote.ask_px, rel=1e-6)
        assert quote.ts_recv_ns == 7

    def test_depth_is_what_a_trade_costs_beyond_the_quote(self, full_world: World) -> None:
        stage = perp_stage(full_world)
        quote = stage.protocol.quote(0)
        assert quote is not None
        moved = stage.protocol.expects(stage.intent(-30.0))
        cost_fraction = 1.0 - moved.net_quote_wei / ETH / 30.0 / quote.bid_px
        assert cost_fraction == pytest.approx(30.0 / stage.protocol.depth_base, rel=0.01)

    def test_gas_is_what_it_is_said_to_be(self, full_world: World) -> None:
        stage = perp_stage(full_world, 10_000_000)
        assert stage.protocol.gas_units == GAS_OPEN_UNITS
        opening = stage.protocol.build(stage.intent(-10.0))
        assert stage.needs(opening) == pytest.approx(GAS_OPEN_UNITS, rel=0.01)
        assert opening.gas_limit == -(-GAS_OPEN_UNITS * 13 // 10)
        stage.trade(-10.0)
        assert stage.protocol.gas_units == GAS_TRADE_UNITS
        full_world.anvil.warp(60)
        stage.look()
        assert stage.needs(stage.protocol.build(stage.intent(-10.0))) == pytest.approx(GAS_TRADE_UNITS, rel=0.1)
        crossing = stage.protocol.build(stage.intent(-2_000.0))
        assert crossing.gas_limit == -(-(GAS_TRADE_UNITS + GAS_TICK_UNITS) * 13 // 10)
        assert stage.needs(crossing) < crossing.gas_limit / 1.2


class TestFundingAndProfit:
    """What the account is owed or owes besides the position."""

    def test_funding_accrues_to_a_short_below_the_index_and_is_told_when_it_is_settled(self, full_world: World) -> None:
        stage = perp_stage(full_world)
        stage.trade(-10.0)
        full_world.anvil.warp(60)
        full_world.set_px(2_900.0, pools=False)  # the market is 3.4 % above the index: longs pay shorts
        stage.perp.update_index()
        full_world.anvil.warp(8 * HOUR_S)
        stage.look()
        pending = stage.protocol.funding_wei
        assert pending == stage.perp.pending_funding(stage.wallet)
        assert pending == pytest.approx(-10 * 100 / 3 * ETH, rel=0.05)  # a day's is the premium times the size
        intent = stage.intent(4.0)
        receipt = stage.send(stage.protocol.build(intent))
        change = stage.protocol.read_change(intent, receipt)
        assert change is not None
        assert change.funding_wei == pytest.approx(pending, rel=0.001)  # of some seconds more
        assert stage.protocol.read_funding(receipt) == change.funding_wei
        stage.look()
        assert abs(stage.protocol.funding_wei) < abs(pending) / 1000

    def test_reducing_books_its_share_of_the_profit_and_closing_the_rest(self, full_world: World) -> None:
        stage = perp_stage(full_world)
        perp = stage.perp
        before = perp.vault.call("getFreeCollateral", stage.wallet)
        stage.trade(-10.0)
        realized, funding = 0, 0
        for size in (4.0, 6.0):
            stage.look()
            intent = stage.intent(size)
            change = stage.protocol.read_change(intent, stage.send(stage.protocol.build(intent)))
            assert change is not None
            assert change.fee_wei > 0
            realized += change.realized_wei
            funding += change.funding_wei
        after = perp.vault.call("getFreeCollateral", stage.wallet)
        assert (after - before) * 10**12 == pytest.approx(realized - funding, abs=2 * 10**12)
        assert realized < -2 * 29 * ETH  # two fees of a thousandth, and the way back


class TestRefusals:
    """Every reason not to send, in words and with numbers."""

    def test_more_than_the_collateral_carries(self, full_world: World) -> None:
        stage = perp_stage(full_world, 10_000)
        with pytest.raises(Refused) as refusal:
            stage.protocol.build(stage.intent(-40.0))
        words = str(refusal.value)
        assert words.startswith(
            "expected free collateral at the initial margin of 10.00% after trading -40, found -2"
        ), words
        assert words.endswith("(now 10000.00); hint: deposit into the vault, or trade less")

    def test_what_is_free_afterwards_is_predicted(self, full_world: World) -> None:
        stage = perp_stage(full_world, 20_000)
        for size in (-10.0, -15.0, 5.0, 40.0, -20.0):
            stage.look()
            market, _, trade = stage.protocol._trade(stage.intent(size))
            predicted = market.free_after_wei(trade, market.initial_pips)
            stage.trade(size)
            assert stage.protocol.market is not None
            # The mark price and funding go on for the seconds until the trade is mined.
            assert stage.protocol.market.free_wei == pytest.approx(predicted, rel=0.01)

    def test_all_that_is_quoted_can_be_traded_and_hardly_more(self, full_world: World) -> None:
        stage = perp_stage(full_world, 10_000)
        quote = stage.protocol.quote(0)
        assert quote is not None
        assert quote.bid_base == pytest.approx(10_000 / 3000 / 0.101, rel=0.01)
        with pytest.raises(Refused, match="initial margin"):
            stage.protocol.build(stage.intent(-quote.bid_base * 1.02))
        stage.trade(-quote.bid_base * 0.99)

    def test_margin_that_another_use_takes_is_not_free(self, full_world: World) -> None:
        stage = perp_stage(full_world, 10_000)
        perp = stage.perp
        tick = perp.pool.call("slot0").tick // 60 * 60
        order = (perp.base.address, 20 * ETH, 0, tick + 600, tick + 1200, 0, 0, False, 2**48)
        perp.clearing_house.transact("addLiquidity", order, sender=stage.wallet)
        stage.look()
        market = stage.protocol.market
        assert market is not None
        assert market.free_wei == pytest.approx(4_000 * ETH, rel=0.01)
        with pytest.raises(Refused, match=r"found -\d+.\d\d \(now 40\d\d"):
            stage.protocol.build(stage.intent(-20.0))
        stage.trade(-10.0)

    def test_out_of_the_band_and_too_far_at_once(self, full_world: World) -> None:
        stage = perp_stage(full_world, 40_000_000)
        stage.perp.registry.transact("setMarketMaxPriceSpreadRatio", stage.perp.base.address, 20_000)
        stage.look()
        with pytest.raises(Refused, match=r"to stay within 2.00% of the index 3000, found -\d.\d\d%"):
            stage.protocol.build(stage.intent(-2_000.0))
        stage.perp.exchange.transact("setMaxTickCrossedWithinBlock", stage.perp.base.address, 50)
        stage.look()
        with pytest.raises(Refused, match=r"to move by 50 ticks at most, found \d\d\d"):
            stage.protocol.build(stage.intent(-2_000.0))

    def test_a_paused_market(self, full_world: World) -> None:
        stage = perp_stage(full_world)
        intent = stage.intent(-1.0)
        stage.perp.base.transact("pause")
        stage.look()
        assert stage.protocol.quote(0) is None
        with pytest.raises(Refused, match="expected an open market"):
            stage.protocol.build(intent)

    def test_reduce_only_reduces_only(self, full_world: World) -> None:
        stage = perp_stage(full_world)
        with pytest.raises(Refused, match=r"reduces the position of 0, found -1"):
            stage.protocol.build(stage.intent(-1.0, reduce_only=True))
        stage.trade(-2.0)
        stage.protocol.build(stage.intent(2.0, reduce_only=True))
        with pytest.raises(Refused, match=r"reduces the position of -2, found 3"):
            stage.protocol.build(stage.intent(3.0, reduce_only=True))

    def test_limits(self, full_world: World) -> None:
        stage = perp_stage(full_world)
        with pytest.raises(Refused, match=r"expected to sell 1 at 2998 or better, found 2996.\d+ in the newest state"):
            stage.protocol.build(stage.intent(-1.0, 2_998.0))
        with pytest.raises(Refused, match="expected an ioc order with a limit, found market"):
            stage.protocol.build(stage.intent(-1.0, in_force=TimeInForce.MARKET))
        with pytest.raises(Refused, match="expected the market to carry"):
            stage.protocol.build(stage.intent(-1_000_000.0, 1.0))

    def test_before_anything_is_known(self, full_world: World) -> None:
        stage = perp_stage(full_world)
        intent = stage.intent(-1.0)
        fresh = PerpV2(stage.section, {}, "anvil", stage.wallet)
        assert fresh.quote(0) is None
        assert (fresh.position_lots(), fresh.depth_base, fresh.funding_wei) == (0, 0.0, 0)
        assert fresh.approvals() == ()
        with pytest.raises(Refused, match="usable state of the market"):
            fresh.build(intent)
        assert fresh.amount_decimals == (18, 18)


class TestOnTheWay:
    """What happens between deciding and inclusion, and how it is told."""

    def test_a_price_that_ran_away_is_a_miss(self, full_world: World) -> None:
        stage = perp_stage(full_world)
        sale, purchase = (
            stage.protocol.build(stage.intent(size, px)) for size, px in ((-1.0, 2_990.0), (1.0, 3_010.0))
        )
        other = full_world.trader
        stage.perp.deposit(other, 5_000_000)
        for size, request, said in (
            (-600, sale, "CH_TLRS: a sale brings less than its limit"),
            (1_200, purchase, "CH_TMRL: a purchase costs more than its limit"),
        ):
            stage.perp.open(other, size * ETH)
            data = stage.reason(request)
            assert stage.protocol.explain_revert(data) == said
            assert stage.protocol.is_price_miss(data)
            receipt = stage.send(request)
            assert not receipt.is_success
            assert stage.protocol.read_receipt(stage.intent(-1.0), receipt) == Amounts(0, 0)

    def test_a_transaction_that_comes_too_late_does_nothing(self, full_world: World) -> None:
        stage = perp_stage(full_world)
        request = stage.protocol.build(stage.intent(-1.0))
        full_world.anvil.warp(121)
        data = stage.reason(request)
        assert stage.protocol.explain_revert(data) == "CH_TE: the deadline is over"
        assert stage.protocol.is_price_miss(data)

    def test_a_reason_that_is_no_price_miss(self, full_world: World) -> None:
        stage = perp_stage(full_world, 10_000)
        request = stage.protocol.build(stage.intent(-30.0))
        stage.perp.open(stage.wallet, -30 * ETH)
        data = stage.reason(request)
        assert stage.protocol.explain_revert(data) == "CH_NEFCI: not enough free collateral for the initial margin"
        assert not stage.protocol.is_price_miss(data)

    @pytest.mark.parametrize(("code", "is_miss"), [("EX_OPLAS", True), ("EX_OPB", False), ("whatever", False)])
    def test_words_for_codes(self, full_world: World, code: str, is_miss: bool) -> None:
        protocol = PerpV2(perp_section(full_world.part("perp")), {}, "anvil", full_world.hedger)
        words = protocol.explain_revert(error_of(code))
        assert words.startswith(code)
        assert (": " in words) is (code != "whatever")
        assert protocol.is_price_miss(error_of(code)) is is_miss

    def test_an_answer_that_cannot_be_is_no_state_and_nothing_worse(self, full_world: World) -> None:
        stage = perp_stage(full_world)
        stage.trade(-1.0)
        stage.disturb()

    def test_a_position_that_cannot_be_read_is_as_it_was(self, full_world: World) -> None:
        stage = perp_stage(full_world)
        stage.trade(-1.0)
        block = stage.look()
        held = stage.protocol.position_lots()
        assert held < 0
        stage.protocol.update(block, [None] * len(stage.protocol.reads))
        assert stage.protocol.quote(0) is None
        assert stage.protocol.position_lots() == held

    def test_a_receipt_without_our_trade_is_an_error(self, full_world: World) -> None:
        stage = perp_stage(full_world)
        intent = stage.intent(-1.0)
        _, receipt = stage.trade(-1.0)
        with pytest.raises(Undecodable, match="expected one trade of run-"):
            stage.protocol.read_receipt(intent, msgspec.structs.replace(receipt, logs=()))
        assert stage.protocol.read_answer(intent, b"") is None


def test_contracts_that_are_missing_are_named(full_world: World) -> None:
    section = msgspec.structs.replace(perp_section(full_world.part("perp")), contracts={})
    with pytest.raises(ConfigError, match="found none for clearing_house, base_token"):
        PerpV2(section, {}, "anvil", full_world.hedger)
