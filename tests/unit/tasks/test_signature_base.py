"""What typed signatures rely on in Celery, and that they stay what they are."""

import celery
import pytest
from celery import canvas
from celery.canvas import Signature

from tests.support.pictures import Picture, load, width
from tomskit.celery import AsyncCelery, TypedGroup, TypedSignature, async_shared_task, group
from tomskit.celery._internals.celery_tasks import ChainSignature
from tomskit.celery._tasks.signature_base import copy_as, with_celery_class


def test_celery_makes_chains_of_the_class_that_is_looked_for(app: AsyncCelery) -> None:
    assert type(app.signature("a") | app.signature("b")) is ChainSignature
    assert issubclass(celery.chain, ChainSignature)


def test_copy_keeps_the_app_and_the_task(app: AsyncCelery) -> None:
    signature: Signature[object] = Signature(load, ("a",), app=app, countdown=3)
    copy = copy_as(TypedSignature, signature)

    assert type(copy) is TypedSignature
    assert copy == signature
    assert copy.app is app
    assert copy.type == load


@async_shared_task
async def twice(number: int) -> int:
    return 2 * number


@pytest.mark.parametrize("celery_class", [ChainSignature, canvas.group, canvas.chord])
def test_class_is_both_ours_and_celerys(celery_class: type[Signature[object]]) -> None:
    both = with_celery_class(TypedSignature, celery_class)

    assert issubclass(both, TypedSignature)
    assert issubclass(both, celery_class)
    assert (both.__name__, both.__module__) == (TypedSignature.__name__, TypedSignature.__module__)


def test_group_of_one_stays_a_group_behind_a_chain(app: AsyncCelery) -> None:
    chained: Signature[object] = load.s("a") | width.p() | group([twice.p()])

    assert isinstance(chained, ChainSignature)
    assert [type(step) for step in chained.tasks][-1] is type(group([twice.p()]))
    assert issubclass(type(chained), TypedGroup)
    assert len(chained.tasks) == 3


def test_clone_is_a_copy(app: AsyncCelery) -> None:
    signature = load.s("a")
    clone = signature.clone()

    assert clone == signature
    clone.set(priority=3)
    assert "priority" not in signature.options
    assert clone.delay().get() == Picture(name="a")
