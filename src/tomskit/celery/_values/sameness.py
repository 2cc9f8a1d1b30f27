"""Whether a value arrives as its annotation says, and which part of it does not.

A value and what arrives for it are compared part by part along pydantic's schema of the annotation.
A part may arrive as another type where a type checker takes the one for the other: an int for a
float, a tuple for a Sequence. Not so under Any, nor where the value's own type is in a union.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from pydantic_core import CoreSchema, SchemaValidator

from tomskit.celery._internals import pydantic_core as internals
from tomskit.celery._internals.pydantic_core import Node, is_node
from tomskit.celery._values.nesting import DEEPEST, TOO_DEEP
from tomskit.celery._values.parts import (
    ANY,
    Difference,
    Pair,
    Parts,
    are_equal,
    are_plainly_the_same,
    collection,
    dataclass,
    exactly,
    inner,
    is_for,
    is_like,
    is_sequence,
    items,
    model,
    node_of,
)

__all__ = ("Comparison",)


class Comparison:
    """Compares what is sent with what arrives, for one annotation.

    Args:
        node: The schema of the annotation.
        definitions: The definitions that it refers to.
    """

    def __init__(self, node: object, definitions: Mapping[str, CoreSchema]) -> None:
        self._node = node_of(node)
        self._definitions = definitions
        self._validators: dict[int, SchemaValidator] = {}
        self._by_type: dict[object, Callable[[Pair], Parts]] = {
            internals.ANY: exactly,
            internals.DEFINITION_REF: self._definition,
            internals.LAX_OR_STRICT: self._lax,
            internals.JSON_OR_PYTHON: self._sequence,
            internals.MODEL: model,
            internals.DATACLASS: dataclass,
            **dict.fromkeys(internals.AROUND_ONE, inner),
            **dict.fromkeys(internals.UNIONS, self._union),
            **dict.fromkeys(internals.FUNCTIONS, self._function),
            **dict.fromkeys(internals.COLLECTIONS, self._collection),
        }

    def difference(self, sent: object, arrived: object) -> Difference | None:
        """The first part that does not arrive as it was sent."""
        whole = Pair(self._node, sent, arrived, (), is_free=True)
        try:
            return self._first(whole)
        except RecursionError:
            return whole.differs(TOO_DEEP)

    def are_equal(self, sent: object, arrived: object) -> bool:
        """Whether the two are equal, and the annotation takes what is sent without converting it.

        Quick, and enough where the annotation accepts one type for each part.
        """
        return are_equal(sent, arrived) and self._converted(self._node, sent) is not _REFUSED

    def _first(self, pair: Pair) -> Difference | None:
        # No recursion: values may be nested more deeply than there is room on the stack.
        pairs = [pair]
        while pairs:
            pair = pairs.pop()
            if are_plainly_the_same(pair.sent, pair.arrived):
                continue
            if len(pair.path) > DEEPEST:
                return pair.differs(TOO_DEEP)
            parts = self._by_type.get(pair.node.get(internals.TYPE), self._other)(pair)
            if isinstance(parts, Difference):
                return parts
            pairs.extend(reversed([*parts]))
        return None

    def _definition(self, pair: Pair) -> Parts:
        node = self._definitions.get(str(pair.node[internals.SCHEMA_REF]))
        return [pair._replace(node=node_of(node))]

    def _lax(self, pair: Pair) -> Parts:
        # That of a defaultdict is a function around a dict. Others have no parts.
        node = node_of(pair.node[internals.LAX_SCHEMA])
        has_parts = node.get(internals.TYPE) in internals.FUNCTIONS and internals.SCHEMA in node
        return [pair._replace(node=node)] if has_parts else self._other(pair)

    def _function(self, pair: Pair) -> Parts:
        if internals.SCHEMA not in pair.node:
            return self._other(pair)
        difference = self._first(pair._replace(node=node_of(pair.node[internals.SCHEMA])))
        return () if difference is None else self._converted_alike(pair, difference)

    def _union(self, pair: Pair) -> Parts:
        if self._first(pair._replace(node=ANY)) is None:
            return ()
        members = [node_of(one) for one in internals.choices_of(pair.node)]
        own = [one for one in members if self._keeps_type(one, pair.sent)]
        found = [
            # What has arrived may be of another member.
            self._first(pair._replace(node=one))
            if self._keeps_type(one, pair.arrived)
            else pair.differs()
            for one in own or members
        ]
        differences = [one for one in found if one is not None]
        if not differences or (not own and None in found):
            return ()
        deepest = max(differences, key=lambda one: len(one.path))
        return deepest if own else pair.differs()

    def _keeps_type(self, node: Node, value: object) -> bool:
        converted = self._converted(node, value)
        return converted is not _REFUSED and type(converted) is type(value)

    def _sequence(self, pair: Pair) -> Parts:
        node, arrived = pair.node.get(internals.JSON_SCHEMA), pair.arrived
        if not (is_node(node) and internals.is_list(node) and is_sequence(arrived)):
            return self._other(pair)
        if not is_sequence(pair.sent):
            return pair.differs()
        return items(pair, pair.sent, arrived, internals.items_in(node, len(arrived)))

    def _collection(self, pair: Pair) -> Parts:
        parts = collection(pair)
        if isinstance(parts, Difference) and isinstance(pair.arrived, (set, frozenset)):
            # Its members are not in an order in which they could be compared one by one.
            return self._converted_alike(pair, parts)
        return parts

    def _other(self, pair: Pair) -> Parts:
        """A part that has no parts."""
        if is_like(pair.sent, pair.arrived):
            return ()
        difference = self._first(pair._replace(node=ANY))
        return () if difference is None else self._converted_alike(pair, difference)

    def _converted_alike(self, pair: Pair, difference: Difference) -> Parts:
        """Nothing where pydantic changes a value as the annotation says: a text that it strips."""
        if pair.is_free:
            converted = self._converted(pair.node, pair.sent)
            node = node_of(pair.node.get(internals.SCHEMA))
            changed = pair._replace(node=node, sent=converted, is_free=False)
            if is_for(pair.sent, converted) and self._first(changed) is None:
                return ()
        return difference

    def _converted(self, node: Node, value: object) -> object:
        """What pydantic's strict mode makes of a value; `_REFUSED` where it takes none such."""
        validator = self._validators.get(id(node))
        if validator is None:
            validator = internals.validator_of(internals.as_schema(node), self._definitions)
            self._validators[id(node)] = validator
        try:
            converted: object = validator.validate_python(
                value, strict=True, by_alias=True, by_name=True
            )
        except Exception:  # noqa: BLE001
            # ValidationError, or of a function of the application's.
            return _REFUSED
        return converted


class _Refused:
    """The class of `_REFUSED`."""


_REFUSED: Final = _Refused()
