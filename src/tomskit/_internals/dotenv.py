"""python-dotenv: the lines of a file, with those that it cannot read.

`dotenv.parser.parse_stream`
    For: refusing a line of a file that names a setting and says no value for it; python-dotenv ignores it.
    When it is missing: reading settings from a file raises ImportError.
"""

from __future__ import annotations

from collections.abc import Iterator
from io import StringIO
from typing import NamedTuple

from dotenv.parser import parse_stream

__all__ = ("Line", "lines_of")


class Line(NamedTuple):
    """A line of a file of variables."""

    number: int
    text: str
    has_value: bool
    """Whether it gives a variable a value; an empty line and a comment do not."""


def lines_of(text: str) -> Iterator[Line]:
    """The lines of a file of variables; a value in quotes may go over several."""
    for binding in parse_stream(StringIO(text)):
        has_value = not binding.error and binding.value is not None
        whole = binding.original.string
        # It begins with the empty lines above.
        text = whole.lstrip()
        above = whole[: len(whole) - len(text)].count("\n")
        yield Line(binding.original.line + above, text, has_value)
