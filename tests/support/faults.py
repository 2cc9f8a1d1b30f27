"""A worker behind proxies: one for its broker, one for its results; its tasks have a Redis of their own."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Final, cast

from celery import Celery
from celery.result import AsyncResult

from tests.support.deployment import Deployment, close_client, redis_environment
from tests.support.patience import wait_until
from tests.support.proxy import Proxy
from tests.support.servers import RedisDb, RedisServer
from tests.support.servers.redis import ConfigLine
from tests.support.workers import Pool, Worker

SERVICE: Final = "tests.integration.faults_service"

SOCKET_TIMEOUT: Final = 3.0
"""Seconds. Short, so that tests do not take long; a busy machine answers within it."""

TIMEOUTS: Final = {
    "CELERY_BROKER_SOCKET_TIMEOUT": str(SOCKET_TIMEOUT),
    "CELERY_BROKER_SOCKET_CONNECT_TIMEOUT": str(SOCKET_TIMEOUT),
    "CELERY_RESULT_SOCKET_TIMEOUT": str(SOCKET_TIMEOUT),
    "CELERY_RESULT_SOCKET_CONNECT_TIMEOUT": str(SOCKET_TIMEOUT),
}

NO_GAP: Final = SOCKET_TIMEOUT / 3
"""Seconds that a coroutine may be late beyond what a thread is. Not a measurement of speed: what waits for
a server in the loop's thread takes as long as the socket's timeout. `benchmarks.faults` shows the figures."""


@dataclass
class Faults:
    """A worker and what it talks to.

    Attributes:
        server: The Redis of the broker.
        store: The Redis of the results.
        broker: Between the worker and its broker.
        results: Between the worker and its results.
        client: A plain Celery client beside them, which does not use the proxies.
    """

    server: RedisServer
    store: RedisServer
    broker: Proxy
    results: Proxy
    client: Celery
    deployment: Deployment
    worker: Worker = field(repr=False)

    def send(self, task: str, *args: object, **options: object) -> AsyncResult[object]:
        send = cast("Callable[..., AsyncResult[object]]", self.client.send_task)
        return send(f"{SERVICE}.{task}", args, **options)

    def key(self, name: str) -> str | None:
        return self.deployment.key(name)

    def count(self, name: str) -> int:
        return int(self.key(name) or 0)

    def wait_for_count(self, name: str, count: int, seconds: float = 60.0) -> None:
        """Wait until tasks have counted so far in their own Redis."""
        wait_until(lambda: self.count(name) >= count, seconds, f"{name} is {count}")

    def held(self) -> int:
        """How many messages wait in the queue, or are not acknowledged."""
        with self.server.client(0) as client:
            waiting: int = client.llen("celery") + client.hlen("unacked")
            return waiting

    def waiting(self) -> int:
        """How many messages wait in the queue."""
        with self.server.client(0) as client:
            return int(str(client.llen("celery")))

    def free(self) -> None:
        """Let tasks end that wait for it."""
        with self.deployment.redis.client(self.deployment.redis_db.result_db) as client:
            client.set("free", "yes")

    def outcomes(self, sent: Sequence[AsyncResult[object]]) -> list[object]:
        """The results of tasks, looked at one by one."""
        for result in sent:
            wait_until(result.ready, 60, "the task has ended")
        return [result.get(timeout=10, propagate=False) for result in sent]

    def assert_no_gap(self) -> None:
        """Tell the task that watches the loop to end, and see that there was no gap."""
        with self.deployment.redis.client(self.deployment.redis_db.result_db) as client:
            client.set("watched", "yes")
            wait_until(lambda: client.get("gap"), 30, "the watching task has ended")
            gap = float(str(client.get("gap")))
        assert gap < NO_GAP, f"the loop has stood still for {gap:.2f} s"


@dataclass
class Servers:
    """The servers of a broker and of results, each behind a proxy, and a client that uses no proxy."""

    server: RedisServer
    store: RedisServer
    broker: Proxy
    results: Proxy
    client: Celery

    def environment(self) -> dict[str, str]:
        """The settings of a worker that uses them through the proxies."""
        broker, results = self.broker, self.results
        return {
            **redis_environment("CELERY_BROKER", RedisDb(broker.host, broker.port, 0, 1), 0),
            **redis_environment(
                "CELERY_RESULT_BACKEND", RedisDb(results.host, results.port, 0, 1), 1
            ),
        }


@contextmanager
def behind_proxies(more: Sequence[ConfigLine] = ()) -> Generator[Servers]:
    """Start two servers, with more lines in their configuration, and a proxy for each."""
    with ExitStack() as stack:
        # What it has acknowledged is on the disk.
        config = [("appendonly", "yes"), ("appendfsync", "always"), *more]
        server = stack.enter_context(RedisServer(config=config))
        store = stack.enter_context(RedisServer(config=config))
        broker = stack.enter_context(Proxy(server.host, server.port))
        results = stack.enter_context(Proxy(store.host, store.port))
        client = Celery("client", broker=server.url(0), backend=store.url(1), set_as_current=False)
        stack.callback(close_client, client)
        yield Servers(server, store, broker, results, client)


@contextmanager
def faults(
    deployment: Deployment,
    pool: Pool = "asyncio",
    slots: int = 100,
    *,
    config: Sequence[ConfigLine] = (),
    neighbours: bool = False,
    **environment: str,
) -> Generator[Faults]:
    """Start two servers, with more lines in their configuration, a proxy for each, and a worker."""
    with behind_proxies(config) as servers:
        worker = deployment.worker(
            pool,
            slots,
            module=SERVICE,
            neighbours=neighbours,
            environment={**servers.environment(), **TIMEOUTS, **environment},
        )
        try:
            yield Faults(
                servers.server,
                servers.store,
                servers.broker,
                servers.results,
                servers.client,
                deployment,
                worker,
            )
        finally:
            # Before the servers: it would wait for them.
            worker.close()
