#pragma version 0.4.3
#pragma evm-version cancun
#pragma optimize gas
#pragma nonreentrancy on

"""
@title Guarded vault: hedges with one token pair, and bounds what its hedger's key can do
@license Apache-2.0
@notice UNAUDITED. Nobody but its authors has looked for faults in this contract. Do not trust it with more than you can lose.
@dev ERC-4626 over a quote token that may also hold one base token. All of docs/guarded-vault.md is about this file:
     roles, limits, what a hostile hedger's key can cost at most, and what happens when there is no good price.

     - Holdings are counted inside (`quote_held`, `base_held`): tokens sent here uninvited change no share price. Virtual
       shares (a million per smallest unit of the asset) take the profit out of rounding games on an almost empty vault.
     - `nonreentrancy on`: every external function, views and getters too, refuses while another one is at work.
     - Whoever enters pays the higher of oracle and TWAP for the base held, whoever leaves in quote gets the lower.
     - Tokens that take fees on transfer, rebase or call back are not supported; those found out are refused.
     - One departure from ERC-4626: while base is held and there is no good price, totalAssets, convert* and preview*
       revert. No number is better than a wrong one. The max* functions answer 0 then, and never revert.
"""

from ethereum.ercs import IERC20
from ethereum.ercs import IERC20Detailed
from ethereum.ercs import IERC4626

implements: IERC20
implements: IERC4626


interface Feed:  # Chainlink's shape
    def decimals() -> uint8: view

interface Pool:  # Uniswap v3
    def factory() -> address: view
    def fee() -> uint24: view

interface Factory:
    def getPool(a: address, b: address, fee: uint24) -> address: view

struct Timed:  # how SwapRouter takes a swap; the amounts are in, least out for one side, and out, most in for the other
    token_in: address
    token_out: address
    fee: uint24
    recipient: address
    deadline: uint256
    amount: uint256
    limit: uint256
    sqrt_price_limit: uint160

struct Plain:  # how SwapRouter02 takes it
    token_in: address
    token_out: address
    fee: uint24
    recipient: address
    amount: uint256
    limit: uint256
    sqrt_price_limit: uint160

interface SwapRouter:
    def factory() -> address: view
    def exactInputSingle(params: Timed) -> uint256: nonpayable
    def exactOutputSingle(params: Timed) -> uint256: nonpayable

interface SwapRouter02:
    def exactInputSingle(params: Plain) -> uint256: nonpayable
    def exactOutputSingle(params: Plain) -> uint256: nonpayable


struct Prices:  # quote per whole base, 18 decimals; all zero unless every source is fresh and they agree
    ok: bool
    oracle: uint256
    low: uint256
    high: uint256

struct State:  # what the vault is worth once gains and losses up to now are shared with the reserve
    ok: bool
    reserve: uint256
    mark: uint256
    low: uint256  # total assets, base at the lower price
    high: uint256

struct Change:
    value: uint256
    ready_s: uint256


event Hedged:
    venue: indexed(address)
    pool: indexed(address)
    is_buy: bool
    base_amount: uint256
    quote_amount: uint256
    oracle_px: uint256
    decided_block: uint256

event RedeemedInKind:
    sender: indexed(address)
    receiver: indexed(address)
    owner: indexed(address)
    quote_amount: uint256
    base_amount: uint256
    shares: uint256

event Reserve:
    reserve: uint256
    mark: uint256

event Scheduled:
    what: indexed(uint256)
    subject: indexed(address)
    value: uint256
    ready_s: uint256

event Changed:
    what: indexed(uint256)
    subject: indexed(address)
    value: uint256

event Cancelled:
    what: indexed(uint256)
    subject: indexed(address)

event Paused:
    by: indexed(address)
    is_paused: bool

event OwnershipOffered:
    owner: indexed(address)
    heir: indexed(address)

event OwnershipTaken:
    owner: indexed(address)


# Limits by number. Of the first eight larger is looser, of the next two smaller; of the last two neither way is tighter.
SLIPPAGE_BPS: constant(uint256) = 0  # worst fill against the oracle, pool fee included
ORACLE_AGE_S: constant(uint256) = 1
DEVIATION_BPS: constant(uint256) = 2  # TWAP and spot against the oracle
LAG_BLOCKS: constant(uint256) = 3
TRADE_QUOTE: constant(uint256) = 4
HOUR_QUOTE: constant(uint256) = 5
BASE_BPS: constant(uint256) = 6  # base held after a purchase, as a share of all that is held
DEPOSIT_QUOTE: constant(uint256) = 7  # total assets after a deposit
TWAP_S: constant(uint256) = 8  # 0: spot stands in for the TWAP, which protects from much less
DELAY_S: constant(uint256) = 9
RESERVE_BPS: constant(uint256) = 10  # share of gains set aside
TAIL_BPS: constant(uint256) = 11  # loss from the high-water mark that holders bear before the reserve helps
LIMITS: constant(uint256) = 12
CEILINGS: constant(uint256[LIMITS]) = [
    500, 90_000, 1_000, 300, 2**128, 2**128, 10_000, 2**128, 86_400, 2_592_000, 5_000, 5_000
]
MIN_DELAY_S: constant(uint256) = 86_400
LIFETIME_S: constant(uint256) = 1_209_600  # a scheduled change that nobody applies is void after this

# What is allowed, by kind. A venue's value is how it is spoken to, any other's is 1.
VENUE: constant(uint256) = 100
POOL: constant(uint256) = 101
HEDGER: constant(uint256) = 102
GUARDIAN: constant(uint256) = 103
TIMED_ROUTER: constant(uint256) = 1
PLAIN_ROUTER: constant(uint256) = 2

BPS: constant(uint256) = 10_000
ONE: constant(uint256) = 10**36
VIRTUAL_SHARES: constant(uint256) = 10**6
BUCKET_S: constant(uint256) = 600
BUCKETS: constant(uint256) = 7  # the current ten minutes and the six before: never less than a whole hour
AMOUNT_BITS: constant(uint256) = 192
MAX_PX: constant(uint256) = 2**120
SEQUENCER_GRACE_S: constant(uint256) = 3_600
TICK_BITS: constant(uint256) = 19
INVERSE_OF_TICK: constant(uint256) = 2**120 * 10_000 // 10_001  # 1 / 1.0001 with 120 fractional bits

ASSET: immutable(address)
BASE: public(immutable(address))
ORACLE: public(immutable(address))
SEQUENCER: public(immutable(address))  # Chainlink's sequencer uptime feed on a rollup; none: zero
REFERENCE_POOL: public(immutable(address))  # TWAP and spot come from here
FACTORY: immutable(address)
BASE_IS_TOKEN0: immutable(bool)
FEED_SCALE: immutable(uint256)
SCALE: immutable(uint256)  # base units times a price, by this, is quote units

name: public(immutable(String[64]))
symbol: public(immutable(String[16]))
decimals: public(immutable(uint8))
totalSupply: public(uint256)
balanceOf: public(HashMap[address, uint256])
allowance: public(HashMap[address, HashMap[address, uint256]])

owner: public(address)
heir: public(address)
paused: public(bool)
limits: public(uint256[LIMITS])
allowed: public(HashMap[uint256, HashMap[address, uint256]])
scheduled: public(HashMap[uint256, HashMap[address, Change]])

quote_held: public(uint256)  # the reserve included
base_held: public(uint256)
reserve: public(uint256)  # in quote, as of the last settlement
mark: public(uint256)  # high-water mark: assets per share, times ONE
buckets: uint256[BUCKETS]


@deploy
def __init__(
    name_: String[64], symbol_: String[16], asset_: address, base_: address, oracle_: address, sequencer_: address,
    pool_: address, venue_: address, venue_kind_: uint256, owner_: address, guardian_: address, hedger_: address,
    limits_: uint256[LIMITS],
):
    quote_decimals: uint256 = convert(staticcall IERC20Detailed(asset_).decimals(), uint256)
    base_decimals: uint256 = convert(staticcall IERC20Detailed(base_).decimals(), uint256)
    feed_decimals: uint256 = convert(staticcall Feed(oracle_).decimals(), uint256)
    assert max(max(quote_decimals, base_decimals), feed_decimals) <= 18, "deploy: more than 18 decimals"
    assert asset_ != base_ and owner_ != empty(address), "deploy: same tokens or no owner"
    ASSET = asset_
    BASE = base_
    ORACLE = oracle_
    SEQUENCER = sequencer_
    REFERENCE_POOL = pool_
    FACTORY = staticcall Pool(pool_).factory()
    BASE_IS_TOKEN0 = convert(base_, uint160) < convert(asset_, uint160)
    FEED_SCALE = 10**(18 - feed_decimals)
    SCALE = 10**(18 + base_decimals - quote_decimals)
    name = name_
    symbol = symbol_
    decimals = convert(quote_decimals + 6, uint8)
    for i: uint256 in range(LIMITS):
        self._grant(i, empty(address), limits_[i])
    self._grant(POOL, pool_, 1)
    self._grant(VENUE, venue_, venue_kind_)
    self._grant(HEDGER, hedger_, 1)
    self._grant(GUARDIAN, guardian_, 1)
    self.mark = ONE // VIRTUAL_SHARES
    self.owner = owner_
    log OwnershipTaken(owner=owner_)


# What holders do

@view
@external
def asset() -> address:
    return ASSET


@view
@external
def totalAssets() -> uint256:
    return self._priced_state().low


@view
@external
def convertToShares(assets: uint256) -> uint256:
    return self._shares_down(assets, self._priced_state().low)


@view
@external
def convertToAssets(shares: uint256) -> uint256:
    return self._assets_down(shares, self._priced_state().low)


@view
@external
def maxDeposit(receiver: address) -> uint256:
    return self._room(self._state())


@view
@external
def maxMint(receiver: address) -> uint256:
    state: State = self._state()
    return self._shares_down(self._room(state), state.high)


@view
@external
def maxWithdraw(owner: address) -> uint256:
    state: State = self._state()
    if self.paused or not state.ok:
        return 0
    return min(self._assets_down(self.balanceOf[owner], state.low), self.quote_held - state.reserve)


@view
@external
def maxRedeem(owner: address) -> uint256:
    state: State = self._state()
    if self.paused or not state.ok:
        return 0
    return min(self.balanceOf[owner], self._shares_down(self.quote_held - state.reserve, state.low))


@view
@external
def previewDeposit(assets: uint256) -> uint256:
    return self._shares_down(assets, self._priced_state().high)


@view
@external
def previewMint(shares: uint256) -> uint256:
    return self._assets_up(shares, self._priced_state().high)


@view
@external
def previewWithdraw(assets: uint256) -> uint256:
    return self._shares_up(assets, self._priced_state().low)


@view
@external
def previewRedeem(shares: uint256) -> uint256:
    return self._assets_down(shares, self._priced_state().low)


@external
def deposit(assets: uint256, receiver: address) -> uint256:
    state: State = self._settle()
    shares: uint256 = self._shares_down(assets, state.high)
    self._enter(assets, shares, receiver, state)
    return shares


@external
def mint(shares: uint256, receiver: address) -> uint256:
    state: State = self._settle()
    assets: uint256 = self._assets_up(shares, state.high)
    self._enter(assets, shares, receiver, state)
    return assets


@external
def withdraw(assets: uint256, receiver: address, owner: address) -> uint256:
    shares: uint256 = self._shares_up(assets, self._settle().low)
    self._leave(assets, shares, receiver, owner)
    return shares


@external
def redeem(shares: uint256, receiver: address, owner: address) -> uint256:
    assets: uint256 = self._assets_down(shares, self._settle().low)
    self._leave(assets, shares, receiver, owner)
    return assets


@external
def redeem_in_kind(shares: uint256, receiver: address, owner: address) -> (uint256, uint256):
    """
    @notice Leave with a share of the quote and of the base. Needs no price and works while paused: nobody is locked in.
    @return Quote and base paid out. The reserve stays, unless there is a good price and the rule releases it first.
    """
    assert receiver not in [empty(address), self], "leave: bad receiver"
    state: State = self._state()
    if state.ok:
        self._write(state)
    supply: uint256 = self.totalSupply + VIRTUAL_SHARES
    quote_amount: uint256 = (self.quote_held - self.reserve) * shares // supply
    base_amount: uint256 = self.base_held * shares // supply
    self._burn(owner, shares)
    self.quote_held -= quote_amount
    self.base_held -= base_amount
    self._push(ASSET, receiver, quote_amount)
    self._push(BASE, receiver, base_amount)
    log RedeemedInKind(
        sender=msg.sender, receiver=receiver, owner=owner, quote_amount=quote_amount, base_amount=base_amount, shares=shares
    )
    return quote_amount, base_amount


@external
def settle():
    """
    @notice Share gains and losses up to now with the reserve. Anyone may; every deposit, withdrawal and hedge does.
    """
    self._settle()


@external
def transfer(to: address, amount: uint256) -> bool:
    self._move(msg.sender, to, amount)
    return True


@external
def approve(spender: address, amount: uint256) -> bool:
    self.allowance[msg.sender][spender] = amount
    log IERC20.Approval(owner=msg.sender, spender=spender, value=amount)
    return True


@external
def transferFrom(owner: address, to: address, amount: uint256) -> bool:
    self._use_allowance(owner, amount)
    self._move(owner, to, amount)
    return True


# What the hedger may do: this, and nothing else

@external
def hedge(
    venue: address, pool: address, is_buy: bool, base_amount: uint256, limit_quote: uint256, decided_block: uint256,
    deadline: uint256,
) -> uint256:
    """
    @notice Buy or sell exactly `base_amount` against quote, for the vault itself.
    @param limit_quote Most to pay, or least to get. The vault's own limit from the oracle holds where it is tighter.
    @param decided_block The block whose state this was decided on.
    @return Quote paid, or received.
    """
    kind: uint256 = self.allowed[VENUE][venue]
    assert self.allowed[HEDGER][msg.sender] != 0, "hedge: not a hedger"
    assert not self.paused, "hedge: paused"
    assert kind != 0, "hedge: venue not allowed"
    assert self.allowed[POOL][pool] != 0, "hedge: pool not allowed"
    assert block.timestamp <= deadline, "hedge: past its deadline"
    assert decided_block <= block.number, "hedge: decided on a block to come"
    assert block.number - decided_block <= self.limits[LAG_BLOCKS], "hedge: decided too many blocks ago"
    assert base_amount != 0, "hedge: nothing to do"
    prices: Prices = self._prices()
    assert prices.ok, "hedge: no good price"
    notional: uint256 = self._quote_up(base_amount, prices.oracle)
    assert notional <= self.limits[TRADE_QUOTE], "hedge: over the cap of one trade"
    self._count(notional)

    slippage_bps: uint256 = self.limits[SLIPPAGE_BPS]
    worst: uint256 = 0
    approved: uint256 = base_amount
    if is_buy:
        worst = self._quote_down(base_amount, prices.oracle) * (BPS + slippage_bps) // BPS
        worst = min(min(worst, limit_quote), self.quote_held - self.reserve)
        approved = worst
    else:
        assert base_amount <= self.base_held, "hedge: more base than is held"
        worst = max(self._div_up(notional * (BPS - slippage_bps), BPS), limit_quote)

    quote_before: uint256 = staticcall IERC20(ASSET).balanceOf(self)
    base_before: uint256 = staticcall IERC20(BASE).balanceOf(self)
    token_in: address = ASSET if is_buy else BASE
    assert extcall IERC20(token_in).approve(venue, approved, default_return_value=True), "hedge: approval refused"
    self._swap(venue, kind, pool, is_buy, base_amount, worst, deadline)
    if staticcall IERC20(token_in).allowance(self, venue) != 0:
        assert extcall IERC20(token_in).approve(venue, 0, default_return_value=True), "hedge: approval refused"

    # What the venue says is not asked: only what this contract has before and after counts.
    quote_after: uint256 = staticcall IERC20(ASSET).balanceOf(self)
    base_after: uint256 = staticcall IERC20(BASE).balanceOf(self)
    quote_amount: uint256 = 0
    if is_buy:
        assert base_after >= base_before + base_amount, "hedge: less base than bought"
        assert quote_before <= quote_after + worst, "hedge: paid over the limit"
        quote_amount = quote_before - quote_after
        self.quote_held -= quote_amount
        self.base_held += base_amount
        base_value: uint256 = self._quote_down(self.base_held, prices.oracle)
        gross: uint256 = base_value + self.quote_held - self.reserve
        assert base_value * BPS <= gross * self.limits[BASE_BPS], "hedge: too much base"
    else:
        assert base_after + base_amount >= base_before, "hedge: more base gone than sold"
        assert quote_after >= quote_before + worst, "hedge: got less than the limit"
        quote_amount = quote_after - quote_before
        self.quote_held += quote_amount
        self.base_held -= base_amount
    self._write(self._settled(prices))
    log Hedged(
        venue=venue, pool=pool, is_buy=is_buy, base_amount=base_amount, quote_amount=quote_amount,
        oracle_px=prices.oracle, decided_block=decided_block,
    )
    return quote_amount


@view
@external
def used_this_hour() -> uint256:
    """
    @return Notional in quote that counts against the hourly cap now.
    """
    return self._used()


@view
@external
def prices() -> (bool, uint256, uint256, uint256):
    """
    @return Whether there is a good price, then oracle, lower and higher price (18 decimals); zeros when there is none.
    """
    found: Prices = self._prices()
    return found.ok, found.oracle, found.low, found.high


# What owner and guardian may do

@external
def pause():
    assert self.allowed[GUARDIAN][msg.sender] != 0 or msg.sender == self.owner, "pause: not a guardian"
    self.paused = True
    log Paused(by=msg.sender, is_paused=True)


@external
def unpause():
    self._only_owner()
    self.paused = False
    log Paused(by=msg.sender, is_paused=False)


@external
def change(what: uint256, subject: address, setting: uint256):
    """
    @notice Change a limit (by its number, subject zero) or what is allowed (by its kind; setting 0 forbids).
    @dev What tightens holds at once and drops what was scheduled for the same subject. What loosens can be applied
         after the delay.
    """
    self._only_owner()
    self._check(what, subject, setting)
    if self._is_loosening(what, subject, setting):
        ready_s: uint256 = block.timestamp + self.limits[DELAY_S]
        self.scheduled[what][subject] = Change(value=setting, ready_s=ready_s)
        log Scheduled(what=what, subject=subject, value=setting, ready_s=ready_s)
    else:
        self._apply(what, subject, setting)


@external
def apply(what: uint256, subject: address):
    self._only_owner()
    planned: Change = self.scheduled[what][subject]
    assert planned.ready_s != 0, "change: not scheduled"
    assert block.timestamp >= planned.ready_s, "change: its delay is not over"
    assert block.timestamp <= planned.ready_s + LIFETIME_S, "change: too old"
    self._grant(what, subject, planned.value)


@external
def cancel(what: uint256, subject: address):
    assert self.allowed[GUARDIAN][msg.sender] != 0 or msg.sender == self.owner, "cancel: not a guardian"
    self.scheduled[what][subject] = empty(Change)
    log Cancelled(what=what, subject=subject)


@external
def rescue(token: address, receiver: address) -> uint256:
    """
    @notice Send away what came here uninvited. What is counted as held is out of reach.
    """
    self._only_owner()
    amount: uint256 = staticcall IERC20(token).balanceOf(self)
    if token == ASSET:
        amount -= self.quote_held
    elif token == BASE:
        amount -= self.base_held
    self._push(token, receiver, amount)
    return amount


@external
def offer_ownership(heir: address):
    self._only_owner()
    self.heir = heir
    log OwnershipOffered(owner=msg.sender, heir=heir)


@external
def take_ownership():
    assert msg.sender == self.heir, "owner: not offered to the caller"
    self.owner = msg.sender
    self.heir = empty(address)
    log OwnershipTaken(owner=msg.sender)


# Prices

@view
@internal
def _prices() -> Prices:
    """
    Never reverts for what a source answers: holders can leave in kind whatever happens to the sources.
    """
    nothing: Prices = empty(Prices)
    if SEQUENCER != empty(address):
        up: bool = False
        answer: int256 = 0
        started_s: uint256 = 0
        unused_s: uint256 = 0
        up, answer, started_s, unused_s = self._round(SEQUENCER)
        if not up or answer != 0 or started_s == 0 or started_s + SEQUENCER_GRACE_S >= block.timestamp:
            return nothing
    found: bool = False
    oracle_answer: int256 = 0
    unused: uint256 = 0
    updated_s: uint256 = 0
    found, oracle_answer, unused, updated_s = self._round(ORACLE)
    if not found or oracle_answer <= 0 or updated_s == 0 or updated_s > block.timestamp:
        return nothing
    if block.timestamp - updated_s > self.limits[ORACLE_AGE_S]:
        return nothing
    if convert(oracle_answer, uint256) > MAX_PX // FEED_SCALE:
        return nothing
    oracle_px: uint256 = convert(oracle_answer, uint256) * FEED_SCALE

    spot_px: uint256 = self._spot()
    twap_px: uint256 = spot_px
    if self.limits[TWAP_S] != 0:
        twap_px = self._twap(self.limits[TWAP_S])
    near_bps: uint256 = self.limits[DEVIATION_BPS]
    if not self._is_near(spot_px, oracle_px, near_bps) or not self._is_near(twap_px, oracle_px, near_bps):
        return nothing
    return Prices(ok=True, oracle=oracle_px, low=min(oracle_px, twap_px), high=max(oracle_px, twap_px))


@view
@internal
def _round(feed: address) -> (bool, int256, uint256, uint256):
    """
    Whether the feed answered at all, then its answer, when the round started, and when it was updated.
    """
    is_done: bool = False
    data: Bytes[160] = b""
    is_done, data = raw_call(
        feed, method_id("latestRoundData()"), max_outsize=160, is_static_call=True, revert_on_failure=False
    )
    if not is_done or len(data) != 160:
        return False, 0, 0, 0
    round_id: uint256 = 0
    answer: int256 = 0
    started_s: uint256 = 0
    updated_s: uint256 = 0
    answered_in: uint256 = 0
    round_id, answer, started_s, updated_s, answered_in = abi_decode(data, (uint256, int256, uint256, uint256, uint256))
    if max(started_s, updated_s) > MAX_PX:
        return False, 0, 0, 0
    return True, answer, started_s, updated_s


@view
@internal
def _spot() -> uint256:
    is_done: bool = False
    data: Bytes[32] = b""
    is_done, data = raw_call(
        REFERENCE_POOL, method_id("slot0()"), max_outsize=32, is_static_call=True, revert_on_failure=False
    )
    if not is_done or len(data) != 32:
        return 0
    root_x96: uint256 = abi_decode(data, (uint256))
    if root_x96 >= 2**128:
        return 0
    return self._px(root_x96 * root_x96 >> 64)


@view
@internal
def _twap(window_s: uint256) -> uint256:
    ago: DynArray[uint32, 2] = [convert(window_s, uint32), 0]
    is_done: bool = False
    data: Bytes[160] = b""
    is_done, data = raw_call(
        REFERENCE_POOL,
        abi_encode(ago, method_id=method_id("observe(uint32[])")),
        max_outsize=160, is_static_call=True, revert_on_failure=False,
    )
    if not is_done or len(data) != 160:
        return 0
    head: uint256[3] = empty(uint256[3])
    first: int256 = 0
    last: int256 = 0
    head[0], head[1], head[2], first, last = abi_decode(data, (uint256, uint256, uint256, int256, int256))
    tick: int256 = (last - first) // convert(window_s, int256)
    size: uint256 = convert(abs(tick), uint256)
    if size >= 2**TICK_BITS:
        return 0
    # 1.0001 to the power of minus size, by squaring
    ratio: uint256 = 2**120
    power: uint256 = INVERSE_OF_TICK
    for bit: uint256 in range(TICK_BITS):
        if size & (1 << bit) != 0:
            ratio = ratio * power >> 120
        power = power * power >> 120
    if ratio == 0:
        return 0
    return self._px(ratio << 8 if tick < 0 else (2**240 // ratio) << 8)


@view
@internal
def _px(pool_px_x128: uint256) -> uint256:
    """
    The pool's price (token1 per token0, smallest units, 128 fractional bits) as ours; 0 where it is out of any reason.
    """
    px: uint256 = 0
    if pool_px_x128 == 0:
        return 0
    if not BASE_IS_TOKEN0:
        px = SCALE * 2**128 // pool_px_x128
    elif pool_px_x128 <= max_value(uint256) // SCALE:
        px = pool_px_x128 * SCALE >> 128
    return px if px <= MAX_PX else 0


@pure
@internal
def _is_near(px: uint256, reference_px: uint256, bps: uint256) -> bool:
    return (max(px, reference_px) - min(px, reference_px)) * BPS <= reference_px * bps


# What the vault is worth

@view
@internal
def _state() -> State:
    """
    `ok` is false while base is held and there is no good price.
    """
    prices: Prices = empty(Prices)
    if self.base_held != 0:
        prices = self._prices()
        if not prices.ok:
            return empty(State)
    return self._settled(prices)


@view
@internal
def _priced_state() -> State:
    state: State = self._state()
    assert state.ok, "vault: no good price"
    return state


@view
@internal
def _settled(prices: Prices) -> State:
    """
    A gain over the high-water mark gives a share of itself to the reserve, as far as there is free quote. A loss deeper
    than the tail limit under the mark is made good from the reserve, down to the limit, as far as the reserve goes.
    """
    reserve: uint256 = self.reserve
    mark: uint256 = self.mark
    free: uint256 = self.quote_held - reserve
    shares: uint256 = self.totalSupply + VIRTUAL_SHARES
    base_value: uint256 = self._quote_down(self.base_held, prices.low)
    total: uint256 = free + base_value + 1
    at_mark: uint256 = self._div_up(mark * shares, ONE)
    if total > at_mark:
        cut: uint256 = min((total - at_mark) * self.limits[RESERVE_BPS] // BPS, free)
        reserve += cut
        total -= cut
    else:
        least: uint256 = at_mark * (BPS - self.limits[TAIL_BPS]) // BPS
        if total < least:
            released: uint256 = min(reserve, least - total)
            reserve -= released
            total += released
    # Also where the gain is less than a unit: a deposit after it must not be taken for a gain at the same price.
    mark = max(mark, total * ONE // shares)
    high: uint256 = total - base_value + self._quote_up(self.base_held, prices.high)
    return State(ok=True, reserve=reserve, mark=mark, low=total - 1, high=high - 1)


@internal
def _settle() -> State:
    state: State = self._priced_state()
    self._write(state)
    return state


@internal
def _write(state: State):
    if state.reserve != self.reserve or state.mark != self.mark:
        self.reserve = state.reserve
        self.mark = state.mark
        log Reserve(reserve=state.reserve, mark=state.mark)


@view
@internal
def _room(state: State) -> uint256:
    cap: uint256 = self.limits[DEPOSIT_QUOTE]
    if self.paused or not state.ok or state.low >= cap:
        return 0
    return cap - state.low


@view
@internal
def _shares_down(assets: uint256, total: uint256) -> uint256:
    return assets * (self.totalSupply + VIRTUAL_SHARES) // (total + 1)


@view
@internal
def _shares_up(assets: uint256, total: uint256) -> uint256:
    return self._div_up(assets * (self.totalSupply + VIRTUAL_SHARES), total + 1)


@view
@internal
def _assets_down(shares: uint256, total: uint256) -> uint256:
    return shares * (total + 1) // (self.totalSupply + VIRTUAL_SHARES)


@view
@internal
def _assets_up(shares: uint256, total: uint256) -> uint256:
    return self._div_up(shares * (total + 1), self.totalSupply + VIRTUAL_SHARES)


@view
@internal
def _quote_down(base_amount: uint256, px: uint256) -> uint256:
    return base_amount * px // SCALE


@view
@internal
def _quote_up(base_amount: uint256, px: uint256) -> uint256:
    return self._div_up(base_amount * px, SCALE)


@pure
@internal
def _div_up(a: uint256, b: uint256) -> uint256:
    return (a + b - 1) // b


# Moving shares and tokens

@internal
def _enter(assets: uint256, shares: uint256, receiver: address, state: State):
    assert not self.paused, "enter: paused"
    assert assets != 0 and shares != 0, "enter: nothing to do"
    assert assets <= self._room(state), "enter: over the cap of deposits"
    before: uint256 = staticcall IERC20(ASSET).balanceOf(self)
    assert extcall IERC20(ASSET).transferFrom(msg.sender, self, assets, default_return_value=True), "enter: not paid"
    assert staticcall IERC20(ASSET).balanceOf(self) == before + assets, "enter: not paid in full"
    self.quote_held += assets
    self._mint(receiver, shares)
    log IERC4626.Deposit(sender=msg.sender, owner=receiver, assets=assets, shares=shares)


@internal
def _leave(assets: uint256, shares: uint256, receiver: address, owner: address):
    assert not self.paused, "leave: paused; redeem_in_kind works"
    assert receiver not in [empty(address), self], "leave: bad receiver"
    assert shares != 0, "leave: nothing to do"
    assert assets <= self.quote_held - self.reserve, "leave: not that much free quote; redeem_in_kind works"
    self._burn(owner, shares)
    self.quote_held -= assets
    self._push(ASSET, receiver, assets)
    log IERC4626.Withdraw(sender=msg.sender, receiver=receiver, owner=owner, assets=assets, shares=shares)


@internal
def _push(token: address, receiver: address, amount: uint256):
    if amount != 0:
        assert extcall IERC20(token).transfer(receiver, amount, default_return_value=True), "leave: transfer refused"


@internal
def _mint(receiver: address, shares: uint256):
    assert receiver not in [empty(address), self], "enter: bad receiver"
    self.totalSupply += shares
    self.balanceOf[receiver] += shares
    log IERC20.Transfer(sender=empty(address), receiver=receiver, value=shares)


@internal
def _burn(owner: address, shares: uint256):
    if owner != msg.sender:
        self._use_allowance(owner, shares)
    assert shares <= self.balanceOf[owner], "leave: more shares than are held"
    self.balanceOf[owner] -= shares
    self.totalSupply -= shares
    log IERC20.Transfer(sender=owner, receiver=empty(address), value=shares)


@internal
def _move(sender: address, receiver: address, shares: uint256):
    assert receiver not in [empty(address), self], "transfer: bad receiver"
    assert shares <= self.balanceOf[sender], "transfer: more shares than are held"
    self.balanceOf[sender] -= shares
    self.balanceOf[receiver] += shares
    log IERC20.Transfer(sender=sender, receiver=receiver, value=shares)


@internal
def _use_allowance(owner: address, shares: uint256):
    left: uint256 = self.allowance[owner][msg.sender]
    if left != max_value(uint256):
        assert shares <= left, "transfer: more shares than are approved"
        self.allowance[owner][msg.sender] = left - shares


@internal
def _swap(
    venue: address, kind: uint256, pool: address, is_buy: bool, base_amount: uint256, worst: uint256, deadline: uint256
):
    token_in: address = ASSET if is_buy else BASE
    token_out: address = BASE if is_buy else ASSET
    fee: uint24 = staticcall Pool(pool).fee()
    if kind == TIMED_ROUTER:
        timed: Timed = Timed(
            token_in=token_in, token_out=token_out, fee=fee, recipient=self, deadline=deadline, amount=base_amount,
            limit=worst, sqrt_price_limit=0,
        )
        if is_buy:
            extcall SwapRouter(venue).exactOutputSingle(timed)
        else:
            extcall SwapRouter(venue).exactInputSingle(timed)
    else:
        plain: Plain = Plain(
            token_in=token_in, token_out=token_out, fee=fee, recipient=self, amount=base_amount, limit=worst,
            sqrt_price_limit=0,
        )
        if is_buy:
            extcall SwapRouter02(venue).exactOutputSingle(plain)
        else:
            extcall SwapRouter02(venue).exactInputSingle(plain)


# The hourly cap: notional per ten minutes in a ring, each entry with the number of its ten minutes above the amount

@view
@internal
def _used() -> uint256:
    now: uint256 = block.timestamp // BUCKET_S
    used: uint256 = 0
    for i: uint256 in range(BUCKETS):
        entry: uint256 = self.buckets[i]
        if (entry >> AMOUNT_BITS) + BUCKETS > now:
            used += entry & (2**AMOUNT_BITS - 1)
    return used


@internal
def _count(notional: uint256):
    assert self._used() + notional <= self.limits[HOUR_QUOTE], "hedge: over the cap of an hour"
    now: uint256 = block.timestamp // BUCKET_S
    entry: uint256 = self.buckets[now % BUCKETS]
    kept: uint256 = entry & (2**AMOUNT_BITS - 1) if entry >> AMOUNT_BITS == now else 0
    self.buckets[now % BUCKETS] = (now << AMOUNT_BITS) | (kept + notional)


# Changes

@view
@internal
def _only_owner():
    assert msg.sender == self.owner, "owner: not the owner"


@view
@internal
def _check(what: uint256, subject: address, setting: uint256):
    """
    What no owner can do: limits beyond their ceilings, other pairs' pools, venues of another factory.
    """
    if what < LIMITS:
        ceilings: uint256[LIMITS] = CEILINGS
        assert subject == empty(address), "change: a limit has no subject"
        assert setting <= ceilings[what], "change: over its ceiling"
        assert what != DELAY_S or setting >= MIN_DELAY_S, "change: delay too short"
        return
    assert what >= VENUE and what <= GUARDIAN, "change: no such thing"
    assert subject != empty(address) and subject != self, "change: bad subject"
    assert setting <= 1 or (what == VENUE and setting == PLAIN_ROUTER), "change: bad setting"
    if setting != 0 and what == VENUE:
        assert staticcall SwapRouter(subject).factory() == FACTORY, "change: venue of another factory"
    if setting != 0 and what == POOL:
        fee: uint24 = staticcall Pool(subject).fee()
        assert staticcall Factory(FACTORY).getPool(ASSET, BASE, fee) == subject, "change: not a pool of the pair"


@view
@internal
def _is_loosening(what: uint256, subject: address, setting: uint256) -> bool:
    if what == GUARDIAN:
        return setting == 0
    if what >= LIMITS:
        return setting != 0
    if what >= RESERVE_BPS:
        return setting != self.limits[what]
    if what >= TWAP_S:
        return setting < self.limits[what]
    return setting > self.limits[what]


@internal
def _grant(what: uint256, subject: address, setting: uint256):
    self._check(what, subject, setting)
    self._apply(what, subject, setting)


@internal
def _apply(what: uint256, subject: address, setting: uint256):
    if what < LIMITS:
        self.limits[what] = setting
    else:
        self.allowed[what][subject] = setting
    self.scheduled[what][subject] = empty(Change)
    log Changed(what=what, subject=subject, value=setting)
