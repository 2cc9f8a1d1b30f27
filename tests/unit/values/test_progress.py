"""The wire form of what a task reports."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from socket import socket
from types import MappingProxyType
from typing import Generic, TypeVar

import pytest
from pydantic import BaseModel, RootModel
from typing_extensions import TypedDict

from tomskit.celery._values.progress import dump_progress, progress_loader
from tomskit.errors import ConfigurationError, TaskResultError

T = TypeVar("T")


class Progress(BaseModel):
    done: int
    last: date | None = None


@dataclass
class Step:
    name: str
    inner: Progress


@dataclass
class Newest(Generic[T]):
    value: T


class Counts(TypedDict):
    rows: int
    days: list[date]


class Names(RootModel[list[str]]):
    pass


@pytest.mark.parametrize(
    "value",
    [
        Progress(done=1, last=date(2027, 1, 1)),
        Step("read", Progress(done=2)),
    ],
)
def test_models_and_dataclasses_arrive_as_they_were(value: object) -> None:
    assert progress_loader("task", type(value))(dump_progress("task", value)) == value


def test_typed_dict_arrives_as_it_was() -> None:
    counts: Counts = {"rows": 1, "days": [date(2027, 1, 1)]}

    assert progress_loader("task", Counts)(dump_progress("task", counts)) == counts


def test_any_mapping_is_a_dict() -> None:
    counts: Mapping[str, object] = MappingProxyType({"rows": 1, "days": []})

    assert dump_progress("task", counts) == {"rows": 1, "days": []}


def test_generic_dataclass_arrives_as_its_reader_wants_it() -> None:
    wire = dump_progress("task", Newest({"done": 1}))

    assert progress_loader("task", Newest[Progress])(wire) == Newest(Progress(done=1))


@pytest.mark.parametrize(
    "value",
    [3, "half", None, Progress, Names(["a"]), [Progress(done=1)], object()],
    ids=lambda value: type(value).__name__,
)
def test_what_has_no_fields_is_refused(value: object) -> None:
    with pytest.raises(TaskResultError, match=r"task: its progress is .* which has no fields: rep"):
        dump_progress("task", value)


def test_what_cannot_be_sent_is_refused() -> None:
    with pytest.raises(TaskResultError, match=r"task: its progress is \{'lock': .* cannot be sent"):
        dump_progress("task", {"lock": object()})


def test_reader_is_told_what_does_not_fit() -> None:
    load = progress_loader("shop.load", Progress)

    with pytest.raises(TaskResultError, match=re.escape("shop.load: its progress.done is 'x'")):
        load({"done": "x"})


def test_reader_who_wants_what_cannot_be_sent_is_told() -> None:
    with pytest.raises(ConfigurationError, match="does not understand its progress"):
        progress_loader("shop.load", socket)
