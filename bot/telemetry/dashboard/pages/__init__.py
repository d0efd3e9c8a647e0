"""One module per page: `page(shell, …)` lays out what does not change and says what to show at every tick."""
