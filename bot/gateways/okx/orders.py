"""OKX's orders: client ids of letters and digits only, and a countdown counted in seconds."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, ClassVar, Final

import ccxt.pro

from bot.domain.risk import ReportedMargin, SupposedMargin, SupposedPosition
from bot.gateways.dead_man import Countdown, DeadMan
from bot.gateways.exchange import VenueSettings
from bot.gateways.gateway import Clock
from bot.gateways.market_words import number, part
from bot.gateways.okx import margin
from bot.gateways.order_words import OrderTerms, OrderWords, Permissions, Raw

# ccxt divides by 1000 and drops the rest: below 1000 ms that would disarm, below 10 s OKX refuses it.
_LIMITS_MS: Final = (10_000, 120_000)
_CLIENT_ID: Final = re.compile(r"ek([0-9a-f]{10})n([0-9]{1,18})")


class OkxOrderWords(OrderWords):
    """How OKX speaks of orders."""

    amends_price_alone: ClassVar[bool] = True
    trades_need_symbol: ClassVar[bool] = False

    def encode(self, order_id: str) -> str:
        """Return our id in letters and digits: `ek`, the run, `n`, and the sequence."""
        run, _, sequence = order_id.partition("-")
        return f"ek{run}n{sequence}"

    def decode(self, client_id: object) -> str:
        """Return our id of a client id with our mark, else ""."""
        found = _CLIENT_ID.fullmatch(str(client_id or ""))
        return super().decode(f"{found.group(1)}-{found.group(2)}") if found else ""

    def order_id_of_trade(self, trade: Raw) -> str | None:
        """Return our id of a trade's order: fills carry the client id."""
        client_id = part(trade.get("info"), "clOrdId")
        return None if client_id is None else self.decode(client_id)

    def prepare(self, exchange: ccxt.pro.Exchange) -> None:
        """Send single orders as such, not as batches of one."""
        exchange.options["createOrder"] = "privatePostTradeOrder"

    def dead_man(self, exchange: ccxt.pro.Exchange, clock: Clock, settings: VenueSettings) -> DeadMan:
        """Return the account's countdown."""

        async def start(_symbol: str, time_ms: int) -> None:
            said = await exchange.cancel_all_orders_after(time_ms)
            if not number(part(part(part(said, "data"), 0), "triggerTime")):
                raise ccxt.BadResponse(f"okx: expected a time at which orders are canceled, found {str(said)[:100]}")

        return Countdown(start, clock, settings.dead_man_ns, is_per_symbol=False, limits_ms=_LIMITS_MS)

    def amend_params(self, terms: OrderTerms) -> dict[str, Any]:
        """Return ccxt's params of an amend: what cannot be amended stays as it is instead of being canceled."""
        del terms
        return {"cxlOnFail": False}

    async def margins_of(self, exchange: ccxt.pro.Exchange, info: object) -> tuple[ReportedMargin, ...]:
        """Return the margin of the account as its balances tell it."""
        del exchange
        return margin.read_margins(info)

    async def suppose(
        self, exchange: ccxt.pro.Exchange, changes: Sequence[tuple[str, SupposedPosition]]
    ) -> SupposedMargin | None:
        """Return what the position builder says."""
        return await margin.build_positions(exchange, changes)

    async def permissions(self, exchange: ccxt.pro.Exchange) -> Permissions:
        """Return what the key may do, which OKX lists with the account's configuration."""
        granted = str(part(part(part(await exchange.privateGetAccountConfig(), "data"), 0), "perm") or "")
        return Permissions("trade" in granted, "withdraw" in granted) if granted else Permissions(None, None)

    async def fetch_positions(self, exchange: ccxt.pro.Exchange, currencies: frozenset[str]) -> list[Raw]:
        """Return every open position of the account, of any kind."""
        del currencies
        return list(await exchange.fetch_positions())
