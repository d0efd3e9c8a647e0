"""A vault file with a chain, for tests to bend."""

from __future__ import annotations

WETH = "0xC02aaA39b223FE8D0A0e5C4F27eAD9083C756Cc2"
USDC = "0xA0b86991c6218b36c1d19D4a2e9Eb0cE3606eB48"
WSTETH = "0x7f39C581F595B53c5cb19bD0b3f8dA6c935E2Ca0"
POOL = "0x88e6A0c2dDD26FEEb64F039a2c41296FcB3f5640"
ROUTER = "0xE592427A0AEce92De3Edee1F18E0157C05861564"
LINK = "0x5f4eC3Df9cbd43714FE2740f5E3616155c5b8419"
WALLET = "0x70997970C51812dc3A010C7d01b50e0d17dc79C8"


def chain_vault() -> str:
    """Return a vault that hedges what one address holds on one chain by swaps there."""
    return f"""\
vault: chain
mode: paper
feed: live
numeraire: USDC
chains:
  local:
    chain_id: 31337
    rpc: [http://127.0.0.1:8545]
    block_s: 2
    wallet: {{address: "{WALLET}", keystore: hedger.json}}
    assets:
      WETH: {{address: "{WETH}", decimals: 18, underlying: ETH}}
      USDC: {{address: "{USDC}", decimals: 6}}
      wstETH:
        address: "{WSTETH}"
        decimals: 18
        underlying: ETH
        rate: {{contract: "{WSTETH}", function: stEthPerToken()}}
        charge_bps: 50
    pools:
      weth-usdc: {{address: "{POOL}", base: WETH, quote: USDC, fee_pips: 500}}
    oracles:
      link: {{kind: chainlink, underlying: ETH, address: "{LINK}"}}
    hedges:
      WETH-USDC:
        protocol: uniswap_v3
        underlying: ETH
        base: WETH
        quote: USDC
        route: [weth-usdc]
        contracts: {{router: "{ROUTER}"}}
    holders:
      - {{address: "{WALLET}", assets: [WETH, USDC], lp_pools: [weth-usdc], position_manager: "{ROUTER}"}}
    fees: {{max_fee_gwei: 50}}
book:
  - {{chain: local}}
hedge: {{instrument: "local:WETH-USDC"}}
policy: {{type: whalley_wilmott, risk_aversion_per_quote: 3.0e-4}}
limits: {{max_order_quote: 50000, max_orders_per_min: 10, daily_loss_quote: 10000}}
"""
