"""Arguments and results: what goes over the wire, and what comes back from it."""
