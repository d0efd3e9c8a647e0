"""Whether a rollup's sequencer is up: while it is down, and for a while after, prices there are old and trades unfair.

Source: Chainlink, "L2 Sequencer Uptime Feeds": answer 0 is up, 1 is down, `startedAt` is since when.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from bot.domain.units import NS_PER_S
from bot.gateways.chain.abi import Function, Undecodable, int_at, uint_at
from bot.gateways.chain.nouns import Block
from bot.gateways.chain.settings import ChainSettings

_LATEST_ROUND: Final = Function("latestRoundData()", "(uint80,int256,uint256,uint256,uint80)")


class SequencerGate:
    """Shut until the feed says the sequencer has been up for the whole grace; always open where there is no feed."""

    def __init__(self, settings: ChainSettings) -> None:
        self.reads = (_LATEST_ROUND.read(settings.sequencer_feed),) if settings.sequencer_feed else ()
        self.reason = "the sequencer's state is not known yet" if settings.sequencer_feed else ""
        self._grace_s = settings.sequencer_grace_ns // NS_PER_S

    def update(self, block: Block, answers: Sequence[bytes | None]) -> str:
        """Take in the answers to `reads` and return why the venue is down, "" if it is up."""
        if self.reads:
            self.reason = self._judge(block, answers[0])
        return self.reason

    def _judge(self, block: Block, answer: bytes | None) -> str:
        if answer is None:
            return "the sequencer's feed reverts"
        try:
            status, since_s = int_at(answer, 1), uint_at(answer, 2)
        except Undecodable as error:
            return f"the sequencer's feed cannot be read: {error}"
        if since_s == 0:
            return "the sequencer's feed has no round yet"
        for_s = block.timestamp_s - since_s
        if status == 1:
            return f"sequencer down for {max(0, for_s)} s"
        if status != 0:
            return f"expected the sequencer's feed to say 0 or 1, found {status}"
        if for_s <= self._grace_s:
            return f"sequencer up for {max(0, for_s)} s, trusted in {self._grace_s - for_s + 1} s"
        return ""
