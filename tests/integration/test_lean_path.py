"""The lean path and Celery's own: whatever a task does, nobody can tell which one it took."""

from collections.abc import Iterator
from contextlib import suppress

import pytest

from tests.support.deployment import TIMEOUT, deploy, eventually
from tests.support.lean_paths import CASES, SERVICE, Both, both_paths, lean_tasks
from tests.support.patience import wait_until
from tests.support.servers import MariaDBServer, RedisServer


@pytest.fixture(scope="module")
def both(redis_server: RedisServer, mariadb_server: MariaDBServer) -> Iterator[Both]:
    with (
        deploy(redis_server, mariadb_server) as deployment,
        both_paths(deployment, SERVICE) as both,
    ):
        both.send_all()
        yield both


@pytest.mark.parametrize("name", CASES)
def test_nobody_can_tell_the_paths_apart(both: Both, name: str) -> None:
    lean, celerys = both.sent[name]
    both.outcome(celerys)
    assert both.outcome(lean) == both.outcome(celerys)
    with suppress(AssertionError):
        # The last lines come after the result.
        wait_until(
            lambda: both.log(both.lean, lean) == both.log(both.celerys, celerys), 30.0, "the log"
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
    inspect = both.deployment.client.control.inspect([both.lean.hostname], timeout=TIMEOUT, limit=1)

    def active() -> list[str]:
        return [task["id"] for task in (inspect.active() or {}).get(both.lean.hostname, ())]

    # Others may run until then.
    eventually(lambda: active() == [result.id])

    result.revoke(terminate=True)

    eventually(lambda: both.stored(result).get("status") == "REVOKED")
