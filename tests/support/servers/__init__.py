"""Real servers for the tests: private, short-lived, on free ports."""

from tests.support.servers.base import (
    Outage,
    Server,
    ServerError,
    die_with_parent,
    find_binary,
    free_port,
    outage,
)
from tests.support.servers.mariadb import MariaDBServer
from tests.support.servers.redis import (
    Certificates,
    RedisClusterNode,
    RedisDb,
    RedisServer,
    SocketRedisServer,
    TLSRedisServer,
)
from tests.support.servers.sentinel import Sentinel, SentinelCluster

__all__ = (
    "Certificates",
    "MariaDBServer",
    "Outage",
    "RedisClusterNode",
    "RedisDb",
    "RedisServer",
    "Sentinel",
    "SentinelCluster",
    "Server",
    "ServerError",
    "SocketRedisServer",
    "TLSRedisServer",
    "die_with_parent",
    "find_binary",
    "free_port",
    "outage",
)
