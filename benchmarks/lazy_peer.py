"""The peer: post-copy by runc, ``runc checkpoint --lazy-pages`` and ``runc restore --lazy-pages``.

The source dumps everything but memory and then serves pages; the target restores at once, and
CRIU's own ``criu lazy-pages`` there brings each page over when it is touched, and all others in the
background. crun has no such mode. What is small is copied over the SSH connection that is open
already; pages go through CRIU's own connection.
"""

import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import peer_bundle
from arena import SOURCE, Arena
from peer_steps import measured, take_steps, there, use_and_move
from report import Case, Measured

RUNTIME = "runc"
PORT = 27027
ALL_THERE_S = 600
PIPES = Path("/proc/sys/fs/pipe-max-size")
PIPE_BYTES = 128 << 20


def version(arena: Arena) -> str:
    """Which runc this is."""
    return "runc-lazy " + arena.on(SOURCE, "runc --version").split()[2]


@contextmanager
def large_pipes() -> Iterator[None]:
    """Let CRIU keep a service's pages in pipes, which have a limit on the whole machine."""
    before = PIPES.read_text(encoding="ascii")
    PIPES.write_text(str(max(int(before), PIPE_BYTES)), encoding="ascii")
    try:
        yield
    finally:
        PIPES.write_text(before, encoding="ascii")


def move(arena: Arena, case: Case) -> Measured:
    """Start the service with runc at `SOURCE`, move it under a user's eyes, remove it.

    Raises
    ------
    MigrationError
        If a command fails.
    ServiceError, WrongAnswerError
        If the user got a wrong answer, or none.
    """
    spec = arena.spec(case.service)
    images, work = peer_bundle.images(spec), peer_bundle.work(spec)
    how = f"--tcp-established --manage-cgroups-mode ignore --image-path {images} --work-path {work}"
    address = arena.lab.plan.hosts[SOURCE].data_address
    serve = (
        f"mkfifo {work}/ready; {{ {RUNTIME} checkpoint {how} --lazy-pages "
        f"--page-server 0.0.0.0:{PORT} --status-fd 3 {spec.name} 3> {work}/ready "
        f"> {work}/served 2>&1; echo $? > {work}/ended; }} & "
        f"[ $(head -c 1 {work}/ready | wc -c) = 1 ] || {{ cat {work}/served >&2; exit 1; }}; "
    )
    fetch = (
        f"tar -C {images} -x; setsid --fork criu lazy-pages --page-server --address {address} "
        f"--port {PORT} -D {images} -W {work} -o fetched.log </dev/null >/dev/null 2>&1; "
        f"for i in $(seq 1000); do [ -S {work}/lazy-pages.socket ] && break; sleep 0.002; done; "
        f"{RUNTIME} restore --detach {how} --lazy-pages --bundle {peer_bundle.bundle(spec)} "
        f"{spec.name} </dev/null >/dev/null 2>&1 || "
        f"{{ tail -n 5 {work}/restore.log {work}/fetched.log >&2; exit 1; }}"
    )
    script = (
        f"{serve} echo checkpoint; tar -C {images} -cf {work}/small.tar .; "
        f"{there(arena, case)} {shlex.quote(fetch)} < {work}/small.tar; echo restore; "
        f"for i in $(seq {ALL_THERE_S * 20}); do [ -e {work}/ended ] && break; sleep 0.05; done; "
        f"[ $(cat {work}/ended) = 0 ] || {{ cat {work}/served >&2; exit 1; }}; echo fill"
    )
    stamps: dict[str, float] = {}
    with peer_bundle.running(arena, case, spec, RUNTIME), large_pipes():
        seen = use_and_move(arena, case, lambda: take_steps(arena, case, "runc", script, stamps))
        frozen_bytes = float(arena.on(SOURCE, f"stat -c %s {work}/small.tar"))
    return measured(
        seen,
        stamps,
        frozen_bytes=frozen_bytes,
        fill_s=stamps["fill"] - stamps["restore"],
    )
