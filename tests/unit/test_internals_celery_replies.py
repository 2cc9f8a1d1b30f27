"""What tomskit relies on in Celery beyond its public names: results that come in messages."""

from typing import Any

from celery import Celery
from celery.app.task import Context
from celery.backends import rpc
from celery.backends.rpc import RPCBackend

from tests.support.contracts import assert_accepts, assert_has, untyped
from tomskit.celery._internals.celery_replies import ReplyBackend, ReplyConsumer


class _Named(RPCBackend): ...


def _app() -> Any:
    return Celery("app", broker="memory://", backend="rpc://", set_as_current=False)


def test_loader_names_the_class_of_a_backend() -> None:
    """``BaseLoader.override_backends``."""
    app = _app()
    assert type(app.backend) is RPCBackend is untyped(ReplyBackend)
    app = _app()
    app.loader.override_backends = {"rpc": f"{__name__}:_Named"}
    assert type(app.backend) is _Named


def test_states_are_read_from_one_queue_and_kept_in_three_places() -> None:
    """``_slurp_from_queue``, ``_get_message_task_id``, ``_cache``, ``_pending_messages``..."""
    app = _app()
    app.conf.result_cache_max = 10
    backend = app.backend
    assert_has(
        backend,
        "BacklogLimitExceeded",
        "_cache",
        "_out_of_band",
        "_pending_messages",
        "accept",
        "poll",
    )
    assert_accepts(backend, "get_task_meta", "id", backlog_limit=1)
    for number in range(2):
        backend.store_result(
            f"id-{number}",
            number,
            "SUCCESS",
            request=Context(reply_to=backend.oid, correlation_id=f"id-{number}"),
        )
    read = list(backend._slurp_from_queue("id-0", backend.accept, 10))
    assert [backend._get_message_task_id(message) for message in read] == ["id-0", "id-1"]
    assert [message.payload["result"] for message in read] == [0, 1]
    for message in read:
        message.ack()

    untyped(backend.result_consumer).on_out_of_band_result(read[0])
    assert [one["result"] for one in backend._pending_messages.get("id-0")] == [0]
    backend._cache["id-0"] = backend.meta_from_decoded(read[0].payload)
    assert backend._cache["id-0"]["status"] == "SUCCESS"
    backend.forget("id-0")
    assert backend._cache.get("id-0") is None
    assert not backend._pending_messages.get("id-0")


def test_a_backend_has_a_consumer_that_others_may_read() -> None:
    """``RPCBackend.ResultConsumer``, its ``_connection`` and what is called with each state."""
    consumer: Any = untyped(_app().backend).result_consumer
    assert consumer._connection is None
    assert consumer.backend is not None
    assert_accepts(consumer, "drain_events", timeout=1.0)
    assert_accepts(consumer, "on_state_change", {}, None)
    assert type(consumer) is RPCBackend.ResultConsumer is untyped(ReplyConsumer)
    assert type(consumer) is untyped(rpc).ResultConsumer
