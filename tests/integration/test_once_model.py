"""A model of what commits once: transactions, savepoints, sends, crashes, deliveries and relays.

A state machine does what the model does. The database is SQLite, and the broker takes what it is given
and may be away. A process that crashes is one whose publisher has not published yet, or has published
and not deleted.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections import Counter
from collections.abc import Coroutine, Sequence
from contextlib import suppress
from contextvars import copy_context
from pathlib import Path
from typing import Never, TypeVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from kombu.exceptions import OperationalError
from sqlalchemy import Column, Integer, MetaData, String, Table, insert, select, update
from sqlalchemy.ext.asyncio import AsyncSessionTransaction
from typing_extensions import override

from tomskit.celery import AsyncCelery, CeleryConfig, async_shared_task
from tomskit.celery._client.recording import Recording, publish
from tomskit.celery._outbox.once import OnceCall, run_once
from tomskit.celery._outbox.store import Batch, OutboxStore
from tomskit.sqlalchemy import DatabaseConfig
from tomskit.sqlalchemy.database import SessionScope, db
from tomskit.sqlalchemy.sessions import OutboxRow, TaskSession
from tomskit.sqlalchemy.tables import now_ms, outbox

pytestmark = pytest.mark.usefixtures("clean_process")

R = TypeVar("R")

_own = MetaData()
effects = Table(
    "effects", _own, Column("id", Integer, primary_key=True), Column("name", String(100))
)


@async_shared_task(name="model.noted")
async def noted(name: str) -> None:
    pass


class CrashedError(Exception):
    """The process has died."""


class Model(RuleBasedStateMachine):
    """What the database holds, what the broker has got, and what both should have."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.loop = asyncio.new_event_loop()
        # That of the process that sends; it has a scope for as long as that is open.
        self.context = copy_context()
        config = DatabaseConfig(
            SQLALCHEMY_DATABASE_URI_SCHEME="sqlite+aiosqlite",
            DB_DATABASE=str(Path(self.folder.name) / "model.db"),
        )
        self.app = AsyncCelery(
            "model",
            config=CeleryConfig(),
            broker="memory://",
            backend="cache+memory://",
            database=config,
            set_as_current=False,
        )
        self.app.set_current()
        self.broker = self.app.connection_for_read()
        self.queue = self.app.amqp.queues["celery"](self.broker.channel())
        self.queue.declare()
        self.queue.purge()
        self.is_away = False
        self.count = 0
        self.fresh: list[OutboxRow] = []
        self.committed: set[str] = set()
        self.published: Counter[str] = Counter()
        # What a process had published when it died, and not deleted.
        self.perhaps_twice: set[str] = set()
        self.answers: dict[str, str] = {}
        # What is to be committed, of the transaction and of each open savepoint.
        self.levels: list[list[str]] = []
        self.savepoints: list[AsyncSessionTransaction] = []
        self.scope: SessionScope | None = None
        self.store = OutboxStore(self.app, db)
        self.patch = pytest.MonkeyPatch()
        self.patch.setattr("tomskit.celery._outbox.store.publish", self.publish)
        self.run(self.open(config))

    def publish(self, app: AsyncCelery, row: OutboxRow) -> None:
        """Give a message to the broker, unless it is away."""
        if self.is_away:
            raise OperationalError("the broker is away")
        publish(app, row)

    def run(self, coro: Coroutine[object, Never, R]) -> R:
        return self.loop.run_until_complete(self.loop.create_task(coro, context=self.context))

    async def open(self, config: DatabaseConfig) -> None:
        db.open(config)
        await db.create_tables()
        async with db.engine.begin() as connection:
            await connection.run_sync(_own.create_all)

    @override
    def teardown(self) -> None:
        self.is_away = False
        self.run(self.relay_everything())
        self.look()
        assert set(self.published) == self.committed
        self.run(db.close())
        self.loop.run_until_complete(self.loop.shutdown_asyncgens())
        self.loop.close()
        self.patch.undo()
        self.broker.release()
        self.app.close()
        self.folder.cleanup()

    def look(self) -> None:
        """See what the broker has got since."""
        while (message := self.queue.get()) is not None:
            message.ack()
            self.published[str(message.headers["id"])] += 1

    def new_name(self) -> str:
        self.count += 1
        return f"m{self.count}"

    @property
    def is_open(self) -> bool:
        return self.scope is not None

    # -- a process that sends on commit

    @precondition(lambda self: not self.is_open)
    @rule()
    def enter_a_scope(self) -> None:
        self.scope = self.run(entered())
        self.levels, self.savepoints = [[]], []

    @precondition(lambda self: self.is_open)
    @rule()
    def send(self) -> None:
        name = self.new_name()
        self.run(self.hold(name))
        self.levels[-1].append(name)

    async def hold(self, name: str) -> None:
        """As delay_on_commit does it; when it is published is the model's matter."""
        session = db.session.sync_session
        assert isinstance(session, TaskSession)
        recording = Recording(self.app)
        recording.run(lambda: noted.apply_async((name,), task_id=name))
        session.hold(recording.messages, self.fresh.extend, grace_ms=0)

    @precondition(lambda self: self.is_open and len(self.savepoints) < 3)
    @rule()
    def begin_a_savepoint(self) -> None:
        self.savepoints.append(self.run(self.nested()))
        self.levels.append([])

    async def nested(self) -> AsyncSessionTransaction:
        return await db.session.begin_nested()

    @precondition(lambda self: self.savepoints)
    @rule()
    def release_a_savepoint(self) -> None:
        self.run(self.savepoints.pop().commit())
        held = self.levels.pop()
        self.levels[-1] += held

    @precondition(lambda self: self.savepoints)
    @rule()
    def roll_back_a_savepoint(self) -> None:
        self.run(self.savepoints.pop().rollback())
        self.levels.pop()

    @precondition(lambda self: self.is_open)
    @rule()
    def commit(self) -> None:
        self.run(db_commit())
        self.committed.update(*self.levels)
        self.levels, self.savepoints = [[]], []

    @precondition(lambda self: self.is_open)
    @rule()
    def roll_back(self) -> None:
        self.run(db_roll_back())
        self.levels, self.savepoints = [[]], []

    @precondition(lambda self: self.is_open)
    @rule(dies=st.booleans())
    def leave_the_scope(self, *, dies: bool) -> None:
        assert self.scope is not None
        self.run(self.scope.__aexit__(None, None, None))
        self.scope, self.levels, self.savepoints = None, [], []
        if dies:
            self.fresh.clear()

    @precondition(lambda self: self.fresh)
    @rule(dies=st.booleans())
    def publish_what_was_committed(self, *, dies: bool) -> None:
        rows, self.fresh = self.fresh[:], []
        batch = self.run(self.store.publish(rows))
        if dies:
            self.note_undeleted(batch.taken, rows)
        else:
            self.run(self.store.settle(batch))

    def note_undeleted(self, taken: Sequence[str], rows: Sequence[OutboxRow]) -> None:
        texts = [row["options"] for row in rows if row["id"] in taken]
        self.perhaps_twice |= {
            name for name in self.committed if any(f'"{name}"' in t for t in texts)
        }

    # -- workers

    @rule(away=st.booleans())
    def change_the_broker(self, *, away: bool) -> None:
        self.is_away = away

    @rule(relays=st.integers(1, 3))
    def relay(self, relays: int) -> None:
        async def several() -> None:
            await asyncio.gather(*(self.store.publish_due() for _ in range(relays)))

        # What the sender has still in memory, it publishes before the others do.
        self.fresh.clear()
        self.run(several())

    @rule()
    def relay_and_die(self) -> None:
        """A worker dies when it has published, and its claim ends."""
        self.fresh.clear()
        real = self.store.publish

        async def publish_and_die(rows: Sequence[OutboxRow]) -> Batch:
            self.note_undeleted((await real(rows)).taken, rows)
            raise CrashedError

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(self.store, "publish", publish_and_die)
            with suppress(CrashedError):
                self.run(self.store.publish_due())
        self.run(self.expire_claims())

    async def expire_claims(self) -> None:
        async with db.engine.begin() as connection:
            await connection.execute(update(outbox).values(due=now_ms()))

    async def relay_everything(self) -> None:
        while True:
            await self.expire_claims()
            if not (await self.store.publish_due()).size:
                return

    @rule(
        number=st.integers(1, 4),
        times=st.integers(1, 2),
        known=st.booleans(),
        raises=st.booleans(),
    )
    def deliver(self, number: int, times: int, *, known: bool, raises: bool) -> None:
        """Deliver the message of a task that runs once, perhaps twice at the same time."""
        task_id = f"task{number}"
        attempts = [self.new_name() for _ in range(times)]

        async def deliver(answer: str) -> object:
            async def body() -> str:
                await db.session.execute(insert(effects).values(name=task_id))
                await self.hold(answer)
                if raises:
                    raise CrashedError
                return answer

            call = OnceCall(task_id, task_id, body, lambda value: value, "json")
            async with db.scope():
                return await run_once(db, call)

        async def all_of_them() -> list[object]:
            deliveries = [asyncio.ensure_future(deliver(one)) for one in attempts]
            return await asyncio.gather(*deliveries, return_exceptions=True)

        answers = self.run(all_of_them())
        if task_id not in self.answers and not raises:
            self.answers[task_id] = str(answers[0])
            self.committed.add(self.answers[task_id])
        expected = self.answers.get(task_id)
        for answer in answers:
            # One that has run before is known by its mark, which the body need not know of.
            assert answer == expected or (raises and isinstance(answer, CrashedError))

    # -- what always holds

    @invariant()
    def what_was_committed_is_published_or_waits(self) -> None:
        self.look()
        waiting = self.run(self.waiting())
        assert set(self.published) <= self.committed
        for name in self.committed:
            assert self.published[name] or any(f'"{name}"' in options for options in waiting)

    @invariant()
    def nothing_is_published_twice_but_what_a_dead_process_has_published(self) -> None:
        again = {name for name, times in self.published.items() if times > 1}
        assert again <= self.perhaps_twice

    @invariant()
    def effects_happen_once(self) -> None:
        found = Counter(self.run(self.effects()))
        assert found == Counter(self.answers.keys())

    async def waiting(self) -> Sequence[str]:
        async with db.engine.connect() as connection:
            return (await connection.execute(select(outbox.c.options))).scalars().all()

    async def effects(self) -> Sequence[str]:
        async with db.engine.connect() as connection:
            return (await connection.execute(select(effects.c.name))).scalars().all()


async def entered() -> SessionScope:
    return await db.scope().__aenter__()


async def db_commit() -> None:
    await db.session.commit()


async def db_roll_back() -> None:
    await db.session.rollback()


def test_what_is_committed_happens_once() -> None:
    checks = [HealthCheck.too_slow, HealthCheck.data_too_large]
    limits = settings(
        max_examples=settings().max_examples // 3 or 1,
        stateful_step_count=30,
        suppress_health_check=checks,
    )
    run_state_machine_as_test(Model, settings=limits)
