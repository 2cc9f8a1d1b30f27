"""The time of `import tomskit.celery`, compared with the imports of its dependencies."""

import subprocess
import sys
import time

from benchmarks.table import Row, print_table

OURS = "import tomskit.celery"
THEIRS = "import celery, sqlalchemy.ext.asyncio, redis.asyncio, pydantic_settings"
ROUNDS = 15


def measure() -> list[Row]:
    """Milliseconds of a whole interpreter run: the fastest of alternating rounds."""
    ours: list[float] = []
    theirs: list[float] = []
    for _ in range(ROUNDS):
        ours.append(_milliseconds(OURS))
        theirs.append(_milliseconds(THEIRS))
    best, peer = min(ours), min(theirs)
    return [
        Row(
            "import tomskit.celery / its dependencies",
            best,
            peer,
            "ms",
            peer / best,
            ">= 0.77 (1.3 times)",
        )
    ]


def _milliseconds(code: str) -> float:
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True)
    return (time.perf_counter() - start) * 1000


if __name__ == "__main__":
    print_table(measure())
