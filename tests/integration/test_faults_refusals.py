"""A Redis that answers that it cannot do now what it is asked: no task is lost, none fails for that."""

from collections.abc import Iterator

import pytest

from tests.support.deployment import TIMEOUT, Deployment
from tests.support.faults import Faults, faults
from tests.support.patience import slowed, wait_until
from tests.support.refusing import REFUSALS, Refusal, refusing
from tests.support.workers import Pool

MANY = 50
SECONDS = 2.0
"""How long Redis refuses."""


@pytest.fixture
def place(deployment: Deployment) -> Iterator[Faults]:
    with faults(deployment) as made:
        yield made


@pytest.mark.parametrize("kind", REFUSALS)
@pytest.mark.parametrize("task", ["count", "late"])
def test_tasks_that_end_meanwhile_are_stored_afterwards(
    place: Faults, kind: Refusal, task: str
) -> None:
    place.send("watch")
    sent = [place.send(task, "ended", slowed(SECONDS) * (i % 10) / 8) for i in range(MANY)]
    waiting = [place.send(task, "waiting", 0.0) for _ in range(2 * MANY)]
    wait_until(lambda: place.count("waiting") == 2 * MANY, 60, "the tasks run")

    with refusing(kind, place.server, place.store):
        place.wait_for_count("ended", MANY * 3 // 4)

    assert set(place.outcomes(sent)) == set(range(1, MANY + 1))
    assert set(place.outcomes(waiting)) == set(range(1, 2 * MANY + 1))
    assert place.send("add", 1, 2).get(timeout=TIMEOUT) == 3
    wait_until(lambda: place.held() == 0, 30, "all messages are acknowledged")
    assert place.worker.running
    assert (place.count("ended"), place.count("waiting")) == (MANY, 2 * MANY)
    place.assert_no_gap()


def _times(place: Faults, text: str) -> int:
    return sum(text in line for line in place.worker.lines)


def test_the_log_tells_it_once(place: Faults) -> None:
    sent = [place.send("count_when_free", "ended") for _ in range(MANY)]
    wait_until(lambda: place.count("begun") == MANY, 30, "the tasks run")

    with refusing("READONLY", place.server, place.store):
        place.free()
        place.wait_for_count("ended", MANY)
        place.worker.wait_for_line("Cannot store a result")
    place.outcomes(sent)

    place.worker.wait_for_line("The result backend is back")
    place.worker.wait_for_line(
        "Cannot store a result; .*You can't write against a read only replica"
    )
    assert _times(place, "Cannot store a result; retrying while the result backend is away") == 1
    assert _times(place, "Traceback") == 0, place.worker.text


@pytest.mark.parametrize("pool", ["prefork", "threads"])
@pytest.mark.parametrize("fast", ["true", "false"])
def test_workers_of_other_pools_wait_as_well(deployment: Deployment, pool: Pool, fast: str) -> None:
    with faults(deployment, pool, 4, CELERY_REDIS_FAST_PATH=fast) as place:
        assert place.send("add", 1, 2).get(timeout=TIMEOUT) == 3

        with refusing("READONLY", place.server):
            place.worker.wait_for_line("Cannot consume messages; retrying while the broker is away")

        sent = [place.send("add", n, 1) for n in range(10)]
        assert place.outcomes(sent) == [n + 1 for n in range(10)]
        place.worker.wait_for_line("The broker is back")
        assert place.worker.running


@pytest.mark.parametrize("pool", ["asyncio", "prefork", "threads"])
@pytest.mark.parametrize("fast", ["true", "false"])
@pytest.mark.parametrize("task", ["count_when_free", "late_when_free"])
def test_tasks_that_begin_or_end_meanwhile_run_once(
    deployment: Deployment, pool: Pool, fast: str, task: str
) -> None:
    """Their acknowledgements are refused, and sent again when the broker is back."""
    with faults(deployment, pool, 1, CELERY_REDIS_FAST_PATH=fast) as place:
        sent = [place.send(task, "ended") for _ in range(4)]
        place.wait_for_count("begun", 1)
        wait_until(lambda: place.waiting() == 0, 30, "one runs, and the others wait in the worker")

        with refusing("READONLY", place.server):
            place.free()
            place.wait_for_count("ended", 1)
            place.worker.wait_for_line("Cannot consume messages; retrying while the broker is away")

        assert set(place.outcomes(sent)) == {1, 2, 3, 4}
        wait_until(lambda: place.held() == 0, 30, "all messages are acknowledged")
        assert (place.count("begun"), place.count("ended")) == (4, 4)


@pytest.mark.parametrize("pool", ["asyncio", "prefork"])
@pytest.mark.parametrize(
    "answer", ["BUSY a script runs", "READONLY this is a replica", "OOM the memory is full"]
)
def test_a_broker_that_refuses_only_to_give_messages_is_asked_less_and_less_often(
    deployment: Deployment, pool: Pool, answer: str
) -> None:
    """It can be connected to, and nothing else is refused."""
    # kombu's transport fetches with BRPOP, and not with a script.
    with faults(deployment, pool, 4, CELERY_REDIS_FAST_PATH="true") as place:
        assert place.send("add", 1, 2).get(timeout=TIMEOUT) == 3
        place.broker.answer(answer, b"EVAL")
        sent = [place.send("count", "ran", 0.0) for _ in range(10)]
        # Each time twice as long, and one line.
        for pause in ("0.2", "0.4", "0.8", "1.6", "2.0"):
            # redis-py leaves out the codes of the errors that it has classes for.
            place.worker.wait_for_line(
                f"trying again in {pause} s: .*{answer.rsplit(maxsplit=1)[-1]}", 60
            )

        place.broker.heal()

        assert len(set(place.outcomes(sent))) == 10
        assert place.count("ran") == 10
        place.worker.wait_for_line("The broker is back")
        assert _times(place, "Cannot consume messages; retrying while the broker is away") == 1
        assert _times(place, "The broker is back") == 1
        assert _times(place, "CRITICAL") == _times(place, "Traceback") == 0, place.worker.text
