"""Margin, collateral, counterparties and forecast volatility while the engine trades; `bot/risk` has the formulas."""
