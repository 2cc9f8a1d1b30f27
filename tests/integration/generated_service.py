"""A task for every annotation that hypothesis draws from, alone and in containers."""

from types import GenericAlias
from typing import Any, cast

from tests.support.annotations import LEAF_KINDS, Kind
from tomskit.celery import AsyncCelery, AsyncTask, CeleryConfig, async_shared_task

app = AsyncCelery("generated", config=CeleryConfig())


def echo(name: str, annotation: object) -> AsyncTask[[object], object]:
    async def give_back(value: object) -> object:
        return value

    give_back.__annotations__ = {"value": annotation, "return": annotation}
    return async_shared_task(name=name)(give_back)


def in_list(kind: Kind) -> object:
    return GenericAlias(list, (kind.annotation,))


def in_dict(kind: Kind) -> object:
    return GenericAlias(dict, (str, cast("Any", kind.annotation) | None))


ALONE = [echo(f"alone.{n}", kind.annotation) for n, kind in enumerate(LEAF_KINDS)]
LISTS = [echo(f"list.{n}", in_list(kind)) for n, kind in enumerate(LEAF_KINDS)]
DICTS = [echo(f"dict.{n}", in_dict(kind)) for n, kind in enumerate(LEAF_KINDS)]
