"""pydantic-core: schemas, which it documents for those who write them, and which are read here.

The keys of nodes: `type`, `schema_ref`, `strict`, `expected`, `metadata`, `cls`, `function`, \
`lax_schema`, `strict_schema`
    For: finding in a task's annotations what cannot be sent, and what is compared how strictly.
    When it is missing: `type` and the keys of definitions: a task cannot be used, with a KeyError.
    The others: a SecretStr is sent as asterisks, or a Literal of enum members refuses its values.

The types of nodes: `any`, `union`, `json-or-python`, `lax-or-strict`, `definition-ref`, `model`, \
`literal`, `callable`, `generator`, `is-subclass`
    For: the same.
    When it is missing: functions and classes are refused when a task is called rather than when its
    worker starts; a tuple for a Sequence is refused; unions are compared less strictly.

The types of errors: `missing_argument`, `unexpected_keyword_argument`, \
`unexpected_positional_argument`, `multiple_argument_values`
    For: messages that name the argument as its caller wrote it.
    When it is missing: the message is pydantic's own.

`__pydantic_fields__`, `__pydantic_serializer__`, `__pydantic_generic_metadata__`, \
`__pydantic_extra__` and `__pydantic_private__` of models
    For: sending a model under the names of its fields, and comparing what arrives with it.
    When it is missing: sending a model raises AttributeError.

`__pydantic_config__` of pydantic's dataclasses
    For: knowing whether attributes that are not fields would be lost.
    When it is missing: they are lost silently.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Final, TypeAlias, TypeGuard

from pydantic_core import CoreSchema
from pydantic_core.core_schema import ArgumentsSchema
from typing_extensions import TypeIs

Node: TypeAlias = dict[str, object]
"""A part of a schema: a dict whose key "type" names its kind."""


# Keys of nodes

TYPE: Final = "type"
"""The kind of the node. Missing: `unpacked` raises KeyError, and no task can be used."""
SCHEMA_REF: Final = "schema_ref"
"""The definition that a node refers to. Missing: KeyError for a task with a recursive type."""
STRICT: Final = "strict"
"""False for a Mapping, of any class. Missing: an OrderedDict for a Mapping is refused."""
EXPECTED: Final = "expected"
"""The members of a Literal. Missing: Literals of enum members refuse what arrives for a member."""
METADATA: Final = "metadata"
"""Free for anybody: marks Literals that take values for members. Missing: these are refused."""
CLS: Final = "cls"
"""The class of a SecretStr or SecretBytes. Missing: they are sent, as asterisks."""
FUNCTION: Final = "function"
"""The validator by which a Secret[T] is known. Missing: it is sent, as asterisks."""
LAX_SCHEMA: Final = "lax_schema"
"""One of the two alternatives of a node of type `LAX_OR_STRICT`. Missing: KeyError at first use."""
STRICT_SCHEMA: Final = "strict_schema"
"""The other one."""
KEYS_WITHOUT_SCHEMAS: Final = frozenset(
    {METADATA, EXPECTED, "serialization", "default", "default_factory", "members", "config"}
)
"""Keys whose values hold no nodes. A new one: values of the application may be taken for nodes."""


# Types of nodes, as the key "type" has them

ANY: Final = "any"
"""Any and object. Missing: what changes its type under Any is compared less strictly."""
UNIONS: Final = frozenset({"union", "tagged-union"})
"""Unions. Missing: a value may arrive as another member of the union, if the two are equal."""
JSON_OR_PYTHON: Final = "json-or-python"
"""A Sequence, among others. Missing: a tuple for a Sequence is refused."""
LAX_OR_STRICT: Final = "lax-or-strict"
"""Types that pydantic assembles, such as Path. Missing: their parts are taken for annotations."""
DEFINITION_REF: Final = "definition-ref"
"""A reference to a definition. Missing: what recursive types hold is not checked for refusals."""
MODEL: Final = "model"
"""A model, which owns its schema. Missing: Literals in models are changed for everybody."""
LITERAL: Final = "literal"
"""A Literal. Missing: as with `EXPECTED`."""
CALLABLE: Final = "callable"
"""A Callable, which is refused. Missing: tasks fail at their calls, not at their first use."""
GENERATOR: Final = "generator"
"""An Iterable, which is refused. Missing: as with `CALLABLE`."""
IS_SUBCLASS: Final = "is-subclass"
"""A type[T], which is refused. Missing: as with `CALLABLE`."""
ONE_TYPE_EACH: Final = frozenset(
    {
        *("int", "str", "float", "bool", "none", "bytes", "datetime", "date", "time", "timedelta"),
        *("decimal", "uuid", "enum", "literal", "list", "set", "frozenset", "tuple", "dict"),
        *("nullable", "default"),
    }
)
"""Nodes that accept one type only, so that equal values are of the same type.

Missing: such values are compared part by part, which is slower. One that accepts more types than
today: a value may arrive as another type.
"""


# Types of errors, as ValidationError has them

MISSING_ARGUMENT: Final = frozenset(
    {"missing_argument", "missing_keyword_only_argument", "missing_positional_only_argument"}
)
"""An argument is not given. Missing: the message is pydantic's own."""
UNEXPECTED_ARGUMENT: Final = frozenset(
    {"unexpected_keyword_argument", "unexpected_positional_argument"}
)
"""There is no such parameter. Missing: as above."""
REPEATED_ARGUMENT: Final = "multiple_argument_values"
"""An argument is given twice. Missing: as above."""


# Attributes

MODEL_ATTRIBUTES: Final[Mapping[str, str]] = {
    "__pydantic_fields__": (
        "The fields by name: what else an instance holds, a cached_property say, is not compared."
    ),
    "__pydantic_serializer__": (
        "Writes a model by its field names, which are read where it arrives."
    ),
    "__pydantic_generic_metadata__": (
        "The model without its type arguments: Response(...) is a Response[int] where that fits."
    ),
    "__pydantic_extra__": 'Values of extra="allow", which are sent and compared as fields are.',
    "__pydantic_private__": "Private attributes: not sent, so they must have their defaults.",
}
"""The attributes of models and their classes. Missing: to send a model raises AttributeError."""


def dataclass_extra(kind: type) -> object:
    """The setting "extra" of a dataclass of pydantic, or None.

    Where ``__pydantic_config__`` is missing, attributes that are not fields are lost silently.
    """
    config: Mapping[str, object] = getattr(kind, "__pydantic_config__", None) or {}
    return config.get("extra")


def is_node(part: object) -> TypeIs[Node]:
    """Whether a part of a schema is a dict: in schemas, these have text keys only."""
    return isinstance(part, dict)


def items_of(part: object) -> Sequence[object]:
    """The items of a list or tuple; of anything else none."""
    return part if _is_sequence(part) else ()


def _is_sequence(part: object) -> TypeGuard[Sequence[object]]:
    return isinstance(part, (list, tuple))


def unpacked(schema: CoreSchema) -> tuple[CoreSchema, dict[str, CoreSchema]]:
    """The schema by itself, and the definitions that it refers to, by name.

    Where definitions have other keys, the first use of a task raises KeyError.
    """
    if schema["type"] != "definitions":
        return schema, {}
    definitions = {name: one for one in schema["definitions"] if (name := one.get("ref"))}
    return schema["schema"], definitions


def arguments_of(schema: CoreSchema) -> ArgumentsSchema:
    """The schema of the arguments of a function.

    Raises:
        TypeError: pydantic describes functions in a way that is not known here.
    """
    arguments = schema["arguments_schema"] if schema["type"] == "call" else schema
    if not _is_of_arguments(arguments):
        raise TypeError(
            f"pydantic describes a function's arguments as {arguments['type']!r}, not as "
            "'arguments': use a release of pydantic that this release of tomskit was tested with"
        )
    return arguments


def _is_of_arguments(schema: CoreSchema) -> TypeGuard[ArgumentsSchema]:
    kind: str = schema["type"]
    return kind == "arguments"


def schema_of_parameter(arguments: ArgumentsSchema, parameter: inspect.Parameter) -> object:
    """The part that describes one parameter; None where there is none."""
    if parameter.kind is parameter.VAR_POSITIONAL:
        return arguments.get("var_args_schema")
    if parameter.kind is parameter.VAR_KEYWORD:
        return arguments.get("var_kwargs_schema")
    named = (node for node in arguments["arguments_schema"] if node["name"] == parameter.name)
    return next(named, None)
