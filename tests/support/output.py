"""What a process writes, line by line, for whoever asks while it runs."""

import codecs
import io
import os
import select
import threading
from typing import IO, Final

_ALL: Final = 1 << 20
"""Bytes; more than a pipe holds, so that one call reads all that is in it."""


class Output:
    """Reads a pipe while its process runs, so that the process never waits for a reader.

    Who asks for the lines is told all that the process had written before. A thread that reads is not
    enough for that: it may be about to take up what is in the pipe when a test knows already, by a result
    for example, that the process has gone on.
    """

    def __init__(self, stream: IO[str], name: str) -> None:
        self.news = threading.Condition()
        self._stream = stream
        self._lines: list[str] = []
        self._decoder = io.IncrementalNewlineDecoder(
            codecs.getincrementaldecoder("utf-8")("replace"), translate=True
        )
        self._begun = ""
        os.set_blocking(stream.fileno(), False)
        self._ended = False
        self._reader = threading.Thread(target=self._read, name=name, daemon=True)
        self._reader.start()

    @property
    def lines(self) -> list[str]:
        """All lines so far, in a list that grows."""
        with self.news:
            self._take()
            return self._lines

    def finish(self, timeout: float) -> None:
        """Wait until all is read; children that outlive the process may keep the pipe open."""
        self._reader.join(timeout)

    def _read(self) -> None:
        news = select.poll()
        news.register(self._stream, select.POLLIN)
        while not self._ended:
            news.poll()
            with self.news:
                self._take()
                self.news.notify_all()
        self._stream.close()

    def _take(self) -> None:
        if self._ended:
            return
        try:
            read = os.read(self._stream.fileno(), _ALL)
        except BlockingIOError:
            return
        *lines, self._begun = (self._begun + self._decoder.decode(read, final=not read)).split("\n")
        self._lines += lines
        if not read:
            self._ended = True
            if self._begun:
                self._lines.append(self._begun)
