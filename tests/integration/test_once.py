"""Tasks with once=True: however often a message is delivered, its effects happen once."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Generator
from typing import Any

import pytest
from celery.exceptions import SoftTimeLimitExceeded, TimeLimitExceeded
from celery.result import AsyncResult

from tests.integration import once_service as service
from tests.support.deployment import TIMEOUT, Deployment, deploy, eventually
from tests.support.once import broker
from tests.support.patience import patience
from tests.support.remote import control, fresh_key, inspect
from tests.support.servers import MariaDBServer, RedisServer
from tests.support.workers import Pool
from tomskit.celery import AsyncCelery, CeleryConfig, TypedResult, chain, chord, group
from tomskit.sqlalchemy import DatabaseProvider
from tomskit.sqlalchemy.database import db

MODULE = service.__name__
POOLS: tuple[Pool, ...] = ("prefork", "threads", "solo", "asyncio")


class Bank:
    """A deployment with tables and accounts, and the service's app as its client."""

    def __init__(self, deployment: Deployment) -> None:
        self.deployment = deployment
        fields = {
            name: value
            for name, value in deployment.environment.items()
            if name.startswith("CELERY_")
        }
        # The tasks of the service are shared, so they are this app's as well.
        self.app = AsyncCelery(
            "client", config=CeleryConfig.model_validate(fields), set_as_current=False
        )
        asyncio.run(self._prepare())

    async def _prepare(self) -> None:
        provider = DatabaseProvider(self.app.db_config)
        await provider.startup()
        try:
            await db.create_tables()
            async with db.engine.begin() as connection:
                await connection.run_sync(service.metadata.create_all)
        finally:
            await provider.shutdown()
        self.query("INSERT INTO accounts VALUES (1, 100), (2, 100)")

    def query(self, sql: str) -> list[tuple[object, ...]]:
        statement = sql
        for table in ("accounts", "transfers", "receipts", "tomskit_once", "tomskit_outbox"):
            statement = statement.replace(table, f"`{self.deployment.database}`.{table}")
        return self.deployment.mariadb.query(statement)

    def names(self, table: str) -> list[object]:
        return [name for (name,) in self.query(f"SELECT name FROM {table} ORDER BY name")]

    def balances(self) -> list[object]:
        return [balance for (balance,) in self.query("SELECT balance FROM accounts ORDER BY id")]

    def deliver(self, count: int, send: Callable[[str], TypedResult[Any]], task_id: str) -> Any:
        """Send the same message several times, and wait until all of them were processed."""
        results = [send(task_id) for _ in range(count)]
        value = results[-1].get(timeout=TIMEOUT)
        self.wait_until_idle()
        return value

    def wait_until_idle(self) -> None:
        """Wait until no message waits or is being processed."""

        def is_idle() -> bool:
            with broker(self.deployment.redis_db) as redis:
                keys = {key.decode() for key in redis.keys()}  # noqa: SIM118 (of a server)
            return not any(key.startswith(("celery", "unacked")) for key in keys)

        eventually(is_idle)


@pytest.fixture
def bank(redis_server: RedisServer, mariadb_server: MariaDBServer) -> Generator[Bank]:
    with deploy(redis_server, mariadb_server) as fresh:
        fresh.environment["CELERY_OUTBOX_INTERVAL"] = "3"
        made = Bank(fresh)
        yield made
        made.app.close()


def task(bank: Bank, made: Any) -> Any:
    """A task of the service, as the client's app has it."""
    return bank.app.tasks[made.name]


@pytest.mark.parametrize("pool", POOLS)
def test_a_message_that_is_delivered_three_times_has_its_effects_once(
    bank: Bank, pool: Pool
) -> None:
    bank.deployment.worker(pool, 2, module=MODULE)
    transfer = task(bank, service.transfer)

    def send(task_id: str) -> TypedResult[Any]:
        sent: TypedResult[Any] = transfer.options(task_id=task_id).delay("a", 1, 2, 30)
        return sent

    moved = bank.deliver(3, send, "one")
    assert (moved.name, moved.amount) == ("a", 30)
    assert bank.names("transfers") == ["a"]
    assert bank.balances() == [70, 130]
    eventually(lambda: bank.names("receipts") == ["a"])
    # What a later delivery answers is what the first one returned, to the microsecond.
    assert bank.deliver(1, send, "one") == moved
    assert bank.names("receipts") == ["a"]


@pytest.mark.parametrize("pool", POOLS)
def test_a_process_that_is_killed_before_the_commit_has_done_nothing(
    bank: Bank, pool: Pool
) -> None:
    # As late messages of a killed worker are delivered again.
    bank.deployment.environment["ONCE_VISIBILITY_TIMEOUT"] = "2"
    bank.deployment.worker(pool, 1, module=MODULE)
    result = task(bank, service.dies_once).delay("a", fresh_key())
    if pool != "prefork":
        bank.deployment.running = bank.deployment.worker(pool, 1, module=MODULE)
    assert result.get(timeout=TIMEOUT) == "a"
    assert bank.names("transfers") == ["a"]
    eventually(lambda: bank.names("receipts") == ["a"])


@pytest.mark.parametrize("pool", ["prefork", "solo", "asyncio"])
def test_a_cold_shutdown_leaves_a_task_to_the_next_worker(bank: Bank, pool: Pool) -> None:
    worker = bank.deployment.worker(pool, 1, module=MODULE)
    key = fresh_key()
    result = task(bank, service.waits).delay("a", key)
    eventually(lambda: bank.deployment.key(f"{key}-in") == "1")

    worker.send_signal(signal.SIGQUIT)
    worker.wait()

    assert bank.names("transfers") == []
    bank.deployment.running = bank.deployment.worker(pool, 1, module=MODULE)
    with bank.deployment.redis.client(bank.deployment.redis_db.result_db) as redis:
        redis.set(f"{key}-go", "1")
    assert result.get(timeout=TIMEOUT) == "a"
    assert bank.names("transfers") == ["a"]
    eventually(lambda: bank.names("receipts") == ["a"])


@pytest.fixture(params=["lean", "not lean"])
def served(bank: Bank, request: pytest.FixtureRequest) -> Bank:
    is_lean = str(request.param == "lean").lower()
    bank.deployment.worker("asyncio", 10, module=MODULE, CELERY_WORKER_LEAN_PATH=is_lean)
    return bank


def test_it_takes_the_lean_path_of_the_asyncio_pool(bank: Bank) -> None:
    bank.deployment.worker("asyncio", 10, module=MODULE)
    task(bank, service.note_with_result).delay("a").get(timeout=TIMEOUT)

    found: Any = inspect(bank.deployment).stats()
    [stats] = found.values()
    assert stats["pool"]["lean"] == 1


def test_the_marks_are_one_row_each(served: Bank) -> None:
    task(served, service.note_with_result).delay("a").get(timeout=TIMEOUT)
    [(task_id, content)] = served.query("SELECT task_id, content_type FROM tomskit_once")
    assert content == "application/json"
    assert len(str(task_id)) == 36


@pytest.mark.parametrize("made", [service.stubborn, service.automatic])
def test_only_the_last_of_several_tries_has_effects(served: Bank, made: Any) -> None:
    result = task(served, made).delay("a", fails=3)
    assert result.get(timeout=TIMEOUT) == 3
    assert served.names("transfers") == ["a"]
    eventually(lambda: served.names("receipts") == ["a"])


def test_what_a_body_has_done_before_it_raises_is_rolled_back(served: Bank) -> None:
    with pytest.raises(KeyError):
        task(served, service.fails).delay("a").get(timeout=TIMEOUT)
    assert served.names("transfers") == []
    assert served.query("SELECT * FROM tomskit_once") == []
    assert served.query("SELECT * FROM tomskit_outbox") == []


def test_a_soft_limit_rolls_back(served: Bank) -> None:
    with pytest.raises(SoftTimeLimitExceeded):
        task(served, service.sleeps).delay("a").get(timeout=TIMEOUT)
    assert served.names("transfers") == []
    assert served.query("SELECT * FROM tomskit_once") == []


def test_a_revoked_task_that_is_terminated_rolls_back(served: Bank) -> None:
    result = task(served, service.sleeps).options(soft_time_limit=100, time_limit=120).delay("a")
    eventually(lambda: AsyncResult(result.id, app=served.app).state == "STARTED")
    control(served.deployment, "revoke", task_id=result.id, terminate=True)
    eventually(lambda: str(AsyncResult(result.id, app=served.app).state) == "REVOKED")
    assert served.names("transfers") == []
    assert served.query("SELECT * FROM tomskit_once") == []


@pytest.mark.parametrize("pool", ["prefork", "asyncio"])
def test_a_hard_limit_rolls_back(bank: Bank, pool: Pool) -> None:
    bank.deployment.worker(pool, 2, module=MODULE)
    with pytest.raises(TimeLimitExceeded):
        task(bank, service.sleeps_too_long).delay("a").get(timeout=TIMEOUT)
    bank.wait_until_idle()
    assert bank.names("transfers") == []
    assert bank.query("SELECT * FROM tomskit_once") == []
    assert bank.query("SELECT * FROM tomskit_outbox") == []


def test_a_task_that_replaces_itself_leaves_effects_to_the_other(served: Bank) -> None:
    call = task(served, service.replaced).options(task_id="one")
    for _ in range(2):
        assert call.delay("a").get(timeout=TIMEOUT) == 8
    served.wait_until_idle()
    assert served.names("transfers") == ["doubled a"]
    assert served.names("receipts") == []
    assert served.query("SELECT task_id FROM tomskit_once") == [("one",)]


def test_a_task_that_ignores_itself_has_no_effects(served: Bank) -> None:
    task(served, service.ignored).delay("a")
    task(served, service.note).delay("b")
    eventually(lambda: served.names("transfers") == ["b"])
    served.wait_until_idle()
    assert served.names("transfers") == ["b"]
    assert served.names("receipts") == []


def test_a_rejected_message_has_its_effects_when_it_comes_again(served: Bank) -> None:
    assert task(served, service.rejected).delay("a", fresh_key()).get(timeout=TIMEOUT) == "a"
    served.wait_until_idle()
    assert served.names("transfers") == ["a"]
    eventually(lambda: served.names("receipts") == ["a"])


def test_two_workers_that_run_the_same_message_have_its_effects_once(served: Bank) -> None:
    served.deployment.worker("prefork", 2, module=MODULE)
    redis: Any = served.deployment.redis.client(served.deployment.redis_db.result_db)
    key = fresh_key()
    call = task(served, service.waits).options(task_id="one")
    results = [call.delay("a", key) for _ in range(3)]
    eventually(lambda: served.deployment.key(f"{key}-in") == "1")
    redis.set(f"{key}-go", "1")
    assert [result.get(timeout=TIMEOUT) for result in results] == ["a"] * 3
    served.wait_until_idle()
    assert served.names("transfers") == ["a"]
    eventually(lambda: served.names("receipts") == ["a"])


@pytest.mark.parametrize("made", [service.commits, service.begins])
def test_a_commit_in_the_body_is_an_error_that_says_so(served: Bank, made: Any) -> None:
    result = task(served, made).delay("a")
    with pytest.raises(Exception, match="once=True must not commit"):
        result.get(timeout=TIMEOUT)
    assert served.names("transfers") == []


def test_savepoints_work_in_the_body(served: Bank) -> None:
    assert task(served, service.savepoints).delay("a").get(timeout=TIMEOUT) == "a"
    assert served.names("transfers") == ["a"]
    served.wait_until_idle()
    assert served.names("receipts") == []


def test_a_task_that_ignores_its_result_has_its_effects_once(served: Bank) -> None:
    note = task(served, service.note)
    for _ in range(3):
        note.options(task_id="ignored").delay("a")
    eventually(lambda: served.names("transfers") == ["a"])
    served.wait_until_idle()
    assert served.names("transfers") == ["a"]
    assert served.query("SELECT result FROM tomskit_once") == [(None,)]


def test_a_chain_goes_on_after_each_delivery_and_has_its_effects_once(served: Bank) -> None:
    first = task(served, service.transfer).si("a", 1, 2, 30).set(task_id="first")
    untyped: Any = chain
    steps: Any = untyped(first, task(served, service.doubled).p().set(task_id="second"))
    assert steps.delay().get(timeout=TIMEOUT) == 60
    # As the broker delivers the first message again.
    assert steps.delay().get(timeout=TIMEOUT) == 60
    served.wait_until_idle()
    assert served.names("transfers") == ["a", "doubled a"]
    assert served.balances() == [70, 130]


def test_a_chord_gets_the_results_of_tasks_that_run_once(served: Bank) -> None:
    transfer = task(served, service.transfer)
    header = [transfer.s("a", 1, 2, 5), transfer.s("b", 2, 1, 7)]
    body = task(served, service.total).p()
    assert chord(header, body).delay().get(timeout=TIMEOUT) == 12
    assert served.names("transfers") == ["a", "b"]


def test_links_are_called_by_each_delivery(served: Bank) -> None:
    linked = task(served, service.doubled).p().set(task_id="linked")
    call = task(served, service.transfer).options(task_id="one", link=linked)
    for _ in range(2):
        assert call.delay("a", 1, 2, 30).get(timeout=TIMEOUT).amount == 30
    eventually(lambda: served.names("transfers") == ["a", "doubled a"])
    served.wait_until_idle()
    assert served.names("transfers") == ["a", "doubled a"]


@pytest.mark.parametrize("kind", ["task", "chain", "group", "chord", "link of a link"])
def test_links_without_ids_have_their_effects_once(served: Bank, kind: str) -> None:
    linked: list[Any] = [
        task(served, service.note_with_result).si(f"linked {number}") for number in range(3)
    ]
    untyped_chain: Any = chain
    links: dict[str, Callable[[], Any]] = {
        "task": lambda: linked[0],
        "chain": lambda: untyped_chain(*linked),
        "group": lambda: group(linked),
        "chord": lambda: chord(linked[:2], linked[2]),
        "link of a link": lambda: linked[0].set(link=[linked[1]]),
    }
    call = task(served, service.note).options(task_id="one", link=links[kind]())
    for _ in range(3):
        call.delay("a")
    names = ["a", *(f"linked {number}" for number in range(_LINKED[kind]))]
    eventually(lambda: served.names("transfers")[: len(names)] == names)
    served.wait_until_idle()
    assert served.names("transfers") == names


_LINKED = {"task": 1, "chain": 3, "group": 3, "chord": 3, "link of a link": 2}
"""How many tasks each of them calls."""


def test_transfers_that_get_into_deadlocks_are_repeated(served: Bank) -> None:
    crossing = task(served, service.crossing)
    results = [
        crossing.delay(str(number), *((1, 2) if number % 2 else (2, 1))) for number in range(20)
    ]
    for result in results:
        result.get(timeout=TIMEOUT)
    assert len(served.names("transfers")) == 20
    assert served.balances() == [100, 100]


def test_a_connection_that_is_killed_during_the_body_does_not_fail_it(served: Bank) -> None:
    key = fresh_key()
    result = task(served, service.waits).delay("a", key)
    eventually(lambda: served.deployment.key(f"{key}-in") == "1")
    served.deployment.mariadb.kill_connections(served.deployment.database)
    redis: Any = served.deployment.redis.client(served.deployment.redis_db.result_db)
    redis.set(f"{key}-go", "1")
    assert result.get(timeout=TIMEOUT) == "a"
    assert served.names("transfers") == ["a"]
    eventually(lambda: served.names("receipts") == ["a"])


def test_old_marks_are_deleted(bank: Bank) -> None:
    day = 86_400_000
    now = "UNIX_TIMESTAMP() * 1000"
    bank.query(
        "INSERT INTO tomskit_once (task_id, finished) VALUES "
        f"('old', {now} - 8 * {day}), ('new', {now} - 6 * {day})"
    )
    bank.deployment.worker("threads", 1, module=MODULE)
    eventually(lambda: bank.query("SELECT task_id FROM tomskit_once") == [("new",)])


def test_marks_that_end_before_a_message_may_come_again_are_a_warning(bank: Bank) -> None:
    bank.deployment.environment |= {"ONCE_VISIBILITY_TIMEOUT": "172800", "CELERY_ONCE_KEEP": "1"}
    worker = bank.deployment.worker("threads", 1, module=MODULE)
    assert "CELERY_ONCE_KEEP=1: the marks of " in worker.text
    assert "visibility timeout, 2 days" in worker.text


def test_without_the_table_the_error_says_how_to_make_it(served: Bank) -> None:
    served.query("DROP TABLE tomskit_once")
    result = task(served, service.note_with_result).delay("a")
    with pytest.raises(Exception, match=r"await db\.create_tables\(\)"):
        result.get(timeout=patience(20))
    assert served.names("transfers") == []


def test_ids_that_differ_in_case_are_two(served: Bank) -> None:
    call = task(served, service.note_with_result)
    for task_id in ("Abc", "abc", "é" * 200, "x" * 300, "y "):
        assert call.options(task_id=task_id).delay(task_id[:5]).get(timeout=TIMEOUT) is None
    assert len(served.query("SELECT task_id FROM tomskit_once")) == 5
