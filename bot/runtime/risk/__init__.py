"""The risk of a running vault for people: its accounts under every model, stress, what-ifs, tables and pictures."""
