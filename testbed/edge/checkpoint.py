"""A checkpoint of a running service, written to standard output as a tar archive.

``python3 -m edge.checkpoint SERVICE`` on the host where it runs. The service stands still while
CRIU writes its images, and goes on. It is for looking inside: a migration never comes this way.
"""

import contextlib
import os
import shutil
import sys
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path

from . import container
from .container import Holder
from .criu import INSIDE, Criu, CriuError
from .hold import Hold
from .spec import Spec

FOLDER = "checkpoint"
CRIU_FIRST_PID = 15000
FIRST_TABLE, PRIORITY = 1000, "49"
LATE_PACKETS_S = 0.05


def take(name: str) -> Path:
    """Have CRIU write images of a service; the folder they are in, which the caller removes.

    CRIU itself stops the processes: the freezer of the service's cgroup belongs to migrations, and
    whoever thaws it could wake a service that lives somewhere else already.

    Raises
    ------
    KeyError
        If this host holds no such container.
    CriuError
        If CRIU refuses.
    RuntimeError
        If no service runs in the container.
    """
    holder = Holder.load(name)
    if not holder.service:
        raise RuntimeError(f"service {name!r} does not run here, its container is empty")
    folder = holder.spec.scratch / FOLDER
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    criu = Criu(holder.init, cgroup=None, first_pid=CRIU_FIRST_PID)
    try:
        with _packets_wait(holder.spec):
            criu.begin_dump(holder.service, f"{INSIDE}/scratch/{FOLDER}")
            criu.end_dump()
    except CriuError:
        shutil.rmtree(folder)
        raise
    finally:
        criu.close()
    return folder


@contextlib.contextmanager
def _packets_wait(spec: Spec) -> Iterator[None]:
    """Let nothing reach the service's sockets: none may change while CRIU copies it.

    A rule leads packets aside. The route itself, which belongs to migrations, stays as it is; so
    does everything if this ends early, because a rule that leads to an empty table leads nowhere.
    """
    waiting = Hold(spec.address, f"look-{spec.number}")
    table = str(FIRST_TABLE + spec.number)
    rule = ["to", spec.address, "lookup", table, "priority", PRIORITY]
    container.run(["ip", "route", "replace", "default", "dev", waiting.device, "table", table])
    with contextlib.suppress(RuntimeError):  # what one that was killed has left
        container.run(["ip", "rule", "delete", *rule])
    container.run(["ip", "rule", "add", *rule])
    try:
        yield
    finally:
        container.run(["ip", "rule", "delete", *rule])
        waiting.put_back()
        time.sleep(LATE_PACKETS_S)  # those that were on the way there
        waiting.put_back()
        waiting.close()


def main(name: str) -> None:
    """Write the archive, or the reason why there is none and exit with status 1."""
    try:
        folder = take(name)
    except (KeyError, RuntimeError) as error:
        log = getattr(error, "log", "")
        sys.exit(f"{error.args[0]}\n{log}" if log else str(error.args[0]))
    try:
        with tarfile.open(fileobj=os.fdopen(os.dup(1), "wb"), mode="w|") as archive:
            archive.add(folder, arcname=".")
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main(sys.argv[1])
