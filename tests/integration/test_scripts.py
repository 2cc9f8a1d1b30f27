"""What Redis does in one step: scripts, called as their callers call them."""

import json
from collections.abc import Iterator
from typing import Any, cast

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.patience import patience
from tests.support.servers import RedisServer
from tomskit.celery.fast_redis.scripts import (
    FETCH,
    FORGET,
    RESTORE,
    STORE,
    fetched,
    stored_ones,
)

RECORDS, TIMES = "unacked", "unacked_index"


@pytest.fixture
def client(own: RedisServer) -> Iterator[Any]:
    with own.client() as client:
        yield client


def message(tag: str, exchange: str = "", routing_key: str = "work") -> str:
    info = {"exchange": exchange, "routing_key": routing_key}
    return json.dumps({"body": "x", "properties": {"delivery_tag": tag, "delivery_info": info}})


def fetch(
    client: Any,
    *lists: str,
    count: int,
    in_turn: int = 1,
    time: str = "1.5",
    more_bytes: int = 1_000_000,
) -> list[tuple[int, str]]:
    """Which list each message came from, and the message."""
    keys = [RECORDS, TIMES, *lists]
    answer = client.eval(FETCH, len(keys), *keys, time, count, in_turn, more_bytes)
    parts = [part.encode() for part in cast("list[str]", answer)]
    return [(place, raw.decode()) for place, raw in fetched(parts)]


def tags(taken: list[tuple[int, str]]) -> list[tuple[int, str]]:
    """Which list each message came from, and its tag."""
    return [(place, json.loads(raw)["properties"]["delivery_tag"]) for place, raw in taken]


# -- taking messages


def test_messages_are_taken_in_their_order_and_recorded_as_by_kombu(client: Any) -> None:
    for tag in ("a", "b", "c"):
        client.lpush("work", message(tag, "exchange"))

    assert tags(fetch(client, "work", count=2)) == [(0, "a"), (0, "b")]

    assert client.llen("work") == 1
    assert client.zrange(TIMES, 0, -1, withscores=True) == [("a", 1.5), ("b", 1.5)]
    assert json.loads(client.hget(RECORDS, "a")) == [
        json.loads(message("a", "exchange")),
        "exchange",
        "work",
    ]


@pytest.mark.parametrize(("more", "taken"), [(-1, ["a"]), (0, ["a", "b"]), (1, ["a", "b"])])
def test_no_more_bytes_are_taken_than_asked_for_beyond_the_first_message(
    client: Any, more: int, taken: list[str]
) -> None:
    for tag in ("a", "b", "c"):
        client.lpush("work", message(tag))

    answer = fetch(client, "work", count=9, more_bytes=len(message("b")) + more)

    assert tags(answer) == [(0, tag) for tag in taken]
    assert client.zrange(TIMES, 0, -1) == taken
    assert client.llen("work") == 3 - len(taken)
    assert tags(fetch(client, "work", count=9)) == [
        (0, tag) for tag in ("a", "b", "c") if tag not in taken
    ]


def test_where_the_bytes_are_taken_other_lists_are_left_alone(client: Any) -> None:
    for name in ("one", "two", "three"):
        client.lpush(name, message(name))

    answer = fetch(client, "one", "two", "three", count=9, in_turn=2, more_bytes=1)

    assert tags(answer) == [(0, "one")]
    assert [client.llen(name) for name in ("one", "two", "three")] == [0, 1, 1]


def test_where_there_are_none_nothing_is_recorded(client: Any) -> None:
    assert fetch(client, "work", count=5) == []

    assert client.keys() == []


def test_lists_of_one_rank_are_taken_from_in_turn(client: Any) -> None:
    for tag in "abc":
        client.lpush("one", message(f"1{tag}"))
        client.lpush("two", message(f"2{tag}"))

    taken = tags(fetch(client, "one", "two", count=5, in_turn=2))

    assert taken == [(0, "1a"), (1, "2a"), (0, "1b"), (1, "2b"), (0, "1c")]


def test_a_higher_rank_is_emptied_first(client: Any) -> None:
    for tag in "ab":
        client.lpush("high", message(f"high {tag}"))
        client.lpush("low", message(f"low {tag}"))

    taken = tags(fetch(client, "high", "low", count=3, in_turn=1))

    assert taken == [(0, "high a"), (0, "high b"), (1, "low a")]


@pytest.mark.parametrize("raw", ["no json", "[]", "{}", '{"properties": {"delivery_tag": 5}}'])
def test_what_is_no_message_is_taken_and_not_recorded(client: Any, raw: str) -> None:
    client.lpush("work", raw, message("a"))

    answer = fetch(client, "work", count=5)

    assert answer[0] == (0, raw)
    assert client.hkeys(RECORDS) == ["a"]
    assert client.zrange(TIMES, 0, -1) == ["a"]


def test_long_messages_and_short_ones_are_taken_in_their_order(client: Any) -> None:
    texts = ["", "é", "x" * 4096, "é" * 2048, "x" * 4097, "\r\n", "é" * 5000, "0 5", "x" * 9000]
    for text in texts:
        client.lpush("one", text)
        client.lpush("two", f"2{text}")

    taken = fetch(client, "one", "two", count=99, in_turn=2)

    assert taken == [one for text in texts for one in ((0, text), (1, f"2{text}"))]


TEXTS = st.text(st.sampled_from('a"\\{}[]:, é\n/\x00')) | st.sampled_from(
    ['"properties": {', '", "properties": {"delivery_info": {"exchange": "e', "delivery_tag", "}}"]
)
NAMES = TEXTS | st.sampled_from(["properties", 'odd"properties', "delivery_info", "exchange"])


@st.composite
def messages(draw: st.DrawFn) -> str:
    """A message, its parts in any order, with whatever else in it."""
    odd = draw(st.dictionaries(NAMES, st.dictionaries(NAMES, TEXTS, max_size=3), max_size=3))
    info = {"exchange": draw(TEXTS), "routing_key": draw(TEXTS)}
    properties: dict[str, object] = {
        "correlation_id": draw(TEXTS),
        "delivery_info": info,
        "delivery_tag": draw(TEXTS),
    }
    parts = {"body": draw(TEXTS), "headers": odd, "properties": properties}
    if draw(st.booleans()):
        properties = parts["properties"] = dict(draw(st.permutations([*properties.items()])))
    if draw(st.booleans()):
        properties["delivery_info"] = dict(draw(st.permutations([*info.items()])))
    if draw(st.booleans()):
        parts = dict(draw(st.permutations([*parts.items()])))
    separators = draw(st.sampled_from([(", ", ": "), (",", ":")]))
    return json.dumps(parts, separators=separators, ensure_ascii=draw(st.booleans()))


@given(raw=messages())
@settings(
    deadline=None, max_examples=500, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_any_message_is_recorded_as_by_kombu_and_can_be_forgotten(client: Any, raw: str) -> None:
    client.flushdb()
    client.lpush("work", raw)
    sent = json.loads(raw)
    properties = sent["properties"]
    tag, info = properties["delivery_tag"], properties["delivery_info"]

    assert fetch(client, "work", count=1) == [(0, raw)]

    assert client.zrange(TIMES, 0, -1) == [tag]
    assert json.loads(client.hget(RECORDS, tag)) == [sent, info["exchange"], info["routing_key"]]
    assert client.eval(FORGET, 2, RECORDS, TIMES, raw) == 1
    assert client.keys() == []


def test_a_broken_message_that_ends_as_one_is_forgotten(client: Any) -> None:
    raw = json.dumps({"body": "x", "properties": {"priority": 0, "delivery_info": {}, "a": "b"}})
    info = '"delivery_info": {"exchange": "", "routing_key": "k"}, "delivery_tag": "t"'
    raw = raw.replace('"delivery_info": {}, "a": "b"', info).replace('"body": "x"', '"body": x')
    client.lpush("work", raw)

    fetch(client, "work", count=1)
    client.eval(FORGET, 2, RECORDS, TIMES, raw)

    assert client.keys() == []


LONG = "x" * 10_000
PROPERTIES = {"delivery_tag": "a", "delivery_info": {"exchange": "e", "routing_key": "k"}}


@pytest.mark.parametrize("spaces", [True, False], ids=["spaces", "no spaces"])
@pytest.mark.parametrize(
    "sent",
    [
        {"body": LONG, "properties": PROPERTIES},
        {"properties": PROPERTIES, "body": LONG},
        {"body": f'{LONG}" quoted', "properties": PROPERTIES},
        {"body": f"{LONG}\\", "properties": PROPERTIES},
        {"body": f'"body": "{LONG}', "properties": PROPERTIES},
        {"body": {"body": LONG, "properties": {}}, "properties": PROPERTIES},
        {"body": [LONG, 'body": "x'], "properties": PROPERTIES},
        {"body": "", "headers": {"long": LONG}, "properties": PROPERTIES},
        {"body": None, "headers": {"long": LONG}, "properties": PROPERTIES},
        {"headers": {"body": "x", "long": LONG}, "body": LONG, "properties": PROPERTIES},
        {'odd"body': LONG, "body": LONG, "properties": PROPERTIES},
        {"headers": {"long": f'"body": "{LONG}'}, "properties": PROPERTIES, "body": "x"},
        {"headers": LONG, "properties": {**PROPERTIES, "body": "x"}},
    ],
)
def test_a_long_message_is_recorded_as_a_short_one_is(
    client: Any, sent: dict[str, object], spaces: bool
) -> None:
    separators = None if spaces else (",", ":")
    raw = json.dumps(sent, separators=separators)
    client.lpush("work", raw)

    assert fetch(client, "work", count=1) == [(0, raw)]

    assert json.loads(client.hget(RECORDS, "a")) == [sent, "e", "k"]
    assert client.zrange(TIMES, 0, -1) == ["a"]
    assert client.eval(FORGET, 2, RECORDS, TIMES, raw) == 1
    assert client.keys() == []


@pytest.mark.parametrize("raw", ["x" * 10_000, f'{{"body": "{LONG}', f'{{"body": "{LONG}"}}'])
def test_what_is_long_and_no_message_is_taken_and_not_recorded(client: Any, raw: str) -> None:
    client.lpush("work", raw)

    assert fetch(client, "work", count=1) == [(0, raw)]

    assert client.keys() == []


@pytest.mark.parametrize("key", [RECORDS, TIMES])
def test_where_nothing_can_be_recorded_nothing_is_taken(client: Any, key: str) -> None:
    client.lpush("work", message("a"))
    client.set(key, "of another kind")

    with pytest.raises(Exception, match="WRONGTYPE"):
        fetch(client, "work", count=5)

    assert client.llen("work") == 1


# -- giving one back


def restore(client: Any, tag: str, *pushes: str, latest: str = "") -> object:
    return client.eval(RESTORE, 2, RECORDS, TIMES, tag, latest, *pushes)


def test_a_message_that_is_out_goes_back(client: Any) -> None:
    client.lpush("work", message("a"), message("b"))
    fetch(client, "work", count=1)

    assert restore(client, "a", "RPUSH", "work", "again", "LPUSH", "other", "copy") == 1

    assert client.lrange("work", 0, -1) == [message("b"), "again"]
    assert client.lrange("other", 0, -1) == ["copy"]
    assert (client.exists(RECORDS), client.exists(TIMES)) == (0, 0)


def test_a_message_that_is_not_out_any_more_does_not_go_back(client: Any) -> None:
    assert restore(client, "a", "RPUSH", "work", "again") == 0

    assert client.exists("work") == 0


@pytest.mark.parametrize(("latest", "goes_back"), [("99.5", False), ("100.5", True)])
def test_a_message_that_was_taken_later_does_not_go_back(
    client: Any, latest: str, goes_back: bool
) -> None:
    client.hset(RECORDS, "a", "record")
    client.zadd(TIMES, {"a": 100.0})

    assert restore(client, "a", "RPUSH", "work", "again", latest=latest) == int(goes_back)

    assert client.exists("work") == int(goes_back)
    assert client.exists(RECORDS, TIMES) == (0 if goes_back else 2)


def test_a_message_that_belongs_nowhere_stays(client: Any) -> None:
    client.hset(RECORDS, "a", "record")
    client.zadd(TIMES, {"a": 100.0, "without a message": 100.0})

    assert [restore(client, tag) for tag in ("a", "without a message")] == [0, 0]

    assert client.hkeys(RECORDS) == ["a"]
    assert client.zrange(TIMES, 0, -1) == ["a"]


# -- storing a state


def store(
    client: Any, state: str, *, result: object = None, keep: int = 0, unless_ended: bool = False
) -> object:
    meta = json.dumps({"status": state, "result": result})
    return stored_ones(client.eval(STORE, 1, "key", keep, int(unless_ended), meta))


def stored(client: Any) -> tuple[object, object]:
    meta = json.loads(client.get("key"))
    return meta["status"], meta["result"]


def test_a_state_is_stored_for_as_long_as_it_is_kept(client: Any) -> None:
    assert store(client, "FAILURE", keep=1000) == [True]

    assert stored(client) == ("FAILURE", None)
    assert 900 < client.ttl("key") <= 1000


def test_a_state_that_is_kept_for_ever_does_not_expire(client: Any) -> None:
    store(client, "STARTED", keep=1000)

    assert store(client, "FAILURE", keep=0) == [True]

    assert client.ttl("key") == -1


def test_a_later_state_takes_the_place_of_an_earlier_one(client: Any) -> None:
    for state in ("STARTED", "RETRY", "FAILURE", "SUCCESS"):
        assert store(client, state, keep=1000) == [True]
        assert stored(client) == (state, None)
    assert client.ttl("key") > 0


def test_many_states_are_stored_at_once(client: Any) -> None:
    client.set("unreadable", "no JSON")
    store(client, "SUCCESS", result=1)
    states = [json.dumps({"status": "SUCCESS", "result": n}) for n in (2, 3, 4)]

    answers = client.eval(STORE, 3, "key", "unreadable", "other", 1000, 0, *states)

    assert stored_ones(answers) == [True, False, True]
    assert stored(client) == ("SUCCESS", 1)
    assert client.get("unreadable") == "no JSON"
    assert json.loads(client.get("other"))["result"] == 4
    assert 900 < client.ttl("other") <= 1000


def test_a_result_that_there_is_stays(client: Any) -> None:
    store(client, "SUCCESS", result=1)

    assert store(client, "FAILURE") == [True]
    assert store(client, "SUCCESS", result=2) == [True]

    assert stored(client) == ("SUCCESS", 1)


@pytest.mark.parametrize("end", ["SUCCESS", "FAILURE", "REVOKED"])
def test_a_late_report_does_not_hide_how_a_task_ended(client: Any, end: str) -> None:
    store(client, end)

    assert store(client, "PROGRESS", unless_ended=True) == [True]

    assert stored(client) == (end, None)


@pytest.mark.parametrize("end", ["FAILURE", "REVOKED"])
@pytest.mark.parametrize(
    ("done", "since", "expected"),
    [
        ("2026-03-01T10:00:00.5+00:00", "2026-03-01T10:00:00.400000+00:00", True),
        ("2026-03-01T10:00:00.3+00:00", "2026-03-01T10:00:00.400000+00:00", False),
        (None, "2026-03-01T10:00:00.400000+00:00", False),
        ("2026-03-01T10:00:00.5+00:00", 0, False),
    ],
)
def test_an_end_since_a_time_stays(
    client: Any, end: str, done: str | None, since: str | int, expected: bool
) -> None:
    client.set("key", json.dumps({"status": end, "date_done": done}))

    client.eval(STORE, 1, "key", 0, since, json.dumps({"status": "RETRY"}))

    assert json.loads(client.get("key"))["status"] == (end if expected else "RETRY")


@pytest.mark.parametrize("state", ["STARTED", "RETRY", "PROGRESS"])
def test_a_report_takes_the_place_of_what_is_no_end(client: Any, state: str) -> None:
    store(client, state)

    assert store(client, "PROGRESS", result=2, unless_ended=True) == [True]

    assert stored(client) == ("PROGRESS", 2)


def test_who_listens_is_told_of_what_was_stored_only(client: Any) -> None:
    with client.pubsub(ignore_subscribe_messages=False) as listening:
        listening.subscribe("key")
        assert listening.get_message(timeout=patience(10))["type"] == "subscribe"
        for state in ("STARTED", "SUCCESS", "FAILURE"):
            store(client, state)
        client.publish("key", "the end")
        told: list[str] = []
        while not told or told[-1] != "the end":
            told.append(listening.get_message(timeout=patience(10))["data"])

    assert [json.loads(one)["status"] for one in told[:-1]] == ["STARTED", "SUCCESS"]


@pytest.mark.parametrize("there", ["no json", "5", b"\x80\x04."])
def test_what_it_cannot_read_is_left(client: Any, there: str | bytes) -> None:
    client.set("key", there)

    assert store(client, "SUCCESS") == [False]

    assert client.strlen("key") == len(there)
