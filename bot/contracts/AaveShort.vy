# pragma version 0.4.3
# pragma evm-version cancun
# SPDX-License-Identifier: Apache-2.0
"""
@title Shorts on Aave v3 in one step: borrow and sell, or buy back and repay
@notice Whoever calls trades for their own account only: what is borrowed is the caller's debt, within the credit the
        caller has delegated to this contract, and what is sold or bought is paid to or by the caller. Each call does
        the whole of its trade within the given bounds, or nothing. Between calls the contract holds nothing of
        anybody's and may spend nothing of its own.
@dev    The bounds protect against prices and against time, not against a hostile caller, who trades its own account.
        Not audited.
"""

interface Token:
    def balanceOf(owner: address) -> uint256: view
    def approve(spender: address, amount: uint256) -> bool: nonpayable
    def transfer(to: address, amount: uint256) -> bool: nonpayable
    def transferFrom(owner: address, to: address, amount: uint256) -> bool: nonpayable

interface LendingPool:
    def borrow(asset: address, amount: uint256, rate_mode: uint256, referral: uint16, debtor: address): nonpayable
    def repay(asset: address, amount: uint256, rate_mode: uint256, debtor: address) -> uint256: nonpayable
    def getUserAccountData(user: address) -> (uint256, uint256, uint256, uint256, uint256, uint256): view

struct ExactInputParams:
    path: Bytes[MAX_PATH_BYTES]
    recipient: address
    amountIn: uint256
    amountOutMinimum: uint256

struct ExactOutputParams:
    path: Bytes[MAX_PATH_BYTES]
    recipient: address
    amountOut: uint256
    amountInMaximum: uint256

interface Router:
    def exactInput(params: ExactInputParams) -> uint256: payable
    def exactOutput(params: ExactOutputParams) -> uint256: payable

# What one trade moved, as the trader sees it: positive came in, negative went out.
event Traded:
    trader: indexed(address)
    base: indexed(address)
    quote: indexed(address)
    base_delta: int256
    quote_delta: int256

MAX_PATH_BYTES: constant(uint256) = 112  # five tokens, four pools
VARIABLE_RATE: constant(uint256) = 2
POOL: public(immutable(address))
ROUTER: public(immutable(address))  # SwapRouter02 of Uniswap v3


@deploy
def __init__(pool: address, router: address):
    assert pool.is_contract, "pool is no contract"
    assert router.is_contract, "router is no contract"
    POOL = pool
    ROUTER = router


@external
@nonreentrant
def sell_borrowed(
    base: address,
    quote: address,
    amount: uint256,
    min_quote: uint256,
    path: Bytes[MAX_PATH_BYTES],
    deadline: uint256,
    floor_health_factor: uint256,
) -> (int256, int256):
    """
    @notice Borrow `amount` of base as the caller's debt and sell all of it for at least `min_quote`, paid to the caller.
    @param path Uniswap v3's: base, fee, ..., quote
    @param deadline Time in seconds after which nothing is done
    @param floor_health_factor With 18 decimals; the caller's health factor must not be below it afterwards
    @return What the caller's position and quote balance moved by: (-amount, +received)
    """
    assert block.timestamp <= deadline, "deadline is over"
    assert min_quote != 0, "no lower bound"
    held_before: uint256 = staticcall Token(base).balanceOf(self)
    extcall LendingPool(POOL).borrow(base, amount, VARIABLE_RATE, 0, msg.sender)
    assert extcall Token(base).approve(ROUTER, amount, default_return_value=True), "approve failed"
    received: uint256 = extcall Router(ROUTER).exactInput(
        ExactInputParams(path=path, recipient=msg.sender, amountIn=amount, amountOutMinimum=min_quote)
    )
    # Pools that run dry take less than they were offered: the rest would be left here.
    assert staticcall Token(base).balanceOf(self) == held_before, "pools took less than offered"
    assert self._health_factor(msg.sender) >= floor_health_factor, "health factor below floor"
    log Traded(
        trader=msg.sender,
        base=base,
        quote=quote,
        base_delta=-convert(amount, int256),
        quote_delta=convert(received, int256),
    )
    return -convert(amount, int256), convert(received, int256)


@external
@nonreentrant
def buy_and_repay(
    base: address,
    quote: address,
    amount: uint256,
    max_quote: uint256,
    path: Bytes[MAX_PATH_BYTES],
    deadline: uint256,
) -> (int256, int256):
    """
    @notice Buy `amount` of base for at most `max_quote` of the caller's and repay the caller's debt with all of it.
    @dev    The caller must have approved `max_quote`; what is not needed goes back.
    @param path Uniswap v3's for an exact output, so the other way round: base, fee, ..., quote
    @param deadline Time in seconds after which nothing is done
    @return What the caller's position and quote balance moved by: (+amount, -spent)
    """
    assert block.timestamp <= deadline, "deadline is over"
    assert extcall Token(quote).transferFrom(msg.sender, self, max_quote, default_return_value=True), "no quote"
    assert extcall Token(quote).approve(ROUTER, max_quote, default_return_value=True), "approve failed"
    spent: uint256 = extcall Router(ROUTER).exactOutput(
        ExactOutputParams(path=path, recipient=self, amountOut=amount, amountInMaximum=max_quote)
    )
    if spent < max_quote:
        assert extcall Token(quote).approve(ROUTER, 0, default_return_value=True), "approve failed"
        assert extcall Token(quote).transfer(msg.sender, max_quote - spent, default_return_value=True), "no refund"
    assert extcall Token(base).approve(POOL, amount, default_return_value=True), "approve failed"
    repaid: uint256 = extcall LendingPool(POOL).repay(base, amount, VARIABLE_RATE, msg.sender)
    assert repaid == amount, "debt is less than amount"
    log Traded(
        trader=msg.sender,
        base=base,
        quote=quote,
        base_delta=convert(amount, int256),
        quote_delta=-convert(spent, int256),
    )
    return convert(amount, int256), -convert(spent, int256)


@view
@internal
def _health_factor(user: address) -> uint256:
    a: uint256 = 0
    b: uint256 = 0
    c: uint256 = 0
    d: uint256 = 0
    e: uint256 = 0
    health_factor: uint256 = 0
    a, b, c, d, e, health_factor = staticcall LendingPool(POOL).getUserAccountData(user)
    return health_factor
