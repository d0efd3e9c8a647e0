"""What pages are put together from: sheets of cells, and the chart of exposure over time."""
