"""Retrying: whether and when an operation is tried again while its server is away."""

import asyncio
import itertools
import logging
import threading
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

import pytest
from redis.exceptions import AuthenticationError, NoPermissionError

from tomskit.celery import AsyncCelery
from tomskit.celery._client.retrying import Outage, Retrying, pauses_of, retry_stores
from tomskit.celery.fast_redis.deadlines import UnansweredError

LOGGER = logging.getLogger("tests.retrying")


class Clock:
    """The time as Retrying sees it: it passes only where somebody sleeps."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.slept: list[float] = []

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds

    async def async_sleep(self, seconds: float) -> None:
        self.sleep(seconds)


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("tomskit.celery._client.retrying.time", clock)
    return clock


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    caplog.set_level(logging.INFO, logger=LOGGER.name)
    return lambda: [f"{one.levelname} {one.getMessage()}" for one in caplog.records]


def retrying(
    *,
    pauses: Iterator[float] | None = None,
    given_up: threading.Event | None = None,
    is_away: Callable[[Exception], bool] = lambda exc: isinstance(exc, OSError),
) -> Retrying:
    outage = Outage("publish a task", "the broker", LOGGER)
    return Retrying(outage, is_away=is_away, pauses=pauses, given_up=given_up)


class Operation:
    """Raises the errors that it is given, one a try, and succeeds then."""

    def __init__(self, *errors: Exception) -> None:
        self.tries = 0
        self._errors = list(errors)

    def __call__(self) -> str:
        self.tries += 1
        if self._errors:
            raise self._errors.pop(0)
        return "done"

    async def awaited(self) -> str:
        await asyncio.sleep(0)
        return self()


def away(number: int = 1) -> OSError:
    return OSError(f"refused {number}")


# -- whether it is tried again


def test_what_succeeds_is_tried_once(clock: Clock, lines: Callable[[], list[str]]) -> None:
    operation = Operation()

    assert retrying().run(operation) == "done"

    assert operation.tries == 1
    assert clock.slept == []
    assert lines() == []


def test_it_is_tried_until_the_server_is_back(clock: Clock) -> None:
    operation = Operation(*(away() for _ in range(200)))

    assert retrying().run(operation) == "done"

    assert operation.tries == 201
    assert clock.slept == [0.2, 0.4, 0.8, 1.6, *[2.0] * 196]


def test_an_error_that_is_not_of_a_server_that_is_away_is_raised(
    clock: Clock, lines: Callable[[], list[str]]
) -> None:
    error = LookupError("x")
    operation = Operation(error)

    with pytest.raises(LookupError) as caught:
        retrying().run(operation)

    assert caught.value is error
    assert operation.tries == 1
    assert lines() == []


def test_another_error_ends_the_retries(clock: Clock) -> None:
    operation = Operation(away(), LookupError("x"), away())

    with pytest.raises(LookupError):
        retrying().run(operation)

    assert operation.tries == 2


def test_when_the_pauses_are_used_up_the_last_error_is_raised(clock: Clock) -> None:
    operation = Operation(away(1), away(2), away(3))

    with pytest.raises(OSError, match="refused 3"):
        retrying(pauses=iter([1.0, 2.0])).run(operation)

    assert operation.tries == 3
    assert clock.slept == [1.0, 2.0]


def test_no_pauses_are_no_retries(clock: Clock, lines: Callable[[], list[str]]) -> None:
    with pytest.raises(OSError, match="refused 1"):
        retrying(pauses=iter(())).run(Operation(away()))

    assert lines() == []


def test_a_pause_of_no_time_is_a_retry(clock: Clock) -> None:
    assert retrying(pauses=iter([0.0])).run(Operation(away())) == "done"


def test_who_has_given_up_gets_the_error(clock: Clock) -> None:
    given_up = threading.Event()
    given_up.set()
    operation = Operation(away())

    with pytest.raises(OSError, match="refused 1"):
        retrying(given_up=given_up).run(operation)

    assert operation.tries == 1


def test_giving_up_ends_the_pause(clock: Clock) -> None:
    given_up = threading.Event()
    begun = threading.Event()

    tries: list[int] = []
    errors: list[Exception] = []

    def operation() -> None:
        tries.append(1)
        begun.set()
        raise away()

    def run() -> None:
        try:
            # Were the pause slept through, this test would never end.
            retrying(given_up=given_up, pauses=itertools.repeat(3600.0)).run(operation)
        except OSError as exc:
            errors.append(exc)

    thread = threading.Thread(target=run)
    thread.start()
    begun.wait()
    given_up.set()
    thread.join()

    assert len(errors) == 1
    assert len(tries) <= 2


def test_the_caller_may_say_how_to_sleep(clock: Clock) -> None:
    slept: list[float] = []

    retrying(pauses=iter([1.0, 2.0])).run(Operation(away(), away()), slept.append)

    assert slept == [1.0, 2.0]
    assert clock.slept == []


# -- in an event loop


def run_async(one: Retrying, operation: Operation, clock: Clock) -> str:
    return asyncio.run(one.run_async(operation.awaited, clock.async_sleep))


def test_in_a_loop_it_is_tried_until_the_server_is_back(clock: Clock) -> None:
    operation = Operation(away(), away())

    assert run_async(retrying(), operation, clock) == "done"

    assert operation.tries == 3
    assert clock.slept == [0.2, 0.4]


def test_in_a_loop_the_last_error_is_raised_when_the_pauses_are_used_up(clock: Clock) -> None:
    operation = Operation(away(1), away(2))

    with pytest.raises(OSError, match="refused 2"):
        run_async(retrying(pauses=iter([1.0])), operation, clock)

    assert clock.slept == [1.0]


def test_in_a_loop_another_error_is_raised_at_once(clock: Clock) -> None:
    operation = Operation(LookupError("x"))

    with pytest.raises(LookupError):
        run_async(retrying(), operation, clock)

    assert operation.tries == 1


def test_in_a_loop_a_cancellation_ends_it(clock: Clock) -> None:
    async def main() -> None:
        operation = Operation(*(away() for _ in range(3)))

        async def sleep(_: float) -> None:
            await asyncio.Event().wait()

        task = asyncio.create_task(retrying().run_async(operation.awaited, sleep))
        for _ in range(5):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
        assert operation.tries == 1

    asyncio.run(main())


# -- what the log says


def test_the_log_says_it_once_and_when_it_is_over(
    clock: Clock, lines: Callable[[], list[str]]
) -> None:
    retrying().run(Operation(away(1), away(2), away(3)))

    assert lines() == [
        "WARNING Cannot publish a task; retrying while the broker is away: OSError('refused 1')",
        "INFO The broker is back after 1.4 s",
    ]


def test_the_log_is_reminded_once_a_minute(clock: Clock, lines: Callable[[], list[str]]) -> None:
    one = retrying()
    for number in range(5):
        one.failed(away(number))
        clock.now += 30.0

    assert lines()[1:] == [
        "WARNING Still cannot publish a task, after 60 s: OSError('refused 2')",
        "WARNING Still cannot publish a task, after 120 s: OSError('refused 4')",
    ]


def test_the_next_outage_is_said_again(clock: Clock, lines: Callable[[], list[str]]) -> None:
    one = retrying()

    one.run(Operation(away()))
    one.run(Operation(away()))

    assert [line.split()[0] for line in lines()] == ["WARNING", "INFO"] * 2


def test_a_success_that_nobody_has_waited_for_is_not_logged(
    clock: Clock, lines: Callable[[], list[str]]
) -> None:
    one = retrying()

    one.succeeded()

    assert lines() == []


# -- by a retry policy


def first(count: int, **policy: Any) -> list[float]:
    return list(islice(pauses_of(**policy), count))


def test_pauses_of_a_policy_grow_to_the_longest() -> None:
    pauses = first(6, interval_start=0, interval_step=0.2, interval_max=0.5)

    assert pauses == pytest.approx([0.0, 0.2, 0.4, 0.5, 0.5, 0.5])


def test_a_policy_without_a_number_of_retries_has_no_end() -> None:
    assert len(first(1000, max_retries=None)) == 1000


@pytest.mark.parametrize("number", [0, 3])
def test_a_policy_has_as_many_pauses_as_retries(number: int) -> None:
    assert len(first(1000, max_retries=number)) == number


def test_pauses_are_kombus() -> None:
    from kombu.utils.functional import fxrange

    policy = {"interval_start": 2, "interval_step": 2, "interval_max": 30}
    kombus: list[float] = list(islice(fxrange(2, 2 + 30, 2, repeatlast=True), 20))

    assert first(20, **policy) == kombus
    assert first(20) == kombus


def test_other_parts_of_a_policy_do_not_matter() -> None:
    assert first(1, interval_start=1, errback=None) == [1]


def test_operations_share_an_outage(clock: Clock, lines: Callable[[], list[str]]) -> None:
    outage = Outage("store a result", "the result backend", LOGGER)
    one, other = Retrying(outage), Retrying(outage)

    one.failed(away(1))
    other.failed(away(2))
    one.succeeded()
    other.succeeded()

    begin, end = lines()
    assert begin.startswith("WARNING Cannot store a result; retrying while the result backend")
    assert end == "INFO The result backend is back after 0.0 s"


def test_the_log_tells_it_when_an_outage_becomes_a_refusal(lines: Callable[[], list[str]]) -> None:
    outage = Outage("store a result", "the result backend", LOGGER)

    outage.failed(away())
    outage.failed(AuthenticationError("WRONGPASS"))
    outage.failed(AuthenticationError("WRONGPASS"))
    outage.failed(away())
    outage.ended()

    begin, refusal, end = lines()
    assert begin.startswith(
        "WARNING Cannot store a result; retrying while the result backend is away"
    )
    assert refusal == (
        "ERROR Cannot store a result; retrying while the result backend refuses it: "
        "AuthenticationError('WRONGPASS'). Check the user, the password and what the user may do (ACL SETUSER)."
    )
    assert end == "INFO The result backend is back after 0.0 s"


def test_the_next_refusal_is_told_again(lines: Callable[[], list[str]]) -> None:
    outage = Outage("store a result", "the result backend", LOGGER)

    for _ in range(2):
        outage.failed(NoPermissionError("NOPERM"))
        outage.ended()

    assert [line.split()[0] for line in lines()] == ["ERROR", "INFO"] * 2


def tries_of_silence(
    clock: Clock, seconds: float, timeout: float | None, *between: Exception
) -> int:
    """How often a server is tried that lets each new connection wait for so many seconds."""
    outage = Outage("publish a task", "the broker", LOGGER)
    pauses = itertools.repeat(0.5, 20)
    trying = Retrying(outage, is_away=lambda _: True, pauses=pauses, timeout=timeout)
    others = list(between)
    tries = 0

    def operation() -> None:
        nonlocal tries
        tries += 1
        if tries > 1 and others:
            raise others.pop()
        clock.now += seconds
        raise UnansweredError

    with pytest.raises(UnansweredError):
        trying.run(operation, clock.sleep)
    return tries


def test_server_that_leaves_two_new_connections_unanswered_is_not_tried_again(clock: Clock) -> None:
    assert tries_of_silence(clock, 10.0, timeout=10.0) == 2


def test_new_connections_that_are_given_up_sooner_are_tried_for_as_long(clock: Clock) -> None:
    # The first one counts as ten seconds.
    assert tries_of_silence(clock, 5.0, timeout=10.0) == 3


@pytest.mark.parametrize(("timeout", "tries"), [(1.0, 9), (5.0, 3), (8.0, 2)])
def test_short_timeouts_give_the_server_some_time_to_come_back(
    clock: Clock, timeout: float, tries: int
) -> None:
    assert tries_of_silence(clock, timeout, timeout) == tries


def test_another_error_in_between_begins_anew(clock: Clock) -> None:
    assert tries_of_silence(clock, 10.0, 10.0, OSError()) == 4


def test_without_a_timeout_silence_is_one_failure_of_many(clock: Clock) -> None:
    assert tries_of_silence(clock, 10.0, timeout=None) == 21


def test_an_error_of_a_program_is_no_outage_of_redis() -> None:
    app = AsyncCelery("stores", backend="redis://127.0.0.1:1/0", set_as_current=False)
    outage = Outage("store a result", "the result backend", LOGGER)
    stores = retry_stores(app, app.backend, outage, stops=lambda: False)

    for error in (KeyError("task"), TypeError("no text")):
        with pytest.raises(type(error)):
            stores.failed(error)
    assert stores.failed(ConnectionError("refused")) > 0
