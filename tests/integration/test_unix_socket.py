"""Broker, results and redis_client by a Unix socket."""

import asyncio
import os
import shutil
import subprocess
import sys
from collections.abc import AsyncGenerator, Callable, Generator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any, cast
from urllib.parse import quote

import pytest
from celery import Celery, chord
from celery.result import AsyncResult
from redis.exceptions import AuthenticationError
from redis.exceptions import TimeoutError as RedisTimeoutError

from tests.support.deployment import AWKWARD, SERVICE, TIMEOUT, close_client
from tests.support.patience import patience, wait_until
from tests.support.refusing import refusing
from tests.support.servers import Outage, SocketRedisServer, die_with_parent, outage
from tests.support.servers.redis import call
from tests.support.workers import PROJECT, Pool, Worker
from tomskit.celery import AsyncCelery, CeleryConfig, async_shared_task
from tomskit.redis import RedisConfig, RedisProvider
from tomskit.redis.redis_pool import redis_client

BROKER, RESULTS, TASKS = 3, 4, 5
"""Numbers of databases."""

SECRETS = (AWKWARD, quote(AWKWARD, safe=""))

PATHS: list[tuple[Pool, str]] = [
    *(("prefork", "false"), ("prefork", "true"), ("asyncio", "false"), ("asyncio", "true")),
    *(("threads", "false"), ("threads", "true"), ("solo", "false"), ("solo", "true")),
]
"""Pools, and whether they take the fast path."""

pytestmark = pytest.mark.usefixtures("clean_process")


@async_shared_task(name=f"{SERVICE}.add")
async def add(a: int, b: int) -> int:
    return a + b


@dataclass
class Place:
    """A server, and what its workers and a plain client are configured with."""

    server: SocketRedisServer
    client: Celery

    @property
    def environment(self) -> dict[str, str]:
        return {
            "CELERY_BROKER_URL": self.server.url(BROKER),
            "CELERY_RESULT_BACKEND": self.server.url(RESULTS),
            "CELERY_WORKER_REDIS_URL": self.server.url(TASKS)
            .replace("redis+socket", "unix")
            .replace("virtual_host", "db"),
            "CELERY_BROKER_SOCKET_TIMEOUT": "3",
            "CELERY_RESULT_SOCKET_TIMEOUT": "3",
        }

    @contextmanager
    def worker(self, pool: Pool, fast: str = "", *options: str) -> Generator[Worker]:
        environment = {**self.environment, "CELERY_REDIS_FAST_PATH": fast}
        with Worker(
            SERVICE, pool=pool, concurrency=1, env=environment, extra_args=options
        ) as worker:
            yield worker

    def send(self, task: str, *args: object) -> AsyncResult[object]:
        send = cast("Callable[..., AsyncResult[object]]", self.client.send_task)
        return send(f"{SERVICE}.{task}", args)

    def call(self, task: str, *args: object) -> object:
        return self.send(task, *args).get(timeout=TIMEOUT)

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command of Celery's command line."""
        return subprocess.run(
            die_with_parent([sys.executable, "-m", "celery", "-A", SERVICE, *command]),
            env={**os.environ, **self.environment},
            cwd=PROJECT,
            capture_output=True,
            text=True,
            check=False,
            timeout=patience(60),
        )


@contextmanager
def place_of(server: SocketRedisServer) -> Generator[Place]:
    config = CeleryConfig(
        CELERY_BROKER_URL=server.url(BROKER), CELERY_RESULT_BACKEND=server.url(RESULTS)
    )
    client = Celery("client", set_as_current=False, changes=config.celery_settings())
    try:
        yield Place(server, client)
    finally:
        close_client(client)


@pytest.fixture(scope="module")
def server() -> Iterator[SocketRedisServer]:
    with SocketRedisServer(password=AWKWARD) as started:
        yield started


@pytest.fixture
def place(server: SocketRedisServer) -> Iterator[Place]:
    server.flush()
    with place_of(server) as made:
        yield made


@pytest.fixture
def own_place() -> Iterator[Place]:
    """With a server that the test may stop."""
    with SocketRedisServer(password=AWKWARD) as started, place_of(started) as made:
        yield made


@pytest.fixture
def typed(place: Place) -> Iterator[AsyncCelery]:
    """A client in an event loop."""
    config = CeleryConfig(
        CELERY_BROKER_URL=place.server.url(BROKER), CELERY_RESULT_BACKEND=place.server.url(RESULTS)
    )
    with AsyncCelery("typed", config=config) as app:
        yield app


@pytest.mark.parametrize(("pool", "fast"), PATHS)
def test_worker_and_clients_work(place: Place, typed: AsyncCelery, pool: Pool, fast: str) -> None:
    typed.set_current()

    async def await_it() -> int:
        return await (await add.adelay(3, 4))

    with place.worker(pool, fast) as worker:
        worker.wait_ready()
        assert place.call("cache", "key", "sealed") == "sealed"
        assert add.delay(1, 2).get(timeout=TIMEOUT) == 3
        assert asyncio.run(await_it()) == 7
        sign = place.client.signature
        parts: Any = [sign(f"{SERVICE}.add", (one, one)) for one in (1, 2)]
        assert chord(parts)(sign(f"{SERVICE}.total")).get(timeout=TIMEOUT) == 6
        assert worker.stop() == 0
        log = worker.text

    used = {BROKER: "_kombu.binding.celery", TASKS: "key"}
    for db, key in used.items():
        with place.server.client(db) as client:
            assert client.exists(key)
    with place.server.client(RESULTS) as client:
        assert call(client, "DBSIZE")
    assert [secret for secret in SECRETS if secret in log] == []
    assert "redis+socket://:**@" in log


@pytest.mark.parametrize("pool", ["prefork", "asyncio"])
def test_a_worker_is_controlled_and_shows_no_password(place: Place, pool: Pool) -> None:
    with place.worker(pool, "", "--task-events", "--loglevel=DEBUG") as worker:
        worker.wait_ready()
        wait_until(lambda: bool(place.client.control.ping(timeout=1)), 30, "it hears commands")
        inspect = place.client.control.inspect(timeout=TIMEOUT, limit=1)
        [stats] = cast("dict[str, Any]", inspect.stats()).values()
        texts = [str(stats), str(inspect.conf())]
        status = place.run("status", f"--destination={worker.hostname}")
        texts += [status.stdout + status.stderr, worker.text]

    assert str(place.server.path) in stats["broker"]["hostname"]
    assert worker.hostname in status.stdout
    assert [text for text in texts for secret in SECRETS if secret in text] == []


@pytest.mark.parametrize("command", [("doctor",), ("doctor", "--json"), ("report",)])
def test_commands_show_no_password(place: Place, command: tuple[str, ...]) -> None:
    done = place.run(*command)

    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{place.server.path}" in done.stdout
    assert [secret for secret in SECRETS if secret in done.stdout + done.stderr] == []


def test_doctor_says_what_to_do_where_nobody_listens(own_place: Place) -> None:
    own_place.server.stop()

    done = own_place.run("doctor", f"--timeout={patience(20)}")

    assert done.returncode == 1, done.stdout + done.stderr
    advice = "Start Redis, or set the path at which it listens, its unixsocket: "
    assert done.stdout.count(advice) == 3


@pytest.mark.parametrize(
    ("pool", "fast", "kind"),
    [
        *((*path, "gone") for path in PATHS[:4]),
        *(("asyncio", "true", "hanging"), ("asyncio", "false", "hanging")),
        *(("threads", "true", "hanging"), ("prefork", "false", "hanging")),
    ],
)
def test_a_worker_goes_on_when_the_server_is_back(
    own_place: Place, pool: Pool, fast: str, kind: Outage
) -> None:
    """The path is gone meanwhile, or is there and nobody answers."""
    with own_place.worker(pool, fast) as worker:
        worker.wait_ready()
        assert own_place.call("add", 1, 2) == 3
        with outage(own_place.server, kind):
            worker.wait_for_line("[Cc]onnection to broker lost|[Tt]rying to re-establish")
            assert own_place.server.path.exists() is (kind == "hanging")
        assert own_place.call("cache", "key", "sealed") == "sealed"
        assert worker.stop() == 0


@pytest.mark.parametrize(("pool", "fast"), PATHS[:4])
def test_a_worker_waits_while_the_server_refuses(own_place: Place, pool: Pool, fast: str) -> None:
    """An answer such as READONLY is no error of the worker's."""
    with own_place.worker(pool, fast) as worker:
        worker.wait_ready()
        assert own_place.call("add", 1, 2) == 3
        with refusing("READONLY", own_place.server):
            worker.wait_for_line("UNBLOCKED|READONLY|read only replica")
        assert own_place.call("cache", "key", "sealed") == "sealed"
        assert worker.stop() == 0


@pytest.mark.parametrize("pool", ["prefork", "asyncio"])
def test_a_worker_goes_on_after_a_crash_that_leaves_the_path(own_place: Place, pool: Pool) -> None:
    with own_place.worker(pool) as worker:
        worker.wait_ready()
        assert own_place.call("cache", "key", "sealed") == "sealed"
        own_place.server.kill()
        worker.wait_for_line("Cannot connect to .*Connection refused")
        own_place.server.start()
        assert own_place.call("cache", "key", "again") == "again"
        assert worker.stop() == 0


@pytest.mark.parametrize("pool", ["prefork", "asyncio"])
def test_a_worker_waits_for_a_path_that_is_not_there_yet(own_place: Place, pool: Pool) -> None:
    own_place.server.stop()
    with own_place.worker(pool) as worker:
        for server in ("The broker", "The result backend"):
            worker.wait_for_line(
                f"{server} is waited for: there is no Unix socket {own_place.server.path}. Start "
                "Redis, or set the path to that of unixsocket"
            )
        own_place.server.start()
        worker.wait_ready()
        assert own_place.call("add", 1, 2) == 3


def test_a_path_that_is_not_for_the_user_is_refused_at_once(own_place: Place) -> None:
    own_place.server.path.chmod(0)
    command = [*_powerless(), sys.executable, "-m", "celery", "-A", SERVICE, "worker"]

    done = subprocess.run(
        die_with_parent(command),
        env={**os.environ, **own_place.environment},
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=False,
        timeout=patience(60),
    )

    assert done.returncode == 1
    for server in ("The broker", "The result backend"):
        assert (
            f"{server} cannot be reached: the Unix socket {own_place.server.path} is not for this "
            "user. Set unixsocketperm 770 in Redis"
        ) in done.stderr


def _powerless() -> list[str]:
    """Before a command: root, too, needs permissions."""
    if os.geteuid() != 0:
        return []
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        pytest.skip("root may connect to any socket, and there is no setpriv")
    return [setpriv, "--bounding-set=-dac_override,-dac_read_search", "--"]


def redis_config(place: Place) -> RedisConfig:
    return RedisConfig(
        REDIS_URL=place.environment["CELERY_WORKER_REDIS_URL"], REDIS_SOCKET_CONNECT_TIMEOUT=2
    )


@asynccontextmanager
async def redis_client_of(config: RedisConfig) -> AsyncGenerator[None]:
    provider = RedisProvider(config)
    await provider.startup()
    try:
        yield
    finally:
        await provider.shutdown()


def test_redis_client_gives_up_a_server_that_does_not_answer(own_place: Place) -> None:
    """It accepts connections all the same: the system does."""

    async def main() -> None:
        async with redis_client_of(redis_config(own_place)), asyncio.timeout(patience(60)):
            with (
                outage(own_place.server, "hanging"),
                pytest.raises(RedisTimeoutError, match="accepted the connection"),
            ):
                await redis_client.get("key")
            await redis_client.set("key", "value")

    asyncio.run(main())


def test_redis_client_goes_on_when_the_server_is_back(own_place: Place) -> None:
    async def read() -> object:
        return await redis_client.get("key")

    async def main() -> object:
        async with redis_client_of(redis_config(own_place)):
            await redis_client.set("key", "value")
            with outage(own_place.server, "gone"):
                # It tries again by itself.
                reading = asyncio.create_task(read())
                await asyncio.sleep(0)
            assert await reading is None
            await redis_client.set("key", "again")
            return await redis_client.get("key")

    assert asyncio.run(main()) == "again"


def test_redis_client_says_at_once_that_the_password_is_wrong(place: Place) -> None:
    async def main() -> None:
        config = redis_config(place).model_copy(update={"REDIS_PASSWORD": "another"})
        async with redis_client_of(config):
            with pytest.raises(AuthenticationError):
                await redis_client.get("key")

    asyncio.run(main())


@pytest.mark.parametrize("fast", ["false", "true"])
def test_a_wrong_password_is_refused_at_once(own_place: Place, fast: str) -> None:
    url = own_place.server.url(BROKER).replace(SECRETS[1], "another")
    environment = {
        **own_place.environment,
        "CELERY_BROKER_URL": url,
        "CELERY_REDIS_FAST_PATH": fast,
    }
    with Worker(SERVICE, pool="asyncio", env=environment) as worker:
        assert worker.wait() == 1
        assert "The broker refuses this worker: " in worker.text


@pytest.mark.parametrize("kind", ["gone", "hanging"])
def test_who_sends_and_waits_in_an_outage_gets_the_result(own_place: Place, kind: Outage) -> None:
    config = CeleryConfig.model_validate(
        {key: value for key, value in own_place.environment.items() if "WORKER" not in key}
    )

    async def main() -> list[int]:
        assert await (await add.adelay(1, 2)) == 3
        with outage(own_place.server, kind):
            send = add.aapply_async((3, 4), retry_policy={"max_retries": None})
            sending = asyncio.create_task(send)
            await asyncio.sleep(0)
        sent = await sending
        return [await sent, await asyncio.to_thread(sent.get, timeout=TIMEOUT)]

    with AsyncCelery("typed", config=config) as app, own_place.worker("asyncio") as worker:
        worker.wait_ready()
        app.set_current()
        assert asyncio.run(main()) == [7, 7]
