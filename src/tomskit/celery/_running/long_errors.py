"""Errors that many others have led to, and texts without end: what is written of them.

An error that is raised while another one is handled keeps that one, and so on. A loop that raises each error from the
one before makes a chain of thousands, whose traceback takes a second to write, in which no other coroutine runs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any, Final

__all__ = ("LONGEST_TEXT", "bounded", "leave_out_links")

LONGEST_TEXT: Final = 100_000
"""Characters that a log line shows of a text. To escape so many control characters takes 40 ms."""

_LAST_TEXT: Final = 10_000
"""How many of them are those at its end, which say of a traceback what was raised."""

_FIRST_LINKS: Final = 50
_LAST_LINKS: Final = 50
"""How many errors of a chain are written: those that were raised first, and last."""

_base: Final[Any] = vars(BaseException)


def bounded(text: str) -> str:
    """The text, or the beginning and the end of one that is too long, and how much lies between."""
    left_out = len(text) - LONGEST_TEXT
    if left_out <= 0:
        return text
    first = LONGEST_TEXT - _LAST_TEXT
    return f"{text[:first]} [{left_out:,} characters left out] {text[-_LAST_TEXT:]}"


def leave_out_links(error: BaseException | None) -> Callable[[], None] | None:
    """Take the middle out of a long chain of errors that have led to this one, with a note of how many they were.

    Returns:
        What puts it back; None if the chain is not long.
    """
    if error is None or not _is_long(error):
        return None
    links = [*_links_of(error)]
    last, first = links[_LAST_LINKS - 1], links[-_FIRST_LINKS]
    name = "__context__" if _base["__cause__"].__get__(last) is None else "__cause__"
    next_one = _base[name].__get__(last)
    # Not by the attributes: a class may refuse to set any.
    _base[name].__set__(last, first)
    with suppress(Exception):
        BaseException.add_note(last, _note(len(links) - _FIRST_LINKS - _LAST_LINKS))

    def put_back() -> None:
        _base[name].__set__(last, next_one)
        with suppress(Exception):
            last.__notes__.pop()
            if not last.__notes__:
                del last.__notes__

    return put_back


def _note(left_out: int) -> str:
    return f"[{left_out:,} errors left out, between this one and the one above]"


def _is_long(error: BaseException) -> bool:
    most = _FIRST_LINKS + _LAST_LINKS
    return any(place >= most for place, _ in enumerate(_links_of(error)))


def _links_of(error: BaseException) -> Iterator[BaseException]:
    """The errors of a chain as a traceback shows them, the last one first, each once."""
    one: BaseException | None = error
    known = set[int]()
    while one is not None and id(one) not in known:
        known.add(id(one))
        yield one
        cause: BaseException | None = _base["__cause__"].__get__(one)
        if cause is None and not _base["__suppress_context__"].__get__(one):
            cause = _base["__context__"].__get__(one)
        one = cause
