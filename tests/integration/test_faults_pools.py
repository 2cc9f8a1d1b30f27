"""Results of prefork, threads and solo while their store does not do what it is asked."""

import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from typing import cast

import pytest
from billiard.exceptions import WorkerLostError
from celery import chord, signature
from celery.result import AsyncResult

from tests.support.deployment import TIMEOUT, Deployment
from tests.support.faults import SERVICE, Faults, faults
from tests.support.patience import wait_until
from tests.support.proxy import Side
from tests.support.refusing import REFUSALS, Refusal, locked_out, refusing
from tests.support.workers import Pool

SLOTS = 4
POOLS: tuple[Pool, ...] = ("prefork", "threads", "solo")
WAITS = "Cannot store a result; retrying while the result backend is away"
REFUSED = "Cannot store a result; retrying while the result backend refuses it: .*ACL SETUSER"

PASSWORD = ()
LOCKS = {
    "password": PASSWORD,
    "writing": ("-@write",),
    "publishing": ("-publish",),
    "keys": ("resetkeys",),
}
"""What becomes of the user of the results."""

Start = Callable[[Pool], Faults]


@pytest.fixture
def start(deployment: Deployment) -> Iterator[Start]:
    """Starts a worker."""
    with ExitStack() as stack:
        yield lambda pool: stack.enter_context(faults(deployment, pool, slots_of(pool)))


def slots_of(pool: Pool) -> int:
    return 1 if pool == "solo" else SLOTS


def run_in_all_slots(
    place: Faults, pool: Pool, task: str = "count_when_free"
) -> list[AsyncResult[object]]:
    """Run tasks that end when they are let; all have begun."""
    sent = [place.send(task, "ended") for _ in range(slots_of(pool))]
    # A state can be read before the worker has the answer to its write: cut off then, it writes it again before
    # the task runs. The asyncio pool writes it while the task runs.
    place.wait_for_count("begun", len(sent))
    wait_until(lambda: all(one.state == "STARTED" for one in sent), 30, "the states are stored")
    return sent


def end_without_store(place: Faults, count: int, line: str = WAITS) -> None:
    """Let the tasks end whose results cannot be stored now, and wait until they have."""
    place.free()
    place.wait_for_count("ended", count)
    place.worker.wait_for_line(line)


def assert_all_have_succeeded(place: Faults, sent: Sequence[AsyncResult[object]]) -> None:
    outcomes = cast("list[int]", place.outcomes(sent))
    assert sorted(outcomes) == list(range(1, len(sent) + 1))


@pytest.mark.parametrize("pool", POOLS)
@pytest.mark.parametrize("kind", REFUSALS)
def test_a_task_that_ends_while_its_result_is_refused_succeeds(
    start: Start, pool: Pool, kind: Refusal
) -> None:
    place = start(pool)
    sent = run_in_all_slots(place, pool)

    with refusing(kind, place.store):
        end_without_store(place, len(sent))

    assert_all_have_succeeded(place, sent)
    assert place.send("add", 1, 2).get(timeout=TIMEOUT) == 3
    assert "Traceback" not in place.worker.text


@pytest.mark.parametrize("pool", ["asyncio", *POOLS])
@pytest.mark.parametrize("lock", LOCKS)
def test_a_task_that_ends_while_the_store_refuses_the_worker_succeeds(
    start: Start, pool: Pool, lock: str
) -> None:
    place = start(pool)
    sent = run_in_all_slots(place, pool)

    with locked_out(place.store, rules=LOCKS[lock]):
        end_without_store(place, len(sent), REFUSED)

    assert_all_have_succeeded(place, sent)
    assert place.send("add", 1, 2).get(timeout=TIMEOUT) == 3
    place.worker.wait_for_line("The result backend is back")
    assert "Traceback" not in place.worker.text


@pytest.mark.parametrize("pool", ["asyncio", "threads", "solo"])
def test_a_warm_shutdown_does_not_wait_for_a_store_that_refuses_the_worker(
    start: Start, pool: Pool
) -> None:
    place = start(pool)
    sent = run_in_all_slots(place, pool, "late_when_free")

    with locked_out(place.store):
        end_without_store(place, len(sent), REFUSED)
        place.worker.send_signal(signal.SIGTERM)

        assert place.worker.wait(30) == 0
    assert [one.state for one in sent] == ["STARTED"] * len(sent)


@pytest.mark.parametrize("pool", POOLS)
def test_a_task_that_ends_while_the_store_cannot_be_reached_succeeds(
    start: Start, pool: Pool
) -> None:
    place = start(pool)
    sent = run_in_all_slots(place, pool, "late_when_free")

    place.results.refuse()
    end_without_store(place, len(sent))
    place.results.heal()

    assert_all_have_succeeded(place, sent)
    wait_until(lambda: place.held() == 0, 30, "all messages are acknowledged")


@pytest.mark.parametrize("pool", ["asyncio", *POOLS])
def test_the_parts_of_a_chord_are_counted_afterwards(start: Start, pool: Pool) -> None:
    place = start(pool)
    name, app = f"{SERVICE}.count_when_free", place.client
    parts = [signature(name, ("ended",), app=app, task_id=f"part-{n}") for n in (1, 2)]
    end = chord(parts, app=app)(signature(f"{SERVICE}.total", app=app))
    first = cast("AsyncResult[object]", app.AsyncResult("part-1"))
    wait_until(lambda: first.state == "STARTED", 30, "the first task runs")

    with refusing("READONLY", place.store):
        place.free()
        place.worker.wait_for_line(WAITS)

    assert place.outcomes([cast("AsyncResult[object]", end)]) == [3]


@pytest.mark.parametrize("pool", POOLS)
def test_a_warm_shutdown_waits_for_the_store(start: Start, pool: Pool) -> None:
    place = start(pool)
    sent = run_in_all_slots(place, pool)

    with refusing("READONLY", place.store):
        end_without_store(place, len(sent))
        place.worker.send_signal(signal.SIGTERM)
        place.worker.wait_for_line("worker: Warm shutdown")

    assert place.worker.wait(30) == 0
    assert_all_have_succeeded(place, sent)


@pytest.mark.parametrize("pool", POOLS)
def test_sigquit_does_not_wait_for_the_store(start: Start, pool: Pool) -> None:
    place = start(pool)
    sent = run_in_all_slots(place, pool)

    with refusing("READONLY", place.store):
        end_without_store(place, len(sent))
        place.worker.send_signal(signal.SIGQUIT)

        place.worker.wait(30)


def test_the_state_of_a_task_whose_process_has_died_is_stored_afterwards(start: Start) -> None:
    """By the worker itself, which takes other tasks meanwhile."""
    place = start("prefork")
    dying = place.send("die_when_free")
    wait_until(lambda: dying.state == "STARTED", 30, "the task runs")

    with refusing("READONLY", place.store):
        place.free()
        place.worker.wait_for_line(WAITS)
        place.send("ignored", "other")
        place.wait_for_count("other", 1)
        assert dying.state == "STARTED"

    assert isinstance(place.outcomes([dying])[0], WorkerLostError)
    assert place.send("add", 1, 2).get(timeout=TIMEOUT) == 3


@pytest.mark.parametrize("fast", ["true", "false"])
@pytest.mark.parametrize("sides", [(), ("requests",), ("answers",)], ids=["both", "to", "from"])
@pytest.mark.parametrize("pool", ["asyncio", "prefork", "threads"])
def test_a_broker_that_goes_silent_is_noticed(
    deployment: Deployment, pool: Pool, fast: str, sides: tuple[Side, ...]
) -> None:
    with faults(deployment, pool, SLOTS, CELERY_REDIS_FAST_PATH=fast) as place:
        assert place.send("add", 1, 2).get(timeout=TIMEOUT) == 3

        place.broker.freeze(*sides)
        place.send("ignored", "first")
        place.worker.wait_for_line("Connection to broker lost", 60)

        sent = [place.send("add", n, 1) for n in range(10)]
        assert place.outcomes(sent) == [n + 1 for n in range(10)]
        if fast == "true":
            # It was given away, and its record says to whom. With kombu's path it is lost.
            place.wait_for_count("first", 1)
            assert place.count("first") == 1


@pytest.mark.parametrize("fast", ["true", "false"])
def test_a_cold_shutdown_of_solo_gives_back_a_late_task(deployment: Deployment, fast: str) -> None:
    with faults(deployment, "solo", 1, CELERY_REDIS_FAST_PATH=fast) as place:
        late = place.send("late_when_free", "ended")
        place.wait_for_count("begun", 1)

        place.worker.send_signal(signal.SIGQUIT)
        place.worker.wait()

        assert "Traceback" not in place.worker.text
        assert (late.state, place.waiting()) == ("STARTED", 1)


def test_a_cold_shutdown_of_solo_says_so_of_a_task_that_does_not_come_again(start: Start) -> None:
    """As under prefork and asyncio."""
    place = start("solo")
    early = place.send("count_when_free", "ended")
    place.wait_for_count("begun", 1)

    place.worker.send_signal(signal.SIGQUIT)
    place.worker.wait()

    assert "Traceback" not in place.worker.text
    assert early.state == "RETRY"
    assert place.held() == 0


@pytest.mark.parametrize("fast", ["true", "false"])
def test_a_cold_shutdown_of_threads_waits_for_the_tasks_that_run(
    deployment: Deployment, fast: str
) -> None:
    with faults(deployment, "threads", 2, CELERY_REDIS_FAST_PATH=fast) as place:
        running = [place.send("late_when_free", "ended"), place.send("count_when_free", "ended")]
        place.wait_for_count("begun", 2)
        waiting = place.send("count_when_free", "ended")

        place.worker.send_signal(signal.SIGQUIT)
        place.worker.wait_for_line("the worker stops when the tasks that run have ended, 2 now")
        place.free()

        assert place.worker.wait() == 0
        assert "Traceback" not in place.worker.text
        assert [one.state for one in running] == ["SUCCESS"] * 2
        # It may have begun before the threads were told to take no more.
        assert place.waiting() == place.held() == (waiting.state == "PENDING")
