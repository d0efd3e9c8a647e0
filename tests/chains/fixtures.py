"""Fixtures of chains, for every test: one node per kind of world and session, taken back after each test.

`world` has tokens, Uniswap and feeds; `full_world` the optional protocols too. A test that wants blocks by the clock
starts its own: `with open_world(block_time_s=2) as world`, which takes a tenth of a second.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.chains.world import World


@pytest.fixture(scope="session")
def worlds() -> Iterator[Callable[..., World]]:
    """Return a function from names of optional protocols to a world that whoever shares it must take back."""
    from tests.chains.world import open_world  # what a run without chains does not need

    opened: dict[tuple[str, ...], World] = {}
    with contextlib.ExitStack() as stack:

        def world_with(*parts: str) -> World:
            if parts not in opened:
                opened[parts] = stack.enter_context(open_world(*parts))
            return opened[parts]

        yield world_with


@pytest.fixture
def world(worlds: Callable[..., World]) -> Iterator[World]:
    """Return a world as new: its clock is the wall's, its feeds are fresh, and nothing of the test stays."""
    with worlds().as_new() as fresh:
        yield fresh


@pytest.fixture
def full_world(worlds: Callable[..., World]) -> Iterator[World]:
    """Return a world as new, with every optional protocol in it."""
    from tests.chains.world import PARTS

    with worlds(*PARTS).as_new() as fresh:
        yield fresh
