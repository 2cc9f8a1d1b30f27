from collections.abc import Mapping
from ssl import SSLContext
from typing import Self

from pymysql.cursors import Cursor

class Connection:
    def __init__(
        self,
        *,
        user: str | None = None,
        password: str = "",
        host: str | None = None,
        database: str | None = None,
        unix_socket: str | None = None,
        port: int = 0,
        charset: str = "",
        collation: str | None = None,
        sql_mode: str | None = None,
        read_default_file: str | None = None,
        conv: Mapping[object, object] | None = None,
        use_unicode: bool = True,
        client_flag: int = 0,
        cursorclass: type[Cursor] = ...,
        init_command: str | None = None,
        connect_timeout: float = 10,
        read_default_group: str | None = None,
        autocommit: bool | None = False,
        local_infile: bool = False,
        max_allowed_packet: int = 16777216,
        defer_connect: bool = False,
        auth_plugin_map: Mapping[str, object] | None = None,
        read_timeout: float | None = None,
        write_timeout: float | None = None,
        bind_address: str | None = None,
        binary_prefix: bool = False,
        program_name: str | None = None,
        server_public_key: bytes | None = None,
        ssl: SSLContext | Mapping[str, object] | None = None,
        ssl_ca: str | None = None,
        ssl_cert: str | None = None,
        ssl_disabled: bool | None = None,
        ssl_key: str | None = None,
        ssl_key_password: str | None = None,
        ssl_verify_cert: bool | None = None,
        ssl_verify_identity: bool | None = None,
        compress: None = None,
        named_pipe: None = None,
        passwd: str | None = None,
        db: str | None = None,
    ) -> None: ...
    def __enter__(self) -> Self: ...
    def __exit__(self, *exc_info: object) -> None: ...
    def close(self) -> None: ...
    def commit(self) -> None: ...
    def rollback(self) -> None: ...
    def ping(self, reconnect: bool = False) -> None: ...
    def thread_id(self) -> int: ...
    def cursor(self, cursor: type[Cursor] | None = None) -> Cursor: ...
