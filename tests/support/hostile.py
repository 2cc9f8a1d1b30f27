"""Messages that no worker can read, made of one that every worker can."""

import base64
import json
from collections.abc import Callable, Mapping
from typing import Any, Final
from uuid import uuid4

__all__ = ("NONE", "ODD", "RAW", "UNREADABLE", "call", "changed", "command", "encoded")

NONE: Final[dict[str, object]] = {}
Message = dict[str, Any]
Change = Callable[[Message], object]

_EMBED: Final[dict[str, object]] = {
    "callbacks": None,
    "errbacks": None,
    "chain": None,
    "chord": None,
}


def call(*args: object) -> Message:
    """A message as Celery sends it, of a call ``add(*args)``."""
    task_id = str(uuid4())
    return {
        "body": encoded([args, NONE, _EMBED]),
        "content-encoding": "utf-8",
        "content-type": "application/json",
        "headers": {
            "lang": "py",
            "task": "add",
            "id": task_id,
            "root_id": task_id,
            "parent_id": None,
            "group": None,
            "retries": 0,
            "timelimit": [None, None],
            "eta": None,
            "expires": None,
            "argsrepr": "(1, 2)",
            "kwargsrepr": "{}",
            "origin": "gen1@host",
        },
        "properties": {
            "correlation_id": task_id,
            "reply_to": str(uuid4()),
            "delivery_mode": 2,
            "delivery_info": {"exchange": "", "routing_key": "celery"},
            "priority": 0,
            "body_encoding": "base64",
            "delivery_tag": str(uuid4()),
        },
    }


def encoded(body: object) -> str:
    return base64.b64encode(json.dumps(body).encode()).decode()


def changed(change: Change) -> str:
    """The call ``add(1, 2)``, changed, as it lies in Redis."""
    message = call(1, 2)
    change(message)
    return json.dumps(message)


def command(change: Change) -> bytes:
    """A broadcast command of remote control, changed, as it is published in Redis."""
    message = call()
    message["body"] = encoded({"method": "ping", "arguments": {}, "destination": None})
    message["headers"] = {"clock": 1, "expires": None}
    message["properties"]["delivery_info"] = {"exchange": "celery.pidbox", "routing_key": ""}
    change(message)
    return json.dumps(message).encode()


def _body(body: Any) -> Change:
    return lambda m: m.update(body=encoded(body))


def _embed(**parts: object) -> Change:
    return _body([[1, 2], NONE, _EMBED | parts])


def _header(name: str, value: object) -> Change:
    return lambda m: m["headers"].update({name: value})


def _property(name: str, value: object) -> Change:
    return lambda m: m["properties"].update({name: value})


UNREADABLE: Final[Mapping[str, Change]] = {
    "body that is no base64": lambda m: m.update(body="%%%"),
    "body of another alphabet": lambda m: m.update(body="\u00e4\u00f6"),
    "body that is a number": lambda m: m.update(body=7),
    "body that is an object, not encoded": lambda m: m.update(body={"a": 1}),
    "no body": lambda m: m.pop("body"),
    "empty body": lambda m: m.update(body=""),
    "body encoding that nobody knows": _property("body_encoding", "rot13"),
    "body encoding that is a list": _property("body_encoding", ["base64"]),
    "body that is no JSON": lambda m: m.update(body=base64.b64encode(b"{no").decode()),
    "body that is binary": lambda m: m.update(body=base64.b64encode(b"\xff\xfe\x00").decode()),
    "body that nests deeply": lambda m: m.update(
        body=base64.b64encode(b"[" * 9000 + b"]" * 9000).decode()
    ),
    "body that is null": _body(None),
    "body that is a text": _body("abc"),
    "body that is a scalar": _body(5),
    "body that is empty": _body([]),
    "body that is an object": _body({"kwargs": {}}),
    "body that is an object of three": _body({"a": 1, "b": 2, "c": 3}),
    "body that is an object with args": _body({"args": "12"}),
    "body that is only the arguments": _body([1, 2]),
    "body with two parts": _body([[1, 2], {}]),
    "body with four parts": _body([[1, 2], NONE, _EMBED, {}]),
    "body of a type that nobody knows": _body({"__type__": "moon", "__value__": 1}),
    "args that are a text": _body(["12", NONE, _EMBED]),
    "args that are a number": _body([12, NONE, _EMBED]),
    "args that are an object": _body([{"left": 1, "right": 2}, NONE, _EMBED]),
    "args that are null": _body([None, NONE, _EMBED]),
    "kwargs that are a list": _body([[1, 2], [], _EMBED]),
    "kwargs that are null": _body([[1, 2], None, _EMBED]),
    "kwargs that are a text": _body([[1, 2], "k", _EMBED]),
    "embed that is a list": _body([[1, 2], NONE, [1]]),
    "embed that is a text": _body([[1, 2], NONE, "embed"]),
    "callbacks that are a text": _embed(callbacks="add"),
    "callbacks that are texts": _embed(callbacks=["add"]),
    "errbacks that are a number": _embed(errbacks=4),
    "callback without options": _embed(callbacks=[{"task": "add"}]),
    "chord without a task": _embed(chord={"a": 1}),
    "chain that is an object": _embed(chain={"task": "add"}),
    "chain of numbers": _embed(chain=[1]),
    "chord that is a text": _embed(chord="add"),
    "content that nobody accepts": lambda m: m.update({"content-type": "application/x-python"}),
    "content that nobody knows": lambda m: m.update({"content-type": "moon/dust"}),
    "content that is a list": lambda m: m.update({"content-type": ["application/json"]}),
    "content encoding that is a number": lambda m: m.update({"content-encoding": 8}),
    "task that is a list": _header("task", ["add"]),
    "task that is an object": _header("task", {"add": 1}),
    "task that is null": _header("task", None),
    "task that is empty": _header("task", ""),
    "no task": lambda m: m["headers"].pop("task"),
    "headers that are a list": lambda m: m.update(headers=["task"]),
    "headers that are a text": lambda m: m.update(headers="task"),
    "headers that are null": lambda m: m.update(headers=None),
    "no headers": lambda m: m.pop("headers"),
    "no id": lambda m: m["headers"].pop("id"),
    "id that is null": _header("id", None),
    "id that is empty": _header("id", ""),
    "id that is a number": _header("id", 5),
    "id that is a list": _header("id", ["a"]),
    "id that is no text in UTF-8": _header("id", "\ud800"),
    "root id that is a list": _header("root_id", ["a"]),
    "parent id that is an object": _header("parent_id", {}),
    "group that is a list": _header("group", [1]),
    "shadow that is a list": _header("shadow", [1]),
    "limits that are three": _header("timelimit", [1, 2, 3]),
    "limits that are texts": _header("timelimit", ["a", "b"]),
    "limits that are no numbers": _header("timelimit", [float("nan"), float("inf")]),
    "limit that is a number": _header("timelimit", 5),
    "limits that are an object": _header("timelimit", {"hard": 1, "soft": 2}),
    "start that is no time": _header("eta", "soon"),
    "start that is a number": _header("eta", 5),
    "start that is empty": _header("eta", ""),
    "expiry that is no time": _header("expires", "soon"),
    "expiry that is a list": _header("expires", [1]),
    "retries that are a text": _header("retries", "many"),
    "retries that are a list": _header("retries", [1]),
    "retries below zero": _header("retries", -1),
    "stamps that are no object": _header("stamps", 3),
    "stamped headers that are a number": _header("stamped_headers", 4),
    "compression that nobody knows": _header("compression", "moon"),
    "compression that is a list": _header("compression", ["zlib"]),
    "compression that was not used": _header("compression", "application/x-gzip"),
    "compression of no body": lambda m: m.update(
        body=None, headers={**m["headers"], "compression": "moon"}
    ),
    "correlation id that is a number": _property("correlation_id", 7),
    "reply to an object": _property("reply_to", {"exchange": "x"}),
    "no properties": lambda m: m.pop("properties"),
    "properties that are null": lambda m: m.update(properties=None),
    "properties that are a list": lambda m: m.update(properties=["delivery_tag"]),
    "no delivery tag": lambda m: m["properties"].pop("delivery_tag"),
    "delivery tag that is null": _property("delivery_tag", None),
    "delivery tag that is a list": _property("delivery_tag", ["a"]),
    "delivery tag that is true": _property("delivery_tag", True),
    "delivery tag that is no text in UTF-8": _property("delivery_tag", "\ud800"),
}
"""Changes of a call after which no worker can or may run it."""

RAW: Final[Mapping[str, bytes]] = {
    "empty": b"",
    "no JSON": b"{no",
    "a text": b"hello",
    "JSON null": b"null",
    "a JSON number": b"5",
    "a JSON text": b'"abc"',
    "a JSON list": b"[1, 2]",
    "an empty JSON object": b"{}",
    "not UTF-8": b"\xff\xfe",
    "a type that kombu does not know": changed(
        lambda m: m.update(extra={"__type__": "moon", "__value__": 1})
    ).encode(),
    "a value that is not of its type": changed(
        lambda m: m.update(extra={"__type__": "datetime", "__value__": 5})
    ).encode(),
    "nested deeply": changed(lambda m: m.update(extra="QQ"))
    .encode()
    .replace(b'"QQ"', b"[" * 980 + b"]" * 980),
    "nested more deeply": b"[" * 50_000 + b"]" * 50_000,
}
"""What is not a message of kombu's."""

ODD: Final[Mapping[str, Change]] = {
    "arguments shown as a list": _header("argsrepr", [1]),
    "keyword arguments shown as null": _header("kwargsrepr", None),
    "origin that is a number": _header("origin", 5),
    "language that is a list": _header("lang", [1]),
    "priority that is a text": _property("priority", "high"),
    "priority that is infinite": _property("priority", float("inf")),
    "priority that is a list": _property("priority", [1]),
    "no delivery info": lambda m: m["properties"].pop("delivery_info"),
    "delivery info that is a number": _property("delivery_info", 5),
    "delivery info that is a text": _property("delivery_info", "celery"),
    "exchange that is a list": _property("delivery_info", {"exchange": [1], "routing_key": 5}),
    "exchange that is no number": _property("delivery_info", {"exchange": float("inf")}),
    "content encoding that nobody knows": lambda m: m.update({"content-encoding": "moon"}),
    "id of two lines": _header("id", "a\n[2026] CRITICAL \x1b[31mforged"),
    "no limits": _header("timelimit", None),
    "delivery mode that is a text": _property("delivery_mode", "x"),
    "a header more": _header("clock", "x"),
    "embed that is null": _body([[1, 2], NONE, None]),
}
"""Changes of a call after which it is still the same call."""
