"""Parameter sets: read from JSON, dated, refused in one sentence."""

from __future__ import annotations

from datetime import date

import pytest

from bot.risk.parameters import decode_parameters

TEXT = (
    '{"model": "house", "name": "house-2026", "as_of": "2026-01-02", "expires": "2026-07-01", "source": "own",'
    ' "values": {"price_range": 0.16}}'
)


def test_a_set_is_read_and_expires_on_its_day() -> None:
    found = decode_parameters(TEXT)
    assert found.values == {"price_range": 0.16}
    assert not found.is_expired(date(2026, 6, 30))
    assert found.is_expired(date(2026, 7, 1))


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("{", "found"),
        ('{"model": "house"}', "missing required field `name`"),
        (TEXT.replace("2026-07-01", "2026-01-02"), "expire after 2026-01-02"),
    ],
)
def test_what_is_none_is_refused_in_one_sentence(text: str, found: str) -> None:
    with pytest.raises(ValueError, match=found):
        decode_parameters(text)
