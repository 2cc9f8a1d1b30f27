"""Help for the tests of applications: fakes, what would be sent, an app, a database, a worker.

- `fakes`: FakeTask, a ``self`` for functions with ``bind=True``
- `sending`: ``sent(app)`` catches messages without a broker
- `apps`: an app of its own for a test, and its database in event loops
- `workers`: a worker in the test's process
- `plugin`: fixtures for pytest, which finds them by itself
"""

from tomskit.testing.apps import running, task_scope
from tomskit.testing.fakes import FakeRequest, FakeTask, RetryCall, StateUpdate
from tomskit.testing.sending import SentTask, sent
from tomskit.testing.workers import worker

__all__ = (
    "FakeRequest",
    "FakeTask",
    "RetryCall",
    "SentTask",
    "StateUpdate",
    "running",
    "sent",
    "task_scope",
    "worker",
)
