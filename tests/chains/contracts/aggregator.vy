# pragma version ~=0.4.3
"""
@title A price feed, or a sequencer's uptime feed, as Chainlink shapes them, that says whatever it is told to
"""

struct Round:
    answer: int256
    started_at: uint256
    updated_at: uint256


event AnswerUpdated:
    current: indexed(int256)
    roundId: indexed(uint256)
    updatedAt: uint256


decimals: public(uint8)
description: public(String[32])
is_broken: public(bool)
latest: uint80
rounds: HashMap[uint80, Round]


@deploy
def __init__(description: String[32], decimals: uint8, answer: int256):
    self.description = description
    self.decimals = decimals
    self._say(answer, block.timestamp, block.timestamp)


@external
@view
def version() -> uint256:
    return 4


@external
@view
def aggregator() -> address:
    return self


@external
@view
def latestAnswer() -> int256:
    return self.rounds[self.latest].answer


@external
@view
def latestTimestamp() -> uint256:
    return self.rounds[self.latest].updated_at


@external
@view
def latestRound() -> uint256:
    return convert(self.latest, uint256)


@external
@view
def latestRoundData() -> (uint80, int256, uint256, uint256, uint80):
    return self._round(self.latest)


@external
@view
def getRoundData(round_id: uint80) -> (uint80, int256, uint256, uint256, uint80):
    return self._round(round_id)


@external
def set_answer(answer: int256):
    self._say(answer, block.timestamp, block.timestamp)


@external
def set_round(answer: int256, started_at: uint256, updated_at: uint256):
    self._say(answer, started_at, updated_at)


@external
def set_broken(is_broken: bool):
    self.is_broken = is_broken


@internal
def _say(answer: int256, started_at: uint256, updated_at: uint256):
    self.latest += 1
    self.rounds[self.latest] = Round(answer=answer, started_at=started_at, updated_at=updated_at)
    log AnswerUpdated(current=answer, roundId=convert(self.latest, uint256), updatedAt=updated_at)


@internal
@view
def _round(round_id: uint80) -> (uint80, int256, uint256, uint256, uint80):
    assert not self.is_broken, "feed is broken"
    told: Round = self.rounds[round_id]
    assert told.updated_at != 0, "No data present"
    return (round_id, told.answer, told.started_at, told.updated_at, round_id)
