"""Binance's orders: client ids as they are, one countdown per symbol, and statuses ccxt leaves vague."""

from __future__ import annotations

from typing import Any, Final

import ccxt.pro

from bot.domain.risk import ReportedMargin
from bot.gateways.binance import margin
from bot.gateways.dead_man import Countdown, DeadMan, NoProtection
from bot.gateways.exchange import VenueSettings
from bot.gateways.gateway import Clock
from bot.gateways.market_words import number, part
from bot.gateways.order_words import OrderWords, Permissions, Raw
from bot.gateways.outcomes import Outcome, outcome_of

_LIMITS_MS: Final = (5_000, 600_000)
# -1000 unknown, -1001 disconnected, -1006 unexpected response, -1007 timeout: "execution status unknown", says Binance.
_VAGUE: Final = ("-1000", "-1001", "-1006", "-1007", "-1008")


class BinanceOrderWords(OrderWords):
    """How Binance's USD-M futures speak of orders."""

    def prepare(self, exchange: ccxt.pro.Exchange) -> None:
        """Let open orders be asked for the whole account, which ccxt warns against as an error."""
        exchange.options["warnOnFetchOpenOrdersWithoutSymbol"] = False

    def dead_man(self, exchange: ccxt.pro.Exchange, clock: Clock, settings: VenueSettings) -> DeadMan:
        """Return a countdown per symbol."""
        start = getattr(exchange, "fapiPrivatePostCountdownCancelAll", None)
        if start is None or exchange.options.get("defaultSubType") != "linear":
            return NoProtection("only Binance's USD-M futures have a countdown that is known here")

        async def start_countdown(symbol: str, time_ms: int) -> None:
            asked = {"symbol": exchange.market(symbol)["id"], "countdownTime": time_ms}
            said = await start(asked)
            if number(part(said, "countdownTime")) != time_ms:
                raise ccxt.BadResponse(f"binance: expected a countdown of {time_ms} ms, found {str(said)[:100]}")

        return Countdown(start_countdown, clock, settings.dead_man_ns, is_per_symbol=True, limits_ms=_LIMITS_MS)

    async def fetch_positions(self, exchange: ccxt.pro.Exchange, currencies: frozenset[str]) -> list[Raw]:
        """Return every open position of USD-M futures in one call; ccxt's own asks for leverage brackets first."""
        if exchange.options.get("defaultSubType") != "linear":
            return await super().fetch_positions(exchange, currencies)
        found = await exchange.fapiPrivateV3GetPositionRisk()
        if not isinstance(found, list):
            raise ccxt.BadResponse(f"binance: expected positions, found {str(found)[:100]}")
        return [
            {
                "symbol": exchange.safe_symbol(part(position, "symbol"), None, None, "contract"),
                "entryPrice": part(position, "entryPrice"),
                "info": position,
            }
            for position in found
        ]

    def position_amount(self, position: Raw) -> float | None:
        """Return a position in ccxt's amounts; Binance signs it itself."""
        signed = number(part(position.get("info"), "positionAmt"))
        return super().position_amount(position) if signed is None else signed

    async def permissions(self, exchange: ccxt.pro.Exchange) -> Permissions:
        """Return what the key may do: the futures account proves it good, the wallet's host lists its permissions."""
        can_trade = part(await exchange.fapiPrivateV2GetAccount(), "canTrade")
        try:
            granted = await exchange.sapiGetAccountApiRestrictions()
        except ccxt.BaseError:
            granted = {}  # testnets have no such host: then the venue does not say
        may_trade, may_withdraw = part(granted, "enableFutures"), part(granted, "enableWithdrawals")
        if can_trade is False:
            may_trade = False
        return Permissions(
            bool(may_trade) if may_trade is not None else can_trade,
            bool(may_withdraw) if may_withdraw is not None else None,
        )

    async def margins_of(self, exchange: ccxt.pro.Exchange, info: object) -> tuple[ReportedMargin, ...]:
        """Return the margin of the account as its balances tell it."""
        del exchange
        return margin.read_margins(info)

    async def margin_terms(self, exchange: ccxt.pro.Exchange, currencies: frozenset[str]) -> dict[str, Any]:
        """Return the brackets by underlying, of USD-M futures alone."""
        del currencies
        if exchange.options.get("defaultSubType") != "linear":
            return {}
        return await margin.read_terms(exchange)

    def outcome_of(self, error: BaseException, *, may_have_left: bool = True) -> Outcome:
        """Return what an error means: a code of Binance's own is a no, but for those that say nothing."""
        meaning = outcome_of(error, may_have_left=may_have_left)
        said = str(error)
        if any(f'"code":{code},' in said.replace(" ", "") for code in _VAGUE):
            return Outcome.UNKNOWN
        if type(error) is ccxt.ExchangeError and '"code":-' in said.replace(" ", ""):
            return Outcome.REJECTED
        return meaning
