"""What the tests read of a process: all that it has written, as soon as it has written it."""

import os
from collections.abc import Iterator

import pytest

from tests.support.output import Output
from tests.support.patience import patience

Ends = tuple[Output, int]


@pytest.fixture
def ends() -> Iterator[Ends]:
    """The end that is read of a pipe, and the one that is written to."""
    read, written = os.pipe()
    output = Output(os.fdopen(read, encoding="utf-8"), "reader")
    yield output, written
    os.close(written)
    output.finish(patience(10))


def test_what_was_written_is_there_at_once(ends: Ends) -> None:
    output, written = ends
    for number in range(1, 2000):
        os.write(written, b"line\n")
        assert len(output.lines) == number


def test_lines_may_come_in_parts(ends: Ends) -> None:
    output, written = ends
    word = "é\r\n".encode()
    found: list[list[str]] = []
    for part in (b"a", b"b\nc", word[:1], word[1:2], word[2:3], word[3:]):
        os.write(written, part)
        found.append([*output.lines])
    assert found == [[], *[["ab"]] * 4, ["ab", "cé"]]


def test_the_last_line_need_not_end() -> None:
    read, written = os.pipe()
    output = Output(os.fdopen(read, encoding="utf-8"), "reader")
    os.write(written, b"first\nlast \xff")
    os.close(written)
    output.finish(patience(10))
    assert output.lines == ["first", "last �"]
    assert output.lines == ["first", "last �"]


def test_whoever_waits_is_told(ends: Ends) -> None:
    output, written = ends
    with output.news:
        assert output.lines == []
        os.write(written, b"line\n")
        # Only the thread that reads can tell it.
        assert output.news.wait(patience(10))
    assert output.lines == ["line"]
