"""Servers that refuse a worker: its password, its database, or what it may do."""

import signal
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from typing import Any, cast

import pytest
from celery import Celery

from tests.support.deployment import TIMEOUT, Deployment, eventually, redis_environment
from tests.support.faults import SERVICE, faults
from tests.support.patience import wait_until
from tests.support.refusing import locked_out
from tests.support.servers import RedisClusterNode, RedisDb, RedisServer
from tests.support.workers import Pool, Worker

POOLS: tuple[Pool, ...] = ("asyncio", "prefork", "threads")


@pytest.fixture(scope="module")
def guarded() -> Iterator[RedisServer]:
    with RedisServer(password="right") as server:
        yield server


def environment(role: str, server: RedisServer, db: int, **more: str) -> dict[str, str]:
    known = redis_environment(role, RedisDb(server.host, server.port, 0, 1), db)
    return {**known, **{f"{role}_REDIS_{name}": value for name, value in more.items()}}


def ended(worker: Worker) -> str:
    """The log of a worker that ends by itself."""
    assert worker.wait(30) == 1
    return worker.text


@pytest.mark.parametrize("pool", POOLS)
@pytest.mark.parametrize(
    ("role", "server"), [("CELERY_BROKER", "broker"), ("CELERY_RESULT_BACKEND", "result backend")]
)
def test_a_wrong_password_ends_the_worker_with_one_line(
    deployment: Deployment, guarded: RedisServer, pool: Pool, role: str, server: str
) -> None:
    wrong = environment(role, guarded, 0, PASSWORD="wrong")

    log = ended(deployment.begin(pool, 2, module=SERVICE, **wrong))

    assert f"Error: The {server} refuses this worker: " in log
    assert f"{role}_REDIS_PASSWORD" in log
    assert "Traceback" not in log
    assert "wrong" not in log.replace("WRONGPASS", "")


@pytest.mark.parametrize(
    ("role", "server"), [("CELERY_BROKER", "broker"), ("CELERY_RESULT_BACKEND", "result backend")]
)
def test_a_missing_file_of_certificates_ends_the_worker_with_one_line(
    deployment: Deployment, guarded: RedisServer, role: str, server: str
) -> None:
    tls = {"USE_SSL": "true", "SSL_CA_CERTS": "/no/such/file.pem"}
    wrong = environment(role, guarded, 0, PASSWORD="right", **tls)

    log = ended(deployment.begin("asyncio", 2, module=SERVICE, **wrong))

    assert f"Error: The {server} cannot be reached by TLS: a file is not there." in log
    assert f"{role}_REDIS_SSL_CA_CERTS" in log
    assert "Traceback" not in log


def test_a_serializer_that_is_not_registered_ends_the_worker_with_one_line(
    deployment: Deployment,
) -> None:
    log = ended(
        deployment.begin("asyncio", 2, module=SERVICE, CELERY_RESULT_SERIALIZER="no-such-thing")
    )

    assert "Error: CELERY_RESULT_SERIALIZER is 'no-such-thing'" in log
    assert "Traceback" not in log


def test_a_database_that_does_not_exist_ends_the_worker(
    deployment: Deployment, guarded: RedisServer
) -> None:
    wrong = environment("CELERY_BROKER", guarded, 99, PASSWORD="right")

    log = ended(deployment.begin("asyncio", 2, module=SERVICE, **wrong))

    assert "The broker refuses this worker: " in log
    assert "DB index is out of range" in log


@contextmanager
def limited(server: RedisServer, *rules: str) -> Generator[dict[str, str]]:
    """A user of the broker and of the results with these permissions."""
    with server.client() as client:
        given = ("reset", "on", ">secret", "~*", "&*", "+@all", *rules)
        cast("Any", client).execute_command("ACL", "SETUSER", "limited", *given)
    user = {"USERNAME": "limited", "PASSWORD": "secret"}
    yield {
        **environment("CELERY_BROKER", server, 0, **user),
        **environment("CELERY_RESULT_BACKEND", server, 1, **user),
    }
    server.flush()


@pytest.mark.parametrize("pool", POOLS)
@pytest.mark.parametrize("rule", ["-@scripting", "-client"])
@pytest.mark.parametrize("fast", ["true", "false"])
def test_without_scripts_or_client_it_works_on_the_slow_path(
    deployment: Deployment, guarded: RedisServer, pool: Pool, rule: str, fast: str
) -> None:
    if fast == "false" and rule == "-client":
        pytest.skip("the slow path does not need it")
    with limited(guarded, rule) as user:
        worker = deployment.worker(
            pool, 2, module=SERVICE, environment={**user, "CELERY_REDIS_FAST_PATH": fast}
        )
        broker, results = (f"redis://:right@{guarded.host}:{guarded.port}/{db}" for db in (0, 1))
        deployment.client.conf.update(broker_url=broker, result_backend=results)

        sent = [deployment.send(f"{SERVICE}.add", n, 1) for n in range(20)]

        assert [one.get(timeout=TIMEOUT) for one in sent] == [n + 1 for n in range(20)]
        with guarded.client(0) as client:
            eventually(lambda: client.hlen("unacked") == 0)
        assert worker.text.count("Falling back to BRPOP") == (fast == "true")
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(30) == 0
        assert "Traceback" not in worker.text


@pytest.mark.parametrize("pool", POOLS)
def test_without_channels_one_line_says_what_is_missing(
    deployment: Deployment, guarded: RedisServer, pool: Pool
) -> None:
    with limited(guarded, "resetchannels") as user:
        log = ended(deployment.begin(pool, 2, module=SERVICE, **user))

    assert log.count("The broker refuses what a worker needs: ") == 1
    assert "channel" in log
    assert "CELERY_WORKER_ENABLE_REMOTE_CONTROL=false" in log
    assert "Traceback" not in log


# -- while it runs


def test_tasks_run_on_while_the_worker_ends_because_it_may_write_no_more(
    deployment: Deployment,
) -> None:
    with faults(deployment) as place:
        place.send("watch")
        late = [place.send("late_when_free", "ended") for _ in range(10)]
        place.wait_for_count("begun", len(late))

        with locked_out(place.server, rules=["-@write"]):
            place.worker.wait_for_line("CRITICAL.*The broker refuses what a worker needs: ", 60)
            place.free()
            assert set(place.outcomes(late)) == set(range(1, len(late) + 1))
            place.assert_no_gap()

            assert place.worker.wait(60) == 1
        assert place.worker.text.count("The broker refuses what a worker needs: ") == 1


def test_scripts_that_are_forbidden_meanwhile_stop_and_lose_no_task(deployment: Deployment) -> None:
    with faults(deployment) as place:
        place.send("watch")
        running = [place.send("late_when_free", "ended") for _ in range(10)]
        place.wait_for_count("begun", len(running))

        with locked_out(place.server, place.store, rules=["-@scripting"]):
            sent = [place.send("count", "sent", 0.0) for _ in range(40)]
            assert set(place.outcomes(sent)) == set(range(1, len(sent) + 1))
            place.free()
            assert set(place.outcomes(running)) == set(range(1, len(running) + 1))
            wait_until(lambda: place.held() == 0, 30, "all messages are acknowledged")

        assert (place.count("sent"), place.count("ended")) == (len(sent), len(running))
        place.assert_no_gap()


@contextmanager
def operator(server: RedisServer) -> Generator[Celery]:
    """A client of another user, who may do everything."""
    with server.client() as client:
        rules = ("reset", "on", ">secret", "~*", "&*", "+@all")
        cast("Any", client).execute_command("ACL", "SETUSER", "operator", *rules)
    url = server.url(0).replace("//", "//operator:secret@")
    app = Celery("operator", broker=url, set_as_current=False)
    yield app
    app.close()


@pytest.mark.parametrize("pool", POOLS)
@pytest.mark.parametrize("fast", ["true", "false"])
def test_scripts_that_are_forbidden_meanwhile_are_said_once_to_be_missing(
    deployment: Deployment, pool: Pool, fast: str
) -> None:
    with faults(deployment, pool, 2, CELERY_REDIS_FAST_PATH=fast) as place:
        with locked_out(place.server, rules=["-@scripting"]), operator(place.server) as client:
            place.worker.wait_for_line(
                "The bindings of the queues .* are kept for good.*no permissions"
            )
            assert client.control.ping(timeout=5, limit=1)
            with place.server.client(0) as redis:
                assert redis.exists("_kombu.binding_permanent.celery.pidbox")
            sent = [place.send("count", "sent", 0.0) for _ in range(4)]
            assert set(place.outcomes(sent)) == set(range(1, len(sent) + 1))
        assert place.worker.text.count(" are kept for good") == 1
        assert "Traceback" not in place.worker.text


@pytest.mark.parametrize("pool", POOLS)
def test_answers_of_remote_control_that_are_forbidden_are_named_once(
    deployment: Deployment, pool: Pool
) -> None:
    with faults(deployment, pool, 2) as place:
        with locked_out(place.server, rules=["-smembers"]), operator(place.server) as client:
            client.control.broadcast("ping", reply=True, timeout=1, limit=1)
            place.worker.wait_for_line("Cannot answer commands of remote control: .*smembers")
            client.control.broadcast("ping", reply=True, timeout=1, limit=1)
        assert place.client.control.ping(timeout=5, limit=1), "it listens on"
        assert place.worker.text.count("Cannot answer commands of remote control") == 1
        assert "Traceback" not in place.worker.text


@pytest.mark.parametrize("pool", POOLS)
def test_a_broker_in_a_cluster_ends_the_worker_with_one_line(
    deployment: Deployment, pool: Pool
) -> None:
    with RedisClusterNode() as node:
        cluster = environment("CELERY_BROKER", node, 0)

        log = ended(deployment.begin(pool, 2, module=SERVICE, **cluster))

    assert (
        log.count("The broker belongs to a Redis Cluster, which kombu's transport cannot use") == 1
    )
    assert "Traceback" not in log
