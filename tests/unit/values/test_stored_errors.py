"""Errors are stored as JSON, and made again of what is known here."""

from __future__ import annotations

import gc
import json
import pickle
import sys
import threading
import weakref
from collections.abc import Callable, Mapping
from typing import Any, Final, cast

import pytest
from celery.backends.base import Backend
from pydantic import BaseModel, ConfigDict, ValidationError
from sqlalchemy import create_engine, text
from sqlalchemy.exc import DBAPIError, NoResultFound
from typing_extensions import override

from tomskit.celery import AsyncCelery, CeleryConfig
from tomskit.errors import RemoteTaskError

Stored = Mapping[str, object]


@pytest.fixture
def backend() -> Backend:
    config = CeleryConfig(CELERY_RESULT_BACKEND="cache+memory://")
    return AsyncCelery("errors", config=config, set_as_current=False).backend


def travelled(backend: Backend, error: Exception) -> Exception:
    stored = backend.decode(backend.encode(backend.prepare_exception(error)))
    return backend.exception_to_python(stored)


class CodedError(Exception):
    def __init__(self, code: int) -> None:
        super().__init__(f"code {code}")
        self.code = code


class KeyedError(Exception):
    def __init__(self, *, code: int) -> None:
        super().__init__("failed")
        self.code = code


class SilentError(Exception):
    def __init__(self, one: int, other: int) -> None:
        super().__init__()
        self.one, self.other = one, other


class LockedError(Exception):
    def __init__(self, one: int, other: int) -> None:
        super().__init__(one)
        self.lock, self.other = threading.Lock(), other


class NoisyError(Exception):
    def __init__(self, *, code: int) -> None:
        super().__init__()
        self.code = code

    @override
    def __str__(self) -> str:
        raise RuntimeError("no text")

    @override
    def __reduce__(self) -> str:
        raise RuntimeError("no way")


class SlottedError(Exception):
    __slots__ = ("code", "where")

    def __init__(self, code: int, where: str) -> None:
        super().__init__(f"code {code}")
        self.code, self.where = code, where

    @override
    def __repr__(self) -> str:
        return f"SlottedError({self.code}, {self.where})"


class DeviceError(OSError):
    def __init__(self, device: str) -> None:
        super().__init__(5, "input/output error")
        self.device = device


class MadeError(Exception):
    def __init__(self, code: int, where: str) -> None:
        super().__init__(f"{where}: {code}")
        self.code, self.where = code, where

    @override
    def __reduce__(self) -> tuple[object, ...]:
        return make_error, (self.code, self.where)


def make_error(code: int, where: str) -> MadeError:
    return MadeError(code, where)


class SecretiveError(Exception):
    """Cannot be pickled."""

    def __init__(self, code: int, where: str) -> None:
        super().__init__(f"{where}: {code}")
        self.code = code

    @override
    def __reduce__(self) -> str:
        raise TypeError("no way")


def noted() -> Exception:
    error = ValueError("x")
    error.add_note("a note")
    return error


SAME: Final[tuple[Exception, ...]] = (
    ValueError("x"),
    ValueError(),
    ValueError((1, 2), {"a": (b"1",)}, [None]),
    KeyError("k"),
    OSError(2, "no such file", "here"),
    UnicodeDecodeError("utf-8", b"a", 0, 1, "why"),
    NoResultFound("no row"),
    CodedError(5),
    KeyedError(code=5),
    SilentError(1, 2),
    SlottedError(5, "here"),
    DeviceError("disk"),
    MadeError(5, "here"),
    SecretiveError(5, "here"),
    noted(),
    ExceptionGroup("g", [ValueError(1), ExceptionGroup("h", [KeyedError(code=1)])]),
)


@pytest.mark.parametrize("error", SAME, ids=repr)
def test_an_error_is_made_again(backend: Backend, error: Exception) -> None:
    again = travelled(backend, error)

    assert type(again) is type(error)
    assert repr(again.args) == repr(error.args)
    assert str(again) == str(error)
    assert repr(vars(again)) == repr(vars(error))


@pytest.mark.parametrize("error", [ValueError("x"), KeyError(1, None), RuntimeError()], ids=repr)
def test_a_plain_error_is_stored_as_celery_does(backend: Backend, error: Exception) -> None:
    assert backend.prepare_exception(error) == Backend.prepare_exception(backend, error)


@pytest.mark.parametrize("error", SAME, ids=repr)
def test_plain_celery_finds_all_that_it_stores(backend: Backend, error: Exception) -> None:
    celerys = Backend.prepare_exception(backend, error)

    assert celerys.items() <= backend.prepare_exception(error).items()


def failed_statement(*, hide_parameters: bool) -> DBAPIError:
    engine = create_engine("sqlite://", hide_parameters=hide_parameters)
    with engine.connect() as connection, pytest.raises(DBAPIError) as caught:
        connection.execute(text("SELECT :a FROM nothing"), {"a": "hidden text"})
    engine.dispose()
    return caught.value


def test_parameters_of_a_statement_arrive(backend: Backend) -> None:
    again = travelled(backend, failed_statement(hide_parameters=False))

    assert isinstance(again, DBAPIError)
    assert again.params == ("hidden text",)


def test_hidden_parameters_of_a_statement_are_not_stored(backend: Backend) -> None:
    error = failed_statement(hide_parameters=True)

    assert "hidden text" not in str(backend.prepare_exception(error))
    again = travelled(backend, error)
    assert isinstance(again, DBAPIError)
    assert again.statement == error.statement
    assert again.params is None


@pytest.mark.parametrize("is_hidden", [True, False])
def test_hidden_values_of_a_model_are_not_stored(backend: Backend, *, is_hidden: bool) -> None:
    class Account(BaseModel):
        model_config = ConfigDict(hide_input_in_errors=is_hidden)
        number: int

    with pytest.raises(ValidationError) as caught:
        Account.model_validate({"number": "hidden {text}"})

    again = travelled(backend, caught.value)
    assert isinstance(again, ValidationError)
    assert again.error_count() == 1
    assert ("hidden {text}" in str(backend.prepare_exception(caught.value))) is not is_hidden
    assert ("hidden {text}" in str(again)) is not is_hidden


@pytest.mark.parametrize(
    "error",
    [LockedError(1, 2), type("Local", (Exception,), {})(1), NoisyError(code=1)],
    ids=["an attribute that JSON has not", "a class that has no name", "no text"],
)
def test_what_cannot_be_made_is_named(backend: Backend, error: Exception) -> None:
    again = travelled(backend, error)

    assert isinstance(again, RemoteTaskError)
    assert (again.error_module, again.error_name) == (
        type(error).__module__,
        type(error).__qualname__,
    )
    assert (type(again).__module__, type(again).__name__) == (
        type(error).__module__,
        type(error).__name__,
    )
    assert again.args == error.args


class DeclinedError(LockedError, ValueError):
    """Cannot be made, but its second base can."""


def test_what_cannot_be_made_is_caught_by_a_base_that_can(backend: Backend) -> None:
    with pytest.raises(ValueError, match="1") as caught:
        raise travelled(backend, DeclinedError(1, 2))

    assert isinstance(caught.value, RemoteTaskError)
    assert not isinstance(caught.value, LockedError)
    assert repr(caught.value) == "DeclinedError(1)"
    assert repr(pickle.loads(pickle.dumps(caught.value))) == "DeclinedError(1)"


def test_an_unknown_error_can_be_pickled(backend: Backend) -> None:
    error = read(backend, "shop.errors", "Shop.CardError", ["x", 1])

    again = cast("Exception", pickle.loads(pickle.dumps(error)))

    assert repr(again) == repr(error) == "CardError('x', 1)"
    assert type(again) is type(error)


def test_arguments_that_json_has_not_are_texts(backend: Backend) -> None:
    again = travelled(backend, ValueError(object(), 1))

    assert type(again) is ValueError
    assert str(again.args[0]).startswith("<object object")
    assert again.args[1] == 1


class _Argument:
    """What an error was made with, and JSON has not."""


def test_storing_such_an_error_leaves_no_cycle(backend: Backend) -> None:
    argument = _Argument()
    left = weakref.ref(argument)
    gc.collect()
    gc.disable()
    try:
        backend.prepare_exception(ValueError(argument))
        del argument
        assert left() is None
    finally:
        gc.enable()


def test_causes_arrive_unless_they_go_round(backend: Backend) -> None:
    error, cause = ValueError("a"), KeyError("b")
    error.__cause__, cause.__cause__ = cause, error

    again = travelled(backend, error)

    assert repr(again.__cause__) == "KeyError('b')"
    assert len(backend.encode(backend.prepare_exception(error))) < 1_000


def test_an_error_within_itself_is_a_text_there(backend: Backend) -> None:
    error = ValueError("x")
    error.args = (error, [error], "x")

    again = travelled(backend, error)

    assert type(again) is ValueError
    first, second, third = cast("tuple[str, list[str], str]", again.args)
    assert (type(first), type(second[0]), third) == (str, str, "x")


def test_an_argument_that_kombu_would_take_for_a_typed_value_is_a_text(backend: Backend) -> None:
    mark = {"__type__": "uuid", "__value__": 1}

    again = travelled(backend, ValueError(mark, [{"a": mark}]))

    assert again.args == (repr(mark), [{"a": repr(mark)}])


def test_many_parameters_are_not_stored(backend: Backend) -> None:
    error = ValueError([*range(100_000)])

    stored = backend.prepare_exception(ExceptionGroup("many", [error]))

    assert "exc_tomskit" not in stored


# -- what others have written


def read(backend: Backend, module: str, name: str, args: object, **more: object) -> object:
    stored = {"exc_type": name, "exc_module": module, "exc_message": args, **more}
    return backend.exception_to_python(json.loads(json.dumps(stored)))


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("os", "system"),
        ("builtins", "exit"),
        ("builtins", "eval"),
        ("builtins", "type"),
        ("builtins", "SystemExit"),
        ("builtins", "KeyboardInterrupt"),
        ("builtins", "ValueError.__init__"),
        ("builtins", "ValueError.__class__"),
        ("subprocess", "Popen"),
        ("antigravity", "fly"),
        ("celery", "Celery"),
        ("", ""),
    ],
)
def test_what_is_no_error_is_neither_imported_nor_called(
    backend: Backend, module: str, name: str, tmp_path: Any
) -> None:
    known = {*sys.modules}
    trace = tmp_path / "trace"

    error = read(backend, module, name, [f"touch {trace}"])

    assert isinstance(error, Exception)
    assert not isinstance(error, SystemExit)
    assert not trace.exists()
    assert {*sys.modules} == known


def test_a_module_that_imports_others_when_it_is_asked_is_not_asked(
    backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    module = type(sys)("lazy_shop")
    vars(module)["__getattr__"] = asked.append
    monkeypatch.setitem(sys.modules, "lazy_shop", module)

    read(backend, "lazy_shop", "CardError", [])

    assert asked == []


DETAILS: Final[tuple[object, ...]] = (
    None,
    5,
    {"args": 5},
    {"args": [{"__exception__": 5}, {"__tuple__": 5}]},
    {"state": 5},
    {"state": {"args": [1], "__class__": "x", "__dict__": 1}},
    {"cause": 5},
    {"cause": {}},
    {"validation": 5},
    {"made_of": [[0]]},
)


@pytest.mark.parametrize("details", DETAILS)
@pytest.mark.parametrize("name", ["ValueError", "ExceptionGroup", "UnicodeDecodeError"])
def test_details_of_another_form_are_no_error_of_their_own(
    backend: Backend, name: str, details: object
) -> None:
    error = read(backend, "builtins", name, ["x"], exc_tomskit=details)

    assert isinstance(error, Exception)


def test_causes_without_end_do_not_end_the_reader(backend: Backend) -> None:
    stored: dict[str, object] = {
        "exc_type": "ValueError",
        "exc_module": "builtins",
        "exc_message": ["x"],
    }
    for _ in range(5_000):
        stored = {**stored, "exc_tomskit": {"cause": stored}}

    error = cast("Callable[[object], object]", backend.exception_to_python)(stored)

    assert repr(error) == "ValueError('x')"
