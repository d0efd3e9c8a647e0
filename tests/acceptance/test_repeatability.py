"""The same vault, recording and seed give the same commands; chance enters by the seed and nowhere else."""

from __future__ import annotations

import os
import subprocess
import sys

from tests.acceptance.vaults import CONFIG, first_day, load, own_run, run

ELSEWHERE = """
from tests.acceptance.vaults import own_run
print(own_run("eth-straddle").summary.commands_sha256)
"""


def test_twice_the_same() -> None:
    summary = own_run("eth-straddle").summary
    assert run(load("eth-straddle")).summary == summary
    assert summary.hedges > 0


def test_the_same_in_another_process_with_other_hashes() -> None:
    environment = {**os.environ, "PYTHONHASHSEED": "4711"}
    command = [sys.executable, "-c", ELSEWHERE]
    done = subprocess.run(command, cwd=CONFIG.parent, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == own_run("eth-straddle").summary.commands_sha256


def test_without_jitter_no_seed_matters_and_with_it_the_seed_is_all_that_does() -> None:
    vault = load("eth-straddle")
    jittery, day = vault.latency.model_copy(update={"jitter": 1.0}), first_day("eth-straddle")
    by_seed = {seed: run(vault, batches=day, seed=seed, latency=jittery).summary for seed in (1, 2)}
    again = run(vault, batches=day, seed=2, latency=jittery).summary
    assert by_seed[2] == again
    assert by_seed[1].commands_sha256 != by_seed[2].commands_sha256
    # Milliseconds of luck move no figure much.
    assert abs(by_seed[1].cost_quote - by_seed[2].cost_quote) < 0.05 * by_seed[1].cost_quote
