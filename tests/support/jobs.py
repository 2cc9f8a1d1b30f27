"""A report of a job that keeps what Celery is told."""

from collections import deque
from collections.abc import Callable

from billiard.einfo import ExceptionInfo

from tomskit.celery._internals.celery_worker import Revocable
from tomskit.celery.asyncio_pool.report import Report


class Told:
    """What Celery was told, in order, once `turn` was called."""

    def __init__(self, *, pid: int = 7, request: Revocable | None = None) -> None:
        self.news: list[tuple[object, ...]] = []
        self.errors: list[BaseException] = []
        self._waiting: deque[Callable[[], object]] = deque()
        self.report = Report(
            pid,
            self._waiting.append,
            lambda number: self.news.append(("ended", number)),
            request=request,
            accepted=lambda number, _: self.news.append(("accepted", number)),
            returned=lambda outcome: self.news.append(("returned", outcome)),
            failed=self._failed,
            timed_out=lambda soft, seconds: self.news.append(("timed out", soft, seconds)),
        )

    def _failed(self, info: ExceptionInfo) -> None:
        # Where it was wrapped to be pickled, Celery unwraps it.
        error: object = getattr(info.exception, "exc", info.exception)
        assert isinstance(error, BaseException)
        self.errors.append(error)
        self.news.append(("failed", type(error).__name__))

    def turn(self) -> list[tuple[object, ...]]:
        """The worker's turn; everything that Celery has been told."""
        while self._waiting:
            self._waiting.popleft()()
        return self.news
