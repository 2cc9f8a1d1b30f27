"""Serializers and compression methods that settings name and nothing is registered under."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from kombu import compression, serialization
from kombu.exceptions import SerializerNotInstalled

from tests.support.settings import MakeApp
from tomskit.celery import AsyncCelery, CeleryConfig
from tomskit.celery._client.encodings import (
    Problem,
    unknown_encodings,
    unknown_of_tasks,
    unread_encodings,
)
from tomskit.errors import ConfigurationError


@pytest.fixture
def own_names() -> Iterator[tuple[str, str]]:
    """A serializer and a compression method of the application's own."""
    serialization.register("mine", repr, str, content_type="application/x-mine")
    compression.register(lambda text: text, lambda data: data, "application/x-flat", ["flat"])
    yield "mine", "flat"
    serialization.unregister("mine")


def problems(app: AsyncCelery) -> list[Problem]:
    return [*unknown_encodings(app)]


@pytest.mark.parametrize(
    "name", ["CELERY_TASK_SERIALIZER", "CELERY_RESULT_SERIALIZER", "CELERY_ACCEPT_CONTENT"]
)
def test_a_name_in_the_environment(
    make_app: MakeApp, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(name, "banana")

    (problem,) = problems(make_app(CeleryConfig()))

    verb = "names" if name == "CELERY_ACCEPT_CONTENT" else "is"
    assert problem.detail == (
        f"{name} {verb} 'banana', which is set in the environment, and no serializer of that name is "
        "registered."
    )
    assert problem.advice.startswith("Use one of json,")
    assert "orjson" in problem.advice
    assert "register it with kombu.serialization.register in a module" in problem.advice


def test_a_name_in_a_file(
    make_app: MakeApp, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "settings"
    file.write_text("CELERY_TASK_SERIALIZER=banana\n")
    monkeypatch.setenv("TOMSKIT_ENV_FILE", str(file))

    (problem,) = problems(make_app(CeleryConfig()))

    assert f"CELERY_TASK_SERIALIZER is 'banana', which is set in {file}, and" in problem.detail


def test_a_name_in_an_argument_stands_in_no_variable(
    make_app: MakeApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CELERY_TASK_SERIALIZER", "json")

    (problem,) = problems(make_app(CeleryConfig(CELERY_TASK_SERIALIZER="banana")))

    assert problem.detail.startswith("CELERY_TASK_SERIALIZER is 'banana', and no serializer")


def test_a_name_in_celerys_own_settings(make_app: MakeApp) -> None:
    app = make_app(task_serializer="banana", task_compression="pear", accept_content={"json"})

    assert [problem.detail for problem in problems(app)] == [
        "task_serializer is 'banana', and no serializer of that name is registered.",
        "task_compression is 'pear', and no compression of that name is registered.",
    ]
    assert "Use one of gzip, bzip2" in problems(app)[1].advice


def test_several_names_in_a_list(make_app: MakeApp) -> None:
    app = make_app(CeleryConfig(CELERY_ACCEPT_CONTENT=["pear", "json", "banana", "text/plain"]))

    assert [problem.detail.partition(",")[0] for problem in problems(app)] == [
        "CELERY_ACCEPT_CONTENT names 'banana'",
        "CELERY_ACCEPT_CONTENT names 'pear'",
    ]


def test_what_was_registered_after_the_configuration_was_made(
    make_app: MakeApp, request: pytest.FixtureRequest
) -> None:
    config = CeleryConfig(
        CELERY_TASK_SERIALIZER="mine",
        CELERY_RESULT_SERIALIZER="mine",
        CELERY_ACCEPT_CONTENT=["mine", "json"],
    )
    app = make_app(config)
    app.conf.task_compression = "flat"
    assert len(problems(app)) == 4

    request.getfixturevalue("own_names")

    assert problems(app) == []
    assert [*unread_encodings(app)] == []


def test_a_task_of_its_own_serializer(make_app: MakeApp) -> None:
    app = make_app(CeleryConfig())

    @app.task(name="peel", serializer="banana", compression="pear")
    async def peel() -> None: ...

    @app.task(name="pick", serializer="pickle", compression="gzip")
    async def pick() -> None: ...

    assert [problem.detail for problem in unknown_of_tasks(app)] == [
        "The serializer of the task peel is 'banana', and no serializer of that name is registered.",
        "The compression of the task peel is 'pear', and no compression of that name is registered.",
    ]


def test_what_is_written_and_not_read(make_app: MakeApp) -> None:
    app = make_app(CeleryConfig(CELERY_TASK_SERIALIZER="pickle", CELERY_RESULT_SERIALIZER="orjson"))

    (problem,) = unread_encodings(app)

    assert str(problem) == (
        "CELERY_TASK_SERIALIZER is 'pickle', and CELERY_ACCEPT_CONTENT does not name it: messages that "
        "this app sends are rejected. Add 'pickle' to CELERY_ACCEPT_CONTENT."
    )


def test_results_may_be_read_by_a_setting_of_their_own(make_app: MakeApp) -> None:
    app = make_app(
        CeleryConfig(CELERY_RESULT_SERIALIZER="pickle"), result_accept_content=["pickle"]
    )

    assert [*unread_encodings(app)] == []


@pytest.mark.parametrize(
    "config",
    [
        CeleryConfig(CELERY_RESULT_SERIALIZER="banana"),
        CeleryConfig(CELERY_ACCEPT_CONTENT=["json", "banana"]),
    ],
)
def test_a_client_of_results_is_told(make_app: MakeApp, config: CeleryConfig) -> None:
    app = make_app(config)

    with pytest.raises(ConfigurationError, match=r"CELERY_\w+ (is|names) 'banana'"):
        _ = app.celery_backend


def test_a_client_that_sends_is_told(make_app: MakeApp) -> None:
    app = make_app(CeleryConfig(CELERY_TASK_SERIALIZER="banana"), broker="memory://")

    @app.task(name="peel", ignore_result=True)
    async def peel() -> None: ...

    with pytest.raises(ConfigurationError, match="CELERY_TASK_SERIALIZER is 'banana'"):
        peel.delay()
    with pytest.raises(ConfigurationError, match="CELERY_TASK_SERIALIZER is 'banana'"):
        asyncio.run(peel.adelay())


def test_a_client_that_compresses_is_told(make_app: MakeApp) -> None:
    app = make_app(broker="memory://", task_compression="pear")

    with pytest.raises(ConfigurationError, match="task_compression is 'pear'"):
        app.send_task("peel")


def test_a_serializer_of_one_call_is_celerys_matter(make_app: MakeApp) -> None:
    app = make_app(broker="memory://")

    with pytest.raises(SerializerNotInstalled, match="banana"):
        app.send_task("peel", serializer="banana")
