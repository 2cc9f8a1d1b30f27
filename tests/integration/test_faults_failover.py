"""A failover without Sentinel: an address answers READONLY, and leads to another server afterwards."""

from collections.abc import Iterator
from typing import cast

import pytest
from celery import Celery
from celery.result import AsyncResult
from redis import Redis

from tests.support.deployment import Deployment, close_client
from tests.support.faults import SERVICE, Faults, faults
from tests.support.patience import slowed, wait_until
from tests.support.servers import RedisServer
from tests.support.servers.redis import call, info

SLOTS = 20


@pytest.fixture
def place(deployment: Deployment) -> Iterator[Faults]:
    with faults(deployment, slots=SLOTS) as made:
        yield made


@pytest.fixture
def others() -> Iterator[tuple[RedisServer, RedisServer]]:
    """What the broker and the results fail over to."""
    with RedisServer() as broker, RedisServer() as results:
        yield broker, results


def take_over(other: RedisServer, server: RedisServer) -> None:
    """Let another server take the place of one, which is a replica from now on."""
    other.replicate(server)
    with server.client() as old, other.client() as new:
        # Nobody may write to the old one what the other one does not get any more.
        call(old, "CONFIG", "SET", "min-replicas-to-write", "2")
        written = info(old, "replication")["master_repl_offset"]
        wait_until(lambda: _received(new) >= int(str(written)), 30, "the other has all")
        call(new, "REPLICAOF", "NO", "ONE")
        call(old, "REPLICAOF", other.host, other.port)


def _received(replica: Redis) -> int:
    """How much of what its master has written it has."""
    return int(str(info(replica, "replication")["slave_repl_offset"]))


def test_no_task_is_lost_and_none_runs_twice(
    place: Faults, others: tuple[RedisServer, RedisServer]
) -> None:
    broker, results = others
    place.send("watch")
    sent = [place.send("late", "ended", slowed(2.0) * (i % 10) / 8) for i in range(2 * SLOTS)]
    wait_until(lambda: place.count("ended") > 0, 30, "the tasks run")

    take_over(broker, place.server)
    take_over(results, place.store)
    place.worker.wait_for_line("Cannot consume messages; retrying while the broker is away", 60)
    place.broker.redirect(broker.host, broker.port)
    place.results.redirect(results.host, results.port)

    client = Celery("other", broker=broker.url(0), backend=results.url(1), set_as_current=False)
    try:
        known = [cast("AsyncResult[object]", client.AsyncResult(one.id)) for one in sent]
        assert set(place.outcomes(known)) == set(range(1, 2 * SLOTS + 1))
        assert place.count("ended") == 2 * SLOTS
        with broker.client(0) as looking:
            wait_until(lambda: looking.hlen("unacked") == 0, 30, "all are acknowledged")
    finally:
        close_client(client)
    place.assert_no_gap()


@pytest.mark.parametrize("replaced", ["broker", "results", "both"])
def test_nothing_is_left_open_on_an_empty_server_that_takes_the_place(
    place: Faults, others: tuple[RedisServer, RedisServer], replaced: str
) -> None:
    place.send("watch")
    running = [place.send("late_when_free", "ended") for _ in range(SLOTS // 2)]
    place.wait_for_count("begun", len(running))
    broker, results = place.server, place.store
    if replaced != "results":
        _refuse_to_write(broker)
        place.worker.wait_for_line("Cannot consume messages; retrying while the broker is away", 60)
        broker, _ = others
        place.broker.redirect(broker.host, broker.port)
    if replaced != "broker":
        _refuse_to_write(results)
        _, results = others
        place.results.redirect(results.host, results.port)

    client = Celery("other", broker=broker.url(0), backend=results.url(1), set_as_current=False)
    try:
        name = f"{SERVICE}.count"
        sent = [client.send_task(name, ("new", 0.0)) for _ in range(SLOTS)]
        assert set(place.outcomes(sent)) == set(range(1, SLOTS + 1))
        place.free()
        known = [cast("AsyncResult[object]", client.AsyncResult(one.id)) for one in running]
        assert set(place.outcomes(known)) == set(range(1, len(running) + 1))
        with broker.client(0) as looking:
            wait_until(
                lambda: not looking.exists("celery", "unacked", "unacked_index"),
                30,
                "all are acknowledged",
            )
    finally:
        close_client(client)
    assert (place.count("begun"), place.count("ended")) == (len(running), len(running))
    place.assert_no_gap()


def _refuse_to_write(server: RedisServer) -> None:
    with server.client() as client:
        call(client, "REPLICAOF", "127.0.0.1", "1")
