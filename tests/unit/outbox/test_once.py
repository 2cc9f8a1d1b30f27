"""once=True without a worker: which database, and what the decorator refuses."""

import errno
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pymysql
import pytest
from sqlalchemy import delete, func, insert, select
from sqlalchemy.exc import DBAPIError

from tomskit.celery import AsyncCelery, AsyncRuntime, CeleryConfig, async_shared_task
from tomskit.errors import CommitRefusedError, ConfigurationError
from tomskit.sqlalchemy import DatabaseConfig, DatabaseProvider
from tomskit.sqlalchemy.away import has_conflict, is_away
from tomskit.sqlalchemy.database import Database, db
from tomskit.sqlalchemy.tables import once, outbox
from tomskit.sqlalchemy.writing import missing_table

asyncpg: Any = pytest.importorskip("asyncpg")
reports = Database()


@async_shared_task(once="reports")
async def report(number: int) -> int:
    follow.delay_on_commit(number)
    await reports.session.execute(select(1))
    return number + 1


@async_shared_task(once=True)
async def follow(number: int) -> int:
    return number


@async_shared_task(once="nowhere")
async def lost() -> None: ...


@async_shared_task(once=True)
async def commits() -> None:
    await db.session.commit()


@async_shared_task(once=True)
async def swallows() -> str:
    try:
        await db.session.commit()
    except CommitRefusedError as exc:
        return str(exc)
    return "committed"


@pytest.fixture
def app(tmp_path: Path) -> Iterator[AsyncCelery]:
    def sqlite(name: str) -> DatabaseConfig:
        return DatabaseConfig(
            SQLALCHEMY_DATABASE_URI_SCHEME="sqlite+aiosqlite", DB_DATABASE=str(tmp_path / name)
        )

    made = AsyncCelery(
        "once",
        config=CeleryConfig(),
        broker="memory://",
        backend="cache+memory://",
        database=sqlite("own.db"),
        providers=[DatabaseProvider(sqlite("reports.db"), database=reports, name="reports")],
    )

    async def create() -> None:
        await db.create_tables()
        await reports.create_tables()

    AsyncRuntime.run(create())
    yield made
    AsyncRuntime.shutdown()
    made.close()


def marks(database: Database) -> int:
    async def count() -> int:
        return await database.session.scalar(select(func.count()).select_from(once)) or 0

    return AsyncRuntime.run(count())


@pytest.mark.usefixtures("app")
def test_the_mark_is_in_the_database_of_the_named_provider() -> None:
    for _ in range(2):
        assert report.apply((1,), task_id="one").get() == 2
    assert (marks(reports), marks(db)) == (1, 0)


def test_messages_of_the_body_go_with_its_mark(app: AsyncCelery) -> None:
    assert report.apply((7,)).get() == 8
    AsyncRuntime.shutdown()  # publishes what is left
    with app.connection_for_read() as connection:
        queue: Any = app.amqp.queues["celery"]
        message = queue(connection.channel()).get()
    assert message.headers["task"] == follow.name

    async def left() -> int:
        return await reports.session.scalar(select(func.count()).select_from(outbox)) or 0

    assert AsyncRuntime.run(left()) == 0


@async_shared_task(once=True)
async def uses_another_engine() -> None:
    follow.delay_on_commit(1)
    other = {"bind": reports.engine.sync_engine}
    await db.session.execute(insert(outbox).values(ROW), bind_arguments=other)


ROW = {"id": "of the body", "created": 0, "due": 2**62, "body": "", "options": ""}


@pytest.mark.usefixtures("app")
def test_messages_are_written_where_the_session_is_and_nowhere_else() -> None:
    async def rows(database: Database) -> list[str]:
        return list((await database.session.execute(select(outbox.c.id))).scalars())

    async def forget() -> None:
        await reports.session.execute(delete(outbox))
        await reports.session.commit()

    for _ in range(8):  # they are committed in any order
        uses_another_engine.apply().get()
        AsyncRuntime.shutdown()  # publishes what is left
        assert AsyncRuntime.run(rows(reports)) == ["of the body"]
        assert AsyncRuntime.run(rows(db)) == []
        AsyncRuntime.run(forget())


@pytest.mark.usefixtures("app")
def test_a_name_that_no_provider_has_is_an_error_that_lists_them() -> None:
    with pytest.raises(ConfigurationError, match=r"once='nowhere'.*'database', 'reports'"):
        lost.apply().get()


@pytest.mark.usefixtures("app")
def test_a_commit_is_refused_and_the_body_may_go_on() -> None:
    with pytest.raises(CommitRefusedError):
        commits.apply().get()
    assert "must not commit" in swallows.apply().get()
    assert marks(db) == 1


@pytest.mark.usefixtures("app")
def test_a_task_that_runs_once_is_acknowledged_late() -> None:
    assert follow.acks_late is True
    assert follow.reject_on_worker_lost is True


def test_early_acknowledgement_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="acks_late"):

        @async_shared_task(once=True, acks_late=False)
        async def early() -> None: ...


def test_something_else_than_a_name_is_refused() -> None:
    async def numbered() -> None: ...

    with pytest.raises(TypeError, match="once=3"):
        cast("Any", async_shared_task)(once=3)(numbered)


class DriverError(Exception):
    """As a driver raises it."""

    def __init__(self, *args: object, sqlstate: str | None = None) -> None:
        super().__init__(*args)
        if sqlstate is not None:
            self.sqlstate = sqlstate


@async_shared_task(once=True)
async def calls_another_server() -> None:
    raise ConnectionRefusedError("an API is away")


@pytest.mark.usefixtures("app")
def test_another_server_that_is_away_is_the_error_of_the_task() -> None:
    with pytest.raises(ConnectionRefusedError, match="an API is away"):
        calls_another_server.apply().get()


def raised(error: Exception) -> DBAPIError:
    return DBAPIError("SELECT 1", None, error)


@pytest.mark.parametrize(
    ("error", "away", "conflict"),
    [
        (raised(DriverError(2013, "Lost connection")), True, False),
        (raised(DriverError(1927, "Connection was killed")), True, False),
        (raised(DriverError(1213, "Deadlock found")), False, True),
        (raised(DriverError(1205, "Lock wait timeout exceeded", sqlstate="HY000")), False, True),
        (raised(DriverError(1020, "Record has changed since last read")), False, True),
        (raised(DriverError(3101, "rollback of the current transaction")), False, True),
        (raised(DriverError(3572, "NOWAIT is set")), False, True),
        (raised(DriverError(1203, "max_user_connections")), True, False),
        (raised(DriverError(1290, "running with the --read-only option")), True, False),
        (raised(DriverError(1290, "running with --secure-file-priv")), False, False),
        (raised(DriverError(1836, "Running in read-only mode")), True, False),
        (raised(DriverError(1792, "in a READ ONLY transaction")), False, False),
        (raised(DriverError(1062, "Duplicate entry")), False, False),
        (raised(DriverError(1045, "Access denied")), False, False),
        (raised(DriverError("shut down", sqlstate="57P01")), True, False),
        (raised(DriverError("read-only transaction", sqlstate="25006")), True, False),
        (raised(DriverError("deadlock", sqlstate="40P01")), False, True),
        (raised(DriverError("no table", sqlstate="42P01")), False, False),
        (raised(DriverError("database is locked")), False, True),
        (asyncpg.InterfaceError("connection is closed"), True, False),
        (asyncpg.InterfaceError("the number of arguments is wrong"), False, False),
        (pymysql.OperationalError(2003, "Can't connect"), True, False),
        (raised(DriverError("idle in a transaction", sqlstate="25P03")), True, False),
        (raised(DriverError("idle", sqlstate="57P05")), True, False),
        (ConnectionRefusedError(), True, False),
        (OSError("Multiple exceptions: [Errno 111], [Errno 111]"), True, False),
        (OSError(errno.EHOSTUNREACH, "No route to host"), True, False),
        (socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution"), True, False),
        (ssl.SSLCertVerificationError("another name"), False, False),
        (ValueError(), False, False),
    ],
)
def test_errors_of_the_database_are_told_apart(
    error: Exception, away: bool, conflict: bool
) -> None:
    assert is_away(error) is away
    assert has_conflict(error) is conflict


@pytest.mark.parametrize(
    ("error", "missing"),
    [
        (DriverError(1146, "Table 'shop.tomskit_once' doesn't exist"), True),
        (DriverError("Relation »tomskit_once« existiert nicht", sqlstate="42P01"), True),
        (DriverError("no such table: tomskit_once"), True),
        (DriverError('column "a" of "tomskit_once" does not exist', sqlstate="42703"), False),
        (DriverError(1146, "Table 'shop.orders' doesn't exist"), False),
    ],
)
def test_a_missing_table_of_ours_is_known_in_any_language(error: Exception, missing: bool) -> None:
    assert missing_table(raised(error)) is missing
