"""A user's own runtime, providers and serializer, in real workers."""

import re
from collections.abc import Callable
from typing import cast

import pytest
from celery import Celery
from kombu import serialization

from tests.integration.plugs import ReversedJson
from tests.support.deployment import TIMEOUT, Deployment, eventually
from tests.support.workers import Pool, Worker

PLUGGED = "tests.integration.plugged"
POOLS: tuple[Pool, ...] = ("prefork", "solo", "threads", "asyncio")


def named_clients(deployment: Deployment) -> set[str]:
    # redis-py gives this method no types.
    execute: Callable[..., str] = getattr(deployment.redis.client(), "execute_command")  # noqa: B009
    text = execute("CLIENT", "LIST")
    return {name for name in ("first", "second", "licence") if f" name={name} " in text}


# Pools differ in how they begin and end a runtime, which the second one does not notice. That runs
# each task in a new loop, which is of interest where tasks run at the same time.
@pytest.mark.parametrize(
    ("plug", "pool"),
    [*(("thread-runtime", pool) for pool in POOLS), ("run-runtime", "threads")],
)
def test_own_runtime_runs_tasks_with_everything_they_use(
    deployment: Deployment, plug: str, pool: Pool
) -> None:
    deployment.make_tables()
    worker = deployment.worker(pool, module=PLUGGED, PLUGS=plug)

    sent = deployment.send("identity", 0.01)
    seen = cast("dict[str, object]", sent.get(timeout=TIMEOUT))

    assert seen["before"] == seen["after"] == [sent.id, sent.id]
    assert seen["app"] == "plugged"
    assert deployment.call("create_user", "Ada") == 1
    assert deployment.call("cache", "k", "v") == "v"
    with pytest.raises(ValueError, match="kaput"):
        deployment.call("fail", "kaput")
    assert worker.stop() == 0
    if plug == "thread-runtime":
        assert "my runtime started for plugged" in worker.text
        assert "my runtime stopped" in worker.text
    eventually(lambda: deployment.mariadb.connections(deployment.database) == 0)


@pytest.mark.parametrize("pool", POOLS)
def test_providers_start_before_the_first_task_and_stop_after_the_last(
    deployment: Deployment, pool: Pool
) -> None:
    worker = deployment.worker(pool, 1, module=PLUGGED, PLUGS="providers")
    eventually(lambda: named_clients(deployment) == {"first", "second"})

    assert deployment.call("add", 1, 2) == 3
    assert worker.stop() == 0

    eventually(lambda: named_clients(deployment) == set())
    events = re.findall(r"provider \w+ \w+$", worker.text, re.MULTILINE)
    assert events == [
        "provider first started",
        "provider second started",
        "provider first enters",
        "provider second enters",
        "provider second leaves",
        "provider first leaves",
        "provider second stopped",
        "provider first stopped",
    ]


@pytest.mark.parametrize("pool", POOLS)
def test_provider_that_does_not_start_fails_the_workers_start(
    deployment: Deployment, pool: Pool
) -> None:
    environment = {**deployment.environment, "PLUGS": "broken", "BROKEN": "startup"}

    with Worker(PLUGGED, pool=pool, concurrency=2, env=environment) as worker:
        code = worker.wait()

    assert code != 0, worker.text
    assert "The resource provider 'licence' did not start" in worker.text
    assert "the licence server said no" in worker.text
    assert "provider first stopped" in worker.text
    eventually(lambda: named_clients(deployment) == set())


# The asyncio pool has code of its own around a task, and the others share theirs.
@pytest.mark.parametrize("pool", ["prefork", "asyncio"])
@pytest.mark.parametrize(
    ("moment", "message"),
    [("enter", "no licence left"), ("leave", "the licence cannot be given back")],
)
def test_provider_that_fails_around_a_task_fails_that_task_only(
    deployment: Deployment, pool: Pool, moment: str, message: str
) -> None:
    worker = deployment.worker(pool, module=PLUGGED, PLUGS="broken", BROKEN=moment)

    for _ in range(2):
        with pytest.raises(RuntimeError, match=message):
            deployment.call("add", 1, 2)

    assert worker.running
    assert named_clients(deployment) == {"first", "licence"}


def test_cleanup_error_of_a_provider_does_not_hide_the_tasks_own(deployment: Deployment) -> None:
    worker = deployment.worker("threads", module=PLUGGED, PLUGS="broken", BROKEN="leave")

    with pytest.raises(ValueError, match="kaput"):
        deployment.call("fail", "kaput")

    worker.wait_for_line("'licence' failed to clean up after a task that raised")


def test_own_serializer_is_used_for_messages_and_results(deployment: Deployment) -> None:
    serializer = ReversedJson()
    serialization.register(
        serializer.name,
        serializer.dumps,
        serializer.loads,
        content_type=serializer.content_type,
        content_encoding=serializer.content_encoding,
    )
    client: Celery = deployment.client
    client.conf.update(
        task_serializer="backwards", result_serializer="backwards", accept_content=["backwards"]
    )
    deployment.worker("threads", module=PLUGGED, PLUGS="serializer")

    sent = deployment.send("add", 1, 2)

    assert sent.get(timeout=TIMEOUT) == 3
    stored = deployment.key(f"celery-task-meta-{sent.id}")
    assert stored is not None
    assert stored.startswith("}")
    # Plain JSON is still accepted: remote control speaks it.
    assert deployment.call("add", 2, 2, serializer="json") == 4
