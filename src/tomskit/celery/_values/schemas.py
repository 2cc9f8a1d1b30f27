"""The schemas that pydantic makes of annotations: how they are made, read and refused."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, cast

from pydantic import (
    BaseModel,
    ConfigDict,
    PydanticUserError,
    Secret,
    SecretBytes,
    SecretStr,
    TypeAdapter,
)
from pydantic_core import CoreSchema, SchemaError

from tomskit.celery._internals import pydantic_core as internals
from tomskit.celery._internals.pydantic_core import Node, is_node, items_of
from tomskit.celery._values.members import accept_wire_forms
from tomskit.celery._values.models import with_unset_kept
from tomskit.errors import ConfigurationError

__all__ = ("function_with", "refuse", "schema_of", "visible", "walk")


def schema_of(
    name: str, annotation: object, what: str, *, any_class: bool
) -> tuple[CoreSchema, dict[str, CoreSchema]]:
    """The schema of an annotation, and the definitions that it refers to.

    Args:
        name: The task's name.
        annotation: The annotation; or a function, for the schema of its arguments.
        what: What is annotated, for messages.
        any_class: Whether classes that pydantic does not know are allowed.

    Raises:
        ConfigurationError: pydantic has no schema for it.
    """
    config = ConfigDict(arbitrary_types_allowed=any_class)
    try:
        adapter = TypeAdapter(cast("type[object]", annotation), config=config)
    except (PydanticUserError, SchemaError, TypeError, NameError, RuntimeError) as exc:
        # Of a SchemaError only the last line says what is wrong.
        lines = str(exc).splitlines() or [repr(exc)]
        reason = (
            lines[-1 if isinstance(exc, SchemaError) else 0].strip().removeprefix("SchemaError: ")
        )
        raise ConfigurationError(
            f"The task {name} cannot be used, because pydantic does not understand {what}: "
            f"{reason.rstrip('.')}. Use a model, a dataclass or a TypedDict, or send an identifier."
        ) from None
    # A copy: the schema of a model is the model's own, for everybody.
    schema = with_unset_kept(adapter.core_schema)
    accept_wire_forms(schema)
    return internals.unpacked(internals.as_schema(schema))


def function_with(parameters: Sequence[inspect.Parameter]) -> Callable[..., object]:
    """A function with these parameters, whose annotations are resolved and which has no self."""

    def call() -> None: ...

    annotated = [
        parameter.replace(annotation=Any) if parameter.annotation is parameter.empty else parameter
        for parameter in parameters
    ]
    call.__signature__ = inspect.Signature(annotated)  # type: ignore[attr-defined]  # pyright: ignore[reportFunctionMemberAccess]
    call.__annotations__ = {parameter.name: parameter.annotation for parameter in annotated}
    return call


def walk(part: object, definitions: Mapping[str, object]) -> Iterator[Node]:
    """Every node of a schema, each definition once."""
    seen: set[str] = set()
    parts = [part]
    while parts:
        part = parts.pop()
        parts.extend(items_of(part))
        if not is_node(part):
            continue
        kind = part.get(internals.TYPE)
        if isinstance(kind, str):
            yield part
        if kind == internals.DEFINITION_REF:
            name = str(part[internals.SCHEMA_REF])
            if name not in seen:
                seen.add(name)
                parts.append(definitions.get(name))
        parts.extend(internals.children_of(part))


def visible(nodes: Sequence[Node]) -> list[Node]:
    """Without what is inside the types that pydantic assembles, such as Path."""
    hidden = {
        id(inner)
        for node in nodes
        if node[internals.TYPE] == internals.LAX_OR_STRICT
        for key in (internals.LAX_SCHEMA, internals.STRICT_SCHEMA)
        for inner in walk(node[key], {})
    }
    return [node for node in nodes if id(node) not in hidden]


def refuse(name: str, what: str, nodes: Sequence[Node]) -> None:
    """Refuse annotations whose values cannot be sent.

    Args:
        name: The task's name.
        what: What is annotated, for the message.
        nodes: Every node of the annotation's schema.

    Raises:
        ConfigurationError: There is one.
    """
    for node in nodes:
        kind = node[internals.TYPE]
        if kind in _CANNOT_BE_SENT:
            raise ConfigurationError(
                f"The task {name} cannot be used: {what} is annotated as {_CANNOT_BE_SENT[kind]}"
            )
        if internals.is_of_type(node, internals.MODEL) and node.get(internals.CLS) is BaseModel:
            raise ConfigurationError(
                f"The task {name} cannot be used: {what} is annotated as BaseModel, which has no "
                "fields. Annotate the model's own class, or a union of the classes that it may be."
            )
        if secret := _secret_in(node):
            raise ConfigurationError(
                f"The task {name} cannot be used: {what} has a {secret}, which is sent as "
                "asterisks. Send the secret's name, and let the worker look it up."
            )


def _secret_in(node: Node) -> str | None:
    cls, function = node.get(internals.CLS), node.get(internals.FUNCTION)
    if isinstance(cls, type) and issubclass(cls, (SecretBytes, SecretStr)):
        return cls.__name__
    # Of a Secret[T] only its functions are in the schema.
    owner = str(getattr(function, "__qualname__", "")).partition(".")[0]
    return owner if owner == Secret.__name__ else None


_CANNOT_BE_SENT: Final[Mapping[object, str]] = {
    internals.CALLABLE: ("a function, which cannot be sent: send its name, or a task's signature."),
    internals.GENERATOR: (
        "an Iterable, which pydantic would convert only while the function runs: annotate it as a "
        "Sequence, a Set or a list."
    ),
    internals.IS_SUBCLASS: "a class, which cannot be sent: send its name.",
}
