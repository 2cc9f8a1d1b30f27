"""The contenders: how to fill the queue, start the worker and watch the progress of each."""

import os
import subprocess
import sys
import venv
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final, NamedTuple, TypedDict, Unpack, cast
from uuid import uuid4

from celery import Celery
from tests.support.servers import MariaDBServer, RedisServer
from tests.support.workers import PROJECT, Pool, Worker
from typing_extensions import override

from benchmarks.pools.environment import CONCURRENCY, COUNT, COUNTED, IGNORE, QUEUE, RESULTS, TRIPS
from benchmarks.pools.watches import (
    ArqWatch,
    CeleryWatch,
    CountedWatch,
    ListWatch,
    StreaqWatch,
    Watch,
)
from benchmarks.pools.workloads import (
    COMMON,
    CONNECTIONS,
    IGNORED,
    NOOP,
    OURS,
    PEERS,
    QUERY,
    SHORT,
    Work,
)

MANY: Final = 1000
"""The concurrency of all contenders that support it."""

_FEWER: Final = {NOOP: 3_000, SHORT: 5_000, IGNORED: 5_000}
"""The tasks of contenders that need some seconds for so many."""


class Servers(NamedTuple):
    """The private servers of this benchmark."""

    redis: RedisServer
    mariadb: MariaDBServer | None
    """None if tomskit does not run."""


class Client(NamedTuple):
    """A program and its environment."""

    command: Sequence[str]
    environment: Mapping[str, str]


@dataclass
class Run:
    """One drain of a queue: the tasks and the servers."""

    work: Work
    count: int
    servers: Servers
    queue_db: int
    results_db: int
    stack: ExitStack
    ids: list[str] = field(default_factory=list[str])
    """The ids of the tasks, if they are needed to find the results."""


class Contender(ABC):
    """One row of the table."""

    def __init__(
        self,
        name: str,
        works: Sequence[Work] = PEERS,
        limits: Mapping[Work, int] | None = None,
    ) -> None:
        self.name: Final = name
        self.works: Final = works
        self._limits = limits or {}

    @abstractmethod
    def fill(self, run: Run) -> None:
        """Put all tasks into the queue."""

    @abstractmethod
    def worker(self, run: Run) -> Worker:
        """A worker that has not been started."""

    def client(self, run: Run) -> Client | None:
        """A program that sends no-ops and awaits their results; None without an async client."""
        return None

    def watch(self, run: Run) -> Watch:
        """The watch for the worker's progress."""
        watch = self._watch(run)
        if run.work is not IGNORED:
            return watch
        results = run.stack.enter_context(run.servers.redis.client(run.results_db))
        return CountedWatch(watch, results, key=COUNTED, count=run.count)

    @abstractmethod
    def _watch(self, run: Run) -> Watch:
        """The watch for a run whose results are stored."""

    def enough(self, work: Work) -> int:
        """How many tasks to run; a slow contender runs fewer."""
        return min(work.count, self._limits.get(work, work.count))


class _Options(TypedDict):
    pool: Pool | None
    concurrency: int
    env: Mapping[str, str]
    loglevel: str
    cold: bool


class CeleryWorker(Contender):
    """A `celery worker`."""

    def __init__(
        self,
        name: str,
        app: str,
        pool: Pool | None,
        concurrency: int,
        *,
        blocking: bool = False,
        tracked: bool = False,
        works: Sequence[Work] = PEERS,
        limits: Mapping[Work, int] | None = None,
    ) -> None:
        super().__init__(name, works, limits)
        self._tracked = tracked
        self._app = app
        self._pool: Pool | None = pool
        self._concurrency = concurrency
        self._prefix = "blocking_" if blocking else ""

    @override
    def fill(self, run: Run) -> None:
        # A result backend would subscribe to every result.
        client = Celery("client", broker=run.servers.redis.url(run.queue_db), set_as_current=False)
        run.stack.callback(client.close)
        send = cast("Callable[..., object]", client.send_task)
        run.ids = [str(uuid4()) for _ in range(run.count)]
        for task_id in run.ids:
            send(self._prefix + run.work.task, run.work.args, task_id=task_id)

    @override
    def worker(self, run: Run) -> Worker:
        return Worker(self._app, **self._options(run))

    def _options(self, run: Run) -> _Options:
        return {
            "pool": self._pool,
            "concurrency": run.count if run.work.all_at_once else self._concurrency,
            "env": self._environment(run),
            "loglevel": "WARNING",
            "cold": True,  # as users start it, since its start time and memory are measured
        }

    def _environment(self, run: Run) -> dict[str, str]:
        return urls(run)

    @override
    def _watch(self, run: Run) -> Watch:
        queue, results = (
            run.stack.enter_context(run.servers.redis.client(db))
            for db in (run.queue_db, run.results_db)
        )
        return CeleryWatch(
            queue, results, key="celery", count=run.count, ids=run.ids, tracked=self._tracked
        )


class TomskitWorker(CeleryWorker):
    """A worker of tomskit.

    Args:
        name: The name in the table.
        pool: The worker pool.
        tracked: Whether the state STARTED is recorded, as it is by default.
        logs: Whether it logs at INFO, to a file; else at WARNING.
    """

    def __init__(self, name: str, pool: str, *, tracked: bool, logs: bool = False) -> None:
        # The configuration selects the pool, not the command line.
        super().__init__(
            name,
            "benchmarks.pools.tomskit_app",
            None,
            MANY,
            tracked=tracked,
            works=(*PEERS, *OURS),
        )
        self._pool_name = pool
        self._logs = logs

    @override
    def worker(self, run: Run) -> Worker:
        options = self._options(run)
        if not self._logs:
            return Worker(self._app, **options)
        options["loglevel"] = "INFO"
        folder = run.stack.enter_context(TemporaryDirectory())
        return _Redirected(self._app, Path(folder, "log"), **options)

    @override
    def client(self, run: Run) -> Client:
        return Client(
            [sys.executable, "-m", "benchmarks.pools.tomskit_app", TRIPS, str(run.count)],
            self._environment(run),
        )

    @override
    def _environment(self, run: Run) -> dict[str, str]:
        environment = {
            **urls(run),
            "CELERY_WORKER_POOL": self._pool_name,
            "CELERY_TASK_TRACK_STARTED": str(self._tracked).lower(),
        }
        for role, db in (("BROKER", run.queue_db), ("RESULT_BACKEND", run.results_db)):
            environment |= {
                f"CELERY_{role}_REDIS_HOST": run.servers.redis.host,
                f"CELERY_{role}_REDIS_PORT": str(run.servers.redis.port),
                f"CELERY_{role}_REDIS_DB": str(db),
            }
        if run.work is QUERY:
            assert run.servers.mariadb is not None
            environment |= {
                "CELERY_DB_HOST": run.servers.mariadb.host,
                "CELERY_DB_PORT": str(run.servers.mariadb.port),
                "CELERY_DB_USERNAME": run.servers.mariadb.user,
                "CELERY_DB_PASSWORD": run.servers.mariadb.password,
                "CELERY_DB_DATABASE": run.servers.mariadb.database,
                "CELERY_SQLALCHEMY_POOL_SIZE": str(CONNECTIONS),
                "CELERY_SQLALCHEMY_MAX_OVERFLOW": "0",
            }
        return environment


class _Redirected(Worker):
    """A worker that writes its log to a file, as a service does, and not to this process."""

    def __init__(self, app: str, path: Path, **options: Unpack[_Options]) -> None:
        super().__init__(app, **options)
        self._command = ["/bin/sh", "-c", 'exec "$@" >"$0" 2>&1', str(path), *self._command]


class Command(Worker):
    """A worker of another task queue."""

    def __init__(self, command: Sequence[str], env: Mapping[str, str]) -> None:
        super().__init__("", env=env, cold=True)
        self._command = list(command)


class Queue(Contender):
    """Another task queue, with its own command for workers.

    Args:
        name: The name in the table.
        app: The module in this package that defines its tasks and fills its queue.
        command: The arguments after ``python -m``.
        watch: Makes the watch for a run.
        python: The interpreter that has it installed.
        waits: Whether its client can await a thousand results at once.
    """

    def __init__(
        self,
        name: str,
        app: str,
        command: Sequence[str],
        watch: Callable[[Run], Watch],
        python: str = sys.executable,
        *,
        waits: bool = True,
    ) -> None:
        super().__init__(name, limits=_FEWER)
        self._waits = waits
        self._app = app
        self._command = command
        self._make_watch = watch
        self._python = python

    @override
    def fill(self, run: Run) -> None:
        args = [run.work.task, str(run.count), *map(str, run.work.args)]
        done = subprocess.run(
            [self._python, "-m", f"benchmarks.pools.{self._app}", *args],
            check=False,
            env={**os.environ, **urls(run)},
            cwd=PROJECT,
            capture_output=True,
            text=True,
        )
        if done.returncode:
            msg = f"{self.name}'s queue could not be filled:\n{done.stdout}{done.stderr}"
            raise RuntimeError(msg)

    @override
    def client(self, run: Run) -> Client | None:
        if not self._waits:
            return None
        program = [self._python, "-m", f"benchmarks.pools.{self._app}"]
        return Client([*program, TRIPS, str(run.count)], urls(run))

    @override
    def worker(self, run: Run) -> Worker:
        return Command([self._python, "-m", *self._command], urls(run))

    @override
    def _watch(self, run: Run) -> Watch:
        return self._make_watch(run)


def urls(run: Run) -> dict[str, str]:
    """The environment of a program of `environment`."""
    return {
        QUEUE: run.servers.redis.url(run.queue_db),
        RESULTS: run.servers.redis.url(run.results_db),
        CONCURRENCY: str(MANY),
        COUNT: str(run.count),
        IGNORE: "yes" if run.work is IGNORED else "",
    }


def tomskit(pool: str) -> list[Contender]:
    return [
        TomskitWorker(f"tomskit {pool}", pool, tracked=True, logs=True),
        TomskitWorker(f"tomskit {pool}, not tracked", pool, tracked=False),
    ]


def prefork() -> Contender:
    # It is 30 times slower, and some seconds are enough to measure a rate.
    limits = {NOOP: 1_000, SHORT: 200}
    app = "benchmarks.pools.celery_app"
    # Not IGNORED, whose tasks are counted in one process.
    return CeleryWorker("celery prefork -c 2", app, "prefork", 2, works=COMMON, limits=limits)


def threads() -> Contender:
    name, app = f"celery threads -c {MANY}", "benchmarks.pools.celery_app"
    return CeleryWorker(name, app, "threads", MANY, limits=_FEWER)


def gevent() -> Contender | str:
    if find_spec("gevent") is None:
        return "gevent is not installed"
    app = "benchmarks.pools.celery_app"
    return CeleryWorker(
        f"celery gevent -c {MANY}", app, "gevent", MANY, blocking=True, limits=_FEWER
    )


def taskiq() -> Contender | str:
    if find_spec("taskiq_redis") is None:
        return "taskiq-redis is not installed; the dependency group is `bench`"

    def watch(run: Run) -> Watch:
        queue, results = (
            run.stack.enter_context(run.servers.redis.client(db))
            for db in (run.queue_db, run.results_db)
        )
        return ListWatch(queue, results, key="taskiq", count=run.count)

    command = [
        *("taskiq", "worker", "benchmarks.pools.taskiq_app:broker", "--log-level", "WARNING"),
        *("--workers", "1", "--max-async-tasks", str(MANY)),
    ]
    return Queue("taskiq", "taskiq_app", command, watch)


def streaq() -> Contender | str:
    if find_spec("streaq") is None:
        return "streaq is not installed; the dependency group is `bench`"

    def watch(run: Run) -> Watch:
        return StreaqWatch(
            run.stack.enter_context(run.servers.redis.client(run.queue_db)), run.count
        )

    command = ["streaq", "run", "benchmarks.pools.streaq_app:worker"]
    # Each waiter has a connection. With 100 concurrent waiters they wait for ever (streaq 7.2).
    return Queue("streaq", "streaq_app", command, watch, waits=False)


def arq(folder: Path) -> Contender | str:
    """Install arq into `folder`, with the redis-py that it accepts."""
    venv.create(folder, with_pip=False, symlinks=True)
    python = str(folder / "bin" / "python")
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    group = f"{PROJECT / 'pyproject.toml'}:bench-arq"
    done = subprocess.run(
        [*pip, "--python", python, "install", "--group", group],
        check=False,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        return f"arq could not be installed into {folder}:\n{done.stderr}"

    def watch(run: Run) -> Watch:
        return ArqWatch(run.stack.enter_context(run.servers.redis.client(run.queue_db)), run.count)

    command = [
        *("arq", "benchmarks.pools.arq_app.WorkerSettings"),
        *("--custom-log-dict", "benchmarks.pools.arq_app.LOGGING"),
    ]
    return Queue("arq", "arq_app", command, watch, python)
