"""What a coroutine sees of its task, under each pool."""

from typing import cast

import pytest
from celery import Signature, chain, chord, group, signature
from celery.result import AsyncResult

from tests.support.deployment import SERVICE, TIMEOUT, Deployment, eventually


def sig(
    service: Deployment, task: str, *args: object, immutable: bool = False
) -> Signature[object]:
    return signature(f"{SERVICE}.{task}", args=args, app=service.client, immutable=immutable)


def test_result_comes_back(service: Deployment) -> None:
    assert service.call("add", 2, 3) == 5


def test_request_is_the_tasks_own_everywhere_in_the_coroutine(service: Deployment) -> None:
    sent = service.send("identity", 0.01)

    seen = cast("dict[str, object]", sent.get(timeout=TIMEOUT))

    own = [sent.id, sent.id]
    assert seen["id"] == sent.id
    assert seen["before"] == own
    assert seen["after"] == own
    assert seen["thread"] == own
    assert seen["run_sync"] == [*own, "x"]
    assert seen["children"] == [[*own, seen["session"]]] * 2
    assert seen["app"] == seen["current_app"] == "service"


def test_plain_task_lends_its_identity_to_the_runtime_and_the_runner(service: Deployment) -> None:
    sent = service.send("identity_in_runtime")

    assert sent.get(timeout=TIMEOUT) == [sent.id, sent.id, sent.id, 0, sent.id, sent.id, 0]


def test_ten_tasks_at_once_on_one_loop_see_only_themselves(deployment: Deployment) -> None:
    deployment.worker("threads", concurrency=10)

    sent = [deployment.send("identity", 0.2) for _ in range(10)]
    seen = [cast("dict[str, object]", result.get(timeout=TIMEOUT)) for result in sent]

    assert [one["id"] for one in seen] == [result.id for result in sent]
    for one, result in zip(seen, sent, strict=True):
        own = [result.id, result.id]
        assert one["before"] == one["after"] == one["thread"] == own
        assert one["children"] == [[*own, one["session"]]] * 2
        assert cast("list[object]", one["run_sync"])[:2] == own


def test_retry_sends_the_task_again(service: Deployment) -> None:
    sent = service.send("retry_until", 2)

    assert sent.get(timeout=TIMEOUT) == [sent.id, 2]


def test_autoretry_for_counts_the_tries(service: Deployment) -> None:
    assert service.call("autoretry", 2) == 2


def test_tasks_sent_from_a_coroutine_are_children_of_its_task(service: Deployment) -> None:
    sent = service.send("send_child")
    own, root, *children = cast("list[str]", sent.get(timeout=TIMEOUT))

    assert own == root == sent.id
    for child in children:
        result: AsyncResult[object] = service.client.AsyncResult(child)
        assert result.get(timeout=TIMEOUT) == [sent.id, sent.id]
    eventually(
        lambda: (
            set(children) == {c.id for c in cast("list[AsyncResult[object]]", sent.children or [])}
        )
    )


def test_error_of_the_coroutine_is_the_tasks(service: Deployment) -> None:
    with pytest.raises(ValueError, match=r"^kaput$"):
        service.call("fail", "kaput")


def test_chain_group_chord_and_links_work(service: Deployment) -> None:
    chained = chain(sig(service, "add", 1, 2), sig(service, "add", 10)).apply_async()
    grouped = group(sig(service, "add", i, i) for i in range(4)).apply_async()
    summed = chord(
        [sig(service, "add", i, 1) for i in range(3)], sig(service, "total")
    ).apply_async()
    linked = service.send("add", 2, 2, link=sig(service, "cache", "linked", "4", immutable=True))

    assert chained.get(timeout=TIMEOUT) == 13
    assert grouped.get(timeout=TIMEOUT) == [0, 2, 4, 6]
    assert summed.get(timeout=TIMEOUT) == 6
    assert linked.get(timeout=TIMEOUT) == 4
    eventually(lambda: service.key("linked") == "4")


def test_link_error_runs_after_a_failure(service: Deployment) -> None:
    errback = sig(service, "cache", "failed", "yes", immutable=True)

    service.send("fail", "x", link_error=errback).get(timeout=TIMEOUT, propagate=False)

    eventually(lambda: service.key("failed") == "yes")


def test_user_is_created_in_all_three_styles(service: Deployment) -> None:
    before = service.users().count("Ada")

    service.call("create_user", "Ada")
    service.call("create_user_by_runtime", "Ada")
    service.call("create_user_by_runner", "Ada")

    assert service.users().count("Ada") == before + 3


def test_redis_client_works_on_the_runtime_and_in_a_runner(service: Deployment) -> None:
    assert service.call("cache", "a", "grün") == "grün"
    assert service.call("cache_by_runner", "b", "blau") == "blau"
    assert service.key("a") == "grün"


def test_session_is_rolled_back_when_the_task_raises(service: Deployment) -> None:
    with pytest.raises(ValueError, match="lost"):
        service.call("add_then_fail", "lost")

    assert "lost" not in service.users()
    # Of the whole server, where others may end one at this moment.
    eventually(lambda: service.mariadb.open_transactions() == 0)


def test_log_lines_carry_the_task_id(service: Deployment) -> None:
    sent = service.send("log_everywhere", "marker-1")
    plain = service.send("log_plainly", "marker-1")
    sent.get(timeout=TIMEOUT)
    plain.get(timeout=TIMEOUT)

    for place in ("before", "child", "thread"):
        service.wait_for_line(rf"\[task_id={sent.id}\] .*marker-1 {place}")
    service.wait_for_line(r"\[task_id=mine\] .*marker-1 after")
    service.wait_for_line(rf"\[task_id={plain.id}\] .*marker-1 plain")
    service.wait_for_line(rf"\[task_id={sent.id}\] Task \S+\.log_everywhere received$")
    service.wait_for_line(rf"\[task_id={sent.id}\] Task \S+\.log_everywhere succeeded")
