"""A Redis master, its replica, and the Sentinels that watch them."""

from collections.abc import Iterator, Sequence
from typing import Final, cast

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry
from typing_extensions import override

from tests.support.patience import wait_until
from tests.support.servers.base import Server, ServerError, Started
from tests.support.servers.redis import (
    ConfigLine,
    RedisServer,
    call,
    config_text,
    find_redis_server,
    info,
    other_clients,
)


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
            config.write_text(config_text(self._config_lines()), encoding="utf-8")
        return [find_redis_server(), str(config), "--sentinel"]

    @override
    def _probe(self) -> bool:
        with self.client() as client:
            return info(client, "server")["process_id"] == self.pid

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
            return other_clients(client)

    def hurry(self) -> None:
        """Makes Sentinel look around five times a second instead of every ten seconds."""
        # A Sentinel that has not heard of another's failover for four publish periods turns the new
        # master back into a replica, so those must stay well above the second that it takes.
        publish = 200 if self._quorum == 1 else 700
        periods = ("info-period", 200, "ping-period", 200, "publish-period", publish)
        with self.client() as client:
            try:
                call(client, "SENTINEL", "DEBUG", *periods)
            except redis.ResponseError:
                return  # Redis before 7.0 does not have the command and is only slower

    def master_address(self) -> tuple[str, int]:
        with self.client() as client:
            host, port = _items(call(client, "SENTINEL", "GET-MASTER-ADDR-BY-NAME", self._name))
        return str(host), int(str(port))

    def healthy_replicas(self) -> int:
        """How many replicas it would consider as the next master."""
        with self.client() as client:
            replicas = [
                _fields(r) for r in _items(call(client, "SENTINEL", "REPLICAS", self._name))
            ]
        return sum(r["flags"] == "slave" and r["master-link-status"] == "ok" for r in replicas)

    def other_sentinels(self) -> int:
        with self.client() as client:
            return len(_items(call(client, "SENTINEL", "SENTINELS", self._name)))

    def order_failover(self) -> bool:
        """Asks for a failover; false when Sentinel is not able to start one now."""
        with self.client() as client:
            try:
                call(client, "SENTINEL", "FAILOVER", self._name)
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


class SentinelCluster(Started):
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

    @override
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
        """Lets the replica take over and answers its address, when it takes writes.

        No write is lost: the old master refuses them from before the new one has all of them.
        """
        # A Sentinel that still takes the old master for one starts a failover that cannot succeed.
        self.wait_until_settled(timeout)
        before = self.master_address()
        self._freeze(self.master(), timeout)
        first = self._running_sentinels()[0]

        def switched() -> tuple[str, int] | None:
            # A Sentinel gives up a failover that takes longer than its time-out, as on a busy machine.
            if first.master_address() == before:
                first.order_failover()
            return self._new_master(before)

        return wait_until(switched, timeout, "there is a new master")

    def _freeze(self, master: RedisServer, timeout: float) -> None:
        """Let the master refuse to write, and wait until the replica has all that it has written.

        Until Sentinel tells it that it is a replica, seconds later, it would take what is forgotten then.
        """
        (replica,) = (node for node in self.nodes if node is not master)
        with master.client() as old, replica.client() as new:
            # What it was told when it was the master itself, by a failover before this one.
            call(new, "CONFIG", "SET", "min-replicas-to-write", 0)
            call(old, "CONFIG", "SET", "min-replicas-to-write", len(self.nodes))
            written = int(str(info(old, "replication")["master_repl_offset"]))
            wait_until(
                lambda: int(str(info(new, "replication")["slave_repl_offset"])) >= written,
                timeout,
                "the replica has all that its master has written",
            )

    def wait_for_demotion(self, timeout: float = 30.0) -> None:
        """Waits until the old master has become a replica, which ends its connections.

        That is some seconds after a failover. Until then it answers whoever is connected, and writes nothing.
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
        return wait_until(lambda: self._new_master(before), timeout, "there is a new master")

    def _new_master(self, before: tuple[str, int]) -> tuple[str, int] | None:
        addresses = {s.master_address() for s in self._running_sentinels()}
        if before in addresses or len(addresses) != 1 or not self.master().is_master():
            return None
        return addresses.pop()

    @override
    def close(self) -> None:
        for server in (*self.sentinel_servers, *self.nodes):
            server.kill()  # a master in good order would wait for its replica
            server.close()
