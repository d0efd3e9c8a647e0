"""Runs a loopback venue by hand: `python -m tests.venues deribit --recording eth-2023-04 --port 8123 --speed lockstep`.

In lockstep the market starts to move once somebody listens to the perpetual, and waits for whoever listens.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys

from bot.domain.units import NS_PER_S
from bot.simulation.recording import bundled_names, open_recording
from tests.venues.deribit import DeribitServer
from tests.venues.recording_player import RecordingPlayer


def main() -> None:
    """Parse the command line and serve until the recording is over or Ctrl-C."""
    parser = argparse.ArgumentParser(prog="python -m tests.venues", description="Runs a loopback venue by hand.")
    parser.add_argument("venue", choices=["deribit"])
    parser.add_argument("--recording", default="eth-2023-04", help=f"a path, or one of {', '.join(bundled_names())}")
    parser.add_argument("--port", type=int, default=0, help="of the loopback interface; 0 lets the system choose")
    parser.add_argument("--speed", default="lockstep", help="lockstep, or how many times as fast as it was")
    parser.add_argument("--hours", type=float, default=None, help="play only so much of the recording")
    parser.add_argument("--pause-s", type=float, default=None, help="after every moment that somebody heard of")
    parser.add_argument("--linger-s", type=float, default=10.0, help="stay up so long after the end")
    asyncio.run(serve(parser.parse_args()))


async def serve(wanted: argparse.Namespace) -> None:
    """Play the recording; what a client needs to know goes to stdout first, as one line of JSON."""
    player = RecordingPlayer(open_recording(wanted.recording))
    until_ns = None if wanted.hours is None else player.now_ns + int(wanted.hours * 3_600 * NS_PER_S)
    speed = None if wanted.speed == "lockstep" else float(wanted.speed)
    async with DeribitServer(player.book, port=wanted.port) as server:
        say(json.dumps({"options": server.options, "credentials": server.credentials}))
        moments = await player.play(server, until_ns, pause=wanted.pause_s, speed=speed)
        positions = {name: held.amount for name, held in player.book.positions.items() if held.amount}
        say(json.dumps({"moments": moments, "orders": len(player.book.orders), "positions": positions}))
        await asyncio.sleep(wanted.linger_s)


def say(line: str) -> None:
    """Write a line to stdout at once."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
