"""The process: command line, configuration, daemon, journal and recovery. Nobody imports this package."""
