"""The error of a task is raised where its result is read, as an instance of its class."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from typing import Final, cast

import httpx
import pytest
from celery.result import AsyncResult
from pydantic import ValidationError
from sqlalchemy.exc import IntegrityError

from tests.integration import errors_service
from tests.integration.errors_service import CardError, double, fail
from tests.integration.typed_service import client as client_app
from tests.support.deployment import TIMEOUT, Deployment, deploy
from tests.support.loops import run
from tests.support.servers import MariaDBServer, RedisServer
from tests.support.workers import Pool
from tomskit.celery import AsyncCelery, TypedResult, chain, group
from tomskit.errors import RemoteTaskError

RARE: Final = "tests.support.rare_errors"


@pytest.fixture(scope="module", params=["prefork-redis", "asyncio-redis", "asyncio-database"])
def served(
    request: pytest.FixtureRequest, redis_server: RedisServer, mariadb_server: MariaDBServer
) -> Iterator[tuple[Deployment, AsyncCelery]]:
    """A worker that stores results in Redis, or in a database; and a client."""
    pool: Pool
    pool, _, backend = request.param.partition("-")
    with deploy(redis_server, mariadb_server) as deployment:
        deployment.environment["CELERY_RESULT_BACKEND_TYPE"] = backend
        deployment.worker(pool, 2, module=errors_service.__name__)
        deployment.use_database_for_results() if backend == "database" else None
        with client_app(deployment.environment) as app:
            yield deployment, app


@pytest.fixture
def app(served: tuple[Deployment, AsyncCelery], clean_process: None) -> AsyncCelery:
    _, app = served
    app.set_current()
    app.set_default()
    return app


def _get(sent: TypedResult[int]) -> object:
    return sent.get(timeout=TIMEOUT)


def _await(sent: TypedResult[int]) -> object:
    async def main() -> int:
        return await sent.aget(TIMEOUT)

    return run(main())


def _alone(kind: str) -> TypedResult[int]:
    return fail.delay(kind)


def _first_of_a_chain(kind: str) -> TypedResult[int]:
    return chain(fail.s(kind), double.p()).delay()


def _in_a_group(kind: str) -> TypedResult[int]:
    return cast("TypedResult[int]", group(double.s(1), fail.s(kind)).delay())


Sending = Callable[[str], TypedResult[int]]
Reading = Callable[[TypedResult[int]], object]

by_every_way = pytest.mark.parametrize(
    ("send", "read"),
    [(send, read) for send in (_alone, _first_of_a_chain, _in_a_group) for read in (_get, _await)],
)


@by_every_way
@pytest.mark.usefixtures("app")
def test_an_error_of_a_database_is_caught_by_its_class(send: Sending, read: Reading) -> None:
    with pytest.raises(IntegrityError) as caught:
        read(send("database"))

    assert "UNIQUE constraint failed" in str(caught.value)
    assert caught.value.statement == "INSERT INTO t VALUES (?)"
    assert type(caught.value.orig).__name__ == "IntegrityError"


@by_every_way
@pytest.mark.usefixtures("app")
def test_a_group_of_errors_is_caught_one_by_one(send: Sending, read: Reading) -> None:
    found: list[object] = []
    try:
        read(send("group"))
    except* ValueError as several:
        found += several.exceptions
    except* KeyError as several:
        found += several.exceptions

    assert [repr(one) for one in found] == ["ValueError('one')", "KeyError('two')"]


@by_every_way
@pytest.mark.usefixtures("app")
def test_an_error_with_keywords_is_caught_with_its_attributes(send: Sending, read: Reading) -> None:
    with pytest.raises(CardError, match="refused") as caught:
        read(send("keywords"))

    assert caught.value.code == 5


@pytest.mark.usefixtures("app")
def test_an_error_of_pydantic_names_the_fields() -> None:
    with pytest.raises(ValidationError) as caught:
        _get(fail.delay("validation"))

    (error,) = caught.value.errors(include_url=False)
    assert (error["type"], error["loc"], error["input"]) == ("int_parsing", ("number",), "none")


@pytest.mark.usefixtures("app")
def test_a_cause_comes_with_its_error() -> None:
    with pytest.raises(ValueError, match="no number") as caught:
        _get(fail.delay("cause"))

    assert isinstance(caught.value.__cause__, CardError)
    assert caught.value.__cause__.code == 7


@by_every_way
@pytest.mark.usefixtures("app")
def test_an_unknown_error_has_its_name_module_and_arguments(send: Sending, read: Reading) -> None:
    with pytest.raises(RemoteTaskError) as caught:
        read(send("rare"))

    error = caught.value
    assert (error.error_module, error.error_name, error.args) == (RARE, "RareError", ("here: 5",))
    assert (type(error).__module__, type(error).__name__) == (RARE, "RareError")
    assert RARE not in sys.modules


@pytest.mark.usefixtures("app")
def test_an_error_that_cannot_be_made_has_its_name_module_and_arguments() -> None:
    # It wants a response, which JSON does not have.
    with pytest.raises(RemoteTaskError) as caught:
        _get(fail.delay("http"))

    assert (caught.value.error_module, caught.value.error_name) == ("httpx", "HTTPStatusError")
    assert caught.value.args == ("bad",)
    # A base class that can be made catches it.
    assert isinstance(caught.value, httpx.HTTPError)


def test_a_module_that_is_allowed_is_imported(
    app: AsyncCelery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app.config, "CELERY_RESULT_ERROR_MODULES", ["tests.support"])
    try:
        with pytest.raises(Exception, match="here: 5") as caught:
            _get(fail.delay("rare"))
        assert type(caught.value) is sys.modules[RARE].RareError
    finally:
        sys.modules.pop(RARE, None)

    assert vars(caught.value) == {"code": 5, "where": "here"}


@pytest.mark.usefixtures("app")
def test_a_plain_client_reads_what_celery_stores(served: tuple[Deployment, AsyncCelery]) -> None:
    deployment, _ = served
    sent = fail.delay("keywords")
    with pytest.raises(CardError):
        _get(sent)

    with pytest.raises(Exception, match="refused"):
        AsyncResult[object](sent.id, app=deployment.client).get(timeout=TIMEOUT)
