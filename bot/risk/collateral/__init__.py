"""Which collateral to put where: the cheapest that meets every venue's requirement in every scenario, in time."""
