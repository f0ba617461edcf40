"""The root file system that every namespace edge starts from, made of Debian packages alone.

CRIU comes from the suite after the stable one: stable's 4.1.1 cannot checkpoint a TCP socket on
kernels from 6.16 on. All else is stable. The edge's one program in C is compiled in there, by a
compiler that is gone afterwards. The result is cached by the hash of this recipe.
"""

import hashlib
import os
import platform
import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

from testbed.edge import tracker
from testbed.errors import LabError

SUITE = "trixie"
CRIU_SUITE = "forky"
PACKAGES = [
    "ca-certificates",
    "catatonit",
    "crun",
    "iperf3",
    "iproute2",
    "iputils-ping",
    "liblz4-1",
    "libzstd1",
    "openssh-client",
    "openssh-server",
    "procps",
    "python3",
    "python3-apt",
    "python3-protobuf",
    "zstd",
]
CRIU_PACKAGES = ["criu", "libcriu2", "libcompel1", "python3-pycriu"]

NEWER_CRIU = r"""
set -e
root=$1
apt="$root"/etc/apt
sed -n 's/ {suite} / {newer} /p' "$apt"/sources.list > "$apt"/sources.list.d/{newer}.list
mkdir -p "$apt"/preferences.d
printf 'Package: *\nPin: release n={newer}\nPin-Priority: 100\n' > "$apt"/preferences.d/{newer}
chroot "$root" apt-get -qq -o Acquire::Check-Valid-Until=false update
chroot "$root" apt-get -qq install --no-install-recommends {packages}
"""

TRACKER = r"""
chroot "$root" dpkg-query --show --showformat '${{Package}}\n' | sort > "$root"/tmp/before
chroot "$root" apt-get -qq install --no-install-recommends gcc libc6-dev
mkdir -p "$root$(dirname {program})"
mkdir "$root"/tmp/tracker
{sources}chroot "$root" gcc -O2 -Wall -Werror -o {program} /tmp/tracker/{main}
chroot "$root" dpkg-query --show --showformat '${{Package}}\n' | sort > "$root"/tmp/after
comm -13 "$root"/tmp/before "$root"/tmp/after | xargs chroot "$root" apt-get -qq purge
rm -r "$root"/tmp/before "$root"/tmp/after "$root"/tmp/tracker
"""
SOURCE_FILE = r"""cat > "$root"/tmp/tracker/{name} <<'SOURCE'
{text}
SOURCE
"""


def default_cache() -> Path:
    """Where built things are kept between runs: ``TESTBED_CACHE`` or ``/var/cache/testbed``."""
    return Path(os.environ.get("TESTBED_CACHE", "/var/cache/testbed"))


def recipe_hash() -> str:
    """Hash of everything that goes into the root file system."""
    words = [SUITE, CRIU_SUITE, *PACKAGES, *CRIU_PACKAGES, hook_script(), platform.machine()]
    return hashlib.sha256(" ".join(words).encode()).hexdigest()[:16]


def hook_script(newer: Sequence[str] = ()) -> str:
    """What is done in the root file system once the packages are in it.

    newer : packages beside CRIU's that come from the newer suite.
    """
    install = NEWER_CRIU.format(
        suite=SUITE,
        newer=CRIU_SUITE,
        packages=" ".join(f"{name}/{CRIU_SUITE}" for name in [*CRIU_PACKAGES, *newer]),
    )
    sources = "".join(
        SOURCE_FILE.format(name=path.name, text=path.read_text(encoding="utf-8"))
        for path in tracker.SOURCES
    )
    main = tracker.SOURCES[0].name
    compiled = TRACKER.format(program=tracker.PROGRAM, sources=sources, main=main)
    return "#!/bin/sh" + install + compiled


def plan_root(target: Path, mirror: str | None, hook: Path, more: Sequence[str] = ()) -> list[str]:
    """The ``mmdebstrap`` command that makes the root file system in ``target``."""
    command = [
        "mmdebstrap",
        "--quiet",
        "--variant=minbase",
        "--aptopt=APT::Install-Recommends false",
        "--aptopt=Acquire::Check-Valid-Until false",
        f"--include={','.join([*PACKAGES, *more])}",
        f"--customize-hook={hook}",
        '--customize-hook=rm -f "$1"/etc/ssh/ssh_host_* "$1"/etc/resolv.conf',
        '--customize-hook=: > "$1"/etc/resolv.conf',
        SUITE,
        str(target),
    ]
    return [*command, mirror] if mirror else command


def edge_root(
    cache: Path,
    progress: Callable[[str], None] = lambda _: None,
    more: Sequence[str] = (),
    newer: Sequence[str] = (),
) -> Path:
    """Return the cached root file system, making it first where it is not there yet.

    Parameters
    ----------
    cache : Path
        Where it is kept; a root with ``more`` in it needs a cache folder of its own.
    progress : callable
        Told what is done, in a plain line.
    more : sequence of str
        Debian packages beside those of every edge.
    newer : sequence of str
        The like, from the suite that CRIU comes from.

    Raises
    ------
    LabError
        If ``mmdebstrap`` is missing or fails.
    """
    final = cache / "edge-root" / recipe_hash()
    if final.is_dir():
        progress("edge root file system: cached")
        return final
    if shutil.which("mmdebstrap") is None:
        raise LabError("mmdebstrap is not installed: `apt-get install mmdebstrap`")
    progress("edge root file system: building from Debian packages (about half a minute)")
    final.parent.mkdir(parents=True, exist_ok=True)
    partial = final.with_suffix(f".{os.getpid()}.partial")
    hook = final.with_suffix(f".{os.getpid()}.hook")
    hook.write_text(hook_script(newer), encoding="utf-8")
    hook.chmod(0o755)
    try:
        done = subprocess.run(
            plan_root(partial, debian_mirror(), hook, more),
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise LabError(
                f"the edge root file system could not be built (mmdebstrap ended with "
                f"{done.returncode}); is the Debian mirror reachable?\n{done.stderr[-1500:]}"
            )
        partial.rename(final)
    finally:
        hook.unlink(missing_ok=True)
        shutil.rmtree(partial, ignore_errors=True)
    return final


def debian_mirror() -> str | None:
    """The Debian mirror that this machine's own apt uses; ``None`` where it is not Debian."""
    if "ID=debian" not in Path("/etc/os-release").read_text(encoding="utf-8").splitlines():
        return None
    listed = subprocess.run(
        ["apt-get", "indextargets", "--format", "$(SITE) $(LABEL)", "Identifier: Packages"],
        capture_output=True,
        text=True,
        check=False,
    )
    sites = [line.split()[0] for line in listed.stdout.splitlines() if line.endswith(" Debian")]
    return sites[0] if sites else None
