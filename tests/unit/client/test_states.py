"""The state of a task, and revoking and forgetting it, asked in an event loop."""

import asyncio
import socket
from collections.abc import Awaitable, Callable, Generator, Iterator
from contextlib import contextmanager

import pytest
from celery.exceptions import TaskRevokedError
from celery.exceptions import TimeoutError as CeleryTimeoutError
from kombu.exceptions import OperationalError

from tests.support.contracts import untyped
from tests.support.loops import ticks_while
from tests.support.patience import slowed
from tomskit.celery import AsyncCelery, CeleryConfig, TypedResult, async_shared_task, group


@async_shared_task
async def double(number: int) -> int:
    return 2 * number


@async_shared_task
async def refuse() -> None:
    raise LookupError("not here")


@pytest.fixture
def client() -> Iterator[AsyncCelery]:
    """An app that sends to nobody, and waits for results in threads."""
    app = AsyncCelery("client", broker="memory://", backend="cache+memory://")
    yield app
    app.close()


@contextmanager
def silent_server() -> Generator[int]:
    """A port where connections are accepted and nothing is ever answered."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def commands_of(app: AsyncCelery) -> list[dict[str, object]]:
    """What a worker of this app is told from the first of these calls on."""
    commands: list[dict[str, object]] = []
    with app.connection_for_read() as connection:
        queue = untyped(app).control.mailbox.get_queue("worker")(connection.default_channel)
        queue.declare()
        while (message := queue.get()) is not None:
            commands.append(message.payload)
    return commands


def test_state_is_what_the_backend_has(client: AsyncCelery) -> None:
    async def main() -> list[object]:
        sent = await double.adelay(1)
        found: list[object] = [await sent.astate(), await sent.aready()]
        client.backend.store_result(sent.id, None, "STARTED")
        found += [await sent.astate(), await sent.aready()]
        client.backend.store_result(sent.id, 2, "SUCCESS")
        return [*found, await sent.astate(), await sent.aready(), await sent]

    found = asyncio.run(main())

    assert found == ["PENDING", False, "STARTED", False, "SUCCESS", True, 2]


def test_task_that_nobody_knows_is_pending(client: AsyncCelery) -> None:
    unknown = double.AsyncResult("nobody knows it")

    assert asyncio.run(unknown.astate()) == "PENDING"
    assert not asyncio.run(unknown.aready())


def test_state_of_a_result_of_another_type_is_failure(client: AsyncCelery) -> None:
    result = double.AsyncResult("typed")
    client.backend.store_result("typed", "two", "SUCCESS")

    assert asyncio.run(result.astate()) == "FAILURE"


def test_forgotten_result_is_pending(client: AsyncCelery) -> None:
    async def main() -> list[str]:
        sent = await double.adelay(1)
        client.backend.store_result(sent.id, 2, "SUCCESS")
        states = [await sent.astate()]
        await sent.aforget()
        return [*states, await sent.astate(), sent.state]

    assert asyncio.run(main()) == ["SUCCESS", "PENDING", "PENDING"]


def test_chain_is_forgotten_whole(client: AsyncCelery) -> None:
    async def main() -> list[str]:
        sent = await (double.s(1) | double.s()).adelay()
        parent = double.AsyncResult(str(sent.parent))
        client.backend.store_result(parent.id, 2, "SUCCESS")
        before = await double.AsyncResult(parent.id).astate()
        await sent.aforget()
        return [before, await double.AsyncResult(parent.id).astate()]

    assert asyncio.run(main()) == ["SUCCESS", "PENDING"]


def test_workers_are_told_to_revoke(client: AsyncCelery) -> None:
    commands_of(client)

    async def main() -> list[str]:
        sent = await double.adelay(1)
        await sent.arevoke()
        await sent.arevoke(terminate=True, signal="SIGUSR1")
        members = await group(double.s(number) for number in range(2)).adelay()
        await members.arevoke()
        return [sent.id, *(member.id for member in members)]

    one, *many = asyncio.run(main())

    told = commands_of(client)
    assert [command["method"] for command in told] == ["revoke"] * 3
    assert [command["arguments"] for command in told] == [
        {"task_id": [one], "terminate": False, "signal": "SIGTERM"},
        {"task_id": [one], "terminate": True, "signal": "SIGUSR1"},
        {"task_id": many, "terminate": False, "signal": "SIGTERM"},
    ]


def test_group_is_ready_when_all_are(client: AsyncCelery) -> None:
    async def main() -> list[bool]:
        members = await group(double.s(number) for number in range(3)).adelay()
        first, *others = members
        ready = [await members.aready()]
        client.backend.store_result(first.id, 0, "SUCCESS")
        ready.append(await members.aready())
        for other in others:
            client.backend.store_result(other.id, 0, "SUCCESS")
        ready.append(await members.aready())
        await members.aforget()
        return [*ready, await members.aready()]

    assert asyncio.run(main()) == [False, False, True, False]


def test_eager_results_know_it_themselves(client: AsyncCelery) -> None:
    client.conf.task_always_eager = True

    async def main() -> list[object]:
        done, failed = await double.adelay(1), await refuse.adelay()
        members = await group(double.s(number) for number in range(3)).adelay()
        found: list[object] = [await done.astate(), await failed.astate()]
        found += [await done.aready(), await failed.aready(), await members.aready()]
        await done.aforget()
        await members.aforget()
        found.append(await done)
        await done.arevoke()
        await members.arevoke()
        found.append(await done.astate())
        with pytest.raises(TaskRevokedError):
            await done
        return found

    assert asyncio.run(main()) == ["SUCCESS", "FAILURE", True, True, True, 2, "REVOKED"]


@pytest.mark.parametrize("fast", [True, False])
@pytest.mark.parametrize("ask", ["astate", "aready", "aforget", "arevoke"])
def test_server_that_does_not_answer_is_waited_for_within_the_timeout(
    ask: str, *, fast: bool
) -> None:
    seconds = round(slowed(0.3), 1)
    with silent_server() as port:
        config = CeleryConfig(
            CELERY_BROKER_REDIS_HOST="127.0.0.1",
            CELERY_BROKER_REDIS_PORT=port,
            CELERY_RESULT_BACKEND_REDIS_HOST="127.0.0.1",
            CELERY_RESULT_BACKEND_REDIS_PORT=port,
            CELERY_REDIS_FAST_PATH=fast,
        )
        app = AsyncCelery("client", config=config)
        app.conf.update(
            redis_socket_timeout=3 * seconds,
            redis_retry_on_timeout=False,
            broker_transport_options={"socket_timeout": 3 * seconds},
        )
        result = TypedResult[int]("an id", app=app)

        async def main() -> int:
            asking: Callable[..., Awaitable[object]] = getattr(result, ask)

            async def refused() -> None:
                with pytest.raises(
                    CeleryTimeoutError, match=f"No answer of .* within {seconds:g} s"
                ):
                    await asking(timeout=seconds)

            ticks, _ = await ticks_while(refused())
            return ticks

        assert asyncio.run(main()) > 3
        app.close()


@pytest.mark.parametrize("fast", [True, False])
def test_revoking_while_the_broker_is_away_is_an_error(*, fast: bool) -> None:
    with silent_server() as port:
        pass  # nobody listens there any more
    config = CeleryConfig(
        CELERY_BROKER_REDIS_HOST="127.0.0.1",
        CELERY_BROKER_REDIS_PORT=port,
        CELERY_REDIS_FAST_PATH=fast,
    )
    app = AsyncCelery("client", config=config)
    app.conf.update(task_publish_retry=False)

    with pytest.raises(OperationalError):
        asyncio.run(TypedResult[int]("an id", app=app).arevoke(timeout=30))
    app.close()
