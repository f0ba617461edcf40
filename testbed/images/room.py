"""The room a build step runs in: an overlay of the layers so far, in name spaces of its own.

All mounts are made inside a private mount name space and end with it, however the step ends: by
itself, by an error, by Ctrl-C or by the death of the builder. Its processes have a name space too
and cannot outlive the step.
"""

import os
import shlex
import shutil
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from testbed.errors import ImageBuildError
from testbed.images.machine import LENT, Loan
from testbed.images.plan import CommandStep, CopyStep

OVERLAY_OPTIONS = "redirect_dir=off,metacopy=off,index=off,xino=off"
"""Changes must be whole in the upper folder, and mean the same on any other machine."""

_NO_OVERLAY = (
    "The cache's file system cannot carry an overlay (is it one itself?): set TESTBED_CACHE to a "
    "folder on ext4, xfs or btrfs."
)
_DEVICES = ("null", "zero", "full", "random", "urandom", "tty")
_NEVER_STORED = ("/tmp", "/var/cache/apt", "/var/lib/apt/lists")  # noqa: S108 - inside the image
_TAIL_CHARACTERS = 3000
APART = (
    *("setpriv", "--pdeathsig=KILL"),
    "unshare",
    "--mount",
    "--propagation=private",
    "--pid",
    "--fork",
    "--kill-child",
    "--ipc",
    "--mount-proc",
)


@dataclass(frozen=True)
class Room:
    """Where the folders of one step lie; all but ``home`` are relative to it.

    home : the folder from which paths are seen (an overlay's options have little room).
    lower : layers so far, lowest first.
    work : the step's own folder, with ``upper``, ``work``, ``root`` and ``lent`` inside.
    """

    home: Path
    lower: tuple[str, ...]
    work: str

    @property
    def upper(self) -> Path:
        """The folder that will hold the step's changes."""
        return self.home / self.work / "upper"

    @property
    def lent(self) -> Path:
        """The folder with files for this step only, seen at `LENT` inside."""
        return self.home / self.work / "lent"

    def make(self) -> None:
        """Make the step's own folders."""
        for name in ("upper", "work", "root", "lent"):
            (self.home / self.work / name).mkdir(parents=True)
        self.upper.chmod(0o755)


def plan_script(room: Room, loan: Loan, argv: Sequence[str]) -> str:
    """Shell text that furnishes the room (inside `APART`, in ``room.home``) and runs ``argv``."""
    root = f"{room.work}/root"
    lower = ":".join(reversed(room.lower))
    options = f"lowerdir={lower},upperdir={room.work}/upper,workdir={room.work}/work"
    lines = [
        "set -eu",
        _said("mount", "-t", "overlay", "-o", f"{options},{OVERLAY_OPTIONS}", "overlay", root)
        + f" || {{ echo {shlex.quote(_NO_OVERLAY)}; exit 1; }}",
        *_furniture(root),
        _said("mkdir", f"{root}{LENT}"),
    ]
    for here, there in loan.binds:
        make = "mkdir" if Path(here).is_dir() else "touch"
        lines.append(_said(make, f"{room.work}/lent/{Path(there).name}"))
    lines.append(_said("mount", "-o", "bind,ro", f"{room.work}/lent", f"{root}{LENT}"))
    lines += [_said("mount", "-o", "bind,ro", here, f"{root}{there}") for here, there in loan.binds]
    for name in ("/etc/resolv.conf", "/etc/hosts"):
        lines.append(_bound_if_there(name, f"{root}{name}"))
    if loan.apt_sources is not None:
        sources = f"{root}/etc/apt/sources.list"
        lines.append(_bound_if_there(f"{room.work}/lent/sources.list", sources))
    lines.append(f"exec {shlex.join(argv)}")
    return "\n".join(lines) + "\n"


def _furniture(root: str) -> list[str]:
    """Kernel file systems, a few devices, and empty folders for what is never stored."""
    dev = f"{root}/dev"
    lines = [
        _said("mount", "-t", "proc", "proc", f"{root}/proc"),
        _said("mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", dev),
        _said("mkdir", f"{dev}/pts", f"{dev}/shm"),
        _said("mount", "-t", "devpts", "-o", "newinstance,ptmxmode=666", "devpts", f"{dev}/pts"),
        _said("mount", "-t", "tmpfs", "-o", "mode=1777", "tmpfs", f"{dev}/shm"),
        _said("ln", "-s", "pts/ptmx", f"{dev}/ptmx"),
        _said("ln", "-s", "/proc/self/fd", f"{dev}/fd"),
    ]
    lines += [
        _said("ln", "-s", f"/proc/self/fd/{number}", f"{dev}/{name}")
        for number, name in enumerate(("stdin", "stdout", "stderr"))
    ]
    for name in _DEVICES:
        lines.append(_said("touch", f"{dev}/{name}"))
        lines.append(_said("mount", "--bind", f"/dev/{name}", f"{dev}/{name}"))
    for name in _NEVER_STORED:
        mode = "1777" if name == "/tmp" else "755"  # noqa: S108 - inside the image
        mount = _said("mount", "-t", "tmpfs", "-o", f"mode={mode}", "tmpfs", f"{root}{name}")
        lines.append(f"if [ -d {shlex.quote(root + name)} ]; then {mount}; fi")
    return lines


def _bound_if_there(here: str, there: str) -> str:
    source, target = shlex.quote(here), shlex.quote(there)
    test = f"[ -f {source} ] && [ -f {target} ] && [ ! -L {target} ]"
    return f"if {test}; then mount -o bind,ro {source} {target}; fi"


def _said(*words: str) -> str:
    return shlex.join(words)


def plan_command(room: Room, step: CommandStep) -> list[str]:
    """Argument list that runs the command of a step in its folder, as its user, in the root."""
    user = [f"--userspec={step.user}"] if step.user else []
    path = step.env.get("PATH", "")
    go = 'cd "$1" || exit 125; shift; exec "$@"'
    inside = ["/usr/bin/env", f"PATH={path}", "/bin/sh", "-c", go, "sh", step.workdir, *step.argv]
    return ["chroot", *user, f"{room.work}/root", *inside]


_COPY_INTO = (
    'umask 022; mkdir -p "$1" && tar -C "$0" -cf - . | '
    'tar -C "$1" -xpf - --no-same-owner --no-overwrite-dir'
)
_COPY_FILE = 'umask 022; mkdir -p "$(dirname "$1")" && cp -RP --preserve=mode,timestamps "$0" "$1"'


def plan_copy(room: Room, step: CopyStep) -> list[str]:
    """Argument list that puts a step's files, lent in ``files``, where they belong.

    It runs inside the root, so that no link in the image leads out of it.
    """
    script, lent = _COPY_INTO, f"{LENT}/files"
    if not step.into:
        script, lent = _COPY_FILE, f"{lent}/{step.files[0].name}"
    inside = ["/bin/sh", "-c", script, lent, step.destination]
    return ["chroot", f"{room.work}/root", *inside]


def lend_files(room: Room, step: CopyStep) -> None:
    """Copy the files of a step to where the room shows them."""
    home = room.lent / "files"
    home.mkdir()
    for file in step.files:
        target = home / file.name
        target.parent.mkdir(parents=True, exist_ok=True)
        if file.source.is_dir() and not file.source.is_symlink():
            target.mkdir(exist_ok=True)
            shutil.copystat(file.source, target)
        else:
            shutil.copy2(file.source, target, follow_symlinks=False)


def run_in_room(
    room: Room,
    loan: Loan,
    argv: Sequence[str],
    *,
    env: dict[str, str],
    where: str,
    text: str,
    say: Callable[[str], None],
) -> None:
    """Run a step and wait for its end.

    Parameters
    ----------
    say : callable
        Gets each line of the step's output.

    Raises
    ------
    ImageBuildError
        With the end of the output, if the step ends with anything but 0.
    """
    if loan.apt_sources is not None:
        (room.lent / "sources.list").write_text(loan.apt_sources, encoding="utf-8")
    script = plan_script(room, loan, argv)
    # The image's own PATH is set inside; mount(2) because fsconfig(2) takes only 255 characters.
    outside = {"PATH": os.environ.get("PATH", os.defpath), "LIBMOUNT_FORCE_MOUNT2": "always"}
    run_apart(
        ["sh", "-c", script],
        home=room.home,
        env={**env, **outside},
        where=where,
        text=text,
        say=say,
    )


def run_apart(
    argv: Sequence[str],
    *,
    home: Path,
    env: dict[str, str],
    where: str,
    text: str,
    say: Callable[[str], None],
) -> None:
    """Run a program in name spaces of its own, in the folder ``home``.

    Raises
    ------
    ImageBuildError
        With the end of the output, if it ends with anything but 0.
    """
    tail = ""
    with subprocess.Popen(
        [*APART, *argv],
        cwd=home,
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    ) as process:
        try:
            assert process.stdout is not None  # noqa: S101 - asked for above
            for line in process.stdout:
                tail = (tail + line)[-_TAIL_CHARACTERS:]
                say(line.rstrip())
            status = process.wait()
        except BaseException:
            process.kill()  # and with it, by --kill-child, everything in the room
            raise
    if status:
        raise ImageBuildError(
            f"{where}: {text}\nended with {status}; the end of its output:\n{tail.rstrip()}\n"
            "Correct the step; the steps before it are kept."
        )
