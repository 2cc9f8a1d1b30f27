"""A model of what commits once: transactions, savepoints, deliveries, relays, and processes that die.

A state machine lets processes work, some at the same time. Each may die before or after any step: a
statement, a commit or a rollback, a message that is published, an acknowledgement. Then its connections
are closed as those of a process that was killed. The database is SQLite, the broker is kombu's in memory.
What has happened is read from both, with no code of ours.
"""

from __future__ import annotations

import asyncio
import sqlite3
import tempfile
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any, Final, Never, TypeVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    rule,
    run_state_machine_as_test,
)
from kombu.exceptions import OperationalError
from sqlalchemy import Column, Integer, MetaData, String, Table, event, insert
from sqlalchemy.exc import DBAPIError
from typing_extensions import override

from tomskit.celery import AsyncCelery, CeleryConfig, async_shared_task
from tomskit.celery._client.recording import Recording, publish
from tomskit.celery._outbox.once import OnceCall, run_once
from tomskit.celery._outbox.store import Batch, OutboxStore
from tomskit.sqlalchemy import DatabaseConfig
from tomskit.sqlalchemy.database import Database
from tomskit.sqlalchemy.rows import OutboxRow
from tomskit.sqlalchemy.sessions import TaskSession

pytestmark = pytest.mark.usefixtures("clean_process")

R = TypeVar("R")

_own = MetaData()
effects = Table(
    "effects",
    _own,
    Column("id", Integer, primary_key=True),
    Column("task", String(100)),
    Column("attempt", String(100)),
)

seen: Counter[str] = Counter()
"""How often each thing has happened, in all examples; and before or after what processes have died."""


@async_shared_task(name="model.noted")
async def noted(name: str) -> None:
    pass


class DiedError(BaseException):
    """The process has died."""


class FailedError(Exception):
    """What a body raises."""


# -- what processes do


@dataclass(frozen=True)
class Savepoint:
    """Something that is done in a savepoint."""

    inside: tuple[Action, ...]
    end: str


Action = str | Savepoint
"""``send``, or a savepoint."""

actions: Final = st.recursive(
    st.just("send"),
    lambda inner: st.builds(
        Savepoint,
        st.lists(inner, max_size=3).map(tuple),
        st.sampled_from(["release", "roll back", "raise", "leave open"]),
    ),
    max_leaves=5,
)
scripts: Final = st.lists(actions, max_size=4).map(tuple)
GRACE_MS: Final = 600_000
"""Longer than processes work at the same time, before `Model.expire_claims`: meanwhile no relay publishes what
the process that has committed it is about to publish."""

deaths: Final = st.none() | st.integers(0, 45)
"""Before or after which of its steps a process dies; mostly it ends before that."""


@dataclass(frozen=True)
class Transaction:
    """A request of a web server: it writes, sends, and commits or does not."""

    script: tuple[Action, ...]
    end: str
    dies: int | None


@dataclass(frozen=True)
class Delivery:
    """A message of a task that runs once, with a worker."""

    task: int
    script: tuple[Action, ...]
    raises: bool
    dies: int | None


@dataclass(frozen=True)
class Relay:
    """A worker that publishes what others have left."""

    dies: int | None


work: Final = st.one_of(
    st.builds(Transaction, scripts, st.sampled_from(["commit", "begin", "roll back", ""]), deaths),
    st.builds(Delivery, st.integers(1, 3), scripts, st.booleans(), deaths),
    st.builds(Relay, deaths),
)


class Process:
    """Has connections of its own, and dies at a step."""

    def __init__(self, model: Model, config: DatabaseConfig, dies: int | None) -> None:
        self.model = model
        self.database = Database()
        self.database.open(config)
        self.store = _Store(self)
        self.committed: list[OutboxRow] = []
        self.is_dead = False
        self._steps_left = dies
        self._connections: list[Any] = []
        engine = self.database.engine.sync_engine
        event.listen(engine, "do_connect", self._connect)
        event.listen(engine, "before_cursor_execute", lambda *a: self.step(f"before {_verb(a)}"))
        event.listen(engine, "after_cursor_execute", lambda *a: self.step(f"after {_verb(a)}"))
        dialect: Any = engine.dialect
        for name in ("commit", "rollback"):
            setattr(dialect, f"do_{name}", self._around(name, getattr(dialect, f"do_{name}")))
        for name in ("close", "terminate"):
            setattr(dialect, f"do_{name}", self._unless_dead(getattr(dialect, f"do_{name}")))

    def _connect(
        self, dialect: Any, _: object, arguments: Sequence[object], named: dict[str, object]
    ) -> object:
        connection = dialect.connect(*arguments, **named)
        self._connections.append(connection)
        return connection

    def _around(self, name: str, real: Callable[[object], None]) -> Callable[[object], None]:
        def call(connection: object) -> None:
            self.step(f"before {name}")
            real(connection)
            self.step(f"after {name}")

        return call

    def _unless_dead(self, real: Callable[[object], None]) -> Callable[[object], None]:
        """Leave it to `end` to close connections, which rolls them back first."""
        return lambda connection: None if self.is_dead else real(connection)

    def step(self, what: str) -> None:
        """Do a step, or die; a dead process does nothing more."""
        if not self.is_dead and self._steps_left is not None:
            self.is_dead = self._steps_left == 0
            self._steps_left -= 1
            if self.is_dead:
                seen[f"died {what}"] += 1
        if self.is_dead:
            raise DiedError(what)

    async def end(self) -> None:
        """Close its connections as the system does, without a word to the server."""
        with suppress(Exception, DiedError):
            await self.database.close()
        self.is_dead = True
        for connection in self._connections:
            driver = connection.driver_connection
            with suppress(ValueError):  # it is closed
                await driver.rollback()
                await driver.close()
        self._connections.clear()

    async def send(self, name: str) -> None:
        """As delay_on_commit does it; when it is published is the model's matter."""
        session = self.database.session.sync_session
        assert isinstance(session, TaskSession)
        recording = Recording(self.model.app)
        recording.run(lambda: noted.apply_async((name,), task_id=name))
        session.hold(recording.messages, self.committed.extend, grace_ms=GRACE_MS)

    async def play(self, script: Sequence[Action]) -> list[str]:
        """Do what a transaction does; returns the messages that its commit publishes."""
        sent: list[str] = []
        for action in script:
            if not isinstance(action, Savepoint):
                sent.append(self.model.new_name())
                await self.send(sent[-1])
                continue
            seen[f"savepoint: {action.end}"] += 1
            session = self.database.session
            if action.end == "raise":
                with suppress(FailedError):
                    async with session.begin_nested():
                        await self.play(action.inside)
                        raise FailedError
                continue
            nested = await session.begin_nested()
            inside = await self.play(action.inside)
            if action.end == "roll back":
                await nested.rollback()
                continue
            if action.end == "release":
                await nested.commit()
            sent += inside
        return sent

    async def write(self, task: str, script: Sequence[Action]) -> str:
        """Write an effect and send; returns the name of this attempt."""
        attempt = self.model.new_name()
        row = {"task": task, "attempt": attempt}
        await self.database.session.execute(insert(effects).values(row))
        self.model.sent[attempt] = await self.play(script)
        return attempt

    async def publish(self) -> None:
        """Publish what was committed, and delete it."""
        rows, self.committed = self.committed, []
        batch = await self.store.publish(rows)
        await self.store.settle(batch)


def lost_against_another(error: DBAPIError) -> None:
    """Note that a process has got an error because another one writes."""
    if "database is locked" not in str(error):
        raise error
    seen["locked"] += 1


def _verb(arguments: tuple[Any, ...]) -> str:
    # Of (connection, cursor, statement, ...).
    return str(arguments[2]).split(maxsplit=1)[0].lower()


class _Store(OutboxStore):
    """Knows which process publishes a row."""

    def __init__(self, process: Process) -> None:
        super().__init__(process.model.app, process.database)
        self._process = process

    @override
    async def publish(self, rows: Sequence[OutboxRow]) -> Batch:
        self._process.model.publishers.update({row["id"]: self._process for row in rows})
        return await super().publish(rows)


class Model(RuleBasedStateMachine):
    """What has happened, and what should have."""

    def __init__(self) -> None:
        super().__init__()
        seen["examples"] += 1
        self.folder = tempfile.TemporaryDirectory()
        self.file = Path(self.folder.name) / "model.db"
        self.loop = asyncio.new_event_loop()
        self.config = DatabaseConfig(
            SQLALCHEMY_DATABASE_URI_SCHEME="sqlite+aiosqlite", DB_DATABASE=str(self.file)
        )
        self.app = AsyncCelery(
            "model",
            config=CeleryConfig(),
            broker="memory://",
            backend="cache+memory://",
            set_as_current=False,
        )
        self.app.set_current()
        self.broker = self.app.connection_for_read()
        self.queue = self.app.amqp.queues["celery"](self.broker.channel())
        self.queue.declare()
        self.queue.purge()
        self.is_away = False
        self.count = 0
        self.sent: dict[str, list[str]] = {}
        self.published: Counter[str] = Counter()
        self.perhaps_twice: set[str] = set()
        self.acknowledged: set[str] = set()
        self.delivered: set[str] = set()
        self.publishers: dict[str, Process] = {}
        self.patch = pytest.MonkeyPatch()
        self.patch.setattr("tomskit.celery._client.client.publish", self.publish)
        self.run(self.make_tables())

    def new_name(self) -> str:
        self.count += 1
        return f"m{self.count}"

    def run(self, coro: Coroutine[object, Never, R]) -> R:
        return self.loop.run_until_complete(coro)

    async def make_tables(self) -> None:
        database = Database()
        database.open(self.config)
        await database.create_tables()
        async with database.engine.begin() as connection:
            await connection.run_sync(_own.create_all)
        await database.close()

    def publish(self, app: AsyncCelery, row: OutboxRow) -> None:
        """Give a message to the broker, unless it is away."""
        process = self.publishers[row["id"]]
        process.step("before publish")
        if self.is_away:
            raise OperationalError("the broker is away")
        publish(app, row)
        process.step("after publish")

    # -- what is done

    @rule(away=st.booleans())
    def change_the_broker(self, away: bool) -> None:
        self.is_away = away

    @rule(several=st.lists(work, min_size=1, max_size=3))
    def let_processes_work(self, several: Sequence[Transaction | Delivery | Relay]) -> None:
        seen["at the same time"] += len(several) > 1

        async def together() -> None:
            await asyncio.gather(*(self.work(one) for one in several))

        self.run(together())
        self.expire_claims()

    async def work(self, what: Transaction | Delivery | Relay) -> None:
        process = Process(self, self.config, what.dies)
        seen[type(what).__name__] += 1
        do: Awaitable[None]
        if isinstance(what, Transaction):
            do = self.transact(process, what)
        elif isinstance(what, Delivery):
            do = self.deliver(process, what)
        else:
            do = self.relay(process)
        try:
            await do
        except DiedError:
            seen["died"] += 1
            # What it has published, and others find in the table.
            self.look()
            self.perhaps_twice |= self.waiting().keys() & self.published.keys()
        finally:
            await process.end()

    async def transact(self, process: Process, what: Transaction) -> None:
        session_of = process.database
        try:
            async with session_of.scope():
                if what.end == "begin":
                    async with session_of.session.begin():
                        await process.write("", what.script)
                else:
                    await process.write("", what.script)
                if what.end == "commit":
                    await session_of.session.commit()
                elif what.end == "roll back":
                    await session_of.session.rollback()
            await process.publish()
        except DBAPIError as exc:
            lost_against_another(exc)

    async def deliver(self, process: Process, what: Delivery) -> None:
        task = f"task{what.task}"
        seen["again"] += task in self.delivered
        seen["again, after it was acknowledged"] += task in self.acknowledged
        self.delivered.add(task)

        async def body() -> str:
            attempt = await process.write(task, what.script)
            if what.raises:
                raise FailedError
            return attempt

        call = OnceCall(task, task, body, lambda value: value, "json")
        try:
            async with process.database.scope():
                answer = await run_once(process.database, call)
        except FailedError:
            seen["failed"] += 1
        except DBAPIError as exc:
            lost_against_another(exc)
        else:
            assert [attempt for other, attempt in self.effects() if other == task] == [answer]
            await process.publish()
            process.step("before acknowledge")
            self.acknowledged.add(task)

    async def relay(self, process: Process) -> None:
        try:
            await process.store.publish_due()
        except DBAPIError as exc:
            lost_against_another(exc)

    @override
    def teardown(self) -> None:
        self.is_away = False
        self.run(self.end())
        self.look()
        attempts = [attempt for _, attempt in self.effects()]
        assert set(self.published) == {name for one in attempts for name in self.sent[one]}
        assert Counter(task for task, _ in self.effects() if task) == Counter(self.delivered)
        seen["published"] += len(self.published)
        seen["published twice"] += sum(times > 1 for times in self.published.values())
        self.loop.run_until_complete(self.loop.shutdown_asyncgens())
        self.loop.run_until_complete(self.loop.shutdown_default_executor())
        self.loop.close()
        self.patch.undo()
        self.broker.release()
        self.app.close()
        self.folder.cleanup()

    async def end(self) -> None:
        """Deliver what was not acknowledged, and publish what waits."""
        for task in sorted(self.delivered - self.acknowledged):
            await self.work(Delivery(int(task.removeprefix("task")), ("send",), False, None))
        while self.waiting():
            self.expire_claims()
            await self.work(Relay(None))

    # -- what can be seen

    def query(self, sql: str) -> list[tuple[str, ...]]:
        with closing(sqlite3.connect(self.file, timeout=30)) as connection, connection:
            return connection.execute(sql).fetchall()

    def effects(self) -> list[tuple[str, ...]]:
        return self.query("SELECT task, attempt FROM effects")

    def waiting(self) -> Counter[str]:
        rows = self.query("SELECT options FROM tomskit_outbox")
        return Counter(options.partition('"id": "')[2].partition('"')[0] for (options,) in rows)

    def expire_claims(self) -> None:
        self.query("UPDATE tomskit_outbox SET due = 0")

    def look(self) -> None:
        """See what the broker has got since."""
        while (message := self.queue.get()) is not None:
            message.ack()
            self.published[str(message.headers["id"])] += 1

    @invariant()
    def what_was_committed_and_nothing_else_is_published_or_waits(self) -> None:
        self.look()
        waiting = self.waiting()
        committed = {name for _, attempt in self.effects() for name in self.sent[attempt]}
        assert self.published.keys() | waiting.keys() == committed
        assert set(waiting.values()) <= {1}

    @invariant()
    def nothing_is_published_twice_but_what_a_dead_process_has_published(self) -> None:
        again = {name for name, times in self.published.items() if times > 1}
        assert again <= self.perhaps_twice

    @invariant()
    def effects_happen_once(self) -> None:
        happened = Counter(task for task, _ in self.effects() if task)
        assert set(happened.values()) <= {1}
        assert self.acknowledged <= happened.keys()


def test_what_is_committed_happens_once() -> None:
    checks = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]
    limits = settings(
        max_examples=settings().max_examples // 3 or 1,
        stateful_step_count=20,
        suppress_health_check=checks,
    )
    seen.clear()
    run_state_machine_as_test(Model, settings=limits)
    print(dict(sorted(seen.items())))
    assert seen["died"]
    assert seen["again, after it was acknowledged"]


STEPS: Final = {
    *("select", "insert", "update", "delete", "commit", "rollback"),
    *("savepoint", "release", "publish"),
}
SCRIPT: Final = (
    "send",
    Savepoint(("send", Savepoint(("send",), "roll back")), "release"),
    Savepoint(("send",), "raise"),
)


def test_a_process_may_die_before_and_after_every_step() -> None:
    kinds: list[Callable[[int, int], Transaction | Delivery | Relay]] = [
        lambda _, dies: Transaction(SCRIPT, "commit", dies),
        lambda task, dies: Delivery(task, SCRIPT, False, dies),
        lambda _, dies: Relay(dies),
    ]
    seen.clear()
    model = Model()
    task = 0
    for kind in kinds:
        for dies in count():
            task += 1
            if kind is kinds[2]:
                model.is_away = True
                model.let_processes_work([Transaction(SCRIPT, "commit", None)])
                model.is_away = False
            died = seen["died"]
            model.let_processes_work([kind(task, dies)])
            model.what_was_committed_and_nothing_else_is_published_or_waits()
            model.nothing_is_published_twice_but_what_a_dead_process_has_published()
            model.effects_happen_once()
            if seen["died"] == died:
                break
            if kind is kinds[2]:
                model.run(model.end())
    model.teardown()
    print(dict(sorted(seen.items())))
    moments = {f"died {moment} {step}" for moment in ("before", "after") for step in STEPS}
    assert (moments | {"died before acknowledge"}) - seen.keys() == set()
    assert seen["published twice"]
