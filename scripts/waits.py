"""Calls of src in which a thread may wait for ever.

A thread that waits without a deadline hangs when what it waits for does not come: a server that is silent, a
process that was killed, a coroutine that blocks its loop. Found are, unless awaited:

* ``wait()``, ``join()``, ``result()``, ``acquire()``, ``communicate()`` and ``poll()`` without a time-out, and ``get()`` of
  what the file makes as a queue;
* ``with`` of what the file makes as a lock of threads, and of an executor, which waits at its end;
* ``select.select``, ``concurrent.futures.wait``, ``subprocess.run`` and the like, ``socket.create_connection``,
  ``urlopen`` and ``os.waitpid`` without a time-out;
* receiving, sending, accepting and connecting of sockets;
* clients of Redis that block, without time-outs.

Those that are right stand in `KNOWN` with the reason why they end.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from typing import Final

__all__ = ("KNOWN", "waits_in")

_WITHOUT_ARGUMENTS: Final = frozenset(
    {"wait", "join", "result", "acquire", "communicate", "poll", "get"}
)
_OF_SOCKETS: Final = frozenset(
    {"recv", "recv_into", "recvfrom", "sendall", "accept", "connect_ex", "makefile"}
)
_FUNCTIONS: Final[Mapping[str, int]] = {
    # How many arguments they have with a time-out that is given by its place; 99 where it needs a name.
    "select.select": 4,
    "futures.wait": 2,
    "concurrent.futures.wait": 2,
    "concurrent.futures.as_completed": 2,
    "as_completed": 2,
    "subprocess.run": 99,
    "subprocess.call": 99,
    "subprocess.check_call": 99,
    "subprocess.check_output": 99,
    "socket.create_connection": 2,
    "create_connection": 2,
    "urlopen": 3,
    "urllib.request.urlopen": 3,
    "os.waitpid": 99,
    "os.wait": 99,
    "signal.pause": 99,
}
_LOCKS: Final = frozenset(
    {"Lock", "RLock", "ForkLock", "Condition", "Semaphore", "BoundedSemaphore"}
)
_QUEUES: Final = frozenset({"Queue", "SimpleQueue", "LifoQueue", "PriorityQueue", "JoinableQueue"})
_EXECUTORS: Final = frozenset({"ThreadPoolExecutor", "ProcessPoolExecutor"})
_CLIENTS: Final = frozenset({"Redis", "StrictRedis", "RedisCluster", "Sentinel"})
_MAKING_CLIENTS: Final = frozenset({"redis.Redis", "redis.StrictRedis", "redis.from_url"})
_TIMEOUTS_OF_CLIENTS: Final = frozenset({"socket_timeout", "socket_connect_timeout"})
_TIMEOUTS: Final = frozenset({"timeout", "timeout_seconds", "blocking", "block"})

_SHORT: Final = "In the lock only memory is read and written."
_DONE: Final = "It is done: it was waited for before."
_TASK: Final = "It waits for a task, as its caller wants it; the task's time limits end it."
_LIFE: Final = "Resources start and stop in it; each has a time limit."

KNOWN: Final[Mapping[str, Mapping[str, str]]] = {
    "tomskit/_commands/supervisor.py": {"with self._lock": _SHORT},
    "tomskit/celery/_client/progress.py": {"end.result()": _DONE},
    "tomskit/celery/_client/replies.py": {
        "with self._reading": "The connection that is read in it has a socket timeout."
    },
    "tomskit/celery/_client/result.py": {"end.result()": _DONE},
    "tomskit/celery/_client/retrying.py": {"with _changing": _SHORT},
    "tomskit/celery/_client/subscriptions.py": {"reading.result()": _DONE},
    "tomskit/celery/_internals/python.py": {"with _looking": _SHORT},
    "tomskit/celery/_outbox/once.py": {"task.result()": _DONE},
    "tomskit/celery/_running/event_loop.py": {
        "with concurrent.futures.ThreadPoolExecutor(1, 'tomskit-eager')": _TASK,
        "thread.submit(copy_context().run, work).result()": _TASK,
    },
    "tomskit/celery/_running/execution.py": {"self._ready.acquire()": _TASK},
    "tomskit/celery/_running/forks.py": {
        "with _between": "What is done in it is an attempt to reach a server, which has a timeout.",
        "self._lock.acquire()": "Where such a lock is used, it is said why that ends.",
    },
    "tomskit/celery/_running/greenlets.py": {"future.result()": _DONE},
    "tomskit/celery/_running/host.py": {"with self._lock": _LIFE},
    "tomskit/celery/_running/inbox.py": {"with self._lock": _SHORT},
    "tomskit/celery/_running/runtime.py": {
        "with _process.lock": _LIFE,
        "asyncio.run_coroutine_threadsafe(coro, self.loop).result()": _LIFE,
        "self._thread.join()": "Its loop is told to stop, and runs nothing any more.",
    },
    "tomskit/celery/_tasks/app_tasks.py": {
        "with self._configuring": _SHORT,
        "with self._finalize_mutex": "Tasks are made in it.",
    },
    "tomskit/celery/_tasks/reporting.py": {"with self._lock": _SHORT},
    "tomskit/celery/_worker/patient_backend.py": {
        "self._news.get()": "A daemon thread that has nothing to do; nobody waits for it."
    },
    "tomskit/celery/asyncio_pool/consumer.py": {
        "asked.result()": _DONE,
        "self._ended.result()": _DONE,
        "thread.join()": "It has reported its end.",
        "done.result()": "The worker's thread runs what it asks for, while the worker does.",
    },
    "tomskit/celery/asyncio_pool/hub.py": {"future.result()": _DONE, "done.result()": _DONE},
    "tomskit/celery/fast_redis/sockets.py": {
        "poller.poll(None if seconds is None else seconds * 1000)": (
            "Connections of ours have a socket timeout; None is what the user has set."
        )
    },
    "tomskit/celery/asyncio_pool/redis_results.py": {"answers.result()": _DONE},
    "tomskit/celery/asyncio_pool/watchdog.py": {
        "self._thread.join()": "It wakes up some times a second and looks whether it is to end."
    },
}
"""By file and call, why it ends."""


def waits_in(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """The line and the text of each call in which a thread may wait for ever."""
    kinds = _Kinds(tree)
    awaited = {id(part) for node in ast.walk(tree) for part in _awaited(node)}
    for node in ast.walk(tree):
        if isinstance(node, ast.With):
            for item in node.items:
                if kinds.is_lock(item.context_expr) or kinds.is_executor(item.context_expr):
                    yield node.lineno, f"with {ast.unparse(item.context_expr)}"
        elif isinstance(node, ast.Call) and id(node) not in awaited and kinds.may_wait(node):
            yield node.lineno, ast.unparse(node)


def _awaited(node: ast.AST) -> Iterator[ast.AST]:
    """The call that is awaited, and those that are arguments of it: coroutines."""
    if isinstance(node, ast.Await):
        yield from ast.walk(node.value)
    elif isinstance(node, ast.AsyncWith):
        for item in node.items:
            yield from ast.walk(item.context_expr)


class _Kinds:
    """What the names of a file are."""

    def __init__(self, tree: ast.Module) -> None:
        self._asynchronous: set[str] = set()
        self._blocking_clients: set[str] = set()
        self._locks: set[str] = set()
        self._queues: set[str] = set()
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.module is not None:
                names = {one.asname or one.name for one in node.names}
                root = node.module.partition(".")[0]
                if root == "asyncio" or node.module.startswith("redis.asyncio"):
                    self._asynchronous |= names
                elif root == "redis":
                    self._blocking_clients |= names & _CLIENTS
        for node in ast.walk(tree):
            if isinstance(node, ast.Assign):
                self._note(node.targets, node.value)
            elif isinstance(node, ast.AnnAssign) and node.value is not None:
                self._note([node.target], node.value)

    def _note(self, targets: list[ast.expr], value: ast.expr) -> None:
        if not isinstance(value, ast.Call):
            return
        made = _dotted(value.func)
        last = made.rpartition(".")[2]
        if made.startswith("asyncio.") or last in self._asynchronous:
            return
        names = {_dotted(target).rpartition(".")[2] for target in targets}
        if last in _LOCKS:
            self._locks |= names
        elif last in _QUEUES:
            self._queues |= names

    def is_lock(self, node: ast.expr) -> bool:
        return _dotted(node).rpartition(".")[2] in self._locks

    def is_executor(self, node: ast.expr) -> bool:
        return isinstance(node, ast.Call) and _dotted(node.func).rpartition(".")[2] in _EXECUTORS

    def may_wait(self, call: ast.Call) -> bool:
        """Whether a call waits, and has no time-out."""
        name = _dotted(call.func)
        last = name.rpartition(".")[2]
        given = {word.arg: word.value for word in call.keywords}
        if name.startswith("asyncio.") or name == "select.poll" or None in given:
            return False
        if last in self._blocking_clients or name in _MAKING_CLIENTS:
            return "connection_pool" not in given and not given.keys() >= _TIMEOUTS_OF_CLIENTS
        if any(word in given and not _is_none(given[word]) for word in _TIMEOUTS):
            return False
        if name in _FUNCTIONS:
            place = _FUNCTIONS[name]
            return len(call.args) < place or _is_none(call.args[place - 1])
        return isinstance(call.func, ast.Attribute) and self._is_endless(call, call.func)

    def _is_endless(self, call: ast.Call, method: ast.Attribute) -> bool:
        if method.attr in _OF_SOCKETS:
            return True
        if method.attr == "get" and _dotted(method.value).rpartition(".")[2] not in self._queues:
            return False
        return method.attr in _WITHOUT_ARGUMENTS and all(map(_is_none, call.args))


def _is_none(node: ast.expr) -> bool:
    if isinstance(node, ast.IfExp):
        return _is_none(node.body) or _is_none(node.orelse)
    return isinstance(node, ast.Constant) and node.value is None


def _dotted(node: ast.expr) -> str:
    if isinstance(node, ast.Attribute):
        before = _dotted(node.value)
        return f"{before}.{node.attr}" if before else node.attr
    return node.id if isinstance(node, ast.Name) else ""
