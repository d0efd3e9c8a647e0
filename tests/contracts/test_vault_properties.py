"""What holds for a guarded vault whatever happens: anybody comes, goes, hedges, gives and moves prices, in any order.

A share loses value by market moves and by the bounded cost of hedges, and by nothing else; nobody's coming or going
takes from those who stay; claims never exceed what is there; the reserve follows its rule.
"""

from __future__ import annotations

from typing import NamedTuple

from eth_abi.abi import decode
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from tests.chains.contracts import Reverted
from tests.chains.world import World
from tests.contracts.vaults import BPS, PX_ONE, USDC, VIRTUAL_SHARES, WETH, VaultInUse, deploy_vault

SCALE = PX_ONE * 10**12  # base units times a price, by this, is quote units
PHASES = (Phase.explicit, Phase.reuse, Phase.generate)  # shrinking on a chain takes minutes
ONE = 10**36
UNIT = 3  # quote units that the rounding of several steps may come to
MARKET_REFUSES = {
    "STF",
    "Too little received",
    "hedge: too much base",
    "hedge: no good price",
    "hedge: more base than is held",
}

PEOPLE = st.sampled_from(["alice", "bob", "thief"])
PARTS = st.sampled_from([1, 37, 500, 999, 1000]) | st.integers(1, 1000)  # thousandths of the most that is possible


class Look(NamedTuple):
    """A vault at one moment."""

    total: int
    supply: int
    mark: int
    reserve: int
    quote_held: int
    base_held: int
    low_px: int
    oracle_px: int
    quote_there: int
    base_there: int
    shares: tuple[int, int, int]
    worth: tuple[int, int, int]

    def loses_nothing_to(self, other: Look, units: int = 0) -> bool:
        """Tell whether a share is worth as much or more in the other: to the last digit, or but for some units in all.

        The value of base is rounded down to a unit, so a unit of all assets can go when a speck of base does.
        """
        return (other.total + 1 + units) * (self.supply + VIRTUAL_SHARES) >= (self.total + 1) * (
            other.supply + VIRTUAL_SHARES
        )


def look(vault: VaultInUse) -> Look:
    """Look at everything at once."""
    people = [vault.alice, vault.bob, vault.thief]
    asks = [
        (vault.contract, name, ())
        for name in ("totalAssets", "totalSupply", "mark", "reserve", "quote_held", "base_held")
    ]
    asks += [(vault.asset, "balanceOf", (vault.address,)), (vault.base, "balanceOf", (vault.address,))]
    asks += [(vault.contract, "balanceOf", (who,)) for who in people]
    asks += [(vault.contract, "prices", ())]
    answers = vault.world.anvil.batch(
        [
            ("eth_call", [{"to": c.address, "data": "0x" + c.encode(name, *args).hex()}, "latest"])
            for c, name, args in asks
        ]
    )
    numbers = [decode(["uint256"], bytes.fromhex(answer[2:]))[0] for answer in answers[:-1]]
    _, oracle_px, low_px, _ = decode(["bool", "uint256", "uint256", "uint256"], bytes.fromhex(answers[-1][2:]))
    total, supply, mark, reserve, quote, base, quote_there, base_there, *shares = numbers
    worth = tuple(own * (total + 1) // (supply + VIRTUAL_SHARES) for own in shares)
    return Look(
        total, supply, mark, reserve, quote, base, low_px, oracle_px, quote_there, base_there, tuple(shares), worth
    )


class Life(RuleBasedStateMachine):
    """One vault's life."""

    vault: VaultInUse

    def __init__(self) -> None:
        super().__init__()
        self.snapshot = self.vault.world.anvil.snapshot()
        self.anvil = self.vault.world.anvil
        self.now = look(self.vault)

    def teardown(self) -> None:
        try:
            self.everybody_can_leave()
        finally:
            self.anvil.revert(self.snapshot)

    def everybody_can_leave(self) -> None:
        """In kind, all at once, with no price and while paused: what is left is the reserve and rounding."""
        self.vault.feed.transact("set_broken", True)
        self.vault.contract.transact("pause", sender=self.vault.guardian)
        for who, shares in zip((self.vault.alice, self.vault.bob, self.vault.thief), self.now.shares, strict=True):
            if shares:
                self.vault.contract.transact("redeem_in_kind", shares, who, who, sender=who)
        assert self.vault.call("totalSupply") == 0
        quote, base = self.vault.held()
        of_virtual_shares = 2 * VIRTUAL_SHARES / (self.now.supply + VIRTUAL_SHARES)
        assert 0 <= quote - self.vault.call("reserve") <= self.now.quote_held * of_virtual_shares + 4
        assert base <= self.now.base_held * of_virtual_shares + 4

    def calm(self) -> Look:
        """Let the average come to where the pool is, so that nothing but the next step moves a price; look."""
        self.anvil.rpc("evm_increaseTime", self.vault.limit("twap_s") + 1)
        self.anvil.mine()
        self.vault.repeat_px()
        return look(self.vault)

    def act(self, name: str, amount: int, *args: str, sender: str) -> None:
        """Do what nobody may lose by, and check that."""
        before = self.calm()
        self.vault.contract.transact(name, amount, *args, sender=sender)
        self.now = look(self.vault)
        assert before.low_px == self.now.low_px
        assert before.loses_nothing_to(self.now, units=1 if name == "redeem_in_kind" else 0), name

    def most(self, name: str, who: str, part: int, at_most: int) -> int:
        self.calm()
        return min(self.vault.call(name, who), at_most) * part // 1000

    @rule(who=PEOPLE, part=PARTS)
    def deposit(self, who: str, part: int) -> None:
        person = getattr(self.vault, who)
        if amount := self.most("maxDeposit", person, part, 30_000 * USDC):
            self.act("deposit", amount, person, sender=person)

    @rule(who=PEOPLE, amount=st.integers(1, 50))
    def deposit_dust(self, who: str, amount: int) -> None:
        person = getattr(self.vault, who)
        self.calm()
        if self.vault.call("previewDeposit", amount):
            self.act("deposit", amount, person, sender=person)

    @rule(who=PEOPLE, part=PARTS)
    def mint(self, who: str, part: int) -> None:
        person = getattr(self.vault, who)
        if amount := self.most("maxMint", person, part, 30_000 * USDC * VIRTUAL_SHARES):
            self.act("mint", amount, person, sender=person)

    @rule(who=PEOPLE, part=PARTS)
    def withdraw(self, who: str, part: int) -> None:
        person = getattr(self.vault, who)
        if amount := self.most("maxWithdraw", person, part, 2**255):
            self.act("withdraw", amount, person, person, sender=person)

    @rule(who=PEOPLE, part=PARTS)
    def redeem(self, who: str, part: int) -> None:
        person = getattr(self.vault, who)
        if amount := self.most("maxRedeem", person, part, 2**255):
            self.act("redeem", amount, person, person, sender=person)

    @rule(who=PEOPLE, part=PARTS)
    def leave_in_kind(self, who: str, part: int) -> None:
        person = getattr(self.vault, who)
        if amount := self.vault.call("balanceOf", person) * part // 1000:
            self.act("redeem_in_kind", amount, person, person, sender=person)

    @rule(who=PEOPLE, part=PARTS)
    def leave_in_kind_without_a_price(self, who: str, part: int) -> None:
        person = getattr(self.vault, who)
        amount = self.vault.call("balanceOf", person) * part // 1000
        before = self.calm()
        if amount:
            self.vault.feed.transact("set_broken", True)
            self.vault.contract.transact("redeem_in_kind", amount, person, person, sender=person)
            self.vault.feed.transact("set_broken", False)
            self.now = look(self.vault)
            assert before.loses_nothing_to(self.now, units=1)

    @rule(part=PARTS)
    def pass_on(self, part: int) -> None:
        amount = self.vault.call("balanceOf", self.vault.alice) * part // 1000
        before = self.calm()
        self.vault.contract.transact("transfer", self.vault.bob, amount, sender=self.vault.alice)
        self.now = look(self.vault)
        assert before.loses_nothing_to(self.now)
        assert self.now.loses_nothing_to(before)

    @rule(usdc=st.integers(0, 10**12), weth=st.integers(0, 10**20))
    def give(self, usdc: int, weth: int) -> None:
        before = self.calm()
        self.vault.asset.transact("mint", self.vault.address, usdc)
        self.vault.base.transact("transfer", self.vault.address, weth, sender=self.vault.world.trader)
        self.now = look(self.vault)
        assert (before.total, before.supply) == (self.now.total, self.now.supply)

    @rule()
    def settle(self) -> None:
        before = self.calm()
        self.vault.contract.transact("settle", sender=self.vault.thief)
        self.now = look(self.vault)
        assert before.loses_nothing_to(self.now)
        assert self.now.loses_nothing_to(before) or self.now.total - before.total <= UNIT

    @rule(is_buy=st.booleans(), milli=st.integers(1, 15_000), pushed_bps=st.sampled_from([0, 0, -90, -50, 50, 90, 150]))
    def hedge(self, is_buy: bool, milli: int, pushed_bps: int) -> None:
        """The pool may be pushed by somebody beforehand, for or against us."""
        before = self.calm()
        if pushed_bps:
            self.vault.push_pool(before.oracle_px / PX_ONE * (1 + pushed_bps / BPS))
        base_wei = milli * WETH // 1000
        reason = ""
        try:
            self.vault.hedge(is_buy=is_buy, base_wei=base_wei)
        except Reverted as error:
            reason = error.reason
        if reason:
            assert reason in MARKET_REFUSES
            self.vault.push_pool(before.oracle_px / PX_ONE)
            self.now = self.calm()
            assert self.now.base_held == before.base_held
            return
        after = look(self.vault)
        assert after.supply == before.supply
        notional = -(-base_wei * before.oracle_px // SCALE)
        may_cost = notional * self.vault.limit("slippage_bps") // BPS
        lag = abs(after.oracle_px - after.low_px) * base_wei // SCALE  # base counts at the lower of two prices
        drift = abs(after.low_px - before.low_px) * max(before.base_held, after.base_held) // SCALE
        assert after.total >= before.total - may_cost - lag - drift - UNIT
        self.vault.push_pool(before.oracle_px / PX_ONE)
        self.now = self.calm()

    @rule(by_bps=st.integers(-2_000, 2_500))
    def market_moves(self, by_bps: int) -> None:
        before = self.calm()
        px = before.oracle_px / PX_ONE * (1 + by_bps / BPS)
        if not 300 < px < 30_000:
            return
        self.vault.world.set_px(px)
        self.now = self.calm()
        assert (self.now.supply, self.now.base_held) == (before.supply, before.base_held)
        move = before.base_held * (self.now.low_px - before.low_px) // SCALE
        if move < 0:
            assert before.total + move - UNIT <= self.now.total <= before.total + UNIT
        else:
            assert before.total - UNIT <= self.now.total <= before.total + move + UNIT

    @invariant()
    def claims_are_covered(self) -> None:
        now = self.now
        assert now.quote_held <= now.quote_there
        assert now.base_held <= now.base_there
        assert now.reserve <= now.quote_held
        assert now.supply == sum(now.shares)
        assert sum(now.worth) <= now.total
        assert now.total <= now.quote_held + now.base_held * now.low_px // SCALE

    @invariant()
    def the_reserve_follows_its_rule(self) -> None:
        if not hasattr(self, "last"):
            self.last = self.now
        last, now, self.last = self.last, self.now, self.now
        supply = now.supply + VIRTUAL_SHARES
        assert now.mark >= last.mark
        if now.reserve > last.reserve:  # only out of a gain over the mark, and at most its share of it
            assert now.mark > last.mark
        if now.reserve < last.reserve:  # only for those who were deeper under the mark than the tail, and no further
            least = now.mark * supply // ONE * (BPS - self.vault.limit("tail_bps")) // BPS
            px_moved_back = now.total > least + UNIT
            assert not px_moved_back or now.mark == last.mark
        # Whoever holds shares is never better off than at the mark less the tail while there is reserve in hand unpaid.
        if now.base_held == 0 and now.reserve and now.supply:
            least = now.mark * supply // ONE * (BPS - self.vault.limit("tail_bps")) // BPS
            assert now.total >= least - UNIT


def test_a_share_loses_by_the_market_and_the_cost_of_hedges_only(world: World) -> None:
    Life.vault = deploy_vault(
        world, hour_quote=10**8 * USDC, trade_quote=10**8 * USDC, oracle_age_s=90_000, deposit_quote=500_000 * USDC
    )
    Life.vault.deposit(Life.vault.alice, 60_000 * USDC)
    Life.vault.hedge(is_buy=True, base_wei=8 * WETH)
    run_state_machine_as_test(
        Life,
        settings=settings(
            max_examples=7,
            phases=PHASES,
            stateful_step_count=15,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_an_almost_empty_vault_is_no_different(world: World) -> None:
    Life.vault = deploy_vault(
        world, hour_quote=10**8 * USDC, trade_quote=10**8 * USDC, oracle_age_s=90_000, deposit_quote=500_000 * USDC
    )
    run_state_machine_as_test(
        Life,
        settings=settings(
            max_examples=7,
            phases=PHASES,
            stateful_step_count=15,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
