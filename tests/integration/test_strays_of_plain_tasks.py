"""A process that a task has forked and not ended leaves no outcome, under every pool."""

from collections.abc import Iterator

import pytest
from celery import signature

from tests.integration.stray_service import ENDED
from tests.support.deployment import TIMEOUT, Deployment, eventually, working
from tests.support.servers import MariaDBServer, RedisServer
from tests.support.workers import Pool

SERVICE = "tests.integration.stray_service"
LINE = "returned from the code that forked it"


@pytest.fixture(scope="module", params=["asyncio", "prefork", "threads", "solo"])
def place(
    request: pytest.FixtureRequest, redis_server: RedisServer, mariadb_server: MariaDBServer
) -> Iterator[Deployment]:
    pool: Pool = request.param
    with working(redis_server, mariadb_server, pool, 1, module=SERVICE) as made:
        yield made


def outcome_of_fork(place: Deployment, task: str, *args: object) -> object:
    """What a task returns that forks, and that others follow: all of them run once."""
    client = place.redis.client(place.redis_db.result_db)
    client.delete("noted", "counted")
    lines = place.log.count(LINE)
    follower = signature(f"{SERVICE}.note", app=place.client)

    sent = place.send(f"{SERVICE}.{task}", *args, link=follower)
    others = [place.send(f"{SERVICE}.count", 0.1) for _ in range(4)]
    told = sent.get(timeout=TIMEOUT)

    assert [one.get(timeout=TIMEOUT) for one in others]
    eventually(lambda: place.redis.client(place.redis_db.broker_db).hlen("unacked") == 0)
    assert place.call(f"{SERVICE}.count", 0.0) == 10
    eventually(lambda: client.llen("noted") > 0)
    assert client.lrange("noted", 0, -1) == [str(told)]
    eventually(lambda: place.log.count(LINE) == lines + 1)
    lines_of_end = [
        x for x in place.log.splitlines() if str(sent.id) in x and " succeeded in " in x
    ]
    assert len(lines_of_end) == 1, place.log
    return told


@pytest.mark.parametrize(("way", "code"), [("returns", 1), ("raises", 1), ("leaves", ENDED)])
def test_a_process_that_a_plain_task_has_forked_leaves_no_outcome(
    place: Deployment, way: str, code: int
) -> None:
    assert outcome_of_fork(place, "fork_in_plain_task", way) == code


@pytest.mark.parametrize("way", ["returns", "raises", "awaits"])
def test_a_process_that_an_async_task_has_forked_leaves_no_outcome(
    place: Deployment, way: str
) -> None:
    assert outcome_of_fork(place, "fork_in_async_task", way) == 1


@pytest.mark.parametrize("task", ["fork_in_task_that_retries", "fork_in_method", "fork_in_call"])
def test_it_does_not_matter_how_the_task_was_made(place: Deployment, task: str) -> None:
    assert outcome_of_fork(place, task) == 1


def test_a_process_that_a_hook_has_forked_leaves_no_outcome(place: Deployment) -> None:
    assert outcome_of_fork(place, "fork_in_hook") == 1


def test_what_the_process_has_written_is_there(place: Deployment) -> None:
    assert outcome_of_fork(place, "fork_in_plain_task", "returns") == 1
    eventually(lambda: "written by the child" in place.log)
