"""Signs of a live vault: watched where it asks for them, whatever a venue's pages do, and told in their own words."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from bot.domain.events import Event
from bot.domain.risk import CounterpartySigns, TransferState, TransferUpdate
from bot.domain.units import NS_PER_MIN, NS_PER_MS
from bot.gateways.exchange import Credentials, VenueSettings
from bot.risk.transfers import Route
from bot.runtime.configuration.config import build_live_settings
from bot.runtime.configuration.vault import Vault
from bot.runtime.live.clock import WallClock
from bot.runtime.live.signs import LiveSigns, Watched, open_signs
from tests.instruments import CALL, PERPETUAL
from tests.runtime.command_line import PATIENCE_S
from tests.runtime.vault_files import vault
from tests.venues.binance import usdm_book
from tests.venues.treasury import Treasury

ROUTE = Route(
    name="ARB", asset="USDC", from_venue="binance", to_venue="okx", address_label="okx", p95_ns=10 * NS_PER_MIN
)


def watched(server: Treasury, **changes: Any) -> Watched:
    settings = VenueSettings(
        venue="binance", exchange_id="binanceusdm", underlyings=frozenset({"ETH"}), options=server.options
    )
    plain = Watched(
        settings=settings,
        credentials=Credentials(**server.credentials),
        coins=("USDC",),
        instrument_ids=("ETHUSDT", "GONE"),
        compared_id="ETHUSDT",
    )
    return msgspec.structs.replace(plain, **changes)


def update(state: TransferState, at_ns: int) -> TransferUpdate:
    return TransferUpdate("run-T1", state, "USDC", 9.0, 1.0, "binance", "okx", "ARB", "", at_ns, at_ns)


class Told:
    """What a running watch said."""

    def __init__(self) -> None:
        self.signs: list[CounterpartySigns] = []

    def put(self, events: Sequence[Event]) -> None:
        self.signs += [one for one in events if isinstance(one, CounterpartySigns)]

    async def until(self, condition: Callable[[CounterpartySigns], bool]) -> CounterpartySigns:
        async with asyncio.timeout(PATIENCE_S):
            while True:
                if self.signs and condition(self.signs[-1]):
                    return self.signs[-1]
                await asyncio.sleep(0.005)


async def test_a_venue_is_watched_and_our_own_withdrawals_are_shown_to_it() -> None:
    told, clock = Told(), WallClock()
    async with Treasury(usdm_book()) as server:
        server.book.set_quote("ETHUSDT", 1_999.0, 5.0, 2_001.0, 5.0)
        server.book.place("ETHUSDT", is_buy=True, amount=0.1)
        server.adl_ranks = {"ETHUSDT": 4}
        signs = LiveSigns([watched(server)], clock, [ROUTE], poll_ns=20 * NS_PER_MS)
        task = asyncio.create_task(signs.run(told.put))
        try:
            first = await told.until(lambda one: one.withdrawals == "enabled")
            assert (first.party, first.deleverage_rank_share, first.fund_quote) == ("binance", 1.0, 1e6)
            sent_ns = clock.now_ns()
            signs.note([update(TransferState.SENT, sent_ns)])
            signs.note([update(TransferState.ARRIVED, sent_ns + NS_PER_MIN)])
            await told.until(lambda one: one.withdrawals == "working")
            signs.note([update(TransferState.SENT, sent_ns)])
            signs.note([update(TransferState.ARRIVED, sent_ns + 11 * NS_PER_MIN)])
            await told.until(lambda one: one.withdrawals == "slow")
            server.is_withdrawing = False
            await told.until(lambda one: one.withdrawals == "suspended")
        finally:
            task.cancel()
            await asyncio.wait({task})
    assert task.cancelled()


def live(tmp_path: Path, **risk: Any) -> Vault:
    return Vault.model_validate(
        {
            **vault(),
            "mode": "paper",
            "feed": "live",
            "venues": {"deribit": {}},
            "state_dir": str(tmp_path),
            "risk": {"accounts": {"deribit": {"model": "deribit", "collateral": {"ETH": 10.0}}}, **risk},
        }
    )


def test_only_a_vault_that_asks_for_it_is_watched_for(tmp_path: Path) -> None:
    hedge = msgspec.structs.replace(PERPETUAL, venue="deribit", settle="USDC")
    option = msgspec.structs.replace(CALL, venue="deribit")
    for asks in (False, True):
        one = live(tmp_path, watch_counterparties=asks)
        found = open_signs(one, build_live_settings(one, (hedge, option), "0123456789"), {}, WallClock())
        assert (found is not None) is asks
    assert found is not None
    [venue] = found._watched
    assert (venue.coins, venue.instrument_ids, venue.compared_id) == (
        ("ETH", "USDC"), ("ETH-PERPETUAL",), "ETH-PERPETUAL"
    )  # fmt: skip
    assert venue.credentials.are_empty  # a paper run loads no keys
