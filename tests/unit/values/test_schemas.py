"""Annotations for which nothing can be sent are refused at the first call."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from typing import Annotated, Any, Final, Protocol, TypeVar

import pytest
from pydantic import BaseModel, Field, Secret, SecretBytes, SecretStr, Strict
from typing_extensions import TypedDict

from tests.support.calling import Maker, Way, by_every_way, delay
from tests.support.shop import Author, Customer
from tomskit.celery import AsyncCelery, async_shared_task
from tomskit.errors import ConfigurationError, TaskArgumentsError


class Account(BaseModel):
    user: str
    password: SecretStr


class Vault(TypedDict):
    key: SecretBytes


REFUSED: Final[tuple[tuple[str, object, str], ...]] = (
    ("SecretStr", SecretStr, "Send the secret's name"),
    ("SecretBytes", SecretBytes, "Send the secret's name"),
    ("Secret", Secret[int], "Send the secret's name"),
    ("SecretStr or None", SecretStr | None, "Send the secret's name"),
    ("SecretStr in a model", Account, "Send the secret's name"),
    ("SecretStr in a model in a dict", dict[str, list[Account]], "Send the secret's name"),
    ("SecretBytes in a TypedDict", Vault, "Send the secret's name"),
    ("SecretStr with a constraint", Annotated[SecretStr, Field(min_length=1)], "the secret's name"),
    ("Callable", Callable[[int], str], "send its name, or a task's signature"),
    ("Callable in a list", list[Callable[..., object]], "send its name"),
    ("Iterable", Iterable[int], "annotate it as a Sequence, a Set or a list"),
    ("Iterable in a dict", dict[str, Iterable[int]], "annotate it as a Sequence"),
    ("Generator", Generator[int, None, None], "annotate it as a Sequence"),
    ("a type", type[int], "send its name"),
    ("a type or None", type[Author] | None, "send its name"),
    ("BaseModel", BaseModel, "Annotate the model's own class"),
    ("BaseModel in a list", list[BaseModel], "Annotate the model's own class"),
    ("a constraint that pydantic has not", Annotated[Sequence[int], Strict()], "Use a model"),
)

refused = pytest.mark.parametrize(
    ("annotation", "way_out"), [one[1:] for one in REFUSED], ids=[one[0] for one in REFUSED]
)


@refused
def test_an_annotation_that_cannot_be_sent_is_refused_at_the_first_call(
    make: Maker, annotation: object, way_out: str
) -> None:
    task = make.taking(annotation)

    with pytest.raises(ConfigurationError, match=rf"{task.name} cannot be used.*{way_out}"):
        delay(task, 1)


@refused
def test_an_annotation_that_cannot_be_read_is_refused_at_the_first_call(
    make: Maker, annotation: object, way_out: str
) -> None:
    task = make.returning(annotation, 1)

    with pytest.raises(ConfigurationError, match=rf"{task.name} cannot be used.*result.*{way_out}"):
        delay(task)


@by_every_way
def test_every_way_of_calling_refuses_it(published: list[object], call: Way) -> None:
    with pytest.raises(ConfigurationError, match=r"parameter password.*SecretStr"):
        call(log_in, "jane", SecretStr("opensesame"))

    assert published == []


@async_shared_task
async def log_in(user: str, password: SecretStr) -> None: ...


def test_the_refusal_does_not_tell_the_secret(app: AsyncCelery) -> None:
    with pytest.raises(ConfigurationError) as caught:
        delay(log_in, "jane", SecretStr("opensesame"))

    assert "opensesame" not in str(caught.value)


def test_it_is_refused_at_every_call(app: AsyncCelery) -> None:
    for _ in range(2):
        with pytest.raises(ConfigurationError):
            delay(log_in, "jane", SecretStr("opensesame"))


def test_a_secret_under_any_is_refused_and_not_told(make: Maker) -> None:
    with pytest.raises(TaskArgumentsError, match=r"would arrive as '\*+'") as caught:
        delay(make.taking(Any), SecretStr("opensesame"))

    assert "opensesame" not in str(caught.value)


def test_any_class_may_be_a_parameter_that_is_not_used(app: AsyncCelery) -> None:
    assert serve.delay().get() == 1


def test_a_call_with_an_object_that_cannot_be_sent_is_refused(app: AsyncCelery) -> None:
    with pytest.raises(TaskArgumentsError, match=r"customer is .*Customer.*cannot be sent"):
        delay(serve, Customer())


@async_shared_task
async def serve(customer: Customer | None = None) -> int:
    return 1


def test_any_class_as_a_result_is_refused(make: Maker) -> None:
    task = make.returning(Customer, Customer())

    with pytest.raises(ConfigurationError, match=r"its result.*Customer.*Use a model, a dataclass"):
        delay(task)


def test_a_result_that_is_ignored_may_be_of_any_class(app: AsyncCelery) -> None:
    delay(forget, 1)


@async_shared_task(ignore_result=True)
async def forget(number: int) -> Customer:
    return Customer()


M = TypeVar("M", bound=BaseModel)


def test_a_type_variable_of_models_is_refused(app: AsyncCelery) -> None:
    @async_shared_task
    async def same(model: M) -> M:
        return model

    with pytest.raises(ConfigurationError, match="parameter model is annotated as BaseModel"):
        delay(same, Account(user="jane", password=SecretStr("x")))


def test_iterators_are_refused_as_parameters(make: Maker) -> None:
    task = make.taking(Iterator[int])

    with pytest.raises((ConfigurationError, TaskArgumentsError), match=task.name):
        delay(task, iter([1]))


class Named(Protocol):
    name: str


def test_what_pydantic_says_is_the_reason(make: Maker) -> None:
    with pytest.raises(ConfigurationError, match="'cls' must be valid as the first argument"):
        delay(make.taking(Named), 1)
