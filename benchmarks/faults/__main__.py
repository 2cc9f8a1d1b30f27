"""Workers under faults: `python -m benchmarks.faults`.

This measures no speed. A worker runs short tasks, ten a second, every other one with ``acks_late``.
Its broker and its result backend are two Redis servers behind proxies. A fault begins, lasts for ten
seconds or for ever, and ends; then the worker is stopped in the middle of the same fault. The peers are
plain Celery apps with the same tasks. The result is a table in Markdown.
"""

import argparse
import re
from collections.abc import Sequence
from pathlib import Path

from tests.support.workers import WorkerError

from benchmarks.faults.catalogue import FAULTS
from benchmarks.faults.run import CONTENDERS, Outcome, run

HEAD = (
    "Fault",
    "Worker",
    "Not run",
    "Run twice",
    "STARTED",
    "FAILURE",
    "Longest gap",
    "Recovery",
    "SIGTERM",
)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.faults", description=__doc__)
    parser.add_argument("--faults", default="", help="only faults whose name contains this text")
    parser.add_argument("--workers", default="", help="only workers whose name contains this text")
    parser.add_argument(
        "--deadline", type=float, default=60.0, help="seconds after which a run is given up"
    )
    parser.add_argument("--logs", type=Path, help="a folder for the logs of the workers")
    options = parser.parse_args()
    if options.logs is not None:
        options.logs.mkdir(parents=True, exist_ok=True)
    print(_row(HEAD))
    print(_row(["---"] * len(HEAD)))
    for fault in FAULTS:
        for contender in CONTENDERS:
            if options.faults in fault.name and options.workers in contender.name:
                name = re.sub(r"\W+", "-", f"{fault.name} {contender.name}")
                log = None if options.logs is None else options.logs / f"{name}.log"
                try:
                    cells = _cells(run(contender, fault, options.deadline, log))
                except WorkerError as exc:
                    cells = [f"did not start: {str(exc).splitlines()[0]}"]
                print(_row([fault.name, contender.name, *cells]), flush=True)


def _cells(outcome: Outcome) -> list[str]:
    return [
        f"{outcome.missing} of {outcome.sent}",
        str(outcome.again),
        str(outcome.started),
        str(outcome.failed),
        _seconds(outcome.gap, "", places=2),
        _seconds(outcome.recovery, "none"),
        "ended by itself" if outcome.ended else _seconds(outcome.stopped, "does not end"),
    ]


def _seconds(value: float | None, otherwise: str, places: int = 1) -> str:
    return otherwise if value is None else f"{value:.{places}f} s"


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
