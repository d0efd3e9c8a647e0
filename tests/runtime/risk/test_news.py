"""What changed of risk, told once each with its reason."""

from __future__ import annotations

from bot.domain.risk import SeriesValue
from bot.engine.margin.risk_settings import ForecastSettings
from bot.risk.conditions import Condition, ConditionParameters
from bot.runtime.risk.news import RiskNews
from tests.engine.builders import Driver
from tests.engine.margin_vault import A, MarginVault

VIX = Condition(series="VIX", max_age_s=86_400.0, knots=((20.0, 1.0), (40.0, 2.0)))


def test_each_change_is_told_once_with_its_reason() -> None:
    settings = ForecastSettings(conditions=ConditionParameters(rules=(VIX,)))
    vault = MarginVault({"a": 1e6}, instruments=(A,), risk={"forecast": settings})
    news = RiskNews(vault.engine)
    vault.apply(SeriesValue("VIX", 30.0, vault.now_ns, vault.now_ns, vault.now_ns))
    vault.hedge_all()
    told = news.take()
    assert ("conditions", "×1.00 → ×1.50: VIX is 30") in told
    assert any(of == "buffer of a" and "1.230 → 1.690: 1 + 0.23 × 2.00 for vol × 1.50" in line for of, line in told)
    assert news.take() == []
    for _ in range(3):
        vault.tick(px=2150.0)
    (one,) = news.take()
    assert one[0] == "breaker"
    assert "ETH moved +7.5%" in one[1]


def test_what_was_before_is_no_news_and_without_margin_there_is_none() -> None:
    vault = MarginVault({"a": 1e6}, instruments=(A,))
    vault.hedge_all()
    assert RiskNews(vault.engine).take() == []
    plain = Driver()
    news = RiskNews(plain.engine)
    plain.tick()
    assert news.take() == []
