"""The lean path and Celery's own: whatever a task does, nobody can tell which one it took."""

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

import pytest
from celery.result import AsyncResult

from tests.support.deployment import TIMEOUT, Deployment, deploy, eventually
from tests.support.patience import wait_until
from tests.support.servers import MariaDBServer, RedisServer
from tests.support.workers import Worker

SERVICE: Final = "tests.integration.lean_service"
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


@pytest.fixture(scope="module")
def both(redis_server: RedisServer, mariadb_server: MariaDBServer) -> Iterator[Both]:
    with deploy(redis_server, mariadb_server) as deployment:
        accept = "json,orjson"
        lean = deployment.begin(
            *("asyncio", 50, "--queues=lean"), module=SERVICE, CELERY_ACCEPT_CONTENT=accept
        )
        celerys = deployment.begin(
            *("asyncio", 50, "--queues=celerys"),
            module=SERVICE,
            CELERY_ACCEPT_CONTENT=accept,
            CELERY_WORKER_LEAN_PATH="false",
        )
        lean.wait_ready()
        celerys.wait_ready()
        both = Both(deployment, lean, celerys)
        for name in CASES:
            both.sent[name] = both.send("lean", name), both.send("celerys", name)
        yield both


def lean_tasks(deployment: Deployment, worker: Worker) -> int:
    replies: Mapping[str, Any] | None = deployment.client.control.inspect(
        [worker.hostname], timeout=TIMEOUT, limit=1
    ).stats()
    assert replies is not None
    number: int = replies[worker.hostname]["pool"]["lean"]
    return number


@pytest.mark.parametrize("name", CASES)
def test_nobody_can_tell_the_paths_apart(both: Both, name: str) -> None:
    lean, celerys = both.sent[name]
    both.outcome(celerys)
    assert both.outcome(lean) == both.outcome(celerys)
    with suppress(AssertionError):
        # The last lines come after the result.
        wait_until(
            lambda: both.log(both.lean, lean) == both.log(both.celerys, celerys), 5.0, "the log"
        )
    assert both.log(both.lean, lean) == both.log(both.celerys, celerys)


def test_the_lean_path_is_taken(both: Both) -> None:
    before = lean_tasks(both.deployment, both.lean)
    sent = [
        both.deployment.send(f"{SERVICE}.{task}", *args, queue="lean")
        for task, args in (("echo", (1,)), ("wait", (2,)), ("late", (3,)), ("fail", ("x",)))
    ]
    sent.append(both.deployment.send(f"{SERVICE}.ignored", 4, queue="lean", ignore_result=False))
    for result in sent:
        both.outcome(result)
    assert lean_tasks(both.deployment, both.lean) == before + len(sent)
    assert lean_tasks(both.deployment, both.celerys) == 0


def test_messages_with_anything_special_are_celerys(both: Both) -> None:
    before = lean_tasks(both.deployment, both.lean)
    for name in ("a countdown", "an expiry", "a link", "compressed"):
        both.outcome(both.send("lean", name))
    # The linked task is an ordinary one.
    assert lean_tasks(both.deployment, both.lean) <= before + 2


def test_a_task_that_runs_is_shown_and_can_be_revoked(both: Both) -> None:
    result = both.deployment.send(f"{SERVICE}.exceed_limit", queue="lean", soft_time_limit=600)
    eventually(lambda: both.stored(result).get("status") == "STARTED")
    active = both.deployment.client.control.inspect(
        [both.lean.hostname], timeout=TIMEOUT, limit=1
    ).active()
    assert active is not None
    assert [task["id"] for task in active[both.lean.hostname]] == [result.id]

    result.revoke(terminate=True)

    eventually(lambda: both.stored(result).get("status") == "REVOKED")
