"""The worker: made ready for coroutines, its boot steps, signals and log lines."""
