"""The peer: stop, ``rsync``, go on, as p.haul moves a container that it cannot track.

p.haul drives CRIU through the runtime, brings files over with rsync and restores at the target. Its
rounds before that need the kernel's soft-dirty bits; without them what is left is one round, with
the service frozen: the runtime's checkpoint into memory, rsync over the SSH connection that is open
already, the runtime's restore. crun does both, which is the faster of the two runtimes.
"""

import json

import peer_bundle
from arena import SOURCE, Arena
from peer_steps import PEER_LINE, STATISTICS, measured, take_steps, there, use_and_move
from report import Case, Measured

RUNTIME = "crun --cgroup-manager=cgroupfs"


def version(arena: Arena) -> str:
    """Which crun and rsync these are."""
    crun = arena.on(SOURCE, "crun --version").split()[2]
    return f"rsync-cold (crun {crun}, rsync {arena.on(SOURCE, 'rsync --version').split()[2]})"


def move(arena: Arena, case: Case) -> Measured:
    """Start the service with crun at `SOURCE`, move it under a user's eyes, remove it.

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
    compress = "" if case.rate_bps is None else "--compress --zc=zstd --zl=1"
    address = arena.lab.plan.hosts[case.target].data_address
    script = (
        f"{RUNTIME} checkpoint {how} {spec.name}; echo checkpoint; "
        f"rsync -a --stats --whole-file {compress} -e 'ssh {PEER_LINE}' {images}/ "
        f"root@{address}:{images}/ > {work}/rsync; echo copy; "
        f"{there(arena, case)} '{RUNTIME} restore --detach {how} "
        f"--bundle {peer_bundle.bundle(spec)} {spec.name} </dev/null >/dev/null 2>&1 || "
        f"{{ tail -n 5 {work}/restore.log >&2; exit 1; }}'; echo restore"
    )
    stamps: dict[str, float] = {}
    with peer_bundle.running(arena, case, spec, RUNTIME):
        seen = use_and_move(arena, case, lambda: take_steps(arena, case, "rsync", script, stamps))
        said = arena.on(SOURCE, f"python3 -c '{STATISTICS}' {work}/stats-dump")
        sent = arena.on(SOURCE, f"sed -n 's/^Total bytes sent: //p' {work}/rsync")
    freeze_s = json.loads(said)["frozen_time"] / 1e6
    frozen_bytes = float(sent.replace(",", ""))
    return measured(seen, stamps, frozen_bytes=frozen_bytes, freeze_s=freeze_s)
