from bot.domain.portfolio import PnlBreakdown


def test_the_total_is_the_sum_of_every_part() -> None:
    parts = {name: 10.0**power for power, name in enumerate(PnlBreakdown.__struct_fields__)}
    assert PnlBreakdown(**parts).total == 11111111111.0


def test_the_total_does_not_lose_small_parts_beside_large_ones() -> None:
    assert PnlBreakdown(delta=1e16, gamma=1.0, theta=-1e16).total == 1.0
