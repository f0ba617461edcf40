"""A checkpoint of a running service, written to standard output as a tar archive.

``python3 -m edge.checkpoint SERVICE`` on the host where it runs. The service stands still while
CRIU writes its images, and goes on. It is for looking inside: a migration never comes this way.
"""

import os
import shutil
import sys
import tarfile
from pathlib import Path

from .container import Holder
from .criu import INSIDE, Criu, CriuError

FOLDER = "checkpoint"
CRIU_FIRST_PID = 15000


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
        criu.begin_dump(holder.service, f"{INSIDE}/scratch/{FOLDER}")
        criu.end_dump()
    except CriuError:
        shutil.rmtree(folder)
        raise
    finally:
        criu.close()
    return folder


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
