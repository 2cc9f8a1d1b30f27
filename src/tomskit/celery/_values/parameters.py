"""The parameters of a task's function: arguments are checked, sent and loaded by them."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Iterator, Mapping, Sequence
from typing import TypeAlias

from pydantic_core import ArgsKwargs, CoreSchema, SchemaValidator, ValidationError, core_schema
from pydantic_core.core_schema import ArgumentsParameter

from tomskit.celery._internals import pydantic_core as internals
from tomskit.celery._values.schemas import function_with, refuse, schema_of, visible, walk
from tomskit.celery._values.slots import Slot, shown
from tomskit.celery._values.wire import NO_WIRE_FORM, to_wire
from tomskit.errors import TaskArgumentsError

__all__ = ("Arguments", "Parameters")

Arguments: TypeAlias = tuple[tuple[object, ...], dict[str, object]]
"""Positional and keyword arguments of a call."""


class Parameters:
    """The parameters of a function, without ``self``.

    Args:
        name: The task's name, for messages.
        parameters: The function's, with their annotations resolved.

    Raises:
        ConfigurationError: One of them is annotated as something that cannot be sent.
    """

    def __init__(self, name: str, parameters: Sequence[inspect.Parameter]) -> None:
        self._name = name
        # Of any class: callbacks of link_error get Celery's request.
        schema, self._definitions = schema_of(
            name, function_with(parameters), "its parameters", any_class=True
        )
        self._schema = internals.arguments_of(schema)
        self._slots: dict[str, Slot] = {}
        self._positional: list[Slot] = []
        self._more_positional: Slot | None = None
        self._more_named: Slot | None = None
        for parameter in parameters:
            part = internals.schema_of_parameter(self._schema, parameter)
            nodes = [*walk(part, self._definitions)]
            refuse(name, f"parameter {parameter.name}", nodes)
            self._add(parameter, Slot(parameter.name, parameter.annotation, visible(nodes)))
        self.complete = self._validator(self._schema["arguments_schema"])
        slots = [*self._slots.values(), self._more_positional, self._more_named]
        self._converts_all = not any(slot is not None and slot.is_free for slot in slots)

    def _add(self, parameter: inspect.Parameter, slot: Slot) -> None:
        if parameter.kind is parameter.VAR_POSITIONAL:
            self._more_positional = slot
        elif parameter.kind is parameter.VAR_KEYWORD:
            self._more_named = slot
        else:
            self._slots[parameter.name] = slot
            if parameter.kind is not parameter.KEYWORD_ONLY:
                self._positional.append(slot)

    @functools.cached_property
    def incomplete(self) -> SchemaValidator:
        """Validates a call of which more arguments come later."""
        return self._validator([_optional(one) for one in self._schema["arguments_schema"]])

    @functools.cached_property
    def without_first(self) -> SchemaValidator:
        """Validates a call whose first argument comes later, and stands as None."""
        parameters = [_optional(one) for one in self._schema["arguments_schema"]]
        if self._positional:
            parameters[0] = _with_schema(parameters[0], core_schema.any_schema())
        return self._validator(parameters)

    def _validator(self, parameters: list[ArgumentsParameter]) -> SchemaValidator:
        arguments = self._schema.copy()
        arguments["arguments_schema"] = parameters
        if not self._definitions:
            return SchemaValidator(arguments)
        definitions = [*self._definitions.values()]
        return SchemaValidator(core_schema.definitions_schema(arguments, definitions))

    def check(
        self, args: tuple[object, ...], kwargs: dict[str, object], validator: SchemaValidator
    ) -> Arguments:
        """The wire form of the arguments of a call.

        Raises:
            TaskArgumentsError: They do not fit, or would arrive as something else.
        """
        refusal = None
        refused: list[Slot | None] = []
        try:
            strict: Arguments = validator.validate_python(
                ArgsKwargs(args, kwargs), strict=True, by_alias=True, by_name=True
            )
        except ValidationError as exc:
            strict, refusal = (args, kwargs), exc
            refused = [self._slot(one["loc"][0]) for one in exc.errors() if one["loc"]]
        wire = self.to_wire(args, kwargs)
        try:
            arrived = _from_wire(validator, ArgsKwargs(*wire))
        except ValidationError as exc:
            raise self._error(refusal or exc) from None
        differences = [
            (slot, slot.difference(sent, received))
            for slot, sent, expected, received in self._compared((args, kwargs), strict, arrived)
            # The first half holds for most, and saves the call.
            if not (refusal is None and slot.equal_is_same and sent == received)
            and not slot.arrives(sent, expected, received, refused=slot in refused)
        ]
        if differences:
            if refusal is not None and all(slot in refused for slot, _ in differences):
                raise self._error(refusal)
            texts = "; ".join(text for _, text in differences)
            raise TaskArgumentsError(f"{self._name}: {texts}")
        return wire

    def check_follower(self, args: tuple[object, ...], kwargs: dict[str, object]) -> None:
        """Check the wire form of arguments that another task's result will come in front of.

        Raises:
            TaskArgumentsError: They do not fit.
        """
        try:
            _from_wire(self.without_first, ArgsKwargs((None, *args), kwargs))
        except ValidationError as exc:
            raise TaskArgumentsError(
                f"{self._error(exc)}. It follows a task, whose result is its first argument: "
                "leave that argument out, or use .si() to ignore the result."
            ) from None

    def load(self, args: Sequence[object], kwargs: Mapping[str, object]) -> Arguments:
        """The arguments for the function, from the wire.

        Raises:
            TaskArgumentsError: They do not fit.
        """
        try:
            return _from_wire(self.complete, ArgsKwargs(tuple(args), dict(kwargs)))
        except ValidationError as exc:
            raise self._error(exc) from None

    def to_wire(self, args: Sequence[object], kwargs: Mapping[str, object]) -> Arguments:
        """The wire form of arguments, which are not checked.

        Raises:
            TaskArgumentsError: A value has no wire form.
        """
        if self._converts_all:
            try:
                return (
                    tuple([to_wire(value) for value in args]),
                    {name: to_wire(value) for name, value in kwargs.items()},
                )
            except NO_WIRE_FORM:
                # Again below, to find out which argument it is.
                pass
        return (
            tuple(self._one_to_wire(index, value) for index, value in enumerate(args)),
            {name: self._one_to_wire(name, value) for name, value in kwargs.items()},
        )

    def _one_to_wire(self, where: int | str, value: object) -> object:
        slot = self._slot(where)
        if slot is not None and slot.is_free:
            return value
        try:
            return to_wire(value)
        except NO_WIRE_FORM as exc:
            label = where if slot is None else slot.label
            raise TaskArgumentsError(
                f"{self._name}: {label} is {shown(value)}, which cannot be sent: {exc}"
            ) from None

    def _slot(self, where: int | str) -> Slot | None:
        if isinstance(where, int):
            is_known = where < len(self._positional)
            return self._positional[where] if is_known else self._more_positional
        return self._slots.get(where) or self._more_named

    def _compared(
        self, sent: Arguments, strict: Arguments, arrived: Arguments
    ) -> Iterator[tuple[Slot, object, object, object]]:
        """Each argument that was given: its slot and its three values, for `Slot.arrives`."""
        known = len(self._positional)
        yield from zip(self._positional, sent[0], strict[0], arrived[0], strict=False)
        more = self._more_positional
        if more is not None and len(sent[0]) > known:
            for values in zip(*(one[0][known:] for one in (sent, strict, arrived)), strict=True):
                yield (more, *values)
        for name, value in sent[1].items():
            slot = self._slot(name)
            # With an alias, by pydantic's Field(alias=), it has arrived under another name.
            if slot is not None and name in arrived[1]:
                yield slot, value, strict[1][name], arrived[1][name]

    def _error(self, exc: ValidationError) -> TaskArgumentsError:
        found = exc.errors(include_url=False, include_context=False)
        return TaskArgumentsError(
            f"{self._name}: "
            + "; ".join(self._sentence(e["type"], e["loc"], e["msg"], e["input"]) for e in found)
        )

    def _sentence(self, kind: str, path: tuple[int | str, ...], message: str, given: object) -> str:
        where = path[0] if path else 0
        slot = self._slot(where)
        if kind in internals.MISSING_ARGUMENT:
            return f"{where if slot is None else slot.described} is missing"
        if kind == internals.REPEATED_ARGUMENT:
            return f"{where} is given twice"
        if kind in internals.UNEXPECTED_ARGUMENT or slot is None:
            if isinstance(where, str):
                return f"unexpected keyword argument {where}: {shown(given)}"
            return f"unexpected positional argument {where + 1}: {shown(given)}"
        name = slot.label if isinstance(where, int) else where
        label = ".".join(map(str, (name, *path[1:])))
        return f"{label} is {shown(given)}, not {slot.expected}: {message}"


def _from_wire(validator: SchemaValidator, wire: ArgsKwargs) -> Arguments:
    # By names, as `to_wire` writes models, or by aliases, as others may.
    arguments: Arguments = validator.validate_python(
        wire, strict=False, by_alias=True, by_name=True
    )
    return arguments


def _optional(parameter: ArgumentsParameter) -> ArgumentsParameter:
    schema = parameter["schema"]
    if schema["type"] == "default":
        return parameter
    return _with_schema(parameter, core_schema.with_default_schema(schema, default=None))


def _with_schema(parameter: ArgumentsParameter, schema: CoreSchema) -> ArgumentsParameter:
    changed = parameter.copy()
    changed["schema"] = schema
    return changed
