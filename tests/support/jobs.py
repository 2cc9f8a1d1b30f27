"""A report of a job that keeps what Celery is told."""

from collections import deque
from collections.abc import Callable

from billiard.einfo import ExceptionInfo

from tomskit.celery._internals.celery_worker import Revocable
from tomskit.celery.asyncio_pool.report import Callbacks, Report


class Told:
    """What Celery was told, in order, once `turn` was called."""

    def __init__(self, *, pid: int = 7, request: Revocable | None = None) -> None:
        self.news: list[tuple[object, ...]] = []
        self.errors: list[BaseException] = []
        self._waiting: deque[Callable[[], object]] = deque()
        self.report = Report(
            pid,
            Callbacks(
                request=request,
                on_accepted=lambda number, _: self.news.append(("accepted", number)),
                on_success=lambda outcome: self.news.append(("returned", outcome)),
                on_failure=self._failed,
                on_timeout=lambda soft, seconds: self.news.append(("timed out", soft, seconds)),
            ),
            self._waiting.append,
            lambda number: self.news.append(("ended", number)),
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
