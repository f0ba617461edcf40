"""CRIU's own test programs: where they come from, what each asks for, which apply to a container.

They lie in Debian's source package of CRIU, of the same suite that the edges have their CRIU from.
Each comes up, gets into some state (a mapping, a socket, a lock), is dumped and restored, and on
SIGTERM says whether everything is as it was.
"""

import ast
import platform
import shutil
import subprocess
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from testbed.errors import LabError
from testbed.hosts.root import CRIU_SUITE, debian_mirror
from testbed.images.build import Progress
from testbed.images.image import Image
from testbed.images.make import make_image

FOLDER = PurePosixPath("test/zdtm/static")
INSIDE = "/zdtm/static"
"""Where the programs lie in their image, with ``commands``: how each is started."""
ARCHIVE = "criu.tar.xz"
NOT_PROGRAMS = {"criu-rtc", "criu-rtc.pb-c", "get_smaps_bits", "ofd_file_locks"}
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
COMPARES_FILES = {"file_locks01"}
"""What compares the numbers of devices and inodes: no file keeps these on another host."""
OPPOSITE = {"--tcp-close", "--skip-in-flight"}
"""Options by which CRIU drops connections: the engine keeps them."""
DOCKERFILE = f"""\
FROM debian:trixie-slim
RUN apt-get update \\
 && apt-get install --yes --no-install-recommends libaio1t64 libcap2 libnl-route-3-200
COPY {ARCHIVE} /
RUN apt-get update \\
 && apt-get install --yes --no-install-recommends gcc libaio-dev libc6-dev libcap-dev \\
 libnl-route-3-dev make pkgconf xz-utils \\
 && mkdir /criu \\
 && tar --extract --file=/{ARCHIVE} --directory=/criu --strip-components=1 \\
 && mv /criu/test/zdtm /zdtm \\
 && make --directory=/zdtm/lib \\
 && (make --keep-going --directory={INSIDE} || true) \\
 && cd {INSIDE} \\
 && make --dry-run --keep-going $(find . -type f -executable -printf '%P.pid\\n') \\
 | grep -e --pidfile= > commands \\
 && rm -r /criu *.[cdo] \\
 && chmod a+w . \\
 && apt-get purge --yes --auto-remove gcc libaio-dev libc6-dev libcap-dev libnl-route-3-dev make \\
 pkgconf xz-utils
CMD ["true"]
"""


@dataclass(frozen=True)
class Program:
    """One test program, as its description says.

    suid : it has to be root. timeout_s : how long it may take to come up, and to judge itself.
    dump, restore : what it wants CRIU to be told. machine : the only ones it is for.
    unattended : whether CRIU's own test driver runs it unless asked. hook, notified : that driver
    has to do something beside it, or has to talk to it.
    """

    name: str
    suid: bool = False
    timeout_s: float = 30.0
    dump: tuple[str, ...] = ()
    restore: tuple[str, ...] = ()
    machine: str = ""
    hook: bool = False
    unattended: bool = True
    notified: bool = False


def read_program(name: str, description: str, *, hook: bool = False) -> Program:
    """Read a program's ``.desc``, a Python dictionary; empty where it has none.

    One that would have to be computed counts as ``noauto``: it asks for a device of its own.
    """
    try:
        words = ast.literal_eval(description.strip() or "{}")
    except ValueError:
        words = {"flags": "noauto"}
    flags, both = words.get("flags", "").split(), words.get("opts", "").split()
    return Program(
        name,
        suid="suid" in flags,
        timeout_s=float(words.get("timeout") or 30),
        dump=(*both, *words.get("dopts", "").split()),
        restore=(*both, *words.get("ropts", "").split()),
        machine=words.get("arch", ""),
        hook=hook,
        unattended="noauto" not in flags,
        notified="pre-dump-notify" in flags,
    )


def left_out(program: Program, machine: str = platform.machine()) -> str:
    """Why a program is not tried at all; empty where it is."""
    reasons = {
        "for another architecture": program.machine and machine not in program.machine.split(),
        "CRIU's own test driver leaves it out, too (noauto)": not program.unattended,
        "something outside has to act beside it (hook)": program.hook,
        "CRIU's own test driver has to talk to it (pre-dump-notify)": program.notified,
        "it compares inode numbers, which no file keeps elsewhere": program.name in COMPARES_FILES,
        "it wants its connections dropped, and the engine keeps them": OPPOSITE
        & {*program.dump, *program.restore},
    }
    return next((reason for reason, applies in reasons.items() if applies), "")


def read_programs(archive: Path) -> list[Program]:
    """Every program in the source package, in alphabetical order."""
    sources, descriptions, hooks = set[str](), dict[str, str](), set[str]()
    with tarfile.open(archive) as tar:
        for member in tar:
            path = PurePosixPath(*PurePosixPath(member.name).parts[1:])
            if path.parent != FOLDER:
                continue
            if path.suffix == ".c" and path.stem not in NOT_PROGRAMS:
                sources.add(path.stem)
            elif path.suffix == ".hook":
                hooks.add(path.stem)
            elif path.suffix == ".desc":
                descriptions[path.stem] = _text(tar, member)
    return [
        read_program(name, descriptions.get(name, ""), hook=name in hooks)
        for name in sorted(sources)
    ]


def _text(tar: tarfile.TarFile, member: tarfile.TarInfo) -> str:
    content = tar.extractfile(member)  # follows a link to another description
    return content.read().decode() if content else ""


def source_archive(cache: Path, progress: Progress) -> Path:
    """The source package's archive, fetched by apt, which checks its signature, and kept.

    Raises
    ------
    LabError
        If this machine's apt cannot fetch it.
    """
    mirror = debian_mirror()
    kept = cache / "criu-source"
    found = sorted(kept.glob("criu_*.orig.tar.xz"))
    if found:
        return found[-1]
    if mirror is None:
        raise LabError("CRIU's source package is fetched by apt: this needs a Debian machine")
    progress("CRIU's source package")
    with tempfile.TemporaryDirectory(prefix="criu-source-") as name:
        private = Path(name)
        for folder in ("lists/partial", "cache/archives/partial"):
            (private / folder).mkdir(parents=True)
        line = f"deb-src [check-valid-until=no signed-by={KEYRING}] {mirror} {CRIU_SUITE} main\n"
        (private / "sources.list").write_text(line, encoding="utf-8")
        settings: dict[str, str | Path] = {
            "Dir::Etc::sourcelist": private / "sources.list",
            "Dir::Etc::sourceparts": "-",
            "Dir::State::lists": private / "lists",
            "Dir::Cache": private / "cache",
            "APT::Sandbox::User": "root",
        }
        apt = ["apt-get", "-qq", *(f"--option={key}={value}" for key, value in settings.items())]
        said = ""
        # Debian's own part of the package may be gone from a mirror: only the archive is needed.
        for command in ("update", "source --download-only criu"):
            done = subprocess.run(
                [*apt, *command.split()], cwd=private, check=False, capture_output=True, text=True
            )
            said += done.stderr
        archives = list(private.glob("criu_*.orig.tar.xz"))
        if not archives:
            raise LabError(f"apt could not fetch the source package of CRIU: {said[-600:]}")
        kept.mkdir(parents=True, exist_ok=True)
        partial = kept / "partial"
        shutil.copy(archives[0], partial)
        return partial.rename(kept / archives[0].name)


def programs_image(archive: Path, cache: Path, progress: Progress) -> Image:
    """The image with all programs that can be compiled."""
    with tempfile.TemporaryDirectory(prefix="zdtm-image-") as name:
        folder = Path(name)
        shutil.copy(archive, folder / ARCHIVE)
        (folder / "Dockerfile").write_text(DOCKERFILE, encoding="utf-8")
        return make_image(folder, cache=cache, name="criu-tests", progress=progress)
