"""Batches: the commands of an event loop's turn in one write, seen from between it and Redis."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import pytest
import redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import DataError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from tests.support.patience import patience, slowed
from tests.support.proxy import Proxy
from tests.support.servers import RedisServer
from tomskit.celery.fast_redis.batches import Batches

T = TypeVar("T")

LONG = round(slowed(1.0), 1)
"""Seconds that Redis may take for an answer; a busy machine answers within it."""


class State:
    """The state of a task that is to be stored."""

    def __init__(
        self, key: bytes, value: bytes, finished: Callable[[BaseException | None], object]
    ) -> None:
        self.key: bytes = key
        self._value = value
        self._finished = finished

    def value(self) -> bytes:
        return self._value

    def finished(self, error: BaseException | None) -> None:
        self._finished(error)


class Between:
    """Stands between a client and Redis: sees what is written, and can hold answers back."""

    def __init__(self, server: RedisServer) -> None:
        self.written: list[bytes] = []
        self.heard = asyncio.Event()
        self.connections = 0
        self._server = server
        self._open = asyncio.Event()
        self._open.set()
        self._writers: list[asyncio.StreamWriter] = []
        self._tasks: set[asyncio.Task[None]] = set()

    async def listen(self) -> int:
        """The port."""
        self._listening = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        port: int = self._listening.sockets[0].getsockname()[1]
        return port

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            from_redis, to_redis = await asyncio.open_connection(
                self._server.host, self._server.port
            )
        except OSError:
            writer.close()
            return
        self._writers += [writer, to_redis]
        self.connections += 1
        answers = asyncio.create_task(self._answer(from_redis, writer))
        self._tasks.add(answers)
        while written := await reader.read(1 << 20):
            self.written.append(written)
            self.heard.set()
            to_redis.write(written)
        to_redis.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while answer := await reader.read(1 << 20):
            await self._open.wait()
            writer.write(answer)
        writer.close()

    def hold(self) -> None:
        """Hold back answers, and begin to note what is written."""
        self._open.clear()
        self.forget()

    def forget(self) -> None:
        """Note what is written from now on."""
        self.written.clear()
        self.heard.clear()

    def release(self) -> None:
        """Let answers through."""
        self._open.set()

    async def drop(self) -> None:
        """Close all connections, and return when the clients know."""
        witness, closing = await asyncio.open_connection(
            *self._listening.sockets[0].getsockname()[:2]
        )
        closing.write(b"PING\r\n")
        await witness.readline()
        for writer in self._writers:
            writer.close()
        assert await witness.read() == b""
        closing.close()
        # All were closed in one turn; what the others have got is looked at in the same poll.
        await asyncio.sleep(0)

    async def close(self) -> None:
        self._listening.close()
        for writer in self._writers:
            writer.close()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        await asyncio.sleep(0)


def run(
    server: RedisServer,
    function: Callable[[Batches, Between], Awaitable[T]],
    *,
    at_once: int = 500,
    **parameters: Any,
) -> T:
    async def main() -> T:
        between = Between(server)
        port = await between.listen()
        pool = redis.ConnectionPool(host="127.0.0.1", port=port, **parameters)
        batches = Batches(pool, at_once=at_once)
        async with asyncio.timeout(patience(60)):
            # So that it has connected.
            await batches.run(("PING",))
            between.forget()
            try:
                return await function(batches, between)
            finally:
                await batches.close()
                await between.close()

    return asyncio.run(main())


def names(written: bytes) -> list[str]:
    """The commands of a write."""
    words = [word for word in written.decode().split("\r\n") if word]
    known = {"SET", "GET", "INCR", "LPUSH", "MULTI", "EXEC"}
    return [word for word in words if word in known]


def value(server: RedisServer, key: str) -> object:
    with server.client() as client:
        return client.get(key)


def elements(server: RedisServer, key: str) -> object:
    with server.client() as client:
        return client.lrange(key, 0, -1)


# -- answers


def test_answers_come_in_the_order_of_the_commands(own: RedisServer) -> None:
    async def main(batches: Batches, _: Between) -> list[object]:
        return await batches.run(("SET", "a", 1), ("INCR", "a"), ("GET", "a"), ("GET", "b"))

    assert run(own, main) == [b"OK", 2, b"2", None]


def test_errors_are_among_the_answers(own: RedisServer) -> None:
    async def main(batches: Batches, _: Between) -> list[object]:
        return await batches.run(("SET", "a", "x"), ("INCR", "a"), ("GET", "a"))

    ok, error, after = run(own, main)

    assert (ok, after) == (b"OK", b"x")
    assert isinstance(error, ResponseError)


def test_what_cannot_be_sent_is_an_error_for_its_caller_only(own: RedisServer) -> None:
    ended: list[BaseException | None] = []

    async def main(batches: Batches, between: Between) -> list[object]:
        await batches.run(("SET", "a", 0))
        between.forget()
        good = [batches.begin(("INCR", "a"))]
        bad = [batches.begin(("SET", "\ud800", 1)), batches.begin(("SET", "b", object()))]
        batches.store(State(b"state", b"{}", ended.append), 60)
        good.append(batches.begin(("INCR", "a"), ("GET", "state")))
        answers = await asyncio.gather(*good, *bad, return_exceptions=True)
        return [*answers, await batches.run(("INCR", "a")), between.connections]

    first, last, surrogate, unknown, after, connections = run(own, main)

    assert (first, last, after) == ([1], [2, b"{}"], [3])
    assert isinstance(surrogate, UnicodeEncodeError)
    assert isinstance(unknown, DataError)
    assert ended == [None]
    assert connections == 1, "it was not lost"


def test_a_future_can_be_had_at_once(own: RedisServer) -> None:
    async def main(batches: Batches, _: Between) -> object:
        future = batches.begin(("SET", "a", 1))
        assert not future.done()
        return await future

    assert run(own, main) == [b"OK"]


def test_many_more_callers_than_go_in_one_write_are_answered(own: RedisServer) -> None:
    callers = 1500

    async def main(batches: Batches, _: Between) -> list[list[object]]:
        return await asyncio.gather(*(batches.run(("INCR", "a")) for _ in range(callers)))

    assert run(own, main) == [[number + 1] for number in range(callers)]


# -- writes


def test_what_is_asked_for_in_a_turn_goes_in_one_write(own: RedisServer) -> None:
    async def main(batches: Batches, between: Between) -> list[bytes]:
        await asyncio.gather(*(batches.run(("INCR", "a"), ("GET", "a")) for _ in range(3)))
        return between.written

    [written] = run(own, main)

    assert names(written) == ["INCR", "GET"] * 3


def test_what_is_asked_for_meanwhile_makes_the_next_write(own: RedisServer) -> None:
    async def main(batches: Batches, between: Between) -> list[bytes]:
        between.hold()
        first = batches.begin(("INCR", "a"))
        await between.heard.wait()
        others = [batches.begin(("GET", "a")) for _ in range(3)]
        await asyncio.sleep(0)
        assert len(between.written) == 1
        between.release()
        assert await first == [1]
        assert await asyncio.gather(*others) == [[b"1"]] * 3
        return between.written

    assert [names(written) for written in run(own, main)] == [["INCR"], ["GET"] * 3]


def test_one_write_stores_no_more_states_than_there_may_be_callers(own: RedisServer) -> None:
    """Their tasks wait for their acknowledgement together."""
    most = 50

    async def main(batches: Batches, between: Between) -> list[bytes]:
        stored: list[object] = []
        all_stored = asyncio.Event()

        def note(error: BaseException | None) -> None:
            stored.append(error)
            if len(stored) == most - 1 + most:
                all_stored.set()

        # Kept for different times, they are stored by two commands.
        for expires, count in ((60, most - 1), (0, most)):
            for number in range(count):
                key = f"{expires} {number}".encode()
                batches.store(State(key, b'{"status": "SUCCESS"}', note), expires)
        await all_stored.wait()
        assert stored == [None] * len(stored)
        return between.written

    writes = run(own, main, at_once=most)

    assert [written.count(b"EVAL") for written in writes] == [1, 1]


# -- cancelled


def test_what_is_cancelled_before_it_is_sent_is_not_sent(own: RedisServer) -> None:
    async def main(batches: Batches, _: Between) -> list[list[object]]:
        waiting = [batches.begin(("INCR", "a")) for _ in range(3)]
        waiting[1].cancel()
        return [await waiting[0], await waiting[2]]

    assert run(own, main) == [[1], [2]]
    assert value(own, "a") == "2"


def test_what_is_cancelled_while_it_is_under_way_disturbs_nobody(own: RedisServer) -> None:
    async def main(batches: Batches, between: Between) -> list[list[object]]:
        between.hold()
        waiting = [batches.begin(("INCR", "a")) for _ in range(3)]
        await between.heard.wait()
        waiting[1].cancel()
        between.release()
        return [await waiting[0], await waiting[2], await batches.run(("GET", "a"))]

    assert run(own, main) == [[1], [3], [b"3"]]


def test_a_transaction_that_is_cancelled_before_it_is_sent_is_not_sent(own: RedisServer) -> None:
    async def main(batches: Batches, _: Between) -> object:
        cancelled = batches.begin(("SET", "a", 1), transaction=True)
        cancelled.cancel()
        return await batches.run(("GET", "a"))

    assert run(own, main) == [None]


# -- transactions


def test_a_transaction_answers_as_its_commands(own: RedisServer) -> None:
    async def main(batches: Batches, between: Between) -> list[object]:
        first, second = await asyncio.gather(
            batches.run(("SET", "a", "x"), ("INCR", "a"), ("GET", "a"), transaction=True),
            batches.run(("GET", "a")),
        )
        return [*first, *second, *map(names, between.written)]

    ok, error, *others = run(own, main)

    assert ok == b"OK"
    assert isinstance(error, ResponseError)
    assert others == [b"x", b"x", ["MULTI", "SET", "INCR", "GET", "EXEC", "GET"]]


def test_a_transaction_that_is_refused_raises_what_a_command_was_told(own: RedisServer) -> None:
    async def main(batches: Batches, _: Between) -> list[object]:
        refused = batches.begin(("SET", "a", 1), ("GET", "too", "many"), transaction=True)
        other = batches.begin(("GET", "a"))
        with pytest.raises(ResponseError, match="wrong number of arguments"):
            await refused
        return await other

    assert run(own, main) == [None]


# -- outages


def test_a_server_that_does_not_answer_in_time_is_an_error_and_asked_anew(
    own: RedisServer,
) -> None:
    async def main(batches: Batches, between: Between) -> list[object]:
        between.hold()
        waiting = [batches.begin(("INCR", "a")) for _ in range(2)]
        for future in waiting:
            with pytest.raises(RedisTimeoutError, match=f"not answered for {LONG} s"):
                await future
        between.release()
        return await batches.run(("GET", "a"))

    assert run(own, main, socket_timeout=LONG) == [b"2"]


def test_an_answer_of_which_hardly_anything_comes_is_an_error(own: RedisServer) -> None:
    async def main(proxy: Proxy) -> None:
        pool = redis.ConnectionPool(host=proxy.host, port=proxy.port, socket_timeout=LONG)
        batches = Batches(pool)
        await batches.run(("PING",))
        proxy.slow_down(50)
        async with asyncio.timeout(patience(30)):
            with pytest.raises(RedisTimeoutError, match=f"not answered for {LONG} s"):
                await batches.run(("ECHO", "x" * 1_000_000))
        await batches.close()

    with Proxy(own.host, own.port) as proxy:
        asyncio.run(main(proxy))


def test_short_answers_may_come_one_after_the_other(own: RedisServer) -> None:
    async def main(batches: Batches, _: Between) -> list[object]:
        wait = ("BLPOP", "nothing", LONG / 2)
        return await batches.run(*[wait] * 5)

    assert run(own, main, socket_timeout=LONG) == [None] * 5


def test_a_connection_that_is_lost_on_the_way_is_an_error_for_all_who_wait(
    own: RedisServer,
) -> None:
    async def main(batches: Batches, between: Between) -> list[object]:
        between.hold()
        waiting = [batches.begin(("INCR", "a")) for _ in range(3)]
        await between.heard.wait()
        between.release()
        own.stop()
        errors: list[object] = [*await asyncio.gather(*waiting, return_exceptions=True)]
        return errors

    try:
        outcomes = run(own, main)
    finally:
        own.start()

    # Which of them were executed nobody knows; the first answers may have come.
    assert all(isinstance(one, RedisConnectionError | list) for one in outcomes)


def test_a_server_that_is_away_is_an_error_until_it_is_back(own: RedisServer) -> None:
    async def main(batches: Batches, between: Between) -> list[object]:
        own.stop()
        try:
            with pytest.raises(RedisConnectionError):
                await batches.run(("GET", "a"))
            with pytest.raises(RedisConnectionError):
                await batches.push("list", b"x")
        finally:
            own.start()
        return await batches.run(("SET", "a", 1))

    assert run(own, main) == [b"OK"]


def test_a_connection_that_was_closed_meanwhile_is_made_again(own: RedisServer) -> None:
    async def main(batches: Batches, between: Between) -> list[object]:
        await between.drop()
        return await batches.run(("SET", "a", 1))

    assert run(own, main) == [b"OK"]


# -- lists


def test_what_is_pushed_onto_a_list_goes_as_one_command(own: RedisServer) -> None:
    async def main(batches: Batches, between: Between) -> list[bytes]:
        await asyncio.gather(*(batches.push("list", b"%d" % number) for number in range(3)))
        return between.written

    [written] = run(own, main)

    assert names(written) == ["LPUSH"]
    assert elements(own, "list") == ["2", "1", "0"]


def test_other_lists_and_commands_between_keep_their_order(own: RedisServer) -> None:
    async def main(batches: Batches, between: Between) -> list[bytes]:
        await asyncio.gather(
            batches.push("a", b"1"),
            batches.push("b", b"2"),
            batches.push("a", b"3"),
            batches.run(("GET", "x")),
            batches.push("a", b"4"),
        )
        return between.written

    [written] = run(own, main)

    assert names(written) == ["LPUSH", "LPUSH", "LPUSH", "GET", "LPUSH"]
    assert elements(own, "a") == ["4", "3", "1"]
    assert elements(own, "b") == ["2"]


def test_what_cannot_be_pushed_is_an_error_for_each(own: RedisServer) -> None:
    async def main(batches: Batches, _: Between) -> list[object]:
        await batches.run(("SET", "text", 1))
        pushed = (batches.push("text", b"x") for _ in range(2))
        errors: list[object] = [*await asyncio.gather(*pushed, return_exceptions=True)]
        return errors

    errors = run(own, main)

    assert len(errors) == 2
    assert all(isinstance(error, ResponseError) for error in errors)


def test_who_pushes_and_is_cancelled_disturbs_nobody(own: RedisServer) -> None:
    async def main(batches: Batches, between: Between) -> None:
        between.hold()
        first, second = (asyncio.ensure_future(batches.push("list", b"x")) for _ in range(2))
        await between.heard.wait()
        first.cancel()
        between.release()
        await second

    run(own, main)

    assert elements(own, "list") == ["x", "x"]


# -- closing


def test_who_waits_when_it_is_closed_is_cancelled(own: RedisServer) -> None:
    async def main(batches: Batches, between: Between) -> list[bool]:
        between.hold()
        under_way = batches.begin(("INCR", "a"))
        await between.heard.wait()
        waiting = batches.begin(("INCR", "a"))
        pushing = asyncio.ensure_future(batches.push("list", b"x"))
        await asyncio.sleep(0)
        await batches.close()
        await asyncio.wait([pushing])
        return [under_way.cancelled(), waiting.cancelled(), pushing.cancelled()]

    assert run(own, main) == [True, True, True]
    assert elements(own, "list") == []


def test_closing_what_was_not_used_does_nothing() -> None:
    async def main() -> None:
        await Batches(redis.ConnectionPool(host="127.0.0.1", port=1)).close()

    asyncio.run(main())
