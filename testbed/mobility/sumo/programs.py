"""SUMO's programs out of the ``eclipse-sumo`` wheel: found, run offline, their errors made ours."""

import functools
import os
import subprocess
import sys
from pathlib import Path

from testbed.errors import DataNotFoundError, TestbedError, TraceError

LIMIT_S = 600.0
"""A program that runs longer than this is ended."""
OFFLINE = ("--xml-validation", "never", "--xml-validation.net", "never", "--no-step-log")
"""Options of ``sumo`` and ``duarouter`` that keep them from looking for schemas."""

_LINES = 6


def sumo_home() -> Path:
    """Folder of the SUMO that came with the ``eclipse-sumo`` wheel.

    Raises
    ------
    DataNotFoundError
        If the wheel is not installed.
    """
    try:
        import sumo  # noqa: PLC0415 - only what SUMO drives needs it
    except ImportError as error:
        raise DataNotFoundError(
            "SUMO is not installed, and this trip is driven by it. `pip install eclipse-sumo`"
        ) from error
    return Path(sumo.SUMO_HOME)


@functools.cache
def sumo_version(home: Path) -> str:
    """SUMO's version and build features, without the details of the machine it was built on."""
    return run_sumo("sumo", ["--version"], home).split("Copyright")[0]


def writes_parquet(home: Path) -> bool:
    """Whether this SUMO can write its positions as Parquet."""
    return "Parquet" in sumo_version(home)


def run_sumo(
    program: str,
    arguments: list[str],
    folder: Path,
    *,
    limit_s: float = LIMIT_S,
    error: type[TestbedError] = TraceError,
    remedy: str = "Is the network whole, and made by a SUMO not newer than the installed one?",
) -> str:
    """Run one of SUMO's programs to its end.

    Parameters
    ----------
    program : str
        ``sumo``, ``duarouter``, ``netconvert``... or a Python tool such as ``randomTrips.py``.
    arguments : list of str
        What follows the program's name.
    folder : Path
        Where it runs.
    limit_s : float
        It is ended after so many seconds.
    error : type of TestbedError
        What is raised where it fails.
    remedy : str
        What to do then.

    Returns
    -------
    str
        Its standard output.

    Raises
    ------
    DataNotFoundError
        If SUMO is not installed.
    TestbedError
        As ``error`` says, if the program cannot be run, fails or takes too long; with the
        relevant lines of its output.
    """
    home = sumo_home()
    if program.endswith(".py"):
        command = [sys.executable, str(home / "tools" / program)]
    else:
        command = [str(home / "bin" / (f"{program}.exe" if os.name == "nt" else program))]
    try:
        done = subprocess.run(
            [*command, *arguments],
            cwd=folder,
            env={**os.environ, **_surroundings(home)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=limit_s,
            check=False,
        )
    except subprocess.TimeoutExpired as late:
        raise error(
            f"{program}: could not be run to its end within {limit_s:g} s, and was ended. Ask for "
            "less (fewer users, a shorter time, a smaller box) or give it more time"
        ) from late
    except OSError as problem:
        raise error(
            f"{program}: could not be run ({problem}). Is eclipse-sumo installed whole?"
        ) from problem
    if done.returncode:
        raise error(f"{program}: ended with {done.returncode}: {_relevant(done)}. {remedy}")
    return done.stdout


def _surroundings(home: Path) -> dict[str, str]:
    """SUMO's own data, its own PROJ data, and no network."""
    proj = home / "data" / "proj"
    if not (proj / "proj.db").is_file():
        import pyproj  # noqa: PLC0415 - the wheel usually brings its own

        proj = Path(pyproj.datadir.get_data_dir())
    return {
        "SUMO_HOME": str(home),
        "PROJ_DATA": str(proj),
        "PROJ_LIB": str(proj),
        "PROJ_NETWORK": "OFF",
    }


def _relevant(done: "subprocess.CompletedProcess[str]") -> str:
    """The lines that say what went wrong; the last ones where none says so."""
    lines = (done.stderr or done.stdout).strip().splitlines()
    wrong = [line for line in lines if "error" in line.lower()]
    return " | ".join(line.strip() for line in (wrong or lines)[-_LINES:])
