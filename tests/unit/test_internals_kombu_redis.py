"""What tomskit relies on in kombu beyond its public names: the Redis transport."""

import json
from collections.abc import Generator
from contextlib import contextmanager, nullcontext
from types import SimpleNamespace
from typing import Any

import pytest
from kombu import Connection
from kombu.transport import redis as kombu_redis
from kombu.transport import virtual
from kombu.transport.redis import Channel, GlobalKeyPrefixMixin, MultiChannelPoller, QoS, Transport
from kombu.utils import scheduling

from tests.support.contracts import assert_accepts, assert_has, assert_signature, untyped
from tomskit.celery._internals import kombu_redis as internals
from tomskit.celery._internals.kombu_redis import (
    acknowledge_in_memory,
    callbacks_of,
    lists_of,
    next_queues,
    record_in_memory,
    reject_unconsumed,
    replace_callback,
    restore_message,
    takes_in_turn,
    unacknowledged_tags,
)
from tomskit.celery.fast_redis.channel import FastChannel
from tomskit.celery.fast_redis.conversation import Conversation
from tomskit.celery.fast_redis.parts import connection_class, fast_parts, kombu_parts
from tomskit.celery.fast_redis.poller import FastPoller, WatchfulPoller

PAYLOAD = {
    "body": "",
    "headers": {},
    "properties": {
        "delivery_tag": "tag",
        "priority": 0,
        "delivery_info": {"exchange": "exchange", "routing_key": "key"},
    },
}


class Recorder:
    """Takes the place of a client, and records commands."""

    def __init__(self) -> None:
        self.commands: list[tuple[Any, ...]] = []

    def __getattr__(self, name: str) -> Any:
        def record(*args: Any, **_: Any) -> Any:
            self.commands.append((name, *args))
            return self

        return record


class Unconnected(untyped(Channel)):  # type: ignore[misc]
    """A channel without a server."""

    connection_errors = (OSError,)
    ResponseError = ZeroDivisionError
    global_keyprefix = "prefix."
    active_queues = ("one", "two")
    connection = None

    def __init__(self) -> None:
        self.recorder = Recorder()
        self._queue_cycle = scheduling.cycle_by_name(self.queue_order_strategy)()
        self._queue_cycle.update(["one", "two"])

    @contextmanager
    def conn_or_acquire(self, client: Any = None) -> Generator[Any]:
        yield self.recorder

    def _lookup(self, exchange: str, routing_key: str, default: Any = None) -> list[str]:
        assert (exchange, routing_key) == ("exchange", "key")
        return ["one"]


class FastUnconnected(untyped(FastChannel), Unconnected):  # type: ignore[misc]
    """The same, with the fast path."""

    def __init__(self) -> None:
        self.conversation = Conversation(untyped(self))
        self.delivered = 0
        Unconnected.__init__(self)


class ReauthenticatedConnection:
    """A connection for which a credential provider has a new token."""

    def __init__(self) -> None:
        self._sock = object()
        self._re_auth_token: object = object()
        self.answers: list[object] = []
        self.authenticated = 0

    def re_auth(self) -> None:
        assert not self.answers, "AUTH would read the answer to another command"
        self.authenticated += 1
        self._re_auth_token = None

    def read_response(self, **_: object) -> object:
        return self.answers.pop(0)

    def can_read(self, _: float = 0) -> bool:
        return bool(self.answers)


@pytest.fixture
def channel() -> Any:
    return Unconnected()


@pytest.fixture
def message(channel: Any) -> Any:
    return virtual.Message(json.loads(json.dumps(PAYLOAD)), channel=channel)


@pytest.mark.parametrize(
    ("owner", "name", "signature"),
    [
        (Channel, "_create_client", "(self, asynchronous=False)"),
        (Channel, "_get_pool", "(self, asynchronous=False)"),
        (Channel, "_connparams", "(self, asynchronous=False)"),
        (
            Channel,
            "_do_restore_message",
            "(self, payload, exchange, routing_key, pipe, leftmost=False)",
        ),
        (Channel, "_q_for_pri", "(self, queue, pri)"),
        (Channel, "_flush_brpop_reauth", "(self)"),
        (Channel, "maybe_reauth", "(self)"),
        (Channel, "basic_consume", "(self, queue, *args, **kwargs)"),
        (Channel, "conn_or_acquire", "(self, client=None)"),
        (Channel, "close", "(self)"),
        (QoS, "append", "(self, message, delivery_tag)"),
        (QoS, "ack", "(self, delivery_tag)"),
        (QoS, "reject", "(self, delivery_tag, requeue=False)"),
        (QoS, "restore_unacked", "(self, client=None)"),
        (QoS, "restore_visible", "(self, start=0, num=10, interval=10)"),
        (Channel, "_queue_bind", "(self, exchange, routing_key, pattern, queue)"),
        (Channel, "_refresh_bindings", "(self, queues)"),
        (Channel, "sweep_bindings", "(self, limit=100)"),
        (QoS, "restore_by_tag", "(self, tag, client=None, leftmost=False)"),
        (QoS, "can_consume", "(self)"),
        (QoS, "can_consume_max_estimate", "(self)"),
        (virtual.QoS, "append", "(self, message, delivery_tag)"),
        (virtual.QoS, "ack", "(self, delivery_tag)"),
        (Transport, "_deliver", "(self, message, queue)"),
        (MultiChannelPoller, "_client_registered", "(self, channel, client, cmd)"),
        (MultiChannelPoller, "_register", "(self, channel, client, type)"),
        (MultiChannelPoller, "_register_BRPOP", "(self, channel)"),
        (MultiChannelPoller, "on_poll_start", "(self)"),
        (MultiChannelPoller, "on_readable", "(self, fileno)"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_signatures(owner: type, name: str, signature: str) -> None:
    assert_signature(owner, name, signature)


def test_a_message_is_given_back_in_a_transaction_of_the_client_that_is_given(channel: Any) -> None:
    """`QoS.restore_by_tag`, which uses ``transaction`` of the client that it is given."""
    client = Recorder()
    channel.conn_or_acquire = nullcontext
    untyped(QoS)(channel).restore_by_tag("tag", client)
    [(name, do, key)] = client.commands
    assert name == "transaction"
    assert key == channel.unacked_key
    assert callable(do)


def test_visible_messages_are_given_back_with_a_client(channel: Any) -> None:
    """`QoS.restore_visible`, which calls ``restore_by_tag`` with each tag and a client, and `visibility_timeout`."""

    class Visible(Recorder):
        def zrange(self, *_: object, **__: object) -> list[tuple[bytes, float]]:
            return [(b"one", 1.0), (b"two", 2.0)]

    channel.recorder = Visible()
    channel.visibility_timeout = 10
    channel.unacked_mutex_expire = 10
    qos = untyped(QoS)(channel)
    given_back: list[tuple[object, ...]] = []

    def record(*arguments: object) -> None:
        given_back.append(arguments)

    qos.restore_by_tag = record
    qos.restore_visible(num=None, interval=1)
    assert given_back == [(b"one", channel.recorder), (b"two", channel.recorder)]
    assert qos.visibility_timeout == 10


@pytest.mark.parametrize(
    "name",
    [
        "_async_pool",
        "_expires",
        "_pool",
        "ack_emulation",
        "active_queues",
        "auto_delete_queues",
        "brpop_timeout",
        "connection_class",
        "connection_class_ssl",
        "connection_errors",
        "do_restore",
        "global_keyprefix",
        "socket_connect_timeout",
        "socket_timeout",
        "pool",
        "priority_steps",
        "unacked_index_key",
        "unacked_key",
    ],
)
def test_a_channel_has(name: str) -> None:
    """What ``Channel`` has, by its class or since it was made."""
    set_in_init = untyped(Channel).__init__.__code__.co_names
    assert hasattr(Channel, name) or name in set_in_init, f"Channel has no {name} any more"


@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_client_is_made_by_create_client(channel: Any, asynchronous: bool) -> None:
    """``Channel._create_client``: for commands, and, asynchronous, for BRPOP."""
    made: list[bool] = []

    def create(asynchronous: bool = False) -> Recorder:
        made.append(asynchronous)
        return Recorder()

    channel._create_client = create
    if asynchronous:
        assert channel.client is not None
    else:
        with Channel.conn_or_acquire(channel) as client:
            assert client is not None
    assert made == [asynchronous]


def test_a_pool_is_made_by_get_pool_of_connparams() -> None:
    """``Channel._get_pool`` and ``Channel._connparams``."""
    asked: list[bool] = []

    class Asking(Unconnected):
        keyprefix_fanout = "/{db}."

        def _connparams(self, asynchronous: bool = False) -> dict[str, Any]:
            asked.append(asynchronous)
            return {"host": "host", "db": 3}

    made: Any = Asking()
    made._pool = made._async_pool = None
    assert made.pool.connection_kwargs["db"] == 3
    assert made.async_pool.connection_kwargs["db"] == 3
    assert asked == [False, True]


def test_a_message_is_restored_to_the_lists_of_its_queues(channel: Any, message: Any) -> None:
    """``Channel._do_restore_message`` and ``Message._raw``."""
    assert_has(message, "_raw")
    for leftmost, command in ((False, "rpush"), (True, "lpush")):
        pushes: Any = Recorder()
        restore_message(channel, message, pushes, leftmost=leftmost)
        [(name, key, value)] = pushes.commands
        assert (name, key) == (command, "one")
        assert json.loads(value)["properties"]["delivery_tag"] == "tag"


def test_queues_are_taken_from_in_the_order_of_the_cycle(channel: Any) -> None:
    """``Channel._queue_cycle``, its ``consume`` and ``rotate``, and ``round_robin_cycle``."""
    assert_has(kombu_redis.Channel, "queue_order_strategy")
    assert "_queue_cycle" in untyped(Channel).__init__.__code__.co_names
    assert list(next_queues(channel)) == ["one", "two"]
    channel._queue_cycle.rotate("one")
    assert list(next_queues(channel)) == ["two", "one"]
    assert takes_in_turn(channel), "kombu's order by default is not round_robin_cycle any more"
    channel._queue_cycle = scheduling.priority_cycle(["one", "two"])
    assert not takes_in_turn(channel)


def test_a_list_is_named_after_queue_and_priority(channel: Any) -> None:
    """``Channel._q_for_pri``, ``priority_steps`` and ``global_keyprefix``."""
    assert lists_of(channel, ["one", "two"])[:3] == [
        "prefix.one",
        "prefix.two",
        "prefix.one\x06\x163",
    ]
    assert len(lists_of(channel, ["one"])) == len(channel.priority_steps)


def test_a_message_is_recorded_as_our_scripts_record_it(channel: Any, message: Any) -> None:
    """``QoS.append``, ``unacked_key`` and ``unacked_index_key``."""
    QoS(channel).append(message, "tag")
    added, stored, execute = (
        command for command in channel.recorder.commands if command[0] != "pipeline"
    )
    assert added[:2] == ("zadd", "unacked_index")
    assert list(added[2]) == ["tag"]
    assert stored[:3] == ("hset", "unacked", "tag")
    assert json.loads(stored[3]) == [message._raw, "exchange", "key"]
    assert execute == ("execute",)


def test_a_message_is_acknowledged_as_we_do_it(channel: Any, message: Any) -> None:
    """``QoS.ack``: both records are removed."""
    qos = QoS(channel)
    qos.append(message, "tag")
    channel.recorder.commands.clear()
    qos.ack("tag")
    removed = {command[:2] for command in channel.recorder.commands}
    assert {("zrem", "unacked_index"), ("hdel", "unacked")} <= removed


def test_what_is_recorded_in_memory_is_unacknowledged(channel: Any, message: Any) -> None:
    """``virtual.QoS.append`` and ``ack``, ``QoS._delivered`` and ``_dirty``."""
    qos: Any = QoS(channel)
    assert_has(qos, "_delivered", "_dirty")
    record_in_memory(qos, message, "tag")
    assert unacknowledged_tags(qos) == {"tag"}
    assert qos._delivered["tag"] is message
    acknowledge_in_memory(qos, "tag")
    assert unacknowledged_tags(qos) == set()
    assert channel.recorder.commands == [], "Redis was told of it"


def test_the_credit_is_asked_for_by_can_consume(channel: Any, message: Any) -> None:
    """``QoS.can_consume`` and ``QoS.can_consume_max_estimate``."""
    qos: Any = QoS(channel, prefetch_count=1)
    assert qos.can_consume_max_estimate() == 1
    record_in_memory(qos, message, "tag")
    assert not qos.can_consume()
    assert QoS(channel).can_consume_max_estimate() is None


def test_a_transport_delivers_to_the_consumer_of_a_queue(channel: Any) -> None:
    """``Transport._deliver`` and ``channels``."""
    delivered: list[Any] = []
    transport = untyped(Transport).__new__(Transport)
    transport._callbacks = {"one": delivered.append}
    channel.connection = transport
    callbacks_of(channel)["one"](PAYLOAD)
    reject_unconsumed(channel, PAYLOAD, "one")
    assert delivered == [PAYLOAD, PAYLOAD]


def test_a_channel_consumes_by_a_callback_that_can_be_replaced(channel: Any) -> None:
    """``Channel.basic_consume`` sets one of ``Transport._callbacks``."""
    transport = untyped(Transport).__new__(Transport)
    transport._callbacks = {}
    channel.connection = transport
    channel._tag_to_queue, channel._active_queues, channel._consumers = {}, [], set()
    channel.auto_delete_queues, channel._fanout_queues = set(), {}
    channel._reset_cycle = channel._update_queue_cycle = lambda: None
    channel.basic_consume("one", no_ack=True, callback=print, consumer_tag="tag")
    delivered: list[Any] = []

    replace_callback(channel, "one", delivered.append)

    callbacks_of(channel)["one"](PAYLOAD)
    assert delivered == [PAYLOAD]


def test_a_channel_reads_answers_by_handlers_that_can_be_replaced() -> None:
    """``Channel.handlers`` is what ``MultiChannelPoller.on_readable`` calls."""
    assert "handlers" in untyped(Channel).__init__.__code__.co_names
    poller: Any = MultiChannelPoller()
    called: list[str] = []
    qos = SimpleNamespace(can_consume=lambda: True)
    reading = SimpleNamespace(qos=qos, handlers={"BRPOP": lambda: called.append("BRPOP")})
    poller._fd_to_chan[7] = (reading, "BRPOP")

    poller.on_readable(7)

    assert called == ["BRPOP"]


def test_the_parts_of_a_transport_are_classes_that_can_be_replaced() -> None:
    """``Transport.Channel``, ``Channel.QoS``, ``connection_class`` and ``connection_class_ssl``."""
    assert_has(Transport, "Channel")
    assert_has(Channel, "QoS", "connection_class", "connection_class_ssl")
    kind = connection_class(fast_parts(tasks_run="elsewhere"))
    made: Any = kind("redis://").get_transport_cls()
    assert issubclass(made, Transport)
    assert issubclass(made.Channel, FastChannel)
    assert issubclass(made.Channel, Channel)
    assert issubclass(made.Channel.QoS, QoS)
    assert connection_class(fast_parts(tasks_run="elsewhere")) is kind
    assert kind("memory://").get_transport_cls() is Connection("memory://").get_transport_cls()


def test_a_transport_has_the_poller_of_its_channels() -> None:
    """``Transport.cycle``, a ``MultiChannelPoller``."""
    assert type(untyped(Transport)(Connection("redis://")).cycle) is MultiChannelPoller
    fast: Any = connection_class(fast_parts(tasks_run="elsewhere"))("redis://")
    assert type(fast.get_transport_cls()(fast).cycle) is FastPoller
    watchful: Any = connection_class(kombu_parts())("redis://")
    assert type(watchful.get_transport_cls()(watchful).cycle) is WatchfulPoller
    assert untyped(internals.MultiChannelPoller) is MultiChannelPoller


def test_a_poller_has_channels_by_descriptor() -> None:
    """``MultiChannelPoller._channels`` and ``_fd_to_chan``."""
    poller: Any = MultiChannelPoller()
    assert_has(poller, "_channels", "_fd_to_chan")
    poller.add("channel")
    assert poller._channels == {"channel"}
    assert poller._fd_to_chan == {}
    poller.on_readable(7)  # of no channel


def test_a_poller_registers_channels_that_may_consume_for_brpop() -> None:
    """``MultiChannelPoller.on_poll_start`` and ``_register_BRPOP``."""
    registered: list[Any] = []

    class Recording(MultiChannelPoller):
        def _register_BRPOP(self, channel: Any) -> None:
            registered.append(channel)

    poller: Any = Recording()
    qos = SimpleNamespace(can_consume=lambda: True)
    channel = SimpleNamespace(active_queues=["one"], active_fanout_queues=[], qos=qos)
    poller._channels = [channel]
    poller.on_poll_start()
    assert registered == [channel]


def test_a_prefix_is_put_before_keys_and_the_command_passed_on() -> None:
    """``GlobalKeyPrefixMixin.execute_command`` and ``pipeline``, which call ``super()``."""

    class Base:
        def execute_command(self, *args: Any, **_: Any) -> Any:
            return args

    class Prefixed(GlobalKeyPrefixMixin, Base):
        global_keyprefix = "prefix."

    assert_accepts(GlobalKeyPrefixMixin, "pipeline", None, True, None)
    assert Prefixed().execute_command("LPUSH", "key", 1) == ("LPUSH", "prefix.key", 1)


# -- re-authentication, as kombu tests it, and with the fast path


@pytest.mark.parametrize("kind", [Unconnected, FastUnconnected])
def test_a_new_token_is_sent_while_nothing_is_expected(kind: type[Any]) -> None:
    """``Channel._flush_brpop_reauth``, which ``Channel.maybe_reauth`` calls."""
    channel = kind()
    connection = _reauthenticated(channel)
    channel.maybe_reauth()
    channel.maybe_reauth()
    assert connection.authenticated == 1


@pytest.mark.parametrize("kind", [Unconnected, FastUnconnected])
def test_no_token_is_sent_while_brpop_waits(kind: type[Any]) -> None:
    """``Channel._in_poll``."""
    channel = kind()
    assert_has(channel, "_in_poll")
    assert not channel._in_poll
    assert internals.asked_connection_of(channel) is None
    connection = _reauthenticated(channel)
    channel._in_poll = connection
    asked: object = internals.asked_connection_of(channel)
    assert asked is connection
    channel.maybe_reauth()
    assert connection.authenticated == 0


def test_the_fast_path_sends_it_when_its_answers_have_come() -> None:
    """``Channel._flush_brpop_reauth`` and ``_in_poll``, which is False while the fast path waits."""
    channel = FastUnconnected()
    connection = _reauthenticated(channel)
    heard: list[object] = []
    channel.conversation._expected.extend([heard.append, heard.append])
    connection.answers.extend([1, 2])
    assert not channel._in_poll
    channel.maybe_reauth()
    assert connection.authenticated == 0
    channel.conversation.read()
    assert heard == [1, 2]
    assert connection.authenticated == 1


def _reauthenticated(channel: Any) -> ReauthenticatedConnection:
    connection = ReauthenticatedConnection()
    channel.__dict__["client"] = SimpleNamespace(connection=connection)
    return connection
