"""What is relied on of pydantic-core: each name is there, and means what is said of it."""

from __future__ import annotations

import inspect
import re
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from enum import Enum
from pathlib import Path
from types import GenericAlias
from typing import Annotated, Any, Final, Literal, NamedTuple, get_args

import pytest
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    Json,
    PlainSerializer,
    PlainValidator,
    Secret,
    SecretStr,
    WrapValidator,
)
from pydantic.dataclasses import dataclass
from pydantic_core import ArgsKwargs, SchemaValidator, ValidationError, core_schema
from typing_extensions import TypedDict, Unpack

import tomskit
from tomskit.celery._internals import pydantic_core as internals
from tomskit.celery._values.schemas import schema_of, walk


class Cat(BaseModel):
    kind: Literal["cat"] = "cat"
    lives: int = 9


class Colour(Enum):
    RED = 1


class Excluding(BaseModel):
    secret: int = Field(default=1, exclude=True)


@dataclass
class Point:
    x: int


class Pair(NamedTuple):
    left: int


class Span(TypedDict):
    start: int


class Dog(BaseModel):
    kind: Literal["dog"] = "dog"


class Tree(BaseModel):
    children: list[Tree] = []


NODE_TYPES: Final[Mapping[str, object]] = {
    internals.ANY: Any,
    "union": int | str,
    internals.TAGGED_UNION: Annotated[Cat | Dog, Field(discriminator="kind")],
    internals.JSON_OR_PYTHON: Sequence[int],
    internals.LAX_OR_STRICT: Path,
    internals.DEFINITION_REF: Tree,
    internals.MODEL: Cat,
    internals.LITERAL: Literal["a"],
    internals.ENUM: Colour,
    internals.CALLABLE: Callable[[int], int],
    internals.GENERATOR: Iterable[int],
    internals.IS_SUBCLASS: type[int],
    internals.JSON: Json[int],
    internals.DATACLASS: Point,
    "nullable": int | None,
    "default": Cat,
    "custom-error": Hashable,
    "function-before": Annotated[int, BeforeValidator(int)],
    "function-after": Annotated[int, AfterValidator(int)],
    "function-wrap": Annotated[int, WrapValidator(lambda value, handler: handler(value))],
    "function-plain": Annotated[int, PlainValidator(int)],
    "list": list[int],
    "tuple": tuple[int, ...],
    "named-tuple": Pair,
    "set": set[int],
    "frozenset": frozenset[int],
    "deque": deque[int],
    "dict": dict[str, int],
    "typed-dict": Span,
    "ordered-dict": OrderedDict[str, int],
    "counter": Counter[str],
}


def nodes_of(annotation: object) -> list[internals.Node]:
    in_tuple = GenericAlias(tuple, (annotation,))
    return [*walk(*schema_of("task", in_tuple, "its result", any_class=False))]


@pytest.mark.parametrize("node_type", NODE_TYPES)
def test_an_annotation_has_a_node_of_its_type(node_type: str) -> None:
    """`any`, `model`, `literal`, `callable`, `generator`, `is-subclass`, `json`, `dataclass` and others."""
    nodes = nodes_of(NODE_TYPES[node_type])

    assert node_type in {node[internals.TYPE] for node in nodes}


def test_every_type_that_is_relied_on_is_tried_here() -> None:
    names = {value for value in vars(internals).values() if isinstance(value, str)}
    types = names & {*get_args(core_schema.CoreSchemaType)}

    assert types <= NODE_TYPES.keys()
    for several in (
        internals.UNIONS,
        internals.AROUND_ONE,
        internals.FUNCTIONS,
        internals.COLLECTIONS,
    ):
        assert several <= NODE_TYPES.keys()


def test_types_of_which_equal_values_are_the_same_exist() -> None:
    assert {*get_args(core_schema.CoreSchemaType)} >= internals.ONE_TYPE_EACH


@pytest.mark.parametrize(
    ("annotation", "key"),
    [
        (Tree, internals.SCHEMA_REF),
        (Mapping[str, int], internals.STRICT),
        (Literal["a"], internals.EXPECTED),
        (Colour, internals.MEMBERS),
        (SecretStr, internals.CLS),
        (Secret[int], internals.FUNCTION),
        (Path, internals.LAX_SCHEMA),
        (Path, internals.STRICT_SCHEMA),
        (Cat, internals.SCHEMA),
        (list[int], internals.ITEMS),
        (tuple[int, ...], internals.VARIADIC),
        (dict[str, int], internals.KEYS),
        (dict[str, int], internals.VALUES),
        (int | str, internals.CHOICES),
        (Cat, internals.FIELDS),
        (Sequence[int], internals.JSON_SCHEMA),
        (Annotated[int, PlainSerializer(str)], internals.SERIALIZATION),
        (Excluding, internals.SERIALIZATION_EXCLUDE),
        (Cat, internals.ROOT_MODEL),
        (Cat, internals.CUSTOM_INIT),
    ],
)
def test_a_node_has_the_key(annotation: object, key: str) -> None:
    """`type`, `schema_ref`, `strict`, `expected`, `members`, `cls`, `function`, `lax_schema`,
    `strict_schema`, `schema`, `items_schema`, `variadic_item_index`, `keys_schema`,
    `values_schema`, `choices`, `fields`, `json_schema`, `serialization`, `serialization_exclude`,
    `root_model`, `custom_init`.
    """
    assert any(key in node for node in nodes_of(annotation)[1:])


def schema_classes() -> Iterator[type]:
    for name, value in vars(core_schema).items():
        if name.endswith("Schema") and isinstance(value, type):
            yield value


def test_keys_that_hold_no_schemas_exist() -> None:
    keys = {key for kind in schema_classes() for key in kind.__annotations__}

    assert keys >= internals.KEYS_WITHOUT_SCHEMAS


def errors_of(*args: object, **kwargs: object) -> set[str]:
    """The types of what pydantic-core finds in a call of a function with three parameters."""

    def function(a: int, /, b: int, *, c: int) -> None: ...

    schema, _ = schema_of("task", function, "its parameters", any_class=False)
    validator = SchemaValidator(internals.arguments_of(schema))
    with pytest.raises(ValidationError) as caught:
        validator.validate_python(ArgsKwargs(args, kwargs))
    return {error["type"] for error in caught.value.errors()}


def test_errors_of_calls_have_the_types() -> None:
    """`missing_argument`, `unexpected_keyword_argument`, `unexpected_positional_argument`,
    `multiple_argument_values`.
    """
    assert errors_of() == internals.MISSING_ARGUMENT
    assert errors_of(1, 2, 3, c=1, d=1) == internals.UNEXPECTED_ARGUMENT
    assert errors_of(1, 2, b=2, c=1) == {internals.REPEATED_ARGUMENT}


@pytest.mark.parametrize("name", internals.MODEL_ATTRIBUTES)
def test_a_model_has_the_attribute(name: str) -> None:
    """`__pydantic_fields__`, `__pydantic_serializer__`, `__pydantic_generic_metadata__`,
    `__pydantic_extra__`, `__pydantic_fields_set__`, `__pydantic_private__`.
    """
    assert hasattr(Cat(), name)


def test_no_other_attributes_of_pydantic_are_used() -> None:
    source = Path(tomskit.__file__).parent
    used = {
        name
        for file in source.rglob("*.py")
        for name in re.findall(r"__pydantic_\w+__", file.read_text())
    }

    documented = {"__pydantic_config__", "__pydantic_init_subclass__"}
    assert used == {*internals.MODEL_ATTRIBUTES, *documented}


def test_a_dataclass_tells_what_it_does_with_other_fields() -> None:
    @dataclass(config=ConfigDict(extra="allow"))
    class Open:
        x: int

    @dataclass
    class Closed:
        x: int

    assert internals.dataclass_extra(Open) == "allow"
    assert internals.dataclass_extra(Closed) is None
    assert internals.dataclass_extra(int) is None


def test_the_parameters_of_a_function_have_their_schemas() -> None:
    def function(a: int, *more: str, c: bytes, **others: float) -> None: ...

    schema, _ = schema_of("task", function, "its parameters", any_class=False)
    arguments = internals.arguments_of(schema)
    parts = [
        internals.schema_of_parameter(arguments, parameter)
        for parameter in inspect.signature(function).parameters.values()
    ]

    types = [{node[internals.TYPE] for node in walk(part, {})} for part in parts]
    assert types == [{"int"}, {"str"}, {"bytes"}, {"float"}]


@pytest.mark.parametrize("kind", [Cat, Point, Span, Pair])
def test_fields_have_names_and_nodes(kind: type) -> None:
    node = nodes_of(kind)[1]
    fields = internals.fields_of(internals.content_of(node)) or internals.fields_of(node)

    assert [*fields] == [*kind.__annotations__]
    assert all(internals.is_node(one) and internals.TYPE in one for one in fields.values())


@pytest.mark.parametrize(
    ("annotation", "types"),
    [
        (list[int], ["int", "int", "int"]),
        (tuple[int, str, bytes], ["int", "str", "bytes"]),
        (tuple[int, *tuple[str, ...]], ["int", "tuple", None]),
        (tuple[str, ...], ["str", "str", "str"]),
    ],
)
def test_items_have_nodes(annotation: object, types: list[str | None]) -> None:
    found = internals.items_in(nodes_of(annotation)[1], 3)

    names = [one[internals.TYPE] for one in found if internals.is_node(one)]
    assert names == [one for one in types if one is not None]


def test_members_of_unions_have_nodes() -> None:
    plain = internals.choices_of(nodes_of(int | str)[1])
    tagged = internals.choices_of(nodes_of(Annotated[Cat | Dog, Field(discriminator="kind")])[1])

    assert [one[internals.TYPE] for one in plain if internals.is_node(one)] == ["int", "str"]
    assert [one[internals.CLS] for one in tagged if internals.is_node(one)] == [Cat, Dog]


def test_members_of_unions_have_tags() -> None:
    node = nodes_of(Annotated[Cat | Dog, Field(discriminator="kind")])[1]
    choices = internals.choices_by_tag(node)

    internals.add_choice(node, 1, choices["cat"])
    assert [*choices] == ["cat", "dog"]
    assert internals.choices_by_tag(node) == {**choices, 1: choices["cat"]}
    assert internals.choices_by_tag(nodes_of(int | str)[1]) == {}


def test_models_are_validated_by_the_schema_that_is_given() -> None:
    """`_use_prebuilt`."""

    class Outer(BaseModel):
        cat: Cat

    schema, definitions = schema_of("task", GenericAlias(tuple, (Outer,)), "it", any_class=False)
    (outer,) = internals.validator_of(schema, definitions).validate_python(
        ({"cat": {"lives": 3, "__unset__": ["lives"]}},)
    )

    assert outer.cat.lives == 3
    assert outer.cat.model_fields_set == set()


@pytest.mark.parametrize("is_hidden", [True, False])
def test_an_error_tells_whether_it_hides_values(is_hidden: bool) -> None:
    """`ValidationError.__reduce__`."""

    class Account(BaseModel):
        model_config = ConfigDict(hide_input_in_errors=is_hidden)
        number: int

    with pytest.raises(ValidationError) as caught:
        Account.model_validate({"number": "x"})

    assert internals.hides_input(caught.value) is is_hidden


def test_a_custom_error_has_its_text_as_it_is() -> None:
    error = internals.custom_error("too_many", "{n} are too many")

    assert (error.type, error.message()) == ("too_many", "{n} are too many")


def test_a_function_with_options_is_known() -> None:
    def options(**more: Unpack[Span]) -> None: ...

    def mappings(**more: Span) -> None: ...

    found = [
        internals.has_options(
            internals.arguments_of(schema_of("task", one, "it", any_class=False)[0])
        )
        for one in (options, mappings)
    ]
    assert found == [True, False]


def test_another_schema_of_a_function_is_an_error() -> None:
    with pytest.raises(TypeError, match="as 'arguments-v3', not as 'arguments'"):
        internals.arguments_of(core_schema.arguments_v3_schema([]))
