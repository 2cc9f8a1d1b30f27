"""The parameters of a task's function: arguments are checked, sent and loaded by them."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TypeAlias

from celery.exceptions import SoftTimeLimitExceeded
from pydantic_core import (
    ArgsKwargs,
    CoreSchema,
    ErrorDetails,
    SchemaValidator,
    ValidationError,
    core_schema,
)
from pydantic_core.core_schema import ArgumentsParameter

from tomskit.celery._internals import pydantic_core as internals
from tomskit.celery._internals.pydantic_core import Node
from tomskit.celery._values.nesting import nesting_error
from tomskit.celery._values.parts import Difference, are_equal
from tomskit.celery._values.schemas import function_with, refuse, schema_of, visible, walk
from tomskit.celery._values.slots import Slot, is_about, misfit, misfit_on_the_wire, shown
from tomskit.celery._values.wire import NO_WIRE_FORM, to_whole_wire, to_wire
from tomskit.errors import TaskArgumentsError
from tomskit.lazily import cached_property

__all__ = ("Arguments", "Parameters", "parameters_of")

Arguments: TypeAlias = tuple[tuple[object, ...], dict[str, object]]
"""Positional and keyword arguments of a call."""


def parameters_of(function: Callable[..., object], *, bind: bool) -> list[inspect.Parameter]:
    """The parameters of a task's function that take the arguments of a call.

    Args:
        function: The function.
        bind: Whether the task is passed to it first. ``*args`` takes that and more.
    """
    parameters = [*inspect.signature(function).parameters.values()]
    has_own = bind and parameters and parameters[0].kind is not inspect.Parameter.VAR_POSITIONAL
    return parameters[1:] if has_own else parameters


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
        self._has_options = internals.has_options(self._schema)
        self._slots: dict[str, Slot] = {}
        self._positional: list[Slot] = []
        self._more_positional: Slot | None = None
        self._more_named: Slot | None = None
        for parameter in parameters:
            part = internals.schema_of_parameter(self._schema, parameter)
            nodes = [*walk(part, self._definitions)]
            refuse(name, f"parameter {parameter.name}", nodes)
            label, annotation = parameter.name, parameter.annotation
            self._add(parameter, Slot(label, annotation, visible(nodes), self._definitions))
            if parameter.kind is parameter.VAR_KEYWORD and self._has_options:
                # Of **options: Unpack[Options], each of which has an annotation.
                self._slots.update(self._slots_of(nodes[0]))
                self._more_named = None
        self.complete = self._validator(self._schema["arguments_schema"])
        slots = [*self._slots.values(), self._more_positional, self._more_named]
        self._converts_all = not any(slot is not None and slot.is_free for slot in slots)

    def _slots_of(self, options: Node) -> Iterator[tuple[str, Slot]]:
        hints = typing.get_type_hints(options[internals.CLS])
        for name, node in internals.fields_of(options).items():
            nodes = visible([*walk(node, self._definitions)])
            yield name, Slot(name, hints[name], nodes, self._definitions)

    def _add(self, parameter: inspect.Parameter, slot: Slot) -> None:
        if parameter.kind is parameter.VAR_POSITIONAL:
            self._more_positional = slot
        elif parameter.kind is parameter.VAR_KEYWORD:
            self._more_named = slot
        else:
            self._slots[parameter.name] = slot
            if parameter.kind is not parameter.KEYWORD_ONLY:
                self._positional.append(slot)

    @cached_property
    def incomplete(self) -> SchemaValidator:
        """Validates a call of which more arguments come later."""
        return self._validator([_optional(one) for one in self._schema["arguments_schema"]])

    @cached_property
    def without_first(self) -> SchemaValidator:
        """Validates a call whose first argument comes later, and stands as None."""
        parameters = [_optional(one) for one in self._schema["arguments_schema"]]
        if self._positional:
            parameters[0] = _with_schema(parameters[0], core_schema.any_schema())
        return self._validator(parameters)

    def _validator(self, parameters: list[ArgumentsParameter]) -> SchemaValidator:
        arguments = self._schema.copy()
        arguments["arguments_schema"] = parameters
        return internals.validator_of(arguments, self._definitions)

    def check(
        self, args: tuple[object, ...], kwargs: dict[str, object], validator: SchemaValidator
    ) -> Arguments:
        """The wire form of the arguments of a call.

        Raises:
            TaskArgumentsError: They do not fit, or would arrive as something else.
        """
        wire = self.to_wire(args, kwargs)
        try:
            return self._checked(args, kwargs, wire, validator)
        except TaskArgumentsError:
            # Without what was not set, a model may be taken for another member of a union.
            whole = self.to_wire(args, kwargs, convert=to_whole_wire)
            if whole == wire:
                raise
            return self._checked(args, kwargs, whole, validator)

    def _checked(
        self,
        args: tuple[object, ...],
        kwargs: dict[str, object],
        wire: Arguments,
        validator: SchemaValidator,
    ) -> Arguments:
        """The wire form, if what arrives for it is what was sent."""
        try:
            arrived = _from_wire(validator, ArgsKwargs(*wire))
        except ValidationError as exc:
            self._refuse_nesting(args, kwargs)
            refusal = _refusal(args, kwargs, validator)
            if refusal is None:
                # It fits, and its wire form does not.
                raise self._error(exc.errors(), (args, kwargs)) from None
            raise self._error(refusal.errors()) from None
        except Exception as exc:
            self._refuse_nesting(args, kwargs)
            raise self._failure(*wire, exc) from exc
        for name in kwargs.keys() - arrived[1].keys() if self._has_options else ():
            if name not in self._slots:
                raise TaskArgumentsError(
                    f"{self._name}: unexpected keyword argument {name}: {shown(kwargs[name])}"
                )
        equal: list[tuple[Slot, object, object]] = []
        compared: list[tuple[Slot, object, object]] = []
        for one in self._compared((args, kwargs), arrived):
            is_equal = one[0].equal_is_same and are_equal(one[1], one[2])
            (equal if is_equal else compared).append(one)
        refusal = _refusal(args, kwargs, validator) if equal else None
        if refusal is not None:
            # Equal, and not of the same type perhaps: 1.0 for an int.
            compared += equal
        found = [
            (*one, difference)
            for one in compared
            if (difference := one[0].difference(one[1], one[2])) is not None
        ]
        if found:
            raise self._differences(found, refusal or _refusal(args, kwargs, validator))
        return wire

    def _differences(
        self,
        found: Sequence[tuple[Slot, object, object, Difference]],
        refusal: ValidationError | None,
    ) -> TaskArgumentsError:
        errors: list[ErrorDetails] = [] if refusal is None else refusal.errors()
        texts: list[str] = []
        for slot, sent, received, difference in found:
            # What pydantic says of a value that is of a wrong type is more precise.
            of_slot = [
                error
                for error in errors
                if error["loc"]
                and self._slot(error["loc"][0]) is slot
                and is_about(error["loc"][1:], difference.path)
            ]
            if of_slot:
                texts.extend(map(self._sentence, of_slot))
            else:
                texts.append(slot.refusal(sent, received, difference))
        return TaskArgumentsError(f"{self._name}: {'; '.join(dict.fromkeys(texts))}")

    def _refuse_nesting(self, args: tuple[object, ...], kwargs: dict[str, object]) -> None:
        given: list[tuple[int | str, object]] = [*enumerate(args), *kwargs.items()]
        for where, value in given:
            slot = self._slot(where)
            error = nesting_error(str(where) if slot is None else slot.label, value)
            if error is not None:
                raise TaskArgumentsError(f"{self._name}: {error}")

    def check_follower(self, args: tuple[object, ...], kwargs: dict[str, object]) -> None:
        """Check the wire form of arguments that another task's result will come in front of.

        Raises:
            TaskArgumentsError: They do not fit.
        """
        try:
            _from_wire(self.without_first, ArgsKwargs((None, *args), kwargs))
        except ValidationError as exc:
            raise TaskArgumentsError(
                f"{self._error(exc.errors())}. It follows a task, whose result is its first argument: "
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
            raise self._error(exc.errors()) from None
        except SoftTimeLimitExceeded:
            raise
        except Exception as exc:
            raise self._failure(args, kwargs, exc) from exc

    def _failure(
        self, args: Sequence[object], kwargs: Mapping[str, object], error: Exception
    ) -> TaskArgumentsError:
        """What to raise where a function of the application's fails on the wire form of arguments."""
        given: list[tuple[int | str, object]] = [*enumerate(args), *kwargs.items()]
        failures = [
            failure
            for where, value in given
            if (slot := self._slot(where)) is not None
            and (failure := slot.failure(value)) is not None
        ]
        reason = f"its arguments cannot be read: {type(error).__qualname__}: {error}"
        return TaskArgumentsError(f"{self._name}: {'; '.join(failures) or reason}")

    def to_wire(
        self,
        args: Sequence[object],
        kwargs: Mapping[str, object],
        *,
        convert: Callable[[object], object] = to_wire,
    ) -> Arguments:
        """The wire form of arguments, which are not checked.

        Raises:
            TaskArgumentsError: A value has no wire form.
        """
        if self._converts_all:
            try:
                return (
                    tuple([convert(value) for value in args]),
                    {name: convert(value) for name, value in kwargs.items()},
                )
            except NO_WIRE_FORM:
                # Again below, to find out which argument it is.
                pass
        return (
            tuple(self._one_to_wire(index, value, convert) for index, value in enumerate(args)),
            {name: self._one_to_wire(name, value, convert) for name, value in kwargs.items()},
        )

    def _one_to_wire(
        self, where: int | str, value: object, convert: Callable[[object], object]
    ) -> object:
        slot = self._slot(where)
        if slot is not None and slot.is_free:
            return value
        try:
            return convert(value)
        except NO_WIRE_FORM as exc:
            label = str(where) if slot is None else slot.label
            reason = nesting_error(label, value)
            raise TaskArgumentsError(
                f"{self._name}: "
                + (reason or f"{label} is {shown(value)}, which cannot be sent: {exc}")
            ) from None

    def _slot(self, where: int | str) -> Slot | None:
        if isinstance(where, int):
            is_known = where < len(self._positional)
            return self._positional[where] if is_known else self._more_positional
        return self._slots.get(where) or self._more_named

    def _compared(
        self, sent: Arguments, arrived: Arguments
    ) -> Iterator[tuple[Slot, object, object]]:
        """Each argument that was given: its slot, and what was sent and what has arrived."""
        known = len(self._positional)
        yield from zip(self._positional, sent[0], arrived[0], strict=False)
        more = self._more_positional
        if more is not None and len(sent[0]) > known:
            for one, other in zip(sent[0][known:], arrived[0][known:], strict=True):
                yield more, one, other
        for name, value in sent[1].items():
            slot = self._slot(name)
            # With an alias, by pydantic's Field(alias=), it has arrived under another name.
            if slot is not None and name in arrived[1]:
                yield slot, value, arrived[1][name]

    def _error(
        self, errors: Sequence[ErrorDetails], fitting: Arguments | None = None
    ) -> TaskArgumentsError:
        """What to raise for what pydantic says, also of the wire form of arguments that fit."""
        sentences = (self._sentence(error, fitting) for error in errors)
        return TaskArgumentsError(f"{self._name}: {'; '.join(sentences)}")

    def _sentence(self, error: ErrorDetails, fitting: Arguments | None = None) -> str:
        kind, path, message, given = error["type"], error["loc"], error["msg"], error["input"]
        where = path[0] if path else 0
        slot = self._slot(where)
        if kind in internals.MISSING_ARGUMENT or (
            kind == internals.MISSING_FIELD and path[1:] == ()
        ):
            return f"{where if slot is None else slot.described} is missing"
        if kind == internals.REPEATED_ARGUMENT:
            return f"{where} is given twice"
        if kind in internals.UNEXPECTED_ARGUMENT or slot is None:
            if isinstance(where, str):
                return f"unexpected keyword argument {where}: {shown(given)}"
            return f"unexpected positional argument {where + 1}: {shown(given)}"
        name = slot.label if isinstance(where, int) else where
        label = ".".join(map(str, (name, *path[1:])))
        if fitting is None:
            return f"{label} is {misfit(given, slot.expected)}: {message}"
        args, kwargs = fitting
        value = args[where] if isinstance(where, int) else kwargs.get(where)
        of_wire = misfit_on_the_wire(given, slot.expected, value, path[1:])
        return f"{label} is {of_wire}: {message}"


def _refusal(
    args: tuple[object, ...], kwargs: dict[str, object], validator: SchemaValidator
) -> ValidationError | None:
    """What pydantic's strict mode says of arguments as they were given."""
    try:
        validator.validate_python(
            ArgsKwargs(args, kwargs), strict=True, by_alias=True, by_name=True
        )
    except ValidationError as exc:
        return exc
    except Exception:  # noqa: BLE001
        # Of a function of the application's.
        return None
    return None


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
