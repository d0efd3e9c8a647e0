"""Hyperliquid's orders: client ids of 128 bits, and requests made without what ccxt adds to them.

ccxt's own create_order first asks to approve a builder's fee and to set a referrer in the account's name, before every
order. So requests are built by ccxt and signed by it, and sent as they are. An amend there replaces the order, with a
size that a fill in between makes too large: it is refused here, and the engine cancels and sends anew.
"""

from __future__ import annotations

import re
from typing import Any, ClassVar, Final

import ccxt.pro

from bot.domain.risk import ReportedMargin
from bot.gateways.dead_man import Countdown, DeadMan
from bot.gateways.exchange import VenueSettings
from bot.gateways.gateway import Clock
from bot.gateways.hyperliquid import margin
from bot.gateways.market_words import part
from bot.gateways.order_words import OrderTerms, OrderWords, Permissions, Raw, answered
from bot.gateways.outcomes import Outcome, outcome_of

_LIMITS_MS: Final = (5_500, 3_600_000)  # at least 5 s ahead when it arrives
_CLIENT_ID: Final = re.compile(r"0xee([0-9a-f]{10})([0-9a-f]{20})")
_UNKNOWN_KEY: Final = "User or API Wallet"


class HyperliquidOrderWords(OrderWords):
    """How Hyperliquid speaks of orders."""

    can_amend: ClassVar[bool] = False
    trades_need_symbol: ClassVar[bool] = False

    def encode(self, order_id: str) -> str:
        """Return our id as 128 bits: a mark, the run, and the sequence."""
        run, _, sequence = order_id.partition("-")
        return f"0xee{run}{int(sequence):020x}"

    def decode(self, client_id: object) -> str:
        """Return our id of a client id with our mark, else ""."""
        found = _CLIENT_ID.fullmatch(str(client_id or "").lower())
        return super().decode(f"{found.group(1)}-{int(found.group(2), 16)}") if found else ""

    def order_id_of_trade(self, trade: Raw) -> str | None:
        """Return our id of a trade's order where the fill carries the client id."""
        client_id = part(trade.get("info"), "cloid")
        return None if client_id is None else self.decode(client_id)

    def is_maker(self, trade: Raw) -> bool:
        """Tell whether a trade took our resting order, which ccxt's stream leaves out."""
        return part(trade.get("info"), "crossed") is False

    def status_of(self, order: Raw) -> str:
        """Return an order's state; ccxt does not know that a scheduled cancel is one."""
        status = super().status_of(order)
        return "canceled" if status == "scheduledCancel" else status

    def dead_man(self, exchange: ccxt.pro.Exchange, clock: Clock, settings: VenueSettings) -> DeadMan:
        """Return the account's countdown: a time at which everything is canceled, moved on again and again.

        ccxt's own call sends the same, after asking for a builder's fee; and its timeout of 0 would not disarm.
        """

        async def schedule(_symbol: str, time_ms: int) -> None:
            nonce = exchange.incrementing_nonce()
            action = {"type": "scheduleCancel", "time": exchange.milliseconds() + time_ms}
            request = {"action": action, "nonce": nonce, "signature": exchange.sign_l1_action(action, nonce)}
            said = await exchange.privatePostExchange(request)
            if part(said, "status") != "ok":
                raise ccxt.BadResponse(f"hyperliquid: expected a scheduled cancel, found {str(said)[:100]}")

        return Countdown(schedule, clock, settings.dead_man_ns, is_per_symbol=False, limits_ms=_LIMITS_MS)

    async def create(self, exchange: ccxt.pro.Exchange, terms: OrderTerms) -> Raw:
        """Send an order, one request and nothing else."""
        px = terms.px if terms.px is not None else terms.intent.reference_px
        order, others = exchange.parse_create_edit_order_args(
            None, terms.symbol, terms.type, terms.side, terms.amount, px, self.create_params(terms)
        )
        reply = await exchange.privatePostExchange(_without_builder(exchange, order, others))
        status = _only_status(reply)
        parsed = answered(exchange.parse_order(status if isinstance(status, dict) else {"status": status}))
        if isinstance(status, dict) and "resting" in status:
            parsed = {**parsed, "status": "open"}
        return parsed  # of a filled one the rest may be canceled or not: the truth is asked for

    async def cancel(self, exchange: ccxt.pro.Exchange, symbol: str, order_id: str, venue_order_id: str) -> Raw:
        """Cancel by our id, or the venue's for an order that is not ours."""
        by_client_id = {"clientOrderId": self.encode(order_id)} if order_id else {}
        ids = [] if order_id else [venue_order_id]
        reply = await exchange.privatePostExchange(exchange.cancel_orders_request(ids, symbol, by_client_id))
        if _only_status(reply) != "success":
            raise ccxt.BadResponse(f"hyperliquid: expected a cancel, found {str(reply)[:100]}")
        return {"status": "canceled", "info": {}}

    async def permissions(self, exchange: ccxt.pro.Exchange) -> Permissions:
        """Return what the key may do: an agent's key trades for the account and cannot withdraw, the account's can."""
        signer = str(exchange.eth_get_address_from_private_key(exchange.privateKey)).lower()
        account = str(exchange.walletAddress).lower()
        if signer == account:
            return Permissions(can_trade=True, can_withdraw=True)
        found = await exchange.publicPostInfo({"type": "extraAgents", "user": account})
        agents = {str(part(agent, "address")).lower() for agent in found} if isinstance(found, list) else set()
        return Permissions(can_trade=signer in agents if agents else None, can_withdraw=False)

    async def margins_of(self, exchange: ccxt.pro.Exchange, info: object) -> tuple[ReportedMargin, ...]:
        """Return the margin of the account as its balances tell it."""
        del exchange
        return margin.read_margins(info)

    async def margin_terms(self, exchange: ccxt.pro.Exchange, currencies: frozenset[str]) -> dict[str, Any]:
        """Return the leverage tiers by coin."""
        del currencies
        return await margin.read_terms(exchange)

    def outcome_of(self, error: BaseException, *, may_have_left: bool = True) -> Outcome:
        """Return what an error means: Hyperliquid's own words are a no, and an unknown key needs a person."""
        said = str(error)
        if isinstance(error, ccxt.InvalidOrder) and _UNKNOWN_KEY in said:
            return Outcome.FATAL
        is_no = '"status":"err"' in said or '"error":' in said
        if type(error) is ccxt.ExchangeError and is_no:
            return Outcome.UNKNOWN if "uplicate" in said else Outcome.REJECTED
        return outcome_of(error, may_have_left=may_have_left)


def _without_builder(exchange: ccxt.pro.Exchange, order: Any, others: Any) -> Any:  # noqa: ANN401
    """Return a signed request for one order that names no builder; ccxt names one where a fee is approved."""
    was_approved = exchange.options.get("approvedBuilderFee")
    exchange.options["approvedBuilderFee"] = False
    try:
        return exchange.create_orders_request([order], others)
    finally:
        exchange.options["approvedBuilderFee"] = was_approved


def _only_status(reply: object) -> Any:  # noqa: ANN401
    """Return the status of the only order or cancel of a request. Raises NullResponse if there is none."""
    status = part(part(part(part(reply, "response"), "data"), "statuses"), 0)
    if status is None:
        raise ccxt.NullResponse(f"hyperliquid: expected a status, found {str(reply)[:100]}")
    return status
