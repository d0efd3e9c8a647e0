"""EVM chains: blocks, reads pinned to a block, prices, positions, and hedges as transactions."""
