"""How ``celery doctor`` compares the clock of a server with that of this machine."""

import pytest

from tomskit._commands.checks import clock_difference


@pytest.mark.parametrize("told", [100.0, 101.5, 103.0])
def test_an_answer_that_takes_seconds_is_no_difference(told: float) -> None:
    assert clock_difference(100.0, told, 103.0) == 0.0


@pytest.mark.parametrize("told", [95.0, 108.0])
def test_a_clock_that_is_behind_or_ahead_differs(told: float) -> None:
    assert clock_difference(100.0, told, 103.0) == 5.0
