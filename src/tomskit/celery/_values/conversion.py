"""How values are converted to a form for JSON: by a table of converters, one for each class.

There are two such forms: the wire form (`wire`), and the one in which kombu's marks stand for
what JSON does not have (`marks`). What differs between them is passed in.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Final, TypeAlias

__all__ = ("MARK_SIZE", "Converter", "ConverterTable", "first_by_base", "unconverted")

Converter: TypeAlias = Callable[..., object]
"""Takes a value of one class, and returns its form."""

MARK_SIZE: Final = 2
"""How many keys kombu's marks have: ``__type__`` and ``__value__``."""


class ConverterTable(dict[type, Converter]):
    """The converters of one form, by class. Those of lists, tuples and dicts are the table's own.

    A class is looked up itself, not its bases: that is quick. For a class that has no entry, `find`
    is called once, so the table has as many entries as the program sends kinds of values.

    Args:
        converters: The converters of known classes.
        unchanged: The classes whose values are their own form.
        key: Converts keys of dicts that are not of class str.
        find: Finds the converter of any other class.
    """

    def __init__(
        self,
        converters: Mapping[type, Converter],
        *,
        unchanged: frozenset[type],
        key: Callable[[object], str],
        find: Callable[[type], Converter],
    ) -> None:
        super().__init__(converters)
        self._find = find

        # Closures, because reading attributes of self takes longer.
        def convert(value: object) -> object:
            kind = type(value)
            return value if kind in unchanged else self[kind](value)

        # Loops, because Python 3.11 makes a function of every comprehension, each time it is run.
        def convert_items(items: Iterable[object]) -> list[object]:
            converted: list[object] = []
            for item in items:
                # As in convert(), without the call.
                kind = type(item)
                converted.append(item if kind in unchanged else self[kind](item))
            return converted

        def convert_pairs(pairs: Mapping[object, object]) -> dict[str, object]:
            converted: dict[str, object] = {}
            for name, item in pairs.items():
                kind = type(item)
                converted[name if type(name) is str else key(name)] = (
                    item if kind in unchanged else self[kind](item)
                )
            if len(converted) != len(pairs):
                raise TypeError(_SAME_TEXT)
            if len(converted) == MARK_SIZE and "__type__" in converted and "__value__" in converted:
                raise TypeError(_LIKE_A_MARK)
            return converted

        self.convert: Final[Callable[[object], object]] = convert
        self.convert_items: Final[Callable[[Iterable[object]], list[object]]] = convert_items
        self.convert_pairs: Final[Callable[[Mapping[object, object]], dict[str, object]]] = (
            convert_pairs
        )
        self[list] = self[tuple] = convert_items
        self[dict] = convert_pairs

    def __missing__(self, kind: type) -> Converter:
        converter = self[kind] = self._find(kind)
        return converter


def first_by_base(
    kind: type, by_base: Iterable[tuple[type, Converter]], otherwise: Converter
) -> Converter:
    """The converter of the first class that `kind` is a subclass of."""
    found = (converter for base, converter in by_base if issubclass(kind, base))
    return next(found, otherwise)


def unconverted(value: object) -> object:
    """Return `value`: the converter of what is its own form."""
    return value


_SAME_TEXT: Final = (
    "two keys of a dict are the same text in JSON, and one would be lost: use keys whose text "
    "differs"
)
_LIKE_A_MARK: Final = (
    "a dict has the two keys '__type__' and '__value__', by which kombu marks typed values, and "
    "would arrive as something else: use other keys"
)
