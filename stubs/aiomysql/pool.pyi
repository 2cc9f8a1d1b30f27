from asyncio import AbstractEventLoop, Future
from collections.abc import Mapping
from ssl import SSLContext
from types import TracebackType
from typing import Self

from aiomysql.connection import Connection
from aiomysql.cursors import Cursor
from aiomysql.utils import _PoolAcquireContextManager, _PoolContextManager
from typing_extensions import TypedDict, Unpack

class _ConnectOptions(TypedDict, total=False):
    host: str
    user: str | None
    password: str
    db: str | None
    port: int
    unix_socket: str | None
    charset: str
    sql_mode: str | None
    read_default_file: str | None
    conv: Mapping[object, object]
    use_unicode: bool | None
    client_flag: int
    cursorclass: type[Cursor[object]]
    init_command: str | None
    connect_timeout: float | None
    read_default_group: str | None
    autocommit: bool | None
    local_infile: bool
    ssl: SSLContext | None
    auth_plugin: str
    program_name: str
    server_public_key: bytes | None

def create_pool(
    minsize: int = 1,
    maxsize: int = 10,
    echo: bool = False,
    pool_recycle: int = -1,
    loop: AbstractEventLoop | None = None,
    **kwargs: Unpack[_ConnectOptions],
) -> _PoolContextManager[Pool]: ...

class Pool:
    def __init__(
        self,
        minsize: int,
        maxsize: int,
        echo: bool,
        pool_recycle: int,
        loop: AbstractEventLoop,
        **kwargs: Unpack[_ConnectOptions],
    ) -> None: ...
    @property
    def minsize(self) -> int: ...
    @property
    def maxsize(self) -> int | None: ...
    @property
    def size(self) -> int: ...
    @property
    def freesize(self) -> int: ...
    @property
    def closed(self) -> bool: ...
    async def clear(self) -> None: ...
    def close(self) -> None: ...
    def terminate(self) -> None: ...
    async def wait_closed(self) -> None: ...
    def acquire(self) -> _PoolAcquireContextManager[Connection]: ...
    def release(self, conn: Connection) -> Future[None]: ...
    async def __aenter__(self) -> Self: ...
    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_val: BaseException | None,
        exc_tb: TracebackType | None,
    ) -> None: ...
