"""A short cut of a bundled recording, for tests that need a whole replay of something."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from bot.domain.units import NS_PER_DAY, NS_PER_S
from bot.simulation.recording import RecordingDraft, StreamDraft, open_recording, write_recording

FROM_HOUR, HOURS = 1, 4  # the index rises by 3 % and comes back in part


def cut_short(folder: Path, silence_days: float = 0.0) -> Path:
    """Write four hours of one expiry and everything it is hedged with, and return the folder.

    With a silence after them, one more price ends it: a daemon that keeps time does not come to its end.
    """
    recording = open_recording("eth-2023-04")
    manifest = recording.manifest
    from_ns = manifest.start_ns + FROM_HOUR * 3600 * NS_PER_S
    is_within = pl.col("ts_event_ns").is_between(from_ns, from_ns + HOURS * 3600 * NS_PER_S)
    numbers = [n for n, one in enumerate(manifest.instruments) if "28APR23" in one.instrument_id]
    numbers += [n for n, one in enumerate(manifest.instruments) if one.instrument_id == "ETH-PERPETUAL"]
    streams = {}
    for name, stream in manifest.streams.items():
        table = recording.table(name).filter(is_within)
        if "instrument" in table.collect_schema():
            table = table.filter(pl.col("instrument").is_in(numbers))
        if name == "index" and silence_days:
            silence_ns = round(silence_days * NS_PER_DAY)
            table = pl.concat([table, table.tail(1).with_columns(pl.col("ts_event_ns") + silence_ns)])
        streams[name] = StreamDraft(table, stream.max_age_s, stream.origin, stream.method)
    words = ("short", manifest.source, manifest.licence, manifest.notice, "a cut for tests")
    write_recording(folder, RecordingDraft(*words, manifest.instruments, manifest.depth, streams))
    return folder
