"""pydantic-core: schemas, which it documents for those who write them, and which are read here.

The keys of nodes: `type`, `schema_ref`, `strict`, `expected`, `members`, `cls`, `function`, \
`lax_schema`, `strict_schema`, `schema`, `items_schema`, `variadic_item_index`, `keys_schema`, \
`values_schema`, `choices`, `fields`, `json_schema`, `serialization`, `serialization_exclude`, \
`root_model`, `custom_init`
    For: finding in a task's annotations what cannot be sent, and what is compared how strictly.
    When it is missing: `type` and the keys of definitions: a task cannot be used, with a KeyError.
    The others: a SecretStr is sent as asterisks, or a Literal of enum members refuses its values.

The types of nodes: `any`, `union`, `json-or-python`, `lax-or-strict`, `definition-ref`, `model`, \
`literal`, `callable`, `generator`, `is-subclass`, `json`, `dataclass`, `AROUND_ONE`, `FUNCTIONS` and \
`COLLECTIONS`
    For: the same.
    When it is missing: functions and classes are refused when a task is called rather than when its
    worker starts; a tuple for a Sequence is refused; unions are compared less strictly.

The types of errors: `missing_argument`, `unexpected_keyword_argument`, \
`unexpected_positional_argument`, `multiple_argument_values`
    For: messages that name the argument as its caller wrote it.
    When it is missing: the message is pydantic's own.

`__pydantic_fields__`, `__pydantic_serializer__`, `__pydantic_generic_metadata__`, \
`__pydantic_extra__`, `__pydantic_fields_set__` and `__pydantic_private__` of models
    For: sending a model under the names of its fields, and comparing what arrives with it.
    When it is missing: sending a model raises AttributeError.

`_use_prebuilt`, an argument of SchemaValidator
    For: models that are read as tasks need it, with fields that stay unset.
    When it is missing: no task can be used, with a TypeError.

The last argument in `ValidationError.__reduce__`
    For: not storing values that the application hides, when a task fails with a ValidationError.
    When it is missing: a failure with such an error is stored as Celery does, without its parts.

`__pydantic_config__` of pydantic's dataclasses
    For: knowing whether attributes that are not fields would be lost.
    When it is missing: they are lost silently.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final, TypeAlias, TypeGuard, cast

from pydantic_core import (
    CoreSchema,
    PydanticCustomError,
    SchemaValidator,
    ValidationError,
    core_schema,
)
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
MEMBERS: Final = "members"
"""The members of an enum. Missing: enums refuse what arrives for a member whose value is a tuple."""
CLS: Final = "cls"
"""The class of a SecretStr or SecretBytes. Missing: they are sent, as asterisks."""
FUNCTION: Final = "function"
"""The validator by which a Secret[T] is known. Missing: it is sent, as asterisks."""
LAX_SCHEMA: Final = "lax_schema"
"""One of the two alternatives of a node of type `LAX_OR_STRICT`. Missing: KeyError at first use."""
STRICT_SCHEMA: Final = "strict_schema"
"""The other one."""
SCHEMA: Final = "schema"
"""What is within a node: the fields of a model, the members of None or another. Missing: KeyError for
a task with a model in its annotations."""
ITEMS: Final = "items_schema"
"""What a list, a set or a tuple holds; of a tuple a list. Missing: its items are compared exactly."""
VARIADIC: Final = "variadic_item_index"
"""Which of these stands for any number of items. Missing: such tuples are compared exactly."""
KEYS: Final = "keys_schema"
"""The keys of a dict. Missing: they are compared exactly."""
VALUES: Final = "values_schema"
"""The values of a dict. Missing: as above."""
CHOICES: Final = "choices"
"""The members of a union. Missing: what they hold is compared exactly."""
FIELDS: Final = "fields"
"""The fields of a model, dataclass, TypedDict or NamedTuple. Missing: as above."""
JSON_SCHEMA: Final = "json_schema"
"""What a Sequence holds. Missing: as above."""
SERIALIZATION: Final = "serialization"
"""A serializer of the application's. Missing: it is not used."""
SERIALIZATION_EXCLUDE: Final = "serialization_exclude"
"""A field that the application excludes. Missing: it is sent."""
ROOT_MODEL: Final = "root_model"
"""A RootModel. Missing: none; it has no fields of which some are not set."""
CUSTOM_INIT: Final = "custom_init"
"""A model whose __init__ is the application's. Missing: it is given the key for unset fields."""
REF: Final = "ref"
"""The name by which a node is referred to. Missing: KeyError for a task with a recursive type."""
KEYS_WITHOUT_SCHEMAS: Final = frozenset(
    {"metadata", EXPECTED, "serialization", "default", "default_factory", MEMBERS, "config"}
)
"""Keys whose values hold no nodes. A new one: values of the application may be taken for nodes."""


# Types of nodes, as the key "type" has them

ANY: Final = "any"
"""Any and object. Missing: what changes its type under Any is compared less strictly."""
TAGGED_UNION: Final = "tagged-union"
"""A union whose members are told apart by a tag. Missing: tags of a plain enum are refused."""
UNIONS: Final = frozenset({"union", TAGGED_UNION})
"""Unions. Missing: a value may arrive as another member of the union, if the two are equal."""
JSON_OR_PYTHON: Final = "json-or-python"
"""A Sequence, among others. Missing: a tuple for a Sequence is refused."""
LAX_OR_STRICT: Final = "lax-or-strict"
"""Types that pydantic assembles, such as Path. Missing: their parts are taken for annotations."""
DEFINITION_REF: Final = "definition-ref"
"""A reference to a definition. Missing: what recursive types hold is not checked for refusals."""
JSON: Final = "json"
"""A Json[T], which is sent as text. Missing: it is refused."""
AROUND_ONE: Final = frozenset({"nullable", "default", "custom-error"})
"""Nodes around one other. Missing: a value in them is compared as a whole: an IntEnum in a list of
ints is refused."""
FUNCTIONS: Final = frozenset(
    {"function-before", "function-after", "function-wrap", "function-plain"}
)
"""Functions that validate, with or without a node that is validated as well. Missing: as above."""
COLLECTIONS: Final = frozenset(
    {
        *("list", "tuple", "named-tuple", "set", "frozenset", "deque"),
        *("dict", "typed-dict", "ordered-dict", "counter"),
    }
)
"""Nodes of values with parts. Missing: as above."""
DATACLASS: Final = "dataclass"
"""A dataclass. Missing: what is in it is compared exactly."""
MODEL: Final = "model"
"""A model. Missing: its fields are sent as if all were set, and compared exactly."""
ENUM: Final = "enum"
"""An enum. Missing: as with `MEMBERS`."""
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
MISSING_FIELD: Final = "missing"
"""The same of an option, and of a field of a model. Missing: as above."""
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
    "__pydantic_fields_set__": "The names of the fields that were set: only these are sent.",
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


def is_of_type(node: Node, kind: str) -> bool:
    """Whether a dict of a schema is a node of that type."""
    return node.get(TYPE) == kind


def children_of(node: Node) -> Iterator[object]:
    """The values of a dict of a schema that may hold nodes."""
    for _, value in named_children_of(node):
        yield value


def named_children_of(node: Node) -> Iterator[tuple[str, object]]:
    """The same, with their keys."""
    # A dict of fields is no node: one of them may be called "default".
    is_real = isinstance(node.get(TYPE), str)
    for key, value in node.items():
        if not (is_real and key in KEYS_WITHOUT_SCHEMAS):
            yield key, value


def is_list(node: Node) -> bool:
    """Whether a node is that of a list."""
    return node.get(TYPE) == "list"


def is_typed_dict(node: Node) -> bool:
    """Whether a node is that of a TypedDict."""
    return node.get(TYPE) == "typed-dict"


def choices_of(node: Node) -> Sequence[object]:
    """The nodes of the members of a union."""
    choices = node.get(CHOICES)
    if is_node(choices):
        return [*choices.values()]
    # With a label for messages, or without.
    return [next(iter(items_of(one)), one) for one in items_of(choices)]


def choices_by_tag(node: Node) -> dict[object, object]:
    """The members of a union that are told apart by a tag; of any other node none."""
    choices = node.get(CHOICES)
    # Not {**choices}: a tag need not be text.
    return dict(choices.items()) if is_of_type(node, TAGGED_UNION) and is_node(choices) else {}


def add_choice(node: Node, tag: object, choice: object) -> None:
    """Let such a union take another tag for one of its members, unless it knows the tag."""
    choices = cast("dict[object, object]", node[CHOICES])
    choices.setdefault(tag, choice)


def items_in(node: Node, count: int) -> Sequence[object]:
    """The nodes of that many items."""
    items = node.get(ITEMS)
    if not _is_sequence(items):
        return [items] * count
    variadic = node.get(VARIADIC)
    if not isinstance(variadic, int):
        return items
    more = [items[variadic]] * (count - len(items) + 1)
    return [*items[:variadic], *more, *items[variadic + 1 :]]


def fields_of(node: Node) -> Mapping[str, object]:
    """The nodes of fields by name; nothing where a node has none."""
    fields = node.get(FIELDS)
    named = (
        fields.items() if is_node(fields) else [(_name_of(one), one) for one in items_of(fields)]
    )
    return {name: one.get(SCHEMA) for name, one in named if is_node(one)}


def _name_of(field: object) -> str:
    return str(field.get("name")) if is_node(field) else ""


def content_of(node: Node) -> Node:
    """What is in the node of a model or dataclass, without functions around it."""
    content = node.get(SCHEMA)
    while is_node(content) and content.get(TYPE) in FUNCTIONS:
        content = content.get(SCHEMA)
    return content if is_node(content) else {}


def as_schema(node: object) -> CoreSchema:
    """A node that is handed to pydantic-core again."""
    return cast("CoreSchema", node)


def parts_of_model(read: object) -> tuple[object, object, set[str]]:
    """What the schema in a model's makes of a dict: the fields, the others, and which were set."""
    return cast("tuple[object, object, set[str]]", read)


def items_of(part: object) -> Sequence[object]:
    """The items of a list or tuple; of anything else none."""
    return part if _is_sequence(part) else ()


def _is_sequence(part: object) -> TypeGuard[Sequence[object]]:
    return isinstance(part, (list, tuple))


def validator_of(schema: CoreSchema, definitions: Mapping[str, CoreSchema]) -> SchemaValidator:
    """The validator of a schema and the definitions that it refers to.

    Models in it are validated by what the schema says of them, not by the validators of their
    classes. Where the argument for that is missing, to make one raises TypeError.
    """
    if definitions:
        name = schema.get("ref")
        if name is not None and name in definitions:
            schema = core_schema.definition_reference_schema(name)
        schema = core_schema.definitions_schema(schema, [*definitions.values()])
    return SchemaValidator(schema, _use_prebuilt=False)


def hides_input(error: ValidationError) -> bool:
    """Whether the application has asked that values are not shown in errors of this model."""
    reduced: object = error.__reduce__()
    _, arguments = items_of(reduced)
    return items_of(arguments)[-1] is True


def custom_error(kind: str, message: str) -> PydanticCustomError:
    """A part of a ValidationError. Its types ask for literals, because it fills in templates."""
    return cast("Callable[[str, str], PydanticCustomError]", PydanticCustomError)(kind, message)


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


def has_options(arguments: ArgumentsSchema) -> bool:
    """Whether a function takes ``**options: Unpack[Options]``, of a TypedDict.

    Where the key for that is missing, errors name the TypedDict in place of the option.
    """
    return arguments.get("var_kwargs_mode") == "unpacked-typed-dict"


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
