"""The names of the tasks, and of the keys of their own Redis, which has no fault."""

from typing import Final

EARLY: Final = "faults.early"
LATE: Final = "faults.late"
WATCH: Final = "faults.watch"
RUNS: Final = "runs"
"""How often each task has run, by its number."""
OVER: Final = "over"
"""Set when the watching task is to end."""
GAP: Final = "gap"
"""What it has measured, in seconds."""
