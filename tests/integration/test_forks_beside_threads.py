"""Forks beside threads: a forked process has none of them, and waits for nothing that one of them held."""

import asyncio
import multiprocessing
import os
import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Final
from uuid import uuid4

import pytest
from redis.connection import Connection
from typing_extensions import override

from tests.support.contracts import untyped
from tests.support.forking import in_child
from tests.support.patience import patience
from tests.support.servers import RedisServer
from tests.support.servers.redis import fresh_redis_db
from tests.support.settings import new_app
from tests.support.threads import switching_often
from tomskit.celery import AsyncCelery, AsyncTask
from tomskit.celery._client.producers import ThreadMessages

pytestmark = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")

LIMIT: Final = 10
"""Celery's ``broker_pool_limit``."""


class Held:
    """Something that a thread is in the middle of while the test forks."""

    def __init__(self) -> None:
        self._begun, self._over = threading.Event(), threading.Event()

    def __call__(self) -> None:
        """Be in the middle of it."""
        self._begun.set()
        assert self._over.wait(patience(20))

    @contextmanager
    def by_thread(self, work: Callable[[], object]) -> Generator[None]:
        """A thread does `work`, and is in the middle of it."""
        thread = threading.Thread(target=work)
        thread.start()
        try:
            assert self._begun.wait(patience(10))
            yield
        finally:
            self._over.set()
            thread.join()


@pytest.fixture
def app(redis_server: RedisServer) -> Iterator[AsyncCelery]:
    db = fresh_redis_db(redis_server)
    broker, results = redis_server.url(db.broker_db), redis_server.url(db.result_db)
    made = new_app("beside-threads", broker=broker, backend=results, set_as_current=False)
    yield made
    made.close()


@pytest.fixture
def add(app: AsyncCelery) -> AsyncTask[[int, int], int]:
    # Celery gives it to the apps of the other tests as well.
    @app.task(name=f"add-{uuid4()}")
    async def add(a: int, b: int) -> int:
        return a + b

    return add


Send = Callable[[AsyncTask[[int, int], int]], object]


def _delay(add: AsyncTask[[int, int], int]) -> object:
    return add.delay(1, 2)


def _adelay(add: AsyncTask[[int, int], int]) -> object:
    async def main() -> str:
        return (await add.adelay(1, 2)).id

    return asyncio.run(main())


SENDS: Final[tuple[Send, ...]] = (_delay, _adelay)


@pytest.mark.parametrize("send", SENDS)
def test_all_connections_of_the_parent_are_in_use(
    app: AsyncCelery, add: AsyncTask[[int, int], int], send: Send
) -> None:
    with ExitStack() as stack:
        for _ in range(LIMIT):
            stack.enter_context(app.producer_or_acquire())
        in_child(lambda: send(add))

    assert add.delay(1, 2).id


@pytest.mark.parametrize("send", SENDS)
def test_a_thread_makes_what_sends_for_another_app(
    add: AsyncTask[[int, int], int], send: Send
) -> None:
    held = Held()

    class SlowMessages(ThreadMessages):
        @override
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            held()

    slow = new_app("slow", broker="memory://", amqp=SlowMessages, set_as_current=False)

    with held.by_thread(lambda: slow.amqp):
        in_child(lambda: send(add))


def test_a_thread_connects_when_multiprocessing_forks(
    app: AsyncCelery, add: AsyncTask[[int, int], int]
) -> None:
    held = Held()

    class SlowConnection(Connection):
        @override
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            untyped(super()).__init__(*args, **kwargs)
            if threading.current_thread() is not threading.main_thread():
                held()

    def send() -> None:
        with app.producer_or_acquire() as producer:
            pool = producer.channel.client.connection_pool
            pool.connection_class = SlowConnection
            pool.disconnect()
            pool.reset()
            pool.get_connection()

    child = multiprocessing.get_context("fork").Process(target=_delay, args=(add,))
    with held.by_thread(send):
        child.start()
        child.join(patience(10))
        hangs = child.exitcode is None
        if hangs:
            child.kill()
            child.join()
    assert child.exitcode == 0, "it hangs" if hangs else "it fails"


def test_a_thread_is_the_first_to_use_the_tasks(app: AsyncCelery) -> None:
    held, forks = Held(), threading.Event()

    name = f"second-{uuid4()}"

    @app.task(name=name)
    async def second() -> None: ...

    def slow(**_: object) -> None:
        # Registered last, called first: before the fork waits for anything.
        os.register_at_fork(before=forks.set)
        threading.Thread(target=held).start()
        assert forks.wait(patience(10))

    app.on_after_finalize.connect(slow, weak=False)

    with held.by_thread(lambda: app.tasks):
        in_child(lambda: app.tasks[name])


def test_threads_that_send_all_the_time(add: AsyncTask[[int, int], int]) -> None:
    stop = threading.Event()
    errors: list[Exception] = []

    def work(send: Send) -> None:
        while not stop.is_set():
            try:
                send(add)
            except Exception as exc:  # noqa: BLE001 (raised below)
                errors.append(exc)
                return

    threads = [threading.Thread(target=work, args=(send,)) for send in SENDS * 3]
    with switching_often():
        for thread in threads:
            thread.start()
        try:
            for send in SENDS * 5:
                in_child(lambda send=send: send(add))  # type: ignore[misc]
        finally:
            stop.set()
            for thread in threads:
                thread.join()
    for error in errors:
        raise error
