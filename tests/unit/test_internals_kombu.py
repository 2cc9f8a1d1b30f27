"""What tomskit relies on in kombu beyond its public names: connections, and the worker's hub."""

import os
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, Final

import kombu
import pytest
import redis
from celery import Celery
from kombu import Connection, Exchange, Producer, Queue
from kombu.asynchronous import Hub, get_event_loop, set_event_loop
from kombu.connection import ConnectionPool, PooledConnection
from kombu.exceptions import OperationalError
from kombu.message import Message
from kombu.pidbox import Mailbox
from kombu.pools import connections
from kombu.transport import virtual
from kombu.utils.eventio import READ, poll
from typing_extensions import override

from tests.support.contracts import assert_accepts, assert_has, assert_signature, untyped
from tomskit.celery._internals.kombu import (
    Poller,
    add_filler,
    arguments_of,
    as_library_errors,
    call_in_each_turn,
    consumer_of,
    descriptor_of,
    fill_message,
    has_alternatives,
    has_closed_channel,
    is_declared,
    poller_of,
    publish_control,
    set_poller,
)


class RecordingHub(Hub):
    """A hub that records when its poller is made and closed."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        super().__init__()

    @override
    def _create_poller(self) -> None:
        super()._create_poller()
        self.calls.append("create")

    @override
    def _close_poller(self) -> None:
        self.calls.append("close")
        super()._close_poller()


class RecordingPoller:
    """A poller that records how it is called."""

    def __init__(self, poller: Poller) -> None:
        self.polled: list[float | None] = []
        self._poller = poller
        self.register = poller.register
        self.unregister = poller.unregister
        self.close = poller.close

    def poll(self, timeout: float | None) -> list[tuple[int, int]] | None:
        self.polled.append(timeout)
        return self._poller.poll(0)


@pytest.fixture
def hub() -> Iterator[RecordingHub]:
    made = RecordingHub()
    yield made
    made.close()


def test_a_hub_makes_its_poller_when_it_is_made_and_reset(hub: RecordingHub) -> None:
    """``Hub._create_poller`` and ``Hub._close_poller``."""
    assert_signature(Hub, "_create_poller", "(self)")
    assert_signature(Hub, "_close_poller", "(self)")
    assert hub.calls == ["create"]
    hub.reset()
    assert hub.calls == ["create", "close", "create"]


def test_a_hub_waits_by_its_poller(hub: RecordingHub, pipe: tuple[int, int]) -> None:
    """``Hub._poller`` and ``Hub.readers``."""
    assert_has(hub, "_poller", "readers")
    poller = RecordingPoller(poller_of(hub))
    set_poller(hub, poller)
    add_filler(hub, pipe[0], lambda: None)
    poller.register(pipe[0], READ)
    next(hub.create_loop())
    assert len(poller.polled) == 1, "the hub does not poll by _poller, or not for readers"


def test_a_hub_calls_the_callback_of_a_reader(hub: RecordingHub, pipe: tuple[int, int]) -> None:
    """``Hub.readers``: a callback and its arguments, by descriptor."""
    called: list[str] = []
    add_filler(hub, pipe[0], lambda: called.append("read"))
    poller_of(hub).register(pipe[0], READ)
    os.write(pipe[1], b"x")
    turns = hub.create_loop()
    next(turns)
    assert called == ["read"]


def test_a_hub_without_readers_sleeps(hub: RecordingHub, monkeypatch: pytest.MonkeyPatch) -> None:
    """Why there is a filler among the ``readers``."""
    slept: list[float] = []
    next(hub.create_loop(sleep=slept.append))
    assert len(slept) == 1


def test_a_poller_has_the_descriptor_of_the_system(pipe: tuple[int, int]) -> None:
    """``_epoll._epoll`` or ``_kqueue._kqueue``."""
    poller: Any = poll()
    descriptor = descriptor_of(poller)
    assert descriptor is not None, f"{type(poller)} has neither _epoll nor _kqueue any more"
    os.fstat(descriptor)
    poller.close()


def test_a_poller_without_such_a_descriptor_has_none() -> None:
    class Other:
        pass

    assert descriptor_of(untyped(Other())) is None


def test_a_hub_calls_in_each_turn_what_is_to_be_called(hub: RecordingHub) -> None:
    """``Hub.on_tick``."""
    assert_has(hub, "on_tick")
    called: list[str] = []
    call_in_each_turn(hub, lambda: called.append("turn"))
    turns = hub.create_loop(sleep=lambda _: None)
    next(turns)
    next(turns)
    assert called == ["turn", "turn"]


def test_a_hub_calls_soon_before_it_waits(hub: RecordingHub) -> None:
    """``Hub.call_soon`` and ``Hub._ready``."""
    assert_has(hub, "_ready")
    called: list[str] = []
    call_in_each_turn(hub, lambda: called.append("turn"))
    assert_accepts(hub, "call_soon", print, 1, 2)
    hub.call_soon(called.append, "soon")
    assert len(untyped(hub)._ready) == 1
    next(hub.create_loop(sleep=lambda _: None))
    assert called == ["soon", "turn"]


def test_a_hub_asks_its_scheduler_for_timers(hub: RecordingHub) -> None:
    """``Hub.scheduler`` and ``Hub.fire_timers``."""
    asked: list[str] = []
    hub.timer.call_after(0, asked.append, ("fired",))
    vars(hub)["scheduler"] = iter([(None, lambda: asked.append("ours")), (1.0, None)])

    hub.fire_timers()

    assert asked == ["ours"]


def test_a_hub_takes_a_timer() -> None:
    assert_accepts(Hub, "__init__", None, None)


def test_the_hub_of_the_process_is_the_event_loop() -> None:
    hub = Hub()
    set_event_loop(hub)
    assert get_event_loop() is hub
    hub.close()
    assert get_event_loop() is None


def test_a_connection_is_made_again_of_its_arguments() -> None:
    """``Connection._info``, its argument ``resolve``."""
    assert_accepts(Connection, "_info", None, resolve=False)
    url = "redis://user:secret@host:1/2"
    known = Connection(url, transport_options={"global_keyprefix": "x"}, connect_timeout=7)
    made = Connection(**arguments_of(known))
    assert made.as_uri(include_password=True) == url
    assert made.transport_options == {"global_keyprefix": "x"}
    assert made.connect_timeout == 7


def test_a_connection_makes_its_pool_which_makes_connections() -> None:
    """``Connection.Pool``, ``ConnectionPool`` with ``new``, and ``PooledConnection``."""
    assert_accepts(Connection, "Pool", None, 1)
    pool = Connection("memory://").Pool(1)
    assert type(pool) is ConnectionPool
    made: object = pool.new()
    assert isinstance(made, PooledConnection)
    # What a producer takes for one of a pool, also where it is of a subclass.
    assert issubclass(PooledConnection, Connection)
    assert connections[Connection("memory://of-its-own")].__class__ is ConnectionPool


def test_errors_of_the_driver_become_the_librarys() -> None:
    """``Connection._reraise_as_library_errors``."""
    connection = Connection("redis://localhost:1")
    assert_accepts(connection, "_reraise_as_library_errors")
    with pytest.raises(OperationalError), as_library_errors(connection):
        raise redis.ConnectionError
    with pytest.raises(ZeroDivisionError), as_library_errors(connection):
        raise ZeroDivisionError


def test_a_declared_queue_is_known_by_its_hash() -> None:
    """``Connection.declared_entities``."""
    connection = Connection("memory://")
    assert_has(connection, "declared_entities")
    channel: Any = connection.default_channel
    queue: Any = Queue("queue", Exchange("queue"), routing_key="queue")
    producer = Producer(channel)
    assert queue.can_cache_declaration is True
    assert not is_declared(connection, queue)
    producer.maybe_declare(queue)
    assert is_declared(connection, queue)


def test_a_connection_knows_its_alternatives() -> None:
    """``Connection.alt``."""
    assert_has(Connection("redis://one"), "alt")
    assert not has_alternatives(Connection("redis://one"))
    assert has_alternatives(Connection("redis://one;redis://two"))


def test_a_command_is_published_by_the_producer_that_is_given() -> None:
    """``Mailbox._publish``."""
    app = Celery("app", broker="memory://", set_as_current=False)
    app.conf.task_publish_retry_policy = {"max_retries": 7}
    assert_accepts(Mailbox, "_publish", None, "revoke", {}, producer=None, channel=None)
    with app.connection_for_write() as connection:
        published: list[dict[str, Any]] = []
        producer = RecordingProducer(connection, published)
        publish_control(app, producer, "revoke", {"task_id": ["id"]})
    [options] = published
    assert options["message"]["method"] == "revoke"
    assert options["message"]["arguments"] == {"task_id": ["id"]}
    assert options["exchange"] == "celery.pidbox"
    assert options["retry"] is True
    assert options["retry_policy"] == {"max_retries": 7}


class RecordingProducer(Producer):
    """A producer that records what it publishes."""

    def __init__(self, connection: Connection, published: list[dict[str, Any]]) -> None:
        super().__init__(connection)
        self._published = published

    @override
    def publish(self, *args: Any, **options: Any) -> Any:
        self._published.append({"message": args[0], **options})
        return super().publish(*args, **options)


def test_payload_decodes_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """`decode`, which ``payload`` calls as long as ``_decoded_cache`` is empty."""
    calls: list[object] = []

    def decode(self: Any) -> object:
        calls.append(self)
        self._decoded_cache = [1]
        return [1]

    monkeypatch.setattr(Message, "decode", decode)
    message = Message(body="[2]", content_type="application/json", content_encoding="utf-8")
    assert [message.payload, message.payload] == [[1], [1]]
    assert len(calls) == 1


def test_decoding_fills_the_cache() -> None:
    """``Message._decoded_cache``."""
    message: Any = Message(body="[2]", content_type="application/json", content_encoding="utf-8")
    assert message._decoded_cache is None
    assert message.decode() == message._decoded_cache == [2]


def test_a_consumer_calls_on_message_with_what_it_accepts() -> None:
    """``Consumer._receive_callback`` does nothing else with a message without errors."""
    received: list[Any] = []
    with Connection("memory://") as connection:
        consumer: Any = kombu.Consumer(connection.channel(), on_message=received.append)
        consumer.accept = {"application/json"}
        assert [consumer_of(consumer._receive_callback)] == [consumer]

        message: Any = SimpleNamespace(errors=[], accept=None)
        consumer.channel = None
        consumer._receive_callback(message)

    assert received == [message]
    assert message.accept == {"application/json"}


def test_other_callbacks_are_of_no_consumer() -> None:
    others: list[object] = []
    assert consumer_of(others.append) is None
    assert consumer_of(print) is None


MESSAGE: Final[dict[str, Any]] = {
    "body": "W10=",
    "content-type": "application/json",
    "content-encoding": "utf-8",
    "headers": {"id": "1"},
    "properties": {
        "delivery_tag": "tag",
        "body_encoding": "base64",
        "delivery_info": {"exchange": "", "routing_key": "celery"},
    },
}


def test_a_message_has_what_kombu_sets() -> None:
    """``virtual.Message.__init__`` and what it sets: ``_decoded_cache``, ``_raw``, ``_state`` and so on."""
    with Connection("memory://") as connection:
        channel: Any = connection.default_channel
        kombus: Any = virtual.Message(MESSAGE, channel=channel)
        ours: Any = virtual.Message.__new__(virtual.Message)
        assert fill_message(ours, MESSAGE, channel)
        names = {name for kind in type(kombus).__mro__ for name in getattr(kind, "__slots__", ())}
        assert {name: getattr(ours, name) for name in names} == {
            name: getattr(kombus, name) for name in names
        }
        assert (ours.errors, ours.body, ours.payload) == ([], b"[]", [])


@pytest.mark.parametrize(
    "changed",
    [
        {"body": ""},
        {"body": "not base64"},
        {"body": "é"},
        {"body": None},
        {"headers": {}},
        {"headers": {"compression": "gzip"}},
        {"properties": {**MESSAGE["properties"], "body_encoding": None}},
    ],
)
def test_a_message_of_another_kind_is_left_to_kombu(changed: dict[str, object]) -> None:
    assert not fill_message(virtual.Message.__new__(virtual.Message), {**MESSAGE, **changed}, None)


def test_a_producer_knows_whether_its_channel_was_closed() -> None:
    """``Producer._channel``, which may be a ``ChannelPromise``."""
    with Connection("memory://") as connection:
        producer: Any = Producer(connection)
        assert_has(producer, "_channel")
        assert not has_closed_channel(producer), "it has none yet"
        channel = producer.channel
        assert not has_closed_channel(producer)
        channel.close()
        assert has_closed_channel(producer)
        producer.revive(connection)
        assert not has_closed_channel(producer)
        producer.channel = None
        assert not has_closed_channel(producer)
