from collections.abc import Awaitable, Coroutine, Generator
from types import TracebackType
from typing import Never, TypeVar, overload

from aiomysql.pool import Pool
from typing_extensions import override

_T_co = TypeVar("_T_co", covariant=True)

class _ContextManager(Coroutine[object, Never, _T_co]):
    def __init__(self, coro: Awaitable[_T_co]) -> None: ...
    @override
    def send(self, value: Never) -> object: ...
    @overload
    @override
    def throw(
        self,
        typ: type[BaseException],
        val: BaseException | object = None,
        tb: TracebackType | None = None,
    ) -> object: ...
    @overload
    def throw(
        self, typ: BaseException, val: None = None, tb: TracebackType | None = None
    ) -> object: ...
    @override
    def close(self) -> None: ...
    @override
    def __await__(self) -> Generator[object, Never, _T_co]: ...
    async def __aenter__(self) -> _T_co: ...
    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        tb: TracebackType | None,
    ) -> None: ...

class _ConnectionContextManager(_ContextManager[_T_co]): ...
class _PoolContextManager(_ContextManager[_T_co]): ...

class _PoolAcquireContextManager(_ContextManager[_T_co]):
    def __init__(self, coro: Awaitable[_T_co], pool: Pool) -> None: ...
