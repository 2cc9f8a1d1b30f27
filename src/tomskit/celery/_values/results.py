"""The result of a task's function: it is checked, sent and loaded by its annotation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import GenericAlias
from typing import Final

from celery.exceptions import SoftTimeLimitExceeded
from pydantic_core import ErrorDetails, ValidationError

from tomskit.celery._internals import pydantic_core as internals
from tomskit.celery._values.nesting import nesting_error
from tomskit.celery._values.plain import PLAIN
from tomskit.celery._values.schemas import refuse, schema_of, visible, walk
from tomskit.celery._values.slots import Slot, is_about, misfit, misfit_on_the_wire, shown
from tomskit.celery._values.wire import NO_WIRE_FORM, to_whole_wire, to_wire
from tomskit.errors import TaskResultError

__all__ = ("Result",)


_UNKNOWN: Final = object()


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
        self._slot = Slot(self._what, annotation, visible(nodes), definitions)
        self._validator = internals.validator_of(schema, definitions)
        self.plain: type | None = None
        """The type whose values need no conversion, if it is the annotation."""
        if isinstance(annotation, type) and annotation in PLAIN:
            self.plain = annotation

    def dump(self, value: object) -> object:
        """The wire form of what the function returned.

        Raises:
            TaskResultError: It does not fit, or would arrive as something else.
        """
        wire = self._to_wire(value, to_wire)
        try:
            return self._checked(value, wire)
        except TaskResultError:
            # Without what was not set, a model may be taken for another member of a union.
            whole = self._to_wire(value, to_whole_wire)
            if whole == wire:
                raise
            return self._checked(value, whole)

    def _to_wire(self, value: object, convert: Callable[[object], object]) -> object:
        try:
            return convert(value)
        except NO_WIRE_FORM as exc:
            reason = nesting_error(self._slot.label, value)
            raise TaskResultError(
                f"{self._name}: "
                + (reason or f"{self._what} is {shown(value)}, which cannot be sent: {exc}")
            ) from None

    def _checked(self, value: object, wire: object) -> object:
        """The wire form, if what arrives for it is what was returned."""
        try:
            arrived = self._from_wire(wire)
        except ValidationError as exc:
            reason = nesting_error(self._slot.label, value)
            if reason is not None:
                raise TaskResultError(f"{self._name}: {reason}") from None
            refusal = self._refusal(value)
            if refusal is None:
                # It fits, and its wire form does not.
                raise self._error(exc.errors(), value) from None
            raise self._error(refusal.errors()) from None
        except Exception as exc:
            raise self._failure(value, wire, exc) from exc
        difference = self._slot.difference(value, arrived)
        if difference is None:
            return wire
        refusal = self._refusal(value)
        errors = [
            error
            for error in ([] if refusal is None else refusal.errors())
            # What pydantic says of a value that is of a wrong type is more precise.
            if is_about(error["loc"][1:], difference.path)
        ]
        if errors:
            raise self._error(errors)
        text = self._slot.refusal(value, arrived, difference)
        raise TaskResultError(f"{self._name}: {text}")

    def _refusal(self, value: object) -> ValidationError | None:
        """What pydantic's strict mode says of a result as it was returned."""
        try:
            self._validator.validate_python((value,), strict=True)
        except ValidationError as exc:
            return exc
        except Exception:  # noqa: BLE001
            # Of a function of the application's.
            return None
        return None

    def load(self, wire: object) -> object:
        """What the function returned, from the wire.

        Raises:
            TaskResultError: It does not fit.
        """
        try:
            return self._from_wire(wire)
        except ValidationError as exc:
            raise self._error(exc.errors()) from None
        except SoftTimeLimitExceeded:
            raise
        except Exception as exc:
            raise self._failure(wire, wire, exc) from exc

    def _failure(self, value: object, wire: object, error: Exception) -> TaskResultError:
        """What to raise where a function of the application's fails on the wire form of a result."""
        failure = nesting_error(self._slot.label, value) or self._slot.failure(wire)
        reason = f"{self._what} cannot be read: {type(error).__qualname__}: {error}"
        return TaskResultError(f"{self._name}: {failure or reason}")

    def _from_wire(self, wire: object) -> object:
        # By names, as `to_wire` writes models, or by aliases, as others may.
        values: tuple[object] = self._validator.validate_python(
            (wire,), strict=False, by_alias=True, by_name=True
        )
        return values[0]

    def _error(self, errors: Sequence[ErrorDetails], value: object = _UNKNOWN) -> TaskResultError:
        """What to raise for what pydantic says, also of the wire form of a value that fits itself."""
        return TaskResultError(
            f"{self._name}: "
            + "; ".join(
                f"{'.'.join(map(str, (self._what, *error['loc'][1:])))} is "
                f"{self._misfit(error, value)}: {error['msg']}"
                for error in errors
            )
        )

    def _misfit(self, error: ErrorDetails, value: object) -> str:
        given, expected = error["input"], self._slot.expected
        if value is _UNKNOWN:
            return misfit(given, expected)
        return misfit_on_the_wire(given, expected, value, error["loc"][1:])
