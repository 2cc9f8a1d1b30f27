"""A worker in the test's process."""

from __future__ import annotations

import pytest

from tomskit.celery import AsyncCelery
from tomskit.errors import ConfigurationError
from tomskit.testing import worker


def test_results_in_memory_do_not_leave_a_pool_of_processes() -> None:
    app = AsyncCelery("tests", broker="memory://", backend="cache+memory://", set_as_current=False)
    with (
        pytest.raises(ConfigurationError, match=r"cache\+memory:// stay .* use pool=\"threads\""),
        worker(app, pool="prefork"),
    ):
        pass
