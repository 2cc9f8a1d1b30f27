"""The parts of CeleryConfig: its fields, by what they configure."""
