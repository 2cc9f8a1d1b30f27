"""Two workers that run the same tasks: one on the lean path, the other on Celery's own."""

import json
import re
from collections.abc import Generator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from celery.result import AsyncResult

from tests.support.deployment import TIMEOUT, Deployment, eventually
from tests.support.patience import wait_until
from tests.support.remote import received_events
from tests.support.workers import Worker

SERVICE: Final = "tests.integration.lean_service"
WATCHED_SERVICE: Final = "tests.integration.lean_watched_service"
ENDED: Final = {"SUCCESS", "FAILURE", "REVOKED", "REJECTED", "LATER"}

CASES: Final[dict[str, tuple[str, tuple[object, ...], dict[str, object]]]] = {
    "a number": ("echo", (1,), {}),
    "a text": ("echo", ("é☂",), {}),
    "a text like a mark": ("echo", ("__type__",), {}),
    "no value": ("nothing", (), {}),
    "a list": ("echo", ([1, 2.5, None, True, {"a": []}],), {}),
    "a long number": ("echo", (2**70,), {}),
    "a wait": ("wait", (3,), {}),
    "a model": ("point", (datetime(2030, 1, 2, tzinfo=UTC),), {}),
    **{
        f"special: {kind}": ("special", (kind,), {})
        for kind in (
            *("nan", "infinite", "long", "uuid", "date", "duration"),
            *("text", "nested", "deep", "keys"),
        )
    },
    "late": ("late", (1,), {}),
    "an error": ("fail", ("x\ny",), {}),
    "an error, late": ("fail_late", (), {}),
    "wrong arguments": ("wait", ("three",), {}),
    "too many arguments": ("wait", (1, 2, 3), {}),
    "retries": ("retry", (), {}),
    "retries in vain": ("retry_in_vain", (), {}),
    "autoretry": ("autoretry", (1,), {}),
    "autoretry in vain": ("autoretry", (9,), {}),
    "ignored by itself": ("ignore", (), {}),
    "rejected": ("reject", (), {}),
    "an exit": ("leave", (), {}),
    "the request": ("describe", (), {}),
    "the request, with a header of one's own": ("describe", (), {"headers": {"mine": 1}}),
    "the request, with limits": ("describe", (), {"time_limit": 30, "soft_time_limit": 20}),
    "a priority": ("describe", (), {"priority": 3}),
    "a countdown": ("echo", (1,), {"countdown": 0.01}),
    "an expiry": ("echo", (1,), {"expires": 100}),
    "a link": ("echo", (1,), {"link": "echo"}),
    "children": ("parent", (2,), {}),
    "a callback that its message does not name": ("follow", (1,), {}),
    "a soft limit, caught": ("catch_limit", (), {}),
    "a soft limit": ("exceed_limit", (), {}),
    "progress": ("progress", (3,), {}),
    "another serializer": ("echo", (1,), {"serializer": "orjson"}),
    "compressed": ("echo", ("x" * 100,), {"compression": "gzip"}),
}


@dataclass
class Both:
    """Two workers of one deployment, each with a queue of its own."""

    deployment: Deployment
    lean: Worker
    celerys: Worker
    sent: dict[str, tuple[AsyncResult[object], AsyncResult[object]]] = field(
        default_factory=dict[str, tuple[AsyncResult[object], AsyncResult[object]]]
    )

    def send_all(self) -> None:
        """Send each case to both."""
        for name in CASES:
            self.sent[name] = self.send("lean", name), self.send("celerys", name)

    def send(self, queue: str, name: str) -> AsyncResult[object]:
        task, args, options = CASES[name]
        options = dict(options)
        if "link" in options:
            options["link"] = self.deployment.client.signature(
                f"{SERVICE}.{options['link']}", queue=queue
            )
        options.setdefault("serializer", "json")
        return self.deployment.send(f"{SERVICE}.{task}", *args, queue=queue, **options)

    def stored(self, result: AsyncResult[object]) -> dict[str, Any]:
        client = self.deployment.redis.client(self.deployment.redis_db.result_db)
        raw = client.get(f"celery-task-meta-{result.id}")
        found: dict[str, Any] = json.loads(raw) if raw is not None else {}
        return found

    def outcome(self, result: AsyncResult[object]) -> object:
        """What is stored for a task, without what differs between any two runs."""
        eventually(lambda: self.stored(result).get("status") in ENDED)
        meta = self.stored(result)
        del meta["date_done"]
        meta["children"] = len(meta["children"])
        if meta["traceback"]:
            meta["traceback"] = meta["traceback"].splitlines()[-1]
        return json.loads(json.dumps(meta).replace(result.id, "<id>"))

    def log(self, worker: Worker, result: AsyncResult[object]) -> list[str]:
        """The log lines of a task, without times and the frames of tracebacks."""
        lines = [line for line in worker.lines if result.id in line]
        # An attempt's last line may come before or after the first one of the next.
        return sorted(
            re.sub(r"in [\d.e-]+s", "in <s>", re.sub(r"^\[[^\]]*\d:", "[", line)).replace(
                result.id, "<id>"
            )
            for line in lines
        )


@contextmanager
def both_paths(deployment: Deployment, module: str, *arguments: str) -> Generator[Both]:
    """Start the two workers.

    Args:
        deployment: Theirs.
        module: With the app, and tasks of the service's names.
        arguments: Of the workers' command line.
    """
    lean, celerys = (
        deployment.begin(
            "asyncio",
            50,
            f"--queues={queue}",
            *arguments,
            module=module,
            CELERY_ACCEPT_CONTENT="json,orjson",
            CELERY_WORKER_LEAN_PATH=lean_path,
        )
        for queue, lean_path in (("lean", "true"), ("celerys", "false"))
    )
    lean.wait_ready()
    celerys.wait_ready()
    both = Both(deployment, lean, celerys)
    try:
        yield both
    finally:
        # While the server still runs: a result unsubscribes when it is dropped.
        both.sent.clear()


def lean_tasks(deployment: Deployment, worker: Worker) -> int:
    """How many tasks have taken the lean path in a worker, once it has nothing left to do."""
    inspect = deployment.client.control.inspect([worker.hostname], timeout=TIMEOUT, limit=1)
    broker = deployment.redis.client(deployment.redis_db.broker_db)

    def is_idle() -> bool:
        if broker.llen("lean") or broker.llen("celerys") or broker.hlen("unacked"):
            return False
        return not any(
            tasks
            for found in (inspect.reserved(), inspect.scheduled(), inspect.active())
            for tasks in (found or {worker.hostname: ["no answer"]}).values()
        )

    eventually(is_idle)
    replies: Mapping[str, Any] | None = inspect.stats()
    assert replies is not None
    number: int = replies[worker.hostname]["pool"]["lean"]
    return number


RUNS_AGAIN: Final = frozenset(name for name in CASES if "retr" in name)
"""The end of one attempt may be told before or after the beginning of the next."""

OF_TIME: Final = frozenset(
    {"clock", "hostname", "local_received", "pid", "runtime", "timestamp", "utcoffset", "uuid"}
)


class Watched:
    """The workers, and the events that they have sent."""

    def __init__(self, both: Both, seen: list[dict[str, object]]) -> None:
        self.both = both
        self.seen = seen

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

    def assert_told_alike(
        self, lean: AsyncResult[object], celerys: AsyncResult[object], *, runs_again: bool
    ) -> None:
        """Assert that receivers and a monitor were told the same of a task on both paths.

        Args:
            lean: The task on the lean path.
            celerys: The same on Celery's.
            runs_again: Whether the task may be retried, so that the order of some may differ.
        """

        last: list[tuple[list[Any], list[Any]]] = []

        def agree() -> bool:
            of_workers = told(self.both.lean, lean), told(self.both.celerys, celerys)
            of_monitor = self.events_of(lean), self.events_of(celerys)
            if runs_again:
                of_workers = sorted(of_workers[0]), sorted(of_workers[1])
                of_monitor = sorted(of_monitor[0], key=str), sorted(of_monitor[1], key=str)
            last[:] = [of_workers, of_monitor]
            are_over = all(any(line.startswith("postrun") for line in one) for one in of_workers)
            return are_over and all(len(mine) > 1 and mine == theirs for mine, theirs in last)

        with suppress(AssertionError):
            # The last ones come after the result.
            wait_until(agree, 30.0, "the last ones")
        for mine, theirs in last:
            assert len(theirs) > 1
            assert mine == theirs


@contextmanager
def watching(deployment: Deployment) -> Generator[Watched]:
    """Start the two workers, whose receivers log the signals, and a monitor."""
    with (
        received_events(deployment) as seen,
        both_paths(deployment, WATCHED_SERVICE, "--task-events") as both,
    ):

        def listening() -> bool:
            deployment.client.control.heartbeat()
            return len({event["hostname"] for event in seen}) > 1

        eventually(listening)
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
