"""Calls and workflows of media.py's tasks in which something does not fit."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from uuid import UUID, uuid4

from tests.typing.accepted.media import (
    Channel,
    Clip,
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
from tests.typing.accepted.workflows import (
    first_of,
    followed_by,
    for_each,
    gathered,
    in_between,
    locally,
    nightly,
    on_clip,
    one_by_one,
    send_twice,
    urgently,
    with_alarm,
)

from tomskit.celery import (
    AsyncTask,
    CallOptions,
    ImmutableSignature,
    PartialGroup,
    PartialSignature,
    TaskCall,
    TypedGroup,
    TypedGroupResult,
    TypedResult,
    TypedSignature,
    chain,
    chord,
    group,
)

asset = uuid4()
assets = [asset]
clip = Clip(url="file")
media: Media = clip
now = datetime.now(UTC)


def sending() -> None:
    fetch.delay("1")  # E: str for UUID
    transcode.delay(media)  # E: any file for a clip
    transcode.delay(clip, "phone")  # E: not one of the presets
    transcode.delay(clip, "tv", 2.5)  # E: bitrate is keyword-only
    poster.delay(clip)  # E: width is missing
    poster.delay(clip=clip, width=3)  # E: clip is positional-only
    poster.delay(clip, 3, width=3)  # E: int for timedelta
    mix.delay(clip)  # E: a clip for a list of clips
    mix.delay([clip], 3)  # E: *labels are str
    mix.delay([clip], left="loud")  # E: **gains are float
    publish.delay(clip, "kids")  # E: str for an enum
    publish.delay(None, clip)  # E: self is not a parameter of the call
    publish.delay(clip, at=date(2025, 1, 1))  # E: date for datetime
    bill.delay(asset, 3.5, date(2025, 1, 1), {})  # E: float for Decimal
    bill.delay(asset, Decimal(3), date(2025, 1, 1), {"tea": "x"})  # E: str for int in a mapping
    bundle.delay([clip])  # E: clips for pictures and subtitles
    clean_up.delay(asset)  # E: there are no parameters
    grouped.delay({"a": clip})  # E: a clip for a list of clips in a dict


async def sending_from_a_coroutine() -> None:
    await fetch.adelay()  # E: asset is missing
    await publish.adelay(clip, chanel=Channel.KIDS)  # E: misspelt
    await (await fetch.adelay(asset)).aget(timeout="3")  # E: str for seconds
    a: Picture = await (await fetch.adelay(asset))  # E: Clip is not Picture
    b: Clip = await fetch.adelay(asset)  # E: a result, not yet its value
    await fetch.aapply_async((asset,), queu="x")  # E: misspelt option
    await fetch.aapply_async(asset)  # E: not a tuple
    c: Picture = await (await fetch.aapply_async((asset,)))  # E: Clip is not Picture
    await fetch.delay  # E: not called
    print(a, b, c)


def sending_with_options() -> None:
    fetch.options(contdown=3).delay(asset)  # E: misspelt option
    fetch.options(countdown="3").delay(asset)  # E: str for seconds
    fetch.options(countdown=timedelta(seconds=3))  # E: timedelta for seconds
    fetch.options(eta="tomorrow")  # E: str for datetime
    fetch.options(queue=3)  # E: int for a queue
    fetch.options(priority="high")  # E: str for int
    fetch.options(version=2)  # E: a parameter of the function, no option
    fetch.options({"countdown": 3})  # E: options are keywords
    fetch.options(max_retries=3)  # E: an option of the task, not of a call
    fetch.options(link=print)  # E: a function for a signature
    fetch.options(link_error=alarm)  # E: a task for a signature
    fetch.options(countdown=1).delay()  # E: asset is missing
    fetch.options(countdown=1).delay("1")  # E: str for UUID
    fetch.options(countdown=1).delay(asset, versoin=1)  # E: misspelt
    fetch.options(countdown=1).delay(asset, 1)  # E: version is keyword-only
    fetch.options(countdown=1).s()  # E: asset is missing
    fetch.options(countdown=1).s("1")  # E: str for UUID
    fetch.options(countdown=1).si(asset, version="1")  # E: str for int
    transcode.options(countdown=1).s("tv")  # E: str for a clip; options() is for complete calls
    fetch.options(countdown=1)(asset)  # E: not callable
    fetch.options(countdown=1).get()  # E: not sent
    publish.options(priority=3).delay(None, clip)  # E: self is not a parameter
    a: TypedResult[str] = fetch.options(countdown=1).delay(asset)  # E: TypedResult[Clip]
    b: CallOptions = {"countdwn": 3}  # E: misspelt option
    c: CallOptions = {"expires": "soon"}  # E: str for seconds or a datetime
    d: TaskCall[[UUID], str] = fetch.options(countdown=1)  # E: its result is a Clip
    fetch.apply_async((asset,), queu="x")  # E: misspelt option
    fetch.apply_async(asset)  # E: not a tuple
    fetch.apply((asset,), countdown=3)  # E: nothing is sent that could wait
    print(a, b, c, d)


async def sending_with_options_from_a_coroutine() -> None:
    await fetch.options(queue="x").adelay("1")  # E: str for UUID
    a: str = await (await fetch.options(queue="x").adelay(asset))  # E: Clip is not str
    print(a)


def making_signatures() -> None:
    fetch.s("1")  # E: str for UUID
    fetch.s(asset, version="2")  # E: str for int
    fetch.s(asset, asset)  # E: version is keyword-only
    fetch.si()  # E: asset is missing
    fetch.si(asset, versoin=2)  # E: misspelt
    poster.si(clip)  # E: width is missing
    poster.s(clip)  # E: width is missing
    poster.p()  # E: width is missing
    poster.p(3, width=3)  # E: int for timedelta
    subtitle.p()  # E: language is missing
    subtitle.p(3)  # E: int for str
    subtitle.p("en", "de")  # E: too many
    subtitle.s(3)  # E: int for a clip or a language
    subtitle.p(clip=clip, language="en")  # E: the first one comes later
    transcode.p("phone")  # E: not one of the presets
    transcode.p(bitrate="high")  # E: str for float
    transcode.s("phone")  # E: not one of the presets
    publish.p(channel="kids")  # E: str for an enum
    bill.p(Decimal(3))  # E: due and lines are missing
    mix.p(left="loud")  # E: **gains are float
    clean_up.p()  # E: there is no first parameter
    failed.s()  # E: Celery calls it with three, and only the first may come later
    clean_up.si(asset)  # E: there are no parameters
    a: TypedSignature[str] = fetch.s(asset)  # E: TypedSignature[Clip]
    b: ImmutableSignature[Clip] = fetch.s(asset)  # E: not immutable
    c: TypedSignature[Subtitles] = subtitle.s("en")  # E: incomplete
    d: PartialSignature[str, Clip] = transcode.s("tv")  # E: waits for a clip
    e: PartialSignature[Media, Clip] = transcode.s("tv")  # E: waits for a clip, not any file
    f: PartialSignature[Clip, Picture] = transcode.s("tv")  # E: its result is a clip
    print(a, b, c, d, e, f)


async def sending_signatures() -> None:
    subtitle.s("en").delay()  # E: the clip is missing
    subtitle.s("en").delay("en")  # E: str for a clip
    subtitle.p("en").delay(clip, clip)  # E: too many
    subtitle.s("en").delay(clip=clip)  # E: the first argument has no name here
    await subtitle.s("en").adelay()  # E: the clip is missing
    await subtitle.s("en").adelay(media)  # E: any file for a clip
    fetch.s(asset).delay(asset)  # E: it has all its arguments
    fetch.s(asset).delay(version=2)  # E: it has all its arguments
    fetch.si(asset).delay(asset)  # E: it has all its arguments
    await fetch.s(asset).adelay(asset)  # E: it has all its arguments
    fetch.s(asset).apply_async((asset,))  # E: it has all its arguments
    fetch.s(asset).apply_async(contdown=3)  # E: misspelt option
    (transcode.s() | checksum.s()).delay()  # E: the clip is missing
    (fetch.s(asset) | transcode.s()).delay(clip)  # E: it has all its arguments
    group(transcode.s(), transcode.s("tv")).delay()  # E: the clip is missing
    group(transcode.s()).delay(asset)  # E: UUID for a clip
    await group(transcode.s()).adelay()  # E: the clip is missing
    group(fetch.s(asset)).delay(asset)  # E: they have all their arguments
    a: str = fetch.s(asset).delay().get()  # E: Clip is not str
    b: Picture = (fetch.s(asset) | transcode.s()).delay().get()  # E: Clip is not Picture
    c: Clip = (fetch.s(asset) | checksum.s()).apply().get()  # E: str is not Clip
    print(a, b, c)


def pipes() -> None:
    fetch.s(asset) | remind.s()  # E: a clip for an invoice
    fetch.s(asset) | subtitle.s("en") | transcode.s()  # E: subtitles for a clip
    checksum.s(clip) | transcode.s()  # E: str for a clip
    poster.s(clip, width=1) | transcode.s()  # E: a picture for a clip
    publish.s(clip) | publish.s()  # E: UUID for a clip
    fetch.s(asset) | mix.s()  # E: a clip for a list of clips
    fetch.s(asset) | fetch.s(asset)  # E: complete, but not immutable
    fetch.s(asset) | transcode.s() | publish.s(clip)  # E: complete, but not immutable
    fetch.s(asset) | (transcode.s(clip) | checksum.s())  # E: starts with a complete one
    clean_up.s() | search.s()  # E: complete, for all its parameters have defaults
    clean_up.s() | search.p()  # E: int for str
    notify.s("ada") | transcode.s()  # E: None for a clip
    reminded = bill.s(asset, Decimal(3), now, {}) | remind.s()
    reminded | publish.s()  # E: a datetime or None for a clip
    transcode.s() | remind.s()  # E: a clip for an invoice
    transcode.s() | fetch.s(asset)  # E: complete, but not immutable
    transcode.s() | publish.s() | checksum.s()  # E: UUID for a file
    fetch.s(asset) | transcode  # E: a task for a signature
    fetch | transcode.s()  # E: a task for a signature
    fetch.s(asset) | print  # E: a function for a signature
    fetch.s(asset) | "transcode"  # E: a name for a signature
    fetch.delay(asset) | transcode.s()  # E: a result for a signature
    a: TypedSignature[Clip] = fetch.s(asset) | checksum.s()  # E: TypedSignature[str]
    b: PartialSignature[Clip, UUID] = transcode.s() | checksum.s()  # E: its result is str
    c: ImmutableSignature[int] = fetch.s(asset) | clean_up.si()  # E: the chain is not immutable
    print(a, b, c)


def chains() -> None:
    chain(fetch.s(asset), remind.s())  # E: a clip for an invoice
    chain(transcode.s(), fetch.s(asset))  # E: the wrong way round
    chain(fetch.s(asset), checksum.s(), transcode.s())  # E: str for a clip
    chain(fetch.s(asset), fetch.s(asset))  # E: complete, but not immutable
    chain(fetch.s(asset), transcode.s(), checksum.s(), transcode.s())  # E: str for a clip
    chain(fetch.s(asset), transcode.s(), publish.s(), fetch.s(), remind.s())  # E: a clip
    chain(fetch.s(asset), publish.s(), fetch.s(), publish.s(), fetch.s(), mix.s())  # E: not a list
    chain(transcode.s(), checksum.s()).delay()  # E: the clip is missing
    chain(transcode.s(), checksum.s(), transcode.s())  # E: str for a clip
    chain(fetch.s(asset), notify.si("ada"), transcode.s())  # E: None for a clip
    chain(fetch.s(asset), transcode)  # E: a task for a signature
    chain(fetch, transcode.s())  # E: a task for a signature
    a: TypedSignature[Clip] = chain(fetch.s(asset), checksum.s())  # E: TypedSignature[str]
    b: str = chain(fetch.s(asset), transcode.s()).delay().get()  # E: Clip is not str
    print(a, b)


async def groups() -> None:
    group(fetch.s(asset), transcode.s())  # E: one complete and one not
    # Pyrefly lets a group take what any one of its tasks takes.
    fetch.s(asset) | group(transcode.s(), fetch.s())  # E(not pyrefly): one waits for a UUID
    publish.s(clip) | group([transcode.s(), fetch.s()])  # E(not pyrefly): one waits for a clip
    group(transcode.s(), fetch.s()).delay(clip)  # E(not pyrefly): one waits for a UUID
    publish.s(clip) | group(transcode.s(), mix.s())  # E: one waits for a clip, one for clips
    parts: list[PartialSignature[Clip, Clip]] = [transcode.s(), fetch.s()]  # E: one for a UUID
    group(fetch, transcode)  # E: tasks for signatures
    group(fetch.delay(one) for one in assets)  # E: results for signatures
    group(fetch.s("1") for _ in assets)  # E: str for UUID
    a: list[str] = group(fetch.s(asset)).delay().get()  # E: a list of clips
    b: Clip = group(fetch.s(asset)).delay().get()  # E: a list of clips
    c: TypedGroup[str] = group(fetch.s(one) for one in assets)  # E: TypedGroup[Clip]
    mixed = group(poster.s(clip, width=1), subtitle.s(clip, "en"))
    d: list[Picture] = mixed.delay().get()  # E: subtitles as well
    e: TypedGroup[Picture] = mixed  # E: subtitles as well
    f: PartialGroup[UUID, Clip] = group(transcode.s(), transcode.s("tv"))  # E: waits for a clip
    g: list[str] = await group(fetch.s(asset)).delay()  # E: a list of clips
    h: str = group(fetch.s(asset)).delay()[0].get()  # E: a clip
    i: TypedResult[Clip] = group(fetch.s(asset)).delay()  # E: a group's result
    j: TypedGroupResult[str] = group(fetch.s(asset)).delay()  # E: of clips
    k: list[str] = [one.get() for one in group(fetch.s(asset)).delay()]  # E: clips
    print(a, b, c, d, e, f, g, h, i, j, k, parts)


def chords() -> None:
    fetched = group(fetch.s(one) for one in assets)
    fetched | transcode.s()  # E: a list of clips for a clip
    fetched | bundle.s()  # E: clips for pictures and subtitles
    fetched | mix.s([clip])  # E: complete, but not immutable
    fetched | checksum.s()  # E: a list for a file
    fetched | mix  # E: a task for a signature
    fetched | mix.s() | mix.s()  # E: a clip for a list of clips
    fetched.delay() | mix.s()  # E: a result for a signature
    group(checksum.s(clip)) | mix.s()  # E: str for clips
    group(checksum.s(clip), fetch.s(asset)) | mix.s()  # E: str for one of the clips
    group(clean_up.si()) | album.s()  # E: int for files
    group(poster.s(clip, width=1), clean_up.s()) | bundle.s()  # E: int for subtitles
    group(transcode.s()) | bundle.s()  # E: clips for pictures and subtitles
    fetch.s(asset) | group(remind.s(), remind.s())  # E: a clip for an invoice
    fetch.s(asset) | group(fetch.s(one) for one in assets)  # E: complete, but not immutable
    fetch.s(asset) | group(transcode.s()) | publish.s()  # E: a list of clips for a clip
    chord(fetched, bundle.s())  # E: clips for pictures and subtitles
    chord(fetched, transcode.s())  # E: a list of clips for a clip
    chord([checksum.s(clip)], mix.s())  # E: str for clips
    chord((checksum.s(clip) for _ in assets), mix.s())  # E: str for clips
    chord(fetched, mix.s([clip]))  # E: complete, but not immutable
    chord(fetched)  # E: the body is missing
    chord(mix.s(), fetched)  # E: the wrong way round
    chord([transcode.s()], mix.s())  # E: the header is incomplete
    chord(fetch.s(asset), mix.s())  # E: a signature for a group
    chord(fetched, mix)  # E: a task for a signature
    a: str = chord(fetched, mix.s()).delay().get()  # E: Clip is not str
    b: TypedSignature[str] = fetched | mix.s()  # E: TypedSignature[Clip]
    chord(fetched, count.s()) | checksum.s()  # E: int for a file
    print(a, b)


def settings_of_signatures() -> None:
    fetch.s(asset).set(contdown=3)  # E: misspelt option
    fetch.s(asset).set(countdown="3")  # E: str for seconds
    fetch.s(asset).set(version=3)  # E: a parameter of the function, no option
    transcode.s().set(queue=3)  # E: int for a queue
    transcode.s().set(immutable=True)  # E: it would never get its clip
    group(fetch.s(asset)).set(quue="x")  # E: misspelt option
    group(transcode.s()).set(immutable=True)  # E: they would never get their clip
    fetch.s(asset).link(remind.s())  # E: a clip for an invoice
    fetch.s(asset).link(fetch.s(asset))  # E: complete, but not immutable
    fetch.s(asset).link(mix.s())  # E: a clip for a list of clips
    fetch.s(asset).link(transcode)  # E: a task for a signature
    (fetch.s(asset) | checksum.s()).link(transcode.s())  # E: str for a clip
    transcode.s().link(remind.s())  # E: a clip for an invoice
    fetch.s(asset).on_error(print)  # E: a function for a signature
    fetch.s(asset).on_error(alarm)  # E: a task for a signature
    fetch.s(asset).clone((asset,))  # E: it has all its arguments


async def results() -> None:
    result = fetch.delay(asset)
    a: str = await result  # E: Clip is not str
    b: str = await result.aget(timeout=1)  # E: Clip is not str
    await result.aget(1, False)  # E: propagate is keyword-only
    result.get(timeout="1")  # E: str for seconds
    c: TypedResult[str] = fetch.AsyncResult("1")  # E: TypedResult[Clip]
    d: Clip = result.result  # E: or an exception
    e: Picture = fetch.apply((asset,)).get()  # E: Clip is not Picture
    fetch.AsyncResult(1)  # E: int for str
    f: int = await notify.delay("ada")  # E: None is not int
    print(result.url)  # E: of the clip, not of its result
    print((await result).width)  # E: of a picture, not of a clip
    g: datetime = remind.delay(bill.delay(asset, Decimal(1), now, {}).get()).get()  # E: or None
    print(a, b, c, d, e, f, g)


async def with_helpers() -> None:
    send_twice(transcode.s())  # E: incomplete
    send_twice(fetch.delay(asset))  # E: a result for a signature
    send_twice(fetch)  # E: a task for a signature
    followed_by(fetch.s(asset), remind.s())  # E: a clip for an invoice
    followed_by(fetch.s(asset), fetch.s(asset))  # E: the second is complete
    followed_by(transcode.s(), checksum.s())  # E: the first is incomplete
    with_alarm(fetch.s(asset))  # E: complete
    in_between(transcode.s(), remind.s())  # E: a clip for an invoice
    gathered([fetch.s(asset)], bundle.s())  # E: clips for pictures and subtitles
    await first_of([fetch.s(asset)])  # E: signatures for results
    urgently(poster, clip)  # E: width is missing
    urgently(fetch, "1")  # E: str for UUID
    await locally(subtitle, clip, langauge="en")  # E: misspelt
    nightly(fetch).delay()  # E: asset is missing
    nightly(print)  # E: a function for a task
    on_clip(fetch.delay)  # E: takes a UUID
    on_clip(poster.delay)  # E: width is missing
    for_each(checksum, [asset])  # E: UUIDs for files
    one_by_one(fetch.si, [clip])  # E: clips for UUIDs
    a: list[int] = one_by_one(fetch.si, assets).delay().get()  # E: clips
    b: AsyncTask[..., str] = fetch  # E: its result is a Clip
    c: Sequence[TypedResult[str]] = [fetch.delay(asset)]  # E: of a clip
    d: Iterable[TypedSignature[str]] = (fetch.s(one) for one in assets)  # E: of clips
    print(a, b, c, d)
