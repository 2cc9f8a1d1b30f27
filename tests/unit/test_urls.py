"""URLs are read back by those who read them in a worker: kombu, Celery, redis-py, SQLAlchemy."""

import string
from collections.abc import Iterator
from typing import NamedTuple, Protocol, cast
from urllib.parse import quote, urlencode

import pytest
from celery import Celery
from celery.backends.redis import RedisBackend, SentinelBackend
from hypothesis import example, given
from hypothesis import strategies as st
from kombu import Connection
from kombu.utils.url import parse_url as kombu_parse_url
from redis import asyncio as redis_asyncio
from redis import connection as redis_connection
from sqlalchemy import make_url

from tomskit import urls
from tomskit.errors import ConfigurationError, TomsKitError
from tomskit.urls import (
    HostPort,
    database_query,
    database_url,
    host_name,
    is_sqlite,
    parse_extras,
    parse_nodes,
    redis_url,
    sentinel_url,
    synchronous_scheme,
)

NASTY = " +%@/:;?#[]&=\\\"'<>,%20%2B\t\n\x00é€😀"

text = st.text(st.characters(exclude_categories=["Cs"]), min_size=1)
credentials = st.one_of(text, st.text(" +%@/:;?#[]&=\\", min_size=1), st.just(NASTY))
maybe = st.one_of(st.none(), credentials)
labels = st.text(string.ascii_lowercase + string.digits + "_", min_size=1, max_size=20)
names = st.lists(labels, min_size=1, max_size=3).map(".".join)
zones = st.tuples(st.ip_addresses(v=6), st.sampled_from(["eth0", "1", "eb0", "20"]))
hosts = st.one_of(
    names,
    st.ip_addresses(v=4).map(str),
    st.ip_addresses(v=6).map(str),
    zones.map(lambda pair: f"{pair[0]}%{pair[1]}"),
)
ports = st.integers(1, 65535)
numbers = st.integers(0, 1000)


class _HasConnparams(Protocol):
    connparams: dict[str, object]


class Server(NamedTuple):
    """What every reader finds in a URL."""

    host: str
    port: int
    username: str | None
    password: str | None
    db: int


@pytest.fixture(scope="module")
def app() -> Iterator[Celery]:
    with Celery("urls", set_as_current=False) as app:
        yield app


def by_kombu(url: str) -> Server:
    connection = Connection(url)
    return _server(
        {
            "host": connection.hostname,
            "port": connection.port,
            "username": connection.userid,
            "password": connection.password,
            "db": connection.virtual_host,
        }
    )


def by_kombu_utils(url: str) -> Server:
    parts = cast("dict[str, object]", kombu_parse_url(url))
    return _server(
        {
            "host": parts["hostname"],
            "port": parts["port"],
            "username": parts["userid"],
            "password": parts["password"],
            "db": parts["virtual_host"],
        }
    )


def _server(values: dict[str, object]) -> Server:
    return Server(
        host=cast("str", values["host"]),
        port=cast("int", values["port"]),
        username=cast("str | None", values.get("username")),
        password=cast("str | None", values.get("password")),
        db=int(cast("str | int", values["db"])),
    )


def connparams(backend: object) -> dict[str, object]:
    return cast("_HasConnparams", backend).connparams


def by_celery(url: str, app: Celery) -> Server:
    return _server(connparams(RedisBackend(url=url, app=app)))


class _HasConnectionKwargs(Protocol):
    connection_kwargs: dict[str, object]


class _ParseURL(Protocol):
    def __call__(self, url: str, /) -> dict[str, object]: ...


class _Pool(Protocol):
    def from_url(self, url: str) -> _HasConnectionKwargs: ...


# redis-py describes its readers without types.
redis_parse_url = cast("_ParseURL", vars(redis_connection)["parse_url"])
redis_pool = cast("_Pool", redis_connection.ConnectionPool)
async_redis_pool = cast("_Pool", redis_asyncio.ConnectionPool)


def by_redis(url: str) -> Server:
    return _server(redis_parse_url(url))


def by_redis_pool(url: str) -> Server:
    return _server(redis_pool.from_url(url).connection_kwargs)


def by_async_redis_pool(url: str) -> Server:
    return _server(async_redis_pool.from_url(url).connection_kwargs)


# -- one Redis server


@given(st.builds(Server, hosts, ports, maybe, maybe, numbers))
@example(Server("localhost", 6379, None, None, 0))
@example(Server("localhost", 6379, None, "p w+d", 0))
@example(Server("localhost", 6379, "u s+r", None, 0))
@example(Server("::1", 6379, "u", "p", 15))
def test_every_reader_of_a_redis_url_gets_what_was_configured(
    app: Celery, expected: Server
) -> None:
    url = redis_url(
        expected.host,
        expected.port,
        expected.db,
        username=expected.username,
        password=expected.password,
    )
    assert by_kombu(url) == expected
    assert by_kombu_utils(url) == expected
    assert by_celery(url, app) == expected
    assert by_redis(url) == expected
    assert by_redis_pool(url) == expected
    assert by_async_redis_pool(url) == expected


@given(hosts, credentials, credentials)
def test_a_redis_url_is_plain_ascii_without_a_plus(host: str, user: str, password: str) -> None:
    url = redis_url(host, 6379, 0, username=user, password=password)
    assert url.isascii()
    assert url.isprintable()
    assert "+" not in url
    assert " " not in url
    assert url.count("@") == 1


def test_a_space_is_percent_20() -> None:
    url = redis_url("h", 1, 0, username="a b", password="c d")
    assert url == "redis://a%20b:c%20d@h:1/0"


def test_without_credentials_there_is_no_at_sign() -> None:
    assert redis_url("h", 1, 2) == "redis://h:1/2"


def test_only_a_password_leaves_the_user_empty() -> None:
    assert redis_url("h", 1, 2, password="p") == "redis://:p@h:1/2"


def test_only_a_user_leaves_the_password_out() -> None:
    assert redis_url("h", 1, 2, username="u") == "redis://u@h:1/2"


@pytest.mark.parametrize("empty", ["", None])
def test_empty_credentials_are_none(empty: str | None) -> None:
    assert redis_url("h", 1, 2, username=empty, password=empty) == "redis://h:1/2"


def test_an_ipv6_host_is_bracketed() -> None:
    assert redis_url("2001:db8::1", 1, 2) == "redis://[2001:db8::1]:1/2"


def test_the_zone_of_an_ipv6_host_survives_decoding() -> None:
    url = redis_url("fe80::1%eb0", 1, 2)
    assert url == "redis://[fe80::1%25eb0]:1/2"
    assert by_redis(url).host == "fe80::1%eb0"


def test_tls_is_rediss() -> None:
    url = redis_url("h", 1, 2, password="p", tls=True)
    assert url == "rediss://:p@h:1/2"
    assert redis_parse_url(url)["connection_class"] is redis_connection.SSLConnection


# -- sentinels

nodes = st.lists(st.builds(HostPort, hosts, ports), min_size=1, max_size=4)


@given(nodes, numbers, maybe, maybe)
def test_kombu_finds_every_sentinel_with_the_credentials(
    nodes: list[HostPort], db: int, username: str | None, password: str | None
) -> None:
    connection = Connection(sentinel_url(nodes, db, username=username, password=password))
    first = nodes[0]
    assert connection.transport_cls == "sentinel"
    assert (connection.userid, connection.password) == (username, password)
    assert (connection.hostname, connection.port) == first
    # kombu names alternatives only where there are several.
    found = [by_kombu(url) for url in connection.alt]
    expected = [Server(host, port, username, password, db) for host, port in nodes]
    assert found == (expected if len(nodes) > 1 else [])


@given(nodes, numbers, maybe, maybe)
def test_celerys_sentinel_backend_finds_every_sentinel_with_the_credentials(
    app: Celery, nodes: list[HostPort], db: int, username: str | None, password: str | None
) -> None:
    url = sentinel_url(nodes, db, username=username, password=password)
    found = connparams(SentinelBackend(url=url, app=app))
    servers = cast("list[dict[str, object]]", found["hosts"])
    assert [(server["host"], server["port"]) for server in servers] == nodes
    assert found["db"] == db
    assert found.get("username") == username
    assert found.get("password") == password


def test_the_credentials_and_the_database_are_in_every_nodes_url() -> None:
    url = sentinel_url([HostPort("a", 1), HostPort("::1", 2)], 3, username="u", password="p;w")
    assert url == "sentinel://u:p%3Bw@a:1/3;sentinel://u:p%3Bw@[::1]:2/3"


@given(nodes)
def test_a_list_of_nodes_is_read_back(nodes: list[HostPort]) -> None:
    written = (f"[{n.host}]:{n.port}" if ":" in n.host else f"{n.host}:{n.port}" for n in nodes)
    assert parse_nodes(" , ".join(written), default_port=1) == nodes


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        (" , ", []),
        ("a", [HostPort("a", 26379)]),
        ("[::1]", [HostPort("::1", 26379)]),
        ("a,b:2,", [HostPort("a", 26379), HostPort("b", 2)]),
        ("10.0.0.1:65535", [HostPort("10.0.0.1", 65535)]),
    ],
)
def test_a_nodes_port_may_be_left_out(text: str, expected: list[HostPort]) -> None:
    assert parse_nodes(text, default_port=26379) == expected


@pytest.mark.parametrize(
    "node",
    [
        ":1",
        "a:",
        "a:0",
        "a:65536",
        "a:123456",
        "a:b",
        "a:-1",
        "a:1²",
        "a:1:2",
        "::1",
        "::1:26379",
        "[::1",
        "[a]:1",
        "[]:1",
        "[::1]x:1",
        "redis://a:1",
        "user:secret@a:1",
        "a;b:1",
        "a b:1",
    ],
)
def test_a_malformed_node_is_refused_by_its_number_without_being_shown(node: str) -> None:
    with pytest.raises(ConfigurationError, match="node 2 does not name a server") as caught:
        parse_nodes(f"a:1,{node}", default_port=1)
    assert isinstance(caught.value, TomsKitError)
    assert "secret" not in str(caught.value)


# -- hosts


@given(hosts)
def test_a_name_and_an_address_are_hosts(host: str) -> None:
    assert host_name(host) == host


def test_an_ipv6_address_loses_its_brackets() -> None:
    assert host_name("[::1]") == "::1"


@pytest.mark.parametrize(
    "wrong",
    [
        "",
        " ",
        "a b",
        "a:1",
        "[a]",
        "[]",
        "a%b",
        "::1%a b",
        ":::",
        "redis://a",
        "u@a",
        "a/b",
        "a?b",
        "a#b",
        "a;b",
        "a,b",
        "a\n",
    ],
)
def test_what_a_url_would_break_at_is_no_host(wrong: str) -> None:
    with pytest.raises(ConfigurationError, match="a host is a name or an IP address"):
        host_name(wrong)


# -- databases

DATABASE_SCHEMES = [
    "mysql+aiomysql",
    "mysql+pymysql",
    "mariadb+pymysql",
    "postgresql+asyncpg",
    "postgresql+psycopg",
]
values = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)
queries = st.dictionaries(values, st.lists(values, min_size=1, max_size=3), max_size=3)


# SQLAlchemy 2.0 can read no "?" in a database's name, and our function refuses it.
database_names = text.filter(lambda name: urls._database_name_is_decoded() or "?" not in name)


@given(
    st.sampled_from(DATABASE_SCHEMES),
    st.builds(Server, hosts, ports, maybe, maybe, numbers),
    database_names,
    queries,
)
def test_sqlalchemy_reads_a_database_url_as_configured(
    scheme: str, server: Server, database: str, query: dict[str, list[str]]
) -> None:
    written = database_url(
        scheme,
        host=server.host,
        port=server.port,
        username=server.username or "",
        password=server.password or "",
        database=database,
        query=query,
    )
    if urls._database_name_is_decoded():  # else the database's name is not encoded
        assert " " not in written
        assert "+" not in written.partition("://")[2]
    url = make_url(written)
    assert url.drivername == scheme
    assert (url.host, url.port) == (server.host, server.port)
    assert (url.username or None, url.password) == (server.username, server.password)
    assert url.database == database
    assert {name: list(values) for name, values in url.normalized_query.items()} == query


@given(database_names)
def test_sqlite_gets_the_path_and_nothing_of_the_server(path: str) -> None:
    url = make_url(
        database_url(
            "sqlite+aiosqlite",
            host="h",
            port=1,
            username="u",
            password="p",
            database=path,
            query={},
        )
    )
    assert url.database == path
    assert (url.host, url.port, url.username, url.password) == (None, None, None, None)


@pytest.mark.parametrize(
    ("path", "url"),
    [
        ("app.db", "sqlite:///app.db"),
        ("/var/lib/app.db", "sqlite:////var/lib/app.db"),
        (":memory:", "sqlite:///:memory:"),
        ("", "sqlite:///"),
    ],
)
def test_sqlite_paths_are_written_as_sqlalchemy_documents_them(path: str, url: str) -> None:
    written = database_url(
        "sqlite", host="h", port=1, username="", password="", database=path, query={}
    )
    assert written == url


def test_without_a_host_the_driver_has_its_own_default() -> None:
    url = make_url(
        database_url(
            "postgresql+psycopg", host="", port=5, username="u", password="", database="d", query={}
        )
    )
    assert (url.username, url.host, url.port, url.database) == ("u", None, 5, "d")


class TestWithSQLAlchemy20:
    """SQLAlchemy before 2.1 does not decode the database's name."""

    @pytest.fixture(autouse=True)
    def _sqlalchemy_20(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(urls, "_database_name_is_decoded", lambda: False)

    def test_the_database_goes_in_as_it_is(self) -> None:
        url = database_url(
            "mysql", host="h", port=1, username="", password="", database="a %41", query={}
        )
        assert url == "mysql://h:1/a %41"

    def test_a_question_mark_is_refused(self) -> None:
        with pytest.raises(ConfigurationError, match=r"cannot be part of a URL"):
            database_url(
                "mysql", host="h", port=1, username="", password="", database="a?b", query={}
            )


@pytest.mark.parametrize(
    ("scheme", "expected"),
    [
        ("mysql", {"charset": ["utf8mb4"]}),
        ("mysql+aiomysql", {"charset": ["utf8mb4"]}),
        ("mysql+pymysql", {"charset": ["utf8mb4"]}),
        ("mariadb+pymysql", {"charset": ["utf8mb4"]}),
        ("postgresql+psycopg", {"client_encoding": ["utf8mb4"]}),
        ("postgresql+psycopg2", {"client_encoding": ["utf8mb4"]}),
        ("postgresql", {"client_encoding": ["utf8mb4"]}),
        ("postgresql+asyncpg", {}),
        ("postgresql+pg8000", {}),
        ("sqlite", {}),
        ("sqlite+aiosqlite", {}),
    ],
)
def test_the_charset_has_the_name_that_the_driver_knows(
    scheme: str, expected: dict[str, list[str]]
) -> None:
    assert database_query(scheme, charset="utf8mb4", extras="") == expected


def test_no_charset_says_nothing() -> None:
    assert database_query("mysql+aiomysql", charset="", extras="") == {}


def test_extras_join_the_charset() -> None:
    query = database_query("mysql+pymysql", charset="utf8mb4", extras="?a=1&b=2%203")
    assert query == {"charset": ["utf8mb4"], "a": ["1"], "b": ["2 3"]}


@pytest.mark.parametrize("given", ["ssl", "sslmode"])
@pytest.mark.parametrize(
    ("scheme", "own"),
    [
        ("postgresql+asyncpg", "ssl"),
        ("postgresql+psycopg", "sslmode"),
        ("postgresql+psycopg2", "sslmode"),
        ("postgresql", "sslmode"),
    ],
)
def test_the_mode_of_tls_has_the_name_that_the_driver_knows(
    scheme: str, own: str, given: str
) -> None:
    assert database_query(scheme, charset="", extras=f"{given}=require&a=1") == {
        own: ["require"],
        "a": ["1"],
    }


def test_both_names_of_the_mode_of_tls_stay_as_they_are() -> None:
    query = {"ssl": ["prefer"], "sslmode": ["require"]}
    assert (
        database_query("postgresql+asyncpg", charset="", extras="ssl=prefer&sslmode=require")
        == query
    )


def test_other_databases_have_options_of_their_own() -> None:
    query = database_query("mysql+pymysql", charset="", extras="ssl=x")
    assert query == {"ssl": ["x"]}


def test_extras_win_over_the_charset() -> None:
    query = database_query("mysql+pymysql", charset="utf8mb4", extras="charset=latin1")
    assert query == {"charset": ["latin1"]}


def test_an_extra_may_occur_several_times() -> None:
    assert parse_extras("host=a:1&host=b:2") == {"host": ["a:1", "b:2"]}


@given(queries)
def test_any_query_string_is_read_as_it_was_meant(query: dict[str, list[str]]) -> None:
    assert parse_extras(urlencode(query, doseq=True, quote_via=quote)) == query


@pytest.mark.parametrize("extras", ["secret", "a=1&secret", "a=1&&b=2"])
def test_malformed_extras_are_refused_without_being_shown(extras: str) -> None:
    with pytest.raises(ConfigurationError, match="query string such as") as caught:
        parse_extras(extras)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("scheme", "expected"),
    [
        ("mysql", "mysql+pymysql"),
        ("mariadb", "mariadb+pymysql"),
        ("postgresql", "postgresql+psycopg"),
        ("postgres", "postgresql+psycopg"),
        ("mysql+mysqldb", "mysql+mysqldb"),
        ("sqlite", "sqlite"),
    ],
)
def test_a_bare_dialect_names_the_installed_synchronous_driver(scheme: str, expected: str) -> None:
    assert synchronous_scheme(scheme) == expected


def test_sqlite_is_known_with_and_without_a_driver() -> None:
    assert is_sqlite("sqlite")
    assert is_sqlite("sqlite+aiosqlite")
    assert not is_sqlite("mysql+aiomysql")
