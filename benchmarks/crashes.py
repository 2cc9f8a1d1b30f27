"""Count the tasks that are lost when workers are killed: `python -m benchmarks.crashes`.

This measures no speed. Tasks with ``acks_late`` are sent to three workers at a time (four in a mixed fleet),
which are killed (SIGKILL), or stopped (SIGTERM), one after the other at random moments, and replaced. Each
task has to run at least once; those that run again are what killed workers had not acknowledged. kombu's own
transport in the same pool is the peer. The tasks and kills of the command are shared among the rows, and with
``--blocks`` each row's share among so many turns: the machine may do something else meanwhile, and rows that
are compared shall have the same of it.
"""

import argparse
from collections import Counter
from dataclasses import dataclass, replace

from tests.support.crashes import Crashes, Member, Outcome, crash
from tests.support.servers import RedisServer
from tests.support.workers import Pool


@dataclass(frozen=True)
class Row:
    """A line of the table, and its share of the tasks and kills."""

    name: str
    fleet: tuple[Member, ...]
    share: int
    warm: bool = False


POOLS: tuple[Pool, ...] = ("asyncio", "prefork", "threads")


def mixed(*, ours: bool) -> tuple[Member, ...]:
    """Workers of ours and of plain Celery, of which one kind is killed."""
    return (
        Member("asyncio", spared=not ours),
        Member("threads", spared=not ours),
        Member("prefork", stock=True, spared=ours),
        Member("threads", stock=True, spared=ours),
    )


ROWS: tuple[Row, ...] = (
    *(Row(f"{pool}, fast path", (Member(pool),) * 3, 15) for pool in POOLS),
    *(Row(f"{pool}, kombu's transport", (Member(pool, fast=False),) * 3, 10) for pool in POOLS),
    Row("mixed with plain Celery, ours killed", mixed(ours=True), 15),
    Row("mixed with plain Celery, those killed", mixed(ours=False), 10),
    *(Row(f"{pool}, fast path, SIGTERM", (Member(pool),) * 3, 5, warm=True) for pool in POOLS),
    Row("mixed with plain Celery, SIGTERM", mixed(ours=True), 5, warm=True),
)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.crashes", description=__doc__)
    parser.add_argument("--tasks", type=int, default=100_000, help="killed rows only, in all")
    parser.add_argument("--kills", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", default="", help="only rows whose name contains this text")
    parser.add_argument("--visibility-timeout", type=float, default=6.0, help="seconds")
    parser.add_argument("--blocks", type=int, default=1, help="in how many turns the rows are run")
    options = parser.parse_args()
    print(f"{options.tasks:,} tasks with acks_late, {options.kills:,} workers killed")
    print(
        f"{'':<38}{'tasks':>8}{'ended':>7}{'lost':>6}{'run again':>11}{'per end':>9}{'left':>6}{'s':>7}"
    )
    shares = sum(row.share for row in ROWS if not row.warm)
    rows = [row for row in ROWS if options.only in row.name]
    done: dict[str, tuple[Crashes, Outcome]] = {}
    for block in range(options.blocks):
        for row in rows[:: 1 if block % 2 == 0 else -1]:
            crashes = Crashes(
                options.tasks * row.share // shares // options.blocks,
                options.kills * row.share // shares // options.blocks,
                row.fleet,
                warm=row.warm,
                visibility_timeout=options.visibility_timeout,
                seed=options.seed + block,
            )
            with RedisServer() as server:
                outcome = crash(server, crashes)
            done[row.name] = added(crashes, outcome, done.get(row.name))
            # So far: the last line of a row has all of its blocks.
            show(row.name, *done[row.name])
    return 0 if all(is_clean(row, done[row.name][1]) for row in rows) else 1


def added(
    crashes: Crashes, outcome: Outcome, before: tuple[Crashes, Outcome] | None
) -> tuple[Crashes, Outcome]:
    """What was done and has come of it, with that of the blocks before."""
    if before is None:
        return crashes, outcome
    done, found = before
    return (
        replace(done, tasks=done.tasks + crashes.tasks, kills=done.kills + crashes.kills),
        Outcome(
            lost=found.lost + outcome.lost,
            again=found.again + outcome.again,
            left=found.left + outcome.left,
            seconds=found.seconds + outcome.seconds,
            complaints=Counter(found.complaints + outcome.complaints),
            codes=Counter(found.codes + outcome.codes),
        ),
    )


def is_clean(row: Row, outcome: Outcome) -> bool:
    """Whether nothing was lost where that is promised."""
    killed = [member for member in row.fleet if not member.spared]
    promised = all(member.fast and not member.stock for member in killed)
    return not (promised and (outcome.lost or outcome.left))


def show(name: str, crashes: Crashes, outcome: Outcome) -> None:
    """Print a line of the table, and what was logged as an error."""
    print(
        f"{name:<38}{crashes.tasks:>8,}{crashes.kills:>7}{outcome.lost:>6}{outcome.again:>11}"
        f"{outcome.again / max(crashes.kills, 1):>9.2f}{outcome.left:>6}{outcome.seconds:>7.0f}",
        flush=True,
    )
    if crashes.warm:
        codes = ", ".join(f"{code}: {count}" for code, count in outcome.codes.items())
        print(f"    exit codes {codes}", flush=True)
    for line, count in outcome.complaints.most_common(5):
        print(f"    {count} times: {line}", flush=True)


if __name__ == "__main__":
    raise SystemExit(main())
