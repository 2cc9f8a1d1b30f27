"""A real RabbitMQ for the tests: private, on free ports, with nothing of the system's."""

import os
import shutil
import signal
import socket
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import ClassVar, Final, Protocol, cast

import amqp
from typing_extensions import override

from tests.support.patience import patience
from tests.support.servers.base import Server, ServerError, find_binary, free_port

INSTALL: Final = "apt-get install rabbitmq-server"
PATH: Final = os.pathsep.join(
    [os.environ.get("PATH", os.defpath), "/usr/sbin", "/usr/bin", "/sbin", "/bin"]
)


def rabbitmq_missing() -> str | None:
    """Says what to install when a RabbitMQServer cannot be started here."""
    try:
        _find_rabbitmq()
        _find_epmd()
    except ServerError as error:
        return str(error)
    return None


def _find_rabbitmq() -> str:
    # What Debian has on the PATH changes the user and the folder, and then calls this script.
    script = shutil.which("/usr/lib/rabbitmq/bin/rabbitmq-server")
    return script or find_binary("rabbitmq-server", install=INSTALL)


def _find_epmd() -> str:
    return find_binary("epmd", install=INSTALL)


class _Epmd(Server):
    """Erlang's register of nodes.

    RabbitMQ starts one that outlives it, and looks once a minute whether one is still there. So
    there is one that is ours, which listens nowhere but on 127.0.0.1.
    """

    port_taken: ClassVar[Sequence[str]] = ["already a epmd running"]

    @override
    def _command(self) -> list[str]:
        # Without -daemon it stays in the foreground.
        return [_find_epmd(), "-d", "-d", "-address", self.host, "-port", str(self.port)]

    @override
    def _probe(self) -> bool:
        # By its log: on the port it could be another that answers, while ours is about to give up.
        return "entering the main select() loop" in self.log


class _ServerProperties(Protocol):
    """What the type stubs of amqp lack."""

    server_properties: Mapping[str, object]


class RabbitMQServer(Server):
    """A RabbitMQ without plugins, with the user guest and the virtual host "/".

    It takes about ten seconds to start. What is durable outlives `stop()` and `kill()`.
    """

    start_timeout: ClassVar[float] = 90.0
    stop_timeout: ClassVar[float] = 30.0
    port_taken: ClassVar[Sequence[str]] = ["eaddrinuse", "dist_port_already_used"]

    def __init__(self) -> None:
        super().__init__()
        self._epmd = _Epmd()

    @property
    def url(self) -> str:
        return f"amqp://guest:guest@{self.host}:{self.port}//"

    @property
    def _name(self) -> str:
        # The data belong to a node of this name, so it must stay the same.
        return self.folder.name

    @override
    def _command(self) -> list[str]:
        self._write("rabbitmq.conf", *self._config_lines())
        self._write("enabled_plugins", "[].")
        self._write("rabbitmq-env.conf")
        # No question to a name server, which takes time where there is none.
        self._write("inetrc", "{lookup, [file]}.", '{host, {127,0,0,1}, ["localhost"]}.')
        return [_find_rabbitmq()]

    def _write(self, name: str, *lines: str) -> None:
        text = "".join(f"{line}\n" for line in lines)
        (self.folder / name).write_text(text, encoding="utf-8")

    def _config_lines(self) -> list[str]:
        return [
            f"cluster_name = {self._name}",
            # Below a limit it would let publishers wait for ever. The first is by default a part
            # of the machine's memory, which may be less than what the node itself takes.
            "vm_memory_high_watermark.absolute = 1GB",
            "disk_free_limit.absolute = 1MB",
        ]

    @override
    def _environment(self) -> Mapping[str, str]:
        def path(name: str) -> str:
            return str(self.folder / name)

        # Nothing from outside, as any RABBITMQ_ or ERL_ variable there would change something.
        return {
            "PATH": PATH,
            "LANG": "C.UTF-8",
            "HOME": path(""),  # of .erlang.cookie
            # The script replaces itself by Erlang's machine instead of waiting for it.
            "RUNNING_UNDER_SYSTEMD": "true",
            "ERL_EPMD_ADDRESS": self.host,
            "ERL_EPMD_PORT": str(self._epmd.port),
            "ERL_CRASH_DUMP_BYTES": "0",
            "ERL_INETRC": path("inetrc"),
            "RABBITMQ_NODENAME": f"{self._name}@{self.host}",
            "RABBITMQ_USE_LONGNAME": "true",
            "RABBITMQ_NODE_IP_ADDRESS": self.host,
            "RABBITMQ_NODE_PORT": str(self.port),
            "RABBITMQ_DIST_PORT": str(free_port()),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": (
                f"-kernel inet_dist_use_interface {{{self.host.replace('.', ',')}}}"
            ),
            "RABBITMQ_CONF_ENV_FILE": path("rabbitmq-env.conf"),
            "RABBITMQ_CONFIG_FILE": path("rabbitmq.conf"),
            "RABBITMQ_CONFIG_FILES": path("conf.d"),
            "RABBITMQ_ADVANCED_CONFIG_FILE": path("advanced.config"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": path("enabled_plugins"),
            "RABBITMQ_MNESIA_BASE": path("mnesia"),
            "RABBITMQ_LOG_BASE": path("logs"),
            "RABBITMQ_LOGS": "-",
            "RABBITMQ_PID_FILE": path("pid"),
        }

    @override
    def _probe(self) -> bool:
        # Not with AMQP at once, because this is called often while nobody listens yet.
        with socket.create_connection((self.host, self.port), timeout=5):
            pass
        connection = amqp.Connection(
            host=f"{self.host}:{self.port}",
            heartbeat=0,
            connect_timeout=patience(5),
            read_timeout=patience(5),
            write_timeout=patience(5),
        )
        try:
            connection.connect()
            properties = cast("_ServerProperties", connection).server_properties
            connection.close()
        except amqp.AMQPError as error:
            msg = f"It answered: {error}"
            raise ConnectionError(msg) from error
        finally:
            connection.collect()
        # Had somebody else taken the port, it would be his server that answered.
        return properties.get("cluster_name") == self._name

    @override
    def _start_once(self) -> None:
        try:
            self._epmd.start()
            super()._start_once()
        except BaseException:
            self.kill()
            raise

    @override
    def stop(self) -> None:
        super().stop()
        self._end_the_rest()

    @override
    def kill(self) -> None:
        super().kill()
        self._end_the_rest()

    @override
    def close(self) -> None:
        super().close()
        self._epmd.close()

    def _end_the_rest(self) -> None:
        self._epmd.stop()
        if self._folder is None:
            return
        # Erlang's helpers notice by themselves, a moment later, that the machine is gone.
        deadline = time.monotonic() + patience(5)
        while helpers := _processes_at_home(self._folder):
            if time.monotonic() > deadline:
                for pid in helpers:
                    with suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
            time.sleep(0.01)


def _processes_at_home(folder: Path) -> list[int]:
    """The processes whose HOME is this folder."""
    # Not those of the server's session: Erlang gives each helper one of its own.
    mark = f"HOME={folder}".encode()
    found: list[int] = []
    for environment in Path("/proc").glob("[0-9]*/environ"):
        try:
            variables = environment.read_bytes().split(b"\0")
        except OSError:
            continue  # it ended meanwhile, or is another user's
        if mark in variables:
            found.append(int(environment.parent.name))
    return found
