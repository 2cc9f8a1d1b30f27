"""hypothesis strategies for what travels in messages."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone, tzinfo

from hypothesis import strategies as st

SURROGATES = st.integers(0xD800, 0xDFFF).map(chr)
TEXT = st.text() | st.text(st.characters(max_codepoint=0x7F) | SURROGATES, max_size=6)
"""Any text, lone surrogates and pairs of them included."""

INTEGERS = (
    st.integers() | st.integers(-(2**70), 2**70) | st.integers(-1, 1).map(lambda step: 2**64 + step)
)
"""Integers of any size, often near 64 bits."""

DAY = 24 * 60 * 60
TIMEZONES = st.integers(1 - DAY, DAY - 1).map(lambda seconds: timezone(timedelta(seconds=seconds)))
"""Offsets of whole seconds: fromisoformat of Python 3.11 reads one of microseconds as UTC."""


def datetimes() -> st.SearchStrategy[datetime]:
    zones: st.SearchStrategy[tzinfo | None] = st.none() | TIMEZONES
    return st.datetimes(timezones=zones)


TAGGED: st.SearchStrategy[object] = st.one_of(
    datetimes(),
    st.dates(),
    st.times(),
    st.times(timezones=TIMEZONES),
    st.decimals(),
    st.uuids(),
    st.binary(),
    st.floats(),
)
"""What JSON has no form for, and kombu's marks have."""

PLAIN: st.SearchStrategy[object] = st.none() | st.booleans() | INTEGERS | TEXT
SCALARS: st.SearchStrategy[object] = PLAIN | TAGGED


def nested(
    leaves: st.SearchStrategy[object], keys: st.SearchStrategy[object] = TEXT
) -> st.SearchStrategy[object]:
    """`leaves` in lists, tuples and dicts within each other."""

    def extend(inner: st.SearchStrategy[object]) -> st.SearchStrategy[object]:
        lists: st.SearchStrategy[object] = st.lists(inner, max_size=4)
        tuples: st.SearchStrategy[object] = st.lists(inner, max_size=4).map(tuple)
        dicts: st.SearchStrategy[object] = st.dictionaries(keys, inner, max_size=4)
        return lists | tuples | dicts

    return st.recursive(leaves, extend, max_leaves=12)


VALUES = nested(SCALARS)
"""All that comes back with its type (tuples as lists)."""

KEYS: st.SearchStrategy[object] = st.one_of(
    TEXT,
    st.integers(),
    st.floats(),
    st.booleans(),
    st.none(),
    st.tuples(st.integers(), TEXT),
    st.sampled_from(["__type__", "__value__"]),
)
"""Whatever can be a dict's key, most of it not in JSON."""
