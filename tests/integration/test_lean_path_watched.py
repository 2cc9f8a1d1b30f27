"""The lean path where receivers of signals and a monitor watch: the same calls, in the same order."""

import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

import pytest
from celery.result import AsyncResult

from tests.support.deployment import deploy, eventually
from tests.support.lean_paths import CASES, Both, both_paths, lean_tasks
from tests.support.patience import wait_until
from tests.support.remote import received_events
from tests.support.servers import MariaDBServer, RedisServer
from tests.support.workers import Worker

SERVICE: Final = "tests.integration.lean_watched_service"

RUNS_AGAIN: Final = frozenset(name for name in CASES if "retr" in name)
"""The end of one attempt may be told before or after the beginning of the next."""

OF_TIME: Final = frozenset(
    {"clock", "hostname", "local_received", "pid", "runtime", "timestamp", "utcoffset", "uuid"}
)


@dataclass
class Watched:
    """The workers, and the events that they have sent."""

    both: Both
    seen: list[dict[str, object]]

    def events_of(self, result: AsyncResult[object]) -> list[dict[str, str]]:
        """The events of a task, without what differs between any two runs."""
        return [
            {
                name: str(value is None if name in {"eta", "expires"} else value).replace(
                    result.id, "<id>"
                )
                for name, value in event.items()
                if name not in OF_TIME and name != "traceback"
            }
            for event in self.seen
            if event.get("uuid") == result.id and event["type"] != "task-sent"
        ]


@pytest.fixture(scope="module")
def watched(redis_server: RedisServer, mariadb_server: MariaDBServer) -> Iterator[Watched]:
    with (
        deploy(redis_server, mariadb_server) as deployment,
        received_events(deployment) as seen,
        both_paths(deployment, SERVICE, "--task-events") as both,
    ):

        def listening() -> bool:
            deployment.client.control.heartbeat()
            return len({event["hostname"] for event in seen}) > 1

        eventually(listening)
        both.send_all()
        yield Watched(both, seen)


def told(worker: Worker, result: AsyncResult[object]) -> list[str]:
    """The signals of a task, and that it has succeeded, in their order."""
    found: list[str] = []
    for line in worker.lines:
        if f" for {result.id}: " in line:
            shown = line.partition("SIGNAL ")[2].replace(result.id, "<id>")
            found.append(re.sub(r"[\da-f]{8}-[\da-f-]{27}", "<another>", shown))
        elif result.id in line and " succeeded in " in line:
            found.append("logged")
    return [line.replace("celerys", "lean") for line in found]


def in_order(name: str, found: list[Any]) -> list[Any]:
    return sorted(found, key=str) if name in RUNS_AGAIN else found


@pytest.mark.parametrize("name", CASES)
def test_receivers_and_monitors_are_told_alike(watched: Watched, name: str) -> None:
    both = watched.both
    lean, celerys = both.sent[name]
    assert both.outcome(lean) == both.outcome(celerys)

    def signals_of() -> list[list[Any]]:
        pairs = (both.lean, lean), (both.celerys, celerys)
        return [in_order(name, told(worker, result)) for worker, result in pairs]

    def events_of() -> list[list[Any]]:
        return [in_order(name, watched.events_of(result)) for result in (lean, celerys)]

    with suppress(AssertionError):
        # The last ones come after the result.
        wait_until(lambda: _agree(*signals_of()) and _agree(*events_of()), 30.0, "the last ones")
    for mine, theirs in (signals_of(), events_of()):
        assert len(theirs) > 1
        assert mine == theirs


def _agree(mine: list[Any], theirs: list[Any]) -> bool:
    return len(mine) > 1 and mine == theirs


def test_the_lean_path_is_taken(watched: Watched) -> None:
    both = watched.both
    before = lean_tasks(both.deployment, both.lean)
    sent = [both.send("lean", name) for name in ("a number", "a wait", "late", "an error")]
    for result in sent:
        both.outcome(result)
    assert lean_tasks(both.deployment, both.lean) >= before + len(sent)
    assert lean_tasks(both.deployment, both.celerys) == 0


def test_a_receiver_may_send_tasks(watched: Watched) -> None:
    both = watched.both
    result = both.send("lean", "no value")
    both.outcome(result)
    eventually(lambda: any("'followed'" in line for line in both.lean.lines))
