"""Series from outside: volatility indices, macro series, funding, open interest, the supply of stablecoins."""
