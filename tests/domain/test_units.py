from bot.domain.units import NS_PER_DAY, NS_PER_YEAR, tau_years, utc_second_text, utc_text, whole_text


def test_a_year_has_365_days() -> None:
    assert NS_PER_YEAR == 365 * NS_PER_DAY
    assert tau_years(0, NS_PER_YEAR) == 1.0
    assert tau_years(NS_PER_DAY, 2 * NS_PER_DAY) == 1.0 / 365.0


def test_nothing_has_less_than_no_time_left() -> None:
    assert tau_years(10, 10) == 0.0
    assert tau_years(11, 10) == 0.0


def test_times_are_said_in_utc() -> None:
    assert utc_text(1_681_300_800_123_000_000) == "2023-04-12T12:00:00.123+00:00"
    assert utc_text(0) == "never"
    assert utc_second_text(1_681_300_800_999_000_000) == "2023-04-12 12:00:00"


def test_a_whole_text_can_be_written_anywhere() -> None:
    assert whole_text("ferm\udce9, 5 € ✓") == "ferm?, 5 € ✓"
    assert whole_text("") == ""
