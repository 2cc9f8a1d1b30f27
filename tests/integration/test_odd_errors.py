"""Errors whose classes do what no reader of an error expects: their tasks fail, once, and no worker ends."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.integration import odd_errors_service
from tests.integration.odd_errors_service import add_up, double, fail, fail_unshowably
from tests.integration.typed_service import client as client_app
from tests.support.deployment import TIMEOUT, Deployment, deploy, eventually
from tests.support.loops import run
from tests.support.odd_errors import READABLE, UNSHOWABLE, FrozenError
from tests.support.remote import fresh_key, unacked
from tests.support.servers import MariaDBServer, RedisServer
from tests.support.workers import Pool
from tomskit.celery import AsyncCelery, TypedResult, chord, group
from tomskit.errors import RemoteTaskError, TaskExitError

SERVICE = odd_errors_service.__name__


@pytest.fixture(scope="module", params=["asyncio", "prefork", "threads", "solo"])
def served(
    request: pytest.FixtureRequest, redis_server: RedisServer, mariadb_server: MariaDBServer
) -> Iterator[tuple[Deployment, AsyncCelery]]:
    pool: Pool = request.param
    with deploy(redis_server, mariadb_server) as deployment:
        deployment.running = deployment.worker(pool, 2, module=SERVICE)
        with client_app(deployment.environment) as app:
            yield deployment, app


@pytest.fixture
def deployment(served: tuple[Deployment, AsyncCelery], clean_process: None) -> Deployment:
    deployment, app = served
    app.set_current()
    app.set_default()
    return deployment


def error_of(result: TypedResult[int]) -> BaseException:
    """What raises in the place of the result; an odd one breaks pytest's own reader."""
    try:
        result.get(timeout=TIMEOUT)
    except Exception as exc:  # noqa: BLE001 (whatever it is)
        return exc
    pytest.fail("nothing was raised")


def awaited_error_of(result: TypedResult[int]) -> BaseException:
    async def main() -> BaseException:
        try:
            await result.aget(TIMEOUT)
        except Exception as exc:  # noqa: BLE001 (whatever it is)
            return exc
        pytest.fail("nothing was raised")

    return run(main())


@pytest.mark.parametrize("kind", READABLE)
def test_an_odd_error_is_raised_where_the_result_is_read(deployment: Deployment, kind: str) -> None:
    sent = fail.delay(kind)

    assert type(error_of(sent)).__name__ == kind
    assert type(awaited_error_of(app_result(sent))).__name__ == kind
    assert double.delay(2).get(timeout=TIMEOUT) == 4


def app_result(sent: TypedResult[int]) -> TypedResult[int]:
    """The same result, of which nothing has been read."""
    return fail.AsyncResult(sent.id)


def test_a_frozen_error_arrives_as_itself(deployment: Deployment) -> None:
    error = error_of(fail.delay("FrozenError"))

    assert type(error) is FrozenError
    assert error.number == 5


def test_an_error_with_an_argument_that_is_equal_to_nothing_keeps_its_attributes(
    deployment: Deployment,
) -> None:
    error = error_of(fail.delay("ArrayError"))

    assert isinstance(error, RemoteTaskError) or vars(error)["code"] == 5
    assert error.args == ("Incomparable()",)


def test_an_error_that_counts_as_false_fails_a_group_and_a_chord(deployment: Deployment) -> None:
    together = group(double.s(1), fail.s("FalsyError")).delay()
    with pytest.raises(Exception, match="falsy") as caught:
        together.get(timeout=TIMEOUT)
    assert type(caught.value).__name__ == "FalsyError"

    summed = chord([double.s(1), fail.s("FalsyError")], add_up.s()).delay()
    with pytest.raises(Exception, match=r"(?i)falsy"):
        summed.get(timeout=TIMEOUT)


@pytest.mark.parametrize("task", ["retry_with", "retry_for", "retry_plainly"])
def test_an_error_that_counts_as_false_is_raised_after_the_last_retry(
    deployment: Deployment, task: str
) -> None:
    sent = getattr(odd_errors_service, task).delay("FalsyError")

    assert type(error_of(sent)).__name__ == "FalsyError"


@pytest.mark.parametrize("kind", UNSHOWABLE)
def test_an_error_that_cannot_be_shown_fails_its_task_once(
    deployment: Deployment, kind: str
) -> None:
    key = fresh_key()
    sent = fail_unshowably.delay(kind, key)

    error = error_of(sent)

    assert type(error) in {TaskExitError, ValueError}
    assert kind in repr(error)
    assert double.delay(2).get(timeout=TIMEOUT) == 4
    eventually(lambda: not unacked(deployment, sent))
    assert deployment.key(key) == "1"
    assert "Task exception was never retrieved" not in deployment.log
    assert "Logging error" not in deployment.log
