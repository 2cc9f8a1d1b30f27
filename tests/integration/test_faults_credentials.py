"""A worker whose credentials are renewed while it takes messages, and whose password changes."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import cast

import pytest
from celery.result import AsyncResult
from redis import Redis

from tests.support.credentials import FILE, USER, Renewed
from tests.support.deployment import TIMEOUT, Deployment, redis_environment
from tests.support.faults import SERVICE, SOCKET_TIMEOUT, faults
from tests.support.patience import wait_until
from tests.support.refusing import locked_out
from tests.support.servers import RedisDb, RedisServer
from tests.support.servers.redis import call, info

PROVIDER = f"{Renewed.__module__}.{Renewed.__qualname__}"
RENEWING = "tests.integration.renewing_service"
MANY = 300


def test_a_password_that_is_wrong_for_a_while_stops_and_loses_no_task(
    deployment: Deployment,
) -> None:
    with faults(deployment) as place:
        place.send("watch")
        tasks = ("count_when_free", "late_when_free")
        sent = [place.send(tasks[n % 2], "ended") for n in range(40)]
        place.wait_for_count("begun", len(sent))

        with locked_out(place.server, place.store):
            place.worker.wait_for_line("Cannot connect to redis.*Authentication required")
            place.free()
            place.wait_for_count("ended", len(sent))
            place.worker.wait_for_line("the result backend refuses it: .*ACL SETUSER")

        assert set(place.outcomes(sent)) == set(range(1, len(sent) + 1))
        assert place.send("add", 1, 2).get(timeout=2 * TIMEOUT) == 3
        wait_until(lambda: place.held() == 0, 30, "all messages are acknowledged")
        assert place.count("ended") == len(sent)
        assert "Traceback" not in place.worker.text
        place.assert_no_gap()


@pytest.mark.parametrize("fast", [True, False])
def test_a_password_that_changes_under_load_loses_nothing(
    deployment: Deployment, fresh_server: RedisServer, tmp_path: Path, fast: bool
) -> None:
    with fresh_server.client() as broker:
        file = tmp_path / "password"
        file.write_text("first", encoding="utf-8")
        call(broker, "ACL", "SETUSER", USER, "on", ">first", "~*", "&*", "+@all")
        deployment.client.conf.update(broker_url=fresh_server.url(0))
        mine = RedisDb(fresh_server.host, fresh_server.port, 0, 1)
        worker = deployment.worker(
            "asyncio",
            20,
            module=RENEWING,
            environment={
                **redis_environment("CELERY_BROKER", mine, 0),
                "CELERY_BROKER_URL": f"{fresh_server.url(0)}?credential_provider={PROVIDER}",
                "CELERY_BROKER_SOCKET_TIMEOUT": str(SOCKET_TIMEOUT),
                "CELERY_REDIS_FAST_PATH": str(fast).lower(),
                FILE: str(file),
            },
        )
        sent: list[AsyncResult[object]] = []
        for before, after in (("first", "second"), ("second", "third"), ("third", "fourth")):
            sent += [deployment.send(f"{SERVICE}.late", "ended", 0.01) for _ in range(MANY)]
            call(broker, "ACL", "SETUSER", USER, f">{after}")
            file.write_text(after, encoding="utf-8")
            enough = logins(broker) + 5
            wait_until(partial(has_logged_in, broker, enough), 30, "it has logged in again")
            call(broker, "ACL", "SETUSER", USER, f"<{before}")
            if not fast:
                # BRPOP takes a message out of Redis before it has arrived: one whose connection is killed
                # then is lost with kombu's transport, whatever the password is.
                for result in sent:
                    result.get(timeout=2 * TIMEOUT)
            # Its next connections know the new one.
            call(broker, "CLIENT", "KILL", "USER", USER)

        counts = [result.get(timeout=2 * TIMEOUT) for result in sent]
        assert set(counts) == set(range(1, 3 * MANY + 1)), "each has run once"
        wait_until(lambda: held(broker) == 0, 60, "all messages are acknowledged")
        assert worker.running
        assert "WRONGPASS" not in worker.text


def has_logged_in(client: Redis, times: int) -> bool:
    return logins(client) >= times


def logins(client: Redis) -> int:
    """How often anybody has logged in after he was connected."""
    stats = cast("Mapping[str, int]", info(client, "commandstats").get("cmdstat_auth", {}))
    return stats.get("calls", 0)


def held(client: Redis) -> int:
    """How many messages wait in the queue, or are not acknowledged."""
    waiting = call(client, "LLEN", "celery"), call(client, "HLEN", "unacked")
    return sum(int(str(one)) for one in waiting)
