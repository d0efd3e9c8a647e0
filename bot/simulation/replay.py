"""Replay: the engine through a world, unpaced. The loop every rehearsal shares."""

from __future__ import annotations

from collections.abc import Callable

from bot.engine.engine import Engine
from bot.simulation.score import Score
from bot.simulation.world import World


def replay(
    engine: Engine, world: World, score: Score, *, stopwatch_ns: Callable[[], int], progress: Callable[[int], None]
) -> None:
    """Run `engine` through `world` to its end: every batch applied, one decision each, commands handed to the venue.

    `stopwatch_ns` times decisions (measurement only, it influences nothing); `progress` hears of every virtual moment.
    """
    apply, decide, submit = engine.apply, engine.decide, world.submit
    while (step := world.step()) is not None:
        now_ns, events = step
        for event in events:
            apply(event)
        began_ns = stopwatch_ns()
        commands = decide(now_ns)
        took_ns = stopwatch_ns() - began_ns
        for command in commands:
            submit(command, now_ns)
        score.observe(now_ns, len(events), commands, took_ns)
        progress(now_ns)
