"""The parts of CeleryConfig."""
