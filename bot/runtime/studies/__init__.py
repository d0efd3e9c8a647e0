"""What is reckoned for people with nothing traded: quotes, tunings, calibrations, imports, permissions on chains."""
