"""Commands as they are written: what redis-py makes of them."""

import uuid
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis import Connection

from tomskit.celery.fast_redis.packing import packed

_kind: Any = Connection
CONNECTION: Any = _kind()
LENGTHS = (
    0,
    1,
    9,
    10,
    999,
    1000,
    1022,
    1023,
    1024,
    1025,
    9999,
    10_000,
    19_999,
    20_000,
    20_001,
    70_000,
)

arguments = st.one_of(
    st.text(max_size=40),
    st.binary(max_size=40),
    st.integers(),
    st.floats(allow_nan=False),
    st.sampled_from(LENGTHS).map("x".__mul__),
    st.sampled_from(LENGTHS).map(b"\xff".__mul__),
)
commands = st.tuples(
    st.sampled_from(["SET", "EVALSHA", "CLIENT TRACKING", b"GET"]), st.lists(arguments, max_size=9)
)


def written(parts: Any) -> bytes:
    return b"".join(bytes(part) for part in parts)


@given(st.lists(commands.map(lambda one: (one[0], *one[1])), max_size=5))
def test_commands_are_packed_as_redis_py_packs_them(some: Any) -> None:
    assert written(packed(CONNECTION, some)) == written(CONNECTION.pack_commands(some))


def test_the_commands_of_a_turn_are_written_in_one_piece() -> None:
    tags = [str(uuid.uuid4()) for _ in range(100)]

    made: Any = packed(
        CONNECTION, [("HDEL", "unacked", *tags), ("EVALSHA", "0" * 40, 1, b"key", 5)]
    )

    assert len(made) == 1
    assert made[0].count(b"\r\n$36\r\n") == len(tags)


@pytest.mark.parametrize("value", ["\ud800", None, True, object(), 2.5])
def test_what_redis_py_refuses_or_writes_otherwise_is_left_to_it(value: object) -> None:
    def ours(some: Any) -> object:
        return packed(CONNECTION, some)

    def outcome(pack: Any) -> object:
        try:
            return written(pack([("SET", "key", value)]))
        except Exception as exc:  # noqa: BLE001 (whatever it is, both raise it)
            return type(exc), str(exc)

    assert outcome(ours) == outcome(CONNECTION.pack_commands)
