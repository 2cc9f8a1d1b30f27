"""Measure the asyncio pool side by side with its peers; what is measured how: benchmarks.pools."""

import argparse
import os
import resource
import statistics
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.support.servers import MariaDBServer, RedisServer

from benchmarks.pools import contenders
from benchmarks.pools.contenders import Contender, Servers
from benchmarks.pools.measure import Drain, drain
from benchmarks.pools.workloads import (
    COMMON,
    CONNECTIONS,
    NOOP,
    OURS,
    QUERY,
    QUERY_SECONDS,
    SHORT,
    WIDE_NOOP,
    WIDE_SLEEP,
    Work,
)
from benchmarks.table import Row, print_table

OPEN_FILES = 16_384
"""A thousand threads with an event loop each have some thousands."""

NAMES = ("asyncio", "prefork", "threads", "gevent", "taskiq", "arq", "streaq")


@dataclass
class Options:
    """Of the command line."""

    scale: float
    rounds: int
    only: list[str]
    pool: str


@dataclass
class Results:
    """All drains, and what went wrong."""

    drains: dict[tuple[str, Work], list[Drain]] = field(
        default_factory=dict[tuple[str, Work], list[Drain]]
    )
    notes: list[str] = field(default_factory=list[str])
    failed: set[tuple[str, Work]] = field(default_factory=set[tuple[str, Work]])

    def median(self, name: str, work: Work, of: Callable[[Drain], float | None]) -> float | None:
        """Over the rounds; None where nothing was measured."""
        found = [of(drain) for drain in self.drains.get((name, work), ())]
        known = [value for value in found if value is not None]
        return statistics.median(known) if known else None

    def rate(self, name: str, work: Work) -> float | None:
        """Tasks a second."""
        return self.median(name, work, lambda drain: drain.rate)


def main() -> int:
    options = _parse()
    _prepare_process()
    results = Results()
    with ExitStack() as stack:
        ours, peers = _contenders(options, Path(stack.enter_context(TemporaryDirectory())), results)
        # Enough databases for each drain to have two that nobody has used.
        redis = stack.enter_context(RedisServer(config=[("databases", "10000")]))
        servers = Servers(redis, stack.enter_context(MariaDBServer()) if ours else None)
        for number in range(options.rounds):
            for work in (*COMMON, *OURS):
                for contender in [*ours, *peers]:
                    if work in contender.works and (contender.name, work) not in results.failed:
                        scale = options.scale
                        _measure(contender, work, servers, results, number, scale=scale)
    _print(results, [it.name for it in ours], [it.name for it in peers], options)
    return 1 if results.failed else 0


def _parse() -> Options:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pools", description=__doc__)
    parser.add_argument("--scale", type=float, default=1.0, help="of all numbers of tasks")
    parser.add_argument("--rounds", type=int, default=1, help="take turns; the median counts")
    parser.add_argument(
        "--only", default=",".join(NAMES), help="comma-separated, of %(default)s", metavar="NAMES"
    )
    parser.add_argument(
        "--pool", default="asyncio", help="another pool of tomskit in place of %(default)s"
    )
    found = parser.parse_args()
    only = str(found.only).split(",")
    if unknown := set(only) - set(NAMES):
        parser.error(f"--only knows {', '.join(NAMES)}, not {', '.join(sorted(unknown))}")
    return Options(float(found.scale), max(1, int(found.rounds)), only, str(found.pool))


def _prepare_process() -> None:
    """What workers inherit: nothing that would configure them, and enough open files."""
    for name in [name for name in os.environ if name.startswith("CELERY_")]:
        del os.environ[name]
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < OPEN_FILES:
        wanted = OPEN_FILES if hard == resource.RLIM_INFINITY else min(OPEN_FILES, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _contenders(
    options: Options, folder: Path, results: Results
) -> tuple[list[Contender], list[Contender]]:
    ours = contenders.tomskit(options.pool) if "asyncio" in options.only else []
    makers = {
        "prefork": contenders.prefork,
        "threads": contenders.threads,
        "gevent": contenders.gevent,
        "taskiq": contenders.taskiq,
        "arq": lambda: contenders.arq(folder / "arq"),
        "streaq": contenders.streaq,
    }
    peers: list[Contender] = []
    for name, make in makers.items():
        if name in options.only:
            made = make()
            if isinstance(made, str):
                results.notes.append(f"Left out: {name}: {made}")
            else:
                peers.append(made)
    return ours, peers


def _measure(
    contender: Contender,
    work: Work,
    servers: Servers,
    results: Results,
    number: int,
    *,
    scale: float,
) -> None:
    key = (contender.name, work)
    where = f"round {number + 1}, {work.title}, {contender.name}"
    try:
        measured = drain(contender, work, scale, servers)
    except Exception as error:  # noqa: BLE001 (the others are measured all the same)
        results.failed.add(key)
        results.notes.append(f"Failed: {where}: {error}")
        print(f"{where}: failed", file=sys.stderr, flush=True)
    else:
        results.drains.setdefault(key, []).append(measured)
        print(f"{where}: {measured.rate:.0f} a second", file=sys.stderr, flush=True)


def _print(results: Results, ours: Sequence[str], peers: Sequence[str], options: Options) -> None:
    names = [*ours, *peers]
    works = [*COMMON, QUERY]
    width = max(map(len, names), default=0)
    heads = [*(f"{work.title}, 1/s" for work in works), "start, s"]
    print(f"\n{'tasks a second':{width}}  {'  '.join(heads)}")
    for name in names:
        values = [
            *(results.rate(name, work) for work in works),
            results.median(name, NOOP, lambda drain: drain.start),
        ]
        cells = [
            f"{'-' if value is None else format(value, '.1f'):>{len(head)}}"
            for value, head in zip(values, heads, strict=True)
        ]
        print(f"{name:{width}}  {'  '.join(cells)}")
    print()
    rows = [row for name in ours for row in _rows(results, name, peers)]
    if rows:
        print_table(rows)
    if options.scale < 1:
        print(f"\nThe targets are for --scale 1; this was {options.scale:g}.")
    if results.notes:
        print("", *results.notes, sep="\n")


def _rows(results: Results, name: str, peers: Sequence[str]) -> Iterator[Row]:
    targets = {
        (SHORT, "celery prefork -c 2"): ">= 30",
        (SHORT, f"celery threads -c {contenders.MANY}"): ">= 1.3",
    }
    for work in COMMON:
        for peer in peers:
            mine, theirs = results.rate(name, work), results.rate(peer, work)
            if mine is not None and theirs is not None:
                target = targets.get((work, peer), "")
                title = f"{name} / {peer}: {work.title}"
                yield Row(title, mine, theirs, "1/s", mine / theirs, target)
    wide, noop = (
        results.median(name, work, lambda drain: drain.seconds) for work in (WIDE_SLEEP, WIDE_NOOP)
    )
    if wide is not None and noop is not None:
        bound = noop + 1.0
        title = f"{name}: {WIDE_SLEEP.title} / no-op + 1 s"
        yield Row(title, wide, bound, "s", bound / wide, ">= 0.4 (2.5 times)")
    peak = results.median(name, WIDE_SLEEP, lambda drain: drain.peak)
    if peak is not None:
        yield Row(f"{name}: peak memory of that / 150 MB", peak, 150.0, "MB", 150.0 / peak, ">= 1")
    rate = results.rate(name, QUERY)
    if rate is not None:
        bound = CONNECTIONS / QUERY_SECONDS
        title = f"{name}: {QUERY.title} / {CONNECTIONS} connections"
        yield Row(title, rate, bound, "1/s", rate / bound, ">= 0.9")


if __name__ == "__main__":
    sys.exit(main())
