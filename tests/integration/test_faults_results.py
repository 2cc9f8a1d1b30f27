"""A worker with the asyncio pool whose results, or whose connections, go away under load."""

import signal
from collections.abc import Iterator

import pytest
from celery.result import AsyncResult

from tests.support.deployment import TIMEOUT, Deployment
from tests.support.faults import Faults, faults
from tests.support.patience import wait_until
from tests.support.servers.redis import call
from tomskit.celery.asyncio_pool.failures import MOST

MANY = 50


@pytest.fixture
def place(deployment: Deployment) -> Iterator[Faults]:
    with faults(deployment) as made:
        yield made


def test_results_are_stored_on_another_connection_when_theirs_goes_silent(place: Faults) -> None:
    place.send("watch")
    assert place.send("add", 1, 2).get(timeout=TIMEOUT) == 3

    place.results.freeze()
    sent = [place.send("count", "ended", 0.0) for _ in range(MANY)]

    assert set(place.outcomes(sent)) == set(range(1, MANY + 1))
    place.assert_no_gap()


def test_results_wait_for_a_store_that_does_not_answer(place: Faults) -> None:
    place.send("watch")
    assert place.send("add", 1, 2).get(timeout=TIMEOUT) == 3
    place.results.accept_silently()
    place.results.freeze()
    sent = [place.send("count", "ended", 0.0) for _ in range(MANY)]
    place.wait_for_count("ended", MANY)
    place.worker.wait_for_line("Cannot store a result", 60)

    place.results.heal()

    assert set(place.outcomes(sent)) == set(range(1, MANY + 1))
    place.assert_no_gap()


def test_connections_that_are_closed_again_and_again_lose_nothing(place: Faults) -> None:
    place.send("watch")
    sent: list[AsyncResult[object]] = []
    for round_ in range(1, 4):
        sent += [place.send("count", "ended", 0.05) for _ in range(MANY)]
        place.broker.kill()
        place.results.kill()
        place.wait_for_count("ended", round_ * MANY)

    assert set(place.outcomes(sent)) == set(range(1, 3 * MANY + 1))
    assert place.count("ended") == 3 * MANY
    place.assert_no_gap()


def test_a_redis_that_has_forgotten_its_scripts_is_told_them_again(place: Faults) -> None:
    assert place.send("add", 1, 2).get(timeout=TIMEOUT) == 3

    for server in (place.server, place.store):
        with server.client() as client:
            call(client, "SCRIPT", "FLUSH")
    sent = [place.send("count", "ended", 0.0) for _ in range(MANY)]

    assert set(place.outcomes(sent)) == set(range(1, MANY + 1))
    wait_until(lambda: place.held() == 0, 30, "all messages are acknowledged")
    place.worker.send_signal(signal.SIGTERM)
    assert place.worker.wait(30) == 0


def test_few_of_the_tasks_that_fail_at_once_hold_a_traceback(deployment: Deployment) -> None:
    many = 400
    with faults(deployment, slots=2 * many) as place:
        place.send("count_tracebacks")
        sent = [place.send("fail_when_free") for _ in range(many)]
        place.wait_for_count("begun", many)
        place.results.accept_silently()
        place.results.freeze()
        place.free()
        place.wait_for_count("failing", many)
        place.wait_for_count("looks", place.count("looks") + 5)

        assert 0 < place.count("tracebacks") <= 2 * MOST

        place.results.heal()
        outcomes = place.outcomes(sent)
        with deployment.redis.client(deployment.redis_db.result_db) as client:
            client.set("counted", "yes")
        assert {str(outcome) for outcome in outcomes} == {"all at once"}
        # Those that are stored meanwhile and those that come after them.
        assert place.count("tracebacks") <= 3 * MOST
