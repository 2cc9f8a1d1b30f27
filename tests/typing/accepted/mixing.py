# mypy: disable-error-code="unused-awaitable"
"""Groups and chains of complete, partial and immutable signatures together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import assert_type
from uuid import UUID

from tests.typing.accepted.media import (
    Clip,
    Picture,
    Subtitles,
    alarm,
    bundle,
    checksum,
    clean_up,
    count,
    fetch,
    mix,
    notify,
    poster,
    publish,
    search,
    subtitle,
    transcode,
)

from tomskit.celery import (
    ImmutableGroup,
    PartialGroup,
    TypedEagerResult,
    TypedGroup,
    TypedGroupResult,
    TypedResult,
    TypedSignature,
    chain,
    group,
)


def groups_and_chains_of_all_kinds(asset: UUID, assets: Sequence[UUID], clip: Clip) -> None:
    assert_type(group(transcode.s(), clean_up.si()), PartialGroup[Clip, Clip | int])
    assert_type(group(clean_up.si(), transcode.s()), PartialGroup[Clip, int | Clip])
    assert_type(
        group(clean_up.si(), transcode.s(), notify.si("a")), PartialGroup[Clip, int | Clip | None]
    )
    assert_type(
        fetch.s(asset) | group(transcode.s(), notify.si("a")) | count.s(), TypedSignature[int]
    )
    assert_type(
        group(clean_up.si(), notify.si("a"), search.si()), ImmutableGroup[int | None | list[UUID]]
    )
    assert_type(
        group(clean_up.si(), notify.si("a"), search.si(), fetch.si(asset)),
        ImmutableGroup[int | None | list[UUID] | Clip],
    )
    assert_type(
        fetch.s(asset) | group(clean_up.si(), notify.si("a"), search.si()),
        TypedGroup[int | None | list[UUID]],
    )
    assert_type(
        group(clean_up.s(), notify.s("a"), search.s(), fetch.s(asset), checksum.s(clip)),
        TypedGroup[int | None | list[UUID] | Clip | str],
    )
    assert_type(
        group(transcode.s(), checksum.s(), publish.s(), poster.s(width=1)),
        PartialGroup[Clip, Clip | str | UUID | Picture],
    )
    assert_type(group(checksum.s(clip)), TypedGroup[str])
    assert_type(group(clean_up.si()), ImmutableGroup[int])
    assert_type(group(transcode.s()), PartialGroup[Clip, Clip])
    assert_type(chain(clean_up.si(), *[clean_up.si() for _ in assets]), TypedSignature[int])
    assert_type(chain(*[clean_up.si() for _ in assets]), TypedSignature[int])
    assert_type(chain(fetch.s(asset)), TypedSignature[Clip])
    assert_type(chain(fetch.s(asset), group(transcode.s(), transcode.s("tv"))), TypedGroup[Clip])
    assert_type(
        chain(fetch.s(asset), group(transcode.s(), transcode.s("tv")), mix.s()),
        TypedSignature[Clip],
    )
    assert_type(
        chain(
            fetch.s(asset), transcode.s(), group(poster.s(width=1), subtitle.s("en")), bundle.s()
        ),
        TypedSignature[bytes],
    )
    assert_type(
        chain(fetch.s(asset), transcode.s(), group(poster.s(width=1), subtitle.s("en"))),
        TypedGroup[Picture | Subtitles],
    )
    assert_type(chain(group(fetch.s(one) for one in assets), mix.s()), TypedSignature[Clip])
    assert_type(
        chain(group(fetch.s(one) for one in assets), mix.s(), checksum.s()), TypedSignature[str]
    )
    assert_type(chain(group(fetch.s(one) for one in assets), clean_up.si()), TypedSignature[int])
    assert_type(transcode.s().apply_async((clip,), queue="x"), TypedResult[Clip])
    assert_type(transcode.s().apply((clip,)), TypedEagerResult[Clip])
    assert_type(group(transcode.s()).apply_async((clip,)), TypedGroupResult[Clip])
    assert_type(group(transcode.s()).apply((clip,)), TypedGroupResult[Clip])
    assert_type(group(fetch.s(asset)).apply().get(), list[Clip])
    assert_type(group(fetch.s(asset)).clone(), TypedGroup[Clip])
    assert_type(group(fetch.s(asset)).on_error(alarm.s()), TypedGroup[Clip])
    assert_type(group(transcode.s()).on_error(alarm.s()), PartialGroup[Clip, Clip])
    assert_type(group(fetch.s(asset)).set(queue="x").on_error(alarm.s()).delay().get(), list[Clip])
    group(fetch.s(asset)).link(clean_up.si())
