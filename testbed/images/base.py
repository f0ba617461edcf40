"""Base images made of Debian packages, where no registry can be reached."""

import platform
import shlex
from dataclasses import dataclass

from testbed.errors import RecipeError

SUITES = ("trixie",)
_SLIM = ("/usr/share/doc/*", "/usr/share/info/*", "/usr/share/locale/*", "/usr/share/man/*")
_SLIM_KEPT = ("/usr/share/doc/*/copyright", "/usr/share/locale/locale.alias")

_NO_DAEMONS = 'printf "#!/bin/sh\\nexit 101\\n" > "$1"/usr/sbin/policy-rc.d'
_NOTHING_OF_THIS_MACHINE = (
    'for file in etc/resolv.conf etc/hosts; do rm -f "$1/$file"; : > "$1/$file"; done; '
    'rm -f "$1"/etc/hostname "$1"/etc/machine-id; : > "$1"/etc/machine-id'
)
HOOKS = (
    _NO_DAEMONS,
    'chmod 755 "$1"/usr/sbin/policy-rc.d',
    _NOTHING_OF_THIS_MACHINE,
)


@dataclass(frozen=True)
class Base:
    """A base image that can be made here: ``debian:SUITE`` or ``debian:SUITE-slim``."""

    suite: str
    slim: bool


def find_base(image: str, where: str) -> Base:
    """Read the name after ``FROM``.

    Raises
    ------
    RecipeError
        If it is none that can be made of Debian packages.
    """
    known = [f"debian:{suite}{slim}" for suite in SUITES for slim in ("-slim", "")]
    if image not in known:
        raise RecipeError(
            f"{where}: FROM {image}: this builder makes base images of Debian packages and knows "
            f"{', '.join(known)}; use one of them and install what is missing in a RUN"
        )
    suite, _, slim = image.removeprefix("debian:").partition("-")
    return Base(suite, bool(slim))


def plan_base(base: Base, target: str, sources: list[str]) -> list[str]:
    """The ``mmdebstrap`` command that makes a base image in the folder ``target``."""
    command = ["mmdebstrap", "--mode=root", "--format=directory", "--variant=minbase"]
    if base.slim:
        command += [f"--dpkgopt=path-exclude={path}" for path in _SLIM]
        command += [f"--dpkgopt=path-include={path}" for path in _SLIM_KEPT]
    command += [f"--customize-hook={hook}" for hook in HOOKS]
    if sources:  # mirrors of this machine: lent to each step, not stored
        command.append('--customize-hook=: > "$1"/etc/apt/sources.list')
    command += ["--skip=output/dev", base.suite, target]
    return [*command, *sources]


def base_version() -> str:
    """Words that change when base images are made in another way, or for other machines."""
    both = [shlex.join(plan_base(Base(suite, slim=True), "", ["deb"])) for suite in SUITES]
    return f"{platform.machine()} {' '.join(both)}"
