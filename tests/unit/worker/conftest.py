"""An app of Celery's beside ours."""

from collections.abc import Iterator

import pytest
from celery import Celery


@pytest.fixture
def plain() -> Iterator[Celery]:
    app = Celery("plain", set_as_current=False)
    yield app
    app.close()
