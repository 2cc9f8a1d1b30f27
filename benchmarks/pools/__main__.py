"""Compare the asyncio pool with its peers; `benchmarks.pools` describes the method."""

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

from benchmarks.pools import contenders, foreign
from benchmarks.pools.chart import write_chart
from benchmarks.pools.clients import Trips, trips
from benchmarks.pools.contenders import Contender, Servers
from benchmarks.pools.measure import Drain, drain
from benchmarks.pools.workloads import (
    COMMON,
    CONNECTIONS,
    IGNORED,
    NOOP,
    OURS,
    PEERS,
    QUERY,
    QUERY_SECONDS,
    SHORT,
    WIDE_NOOP,
    WIDE_SLEEP,
    Work,
)
from benchmarks.table import Row, print_table

OPEN_FILES = 16_384
"""The limit of open files: a thousand threads with an event loop each need some thousands."""

TRIPS = 1000
"""How many results a client awaits concurrently."""

SENDS = "sends, 1/s"
CLIENTS: dict[str, Callable[[Trips], float]] = {
    SENDS: lambda measured: measured.sending,
    "one at a time, ms": lambda measured: measured.alone,
    "all at once: p50, ms": lambda measured: measured.median,
    "p99, ms": lambda measured: measured.last,
}

THREADS = f"celery threads -c {contenders.MANY}"
QUEUES = ("taskiq", "arq", "streaq")
NAMES = ("asyncio", "prefork", "threads", "gevent", "taskiq", "arq", "streaq", "bullmq", "sidekiq")


@dataclass
class Options:
    """The options of the command line."""

    scale: float
    rounds: int
    only: list[str]
    pool: str
    chart: Path | None


@dataclass
class Results:
    """All measurements and failures."""

    drains: dict[tuple[str, Work], list[Drain]] = field(
        default_factory=dict[tuple[str, Work], list[Drain]]
    )
    trips: dict[str, list[Trips]] = field(default_factory=dict[str, list[Trips]])
    notes: list[str] = field(default_factory=list[str])
    failed: set[tuple[str, Work]] = field(default_factory=set[tuple[str, Work]])

    def median(self, name: str, work: Work, of: Callable[[Drain], float | None]) -> float | None:
        """The median over the rounds; None if nothing was measured."""
        found = [of(drain) for drain in self.drains.get((name, work), ())]
        known = [value for value in found if value is not None]
        return statistics.median(known) if known else None

    def trip(self, name: str, of: Callable[[Trips], float]) -> float | None:
        """The median over the rounds; None for a contender without an async client."""
        found = self.trips.get(name)
        return statistics.median(map(of, found)) if found else None

    def rate(self, name: str, work: Work) -> float | None:
        """Tasks per second."""
        return self.median(name, work, lambda drain: drain.rate)


def main() -> int:
    options = _parse()
    _prepare_process()
    results = Results()
    with ExitStack() as stack:
        ours, peers = _contenders(options, Path(stack.enter_context(TemporaryDirectory())), results)
        # Enough databases for each drain to have two unused ones.
        redis = stack.enter_context(RedisServer(config=[("databases", "10000")]))
        servers = Servers(redis, stack.enter_context(MariaDBServer()) if ours else None)
        for number in range(options.rounds):
            for work in (*PEERS, *OURS):
                for contender in [*ours, *peers]:
                    if work in contender.works and (contender.name, work) not in results.failed:
                        scale = options.scale
                        _measure(contender, work, servers, results, number, scale=scale)
            for contender in [*ours, *peers]:
                _travel(contender, servers, results, number, scale=options.scale)
    _print(results, [it.name for it in ours], [it.name for it in peers], options)
    if options.chart is not None:
        _draw(results, [it.name for it in (*ours, *peers)], options.chart)
    return 1 if results.failed else 0


def _parse() -> Options:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pools", description=__doc__)
    parser.add_argument("--scale", type=float, default=1.0, help="factor for all numbers of tasks")
    parser.add_argument(
        "--rounds", type=int, default=1, help="alternating rounds; the median is reported"
    )
    parser.add_argument(
        "--only",
        default=",".join(NAMES),
        help="comma-separated names out of %(default)s",
        metavar="NAMES",
    )
    parser.add_argument(
        "--pool", default="asyncio", help="the pool of tomskit's worker (default: %(default)s)"
    )
    parser.add_argument("--chart", type=Path, help="write a chart of the rates to this file")
    found = parser.parse_args()
    only = str(found.only).split(",")
    if unknown := set(only) - set(NAMES):
        parser.error(f"--only knows {', '.join(NAMES)}, not {', '.join(sorted(unknown))}")
    return Options(
        float(found.scale), max(1, int(found.rounds)), only, str(found.pool), found.chart
    )


def _prepare_process() -> None:
    """Prepare what workers inherit: no settings in the environment, and enough open files."""
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
        "bullmq": lambda: foreign.bullmq(folder / "bullmq"),
        "sidekiq": foreign.sidekiq,
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


def _travel(
    contender: Contender, servers: Servers, results: Results, number: int, *, scale: float
) -> None:
    where = f"round {number + 1}, client, {contender.name}"
    try:
        measured = trips(contender, max(10, round(TRIPS * scale)), servers)
    except Exception as error:  # noqa: BLE001 (the others are measured all the same)
        results.notes.append(f"Failed: {where}: {error}")
        print(f"{where}: failed", file=sys.stderr, flush=True)
    else:
        if measured is not None:
            results.trips.setdefault(contender.name, []).append(measured)
            print(f"{where}: sends {measured.sending:.0f} a second", file=sys.stderr, flush=True)


def _draw(results: Results, names: Sequence[str], path: Path) -> None:
    groups = {
        f"Tasks a second: {work.title}": [
            (name, rate) for name in names if (rate := results.rate(name, work)) is not None
        ]
        for work in COMMON
    }
    write_chart(path, "One worker process, Redis on the same machine", groups)


def _print(results: Results, ours: Sequence[str], peers: Sequence[str], options: Options) -> None:
    names = [*ours, *peers]
    works = [*PEERS, QUERY]
    width = max(map(len, names), default=0)
    heads = [
        *(f"{work.title}, 1/s" for work in works),
        "CPU a no-op, us",
        "start, s",
        "Redis commands a no-op",
    ]
    print(f"\n{'tasks a second':{width}}  {'  '.join(heads)}")
    for name in names:
        values = [
            *(results.rate(name, work) for work in works),
            results.median(name, NOOP, lambda drain: drain.cpu),
            results.median(name, NOOP, lambda drain: drain.start),
            results.median(name, NOOP, lambda drain: drain.commands),
        ]
        cells = [
            f"{'-' if value is None else format(value, '.1f'):>{len(head)}}"
            for value, head in zip(values, heads, strict=True)
        ]
        print(f"{name:{width}}  {'  '.join(cells)}")
    _print_clients(results, names, width)
    print()
    rows = [row for name in ours for row in _rows(results, name, peers)]
    if rows:
        print_table(rows)
    if options.scale < 1:
        print(f"\nThe targets are for --scale 1; this run had --scale {options.scale:g}.")
    if results.notes:
        print("", *results.notes, sep="\n")


def _print_clients(results: Results, names: Sequence[str], width: int) -> None:
    print(f"\n{'clients in an event loop':{width}}  {'  '.join(CLIENTS)}")
    for name in names:
        if name in results.trips:
            values = [results.trip(name, of) for of in CLIENTS.values()]
            cells = [
                f"{'-' if value is None else format(value, '.1f'):>{len(head)}}"
                for value, head in zip(values, CLIENTS, strict=True)
            ]
            print(f"{name:{width}}  {'  '.join(cells)}")


def _rows(results: Results, name: str, peers: Sequence[str]) -> Iterator[Row]:
    yield from _rate_rows(results, name, peers)
    yield from _client_rows(results, name, peers)
    yield from _bound_rows(results, name)


def _rate_rows(results: Results, name: str, peers: Sequence[str]) -> Iterator[Row]:
    targets = {
        (SHORT, "celery prefork -c 2"): ">= 100",
        **dict.fromkeys(((work, THREADS) for work in COMMON), ">= 4"),
        **dict.fromkeys(((work, queue) for work in COMMON for queue in QUEUES), ">= 1.5"),
        **dict.fromkeys(((IGNORED, queue) for queue in QUEUES), ">= 2"),
        **dict.fromkeys(((work, "taskiq") for work in COMMON), ">= 3.5"),
        **dict.fromkeys(
            ((work, "bullmq") for work in COMMON),
            ">= 1.4" if name.endswith("not tracked") else ">= 1",
        ),
        (IGNORED, "sidekiq -c 10"): ">= 2",
    }
    for work in PEERS:
        for peer in peers:
            mine, theirs = results.rate(name, work), results.rate(peer, work)
            if mine is not None and theirs is not None:
                target = targets.get((work, peer), "")
                title = f"{name} / {peer}: {work.title}"
                yield Row(title, mine, theirs, "1/s", mine / theirs, target)


def _client_rows(results: Results, name: str, peers: Sequence[str]) -> Iterator[Row]:
    for peer in peers:
        for title, of in CLIENTS.items():
            mine, theirs = results.trip(name, of), results.trip(peer, of)
            if mine is None or theirs is None:
                continue
            sends = title == SENDS
            target = ">= 2" if sends and peer == "taskiq" else "" if sends else ">= 1"
            ratio = mine / theirs if sends else theirs / mine
            unit = "1/s" if sends else "ms"
            yield Row(f"{name} / {peer}: {title}", mine, theirs, unit, ratio, target)


def _bound_rows(results: Results, name: str) -> Iterator[Row]:
    mine, theirs = (
        results.median(who, NOOP, lambda drain: drain.commands) for who in (name, THREADS)
    )
    if mine is not None and theirs is not None:
        title = f"{name} / {THREADS}: Redis commands"
        yield Row(title, mine, theirs, "a task", theirs / mine, ">= 3")
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
