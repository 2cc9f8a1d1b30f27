"""The result of a task's function: it is checked, sent and loaded by its annotation."""

from __future__ import annotations

from types import GenericAlias

from pydantic_core import CoreSchema, SchemaValidator, ValidationError, core_schema

from tomskit.celery._values.plain import PLAIN
from tomskit.celery._values.schemas import refuse, schema_of, visible, walk
from tomskit.celery._values.slots import Slot, shown
from tomskit.celery._values.wire import NO_WIRE_FORM, to_wire
from tomskit.errors import TaskResultError

__all__ = ("Result",)


class Result:
    """The result of a function.

    Args:
        name: The task's name, for messages.
        annotation: What the function says that it returns, resolved.
        what: What it is, for messages: the result, or the progress that the task reports.

    Raises:
        ConfigurationError: It is something that cannot be sent.
    """

    def __init__(self, name: str, annotation: object, what: str = "result") -> None:
        self._name = name
        self._what = f"its {what}"
        # In a tuple, because a TypeAdapter of a model takes no configuration.
        in_tuple = GenericAlias(tuple, (annotation,))
        schema, definitions = schema_of(name, in_tuple, self._what, any_class=False)
        # The first is that tuple.
        nodes = [*walk(schema, definitions)][1:]
        refuse(name, what, nodes)
        self._slot = Slot(self._what, annotation, visible(nodes))
        self._validator = SchemaValidator(_complete(schema, definitions))
        self.plain: type | None = None
        """The type whose values need no conversion, if it is the annotation."""
        if isinstance(annotation, type) and annotation in PLAIN:
            self.plain = annotation

    def dump(self, value: object) -> object:
        """The wire form of what the function returned.

        Raises:
            TaskResultError: It does not fit, or would arrive as something else.
        """
        refusal = None
        strict = value
        try:
            (strict,) = self._validator.validate_python((value,), strict=True)
        except ValidationError as exc:
            refusal = exc
        try:
            wire = to_wire(value)
        except NO_WIRE_FORM as exc:
            raise TaskResultError(
                f"{self._name}: {self._what} is {shown(value)}, which cannot be sent: {exc}"
            ) from None
        try:
            arrived = self._from_wire(wire)
        except ValidationError as exc:
            raise self._error(refusal or exc) from None
        if not self._slot.arrives(value, strict, arrived, refused=refusal is not None):
            if refusal is not None:
                raise self._error(refusal)
            raise TaskResultError(f"{self._name}: {self._slot.difference(value, arrived)}")
        return wire

    def load(self, wire: object) -> object:
        """What the function returned, from the wire.

        Raises:
            TaskResultError: It does not fit.
        """
        try:
            return self._from_wire(wire)
        except ValidationError as exc:
            raise self._error(exc) from None

    def _from_wire(self, wire: object) -> object:
        # By names, as `to_wire` writes models, or by aliases, as others may.
        values: tuple[object] = self._validator.validate_python(
            (wire,), strict=False, by_alias=True, by_name=True
        )
        return values[0]

    def _error(self, exc: ValidationError) -> TaskResultError:
        found = exc.errors(include_url=False, include_context=False)
        return TaskResultError(
            f"{self._name}: "
            + "; ".join(
                f"{'.'.join(map(str, (self._what, *error['loc'][1:])))} is "
                f"{shown(error['input'])}, not {self._slot.expected}: {error['msg']}"
                for error in found
            )
        )


def _complete(schema: CoreSchema, definitions: dict[str, CoreSchema]) -> CoreSchema:
    if not definitions:
        return schema
    return core_schema.definitions_schema(schema, [*definitions.values()])
