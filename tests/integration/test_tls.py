"""Broker, results and redis_client over TLS: certificates are checked, in both directions."""

import asyncio
from collections.abc import Iterator
from typing import cast

import pytest
from celery.backends.base import KeyValueStoreBackend
from kombu.exceptions import OperationalError
from redis.exceptions import ConnectionError as RedisConnectionError

from tests.support.deployment import SERVICE, Deployment
from tests.support.proxy import Proxy
from tests.support.servers import Certificates, TLSRedisServer
from tests.support.workers import Pool, Worker
from tomskit.celery import AsyncCelery, AsyncRuntime, CeleryConfig, async_shared_task
from tomskit.redis.redis_pool import redis_client

ROLES = ("CELERY_BROKER", "CELERY_RESULT_BACKEND", "CELERY_WORKER")
# A deployment has numbers of databases of its own.
MANY_DATABASES = [("databases", "2000")]
REFUSED = "CERTIFICATE_VERIFY_FAILED"
UNCERTIFIED = "CERTIFICATE_REQUIRED"
LOST = "Connection reset by peer|Broken pipe|EOF occurred in violation of protocol"

pytestmark = pytest.mark.usefixtures("clean_process")


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def server(certificates: Certificates) -> Iterator[TLSRedisServer]:
    with TLSRedisServer(certificates, password="p w+x%", config=MANY_DATABASES) as started:
        yield started


@pytest.fixture(scope="module")
def asking_server(certificates: Certificates) -> Iterator[TLSRedisServer]:
    """Takes only clients that show a certificate."""
    with TLSRedisServer(certificates, ask_clients=True, config=MANY_DATABASES) as started:
        yield started


@pytest.fixture(scope="module")
def stranger(certificates: Certificates) -> Iterator[TLSRedisServer]:
    """Shows the certificate of another machine."""
    with TLSRedisServer(certificates, name="stranger") as started:
        yield started


def environment(server: TLSRedisServer, **fields: str) -> dict[str, str]:
    """The settings of one server for the broker, for results and for redis_client.

    `fields` are the ends of settings' names.
    """
    everywhere = {"HOST": server.host, "PORT": str(server.port), "USE_SSL": "true", **fields}
    if server.password is not None:
        everywhere["PASSWORD"] = server.password
    return {f"{role}_REDIS_{key}": value for role in ROLES for key, value in everywhere.items()}


def reach_broker(app: AsyncCelery) -> None:
    # Not from kombu's pool of connections, which does not tell one's TLS settings from another's.
    with app.connection_for_write() as connection:
        connection.ensure_connection(max_retries=1, interval_start=0)


def reach_results(app: AsyncCelery) -> None:
    cast("KeyValueStoreBackend", app.backend).get("key")


def reach_by_redis_client(app: AsyncCelery) -> None:
    async def ask() -> None:
        await redis_client.get("key")

    AsyncRuntime.init(app)
    AsyncRuntime.run(ask())


@async_shared_task
async def sent_in_vain() -> None: ...


def reach_broker_in_a_loop(app: AsyncCelery) -> None:
    app.set_current()
    asyncio.run(sent_in_vain.aapply_async(retry=False))


def reach_results_in_a_loop(app: AsyncCelery) -> None:
    asyncio.run(app.AsyncResult("never sent").astate())


REACH = {
    "broker": reach_broker,
    "broker-in-a-loop": reach_broker_in_a_loop,
    "results": reach_results,
    "results-in-a-loop": reach_results_in_a_loop,
    "redis_client": reach_by_redis_client,
}
IN_A_LOOP = ("broker-in-a-loop", "results-in-a-loop", "redis_client")
each_connection = pytest.mark.parametrize("connection", REACH)


def connect(connection: str, server: TLSRedisServer, **fields: str) -> None:
    config = CeleryConfig.model_validate(environment(server, **fields))
    with AsyncCelery("client", config=config, set_as_current=False) as app:
        REACH[connection](app)


def run_a_task(deployment: Deployment, server: TLSRedisServer, pool: Pool, **fields: str) -> None:
    """Send a task, have it use redis_client, and get its result."""
    deployment.environment.update(environment(server, **fields))
    deployment.follow_environment()
    deployment.worker(pool)

    assert deployment.call("cache", "key", "sealed") == "sealed"
    with server.client(int(deployment.environment["CELERY_WORKER_REDIS_DB"])) as client:
        assert client.get("key") == "sealed"


def client_certificate(certificates: Certificates) -> dict[str, str]:
    return {
        "SSL_CA_CERTS": certificates.certificate("ca"),
        "SSL_CERTFILE": certificates.certificate("client"),
        "SSL_KEYFILE": certificates.key("client"),
    }


@pytest.mark.parametrize("pool", ["threads", "asyncio"])
def test_worker_and_client_work_over_tls(
    deployment: Deployment, server: TLSRedisServer, certificates: Certificates, pool: Pool
) -> None:
    run_a_task(deployment, server, pool, SSL_CA_CERTS=certificates.certificate("ca"))


@pytest.mark.parametrize("pool", ["threads", "asyncio"])
def test_worker_and_client_show_their_certificate(
    deployment: Deployment, asking_server: TLSRedisServer, certificates: Certificates, pool: Pool
) -> None:
    run_a_task(deployment, asking_server, pool, **client_certificate(certificates))


@each_connection
def test_server_refuses_who_shows_no_certificate(
    connection: str, asking_server: TLSRedisServer, certificates: Certificates
) -> None:
    # In TLS 1.3 the refusal comes after the handshake, as an answer to the first command. What blocks are
    # redis-py's own connections, where the operating system may have dropped that.
    words = UNCERTIFIED if connection in IN_A_LOOP else f"{UNCERTIFIED}|{LOST}"
    with pytest.raises((OperationalError, RedisConnectionError), match=words):
        connect(connection, asking_server, SSL_CA_CERTS=certificates.certificate("ca"))

    connect(connection, asking_server, **client_certificate(certificates))


@pytest.mark.parametrize(
    ("without", "words", "connections"),
    # Without a certificate another one may be needed to hear why.
    [("certificate", UNCERTIFIED, 2), ("password", "invalid username", 1)],
)
def test_redis_client_tries_only_once_where_it_is_refused(
    without: str,
    words: str,
    connections: int,
    asking_server: TLSRedisServer,
    certificates: Certificates,
) -> None:
    variables = environment(asking_server, **client_certificate(certificates))
    if without == "certificate":
        variables = environment(asking_server, SSL_CA_CERTS=certificates.certificate("ca"))
    variables["CELERY_WORKER_REDIS_PASSWORD"] = "wrong"
    variables["CELERY_WORKER_REDIS_USERNAME"] = "nobody"
    with Proxy(asking_server.host, asking_server.port) as proxy:
        variables["CELERY_WORKER_REDIS_PORT"] = str(proxy.port)
        config = CeleryConfig.model_validate(variables)
        with (
            AsyncCelery("client", config=config, set_as_current=False) as app,
            pytest.raises(RedisConnectionError, match=words),
        ):
            reach_by_redis_client(app)

        assert proxy.accepted <= connections


@each_connection
def test_certificate_of_an_unknown_authority_is_refused(
    connection: str, server: TLSRedisServer
) -> None:
    with pytest.raises((OperationalError, RedisConnectionError), match=REFUSED):
        connect(connection, server)


@each_connection
def test_certificate_of_another_machine_is_refused(
    connection: str, stranger: TLSRedisServer, certificates: Certificates
) -> None:
    ca = certificates.certificate("ca")

    with pytest.raises((OperationalError, RedisConnectionError), match=REFUSED):
        connect(connection, stranger, SSL_CA_CERTS=ca)

    connect(connection, stranger, SSL_CA_CERTS=ca, SSL_CHECK_HOSTNAME="false")


@each_connection
def test_certificate_is_taken_unchecked_where_that_is_configured(
    connection: str, stranger: TLSRedisServer
) -> None:
    connect(connection, stranger, SSL_CERT_REQS="none")


def test_worker_that_does_not_know_the_authority_says_so(
    deployment: Deployment, server: TLSRedisServer
) -> None:
    with Worker(SERVICE, pool="threads", env=environment(server)) as worker:
        worker.wait_for_line(rf"Cannot connect to rediss://.*{REFUSED}")
        assert " ready." not in worker.text
        worker.kill()


@pytest.mark.parametrize("pool", ["threads", "asyncio"])
@pytest.mark.parametrize("fast_path", ["true", "false"])
def test_worker_without_a_certificate_says_so(
    deployment: Deployment,
    asking_server: TLSRedisServer,
    certificates: Certificates,
    pool: Pool,
    fast_path: str,
) -> None:
    variables = environment(asking_server, SSL_CA_CERTS=certificates.certificate("ca"))
    variables["CELERY_REDIS_FAST_PATH"] = fast_path
    with Worker(SERVICE, pool=pool, env=variables) as worker:
        worker.wait_for_line(rf"Cannot connect to rediss://.*({UNCERTIFIED}|{LOST})")
        assert " ready." not in worker.text
        worker.kill()
