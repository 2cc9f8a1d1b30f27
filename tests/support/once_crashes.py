"""Transfers between accounts while workers, connections and the database are killed."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Generator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from typing import Final, Literal, Protocol, cast

from celery import Celery
from redis import Redis
from redis.exceptions import RedisError

from tests.integration import once_service as service
from tests.support.patience import patience, wait_until
from tests.support.servers import MariaDBServer, RedisServer, ServerError
from tests.support.servers.postgres import PostgresServer
from tests.support.workers import Pool, Worker
from tomskit.sqlalchemy import DatabaseConfig
from tomskit.sqlalchemy.database import Database

MODULE: Final = service.__name__
Kind = Literal["mariadb", "postgres"]
Way = Literal["once", "plain"]
Kill = Literal["worker", "connections of the broker", "connections of the database", "database"]
KILLS: Final[tuple[Kill, ...]] = (
    "worker",
    "worker",
    "worker",
    "connections of the broker",
    "connections of the database",
    "database",
)
START_BALANCE: Final = 1000


@dataclass(frozen=True)
class Transfers:
    """What is done."""

    transfers: int
    kills: int
    accounts: int = 100
    workers: int = 2
    pool: Pool = "asyncio"
    kind: Kind = "mariadb"
    way: Way = "once"
    seed: int = 1


@dataclass
class Outcome:
    """What has come of it.

    Attributes:
        missing: Transfers that never happened.
        again: Transfers that happened more than once.
        receipts_missing: Receipts that were never written.
        receipts_again: Receipts that were written more than once.
        off_balance: By how much the sum of all balances has changed.
        waiting: Messages that are still in the outbox.
        kills: How often each thing was killed.
        seconds: How long it took.
        errors: What tasks have raised.
    """

    missing: int = 0
    again: int = 0
    receipts_missing: int = 0
    receipts_again: int = 0
    off_balance: int = 0
    waiting: int = 0
    kills: Counter[str] = field(default_factory=Counter[str])
    seconds: float = 0.0
    errors: Counter[str] = field(default_factory=Counter[str])

    @property
    def is_clean(self) -> bool:
        """Whether everything has happened exactly once."""
        return not (
            self.missing
            or self.again
            or self.receipts_missing
            or self.receipts_again
            or self.off_balance
            or self.waiting
        )


class Bank(Protocol):
    """The database, as far as it differs by its kind."""

    environment: Mapping[str, str]

    def start(self) -> None: ...
    def close(self) -> None: ...
    def query(self, sql: str) -> list[tuple[object, ...]]: ...
    def kill_connections(self) -> None: ...
    def restart(self) -> None: ...


def _environment(scheme: str, server: MariaDBServer | PostgresServer) -> dict[str, str]:
    return {
        "CELERY_SQLALCHEMY_DATABASE_URI_SCHEME": scheme,
        "CELERY_DB_HOST": server.host,
        "CELERY_DB_PORT": str(server.port),
        "CELERY_DB_USERNAME": server.user,
        "CELERY_DB_PASSWORD": server.password,
        "CELERY_DB_DATABASE": server.database,
    }


class MariaDBBank:
    """Accounts in MariaDB."""

    def __init__(self) -> None:
        # What was committed survives the end of the process.
        self._server = MariaDBServer(options=["--innodb-flush-log-at-trx-commit=1"])
        self.environment: Mapping[str, str] = {}

    def start(self) -> None:
        self._server.start()
        self.environment = _environment("mysql+aiomysql", self._server)

    def close(self) -> None:
        self._server.close()

    def query(self, sql: str) -> list[tuple[object, ...]]:
        database = f"`{self._server.database}`"
        for word in ("FROM", "INTO"):
            sql = sql.replace(f"{word} ", f"{word} {database}.")
        return self._server.query(sql)

    def kill_connections(self) -> None:
        self._server.kill_connections()

    def restart(self) -> None:
        self._server.kill()
        self._server.start()


class PostgresBank:
    """Accounts in PostgreSQL."""

    def __init__(self) -> None:
        self._server = PostgresServer(options=["-c", "synchronous_commit=on"])
        self.environment: Mapping[str, str] = {}

    def start(self) -> None:
        self._server.start()
        self.environment = _environment("postgresql+asyncpg", self._server)

    def close(self) -> None:
        self._server.close()

    def query(self, sql: str) -> list[tuple[object, ...]]:
        return self._server.query(sql)

    def kill_connections(self) -> None:
        self._server.query(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'"
        )

    def restart(self) -> None:
        self._server.kill()
        # The server's other processes end by themselves, and another server starts only then.
        deadline = time.monotonic() + patience(10)
        while True:
            try:
                self._server.start()
            except ServerError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.1)
            else:
                return


@contextmanager
def bank_of(kind: Kind, accounts: int) -> Generator[Bank]:
    """A server of its own, with tables and accounts."""
    bank: Bank = MariaDBBank() if kind == "mariadb" else PostgresBank()
    bank.start()
    try:
        asyncio.run(_make_tables(config_of(bank)))
        rows = ", ".join(f"({number}, {START_BALANCE})" for number in range(accounts))
        bank.query(f"INSERT INTO accounts (id, balance) VALUES {rows}")
        yield bank
    finally:
        bank.close()


def config_of(bank: Bank) -> DatabaseConfig:
    """Where the bank's database is."""
    parts = bank.environment
    return DatabaseConfig(
        SQLALCHEMY_DATABASE_URI_SCHEME=parts["CELERY_SQLALCHEMY_DATABASE_URI_SCHEME"],
        DB_HOST=parts["CELERY_DB_HOST"],
        DB_PORT=int(parts["CELERY_DB_PORT"]),
        DB_USERNAME=parts["CELERY_DB_USERNAME"],
        DB_PASSWORD=parts["CELERY_DB_PASSWORD"],
        DB_DATABASE=parts["CELERY_DB_DATABASE"],
    )


async def _make_tables(config: DatabaseConfig) -> None:
    database = Database()
    database.open(config)
    try:
        await database.create_tables()
        async with database.engine.begin() as connection:
            await connection.run_sync(service.metadata.create_all)
    finally:
        await database.close()


def transfer_and_kill(what: Transfers, log: bool = False) -> Outcome:
    """Send transfers while things are killed; then wait until nothing is left to do."""
    chance = random.Random(what.seed)
    outcome = Outcome()
    begun = time.monotonic()
    with ExitStack() as stack:
        redis_server = stack.enter_context(RedisServer())
        bank = stack.enter_context(bank_of(what.kind, what.accounts))
        url = f"redis://{redis_server.host}:{redis_server.port}/0"
        sender = stack.enter_context(Celery("sender", broker=url, set_as_current=False))
        redis = cast(
            "RedisCounts",
            stack.enter_context(Redis(host=redis_server.host, port=redis_server.port)),
        )
        workers = Workers(what, {**bank.environment, **redis_environment(redis_server)}, stack)
        sent = 0
        for kill in range(what.kills):
            due = what.transfers * (kill + 1) // what.kills
            moment = time.monotonic() + chance.uniform(0.1, 0.6)
            while sent < due:
                _send(sender, what, chance, sent)
                sent += 1
            time.sleep(max(moment - time.monotonic(), 0))
            target = chance.choice(KILLS)
            outcome.kills[target] += 1
            if target == "worker":
                workers.kill_one(chance)
            elif target == "connections of the broker":
                redis.client_kill_filter(_type="normal", skipme=True)
            elif target == "connections of the database":
                bank.kill_connections()
            else:
                bank.restart()
            if log and kill % 10 == 9:
                print(f"{kill + 1} kills, {sent} transfers sent", flush=True)
        for number in range(sent, what.transfers):
            _send(sender, what, chance, number)
        with suppress(AssertionError):  # the outcome says what is missing
            _wait_for_rest(redis, bank)
        workers.stop()
        outcome.errors = workers.errors()
        _count(bank, what, outcome)
    outcome.seconds = time.monotonic() - begun
    return outcome


class Workers:
    """The workers; one that is killed is replaced."""

    def __init__(self, what: Transfers, environment: Mapping[str, str], stack: ExitStack) -> None:
        self._what = what
        self._environment = environment
        self._stack = stack
        self._all: list[Worker] = []
        self._workers = [self._start() for _ in range(what.workers)]
        for worker in self._workers:
            worker.wait_ready()

    def _start(self) -> Worker:
        many = self._what.pool == "asyncio"
        worker = Worker(
            MODULE,
            pool=self._what.pool,
            concurrency=20 if many else 2,
            env=self._environment,
        )
        self._all.append(worker)
        return self._stack.enter_context(worker)

    def errors(self) -> Counter[str]:
        """What their logs say that tasks have raised, without what differs each time."""
        lines = [line for worker in self._all for line in worker.lines]
        return Counter(
            line.partition("raised unexpected: ")[2][:200]
            for line in lines
            if "raised unexpected: " in line
        )

    def kill_one(self, chance: random.Random) -> None:
        """Kill a worker, and start another one."""
        index = chance.randrange(len(self._workers))
        with suppress(ProcessLookupError):
            os.kill(self._workers[index].pid, signal.SIGKILL)
        self._workers[index] = self._start()

    def stop(self) -> None:
        """Stop them in good order."""
        for worker in self._workers:
            with suppress(AssertionError):
                worker.stop()


class RedisCounts(Protocol):
    def hlen(self, key: str) -> int: ...
    def llen(self, key: str) -> int: ...
    def client_kill_filter(self, *, _type: str, skipme: bool) -> int: ...


def redis_environment(server: RedisServer) -> dict[str, str]:
    environment = {
        "ONCE_VISIBILITY_TIMEOUT": "3",
        "CELERY_REDIS_FAST_PATH": "true",
        "CELERY_OUTBOX_INTERVAL": "3",
    }
    for role in ("CELERY_BROKER", "CELERY_RESULT_BACKEND", "CELERY_WORKER"):
        environment[f"{role}_REDIS_HOST"] = server.host
        environment[f"{role}_REDIS_PORT"] = str(server.port)
        environment[f"{role}_REDIS_DB"] = "0"
    return environment


def _send(sender: Celery, what: Transfers, chance: random.Random, number: int) -> None:
    source, target = chance.sample(range(what.accounts), 2)
    name = "transfer" if what.way == "once" else "plain_transfer"
    sender.send_task(
        f"{MODULE}.{name}",
        (f"t{number}", source, target, chance.randint(1, 50)),
        ignore_result=True,
        retry_policy={"max_retries": 50, "interval_start": 0.05, "interval_step": 0.05},
    )


def _wait_for_rest(redis: RedisCounts, bank: Bank) -> None:
    """Wait until nothing is left to run, some time long."""
    since: list[float] = []

    def is_settled() -> bool:
        try:
            left = redis.llen("celery") + redis.hlen("unacked")
            left += cast("int", bank.query("SELECT COUNT(*) FROM tomskit_outbox")[0][0])
        except RedisError:
            left = 1
        if left:
            since.clear()
            return False
        since.append(time.monotonic())
        # A message that was fetched and not yet noted is in none of them.
        return since[-1] - since[0] > 1

    wait_until(is_settled, 120, "nothing is left to run")


def _count(bank: Bank, what: Transfers, outcome: Outcome) -> None:
    sent = {f"t{number}" for number in range(what.transfers)}
    transfers = Counter(str(name) for (name,) in bank.query("SELECT name FROM transfers"))
    receipts = Counter(str(name) for (name,) in bank.query("SELECT name FROM receipts"))
    [(balance,)] = bank.query("SELECT SUM(balance) FROM accounts")
    [(waiting,)] = bank.query("SELECT COUNT(*) FROM tomskit_outbox")
    outcome.missing = len(sent - transfers.keys())
    outcome.again = sum(count > 1 for count in transfers.values())
    outcome.receipts_missing = len(sent - receipts.keys())
    outcome.receipts_again = sum(count > 1 for count in receipts.values())
    outcome.off_balance = int(str(balance)) - what.accounts * START_BALANCE
    outcome.waiting = cast("int", waiting)
