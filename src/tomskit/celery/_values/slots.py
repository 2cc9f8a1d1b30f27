"""What parameters and results have in common: an annotation, and what may arrive for a value."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Final

from pydantic_core import CoreSchema, ValidationError

from tomskit.celery._internals import pydantic_core as internals
from tomskit.celery._internals.pydantic_core import Node
from tomskit.celery._values.nesting import TOO_DEEP, Path, part_at, path_text, too_deep
from tomskit.celery._values.parts import Difference, are_equal
from tomskit.celery._values.sameness import Comparison

__all__ = ("Slot", "is_about", "misfit", "misfit_on_the_wire", "shown")


class Slot:
    """A parameter or a result: its annotation, and what may arrive for what was sent.

    Args:
        label: Its name, for messages.
        annotation: Its annotation; `inspect.Parameter.empty` where there is none.
        nodes: The nodes of its schema, the first of which is the schema, without those that
            pydantic adds (see `visible`).
        definitions: The definitions that they refer to.
    """

    def __init__(
        self,
        label: str,
        annotation: object,
        nodes: Sequence[Node],
        definitions: Mapping[str, CoreSchema],
    ) -> None:
        self.label = label
        self.annotation = annotation
        self.is_free = annotation is inspect.Parameter.empty
        # Equal values are of the same type then: 1.5 us instead of 8 for the seven arguments of
        # the benchmark.
        kinds = {node[internals.TYPE] for node in nodes}
        self.equal_is_same = kinds <= internals.ONE_TYPE_EACH
        self._node, self._definitions = nodes[0] if nodes else None, definitions
        self._comparison = Comparison(self._node, definitions)

    @property
    def expected(self) -> str:
        """The annotation, as it is written in source code."""
        return inspect.formatannotation(self.annotation)

    @property
    def described(self) -> str:
        """The name and the annotation, as in a parameter list."""
        return self.label if self.is_free else f"{self.label}: {self.expected}"

    def difference(self, sent: object, arrived: object) -> Difference | None:
        """What does not arrive as it was sent.

        Args:
            sent: The value where the task is called.
            arrived: The value where the task runs.
        """
        if self.is_free or (self.equal_is_same and self._comparison.are_equal(sent, arrived)):
            return None
        return self._comparison.difference(sent, arrived)

    def failure(self, wire: object) -> str | None:
        """The error where a function of the application's fails on what arrives, such as a validator."""
        if self._node is None:
            return None
        validator = internals.validator_of(internals.as_schema(self._node), self._definitions)
        try:
            validator.validate_python(wire, strict=False, by_alias=True, by_name=True)
        except ValidationError:
            return None
        except Exception as exc:  # noqa: BLE001
            # It is the application's.
            reason = f"{type(exc).__qualname__}: {exc}"
            return (
                f"{self.described} cannot be made of {shown(wire)}, which is sent for it: {reason}"
            )
        return None

    def refusal(self, sent: object, arrived: object, difference: Difference) -> str:
        """The error where a value would not arrive as it was sent."""
        if difference.reason == TOO_DEEP:
            return too_deep(self.label, difference.path, difference.sent)
        one, other = shown(sent), shown(arrived)
        if not difference.path:
            text = f"{self.described} is {one}"
            return f"{text} and would arrive as {other}{_because(difference, one == other)}"
        part, other_part = shown(difference.sent), shown(difference.arrived)
        reason = _because(difference, part == other_part)
        where = path_text(self.label, difference.path)
        text = f"{where} is {part} and would arrive as {other_part}{reason}"
        return (
            f"{self.described} would not arrive as it is: {text}"
            if one == other
            else f"{self.described} is {one} and would arrive as {other}: {text}"
        )


def is_about(location: Sequence[object], path: Path) -> bool:
    """Whether an error of pydantic's at that location is about that part, or what it is in.

    In locations there are the members of unions as well.
    """
    steps = iter(location)
    if all(step in steps for step in path):
        return True
    steps = iter(path)
    return all(step in steps for step in location)


def misfit(value: object, expected: str) -> str:
    """What a value is, and is not."""
    return f"{shown(value)}, not {expected}"


def misfit_on_the_wire(
    wire: object, expected: str, value: object, location: Sequence[object]
) -> str:
    """The same of the wire form of a part of a value that pydantic takes for what is expected."""
    part = part_at(value, location)
    if type(part) is type(wire) and are_equal(part, wire):
        return misfit(part, expected)
    return f"sent as {shown(wire)}, of which {expected} cannot be made again"


def _because(difference: Difference, look_alike: bool) -> str:
    if difference.reason:
        return f", because {difference.reason}"
    return (
        ", which is another that does not equal it: give its class an __eq__" if look_alike else ""
    )


def shown(value: object) -> str:
    """A value and its type for a message, shortened."""
    try:
        text = repr(value)
    except Exception:  # noqa: BLE001
        # Its class is the application's, and there is another error to report.
        text = "a value whose repr() fails"
    if len(text) > _SHOWN:
        text = f"{text[: _SHOWN - 3]}..."
    return f"{text} ({type(value).__qualname__})"


_SHOWN: Final = 100
"""Characters of a value in a message."""
