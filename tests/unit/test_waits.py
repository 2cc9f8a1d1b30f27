"""``scripts/waits.py``: calls in which a thread may wait for ever."""

import ast
from pathlib import Path

import pytest
from scripts.waits import KNOWN, waits_in

SRC = Path(__file__).parents[2] / "src"

ENDLESS = (
    "threading.Event().wait()",
    "threading.Event().wait(None)",
    "threading.Event().wait(timeout=None)",
    "made = queue.Queue()\nmade.get()",
    "class C:\n    def __init__(self):\n        self.made = SimpleQueue()\n    def f(self):\n        self.made.get()",
    "made: Queue[int] = Queue()\nmade.get(block=None)",
    "future.result()",
    "asyncio.run_coroutine_threadsafe(coro, loop).result()",
    "thread.join()",
    "lock.acquire()",
    "lock = threading.Lock()\nwith lock: ...",
    "self.ready = threading.Condition()\nwith self.ready: ...",
    "from threading import RLock\nlock = RLock()\nwith lock: ...",
    "lock = ForkLock(is_brief=True)\nwith lock: ...",
    "connection.recv(1024)",
    "listening.accept()",
    "process.wait()",
    "process.communicate()",
    "subprocess.run(['ls'])",
    "subprocess.check_output(['ls'], timeout=None)",
    "select.select(some, [], [])",
    "select.select(some, [], [], None)",
    "poller.poll()",
    "poller.poll(None if endless else 1)",
    "concurrent.futures.wait(some)",
    "concurrent.futures.as_completed(some)",
    "socket.create_connection(address)",
    "urllib.request.urlopen(url)",
    "os.waitpid(pid, 0)",
    "with concurrent.futures.ThreadPoolExecutor(1): ...",
    "import redis\nredis.Redis(host='h')",
    "from redis import Redis\nRedis(host='h', socket_timeout=5)",
    "async def f():\n    future.result()",
)

BOUNDED = (
    "event.wait(5)",
    "event.wait(timeout=5)",
    "future.result(5)",
    "thread.join(1.0)",
    "lock.acquire(timeout=1)",
    "lock.acquire(blocking=False)",
    "made = queue.Queue()\nmade.get(timeout=1)",
    "variable = ContextVar('v')\nvariable.get()",
    "', '.join(words)",
    "async def f():\n    await event.wait()",
    "async def f():\n    await asyncio.wait_for(queue.join(), 5)",
    "lock = asyncio.Lock()\nasync def f():\n    async with lock: ...",
    "from asyncio import Condition\nchanged = Condition()\nasync def f():\n    async with changed: ...",
    "async def f():\n    async with asyncio.timeout(5), free.acquire(): ...",
    "subprocess.run(['ls'], timeout=5)",
    "select.select(some, [], [], 1)",
    "poller.poll(1000)",
    "concurrent.futures.wait(some, 5)",
    "socket.create_connection(address, 5)",
    "from redis import Redis\nRedis(host='h', socket_timeout=5, socket_connect_timeout=5)",
    "from redis.asyncio import Redis\nRedis(host='h')",
)


@pytest.mark.parametrize("code", ENDLESS)
def test_a_wait_without_a_deadline_is_found(code: str) -> None:
    assert len(list(waits_in(ast.parse(code)))) == 1


@pytest.mark.parametrize("code", BOUNDED)
def test_a_wait_with_a_deadline_is_not(code: str) -> None:
    assert list(waits_in(ast.parse(code))) == []


def test_src_waits_without_a_deadline_only_where_it_is_known_why_that_ends() -> None:
    found: dict[str, set[str]] = {}
    for file in sorted(SRC.rglob("*.py")):
        texts = {text for _, text in waits_in(ast.parse(file.read_text()))}
        if texts:
            found[file.relative_to(SRC).as_posix()] = texts

    # Give what is new a time-out, or tell scripts/waits.py why it ends.
    assert found == {place: set(known) for place, known in KNOWN.items()}
