"""Groups and chains whose parts do not go together."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from tests.typing.accepted.media import Clip, Media, bundle, clean_up, fetch, remind, transcode

from tomskit.celery import chain, group


def groups_and_chains_of_all_kinds(
    asset: UUID, assets: Sequence[UUID], clip: Clip, media: Media
) -> None:
    transcode.s().apply_async()  # E: the clip is missing
    transcode.s().apply_async((media,))  # E: any media for a clip
    transcode.s().apply()  # E: the clip is missing
    transcode.s().apply((asset,))  # E: a UUID for a clip
    group(transcode.s()).apply_async()  # E: the clip is missing
    group(transcode.s()).apply((asset,))  # E: a UUID for a clip
    group(fetch.s(asset)).link(transcode.s())  # E: a group gives its callback nothing
    group(fetch.s(asset), transcode.s())  # E: one complete
    group(transcode.s(), clean_up.s())  # E: one complete, not immutable
    fetch.s(asset) | group(transcode.s(), clean_up.s())  # E: one complete, not immutable
    fetch.s(asset) | group(remind.s(), clean_up.si())  # E: a clip for an invoice
    chain(fetch.s(asset), group(remind.s(), remind.s()))  # E: a clip for an invoice
    chain(fetch.s(asset), group(transcode.s()), bundle.s())  # E: clips for something else
    chain(group(fetch.s(asset)), bundle.s())  # E: clips for something else
    chain(fetch.s(asset), group(fetch.s(asset)))  # E: complete
    chain(fetch.s(asset), *[fetch.s(asset)])  # E: not immutable
    group(fetch.s(asset)).clone((asset,))  # E: it has all its arguments
    chain()  # E: there is nothing
