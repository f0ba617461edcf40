"""Do CRIU's own test programs survive a move? Each by plain CRIU, cold and by the fast path.

Some 400 small programs of Debian's source package of CRIU get into some state each (mappings,
sockets, locks, timers, process trees), are moved from one edge to another as services, and say at
the target whether everything is as it was. Beside it the same programs are dumped and restored by
plain CRIU in the same kind of container, where they are.

    .venv/bin/python benchmarks/zdtm.py [--quick] [--only WORDS] [--json FILE]
"""

import argparse
import json
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from zdtm_lab import NAME, SLOTS, UNUSABLE, Ground, ground
from zdtm_programs import Program, read_programs, source_archive
from zdtm_report import COLD, FAST, Tried, json_rows, left_out_text, reasons_text, table

from testbed.cli import require_root_on_linux
from testbed.errors import ImageBuildError, ProvisioningError, UnsupportedMachineError
from testbed.experiment.progress import Steps
from testbed.hosts.root import default_cache

TECHNIQUES = (COLD, FAST)
QUICK = {
    *("busyloop00", "cow01", "cwd00", "env00", "epoll", "eventfs00", "fdt_shared", "fifo"),
    *("file_shared", "futex", "maps01", "maps04", "mprotect00", "pipe00", "posix_timers"),
    *("pthread00", "session00", "shm-mp", "sigpending", "socket-tcp", "socket_queues"),
    *("sockets00", "timers", "vdso00", "write_read00", "zombie00"),
}
CANNOT = 2
RAW = argparse.RawDescriptionHelpFormatter
NOTES = """\
passed: moved, and found everything as it was. fast path: passed, and the kernel told which pages
were written. refused: not moved, and passed at the source. rolled back: the same, found while it
stood still. FAILED: found something changed. LOST: runs nowhere, or hangs."""


def chosen(programs: list[Program], *, quick: bool, only: str | None) -> list[Program]:
    """The programs that the command line asks for; ``only`` names some, or a part of a name."""
    words = (only or "").split()
    return [
        p
        for p in programs
        if (not quick or p.name in QUICK)
        and (not words or p.name in words or (len(words) == 1 and words[0] in p.name))
    ]


def try_all(here: Ground, programs: list[Program], steps: Steps) -> list[Tried]:
    """Try every program, several at once."""

    def one(program: Program) -> Tried:
        tried = here.run(program, TECHNIQUES)
        steps.next(program.name)
        told = reasons_text([tried])
        if told:
            steps.say(told)
        return tried

    with ThreadPoolExecutor(len(SLOTS)) as pool:
        return list(pool.map(one, programs))


def run(options: argparse.Namespace) -> tuple[list[Tried], str]:
    """Start the lab, try everything, take the lab down."""
    cache = default_cache()
    with Steps(5) as steps:
        archive = source_archive(cache, steps.say)
    programs = chosen(read_programs(archive), quick=options.quick, only=options.only)
    with Steps(5 + len(programs)) as steps, ground(archive, cache, steps) as here:
        tried = try_all(here, programs, steps)
        version = here.criu_version()
        steps.next(f"taking the lab {NAME} down")
    return tried, version


def main() -> int:
    """Run the benchmark; 0 where every goal is met, 1 where one is not or something failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=RAW)
    parser.add_argument("--quick", action="store_true", help=f"{len(QUICK)} programs of every kind")
    parser.add_argument("--only", metavar="WORDS", help="these programs, or a part of a name")
    parser.add_argument("--json", type=Path, help="file for the rows")
    options = parser.parse_args()
    began_s = time.monotonic()
    try:
        require_root_on_linux()
        tried, version = run(options)
    except UnsupportedMachineError as error:
        print(f"benchmark: {error}", file=sys.stderr)
        return CANNOT
    except KeyboardInterrupt:
        print("benchmark: interrupted; the lab was taken down", file=sys.stderr)
        return 130
    except (ImageBuildError, ProvisioningError, *UNUSABLE) as error:
        print(f"benchmark FAILED: {error}\n{getattr(error, 'log', '')}", file=sys.stderr)
        return 1
    rows = json_rows(tried, TECHNIQUES, version)
    up = sum(not (t.left_out or t.not_up) for t in tried)
    print(f"\n{reasons_text(tried)}\n\n{table(tried, TECHNIQUES)}\n\n{NOTES}\n")
    print(f"{len(tried)} programs, {up} came up in a container. Not tried:")
    print(left_out_text(tried))
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    judged = [row for row in rows if row["goal"] is not None]
    for row in judged:
        print(f"{'met' if row['met'] else 'NOT MET'}: {row['name']}: {row['value']} {row['unit']}, "
              f"ratio {row['ratio']} ({row['peer']}), goal {row['goal']:g}")  # fmt: skip
    print(f"{time.monotonic() - began_s:.0f} s in all")
    return 0 if all(row["met"] for row in judged) else 1


if __name__ == "__main__":
    sys.exit(main())
