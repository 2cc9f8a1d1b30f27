"""The serializer "orjson" compared with Celery's "json": dumps and loads of whole message bodies.

Run it with ``python -m benchmarks.serializer``.
"""

from datetime import UTC, datetime
from timeit import timeit
from uuid import UUID

from kombu.utils import json as kombu_json

from benchmarks.table import Row, print_table
from tomskit.celery.serializers import OrjsonSerializer

ROUNDS = 25
CALLS = 4_000
"""Enough calls for some milliseconds, so that other processes seldom disturb a round."""


def messages() -> list[tuple[str, object, str]]:
    """Name, body and target. A body is args, kwargs and embed, as Celery sends them."""
    embed = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}
    small = (
        (1, "alice@example.com", True),
        {"name": "Alice", "tags": ["a", "b", "c"], "limit": 10},
        embed,
    )
    lines = [
        {
            "sku": f"SKU-{number:05d}",
            "quantity": number,
            "price": 19.99,
            "taxed": True,
            "note": None,
        }
        for number in range(10)
    ]
    address = {"street": "Main Street 1", "city": "Berlin", "zip": "10115", "country": "DE"}
    order = {"id": 48151623, "customer": "alice@example.com", "currency": "EUR"}
    kilobyte = (
        (1, {"order": order | {"lines": lines, "address": address}}),
        {"notify": True, "channel": "email"},
        embed,
    )
    moment = datetime(2026, 2, 3, 4, 5, 6, 789, tzinfo=UTC)
    one, two = UUID(int=2**127 + 12345), UUID(int=2**126 + 54321)
    rich = (
        (1, one, moment),
        {"when": moment.replace(tzinfo=None), "id": two, "tags": ["a", "b"]},
        embed,
    )
    return [
        ("serializer, 140 bytes", small, ">= 4"),
        ("serializer, 1 KB", kilobyte, ">= 4"),
        ("serializer, datetimes and UUIDs", rich, ">= 1.6"),
    ]


def measure() -> list[Row]:
    """Microseconds for dumps and loads together."""
    orjson = OrjsonSerializer()
    rows: list[Row] = []
    for name, body, target in messages():
        ours, theirs = orjson.dumps(body), kombu_json.dumps(body)
        calls: list[tuple[str, dict[str, object]]] = [
            ("dumps(body)", {"dumps": orjson.dumps, "body": body}),
            ("loads(data)", {"loads": orjson.loads, "data": ours}),
            ("dumps(body)", {"dumps": kombu_json.dumps, "body": body}),
            ("loads(data)", {"loads": kombu_json.loads, "data": theirs}),
        ]
        # Alternate and keep the best of each, since a disturbance affects all of them.
        rounds = [
            [timeit(call, number=CALLS, globals=names) for call, names in calls]
            for _ in range(ROUNDS)
        ]
        best = [min(times) * 1e6 / CALLS for times in zip(*rounds, strict=True)]
        mine, peer = sum(best[:2]), sum(best[2:])
        rows.append(Row(name, mine, peer, "us", peer / mine, target))
    return rows


if __name__ == "__main__":
    print_table(measure())
