# A result that nobody waits for is as it should be here.
# mypy: disable-error-code="unused-awaitable"
"""How the callers of media.py send its tasks, tie them together and read their results."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Concatenate, ParamSpec, TypeVar, assert_type
from uuid import UUID

from celery.canvas import Signature
from celery.result import AsyncResult, EagerResult, GroupResult
from kombu import Queue
from tests.typing.accepted.media import (
    Channel,
    Clip,
    Invoice,
    Media,
    Picture,
    Subtitles,
    alarm,
    album,
    bill,
    bundle,
    checksum,
    clean_up,
    count,
    failed,
    fetch,
    grouped,
    mix,
    notify,
    poster,
    publish,
    remind,
    search,
    subtitle,
    transcode,
)

from tomskit.celery import (
    AsyncTask,
    CallOptions,
    ImmutableGroup,
    ImmutableSignature,
    PartialGroup,
    PartialSignature,
    TaskCall,
    TypedEagerResult,
    TypedGroup,
    TypedGroupResult,
    TypedResult,
    TypedSignature,
    chain,
    chord,
    group,
)

P = ParamSpec("P")
T = TypeVar("T")
U = TypeVar("U")
V = TypeVar("V")


def sending(asset: UUID, clip: Clip) -> None:
    assert_type(fetch.delay(asset, version=2), TypedResult[Clip])
    assert_type(transcode.delay(clip, "tv", bitrate=2.5), TypedResult[Clip])
    assert_type(poster.delay(clip, timedelta(1), width=640).get(timeout=3), Picture)
    assert_type(poster.delay(clip, width=640, at=timedelta(1)), TypedResult[Picture])
    assert_type(checksum.delay(clip).get(), str)
    assert_type(mix.delay([clip], "a", "b", left=0.5, right=1).get(), Clip)
    assert_type(publish.delay(clip, Channel.KIDS, at=datetime.now(UTC)), TypedResult[UUID])
    assert_type(bill.delay(asset, Decimal(3), date(2025, 1, 1), {"tea": 1}).get(), Invoice)
    assert_type(search.delay(), TypedResult[list[UUID]])
    assert_type(grouped.delay({"a": [clip]}, "a").get(), tuple[str, int])
    assert_type(notify.delay("ada").get(), None)
    assert_type(clean_up.delay().id, str)


async def sending_from_a_coroutine(asset: UUID, clip: Clip) -> None:
    assert_type(await fetch.adelay(asset), TypedResult[Clip])
    assert_type(await publish.adelay(clip, at=None), TypedResult[UUID])
    assert_type(await (await transcode.adelay(clip)), Clip)
    both = await asyncio.gather(fetch.adelay(asset), checksum.adelay(clip))
    assert_type(both, tuple[TypedResult[Clip], TypedResult[str]])


def sending_with_options(asset: UUID, clip: Clip, when: datetime) -> None:
    assert_type(fetch.options(countdown=3, queue="x").delay(asset), TypedResult[Clip])
    assert_type(fetch.options(queue=Queue("x"), priority=9).delay(asset, version=3).get(), Clip)
    assert_type(publish.options(eta=when, expires=60).delay(clip, at=when), TypedResult[UUID])
    assert_type(publish.options(retry_policy={"max_retries": 3}).s(clip), TypedSignature[UUID])
    assert_type(mix.options(shadow="mix").si([clip], "a", left=1), ImmutableSignature[Clip])
    assert_type(notify.options(link=clean_up.si()).delay("ada", message="hi").get(), None)
    assert_type(notify.options(link_error=[alarm.s(), clean_up.si()]).si("a").delay().get(), None)
    options: CallOptions = {"countdown": 3, "headers": {"tenant": "7"}}
    assert_type(fetch.options(**options).s(asset) | checksum.p(), TypedSignature[str])
    urgent = search.options(priority=0)
    assert_type(urgent.delay("cats", limit=3), TypedResult[list[UUID]])
    assert_type(urgent.delay(), TypedResult[list[UUID]])
    assert_type(fetch.apply_async((asset,), {"version": 2}, eta=when), TypedResult[Clip])


async def sending_with_options_from_a_coroutine(asset: UUID, clip: Clip) -> None:
    assert_type(await fetch.options(countdown=1).adelay(asset), TypedResult[Clip])
    assert_type(await (await mix.options(task_id="1").adelay([clip], "a", left=1)), Clip)


def signatures(asset: UUID, clip: Clip) -> None:
    assert_type(fetch.s(asset, version=2), TypedSignature[Clip])
    assert_type(fetch.si(asset), ImmutableSignature[Clip])
    assert_type(transcode.s("tv"), PartialSignature[Clip, Clip])
    assert_type(transcode.s(bitrate=1), PartialSignature[Clip, Clip])
    assert_type(transcode.s(), PartialSignature[Clip, Clip])
    assert_type(transcode.p("tv", bitrate=1.5), PartialSignature[Clip, Clip])
    assert_type(poster.s(width=64), PartialSignature[Clip, Picture])
    assert_type(poster.p(timedelta(3), width=64), PartialSignature[Clip, Picture])
    assert_type(subtitle.s("en"), PartialSignature[Clip, Subtitles])
    assert_type(subtitle.s(language="en"), PartialSignature[Clip, Subtitles])
    assert_type(subtitle.s(clip, "en"), TypedSignature[Subtitles])
    assert_type(publish.s(Channel.KIDS), PartialSignature[Clip, UUID])
    assert_type(publish.s(clip, Channel.KIDS), TypedSignature[UUID])
    assert_type(mix.p("a", left=0.5), PartialSignature[list[Clip], Clip])
    assert_type(bill.p(Decimal(3), date(2025, 1, 1), {}), PartialSignature[UUID, Invoice])
    assert_type(grouped.p("a"), PartialSignature[dict[str, list[Clip]], tuple[str, int]])
    assert_type(alarm.s(), PartialSignature[str, None])
    # Of a task that needs no argument, s() is complete and p() waits for the first.
    assert_type(search.s(), TypedSignature[list[UUID]])
    assert_type(search.p(limit=3), PartialSignature[str, list[UUID]])
    assert_type(clean_up.s(), TypedSignature[int])


async def sending_signatures(asset: UUID, clip: Clip) -> None:
    assert_type(fetch.s(asset).delay(), TypedResult[Clip])
    assert_type(fetch.si(asset).delay().get(), Clip)
    assert_type(await fetch.s(asset).adelay(), TypedResult[Clip])
    assert_type(fetch.s(asset).apply_async(countdown=3, queue="x"), TypedResult[Clip])
    assert_type(fetch.s(asset).apply().get(), Clip)
    assert_type(transcode.s("tv").delay(clip), TypedResult[Clip])
    assert_type(await checksum.s().adelay(clip), TypedResult[str])
    assert_type((fetch.s(asset) | checksum.s()).delay().get(), str)
    assert_type((transcode.p() | checksum.p()).delay(clip).get(), str)
    assert_type(await (await (transcode.p() | checksum.p()).adelay(clip)), str)


def pipes(asset: UUID, clip: Clip, customer: UUID) -> None:
    fetched = fetch.s(asset)
    assert_type(fetched | transcode.s("tv"), TypedSignature[Clip])
    assert_type(fetched | transcode.p() | poster.p(width=1), TypedSignature[Picture])
    assert_type(fetched | transcode.s() | poster.s(width=1) | checksum.s(), TypedSignature[str])
    assert_type(
        fetched | transcode.s() | transcode.s("tv") | subtitle.s("en") | clean_up.si(),
        TypedSignature[int],
    )
    # A task for every file takes a clip, and one for any object takes a list.
    assert_type(search.s("cat") | count.s(), TypedSignature[int])
    assert_type(fetched | checksum.s() | search.p(3), TypedSignature[list[UUID]])
    assert_type(clean_up.s() | notify.si("ada"), TypedSignature[None])
    assert_type(clean_up.si() | fetch.si(asset) | checksum.s(), TypedSignature[str])
    assert_type(transcode.s() | publish.s(), PartialSignature[Clip, UUID])
    assert_type(transcode.s() | notify.si("ada"), PartialSignature[Clip, None])
    encoded = transcode.s("tv") | publish.s(Channel.KIDS)
    assert_type(fetched | encoded, TypedSignature[UUID])
    assert_type(fetched | (transcode.s() | (transcode.s() | checksum.s())), TypedSignature[str])
    billed = bill.s(customer, Decimal(3), date(2025, 1, 1), {})
    assert_type((billed | remind.s(30)).delay().get(), datetime | None)
    assert_type(publish.s(clip) | fetch.s(version=2) | transcode.s(), TypedSignature[Clip])
    steps = fetched
    for preset in ("web", "tv"):
        steps |= transcode.s(bitrate=len(preset))
    assert_type(steps, TypedSignature[Clip])


async def chains(asset: UUID) -> None:
    one = chain(fetch.s(asset), transcode.s())
    assert_type(one, TypedSignature[Clip])
    assert_type(chain(one, transcode.p("tv"), checksum.s()), TypedSignature[str])
    assert_type(
        chain(fetch.s(asset), transcode.s(), poster.s(width=1), checksum.s()), TypedSignature[str]
    )
    assert_type(
        chain(fetch.s(asset), transcode.s(), transcode.s("tv"), publish.s(), fetch.s(version=2)),
        TypedSignature[Clip],
    )
    six = chain(
        fetch.s(asset), publish.s(), fetch.s(), notify.si("ada"), clean_up.si(), notify.si("bob")
    )
    assert_type(six, TypedSignature[None])
    assert_type(chain(clean_up.si(), fetch.si(asset), checksum.s()), TypedSignature[str])
    assert_type(chain(transcode.s(), checksum.s()), PartialSignature[Clip, str])
    assert_type(chain(transcode.s(), notify.si("ada")), PartialSignature[Clip, None])
    assert_type(chain(fetch.s(), transcode.s(), checksum.s()), PartialSignature[UUID, str])
    assert_type(await (await six.adelay()), None)
    assert_type(chain(six, clean_up.si()).delay().get(), int)


def groups(assets: Sequence[UUID], clip: Clip) -> None:
    fetched = group(fetch.s(asset) for asset in assets)
    assert_type(fetched, TypedGroup[Clip])
    assert_type(fetched.delay(), TypedGroupResult[Clip])
    assert_type(fetched.delay().get(timeout=3), list[Clip])
    assert_type(fetched.apply_async(queue="x").get(), list[Clip])
    assert_type(group([fetch.si(asset) for asset in assets]), ImmutableGroup[Clip])
    assert_type(group(transcode.s(clip), transcode.s(clip, "tv")), TypedGroup[Clip])
    assert_type(group([transcode.s("web"), transcode.s("tv")]), PartialGroup[Clip, Clip])
    mixed = group(poster.s(clip, width=1), subtitle.s(clip, "en"))
    assert_type(mixed, TypedGroup[Picture | Subtitles])
    assert_type(mixed.delay().get(), list[Picture | Subtitles])
    three = group(poster.s(clip, width=1), subtitle.s(clip, "en"), checksum.s(clip))
    assert_type(three.delay().get(), list[Picture | Subtitles | str])
    four = group(checksum.s(clip), clean_up.s(), publish.s(clip), notify.s("ada"))
    assert_type(four.delay().get(), list[str | int | UUID | None])
    assert_type(group(clean_up.si(), notify.si("ada")), ImmutableGroup[int | None])
    assert_type(group(checksum.s(clip)), TypedGroup[str])
    five = group(*[transcode.s(clip, bitrate=rate) for rate in range(5)])
    assert_type(five, TypedGroup[Clip])
    chains = group(fetch.s(asset) | checksum.s() for asset in assets)
    assert_type(chains.delay().get(), list[str])
    assert_type(group(transcode.s("tv"), transcode.s()).delay(clip).get(), list[Clip])
    parts = group(poster.s(width=1), subtitle.s("en"))
    assert_type(parts, PartialGroup[Clip, Picture | Subtitles])
    assert_type(parts.delay(clip).get(), list[Picture | Subtitles])


def chords(asset: UUID, assets: Sequence[UUID], clip: Clip) -> None:
    fetched = group(fetch.s(asset) for asset in assets)
    assert_type(fetched | mix.s("a", left=1), TypedSignature[Clip])
    assert_type((fetched | mix.s() | transcode.s("tv") | publish.s()).delay().get(), UUID)
    assert_type(chord(fetched, mix.s()), TypedSignature[Clip])
    assert_type(chord([fetch.s(one) for one in assets], mix.p()), TypedSignature[Clip])
    assert_type(chord((fetch.s(one) for one in assets), mix.s()).delay().get(), Clip)
    assert_type(chord(fetched, album.s(title="Cats")), TypedSignature[dict[str, int]])
    assert_type(chord(fetched, clean_up.si()), TypedSignature[int])
    assert_type(chord(fetched, mix.s()) | checksum.s(), TypedSignature[str])
    assert_type(fetched | notify.si("ada", message="all there"), TypedSignature[None])
    mixed = group(poster.s(clip, width=1), subtitle.s(clip, "en"))
    assert_type(mixed | bundle.s(), TypedSignature[bytes])
    assert_type(chord(mixed, bundle.s()), TypedSignature[bytes])
    assert_type(mixed | count.s(), TypedSignature[int])
    assert_type(group(fetch.si(one) for one in assets) | count.s(), TypedSignature[int])
    parts = group(poster.s(width=1), subtitle.s("en"))
    assert_type(fetch.s(asset) | parts, TypedGroup[Picture | Subtitles])
    assert_type((fetch.s(asset) | parts).delay().get(), list[Picture | Subtitles])
    assert_type(fetch.s(asset) | parts | bundle.s(), TypedSignature[bytes])
    assert_type(parts | bundle.s(), PartialSignature[Clip, bytes])
    assert_type(transcode.s() | parts, PartialGroup[Clip, Picture | Subtitles])
    assert_type(transcode.s() | parts | count.s(), PartialSignature[Clip, int])
    assert_type(fetch.s(asset) | group(clean_up.si(), clean_up.si()), TypedGroup[int])
    assert_type(clean_up.s() | fetched_again(assets) | mix.s(), TypedSignature[Clip])
    assert_type(chord(fetched, mix.s() | checksum.s()), TypedSignature[str])
    assert_type(chain(chord(fetched, mix.s()), checksum.s()), TypedSignature[str])


def settings_of_signatures(asset: UUID, clip: Clip, when: datetime) -> None:
    assert_type(fetch.s(asset).set(queue="x", countdown=3), TypedSignature[Clip])
    assert_type(fetch.si(asset).set(priority=3), ImmutableSignature[Clip])
    assert_type(transcode.s("tv").set(expires=when), PartialSignature[Clip, Clip])
    assert_type(fetch.s(asset).set(queue="x") | transcode.s().set(queue="y"), TypedSignature[Clip])
    assert_type(group(fetch.s(asset)).set(queue="x"), TypedGroup[Clip])
    assert_type(group(transcode.s()).set(queue="x"), PartialGroup[Clip, Clip])
    assert_type(fetch.s(asset).clone().delay().get(), Clip)
    assert_type(fetch.s(asset).on_error(alarm.s()), TypedSignature[Clip])
    assert_type(fetch.s(asset).on_error(failed.signature()), TypedSignature[Clip])
    assert_type(transcode.s().on_error(alarm.s()), PartialSignature[Clip, Clip])
    assert_type((fetch.s(asset) | transcode.s()).on_error(alarm.s()).delay(), TypedResult[Clip])
    fetch.s(asset).link(transcode.s("tv"))
    fetch.s(asset).link(checksum.s())
    fetch.s(asset).link(clean_up.si())
    fetch.s(asset).link(transcode.s() | publish.s())
    transcode.s().link(notify.si("ada"))
    transcode.s().link(publish.s())


async def results(asset: UUID, assets: Iterable[UUID], clip: Clip) -> None:
    result = fetch.delay(asset)
    assert_type(await result, Clip)
    assert_type(await result.aget(timeout=1.5, propagate=False), Clip)
    assert_type(result.result, Clip | BaseException)
    assert_type(result.get(propagate=False), Clip)
    assert_type(await asyncio.wait_for(result, 3), Clip)
    assert_type(await asyncio.gather(result, checksum.delay(clip)), tuple[Clip, str])
    assert_type(fetch.AsyncResult("1"), TypedResult[Clip])
    assert_type(await fetch.AsyncResult("1"), Clip)
    assert_type(await notify.delay("ada"), None)
    together = group(fetch.s(one) for one in assets).delay()
    assert_type(await together, list[Clip])
    assert_type(await together.aget(timeout=3), list[Clip])
    assert_type(together[0], TypedResult[Clip])
    assert_type([await one for one in together], list[Clip])
    assert_type(await (await group(clean_up.s(), checksum.s(clip)).adelay()), list[int | str])
    assert_type(await (await group(transcode.s()).adelay(clip)), list[Clip])
    assert_type(fetch.apply((asset,)), TypedEagerResult[Clip])
    assert_type(fetch.apply(args=(asset,), kwargs={"version": 2}, throw=True).get(), Clip)
    assert_type((fetch.s(asset) | checksum.s()).apply().get(), str)
    assert_type(await fetch.func(asset), Clip)


def as_celery_knows_them(asset: UUID, clip: Clip) -> None:
    result: AsyncResult[Clip] = fetch.delay(asset)
    of_any_file: AsyncResult[Media] = fetch.delay(asset)
    eager: EagerResult[Clip] = fetch.apply((asset,))
    together: GroupResult = group(fetch.s(asset)).delay()
    signature: Signature[Clip] = fetch.s(asset)
    waiting: Signature[Clip] = transcode.s()
    parallel: Signature[object] = group(fetch.s(asset))
    anything: list[Signature[object]] = [fetch.s(asset), transcode.s(), group(clean_up.si())]
    wider: TypedSignature[Media] = fetch.s(asset)
    narrower: PartialSignature[Clip, object] = checksum.s()
    awaited: Awaitable[Clip] = fetch.delay(asset)
    send: Callable[[UUID], TypedResult[Clip]] = fetch.delay
    print(result, of_any_file, eager, together, signature, waiting, parallel, anything)
    print(wider, narrower, awaited, send)


# -- what users write around tasks


def send_twice(signature: TypedSignature[T]) -> tuple[T, T]:
    return signature.delay().get(), signature.clone().delay().get()


def followed_by(first: TypedSignature[T], then: PartialSignature[T, U]) -> TypedSignature[U]:
    return first | then


def with_alarm(step: PartialSignature[T, U]) -> PartialSignature[T, U]:
    return step.set(queue="watched").on_error(alarm.s())


def in_between(
    first: PartialSignature[T, U], last: PartialSignature[U, V]
) -> PartialSignature[T, V]:
    return first | last


def for_each(task: AsyncTask[[T], U], values: Iterable[T]) -> TypedGroup[U]:
    return group(task.s(value) for value in values)


def gathered(signatures: Iterable[TypedSignature[T]], into: PartialSignature[list[T], U]) -> U:
    return chord(signatures, into).delay().get()


async def first_of(results: Sequence[TypedResult[T]]) -> T:
    return await results[0]


def urgently(task: AsyncTask[P, T], *args: P.args, **kwargs: P.kwargs) -> TypedResult[T]:
    return task.options(priority=0).delay(*args, **kwargs)


async def locally(task: AsyncTask[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    return await task.func(*args, **kwargs)


def nightly(task: AsyncTask[P, T]) -> TaskCall[P, T]:
    return task.options(queue="night", countdown=3600)


def on_clip(
    send: Callable[Concatenate[Clip, P], TypedResult[T]], *args: P.args, **kwargs: P.kwargs
) -> TypedResult[T]:
    return send(Clip(url="file"), *args, **kwargs)


def one_by_one(call: Callable[[T], ImmutableSignature[U]], values: Iterable[T]) -> TypedGroup[U]:
    return group(call(value) for value in values)


def fetched_again(assets: Iterable[UUID]) -> ImmutableGroup[Clip]:
    return group(fetch.si(asset) for asset in assets)


async def with_helpers(asset: UUID, assets: list[UUID], clip: Clip) -> None:
    assert_type(send_twice(fetch.s(asset)), tuple[Clip, Clip])
    assert_type(send_twice(clean_up.si()), tuple[int, int])
    assert_type(send_twice(fetch.s(asset) | checksum.s()), tuple[str, str])
    assert_type(followed_by(fetch.s(asset), transcode.s("tv")), TypedSignature[Clip])
    assert_type(followed_by(fetch.s(asset), transcode.s() | publish.s()), TypedSignature[UUID])
    assert_type(with_alarm(poster.s(width=1)), PartialSignature[Clip, Picture])
    assert_type(in_between(transcode.s(), publish.s()), PartialSignature[Clip, UUID])
    assert_type(for_each(checksum, [clip]).delay().get(), list[str])
    assert_type(gathered((fetch.s(one) for one in assets), mix.s()), Clip)
    assert_type(gathered([checksum.s(clip)], count.s()), int)
    assert_type(await first_of([fetch.delay(asset), fetch.AsyncResult("1")]), Clip)
    assert_type(urgently(poster, clip, width=3), TypedResult[Picture])
    assert_type(urgently(publish, clip, at=None).get(), UUID)
    assert_type(await locally(subtitle, clip, language="en"), Subtitles)
    assert_type(nightly(fetch).delay(asset, version=2), TypedResult[Clip])
    assert_type(nightly(clean_up).s(), TypedSignature[int])
    assert_type(on_clip(poster.delay, width=3), TypedResult[Picture])
    assert_type(on_clip(subtitle.delay, "en").get(), Subtitles)
    assert_type(on_clip(publish.options(queue="x").delay, at=None).get(), UUID)
    assert_type(one_by_one(fetch.si, assets).delay().get(), list[Clip])
