"""What parameters and results have in common: an annotation, and what may arrive for a value."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Final

from tomskit.celery._internals import pydantic_core as internals
from tomskit.celery._internals.pydantic_core import Node
from tomskit.celery._values.sameness import (
    EXACT,
    SAME_CONTAINERS,
    SAME_KIND,
    Tolerance,
    arrives_as,
)

__all__ = ("Slot", "shown")


class Slot:
    """A parameter or a result: its annotation, and what may arrive for what was sent.

    Args:
        label: Its name, for messages.
        annotation: Its annotation; `inspect.Parameter.empty` where there is none.
        nodes: The nodes of its schema, without those that pydantic adds (see `visible`).
    """

    def __init__(self, label: str, annotation: object, nodes: Sequence[Node]) -> None:
        self.label = label
        self.annotation = annotation
        self.is_free = annotation is inspect.Parameter.empty
        kinds = {node[internals.TYPE] for node in nodes}
        # Equal values are of the same type then: 1.5 us instead of 8 for the seven arguments of
        # the benchmark.
        self.equal_is_same = kinds <= internals.ONE_TYPE_EACH
        # A tuple is accepted for a Sequence, and arrives as a list; for a list it is not. Among the
        # members of a union, no type stands for another.
        is_abstract = any(
            node[internals.TYPE] == internals.JSON_OR_PYTHON or node.get(internals.STRICT) is False
            for node in nodes
        )
        is_one = internals.ANY not in kinds and kinds.isdisjoint(internals.UNIONS)
        self._like = Tolerance(containers=is_abstract, scalars=True) if is_one else EXACT
        self._like_refused = EXACT if internals.ANY in kinds else SAME_CONTAINERS

    @property
    def expected(self) -> str:
        """The annotation, as it is written in source code."""
        return inspect.formatannotation(self.annotation)

    @property
    def described(self) -> str:
        """The name and the annotation, as in a parameter list."""
        return self.label if self.is_free else f"{self.label}: {self.expected}"

    def arrives(self, sent: object, strict: object, arrived: object, *, refused: bool) -> bool:
        """Whether what was sent arrives.

        Args:
            sent: The value where the task is called.
            strict: What pydantic's strict mode makes of it: stripped, say, if it is annotated so.
            arrived: The value where the task runs.
            refused: Whether strict mode refuses it. It may fit nevertheless, as a bool for an int.
        """
        if self.is_free or (self.equal_is_same and not refused and bool(sent == arrived)):
            return True
        try:
            if arrives_as(sent, arrived, EXACT):
                return True
            if refused:
                return arrives_as(sent, arrived, self._like_refused)
            # Strict mode makes models of dicts, and leaves out what a TypedDict does not have.
            return arrives_as(sent, strict, SAME_KIND) and arrives_as(strict, arrived, self._like)
        except RecursionError:
            # It is nested too deeply for JSON, too.
            return False

    def difference(self, sent: object, arrived: object) -> str:
        """The error where a value would not arrive as it was sent."""
        return f"{self.described} is {shown(sent)} and would arrive as {shown(arrived)}"


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
