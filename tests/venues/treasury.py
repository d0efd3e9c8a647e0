"""The money side of Binance on loopback: withdrawals, deposits, internal transfers, the insurance fund.

In front of the same book as `BinanceServer`. A withdrawal is carried over by hand: `leave` gives it a transaction, and
`deposit` at another treasury lists it there.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

from aiohttp import web

from tests.venues.binance import BinanceServer, Denied
from tests.venues.binance_payloads import Json
from tests.venues.faults import FaultScript
from tests.venues.loopback import decimal
from tests.venues.matching import VenueBook

PENDING, FAILED, COMPLETED = 4, 5, 6  # of withdrawals
CREDITED = 1  # of deposits
FEE = 1.0
NETWORKS = {"ARBITRUM": 12, "ETH": 64}


class Treasury(BinanceServer):
    """Binance with an account that may withdraw."""

    def __init__(self, book: VenueBook, *, faults: FaultScript | None = None, port: int = 0) -> None:
        super().__init__(book, faults=faults, port=port)
        self.permissions["enableWithdrawals"] = True
        self.is_withdrawing = True
        self.is_listing = True  # withdrawals; those that are not listed are carried out all the same
        self.free = {"USDC": 100_000.0, "USDT": 100_000.0}
        self.withdrawals: list[Json] = []
        self.deposits: list[Json] = []
        self.moved: list[Json] = []
        self.move_status = "CONFIRMED"  # of internal transfers
        self.funds: dict[str, float] = {"USDT": 1_000_000.0}
        self._ids = itertools.count(1)

    # For tests -------------------------------------------------------------------------------------------------------

    def leave(self, number: int = 0, status: int = COMPLETED) -> Json:
        """Let a withdrawal end; one that is completed has a transaction."""
        row = self.withdrawals[number]
        row["status"] = status
        if status == COMPLETED:
            row["txId"] = f"0x{number + 1:064x}"
        return row

    def deposit(self, withdrawal: Json, status: int = CREDITED) -> Json:
        """List what was withdrawn elsewhere as a deposit here."""
        row = {
            "id": f"d{next(self._ids)}",
            "amount": withdrawal["amount"],
            "coin": withdrawal["coin"],
            "network": withdrawal["network"],
            "status": status,
            "address": withdrawal["address"],
            "addressTag": "",
            "txId": withdrawal["txId"],
            "insertTime": self.now_ms(),
            "transferType": 0,
            "confirmTimes": "12/12",
        }
        self.deposits.append(row)
        return row

    # Server ----------------------------------------------------------------------------------------------------------

    def _carry_out(self, request: web.Request, path: str, text: str) -> Any:
        if (request.method, path) == ("GET", "insuranceBalance"):
            assets = [
                {"asset": name, "marginBalance": decimal(amount), "updateTime": self.now_ms()}
                for name, amount in self.funds.items()
            ]
            return [{"symbols": list(self.book.listings), "assets": assets}]
        if (request.method, path) == ("GET", "openInterest"):
            return {"symbol": request.query["symbol"], "openInterest": "1000", "time": self.now_ms()}
        return super()._carry_out(request, path, text)

    def _private(self, request: web.Request, path: str) -> Callable[[Json], Any]:
        routes: dict[tuple[str, str], Callable[[Json], Any]] = {
            ("GET", "capital/config/getall"): lambda _: [self._currency(name) for name in self.free],
            ("POST", "capital/withdraw/apply"): self._withdraw,
            ("GET", "capital/withdraw/history"): lambda p: _of(self.withdrawals if self.is_listing else [], p),
            ("GET", "capital/deposit/hisrec"): lambda p: _of(self.deposits, p),
            ("POST", "asset/transfer"): self._move,
            ("GET", "asset/transfer"): self._moves,
        }
        return routes.get((request.method, path)) or super()._private(request, path)

    def _currency(self, name: str) -> Json:
        networks = [
            {
                "network": network,
                "coin": name,
                "withdrawIntegerMultiple": "0.000001",
                "isDefault": network == "ETH",
                "depositEnable": True,
                "withdrawEnable": self.is_withdrawing,
                "name": network,
                "withdrawFee": decimal(FEE),
                "withdrawMin": "10",
                "withdrawMax": "1000000",
                "minConfirm": blocks,
                "unLockConfirm": 0,
            }
            for network, blocks in NETWORKS.items()
        ]
        return {
            "coin": name,
            "depositAllEnable": True,
            "withdrawAllEnable": self.is_withdrawing,
            "name": name,
            "free": decimal(self.free[name]),
            "locked": "0",
            "isLegalMoney": False,
            "trading": True,
            "networkList": networks,
        }

    def _withdraw(self, params: Json) -> Json:
        coin, amount = params["coin"], float(params["amount"])
        if not self.is_withdrawing:
            raise Denied(-4029, "Withdrawal is suspended.")
        if params.get("network") not in NETWORKS:
            raise Denied(-4013, "network is not supported.")
        if amount > self.free.get(coin, 0.0):
            raise Denied(-4026, "Insufficient balance.")
        self.free[coin] -= amount
        number = next(self._ids)
        row = {
            "id": f"w{number}",
            "amount": decimal(amount - FEE),
            "transactionFee": decimal(FEE),
            "coin": coin,
            "status": PENDING,
            "address": params["address"],
            "addressTag": params.get("addressTag", ""),
            "txId": "",
            "applyTime": _text(self.now_ms()),
            "network": params["network"],
            "transferType": 0,
            "withdrawOrderId": params.get("withdrawOrderId", ""),
        }
        self.withdrawals.append(row)
        return {"id": row["id"]}

    def _move(self, params: Json) -> Json:
        row = {
            "asset": params["asset"],
            "amount": params["amount"],
            "type": params["type"],
            "status": self.move_status,
            "tranId": next(self._ids),
            "timestamp": self.now_ms(),
        }
        self.moved.append(row)
        return {"tranId": row["tranId"]}

    def _moves(self, params: Json) -> Json:
        since = int(params.get("startTime", 0))
        rows = [one for one in self.moved if one["type"] == params["type"] and one["timestamp"] >= since]
        return {"total": len(rows), "rows": rows}


def _of(rows: list[Json], params: Json) -> list[Json]:
    return [dict(one) for one in rows if params.get("coin", one["coin"]) == one["coin"]]


def _text(ms: int) -> str:
    from datetime import UTC, datetime

    return f"{datetime.fromtimestamp(ms / 1_000, tz=UTC):%Y-%m-%d %H:%M:%S}"
