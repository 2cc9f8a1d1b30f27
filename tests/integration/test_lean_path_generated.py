"""Generated calls on the lean path and on Celery's own: nobody can tell them apart."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import pytest
from celery import Signature, chain
from celery.result import AsyncResult
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from tests.support.deployment import deploy
from tests.support.lean_paths import CASES, RUNS_AGAIN, SERVICE, Watched, lean_tasks, watching
from tests.support.servers import MariaDBServer, RedisServer

AT_ONCE: Final = 12
"""How many calls are made together."""

EXAMPLES: Final = 25

VALUES: Final = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**80), 2**80)
    | st.floats(allow_nan=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)

LIMITED: Final = frozenset(name for name in CASES if "soft limit" in name)
"""These wait for a limit of their own, which one of the call would replace."""

OPTIONS: Final = st.fixed_dictionaries(
    {},
    optional={
        "countdown": st.just(0.01),
        "expires": st.just(600),
        "priority": st.integers(0, 9),
        "headers": st.dictionaries(st.sampled_from(["mine", "yours"]), st.integers(), min_size=1),
        "serializer": st.sampled_from(["json", "orjson"]),
        "compression": st.sampled_from(["gzip", None]),
        "ignore_result": st.booleans(),
        "retries": st.just(0),
        "shadow": st.sampled_from(["another name", "é"]),
        "group_id": st.uuids().map(str),
        "root_id": st.uuids().map(str),
        "parent_id": st.uuids().map(str),
        "time_limit": st.sampled_from([None, 600, 600.5]),
        "soft_time_limit": st.sampled_from([None, 500]),
        "argsrepr": st.sampled_from(["shown", "é%s\\n"]),
        "link": st.booleans(),
        "stamped_headers": st.sampled_from([["stamp"]]),
    },
)


@dataclass(frozen=True)
class Call:
    """A call, and whether another task follows in a chain.

    Attributes:
        case: The name of what is called, in CASES.
        value: The argument of a task that returns it; None to take that of the case.
        options: Those of the call.
        in_chain: Whether it is the first of a chain.
    """

    case: str
    value: object
    options: dict[str, Any]
    in_chain: bool

    @property
    def is_sent(self) -> bool:
        """Whether its result is stored."""
        return not self.options.get("ignore_result")

    def send(self, watched: Watched, queue: str) -> AsyncResult[Any]:
        """Send it; its result."""
        task, args, more = CASES[self.case]
        options = {**self.options, **more, "queue": queue}
        client = watched.both.deployment.client
        following: Signature[Any] = client.signature(
            f"{SERVICE}.nothing", queue=queue, immutable=True
        )
        # What follows goes to the same queue, which a task that describes its request would show.
        is_followed = task != "describe"
        if options.pop("link", False) and is_followed:
            options["link"] = following
        if options.get("stamped_headers"):
            options["stamp"] = "value"
        if self.case in LIMITED:
            options.pop("time_limit", None)
            options.pop("soft_time_limit", None)
        if task == "echo":
            args = (self.value,)
        called: Signature[Any] = client.signature(f"{SERVICE}.{task}", args, **options)
        if not (self.in_chain and is_followed):
            return called.apply_async()
        last: Any = chain(called, following).apply_async()
        first: AsyncResult[Any] = last.parent
        return first


CALLS: Final = st.lists(
    st.builds(Call, st.sampled_from(sorted(CASES)), VALUES, OPTIONS, st.booleans()),
    min_size=1,
    max_size=AT_ONCE,
)


@pytest.fixture(scope="module")
def watched(redis_server: RedisServer, mariadb_server: MariaDBServer) -> Iterator[Watched]:
    with deploy(redis_server, mariadb_server) as deployment, watching(deployment) as watched:
        yield watched


@given(CALLS)
# A failure is not made smaller: each try takes seconds.
@settings(max_examples=EXAMPLES, phases=[Phase.generate])
def test_nobody_can_tell_generated_calls_apart(watched: Watched, calls: list[Call]) -> None:
    both = watched.both
    sent = [(call, call.send(watched, "lean"), call.send(watched, "celerys")) for call in calls]
    for call, lean, celerys in sent:
        if call.is_sent:
            assert both.outcome(lean) == both.outcome(celerys)
        watched.assert_told_alike(lean, celerys, runs_again=call.case in RUNS_AGAIN)


@given(VALUES)
@settings(max_examples=EXAMPLES, phases=[Phase.generate])
def test_ordinary_ones_take_the_lean_path(watched: Watched, value: object) -> None:
    both = watched.both
    before = lean_tasks(both.deployment, both.lean)
    call = Call("a number", value, {}, in_chain=False)
    both.outcome(call.send(watched, "lean"))
    both.outcome(call.send(watched, "celerys"))
    assert lean_tasks(both.deployment, both.lean) > before
    assert lean_tasks(both.deployment, both.celerys) == 0
