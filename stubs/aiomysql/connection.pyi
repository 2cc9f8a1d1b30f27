from asyncio import AbstractEventLoop
from collections.abc import Mapping
from ssl import SSLContext
from types import TracebackType
from typing import Self

from aiomysql.cursors import Cursor
from aiomysql.utils import _ConnectionContextManager, _ContextManager
from typing_extensions import TypeVar

_CursorT = TypeVar("_CursorT", bound=Cursor[object], default=Cursor)

def connect(
    host: str = "localhost",
    user: str | None = None,
    password: str = "",
    db: str | None = None,
    port: int = 3306,
    unix_socket: str | None = None,
    charset: str = "",
    sql_mode: str | None = None,
    read_default_file: str | None = None,
    conv: Mapping[object, object] = ...,
    use_unicode: bool | None = None,
    client_flag: int = 0,
    cursorclass: type[Cursor[object]] = ...,
    init_command: str | None = None,
    connect_timeout: float | None = None,
    read_default_group: str | None = None,
    autocommit: bool | None = False,
    echo: bool = False,
    local_infile: bool = False,
    loop: AbstractEventLoop | None = None,
    ssl: SSLContext | None = None,
    auth_plugin: str = "",
    program_name: str = "",
    server_public_key: bytes | None = None,
) -> _ConnectionContextManager[Connection]: ...

class Connection:
    def __init__(
        self,
        host: str = "localhost",
        user: str | None = None,
        password: str = "",
        db: str | None = None,
        port: int = 3306,
        unix_socket: str | None = None,
        charset: str = "",
        sql_mode: str | None = None,
        read_default_file: str | None = None,
        conv: Mapping[object, object] = ...,
        use_unicode: bool | None = None,
        client_flag: int = 0,
        cursorclass: type[Cursor[object]] = ...,
        init_command: str | None = None,
        connect_timeout: float | None = None,
        read_default_group: str | None = None,
        autocommit: bool | None = False,
        echo: bool = False,
        local_infile: bool = False,
        loop: AbstractEventLoop | None = None,
        ssl: SSLContext | None = None,
        auth_plugin: str = "",
        program_name: str = "",
        server_public_key: bytes | None = None,
    ) -> None: ...
    @property
    def host(self) -> str: ...
    @property
    def port(self) -> int: ...
    @property
    def user(self) -> str: ...
    @property
    def db(self) -> str | None: ...
    @property
    def charset(self) -> str: ...
    @property
    def closed(self) -> bool: ...
    # Without an argument the cursor is an instance of `cursorclass`.
    def cursor(self, *cursors: type[_CursorT]) -> _ContextManager[_CursorT]: ...
    def close(self) -> None: ...
    async def ensure_closed(self) -> None: ...
    async def autocommit(self, value: bool) -> None: ...
    def get_autocommit(self) -> bool: ...
    async def begin(self) -> None: ...
    async def commit(self) -> None: ...
    async def rollback(self) -> None: ...
    async def select_db(self, db: str) -> None: ...
    async def ping(self, reconnect: bool = True) -> None: ...
    async def kill(self, thread_id: int) -> None: ...
    def thread_id(self) -> int: ...
    async def __aenter__(self) -> Self: ...
    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_val: BaseException | None,
        exc_tb: TracebackType | None,
    ) -> None: ...
