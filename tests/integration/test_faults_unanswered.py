"""Clients of a Redis that accepts connections and never answers: two of them tell enough."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest
from kombu.exceptions import OperationalError

from tests.support.client_place import ClientPlace, client_place
from tests.support.patience import patience
from tests.support.proxy import Proxy
from tests.support.servers import RedisServer
from tomskit.redis.away import ServerAwayError

# Celery calls what newer versions of redis-py have deprecated.
pytestmark = pytest.mark.filterwarnings("ignore:Call to deprecated setex:DeprecationWarning")

Ask = Callable[[ClientPlace], Awaitable[object]]

TRIED = 2
"""New connections, each of which takes the whole timeout."""


@pytest.fixture
def place(running: RedisServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[ClientPlace]:
    monkeypatch.setattr("tomskit.celery._client.retrying._LEAST_SILENCE", 0.0)
    with client_place(running) as place:
        yield place


async def _follow(place: ClientPlace) -> None:
    async for _ in place.result("later").progress(dict[str, int]):
        pass


def _awaits(method: str, **options: object) -> Ask:
    return lambda place: getattr(place.result("later"), method)(**options)


LONG = patience(60)

ASKING: dict[str, Ask] = {
    "await": _awaits("aget"),
    "state": _awaits("astate", timeout=LONG),
    "ready": _awaits("aready", timeout=LONG),
    "forget": _awaits("aforget", timeout=LONG),
    "progress": _follow,
}
TELLING: dict[str, Ask] = {
    "send": lambda place: place.send(),
    "revoke": _awaits("arevoke", timeout=LONG),
}


def _go_silent(server: Proxy) -> int:
    """Freeze a server, and return how many connections it has accepted."""
    server.accept_silently()
    server.freeze()
    return server.accepted


@pytest.mark.parametrize("heard", [False, True], ids=["never heard", "heard"])
@pytest.mark.parametrize("ask", ASKING.values(), ids=ASKING)
def test_whoever_asks_for_a_result_hears_of_it(place: ClientPlace, ask: Ask, heard: bool) -> None:
    place.store("before", 0)

    async def main() -> int:
        if heard:
            await place.result("before")
            await place.result("before").astate()
        before = _go_silent(place.results)
        with pytest.raises(ServerAwayError, match="Results cannot be waited for"):
            await ask(place)
        return place.results.accepted - before

    assert place.run(main) <= TRIED


@pytest.mark.parametrize("heard", [False, True], ids=["never heard", "heard"])
@pytest.mark.parametrize("tell", TELLING.values(), ids=TELLING)
def test_whoever_publishes_hears_of_it(place: ClientPlace, tell: Ask, heard: bool) -> None:
    async def main() -> int:
        if heard:
            await place.send()
        before = _go_silent(place.broker)
        with pytest.raises(OperationalError, match="has not answered"):
            await tell(place)
        return place.broker.accepted - before

    assert place.run(main) == TRIED


def test_results_are_put_into_a_set_without_waiting_for_their_server(place: ClientPlace) -> None:
    place.results.accept_silently()

    async def main() -> Any:
        made = place.app.ResultSet([place.result("one")])
        made.add(place.result("two"))
        nested: Any = place.app.GroupResult("inner", [place.result("three")])
        return made, place.app.GroupResult("outer", [nested, made[0]])

    results, group = place.run(main)
    assert place.results.accepted == 0

    place.results.heal()
    for number, task_id in enumerate(["one", "two", "three"], 1):
        place.store(task_id, number)
    assert results.get(timeout=patience(10)) == [1, 2]
    assert group.get(timeout=patience(10)) == [[3], 1]
