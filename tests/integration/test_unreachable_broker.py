"""What the log of a worker says of a broker that cannot be reached."""

import signal
import socketserver
import threading
from collections.abc import Iterator

import pytest
from typing_extensions import override

from tests.support.deployment import Deployment
from tests.support.patience import wait_until
from tests.support.workers import Pool


class Closing(socketserver.ThreadingTCPServer):
    """Closes each connection at once, and counts them."""

    count = 0

    @override
    def process_request(self, request: object, client_address: object) -> None:
        self.count += 1
        self.shutdown_request(request)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


@pytest.fixture
def server() -> Iterator[Closing]:
    with Closing(("127.0.0.1", 0), socketserver.BaseRequestHandler) as made:
        thread = threading.Thread(target=made.serve_forever)
        thread.start()
        yield made
        made.shutdown()
        thread.join()


@pytest.mark.parametrize("pool", ["asyncio", "prefork"])
def test_there_is_one_line_for_many_tries(
    deployment: Deployment, server: Closing, pool: Pool
) -> None:
    port = str(server.server_address[1])
    worker = deployment.begin(pool, 1, CELERY_BROKER_REDIS_PORT=port)
    worker.wait_for_line("Cannot connect to redis")
    before = server.count

    # After 2, 4 and 6 seconds.
    wait_until(lambda: server.count >= before + 3, 60, "the worker has tried it three times again")

    assert worker.text.count("Cannot connect to redis") == 1
    worker.send_signal(signal.SIGTERM)
    worker.wait()
