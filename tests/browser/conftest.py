"""One desk with its browser for all tests here, which run in the browser's thread where they ask for the desk."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.browser.stand import Stand, open_stand


@pytest.fixture(scope="session")
def stand() -> Iterator[Stand]:
    """Return the desk; it is the same one for all tests, so each leaves it running."""
    with open_stand() as desk:
        yield desk


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run a test that uses the desk in the browser's thread; close what it opened there."""
    desk = pyfuncitem.funcargs.get("stand")
    if not isinstance(desk, Stand):
        return None
    given = {name: pyfuncitem.funcargs[name] for name in pyfuncitem._fixtureinfo.argnames}

    def run() -> None:
        try:
            pyfuncitem.obj(**given)
        finally:
            desk.chromium.close_pages()

    desk.chromium.do(run)
    return True
