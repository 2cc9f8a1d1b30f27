"""This checkout beside another one of tomskit, in the same run: is anything slower than before?

``python -m benchmarks.against COMMIT`` checks the commit out into a temporary folder and measures
both in turn, with the packages of this environment. A ratio above 1 is in favour of this checkout.
"""

import argparse
import statistics
import subprocess
import sys
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final, TypeVar

from tests.support.servers import RedisServer
from typing_extensions import override

from benchmarks.pools.contenders import Run, Servers, TomskitWorker
from benchmarks.pools.measure import Drain, drain
from benchmarks.pools.workloads import IGNORED, NOOP, SHORT, Work
from benchmarks.table import Row, print_table

T = TypeVar("T")

HERE: Final = Path(__file__).resolve().parents[1]

TARGET: Final = ">= 0.97"

RUN: Final = """
import os, statistics, tempfile, time
from tomskit.celery import AsyncCelery, AsyncRuntime
from tomskit.sqlalchemy import DatabaseConfig

async def empty(): pass

os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
with tempfile.TemporaryDirectory() as folder:
    database = DatabaseConfig(
        SQLALCHEMY_DATABASE_URI_SCHEME="sqlite+aiosqlite", DB_DATABASE=f"{folder}/benchmark.db"
    )
    AsyncRuntime.init(AsyncCelery("benchmark", broker="memory://", database=database))
    rounds = []
    for _ in range(9):
        start = time.process_time()
        for _ in range(1000):
            AsyncRuntime.run(empty())
        rounds.append((time.process_time() - start) * 1e3)
    AsyncRuntime.shutdown()
print(min(rounds))
"""
"""Microseconds of processor time of ``AsyncRuntime.run`` of an empty coroutine."""

CALL: Final = """
from time import process_time
from timeit import repeat
from tomskit.celery import AsyncCelery, async_shared_task
from tomskit.celery.serializers import OrjsonSerializer

app = AsyncCelery("benchmark", broker="memory://")

@async_shared_task
async def small(a: int, *, b: str) -> None: ...

codec, serializer = small._tomskit_codec, OrjsonSerializer()
check, load, dumps, loads = codec.check, codec.load, serializer.dumps, serializer.loads
embed = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}

def there_and_back():
    args, kwargs, _ = loads(dumps((*check((1,), {"b": "hello"}), embed)))
    return load(tuple(args), kwargs)

assert there_and_back() == ((1,), {"b": "hello"})
print(min(repeat(there_and_back, timer=process_time, number=5000, repeat=15)) / 5000 * 1e6)
"""
"""Microseconds of processor time to check, dump and load the arguments of a small call."""

DELAY: Final = """
from time import process_time
from timeit import repeat
from tomskit.celery import AsyncCelery, async_shared_task

app = AsyncCelery("benchmark", broker="memory://")

@async_shared_task(ignore_result=True)
async def small(a: int, *, b: str) -> None: ...

small.delay(1, b="hello")
print(min(repeat(lambda: small.delay(1, b="hello"), timer=process_time, number=300, repeat=9)) / 300 * 1e6)
"""
"""Microseconds of processor time of ``.delay`` on the memory transport."""

IMPORT: Final = """
import time
start = time.process_time()
import tomskit.celery
print((time.process_time() - start) * 1e3)
"""
"""Milliseconds of processor time of ``import tomskit.celery``."""


class _Worker(TomskitWorker):
    """A worker whose tomskit is that of a checkout."""

    def __init__(self, checkout: Path, *, is_default: bool) -> None:
        super().__init__(str(checkout), "asyncio", tracked=is_default, logs=is_default)
        self._source = checkout / "src"

    @override
    def _environment(self, run: Run) -> dict[str, str]:
        return {**super()._environment(run), "PYTHONPATH": str(self._source)}


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("commit", help="of the other checkout")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--scale", type=float, default=1.0, help="of the number of tasks")
    options = parser.parse_args()
    with _checkout(options.commit) as other, RedisServer(config=[("databases", "1000")]) as redis:
        print_table([*_programs(other, options.rounds), *_drains(other, redis, options)])


@contextmanager
def _checkout(commit: str) -> Generator[Path]:
    with TemporaryDirectory() as folder:
        archive = subprocess.run(
            ["git", "archive", commit, "src"], cwd=HERE, check=True, capture_output=True
        ).stdout
        subprocess.run(["tar", "-x", "-C", folder], input=archive, check=True)
        yield Path(folder)


def _programs(other: Path, rounds: int) -> list[Row]:
    return [
        _row(name, unit, rounds, partial(_run, code), other)
        for name, unit, code in (
            ("AsyncRuntime.run", "us", RUN),
            ("check, dump and load of a small call", "us", CALL),
            (".delay, memory transport", "us", DELAY),
            ("import tomskit.celery", "ms", IMPORT),
        )
    ]


def _drains(other: Path, redis: RedisServer, options: argparse.Namespace) -> Iterator[Row]:
    for is_default in (True, False):
        configuration = "default configuration" if is_default else "WARNING, not tracked"
        for work in (NOOP, SHORT, IGNORED):
            found = _alternating(
                options.rounds,
                partial(_drained, work, options.scale, redis, is_default=is_default),
                other,
            )
            name = f"a task, {work.title}, {configuration}"
            yield _compared(name, found, lambda drain: 1e6 / drain.rate, TARGET)
            cpu = (">= 2.5" if is_default else ">= 3.33") if work is NOOP else ""
            yield _compared(f"CPU of {name}", found, lambda drain: drain.cpu or 0.0, cpu)


def _drained(
    work: Work, scale: float, redis: RedisServer, checkout: Path, *, is_default: bool
) -> Drain:
    return drain(_Worker(checkout, is_default=is_default), work, scale, Servers(redis, None))


def _compared(
    name: str, found: dict[Path, list[Drain]], of: Callable[[Drain], float], target: str
) -> Row:
    mine, theirs = (statistics.median(map(of, drains)) for drains in found.values())
    return Row(name, mine, theirs, "us", theirs / mine, target)


def _row(
    name: str,
    unit: str,
    rounds: int,
    measure: Callable[[Path], float],
    other: Path,
    *,
    best: Callable[[list[float]], float] = min,
) -> Row:
    mine, theirs = map(best, _alternating(rounds, measure, other).values())
    return Row(name, mine, theirs, unit, theirs / mine, TARGET)


def _alternating(rounds: int, measure: Callable[[Path], T], other: Path) -> dict[Path, list[T]]:
    """What was measured for this checkout, and for the other one."""
    found: dict[Path, list[T]] = {HERE: [], other: []}
    for turn in range(rounds):
        # Who comes second may find the machine warmer.
        for at in (HERE, other) if turn % 2 else (other, HERE):
            found[at].append(measure(at))
    return found


def _run(code: str, checkout: Path) -> float:
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(checkout / "src")},
        check=True,
        capture_output=True,
        text=True,
    )
    return float(done.stdout)


if __name__ == "__main__":
    main()
