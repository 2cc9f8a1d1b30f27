"""What tests of arguments and results share."""

from __future__ import annotations

import pytest

from tests.support.calling import Maker
from tomskit.celery import AsyncCelery
from tomskit.celery.serializers import register_orjson_serializer


@pytest.fixture(scope="module", autouse=True)
def _registered() -> None:
    assert register_orjson_serializer()


@pytest.fixture
def published(app: AsyncCelery, monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """The arguments of all that was sent."""
    app.conf.task_always_eager = False
    sent: list[object] = []

    def send_task(_name: str, args: object, kwargs: object, **_: object) -> None:
        sent.append((args, kwargs))

    monkeypatch.setattr(app, "send_task", send_task)
    return sent


@pytest.fixture
def make(app: AsyncCelery) -> Maker:
    return Maker()
