"""db.session and db.scope on SQLite."""

import asyncio
import gc
import sys
import threading
from contextlib import suppress
from pathlib import Path

import pytest
from sqlalchemy import String, event, text
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import StatementError
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from tests.support.settings import MakeApp
from tomskit._internals.sqlalchemy import wait_in_session
from tomskit.celery import AsyncCelery, AsyncRuntime, AsyncTaskRunner
from tomskit.errors import (
    ConfigurationError,
    MissingDriverError,
    NotInitializedError,
    ProviderError,
)
from tomskit.sqlalchemy import DatabaseConfig, DatabaseProvider
from tomskit.sqlalchemy import database as database_module
from tomskit.sqlalchemy.database import Database, SessionScope, db

SQLITE = "sqlite+aiosqlite:///"


class Base(DeclarativeBase):
    pass


class Note(Base):
    __tablename__ = "notes"

    id: Mapped[int] = mapped_column(primary_key=True)
    words: Mapped[str] = mapped_column(String(50))


@pytest.fixture
def notes(app: AsyncCelery) -> None:
    async def create() -> None:
        async with db.engine.begin() as connection:
            await connection.run_sync(Base.metadata.create_all)

    AsyncRuntime.run(create())


async def count() -> int:
    number: int | None = await db.session.scalar(text("SELECT COUNT(*) FROM notes"))
    return number or 0


async def add(words: str) -> Note:
    note = Note(words=words)
    db.session.add(note)
    await db.session.flush()
    return note


@pytest.mark.usefixtures("notes")
class TestScope:
    def test_what_was_committed_stays(self) -> None:
        async def work() -> int:
            note = await add("a")
            await db.session.commit()
            return note.id  # still readable after the commit

        assert AsyncRuntime.run(work()) == 1
        assert AsyncRuntime.run(count()) == 1

    def test_nothing_is_committed_for_the_user(self) -> None:
        AsyncRuntime.run(add("a"))

        assert AsyncRuntime.run(count()) == 0

    def test_it_is_rolled_back_when_the_task_raises(self) -> None:
        async def work() -> None:
            await add("a")
            raise LookupError("no")

        with pytest.raises(LookupError, match="no"):
            AsyncRuntime.run(work())
        assert AsyncRuntime.run(count()) == 0

    def test_gather_children_have_their_tasks_session(self) -> None:
        async def child() -> AsyncSession:
            await asyncio.sleep(0)
            return db.session

        async def work() -> bool:
            sessions = await asyncio.gather(child(), child())
            return all(session is db.session for session in sessions)

        assert AsyncRuntime.run(work())

    def test_scope_within_a_task_has_a_session_of_its_own(self) -> None:
        async def work() -> bool:
            outer = db.session
            async with db.scope() as scope:
                inner = db.session
                assert scope.session is inner
            return outer is not inner and db.session is outer

        assert AsyncRuntime.run(work())

    def test_scope_may_be_entered_again_after_it_was_left(self) -> None:
        async def work() -> bool:
            scope = db.scope()
            async with scope:
                first = db.session
                await count()
            async with scope:
                await count()
                return db.session is not first

        assert AsyncRuntime.run(work())

    def test_scope_that_is_entered_already_is_refused(self) -> None:
        async def work() -> None:
            scope = db.scope()
            async with scope:
                with pytest.raises(ConfigurationError, match="Make a scope for each"):
                    await scope.__aenter__()
                await count()
            with pytest.raises(NotInitializedError):
                str(scope.session)

        AsyncRuntime.run(work())

    @pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning")
    def test_lazy_loading_is_an_error_that_says_how_to_load(self) -> None:
        async def work() -> str:
            note = await add("a")
            db.session.expire(note)
            return note.words

        with pytest.raises(StatementError) as caught:
            AsyncRuntime.run(work())

        assert "await db.session.refresh(" in "".join(caught.value.__notes__)
        # What SQLAlchemy has not awaited is in its traceback.
        del caught
        gc.collect()

    def test_coroutine_that_outlives_its_task_gets_a_clear_error(self) -> None:
        async def straggler(go: asyncio.Event) -> str:
            await go.wait()
            try:
                return str(db.session)
            except NotInitializedError as exc:
                return str(exc)

        async def leave() -> tuple[asyncio.Event, asyncio.Task[str]]:
            go = asyncio.Event()
            return go, asyncio.create_task(straggler(go))

        async def ask(go: asyncio.Event, task: asyncio.Task[str]) -> str:
            go.set()
            return await task

        go, task = AsyncRuntime.run(leave())
        assert "after its task had ended" in AsyncRuntime.run(ask(go, task))

    def test_in_a_plain_thread_it_says_so(self) -> None:
        async def work() -> None:
            await asyncio.to_thread(lambda: db.session)

        with pytest.raises(NotInitializedError, match="plain thread"):
            AsyncRuntime.run(work())

    def test_session_of_another_loop_is_refused(self) -> None:
        async def inner() -> str:
            return str(db.session)

        async def work() -> None:
            await asyncio.to_thread(AsyncTaskRunner(inner, use_db=False).run)

        with pytest.raises(NotInitializedError, match="another event loop"):
            AsyncRuntime.run(work())


def test_outside_of_a_task_it_says_what_to_do() -> None:
    with pytest.raises(NotInitializedError, match=r"AsyncRuntime\.run.*async with db\.scope"):
        str(db.session)


def test_scope_without_an_engine_says_what_to_do() -> None:
    async def work() -> None:
        db.scope()

    with pytest.raises(NotInitializedError, match="DatabaseProvider"):
        asyncio.run(work())


def test_provider_gives_sessions_to_any_loop(sqlite: DatabaseConfig) -> None:
    async def work() -> int | None:
        provider = DatabaseProvider(sqlite)
        await provider.startup()
        try:
            async with db.scope():
                number: int | None = await db.session.scalar(text("SELECT 42"))
                return number
        finally:
            await provider.shutdown()

    assert asyncio.run(work()) == 42


def test_two_loops_at_once_have_an_engine_each(app: AsyncCelery) -> None:
    engines: list[int] = []
    both = threading.Barrier(2)

    async def work() -> None:
        await db.session.execute(text("SELECT 1"))
        engines.append(id(db.engine))
        await asyncio.to_thread(both.wait)

    threads = [threading.Thread(target=AsyncTaskRunner(work).run) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(set(engines)) == 2


def test_missing_driver_is_an_error_at_first_use_only() -> None:
    config = DatabaseConfig(SQLALCHEMY_DATABASE_URI_SCHEME="mysql+asyncmy")
    AsyncCelery("x", database=config)

    async def nothing() -> int:
        return 1

    async def use() -> None:
        await db.session.execute(text("SELECT 1"))

    assert AsyncRuntime.run(nothing()) == 1
    with pytest.raises(MissingDriverError, match="pip install 'asyncmy'") as raised:
        AsyncRuntime.run(use())
    assert "No database is configured" not in str(raised.value)


def test_a_missing_driver_of_a_database_that_nobody_has_configured(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # As where aiomysql, the default, is not installed.
    monkeypatch.setitem(sys.modules, "aiomysql", None)
    AsyncCelery("x", database=DatabaseConfig())

    async def use() -> None:
        await db.session.execute(text("SELECT 1"))

    with pytest.raises(MissingDriverError, match="set CELERY_SQLALCHEMY_DATABASE_URI") as raised:
        AsyncRuntime.run(use())
    assert "pip install 'tomskit[mysql]'" in str(raised.value)


@pytest.mark.usefixtures("notes")
class TestSessionsThatOutliveTheirScope:
    def test_a_scope_left_in_another_context_closes_its_session(self) -> None:
        async def enter(scope: SessionScope) -> AsyncSession:
            await scope.__aenter__()
            await add("a")
            return db.session

        async def work() -> bool:
            scope = db.scope()
            session = await asyncio.create_task(enter(scope))
            assert session.in_transaction()
            await scope.__aexit__(None, None, None)
            return session.in_transaction()

        assert not AsyncRuntime.run(work())
        assert AsyncRuntime.run(count()) == 0

    def test_a_session_that_was_kept_is_refused(self) -> None:
        async def keep() -> AsyncSession:
            await add("a")
            return db.session

        async def use(session: AsyncSession) -> None:
            await session.execute(text("SELECT 1"))

        session = AsyncRuntime.run(keep())

        with pytest.raises(NotInitializedError, match="after its task had ended"):
            AsyncRuntime.run(use(session))

    def test_what_is_added_to_a_session_that_was_kept_is_refused(self) -> None:
        async def keep() -> AsyncSession:
            return db.session

        async def use(session: AsyncSession) -> None:
            session.add(Note(words="a"))
            await session.commit()

        session = AsyncRuntime.run(keep())

        with pytest.raises(NotInitializedError, match="after its task had ended"):
            AsyncRuntime.run(use(session))


class TestClosing:
    def test_an_error_of_a_connection_that_is_not_closed_in_time_is_no_error_of_the_loop(
        self,
        sqlite: DatabaseConfig,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        """Such as that of a listener of the application's, which asks the server for something before."""
        for name in ("_CLOSE_SECONDS", "_CUT_SECONDS"):
            monkeypatch.setattr(database_module, name, 0.1)
        unseen: list[object] = []

        def take_leave(connection: DBAPIConnection, _record: object) -> None:
            for _ in range(3):
                with suppress(asyncio.CancelledError):
                    wait_in_session(asyncio.sleep(3600))
            connection.close()
            raise ConnectionError("no answer to a farewell")

        async def work() -> None:
            loop = asyncio.get_running_loop()
            loop.set_exception_handler(lambda _, context: unseen.append(context["message"]))
            database = Database()
            database.open(sqlite)
            event.listen(database.engine.sync_engine, "close", take_leave)
            async with database.scope():
                await database.session.execute(text("SELECT 1"))
            await database.close()
            gc.collect()

        asyncio.run(work())

        assert unseen == []
        assert "They are dropped" in caplog.text


class TestTwoDatabases:
    def test_each_has_scopes_of_its_own(self, tmp_path: Path) -> None:
        async def work() -> None:
            one, two = Database(), Database()
            for number, database in enumerate((one, two)):
                database.open(
                    DatabaseConfig(SQLALCHEMY_DATABASE_URI=f"{SQLITE}{tmp_path}/{number}")
                )
            async with one.scope():
                first = one.session
                with pytest.raises(NotInitializedError):
                    str(two.session)
                async with two.scope():
                    assert two.session is not first
                    assert one.session is first
            assert one.engine.url != two.engine.url
            await one.close()
            assert two.engine is not None
            await two.close()

        asyncio.run(work())

    def test_a_second_open_is_an_error_that_says_what_to_do(self, sqlite: DatabaseConfig) -> None:
        async def work() -> None:
            database = Database()
            database.open(sqlite)
            try:
                with pytest.raises(ConfigurationError, match=r"reports = Database\(\)"):
                    database.open(sqlite)
            finally:
                await database.close()
            database.open(sqlite)
            await database.close()

        asyncio.run(work())

    def test_an_app_with_two_providers_of_one_database_does_not_start(
        self, sqlite: DatabaseConfig, make_app: MakeApp
    ) -> None:
        app = make_app(
            broker="memory://",
            database=sqlite,
            providers=[DatabaseProvider(sqlite, name="another")],
        )

        with pytest.raises(ProviderError, match=r"another.*reports = Database"):
            AsyncRuntime.init(app)
