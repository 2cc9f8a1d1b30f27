"""Threads that wait for results whose Redis is away: how long, and what they raise."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from celery.exceptions import TimeoutError as CeleryTimeoutError
from redis.exceptions import RedisError

from tests.support.client_place import ClientPlace, client_place
from tests.support.patience import patience, wait_until
from tests.support.servers import RedisServer
from tomskit.celery._client.listening import close_connections
from tomskit.celery._client.result_sets import TypedResultSet
from tomskit.redis.away import ServerAwayError

# Celery calls what newer versions of redis-py have deprecated.
pytestmark = pytest.mark.filterwarnings("ignore:Call to deprecated setex:DeprecationWarning")

Ask = Callable[[ClientPlace], object]

AWAY = "Results cannot be waited for: redis://.* is away"


@pytest.fixture(scope="module")
def running() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


@pytest.fixture
def place(running: RedisServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[ClientPlace]:
    monkeypatch.setattr("tomskit.celery._client.retrying._LEAST_SILENCE", 0.0)
    # Tried five times, for a second or so, where it was there before.
    policy = {"max_retries": 5, "interval_start": 0, "interval_step": 0.2, "interval_max": 0.2}
    with client_place(running) as place:
        place.app.conf.result_backend_transport_options = {"retry_policy": policy}
        yield place


def _set_of(place: ClientPlace) -> Any:
    results = [place.result("later"), place.result("other")]
    made: TypedResultSet[int] = TypedResultSet(results, app=place.app)
    return made


ASKING: dict[str, Ask] = {
    "get": lambda place: place.result("later").get(),
    "state": lambda place: place.result("later").state,
    "ready": lambda place: place.result("later").ready(),
    "result": lambda place: place.result("later").result,
    "forget": lambda place: place.result("later").forget(),
    "restore": lambda place: place.app.GroupResult.restore("group"),
    "delete": lambda place: place.app.GroupResult("group", []).delete(),
    "get of a set": lambda place: _set_of(place).get(),
    "join of a set": lambda place: _set_of(place).join(),
}
every_way = pytest.mark.parametrize("ask", ASKING.values(), ids=ASKING)


def heard(place: ClientPlace) -> None:
    place.store("before", 0)
    assert place.result("before").get(timeout=patience(10)) == 0


def silence(place: ClientPlace) -> None:
    place.results.accept_silently()
    place.results.freeze()


@every_way
@pytest.mark.parametrize("before", [False, True], ids=["never heard", "heard"])
def test_a_server_that_refuses_connections_is_one_error(
    place: ClientPlace, ask: Ask, before: bool
) -> None:
    if before:
        heard(place)
    place.results.refuse()

    with pytest.raises(ServerAwayError, match=AWAY):
        ask(place)


@every_way
@pytest.mark.parametrize("before", [False, True], ids=["never heard", "heard"])
def test_a_server_that_never_answers_is_the_same_error(
    place: ClientPlace, ask: Ask, before: bool
) -> None:
    if before:
        heard(place)
    silence(place)
    tried = place.results.accepted

    with pytest.raises(ServerAwayError, match=AWAY):
        ask(place)
    # Each of them takes the whole timeout.
    assert place.results.accepted - tried <= 2


def test_get_that_begins_in_an_outage_waits_for_its_end(place: ClientPlace) -> None:
    policy = {"max_retries": 100, "interval_start": 0.1, "interval_step": 0, "interval_max": 0}
    place.app.conf.result_backend_transport_options = {"retry_policy": policy}
    heard(place)
    place.store("later", 1)
    place.results.refuse()
    healing = threading.Timer(1, place.results.heal)
    healing.start()

    assert place.result("later").get(timeout=patience(30)) == 1
    healing.join()


def _while_waiting(place: ClientPlace, fault: Callable[[], object]) -> threading.Thread:
    """Cause a fault as soon as the result of `later` is waited for."""

    def cause() -> None:
        wait_until(lambda: place.subscribed("later"), 30, "it is waited for")
        fault()

    thread = threading.Thread(target=cause)
    thread.start()
    return thread


@pytest.mark.parametrize("fault", ["refuse", "silence"])
def test_get_without_a_timeout_ends_while_the_server_stays_away(
    place: ClientPlace, fault: str
) -> None:
    causing = _while_waiting(
        place, place.results.refuse if fault == "refuse" else lambda: silence(place)
    )
    ended: list[object] = []

    def wait() -> None:
        try:
            place.result("later").get()
        except Exception as exc:  # noqa: BLE001
            ended.append(exc)

    waiting = threading.Thread(target=wait, daemon=True)
    waiting.start()
    waiting.join(patience(60))
    causing.join()

    assert [type(one) for one in ended] == [ServerAwayError]


def test_get_with_a_timeout_does_not_wait_for_all_retries(place: ClientPlace) -> None:
    policy = {"max_retries": 1000, "interval_start": 1, "interval_step": 0, "interval_max": 0}
    place.app.conf.result_backend_transport_options = {"retry_policy": policy}
    causing = _while_waiting(place, place.results.refuse)

    with pytest.raises(CeleryTimeoutError):
        place.result("later").get(timeout=2)
    causing.join()


@pytest.mark.parametrize("timeout", [0, 1])
def test_get_with_a_timeout_asks_a_silent_server_once(place: ClientPlace, timeout: float) -> None:
    silence(place)

    # Else it would be the error of a server that has not answered on two connections.
    with pytest.raises(CeleryTimeoutError):
        place.result("later").get(timeout=timeout)


def test_await_without_any_time_asks_a_silent_server_once(place: ClientPlace) -> None:
    silence(place)

    with pytest.raises(CeleryTimeoutError):
        place.run(lambda: place.result("later").aget(timeout=0))


def test_get_without_any_time_reads_what_is_stored(place: ClientPlace) -> None:
    place.store("stored", 1)

    assert place.result("stored").get(timeout=0) == 1


@pytest.mark.parametrize("fault", ["refuse", "silence"])
def test_a_result_is_collected_at_once_while_its_server_is_away(
    place: ClientPlace, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard(place)
    result = place.result("later")
    if fault == "refuse":
        place.results.refuse()
    else:
        silence(place)
    with pytest.raises((CeleryTimeoutError, RedisError)):
        result.get(timeout=0.1)
    ignored: list[object] = []
    monkeypatch.setattr("sys.unraisablehook", ignored.append)
    backend: Any = place.app.backend
    backend._pending_results[0].clear()

    del result
    gc.collect()

    assert not ignored
    assert not backend.result_consumer.subscribed_to
    place.results.heal()
    place.store("next", 2)
    assert place.result("next").get(timeout=patience(10)) == 2


def test_who_has_given_up_subscribing_is_not_taken_for_subscribed(place: ClientPlace) -> None:
    silence(place)
    with pytest.raises(CeleryTimeoutError):
        place.result("later").get(timeout=1)

    backend: Any = place.app.backend
    assert not backend.result_consumer.subscribed_to


@pytest.mark.parametrize("before", [False, True], ids=["never heard", "heard"])
@pytest.mark.parametrize("fault", ["refuse", "silence"])
def test_who_sends_a_task_does_not_wait_for_the_server_of_results(
    place: ClientPlace, fault: str, before: bool
) -> None:
    policy = {"max_retries": 1000, "interval_start": 1, "interval_step": 0, "interval_max": 0}
    place.app.conf.result_backend_transport_options = {"retry_policy": policy}
    place.app.conf.task_publish_retry_policy = policy
    got: list[object] = []

    # Each thread has connections of its own.
    def client() -> None:
        if before:
            heard(place)
        if fault == "refuse":
            place.results.refuse()
        else:
            silence(place)
        sent = [place.app.send_task("nothing") for _ in range(3)]
        place.results.heal()
        place.store(sent[-1].id, 1)
        got.append(sent[-1].get(timeout=patience(10)))
        backend: Any = place.app.backend
        backend.result_consumer.stop()
        # Results that are collected later would connect again to unsubscribe.
        backend.result_consumer.subscribed_to.clear()
        close_connections(backend)

    thread = threading.Thread(target=client, daemon=True)
    thread.start()
    thread.join(patience(30))

    assert got == [1]
    assert place.queued() == 3
