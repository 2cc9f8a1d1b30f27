"""Messages are read as kombu reads them, or refused; benchmarks.fuzz_reader does this for longer."""

import base64
import json
from random import Random
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support import hostile
from tests.support.fuzzing import mutant
from tests.support.reading import SEPARATOR, check

FIELDS: Final = [
    *(("headers", name) for name in hostile.call()["headers"]),
    *(("headers", name) for name in ("stamps", "stamped_headers", "replaced_task_nesting")),
    *(("properties", name) for name in ("correlation_id", "reply_to")),
]
VALUES: Final[list[object]] = [
    *(None, True, False, 0, 1, -1, 2.5, float("nan"), float("inf"), "", [], {}, [None], [1, 2]),
    *([None, float("inf")], [True, None], [[1], 2], {"a": 1}, [{}], ["a"], [None, None, None]),
]


def test_call_is_run() -> None:
    assert check(json.dumps(hostile.call(1, 2)).encode())


def test_body_of_the_first_protocol_under_headers_of_the_second_is_run() -> None:
    body = base64.b64encode(json.dumps({"a": 1, "args": [1, 2]}).encode()).decode()

    assert check(json.dumps({**hostile.call(), "body": body}).encode())


def test_body_beyond_its_envelope_is_run() -> None:
    body = base64.b64decode(hostile.call(1, 2)["body"])

    assert check(SEPARATOR + body)


@given(
    st.sampled_from(FIELDS),
    st.sampled_from([*VALUES, "eight", "\ud800", "é", "2026-11-28T00:00:00+00:00"]),
)
def test_what_is_taken_for_an_ordinary_call_can_be_read(
    field: tuple[str, str], value: object
) -> None:
    """The check that most messages are done with is as strict as the one that gives reasons."""
    call = hostile.call(1, 2)
    call[field[0]][field[1]] = value

    check(json.dumps(call).encode())


@pytest.mark.parametrize("name", hostile.UNREADABLE)
def test_call_that_nobody_can_read_is_not_run(name: str) -> None:
    assert not check(hostile.changed(hostile.UNREADABLE[name]).encode())


@given(st.integers(min_value=0))
def test_call_with_random_changes_is_read_as_kombu_reads_it(seed: int) -> None:
    raw, _ = mutant(Random(seed))

    check(raw)


@given(st.binary())
def test_body_of_random_bytes_ends_nothing(body: bytes) -> None:
    check(SEPARATOR + body)
