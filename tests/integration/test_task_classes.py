"""Classes of tasks under every pool: hooks are awaited, classes of other packages do their work."""

import re
from collections.abc import Iterator
from typing import Any, cast

import pytest
from celery.result import AsyncResult

from tests.support.deployment import TIMEOUT, Deployment, deploy, eventually
from tests.support.remote import fresh_key, release
from tests.support.servers import MariaDBServer, RedisServer
from tests.support.workers import Pool

SERVICE = "tests.integration.task_classes_service"


POOLS: dict[str, tuple[Pool, dict[str, str]]] = {
    "prefork": ("prefork", {}),
    "prefork-spawn": ("prefork", {"CELERY_WORKER_POOL_START_METHOD": "spawn"}),
    "solo": ("solo", {}),
    "threads": ("threads", {}),
    "asyncio": ("asyncio", {}),
}


@pytest.fixture(scope="module", params=POOLS)
def classes(
    request: pytest.FixtureRequest, redis_server: RedisServer, mariadb_server: MariaDBServer
) -> Iterator[Deployment]:
    pool, environment = POOLS[request.param]
    with deploy(redis_server, mariadb_server) as fresh:
        fresh.make_tables()
        fresh.running = fresh.worker(pool, 1, module=SERVICE, environment=environment)
        yield fresh


@pytest.fixture
def notes(classes: Deployment) -> None:
    # The worker has one slot: the hooks of an earlier task, which may come after its result, are over.
    call(classes, "of_app", 0)
    classes.mariadb.query(f"DELETE FROM `{classes.database}`.users")


def call(deployment: Deployment, task: str, *args: object) -> object:
    return deployment.send(f"{SERVICE}.{task}", *args).get(timeout=TIMEOUT)


def noted(deployment: Deployment, *lines: str) -> None:
    """The hooks have written these lines; the last ones after the result was stored."""
    eventually(lambda: len(deployment.users()) >= len(lines))
    # How many have succeeded before depends on which tests have run.
    assert [re.sub(r"'blue', \d+", "'blue', n", line) for line in deployment.users()] == [*lines]


@pytest.mark.usefixtures("notes")
def test_hooks_are_awaited(classes: Deployment) -> None:
    assert cast("list[object]", call(classes, "noted"))[0] == "blue"

    noted(classes, "before_start [] {} 0", "on_success ['blue', n] 0")


def test_plain_hook_is_called_and_attributes_hold(classes: Deployment) -> None:
    [colour, before] = cast("list[Any]", call(classes, "noted"))
    [_, after] = cast("list[Any]", call(classes, "noted"))

    assert colour == "blue"
    assert after == before + 1


@pytest.mark.usefixtures("notes")
def test_hooks_of_a_task_that_is_retried(classes: Deployment) -> None:
    call(classes, "noted", "once")

    noted(
        classes,
        "before_start ['once'] {} 0",
        "on_retry KeyError('once') 0",
        "before_start ['once'] {} 1",
        "on_success ['blue', n] 1",
    )


@pytest.mark.usefixtures("notes")
def test_hooks_of_a_task_that_fails(classes: Deployment) -> None:
    with pytest.raises(LookupError):
        call(classes, "noted", "always")

    noted(classes, "before_start ['always'] {} 0", "on_failure LookupError('always') 0")


@pytest.mark.usefixtures("notes")
@pytest.mark.parametrize("task", ["of_app", "plain"])
def test_class_of_the_app_is_that_of_all_tasks(classes: Deployment, task: str) -> None:
    assert call(classes, task, 3) == 3

    noted(classes, "before_start [3] {} 0")


@pytest.mark.usefixtures("notes")
def test_task_that_is_a_class(classes: Deployment, request: pytest.FixtureRequest) -> None:
    if "spawn" in request.node.name:
        pytest.skip("a process that Celery spawns has an app of its own, without such tasks")

    assert call(classes, "charge", 5) == 5

    noted(classes, "charge 5 0")


def test_time_limit_holds_for_a_hook(classes: Deployment) -> None:
    classes.send(f"{SERVICE}.hanging")

    # The worker has one slot.
    assert call(classes, "of_app", 3) == 3


def test_class_may_have_a_request_of_its_own(classes: Deployment) -> None:
    assert call(classes, "with_request", 3) == 3

    classes.wait_for_line(f"own request of {SERVICE}.with_request")


@pytest.mark.parametrize("task", ["single", "single_by_key", "once"])
def test_only_one_is_sent_until_it_has_ended(classes: Deployment, task: str) -> None:
    key = fresh_key()

    first, second = cast("list[str | None]", call(classes, "send", task, key))
    # celery_once knows no id of the one that is there.
    assert second == (None if task == "once" else first)
    result: AsyncResult[object] = classes.client.AsyncResult(str(first))
    release(classes, key)
    assert result.get(timeout=TIMEOUT) == "released"

    # Its lock is given back after its result is stored.
    def sent_again() -> bool:
        third, _ = cast("list[str | None]", call(classes, "send", task, key))
        return third not in {None, first}

    eventually(sent_again)
    release(classes, key)


@pytest.mark.usefixtures("notes")
@pytest.mark.parametrize("task", ["collected", "plain_collected"])
def test_class_may_collect_calls(classes: Deployment, task: str) -> None:
    sent = [classes.send(f"{SERVICE}.{task}", number) for number in (1, 2, 3)]

    assert [one.get(timeout=TIMEOUT) for one in sent] == [3, 6, 9]
    if task == "collected":
        noted(classes, "collected [1, 2, 3] 0")


@pytest.mark.usefixtures("notes")
def test_worker_goes_on_after_an_error_in_collected_calls(
    classes: Deployment, request: pytest.FixtureRequest
) -> None:
    for number in (-1, -2, -3):
        classes.send(f"{SERVICE}.collected", number)

    noted(classes, "collected [-3, -2, -1] 0")
    assert call(classes, "of_app", 3) == 3
    if request.node.callspec.params["classes"] in {"asyncio", "solo"}:
        classes.wait_for_line("function in the pool failed: LookupError")


def test_worker_goes_on_after_an_error_of_a_class_that_takes_messages(classes: Deployment) -> None:
    # In which order a message is acknowledged and rejected is a matter of luck.
    for _ in range(10):
        classes.send(f"{SERVICE}.taken")

    assert call(classes, "of_app", 3) == 3
    classes.wait_for_line("nowhere to be put")
