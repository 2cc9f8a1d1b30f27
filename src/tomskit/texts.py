"""How lists and JSON are written in a variable."""

from __future__ import annotations

import json
from typing import Final

__all__ = ("read_json", "split_list")

# What separates items elsewhere, or is part of another notation.
_NOT_IN_AN_ITEM: Final = frozenset(" \t\r\n;[]{}\"'")
_A_LIST: Final = 'a list is written a,b,c or as a JSON list of texts: ["a", "b", "c"]'


def split_list(value: object) -> object:
    """The items of a list that is written as text; what is no text stays as it is."""
    if not isinstance(value, str):
        return value
    text = value.strip()
    if text.startswith("["):
        return _json_list(text)
    items = [item.strip() for item in text.removesuffix(",").split(",")] if text else []
    if not all(items) or any(not _NOT_IN_AN_ITEM.isdisjoint(item) for item in items):
        raise ValueError(_A_LIST)
    return items


def _json_list(text: str) -> object:
    try:
        decoded: object = json.loads(text)
    except ValueError:
        raise ValueError(_A_LIST) from None
    return decoded  # a list; the field's type says of what


def read_json(value: object) -> object:
    """What JSON says; what is no text stays as it is."""
    if not isinstance(value, str):
        return value
    try:
        decoded: object = json.loads(value)
    except ValueError:
        raise ValueError("the text is not valid JSON") from None
    return decoded
