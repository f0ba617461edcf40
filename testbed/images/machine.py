"""What a build borrows from this machine: package mirrors and pip's settings. None of it is stored.

Mirrors and indexes differ from place to place, so a recipe names none. They are found when a build
starts and lent to its steps, as environment and as files that are visible only while a step runs.
"""

import os
import re
import subprocess
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

LENT = "/dev/build"
"""Where lent files are seen inside the image: on the device file system, which is never stored."""

_PROXIES = ("http_proxy", "https_proxy", "ftp_proxy", "no_proxy", "all_proxy")
_CERTIFICATES = ("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
_NOT_LENT = ("PIP_CONFIG_FILE", "PIP_REQUIRE_VIRTUALENV", "PIP_TARGET", "PIP_PREFIX", "PIP_USER")

_UNATTENDED = {
    "DEBIAN_FRONTEND": "noninteractive",
    "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    "PIP_NO_CACHE_DIR": "1",
    "PIP_ROOT_USER_ACTION": "ignore",
}


@dataclass(frozen=True)
class Loan:
    """Environment of a step and what is bound into the image for it: ``(file here, file there)``.

    apt_sources : text of ``sources.list`` for this machine's mirrors; ``None`` leaves the image's.
    """

    env: dict[str, str]
    binds: tuple[tuple[str, str], ...] = ()
    apt_sources: str | None = None


def plan_sources(listed: Iterable[str], codename: str, suite: str) -> list[str]:
    """Sources of ``suite`` on the mirrors that a machine of release ``codename`` uses.

    Parameters
    ----------
    listed : iterable of str
        Lines ``SITE RELEASE`` as ``apt-get indextargets`` gives them.
    """
    found: dict[str, None] = {}
    for line in listed:
        site, _, release = line.strip().partition(" ")
        name, _, pocket = release.partition("-")
        if name == codename and pocket in {"", "updates", "security"}:
            found[f"deb {site} {suite}{'-' if pocket else ''}{pocket} main"] = None
    return sorted(found, key=lambda source: source.count("-"))


def apt_sources(suite: str) -> list[str]:
    """Sources of a Debian suite on this machine's mirrors; empty where it is not Debian."""
    try:
        release = Path("/etc/os-release").read_text(encoding="utf-8")
        listed = subprocess.run(
            ["apt-get", "indextargets", "--format", "$(SITE) $(RELEASE)"],
            capture_output=True,
            text=True,
            check=False,
        )
    except OSError:
        return []
    facts = dict(re.findall(r'^(\w+)="?([^"\n]*)"?$', release, re.MULTILINE))
    if facts.get("ID") != "debian" or "VERSION_CODENAME" not in facts:
        return []
    return plan_sources(listed.stdout.splitlines(), facts["VERSION_CODENAME"], suite)


def plan_loan(
    environment: Mapping[str, str], pip_config: str, exists: Mapping[str, bool] | None = None
) -> Loan:
    """Pick what a step may use out of an environment and of ``pip config list``.

    Local paths among the values (a folder of wheels, a file of certificates) are bound below
    `LENT`, and the values point there.

    Parameters
    ----------
    exists : mapping of str to bool, optional
        Which paths exist, for tests; by default the file system is asked.
    """
    env: dict[str, str] = {}
    for line in pip_config.splitlines():
        match = re.match(r"^(?:global|install|download)\.([\w-]+)='(.*)'$", line.strip())
        if match:
            env[f"PIP_{match[1].upper().replace('-', '_')}"] = match[2]
    for name, value in environment.items():
        lent = name.startswith("PIP_") or name.lower() in _PROXIES or name in _CERTIFICATES
        if lent:
            env[name] = value
    env = {name: value for name, value in sorted(env.items()) if name not in _NOT_LENT}
    binds: dict[str, str] = {}

    def lend(match: re.Match[str]) -> str:
        path = match["path"].rstrip("/")
        there = exists.get(path, False) if exists is not None else Path(path).exists()
        if not there:
            return match[0]
        # An index in a folder may point to files beside that folder.
        home, _, last = path.rpartition("/") if match["scheme"] else ("", "", "")
        seen = binds.setdefault(home or path, f"{LENT}/{len(binds)}")
        return match["scheme"] + (f"{seen}/{last}" if home else seen)

    for name, value in env.items():
        env[name] = re.sub(r"(?<!\S)(?P<scheme>file://|)(?P<path>/\S+)", lend, value)
    return Loan({**env, **_UNATTENDED}, tuple(binds.items()))


def borrow(suite: str) -> Loan:
    """What this machine lends to the steps of a build upon a Debian suite."""
    listed = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"],
        capture_output=True,
        text=True,
        check=False,
    )
    loan = plan_loan(os.environ, listed.stdout)
    sources = apt_sources(suite)
    return Loan(loan.env, loan.binds, "\n".join(sources) + "\n" if sources else None)
