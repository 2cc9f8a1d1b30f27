"""A provider of credentials that are renewed all the time, as those of a cloud are."""

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from redis.auth.token import SimpleToken
from redis.credentials import StreamingCredentialProvider
from typing_extensions import override

USER: Final = "worker"
FILE: Final = "RENEWED_PASSWORD_FILE"
"""The environment variable that names the file with the password."""
_EVERY: Final = 0.02


def _password() -> str:
    return Path(os.environ[FILE]).read_text(encoding="utf-8")


class Renewed(StreamingCredentialProvider):
    """Tells its connections the password of the file some times a second, whether it is a new one or not."""

    def __init__(self) -> None:
        self._tell: list[Callable[[Any], None]] = []
        threading.Thread(target=self._renew, daemon=True).start()

    @override
    def get_credentials(self) -> tuple[str, str]:
        return USER, _password()

    @override
    def on_next(self, callback: Callable[[Any], None]) -> None:
        self._tell.append(callback)

    @override
    def on_error(self, callback: Callable[[Exception], None]) -> None:
        """There are none."""

    @override
    def is_streaming(self) -> bool:
        return True

    def _renew(self) -> None:
        while True:
            time.sleep(_EVERY)
            for tell in tuple(self._tell):
                tell(SimpleToken(_password(), -1, 0, {"oid": USER}))
