"""Where a task's time goes: the parts of a worker's processor time, as ``python -m benchmarks.shares`` measures them.

A worker of the asyncio pool drains a queue of no-ops, in the default configuration at INFO, and again at
WARNING without the state STARTED. A timer of processor time notes what its thread is doing; a sample belongs
to the innermost frame that is in one of the parts. The start of the worker is not counted.
"""

import argparse
import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from tests.support.servers import RedisServer
from typing_extensions import override

from benchmarks.pools.contenders import Run, Servers, TomskitWorker
from benchmarks.pools.measure import drain
from benchmarks.pools.sampler import OTHER, PARTS, SAMPLES
from benchmarks.pools.workloads import NOOP

ROWS: Final = (*PARTS, OTHER)


class _Sampled(TomskitWorker):
    def __init__(self, path: Path, *, is_default: bool) -> None:
        super().__init__("sampled", "asyncio", tracked=is_default, logs=is_default)
        self._path = path

    @override
    def _environment(self, run: Run) -> dict[str, str]:
        return {**super()._environment(run), SAMPLES: str(self._path)}


def main() -> None:
    """Measure, and print the table as Markdown."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scale", type=float, default=3.0, help="of the number of tasks")
    scale: float = parser.parse_args().scale
    columns: list[list[float]] = []
    with RedisServer(config=[("databases", "100")]) as redis, TemporaryDirectory() as folder:
        for is_default in (True, False):
            path = Path(folder, f"{is_default}.json")
            worker = _Sampled(path, is_default=is_default)
            measured = drain(worker, NOOP, scale, Servers(redis, None))
            counts: dict[str, int] = json.loads(path.read_text(encoding="utf-8"))
            cpu, samples = measured.cpu or 0.0, sum(counts.values())
            columns.append([cpu * counts.get(part, 0) / samples for part in ROWS])
    print("| microseconds a task | INFO, STARTED | WARNING, no STARTED |\n|---|---|---|")
    for part, *values in zip(ROWS, *columns, strict=True):
        print(f"| {part} | {' | '.join(f'{value:.0f}' for value in values)} |")
    print(f"| all | {' | '.join(f'{sum(values):.0f}' for values in columns)} |")


if __name__ == "__main__":
    main()
