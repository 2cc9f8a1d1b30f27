"""What tomskit relies on in Celery beyond its public names: results."""

import copy
import pickle
from typing import Any

import pytest
from celery import Celery, states
from celery.backends.cache import CacheBackend
from celery.result import AsyncResult, GroupResult
from typing_extensions import override

from tests.support.contracts import assert_accepts, assert_has, assert_signature, untyped
from tomskit.celery._internals import celery_results
from tomskit.celery._internals.celery_results import (
    drop_outcome,
    has_outcome,
    keep_outcome,
    meta_of,
    raise_error_of_parents,
)

SUCCESS = {"status": states.SUCCESS, "result": 1, "task_id": "id"}


class RecordingResult(celery_results.AsyncResult[Any]):
    """A result that records what it keeps."""

    def _set_cache(self, meta: dict[str, Any]) -> Any:
        self.kept = [*getattr(self, "kept", []), meta]
        return untyped(super())._set_cache(meta)


@pytest.fixture
def app() -> Celery:
    return Celery("app", backend="cache+memory://", set_as_current=False)


@pytest.fixture
def result(app: Celery) -> RecordingResult:
    return RecordingResult("id", app=app)


def test_the_typed_class_is_celerys() -> None:
    assert untyped(celery_results.AsyncResult) is AsyncResult


@pytest.mark.parametrize(
    ("owner", "name", "signature"),
    [
        (AsyncResult, "_set_cache", "(self, d)"),
        (AsyncResult, "_maybe_set_cache", "(self, meta)"),
        (AsyncResult, "_maybe_reraise_parent_error", "(self)"),
        (AsyncResult, "__copy__", "(self)"),
        (AsyncResult, "__reduce_args__", "(self)"),
        (
            GroupResult,
            "iter_native",
            "(self, timeout=None, interval=0.5, no_ack=True, on_message=None, on_interval=None)",
        ),
    ],
)
def test_signatures(owner: type, name: str, signature: str) -> None:
    assert_signature(owner, name, signature)


def test_a_result_is_kept_once_it_is_ready(result: RecordingResult) -> None:
    """``AsyncResult._cache`` and ``_maybe_set_cache``."""
    assert_has(result, "_cache")
    kept: Any = result
    assert not kept._cache
    keep_outcome(result, {**SUCCESS, "status": states.STARTED})
    assert not kept._cache
    keep_outcome(result, SUCCESS)
    assert kept._cache == SUCCESS
    assert result.get(disable_sync_subtasks=False) == 1


def test_what_is_kept_is_returned(result: RecordingResult) -> None:
    """``AsyncResult._maybe_set_cache``."""
    started = {**SUCCESS, "status": states.STARTED}
    assert keep_outcome(result, started) == started
    assert not has_outcome(result)
    assert keep_outcome(result, SUCCESS)["result"] == 1
    assert has_outcome(result)


def test_a_result_reads_what_the_backend_has(result: RecordingResult) -> None:
    """``AsyncResult._get_task_meta``."""
    result.backend.store_result("id", {"done": 1}, "PROGRESS")
    assert meta_of(result)["result"] == {"done": 1}
    assert not has_outcome(result)
    result.backend.store_result("id", 1, states.SUCCESS)
    assert meta_of(result)["result"] == 1
    assert has_outcome(result)


def test_a_result_forgets_its_outcome() -> None:
    """``AsyncResult._cache``, ``Backend.remove_pending_result`` and ``Backend._cache``."""
    changes = {"result_cache_max": 10}
    app = Celery("app", backend="cache+memory://", set_as_current=False, changes=changes)
    result = RecordingResult("id", app=app)
    app.backend.store_result("id", 1, states.SUCCESS)
    assert result.state == states.SUCCESS
    assert_accepts(app.backend, "remove_pending_result", result)
    untyped(app.backend).delete(untyped(app.backend).get_key_for_task("id"))
    assert AsyncResult("id", app=app).state == states.SUCCESS, "the backend keeps no outcomes"
    drop_outcome(result)
    assert not has_outcome(result)
    assert untyped(result).state == states.PENDING


@pytest.mark.parametrize("read", ["get", "ready", "result", "state", "info"])
def test_every_reader_keeps_the_outcome_by_set_cache(result: RecordingResult, read: str) -> None:
    """``AsyncResult._set_cache``."""
    result.backend.store_result("id", 1, states.SUCCESS)
    value = getattr(result, read)
    if callable(value):
        value()
    assert [meta["result"] for meta in result.kept] == [1], f"{read} does not call _set_cache"


def test_the_error_of_a_parent_is_raised(result: RecordingResult, app: Celery) -> None:
    """``AsyncResult._maybe_reraise_parent_error``."""
    result.parent = AsyncResult("parent", app=app)
    raise_error_of_parents(result)
    result.backend.store_result("parent", ValueError("no"), states.FAILURE)
    with pytest.raises(ValueError, match="no"):
        raise_error_of_parents(result)


def test_copies_are_made_by_copy_and_reduce_args(app: Celery) -> None:
    """``AsyncResult.__copy__`` and ``__reduce_args__``."""
    result = Named("id", app=app)
    assert copy.copy(result).id == "copied"
    assert pickle.loads(pickle.dumps(result)).id == "pickled"


class Named(AsyncResult[Any]):
    """A result whose copies have other ids."""

    @override
    def __copy__(self) -> AsyncResult[Any]:
        return AsyncResult("copied", app=self.app)

    @override
    def __reduce_args__(self) -> Any:
        return "pickled", None, None, None, None


def test_a_group_reads_its_results_by_iter_native(app: Celery) -> None:
    """``GroupResult.iter_native`` hands out ids with what the backend has."""
    assert_has(CacheBackend, "iter_native")
    app.backend.store_result("id", 1, states.SUCCESS)
    make_result, make_group = untyped(AsyncResult), untyped(GroupResult)
    group = make_group("group", [make_result("id", app=app)], app=app)
    assert_accepts(group, "iter_native", timeout=1, interval=0.1, no_ack=True)
    [(task_id, meta)] = group.iter_native(timeout=1)
    assert (task_id, meta["result"]) == ("id", 1)
    assert "iter_native" in untyped(GroupResult).join_native.__code__.co_names


def test_a_group_subscribes_to_its_results_by_add_pending_result(app: Celery) -> None:
    assert_accepts(app.backend, "add_pending_result", object(), weak=False)
