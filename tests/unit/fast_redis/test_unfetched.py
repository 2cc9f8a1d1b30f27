"""What a worker does with messages that do not arrive: at once again, one by one, and later."""

from tomskit.celery.fast_redis.unfetched import Unfetched, Waiting


def test_what_was_lost_once_is_fetched_at_once_again_one_by_one() -> None:
    unfetched = Unfetched()
    assert not unfetched.one_by_one()

    assert unfetched.lost({"a", "b"}, 1.5, 10) is None

    assert unfetched.one_by_one()
    unfetched.arrived("a")
    assert unfetched.one_by_one()
    unfetched.arrived("b")
    assert not unfetched.one_by_one()


def test_nobody_waits_for_what_another_worker_has_got() -> None:
    unfetched = Unfetched()

    unfetched.lost({"a"}, 1.5, 0)

    assert not unfetched.one_by_one()


def test_what_was_lost_three_times_alone_waits_longer_each_time() -> None:
    unfetched = Unfetched()

    assert unfetched.lost({"a"}, 1.5, 10) is None
    assert unfetched.lost({"a"}, 2.5, 10) is None
    pauses: list[float | None] = []
    for number in range(6):
        pauses.append(unfetched.lost({"a"}, float(number), 10))
        [waiting] = unfetched.waiting()
        assert waiting == Waiting("a", number)
        assert not unfetched.due()
        unfetched.forget(waiting)

    assert pauses == [20, 40, 80, 160, 300, 300]
    assert unfetched.tries("a") == 8


def test_what_waits_does_not_keep_others_from_being_fetched_together() -> None:
    unfetched = Unfetched()

    for number in range(3):
        unfetched.lost({"a"}, float(number), 10)

    assert not unfetched.one_by_one()


def test_what_is_due_is_named_until_it_is_forgotten() -> None:
    unfetched = Unfetched()

    for number in range(3):
        unfetched.lost({"a"}, float(number), 0)

    assert unfetched.due() == [Waiting("a", 2)]
    assert unfetched.due() == [Waiting("a", 2)]
    unfetched.forget(unfetched.due()[0])
    assert not unfetched.due()
    assert unfetched.one_by_one()


def test_what_has_arrived_begins_anew() -> None:
    unfetched = Unfetched()
    unfetched.lost({"a"}, 1.5, 10)
    unfetched.lost({"a"}, 2.5, 10)

    unfetched.arrived("a")

    assert unfetched.lost({"a"}, 3.5, 10) is None
    assert unfetched.tries("a") == 1


def test_it_remembers_no_more_than_it_needs() -> None:
    unfetched = Unfetched()

    for number in range(1500):
        unfetched.lost({f"tag {number}"}, 1.5, 10)

    assert sum(unfetched.tries(f"tag {number}") for number in range(1500)) == 1000


def test_nothing_lost_is_nothing_to_wait_for() -> None:
    unfetched = Unfetched()

    assert unfetched.lost(set(), 1.5, 10) is None

    assert not unfetched.one_by_one()
