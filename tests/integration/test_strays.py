"""A process that a task has forked and not ended: it does nothing of what its parent does."""

from collections.abc import Iterator

import pytest

from tests.integration.stray_service import ENDED
from tests.support.deployment import TIMEOUT, Deployment, eventually, working
from tests.support.patience import slowed
from tests.support.servers import MariaDBServer, RedisServer
from tests.support.workers import Pool

SERVICE = "tests.integration.stray_service"
OTHERS = 4
LINE = "returned from the code that forked it"


@pytest.fixture(params=["asyncio", "threads"])
def place(
    request: pytest.FixtureRequest, redis_server: RedisServer, mariadb_server: MariaDBServer
) -> Iterator[Deployment]:
    pool: Pool = request.param
    with working(redis_server, mariadb_server, pool, 2 * OTHERS, module=SERVICE) as made:
        yield made


def fork_beside_others(place: Deployment, task: str, *args: object) -> object:
    """What a task that forks returns, while others run; each of these runs once."""
    before = int(place.key("counted") or 0)
    others = [place.send(f"{SERVICE}.count", slowed(1.0)) for _ in range(OTHERS)]
    eventually(lambda: int(place.key("counted") or 0) == before + OTHERS)

    told = place.send(f"{SERVICE}.{task}", *args).get(timeout=TIMEOUT)

    for one in others:
        one.get(timeout=TIMEOUT)
    assert int(place.key("counted") or 0) == before + 2 * OTHERS
    assert place.running is not None
    assert place.running.running
    return told


def lines_of(place: Deployment) -> int:
    return place.log.count(LINE)


def test_a_process_that_comes_back_from_a_task_ends(place: Deployment) -> None:
    for number, way in enumerate(("returns", "raises", "awaits"), 1):
        assert fork_beside_others(place, "fork", way) == 1
        assert lines_of(place) == number, place.log
    assert "in the child" in place.log


def test_a_process_that_leaves_with_a_code_ends_with_it(place: Deployment) -> None:
    assert fork_beside_others(place, "fork", "leaves") == ENDED
    assert lines_of(place) == 1
    assert fork_beside_others(place, "fork", "ends") == ENDED
    assert lines_of(place) == 1


def test_a_process_with_a_terminal_of_its_own_ends_as_well(place: Deployment) -> None:
    assert fork_beside_others(place, "fork_with_terminal") == 1


@pytest.mark.parametrize("way", ["returns", "awaits"])
def test_a_process_that_a_child_of_a_task_has_forked_ends(place: Deployment, way: str) -> None:
    assert fork_beside_others(place, "fork_in_child_task", way) == 1
    assert lines_of(place) == 1


def test_a_process_that_was_forked_in_a_thread_ends(place: Deployment) -> None:
    assert fork_beside_others(place, "fork_in_thread") == 1
    assert lines_of(place) == 1
