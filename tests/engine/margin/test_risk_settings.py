"""What a vault's risk settings say of an asset: by its class, and nothing where nobody stated classes."""

from __future__ import annotations

from bot.domain.units import NS_PER_HOUR
from bot.engine.margin.risk_settings import ClassSettings, ForecastSettings, RiskSettings
from bot.risk.asset_classes import Overrides, decode_classes
from bot.risk.volatility.forecaster import VolForecaster
from bot.runtime.configuration.margin_parameters import carried_sets
from bot.runtime.configuration.volatility import load_artefact
from tests.engine.builders import T0_NS


def settings(**assets: dict[str, float | str]) -> RiskSettings:
    told = Overrides(assets=assets)
    classes = decode_classes(carried_sets("asset_classes")[-1].values, told)
    forecast = ForecastSettings(artefact=load_artefact()[0])
    return RiskSettings(accounts={}, forecast=forecast, classes=ClassSettings(classes=classes, overrides=told))


def best_model(forecaster: VolForecaster) -> str:
    """Return who forecasts after two days of prices."""
    for place in range(48 * 12):
        forecaster.note_price(T0_NS + place * NS_PER_HOUR // 12, 2000.0 * 1.0005 ** (place % 2))
    found = forecaster.forecast(T0_NS + 48 * NS_PER_HOUR, 1.0 / 8760.0)
    assert found is not None
    return found.degraded


def test_bands_are_those_of_the_class_and_of_the_vault() -> None:
    assert RiskSettings(accounts={}).class_of("ETH") is None
    assert RiskSettings(accounts={}).band_multiple("ETH") == 1.0
    assert settings().band_multiple("SOL") == 1.25
    assert settings(ETH={"band_multiple": 1.7}).band_multiple("ETH") == 1.7


def test_who_forecasts_is_what_the_class_says() -> None:
    without = RiskSettings(accounts={}, forecast=ForecastSettings(reason="the vault asks for none"))
    assert "the vault asks for none" in best_model(without.forecaster("ETH"))
    plain = best_model(settings().forecaster("ETH"))
    stated = best_model(settings(ETH={"vol_model": "ewma"}).forecaster("ETH"))
    assert plain != stated
