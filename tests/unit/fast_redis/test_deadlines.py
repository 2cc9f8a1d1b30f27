"""What comes slowly is waited for; what as good as stands still is not."""

from tomskit.celery.fast_redis.deadlines import Pace


def test_within_the_time_nothing_has_to_move() -> None:
    assert Pace(100).is_kept(109.9, 10)


def test_a_kilobyte_has_to_move_in_each_such_time() -> None:
    pace = Pace(100)
    pace.moved(600)
    pace.moved(400)
    assert pace.is_kept(110, 10)
    pace.moved(999)
    assert pace.is_kept(119, 10)
    assert not pace.is_kept(120, 10)


def test_what_moved_before_does_not_count() -> None:
    pace = Pace(100)
    pace.moved(1_000_000)
    assert pace.is_kept(110, 10)
    assert not pace.is_kept(121, 10)
