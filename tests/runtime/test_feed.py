"""The recorded feed: unpaced, paced, and what it need not do. How a daemon runs on it is in test_daemon."""

from __future__ import annotations

import asyncio
from pathlib import Path

from bot.domain.events import CancelOrder, Event, OperatorAction, OperatorCommand, SubmitOrder
from bot.domain.orders import OrderIntent, TimeInForce
from bot.domain.risk import SupposedPosition
from bot.runtime.configuration.config import load_vaults
from bot.runtime.feed import RecordedFeed
from bot.runtime.mailbox import Mailbox
from bot.runtime.session import open_session


def opened(folder: Path, speed: float) -> tuple[RecordedFeed, Mailbox]:
    (vault,) = load_vaults([folder / "busy.yaml"])
    mailbox = Mailbox()
    return open_session(vault).open_feed(mailbox, speed), mailbox


async def taken(mailbox: Mailbox, batches: list[tuple[int, tuple[Event, ...]]]) -> None:
    while True:
        batches.append(await mailbox.take())
        mailbox.done()


async def test_unpaced_every_moment_is_a_batch_and_the_feed_ends(busy: Path) -> None:
    feed, mailbox = opened(busy, 0.0)
    batches: list[tuple[int, tuple[Event, ...]]] = []
    taker = asyncio.create_task(taken(mailbox, batches))
    await feed.run()
    taker.cancel()
    await asyncio.gather(taker, return_exceptions=True)
    moments = [now_ns for now_ns, _ in batches]
    assert moments == sorted(set(moments))
    assert mailbox.conflated == 0
    assert feed.now_ns() == feed.catch_up() == moments[-1]
    assert feed.decision_ns(7) == 7


async def test_what_is_ordered_at_the_very_end_is_answered(busy: Path) -> None:
    """An operator may have the last word just as the feed looks whether anything is left."""
    (vault,) = load_vaults([busy / "busy.yaml"])
    session = open_session(vault)
    mailbox = Mailbox()
    feed = session.open_feed(mailbox, 1e9)
    intent = OrderIntent("r-1", "ETH-PERPETUAL", 1, 1, TimeInForce.IOC, False, "last word", 2_000.0, 1)
    answers: list[Event] = []

    async def take() -> None:
        has_spoken = False
        while True:
            now_ns, events = await mailbox.take()
            answers.extend(event for event in events if getattr(event, "order_id", "") == "r-1")
            resumes = [event for event in events if isinstance(event, OperatorCommand)]
            if resumes:
                feed.submit(SubmitOrder(intent), now_ns)
            mailbox.done()
            if not has_spoken and session.world.peek_ns() is None:
                has_spoken = True
                mailbox.put(now_ns, [OperatorCommand(OperatorAction.RESUME, "desk", "go on", now_ns)])

    taker = asyncio.create_task(take())
    await feed.run()
    taker.cancel()
    await asyncio.gather(taker, return_exceptions=True)
    assert feed.is_over
    assert answers


async def test_it_goes_on_where_a_run_ended(busy: Path) -> None:
    feed, _ = opened(busy, 1.0)
    feed.resume(123)
    assert feed.now_ns() == 123


async def test_a_simulated_venue_needs_no_farewell(busy: Path) -> None:
    feed, _ = opened(busy, 1.0)
    assert await feed.withdraw([CancelOrder("r-1", "ETH-PERPETUAL", "")], 1.0) == []
    assert feed.absorb(1, []) == ()
    assert feed.view() == {}


async def test_a_recording_is_asked_nothing(busy: Path) -> None:
    feed, _ = opened(busy, 0.0)
    assert await feed.suppose(SupposedPosition("ETH-PERPETUAL", 1.0, 1.0)) == (
        "a recording answers no question about ETH-PERPETUAL"
    )
