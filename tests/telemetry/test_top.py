"""What `top` draws: the band to scale, everything in words, the old never as live, on terminals of every width."""

from __future__ import annotations

import re

import msgspec
import pytest
from rich.console import Console

from bot.domain.windows import UnderlyingState
from bot.telemetry.metrics.board import Board
from bot.telemetry.top import STALE_AFTER_S, draw_bullet, draw_clocks, draw_fleet, printable
from tests.telemetry.states import STATE, UNDERLYING, state

WIDTHS = [200, 160, 149, 116, 115, 80, 60, 40]


class Clock:
    def __init__(self) -> None:
        self.s = 0.0

    def __call__(self) -> float:
        return self.s


def underlying(**changes: object) -> UnderlyingState:
    return msgspec.structs.replace(UNDERLYING, **changes)


def at(net_base: float) -> UnderlyingState:
    return underlying(delta_low_base=net_base, delta_high_base=net_base, low_base=-1.0, high_base=1.0)


def drawn(board: Board, width: int = 180, *, is_fancy: bool = True) -> str:
    console = Console(width=width, record=True, file=open("/dev/null", "w"), highlight=False)  # noqa: SIM115, PTH123
    with console.file:
        console.print(draw_fleet(board, width, is_fancy=is_fancy))
    return console.export_text(styles=False)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def board(clock: Clock) -> Board:
    board = Board(["eth-straddle"], monotonic_s=clock)
    board.show(state())
    return board


@pytest.mark.parametrize(
    ("net_base", "expected"),
    [
        (0.0, "···[──────●──────]···"),
        (-1.0, "···●──────┼──────]···"),
        (0.5, "···[──────┼──●───]···"),
        (1.5, "···[──────┼──────]··●"),
        (3.0, "··[────┼────]········●"),
        (-9.0, "●···············[─┼─]"),
    ],
)
def test_a_bullet_is_to_scale_and_never_leaves_its_place(net_base: float, expected: str) -> None:
    found = draw_bullet(at(net_base))
    assert len(found) == 21
    assert re.fullmatch(r"[·─┼●\[\]]{21}", found)
    if abs(net_base) <= 1.5:
        assert found == expected
    # whatever the scale, the mark is on its side of either edge
    mark, low, high = (found.find(sign) for sign in "●[]")
    if net_base > 1.0:
        assert mark > high
    if net_base < -1.0:
        assert mark < low


def test_doubt_is_a_stretch_and_plain_terminals_get_plain_signs() -> None:
    one = underlying(delta_low_base=-0.5, delta_high_base=0.5, low_base=-1.0, high_base=1.0)
    assert draw_bullet(one) == "···[───●━━━━━●───]···".replace("●━━━━━●", "●━━━━━●")
    assert draw_bullet(one, is_fancy=False).isascii()


def test_a_band_without_width_and_what_is_unknown_are_no_error() -> None:
    assert "●" in draw_bullet(underlying(delta_low_base=0.0, delta_high_base=0.0, low_base=0.0, high_base=0.0))
    for name in ("delta_low_base", "low_base", "high_base"):
        assert draw_bullet(underlying(**{name: None})) == ""
    assert draw_bullet(underlying(target_delta_base=None)) != ""


@pytest.mark.parametrize("width", WIDTHS)
def test_what_matters_most_is_there_on_every_terminal(board: Board, width: int) -> None:
    board.show(state(vault="btc", state="halted", state_reason="kim: wrong book", underlyings=(at(2.0),)))
    text = drawn(board, width)
    assert all(len(line) <= width for line in text.splitlines())
    flat = " ".join(text.split())
    for word in ("eth-straddle", "RUNNING", "HALTED", "kim", "-6.00", "65%", "OUT", "STALE"):
        assert word in flat, word


def test_figures_of_a_wide_terminal(board: Board) -> None:
    text = drawn(board, 200)
    for word in (
        "+0.400…+0.600 PARTLY",
        "-6.00",
        "+14.00",
        "65% watch",
        "2 of 3 STALE",
        "60 s ago",
        "order_in_flight: 1 order",
    ):
        assert word in text, word
    assert text.splitlines()[0].strip() == "1 vault, 1 running"


def test_the_account_nearest_to_liquidation_is_shown_also_where_its_use_is_not_known(board: Board) -> None:
    (one,) = STATE.accounts
    lost = msgspec.structs.replace(one, account="okx", state="emergency", utilisation_ratio=None)
    full = msgspec.structs.replace(one, account="bybit", state="critical", utilisation_ratio=0.935)
    for accounts, said in (
        ((one, full), "94% critical"),
        ((full, lost, one), "unknown emergency"),
        ((msgspec.structs.replace(lost, state="normal"),), "unknown "),
    ):
        board.show(state(accounts=accounts))
        assert said in drawn(board, 200)


@pytest.mark.parametrize("width", WIDTHS)
def test_the_old_is_never_shown_as_live(board: Board, clock: Clock, width: int) -> None:
    clock.s = STALE_AFTER_S + 9.0
    assert "RUNNING" not in drawn(board, width)
    board.gone("eth-straddle", "not running")
    flat = " ".join(drawn(board, width).split())
    assert "STALE 12 s" in flat
    assert "not running" in flat
    assert "0 running, 1 without a fresh state" in flat
    board.show(state())
    assert "RUNNING" in drawn(board, width)


def test_a_daemon_that_says_it_is_gone_is_stale_at_once(board: Board) -> None:
    board.gone("eth-straddle", "not running")
    assert "RUNNING" not in drawn(board)
    assert "STALE 0 s" in drawn(board)


def test_who_never_answered_has_no_figures() -> None:
    board = Board(["eth-straddle"])
    for width in WIDTHS:
        flat = " ".join(drawn(board, width).split())
        assert "NO ANSWER" in flat
        assert "it has not answered yet" in flat


def test_what_is_unknown_is_said_to_be(board: Board) -> None:
    blank = underlying(
        delta_low_base=None, delta_high_base=None, last_hedge_ns=0, refusal="", plan="nothing decided yet"
    )
    board.show(state(underlyings=(blank,), pnl_today_quote=None, accounts=(), feeds=()))
    text = drawn(board, 200)
    for word in ("ETH unknown", "never", "nothing decided yet", "unknown", "none"):
        assert word in text, word
    board.show(state(underlyings=(underlying(low_base=None),)))
    assert "no band" in drawn(board, 200)


def test_what_a_person_must_do_comes_first(board: Board) -> None:
    board.show(state(state="reduce_only", state_reason="adopted 3 lots", to_acknowledge="a foreign fill"))
    assert "to acknowledge: a foreign fill; adopted 3 lots; order_in_flight" in drawn(board, 250)


def test_what_was_set_by_hand_is_shown_where_it_counts(board: Board) -> None:
    board.show(state(underlyings=(UNDERLYING, underlying(underlying="BTC"))))
    assert drawn(board, 250).count("order_in_flight: 1 order; ETH target: +2.000 by kim") == 1
    board.show(state(underlyings=(UNDERLYING, underlying(underlying="BTC")), overrides={"flatten": "by kim: the end"}))
    assert drawn(board, 250).count("flatten: by kim: the end") == 2


def test_every_underlying_has_its_row(board: Board) -> None:
    board.show(state(underlyings=(UNDERLYING, underlying(underlying="BTC"))))
    for width in WIDTHS:
        text = drawn(board, width)
        assert text.count("eth-straddle") == 1
        assert "ETH " in text
        assert "BTC " in text


def test_ascii_terminals_get_ascii(board: Board) -> None:
    board.show(state(underlyings=(underlying(plan="", refusal=""),)))
    for width in WIDTHS:
        text = drawn(board, width, is_fancy=False)
        assert text.isascii(), [sign for sign in text if not sign.isascii()]


def test_no_text_of_others_moves_the_cursor(board: Board) -> None:
    board.show(state(state="paused", state_reason="\x1b[2J\x07 gone", vault="eth-straddle"))
    assert "\x1b" not in drawn(board)
    assert (
        printable("a\x1b[0m\nb\u202e")
        == "a\N{REPLACEMENT CHARACTER}[0m\N{REPLACEMENT CHARACTER}b\N{REPLACEMENT CHARACTER}"
    )


def test_the_clock_is_that_of_the_vaults(board: Board) -> None:
    assert draw_clocks(Board(["x"])) == ""
    assert draw_clocks(board) == "2023-11-14 22:13:20 UTC"
    board.show(state(vault="btc", now_ns=1_700_000_060_000_000_000))
    assert draw_clocks(board) == "2023-11-14 22:13:20 to 2023-11-14 22:14:20 UTC"
