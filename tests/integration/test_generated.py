"""Values that hypothesis draws, over a real worker."""

from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.integration import generated_service
from tests.integration.conftest import TIMEOUT, Deployment, deploy
from tests.integration.generated_service import ALONE, DICTS, LISTS
from tests.support.annotations import LEAF_KINDS
from tests.support.sameness import same
from tests.support.servers import MariaDBServer, RedisServer
from tomskit.celery import AsyncCelery, AsyncTask, CeleryConfig

Call = tuple[AsyncTask[[object], object], object]


@pytest.fixture(scope="module", params=["json", "orjson"])
def deployment(
    request: pytest.FixtureRequest, redis_server: RedisServer, mariadb_server: MariaDBServer
) -> Iterator[Deployment]:
    with deploy(redis_server, mariadb_server) as fresh:
        serializer: str = request.param
        fresh.environment.update(
            CELERY_TASK_SERIALIZER=serializer,
            CELERY_RESULT_SERIALIZER=serializer,
            CELERY_ACCEPT_CONTENT=serializer,
        )
        fresh.running = fresh.worker("threads", module=generated_service.__name__)
        yield fresh


@pytest.fixture
def client(deployment: Deployment, clean_process: None) -> Iterator[AsyncCelery]:
    fields = {k: v for k, v in deployment.environment.items() if k.startswith("CELERY_")}
    app = AsyncCelery("client", config=CeleryConfig.model_validate(fields))
    yield app
    app.close()


@st.composite
def calls(draw: st.DrawFn) -> Call:
    number = draw(st.integers(0, len(LEAF_KINDS) - 1))
    values = LEAF_KINDS[number].values
    return draw(
        st.one_of(
            st.tuples(st.just(ALONE[number]), values),
            st.tuples(st.just(LISTS[number]), st.lists(values, max_size=3)),
            st.tuples(
                st.just(DICTS[number]),
                st.dictionaries(st.text("abc", max_size=3), values | st.none(), max_size=3),
            ),
        )
    )


@given(st.lists(calls(), min_size=10, max_size=20))
@settings(
    max_examples=10,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_a_value_comes_back_equal_and_of_the_same_type(
    client: AsyncCelery, sample: list[Call]
) -> None:
    sent = [(task.delay(value), value) for task, value in sample]

    for result, value in sent:
        assert same(result.get(timeout=TIMEOUT), value)
