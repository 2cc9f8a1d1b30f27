"""What a worker says when it cannot start, and that it then does not."""

import pytest

from tests.support.deployment import SERVICE, Deployment
from tests.support.workers import Pool, Worker


def refused(
    deployment: Deployment,
    pool: Pool | None = None,
    *,
    module: str = SERVICE,
    **environment: str,
) -> str:
    """Start a worker that must not come up, and give what it wrote."""
    env = {**deployment.environment, **environment}
    with Worker(module, pool=pool, env=env) as worker:
        code = worker.wait()
    assert code != 0, worker.text
    return worker.text


def test_gevent_is_refused_with_the_way_out(deployment: Deployment) -> None:
    pytest.importorskip("gevent")

    text = refused(deployment, "gevent")

    assert "The gevent pool cannot run coroutines" in text
    assert "asyncio pool" in text
    assert "Traceback" not in text


def test_the_asyncio_pool_refuses_a_transport_without_an_event_loop(
    deployment: Deployment,
) -> None:
    text = refused(deployment, "asyncio", BROKER_URL="filesystem://")

    assert "cannot wait for messages of the 'filesystem' transport" in text
    assert "use a Redis or AMQP broker" in text
    assert "Traceback" not in text


def test_the_asyncio_pool_refuses_a_plain_app(deployment: Deployment) -> None:
    pool = "tomskit.celery.asyncio_pool:AsyncioPool"

    text = refused(
        deployment,
        "custom",
        module="tests.integration.stock_service",
        CELERY_CUSTOM_WORKER_POOL=pool,
    )

    assert "app = AsyncCelery(" in text
    assert "Traceback" not in text


@pytest.mark.parametrize("pool", ["prefork", "asyncio"])
def test_a_coroutine_function_as_a_plain_task_is_refused(
    deployment: Deployment, pool: Pool
) -> None:
    module = "tests.integration.refused_tasks_service"

    text = refused(deployment, pool, module=module)

    assert f"The task {module}.add is async def" in text
    assert "@async_shared_task" in text
    assert "Traceback" not in text


def test_bad_setting_is_refused_by_name(deployment: Deployment) -> None:
    text = refused(deployment, CELERY_BROKER_REDIS_PORT="six", CELERY_DB_PASSWORD="hush-hush")

    assert "CELERY_BROKER_REDIS_PORT" in text
    assert "hush-hush" not in text


@pytest.mark.parametrize(
    ("pool", "setting"),
    [
        ("prefork", "CELERY_ACCEPT_CONTENT"),
        ("asyncio", "CELERY_ACCEPT_CONTENT"),
        ("threads", "CELERY_TASK_SERIALIZER"),
        ("asyncio", "CELERY_RESULT_SERIALIZER"),
    ],
)
def test_a_serializer_that_nobody_has_registered_is_refused(
    deployment: Deployment, pool: Pool, setting: str
) -> None:
    text = refused(deployment, pool, **{setting: "banana"})

    (line,) = (line for line in text.splitlines() if "banana" in line)
    assert line.startswith(f"Error: {setting} ")
    assert "'banana', which is set in the environment" in line
    assert "Use one of json," in line
    assert "register it with kombu.serialization.register" in line
    assert "Traceback" not in text


def test_a_serializer_that_a_module_with_tasks_registers_is_there(deployment: Deployment) -> None:
    deployment.worker(
        "prefork",
        1,
        CELERY_IMPORTS="tests.integration.own_serializer_service",
        CELERY_ACCEPT_CONTENT="mine,json",
    )

    assert deployment.call("add", 1, 2) == 3


def test_a_worker_says_that_it_does_not_read_what_it_sends(deployment: Deployment) -> None:
    worker = deployment.worker("threads", 1, CELERY_TASK_SERIALIZER="pickle")

    assert "CELERY_TASK_SERIALIZER is 'pickle', which is set in the environment" in worker.text
    assert "Add 'pickle' to CELERY_ACCEPT_CONTENT" in worker.text


@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_annotations_that_cannot_work_are_refused(deployment: Deployment, pool: Pool) -> None:
    module = "tests.integration.untrue_service"

    text = refused(deployment, pool, module=module)

    assert f"{module}.charge has an annotation that cannot be resolved" in text
    assert "name 'Decimal' is not defined" in text
    assert "parameter password has a SecretStr" in text
    assert f"{module}.connect cannot be used" in text
    assert f"{module}.wait has soft_time_limit='30', which is no number of seconds" in text
    assert "its result" in text
    assert "Traceback" not in text


def test_fast_locals_are_refused(deployment: Deployment) -> None:
    text = refused(deployment, USE_FAST_LOCALS="1")

    assert "USE_FAST_LOCALS" in text
    assert "Unset" in text


def test_no_secret_is_in_the_log(deployment: Deployment, awkward_redis: dict[str, str]) -> None:
    deployment.environment.update(awkward_redis)
    deployment.follow_environment()
    worker = deployment.worker("prefork", 2)
    deployment.call("add", 1, 2)
    worker.stop()

    for secret in (deployment.mariadb.password, "p w+x", "p%20w"):
        assert secret not in worker.text
