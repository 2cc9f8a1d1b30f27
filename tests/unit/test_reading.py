"""Messages are read as kombu reads them, or refused; benchmarks.fuzz_reader does this for longer."""

import base64
import json
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support import hostile
from tests.support.fuzzing import mutant
from tests.support.reading import SEPARATOR, check


def test_call_is_run() -> None:
    assert check(json.dumps(hostile.call(1, 2)).encode())


def test_body_beyond_its_envelope_is_run() -> None:
    body = base64.b64decode(hostile.call(1, 2)["body"])

    assert check(SEPARATOR + body)


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
