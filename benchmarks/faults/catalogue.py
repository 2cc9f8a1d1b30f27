"""The faults. Each is a context: it begins, and it is over when the context ends."""

import time
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial
from typing import Final, Literal, NamedTuple

from tests.support.faults import Servers
from tests.support.proxy import Proxy, Side
from tests.support.refusing import REFUSALS, Refusal, refusing
from tests.support.servers import RedisServer
from tests.support.servers.base import outage

SECONDS: Final = 10.0
"""How long a fault lasts that ends by itself."""

Where = Literal["broker", "results", "both"]


class Fault(NamedTuple):
    """One of them.

    Attributes:
        name: As the table names it.
        apply: Lets it begin; what it returns lasts as long as the fault.
        seconds: How long. Connections that have gone silent stay so.
    """

    name: str
    apply: Callable[[Servers], AbstractContextManager[None]]
    seconds: float = SECONDS


def _proxies(servers: Servers, where: Where) -> list[Proxy]:
    known: dict[Where, list[Proxy]] = {
        "broker": [servers.broker],
        "results": [servers.results],
        "both": [servers.broker, servers.results],
    }
    return known[where]


def _redis(servers: Servers, where: Where) -> list[RedisServer]:
    known: dict[Where, list[RedisServer]] = {
        "broker": [servers.server],
        "results": [servers.store],
        "both": [servers.server, servers.store],
    }
    return known[where]


@contextmanager
def _silent(where: Where, sides: tuple[Side, ...], servers: Servers) -> Generator[None]:
    for proxy in _proxies(servers, where):
        proxy.freeze(*sides)
    yield


@contextmanager
def _cut(servers: Servers) -> Generator[None]:
    for proxy in _proxies(servers, "both"):
        proxy.cut_after(1000)
    yield
    for proxy in _proxies(servers, "both"):
        proxy.heal()


@contextmanager
def _slow(servers: Servers) -> Generator[None]:
    for proxy in _proxies(servers, "both"):
        proxy.slow_down(20_000)
    yield
    for proxy in _proxies(servers, "both"):
        proxy.heal()


@contextmanager
def _accepted(servers: Servers) -> Generator[None]:
    for proxy in _proxies(servers, "both"):
        proxy.accept_silently()
        proxy.freeze()
    yield
    for proxy in _proxies(servers, "both"):
        proxy.heal()


@contextmanager
def _closed_again_and_again(servers: Servers) -> Generator[None]:
    for _ in range(4):
        for proxy in _proxies(servers, "both"):
            proxy.kill()
        time.sleep(2)
    yield


@contextmanager
def _refused(kind: Refusal, where: Where, servers: Servers) -> Generator[None]:
    with refusing(kind, *_redis(servers, where)):
        yield


@contextmanager
def _gone(where: Where, servers: Servers) -> Generator[None]:
    with ExitStack() as stack:
        for server in _redis(servers, where):
            stack.enter_context(outage(server, "gone"))
        yield


@contextmanager
def _emptied(servers: Servers) -> Generator[None]:
    servers.server.flush()
    servers.store.flush()
    yield


_PLACES: Final[tuple[Where, ...]] = ("broker", "results", "both")

FAULTS: Final[tuple[Fault, ...]] = (
    Fault("connections go silent", partial(_silent, "both", ()), 0),
    Fault("only requests are not forwarded", partial(_silent, "both", ("requests",)), 0),
    Fault("only answers are not forwarded", partial(_silent, "both", ("answers",)), 0),
    Fault("an answer stops in its middle", _cut),
    Fault("20 kB/s", _slow),
    Fault("connections are accepted and not answered", _accepted),
    Fault("connections are closed every 2 s", _closed_again_and_again, 0),
    *(
        Fault(f"{kind}, {where}", partial(_refused, kind, where))
        for kind in REFUSALS
        for where in (_PLACES if kind == "READONLY" else ("both",))
    ),
    Fault("broker stopped", partial(_gone, "broker")),
    Fault("result backend stopped", partial(_gone, "results")),
    Fault("both stopped", partial(_gone, "both")),
    Fault("FLUSHALL", _emptied, 0),
)
