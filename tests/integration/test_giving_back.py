"""What a killed worker has held goes back to its queue, whatever other workers do meanwhile."""

import json
import logging
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from kombu import Exchange, Queue
from redis import Redis

from tests.support.hostile import call
from tests.support.patience import patience
from tomskit.celery.fast_redis.parts import Parts, connection_class

QUEUE = Queue("work", Exchange("exchange"), routing_key="key")
LONG_AGO = 1000.0


@pytest.fixture
def client(url: str) -> Iterator[Any]:
    untyped: Any = Redis
    with untyped.from_url(url, decode_responses=True) as client:
        yield client


@pytest.fixture
def channel(url: str, parts: Parts) -> Iterator[Any]:
    with connection_class(parts)(url) as connection:
        channel: Any = connection.default_channel
        QUEUE(channel).declare()
        yield channel


def hold(client: Any, *tags: str, exchange: str = "exchange", body: str | None = None) -> None:
    """Record messages as a worker that was killed has left them, the first one as the oldest."""
    for place, tag in enumerate(tags):
        message = call()
        if body is not None:
            message["body"] = body
        message["properties"].update(
            delivery_tag=tag, delivery_info={"exchange": exchange, "routing_key": "key"}
        )
        client.hset("unacked", tag, json.dumps([message, exchange, "key"]))
        client.zadd("unacked_index", {tag: LONG_AGO + place})


def waiting(client: Any) -> list[str]:
    """The tags of the messages in the queue, in the order in which they are taken."""
    texts = client.lrange("work", 0, -1)
    return [json.loads(text)["properties"]["delivery_tag"] for text in reversed(texts)]


def held(client: Any) -> tuple[list[str], list[str]]:
    """The tags that are recorded, and those with a time."""
    tags = client.hkeys("unacked")
    times = client.zrange("unacked_index", 0, -1)
    return sorted(tags), sorted(times)


def give_back(channel: Any) -> None:
    channel.qos.restore_visible(num=None, interval=1)


def before_each(channel: Any, do: Callable[[], object]) -> list[object]:
    """Do something while a message goes back, when it is looked up to which queues.

    Returns:
        What was looked up so far.
    """
    looked_up: list[object] = []
    look_up = channel._lookup

    def look(*where: object) -> object:
        looked_up.append(where)
        do()
        return look_up(*where)

    channel._lookup = look
    return looked_up


def test_they_go_back_in_the_order_in_which_they_were_taken(channel: Any, client: Any) -> None:
    tags = [f"tag {number:02}" for number in range(50)]
    hold(client, *tags)

    give_back(channel)

    assert waiting(client) == tags
    assert held(client) == ([], [])


def test_workers_that_take_and_acknowledge_others_meanwhile_do_not_keep_them(
    channel: Any, client: Any
) -> None:
    hold(client, "a", "b", "c")

    def record_another() -> None:
        # For ever, an attempt that begins anew each time would not come to an end.
        if len(looked_up) <= 20:
            client.hset("unacked", f"of others {len(looked_up)}", "[]")

    looked_up = before_each(channel, record_another)
    give_back(channel)

    assert waiting(client) == ["a", "b", "c"]
    assert len(looked_up) == 3


def test_large_ones_are_not_in_memory_all_at_once(channel: Any, client: Any) -> None:
    tags = [f"tag {number:02}" for number in range(6)]
    # Only with a backslash in it the body of a long one is read.
    hold(client, *tags, body="x\\" * 1_500_000)
    client.config_resetstat()

    give_back(channel)

    assert waiting(client) == tags
    calls = client.info("commandstats")
    assert calls["cmdstat_hmget"]["calls"] == 6
    assert held(client) == ([], [])


@pytest.mark.parametrize("exchange", ["exchange", 'e\u00fc"\\x'])
def test_the_body_of_a_long_one_stays_in_redis(channel: Any, client: Any, exchange: str) -> None:
    Queue("work", Exchange(exchange), routing_key="key")(channel).declare()
    body = "x" * 2_000_000
    hold(client, "a", exchange=exchange, body=body)
    expected = json.loads(client.hget("unacked", "a"))[0]
    client.config_resetstat()

    give_back(channel)

    traffic = client.info("stats")
    assert traffic["total_net_output_bytes"] < len(body)
    assert traffic["total_net_input_bytes"] < len(body)
    [text] = client.lrange("work", 0, -1)
    expected["properties"]["delivery_info"]["redelivered"] = True
    expected["headers"]["redelivered"] = True
    assert json.loads(text) == expected
    assert held(client) == ([], [])


def test_one_that_another_worker_has_got_meanwhile_stays_with_it(channel: Any, client: Any) -> None:
    hold(client, "a", "b")
    before_each(channel, lambda: client.zadd("unacked_index", {"a": time.time()}))

    give_back(channel)

    assert waiting(client) == ["b"]
    assert held(client) == (["a"], ["a"])


def test_one_that_has_gone_back_meanwhile_does_not_go_back_twice(channel: Any, client: Any) -> None:
    hold(client, "a", "b")
    before_each(channel, lambda: client.hdel("unacked", "a"))

    give_back(channel)

    assert waiting(client) == ["b"]
    assert held(client) == ([], [])


def test_a_time_without_a_message_is_removed(channel: Any, client: Any) -> None:
    client.zadd("unacked_index", {"gone": LONG_AGO})

    give_back(channel)

    assert held(client) == ([], [])
    assert waiting(client) == []


def test_one_that_cannot_be_read_keeps_no_other(
    channel: Any, client: Any, caplog: pytest.LogCaptureFixture
) -> None:
    hold(client, "a", "b")
    client.hset("unacked", "bad", "no message")
    client.zadd("unacked_index", {"bad": LONG_AGO + 0.5})

    give_back(channel)

    assert waiting(client) == ["a", "b"]
    assert held(client) == (["bad"], ["bad"])
    [line] = [record for record in caplog.records if record.levelno == logging.CRITICAL]
    assert "no message" in line.getMessage()


def test_one_whose_queue_is_not_known_any_more_is_not_lost(channel: Any, client: Any) -> None:
    hold(client, "a", exchange="forgotten")

    give_back(channel)

    assert held(client) == (["a"], ["a"])


def test_one_that_a_task_rejects_meanwhile_goes_back_at_once(channel: Any, client: Any) -> None:
    hold(client, "old", "rejected")
    client.zadd("unacked_index", {"rejected": time.time()})
    acquire = channel.conn_or_acquire

    def reject_first(*arguments: object) -> object:
        channel.conn_or_acquire = acquire
        rejecting = threading.Thread(target=channel.qos.restore_by_tag, args=("rejected",))
        rejecting.start()
        rejecting.join(patience(20))
        return acquire(*arguments)

    channel.conn_or_acquire = reject_first
    give_back(channel)

    assert sorted(waiting(client)) == ["old", "rejected"]
    assert held(client) == ([], [])


def test_they_go_back_where_scripts_are_not_allowed(url: str, parts: Parts, client: Any) -> None:
    client.acl_setuser(
        "giving-back",
        enabled=True,
        nopass=True,
        keys=["*"],
        channels=["*"],
        commands=["+@all", "-@scripting"],
    )
    try:
        with connection_class(parts)(url.replace("://", "://giving-back:any@")) as connection:
            channel: Any = connection.default_channel
            QUEUE(channel).declare()
            hold(client, "a", "b")
            give_back(channel)
    finally:
        client.acl_deluser("giving-back")

    assert waiting(client) == ["a", "b"]
    assert held(client) == ([], [])
