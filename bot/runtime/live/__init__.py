"""Runs on live feeds: gateways and clocks, what venues tell beside prices, recording, collateral moved for real."""
