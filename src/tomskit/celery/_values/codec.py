"""Annotations made true: the function gets, and its caller gets back, what they say.

Built with pydantic at a task's first use: to import 500 tasks must not take a second.
"""

from __future__ import annotations

import functools
import inspect
import keyword
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from enum import Enum
from typing import Any, Final, TypeAlias, cast

from pydantic import ConfigDict, PydanticUserError, Secret, SecretBytes, SecretStr, TypeAdapter
from pydantic_core import (
    ArgsKwargs,
    CoreSchema,
    SchemaError,
    SchemaValidator,
    ValidationError,
    core_schema,
)

from tomskit.celery._values.wire import (
    EXACT,
    SAME_CONTAINERS,
    SAME_KIND,
    Tolerance,
    arrives_as,
    to_wire,
)
from tomskit.errors import ConfigurationError, TaskArgumentsError, TaskResultError

__all__ = ("Arguments", "Codec")

Arguments: TypeAlias = tuple[tuple[object, ...], dict[str, object]]
"""Positional and keyword arguments of a call."""

_Node: TypeAlias = dict[str, Any]
"""A part of a schema of pydantic-core."""


class Codec:
    """Converts the arguments and the result of one function.

    Where a task is called, values become their wire form and have to be what a type checker would
    accept. Where it runs, they are made of whatever JSON holds, so plain Celery clients may send
    "2024-01-01" for a date.

    Args:
        function: The coroutine function. Without any annotation, nothing is converted.
        name: The task's name, for messages.
        bind: Whether the first parameter is the task.
    """

    def __init__(self, function: Callable[..., object], *, name: str, bind: bool) -> None:
        self._function = function
        self._name = name
        self._bind = bind
        # Whether a call's arguments fit and are on the wire as they are; until it is known what
        # they are, none do. Not behind a method of _Parameters: two calls less are a tenth of the
        # time that a small call takes all the way.
        self._are_plain: Callable[..., bool] = _never

    def prepare(self, *, result: bool) -> None:
        """Resolve the annotations.

        Raises:
            ConfigurationError: One cannot be resolved, or means something that cannot be sent.
        """
        _ = self._parameters
        if result:
            _ = self._result

    def check(self, args: tuple[object, ...], kwargs: dict[str, object]) -> Arguments:
        """The wire form of the arguments of a call.

        Raises:
            TaskArgumentsError: They do not fit, or would arrive as something else.
        """
        try:
            if self._are_plain(*args, **kwargs):
                return args, kwargs
        except TypeError:
            # Too many or too few of them.
            pass
        parameters = self._parameters
        if parameters is None:
            return args, kwargs
        return parameters.check(args, kwargs, parameters.complete)

    def check_partial(self, args: tuple[object, ...], kwargs: dict[str, object]) -> Arguments:
        """The same for a call whose first argument comes later, from another task.

        Raises:
            TaskArgumentsError: The others do not fit, or would arrive as something else.
        """
        parameters = self._parameters
        if parameters is None:
            return args, kwargs
        wire, wire_kwargs = parameters.check((None, *args), kwargs, parameters.without_first)
        return wire[1:], wire_kwargs

    def check_signature(
        self, args: tuple[object, ...], kwargs: dict[str, object]
    ) -> tuple[Arguments, bool]:
        """The wire form of a signature's arguments, and whether they are all of them.

        Raises:
            TaskArgumentsError: They do not fit, neither as all arguments nor as all but the first.
        """
        if self._parameters is None:
            return (args, kwargs), not self.misses_some(args, kwargs)
        try:
            return self.check(args, kwargs), True
        except TaskArgumentsError as exc:
            refusal = exc
        try:
            return self.check_partial(args, kwargs), False
        except TaskArgumentsError as exc:
            raise (exc if self.misses_some(args, kwargs) else refusal) from None

    def check_follower(self, args: tuple[object, ...], kwargs: dict[str, object]) -> None:
        """Check wire forms that another task's result will come in front of.

        Raises:
            TaskArgumentsError: They do not fit there.
        """
        parameters = self._parameters
        if parameters is not None:
            parameters.check_follower(args, kwargs)

    def misses_some(self, args: Sequence[object], kwargs: dict[str, object]) -> bool:
        """Whether a call with these arguments, in wire form, lacks others."""
        signature = inspect.signature(self._function)
        itself = [None] if self._bind else []
        try:
            signature.bind_partial(*itself, *args, **kwargs)
        except TypeError:
            # It has too many of them, or others.
            return False
        try:
            signature.bind(*itself, *args, **kwargs)
        except TypeError:
            return True
        return False

    def check_first(self, value: object) -> object:
        """The wire form of that first argument.

        Raises:
            TaskArgumentsError: It does not fit, or would arrive as something else.
        """
        parameters = self._parameters
        if parameters is None:
            return value
        return parameters.check((value,), {}, parameters.open)[0][0]

    def encode(self, args: Sequence[object], kwargs: dict[str, object]) -> Arguments:
        """The wire form of arguments some of which may be in wire form already.

        Raises:
            TaskArgumentsError: The function could not be given them.
        """
        parameters = self._parameters
        if parameters is None:
            return tuple(args), dict(kwargs)
        wire = parameters.to_wire(args, kwargs)
        parameters.load(*wire)
        return wire

    def encode_some(self, args: Sequence[object], kwargs: dict[str, object]) -> Arguments:
        """The same for a call of which more arguments come later: they are checked then.

        Raises:
            TaskArgumentsError: A value has no wire form.
        """
        parameters = self._parameters
        return (
            (tuple(args), dict(kwargs)) if parameters is None else parameters.to_wire(args, kwargs)
        )

    def load(self, args: tuple[object, ...], kwargs: dict[str, object]) -> Arguments:
        """The arguments for the function, from the wire.

        Raises:
            TaskArgumentsError: They do not fit.
        """
        try:
            if self._are_plain(*args, **kwargs):
                return args, kwargs
        except TypeError:
            pass
        parameters = self._parameters
        return (args, kwargs) if parameters is None else parameters.load(args, kwargs)

    def dump_result(self, value: object) -> object:
        """The wire form of what the function returned.

        Raises:
            TaskResultError: It does not fit, or would arrive as something else.
        """
        result = self._result
        return value if result is None or type(value) is result.plain else result.dump(value)

    def load_result(self, wire: object) -> object:
        """What the function returned, from the wire.

        Raises:
            TaskResultError: It does not fit.
        """
        result = self._result
        return wire if result is None or type(wire) is result.plain else result.load(wire)

    @functools.cached_property
    def _hints(self) -> dict[str, object]:
        function = inspect.unwrap(self._function)
        known = None
        if getattr(function, "__closure__", None):
            known = {**inspect.getclosurevars(function).nonlocals}
        try:
            return typing.get_type_hints(function, localns=known, include_extras=True)
        except (NameError, AttributeError, SyntaxError) as exc:
            raise ConfigurationError(
                f"The task {self._name} has an annotation that cannot be resolved ({exc}), and "
                "the worker needs it to convert the values. Import what it names at run time too, "
                "not under TYPE_CHECKING, and define it at the top of a module."
            ) from None
        except TypeError as exc:
            raise ConfigurationError(
                f"The task {self._name} has an annotation that is no type: {exc}"
            ) from None

    @functools.cached_property
    def _parameters(self) -> _Parameters | None:
        parameters = [*inspect.signature(self._function).parameters.values()]
        hints = self._hints
        resolved = [
            parameter.replace(annotation=hints.get(parameter.name, parameter.empty))
            for parameter in parameters[1 if self._bind else 0 :]
        ]
        if resolved and all(one.annotation is one.empty for one in resolved):
            return None
        built = _Parameters(self._name, resolved)
        self._are_plain = _plain_check(resolved)
        return built

    @functools.cached_property
    def _result(self) -> _Result | None:
        if self._hints.get("return", _NEVER) in {_NEVER, _NO_RETURN}:
            return None
        annotation = self._hints["return"]
        return _Result(self._name, annotation)


class _Slot:
    """A parameter or a result: its annotation, and what may arrive for what was sent."""

    def __init__(self, label: str, annotation: object, nodes: list[_Node]) -> None:
        self.label = label
        self.annotation = annotation
        self.is_free = annotation is inspect.Parameter.empty
        kinds = {cast("str", node["type"]) for node in nodes}
        # Equal values are of the same type then: 1.5 us instead of 8 for the seven arguments of
        # the benchmark.
        self.equal_is_same = kinds <= _ONE_TYPE_EACH
        # A tuple may stand for a Sequence, which arrives as a list; not for a list. And of what may
        # be of several types, none will do for another.
        is_abstract = any(
            node["type"] == "json-or-python" or node.get("strict") is False for node in nodes
        )
        is_one = kinds.isdisjoint({"any", "union", "tagged-union"})
        self._like = Tolerance(containers=is_abstract, scalars=True) if is_one else EXACT
        self._like_refused = EXACT if "any" in kinds else SAME_CONTAINERS

    @property
    def expected(self) -> str:
        """The annotation, as it is written in a program."""
        return inspect.formatannotation(self.annotation)

    def arrives(self, sent: object, strict: object, arrived: object, *, refused: bool) -> bool:
        """Whether what was sent arrives.

        Args:
            sent: The value where the task is called.
            strict: What pydantic's strict mode makes of it: stripped, say, if it is annotated so.
            arrived: The value where the task runs.
            refused: Whether strict mode refuses it. It may be right all the same: a bool for int.
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
            # Too deep for JSON, too.
            return False

    @property
    def described(self) -> str:
        """The name and the annotation, as in a parameter list."""
        return self.label if self.is_free else f"{self.label}: {self.expected}"

    def difference(self, sent: object, arrived: object) -> str:
        """What is to be said when it does not."""
        return f"{self.described} is {_shown(sent)} and would arrive as {_shown(arrived)}"


class _Parameters:
    """The parameters of a function, without ``self``."""

    def __init__(self, name: str, parameters: Sequence[inspect.Parameter]) -> None:
        self._name = name
        # Of any class: callbacks of link_error get Celery's request.
        schema, self._definitions = _schema_of(
            name, _stand_in(parameters), "its parameters", any_class=True
        )
        self._nodes = cast("list[_Node]", schema["arguments_schema"])
        self._schema = schema
        by_name = {cast("str", node["name"]): node for node in self._nodes}
        self._slots: dict[str, _Slot] = {}
        self._positional: list[_Slot] = []
        self._rest: dict[object, _Slot] = {}
        for parameter in parameters:
            node = by_name.get(parameter.name) or schema.get(_VARIABLE.get(parameter.kind, ""))
            nodes = [*_walk(node, self._definitions)]
            _refuse(name, f"parameter {parameter.name}", nodes)
            slot = _Slot(parameter.name, parameter.annotation, _visible(nodes))
            if parameter.kind in _VARIABLE:
                self._rest[parameter.kind] = slot
                continue
            self._slots[parameter.name] = slot
            if parameter.kind is not parameter.KEYWORD_ONLY:
                self._positional.append(slot)
        self.complete = self._validator(self._nodes)
        slots = [*self._slots.values(), *self._rest.values()]
        self._converts_all = not any(slot.is_free for slot in slots)

    @functools.cached_property
    def open(self) -> SchemaValidator:
        """For a call of which more arguments come later."""
        return self._validator([_optional(node) for node in self._nodes])

    @functools.cached_property
    def without_first(self) -> SchemaValidator:
        """For a call whose first argument is not there yet, and stands as None."""
        nodes = [_optional(node) for node in self._nodes]
        if self._positional:
            nodes[0] = {**self._nodes[0], "schema": core_schema.any_schema()}
        return self._validator(nodes)

    def _validator(self, nodes: list[_Node]) -> SchemaValidator:
        schema = cast("CoreSchema", {**self._schema, "arguments_schema": nodes})
        if self._definitions:
            schema = core_schema.definitions_schema(schema, [*self._definitions.values()])
        return SchemaValidator(schema)

    def check(
        self, args: tuple[object, ...], kwargs: dict[str, object], validator: SchemaValidator
    ) -> Arguments:
        refusal = None
        refused: list[_Slot | None] = []
        try:
            strict: Arguments = validator.validate_python(
                ArgsKwargs(args, kwargs), strict=True, by_alias=True, by_name=True
            )
        except ValidationError as exc:
            strict, refusal = (args, kwargs), exc
            refused = [self._slot(one["loc"][0]) for one in exc.errors() if one["loc"]]
        wire = self.to_wire(args, kwargs)
        try:
            arrived: Arguments = _validate(validator, ArgsKwargs(*wire))
        except ValidationError as exc:
            raise self._error(refusal or exc) from None
        differences = [
            (slot, slot.difference(sent, received))
            for slot, sent, expected, received in self._beside((args, kwargs), strict, arrived)
            # The first half is what most are: without the call.
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
        try:
            _validate(self.without_first, ArgsKwargs((None, *args), kwargs))
        except ValidationError as exc:
            raise TaskArgumentsError(
                f"{self._error(exc)}. It follows a task, whose result is its first argument: "
                "leave that out, or make it with .si() to ignore the result."
            ) from None

    def load(self, args: Sequence[object], kwargs: dict[str, object]) -> Arguments:
        try:
            loaded: Arguments = _validate(self.complete, ArgsKwargs(tuple(args), dict(kwargs)))
        except ValidationError as exc:
            raise self._error(exc) from None
        return loaded

    def to_wire(self, args: Sequence[object], kwargs: Mapping[str, object]) -> Arguments:
        if self._converts_all:
            try:
                return (
                    tuple([to_wire(value) for value in args]),
                    {name: to_wire(value) for name, value in kwargs.items()},
                )
            except _NO_WIRE_FORM:
                # Once more, to say which one it is.
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
        except _NO_WIRE_FORM as exc:
            label = where if slot is None else slot.label
            raise TaskArgumentsError(
                f"{self._name}: {label} is {_shown(value)}, which cannot be sent: {exc}"
            ) from None

    def _slot(self, where: int | str) -> _Slot | None:
        if isinstance(where, int):
            if where < len(self._positional):
                return self._positional[where]
            return self._rest.get(inspect.Parameter.VAR_POSITIONAL)
        return self._slots.get(where) or self._rest.get(inspect.Parameter.VAR_KEYWORD)

    def _beside(
        self, sent: Arguments, strict: Arguments, arrived: Arguments
    ) -> Iterator[tuple[_Slot, object, object, object]]:
        """One beside the other, for the arguments that were given."""
        known = len(self._positional)
        yield from zip(self._positional, sent[0], strict[0], arrived[0], strict=False)
        rest = self._rest.get(inspect.Parameter.VAR_POSITIONAL)
        if rest is not None and len(sent[0]) > known:
            for values in zip(*(one[0][known:] for one in (sent, strict, arrived)), strict=True):
                yield (rest, *values)
        for name, value in sent[1].items():
            slot = self._slot(name)
            # Under an alias, pydantic's Field(alias=), it has another name by now.
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
        if kind in _NOT_GIVEN:
            return f"{where if slot is None else slot.described} is missing"
        if kind == "multiple_argument_values":
            return f"{where} is given twice"
        if kind in _NOT_WANTED or slot is None:
            if isinstance(where, str):
                return f"there is no parameter {where}, which is {_shown(given)}"
            return f"argument {where + 1} is one too many, {_shown(given)}"
        name = slot.label if isinstance(where, int) else where
        label = ".".join(map(str, (name, *path[1:])))
        return f"{label} is {_shown(given)}, not {slot.expected}: {message}"


class _Result:
    """What a function returns."""

    def __init__(self, name: str, annotation: object) -> None:
        self._name = name
        # In a tuple, because a TypeAdapter of a model takes no configuration.
        described = cast("object", tuple.__class_getitem__(cast("type[object]", annotation)))
        schema, definitions = _schema_of(name, described, "its result", any_class=False)
        nodes = [*_walk(schema["items_schema"], definitions)]
        _refuse(name, "result", nodes)
        self._slot = _Slot("its result", annotation, _visible(nodes))
        if definitions:
            schema = {
                "type": "definitions",
                "schema": schema,
                "definitions": [*definitions.values()],
            }
        self._validator = SchemaValidator(cast("CoreSchema", schema))
        self.plain = cast("type[Any] | None", annotation if annotation in _PLAIN else None)

    def dump(self, value: object) -> object:
        refusal = None
        try:
            (strict,) = self._validator.validate_python((value,), strict=True)
        except ValidationError as exc:
            strict, refusal = value, exc
        try:
            wire = to_wire(value)
        except _NO_WIRE_FORM as exc:
            raise TaskResultError(
                f"{self._name}: its result is {_shown(value)}, which cannot be sent: {exc}"
            ) from None
        try:
            (arrived,) = _validate(self._validator, (wire,))
        except ValidationError as exc:
            raise self._error(refusal or exc) from None
        if not self._slot.arrives(value, strict, arrived, refused=refusal is not None):
            if refusal is not None:
                raise self._error(refusal)
            raise TaskResultError(f"{self._name}: {self._slot.difference(value, arrived)}")
        return wire

    def load(self, wire: object) -> object:
        try:
            (value,) = _validate(self._validator, (wire,))
        except ValidationError as exc:
            raise self._error(exc) from None
        return value

    def _error(self, exc: ValidationError) -> TaskResultError:
        found = exc.errors(include_url=False, include_context=False)
        return TaskResultError(
            f"{self._name}: "
            + "; ".join(
                f"{'.'.join(map(str, ('its result', *error['loc'][1:])))} is "
                f"{_shown(error['input'])}, not {self._slot.expected}: {error['msg']}"
                for error in found
            )
        )


def _validate(validator: SchemaValidator, value: object) -> Any:
    # By names, as `to_wire` writes models, or by aliases, as others may.
    return validator.validate_python(value, strict=False, by_alias=True, by_name=True)


def _never(*_args: object, **_kwargs: object) -> bool:
    return False


def _shown(value: object) -> str:
    try:
        text = repr(value)
    except Exception:  # noqa: BLE001
        # It is the value of somebody else, and there is another error to tell of.
        text = "a value that cannot be shown"
    if len(text) > _SHOWN:
        text = f"{text[: _SHOWN - 3]}..."
    return f"{text} ({type(value).__qualname__})"


# Schemas


def _stand_in(parameters: Sequence[inspect.Parameter]) -> Callable[..., object]:
    """A function with these parameters, whose annotations are resolved and which has no self."""

    def call() -> None: ...

    annotated = [
        parameter.replace(annotation=Any) if parameter.annotation is parameter.empty else parameter
        for parameter in parameters
    ]
    call.__signature__ = inspect.Signature(annotated)  # type: ignore[attr-defined]  # pyright: ignore[reportFunctionMemberAccess]
    call.__annotations__ = {parameter.name: parameter.annotation for parameter in annotated}
    return call


def _schema_of(
    name: str, described: object, what: str, *, any_class: bool
) -> tuple[_Node, dict[str, CoreSchema]]:
    config = ConfigDict(arbitrary_types_allowed=any_class)
    try:
        adapter = TypeAdapter(cast("type[object]", described), config=config)
    except (PydanticUserError, SchemaError, TypeError, NameError, RuntimeError) as exc:
        reason = str(exc).partition("\n")[0]
        raise ConfigurationError(
            f"The task {name} cannot be used, because pydantic does not understand {what}: "
            f"{reason} Use a model, a dataclass or a TypedDict, or send what identifies it."
        ) from None
    schema = cast("_Node", adapter.core_schema)
    _reveal_members(schema)
    definitions: dict[str, CoreSchema] = {}
    if schema["type"] == "definitions":
        definitions = {cast("str", cast("_Node", one)["ref"]): one for one in schema["definitions"]}
        schema = schema["schema"]
    return schema["arguments_schema"] if schema["type"] == "call" else schema, definitions


def _optional(node: _Node) -> _Node:
    schema = node["schema"]
    if schema["type"] == "default":
        return node
    return {**node, "schema": core_schema.with_default_schema(schema, default=None)}


def _walk(part: object, definitions: Mapping[str, CoreSchema]) -> Iterator[_Node]:
    """Every node of a schema, each definition once."""
    seen: set[str] = set()
    parts = [part]
    while parts:
        part = parts.pop()
        if isinstance(part, (list, tuple)):
            parts.extend(cast("list[object]", part))
        if not isinstance(part, dict):
            continue
        node = cast("_Node", part)
        kind = node.get("type")
        if isinstance(kind, str):
            yield node
        if kind == "definition-ref" and node["schema_ref"] not in seen:
            seen.add(node["schema_ref"])
            parts.append(definitions.get(node["schema_ref"]))
        parts.extend(value for key, value in node.items() if key not in _NO_SCHEMAS)


def _has_hidden_members(node: _Node) -> bool:
    """Whether a Literal has members of an enum that are not equal to their values."""
    return any(
        isinstance(one, Enum) and not isinstance(one, (str, int))
        for one in node.get("expected", ())
    )


def _reveal_members(part: object) -> None:
    """Let such a Literal take the value of a member for the member."""
    if isinstance(part, (list, tuple)):
        for item in cast("list[object]", part):
            _reveal_members(item)
    # The schema of a model is the model's own, for everybody.
    if not isinstance(part, dict) or cast("_Node", part).get("type") == "model":
        return
    node = cast("_Node", part)
    if node.get("type") == "literal" and _has_hidden_members(node):
        expected = cast("list[object]", node["expected"])
        members = {one.value: one for one in expected if isinstance(one, Enum)}
        known = {value: one for value, one in members.items() if value not in expected}

        def member(value: object) -> object:
            try:
                return known.get(value, value)
            except TypeError:
                return value

        literal = cast("CoreSchema", {**node, "metadata": {"revealed": True}})
        node.clear()
        node.update(core_schema.no_info_before_validator_function(member, literal))
        return
    for key, value in node.items():
        if key not in _NO_SCHEMAS:
            _reveal_members(value)


def _visible(nodes: list[_Node]) -> list[_Node]:
    """Without what is inside the types that pydantic puts together, such as Path."""
    hidden = {
        id(inner)
        for node in nodes
        if node["type"] == "lax-or-strict"
        for part in ("lax_schema", "strict_schema")
        for inner in _walk(node[part], {})
    }
    return [node for node in nodes if id(node) not in hidden]


def _refuse(name: str, what: str, nodes: list[_Node]) -> None:
    for node in nodes:
        kind = node["type"]
        if kind in _CANNOT_TRAVEL:
            raise ConfigurationError(
                f"The task {name} cannot be used: {what} is annotated as {_CANNOT_TRAVEL[kind]}"
            )
        if _has_hidden_members(node) and not node.get("metadata"):
            raise ConfigurationError(
                f"The task {name} cannot be used: {what} has a model with a Literal of enum "
                "members, which pydantic does not find by their values. Annotate the enum."
            )
        if secret := _secret(node):
            raise ConfigurationError(
                f"The task {name} cannot be used: {what} has a {secret}, which is written as "
                "asterisks. Send what names the secret, and let the worker look it up."
            )


def _secret(node: _Node) -> str | None:
    cls, function = node.get("cls"), node.get("function")
    if isinstance(cls, type) and issubclass(cls, (SecretBytes, SecretStr)):
        return cls.__name__
    # Of a Secret[T] only its functions are in the schema.
    owner = str(getattr(function, "__qualname__", "")).partition(".")[0]
    return owner if owner == Secret.__name__ else None


def _plain_check(parameters: Sequence[inspect.Parameter]) -> Callable[..., bool]:
    """Whether a call's arguments are of the plain types that the parameters want.

    A function with the same parameters, because to call it takes 0.13 us where pydantic takes 0.3
    and a loop over the arguments as much. It is asked on both sides of every call.
    """
    names = {parameter.name for parameter in parameters}
    if not (
        names.isdisjoint({"type", *_PLAIN.values()})
        and all(name.isidentifier() and not keyword.iskeyword(name) for name in names)
        and all(
            parameter.kind not in _VARIABLE and parameter.annotation in _PLAIN
            for parameter in parameters
        )
    ):
        return _never
    namespace = {_PLAIN[kind]: kind for kind in _PLAIN}
    header = inspect.Signature(
        [
            parameter.replace(annotation=parameter.empty, default=parameter.empty)
            if parameter.default is parameter.empty
            else parameter.replace(annotation=parameter.empty, default=parameter.annotation())
            for parameter in parameters
        ]
    )
    tests = [f"type({p.name}) is {_PLAIN[p.annotation]}" for p in parameters]
    source = f"lambda {str(header)[1:-1]}: {' and '.join(tests) or True}"
    # Nothing but names that Python has accepted as parameters, and literals of ours.
    return cast("Callable[..., bool]", eval(source, namespace))  # noqa: S307


_SHOWN: Final = 100
_NO_WIRE_FORM: Final = (TypeError, ValueError, RecursionError)
"""What pydantic says of circles is a ValueError."""
_VARIABLE: Final[Mapping[object, str]] = {
    inspect.Parameter.VAR_POSITIONAL: "var_args_schema",
    inspect.Parameter.VAR_KEYWORD: "var_kwargs_schema",
}
_NEVER: Final = cast("object", typing.Never)
_NO_RETURN: Final = cast("object", typing.NoReturn)
_PLAIN: Final[Mapping[object, str]] = {
    int: "int",
    str: "str",
    bool: "bool",
    float: "float",
    type(None): "NoneType",
}
"""The types that JSON has; NaN is the serializer's business."""
_ONE_TYPE_EACH: Final = frozenset(
    {
        *("int", "str", "float", "bool", "none", "bytes", "datetime", "date", "time", "timedelta"),
        *("decimal", "uuid", "enum", "literal", "list", "set", "frozenset", "tuple", "dict"),
        *("nullable", "default"),
    }
)
_CANNOT_TRAVEL: Final = {
    "callable": "a function, which cannot be sent: send its name, or a task's signature.",
    "generator": (
        "an Iterable, which pydantic would convert only while the function runs: annotate it as a "
        "Sequence, a Set or a list."
    ),
    "is-subclass": "a class, which cannot be sent: send its name.",
}
_NO_SCHEMAS: Final = frozenset(
    {"metadata", "serialization", "default", "default_factory", "expected", "members", "config"}
)
_NOT_GIVEN: Final = frozenset(
    {"missing_argument", "missing_keyword_only_argument", "missing_positional_only_argument"}
)
_NOT_WANTED: Final = frozenset({"unexpected_keyword_argument", "unexpected_positional_argument"})
