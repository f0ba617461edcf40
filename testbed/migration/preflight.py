"""Whether a service can be restored on another host, judged before anything is touched.

Pure: facts in (`testbed.edge.probe`, `testbed.edge.fitness`), reasons out. What merely makes a move
slower is no reason; the engine finds a second way by itself and the record says so.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from testbed.edge.probe import numbers
from testbed.errors import PreflightError
from testbed.hosts.doctor import examine

Facts = Mapping[str, Any]

INSTRUCTIONS = re.compile(
    r"sse|ssse|avx|amx|bmi|aes|vaes|sha|sm[34]|fma|f16c|movbe|movdir|popcnt|pclmul|vpclmul|gfni"
    r"|adx|abm|rdrand|rdseed|rdpid|xsave|cmov|cx8|cx16|clflush|clwb|clzero|mmx|fxsr|fsgsbase|rtm|hle"
    r"|pku|waitpkg|serialize|cldemote|enqcmd|erms|fsrm|3dnow|lahf|xop|tbm|rdtscp|user_shstk|ibt"
)
"""How the names of those x86 flags begin that stand for instructions which programs may use."""
FEWEST_BYTES_LEFT = 64 * 2**20
"""What a host keeps for itself, beside a service that moves in."""


@dataclass(frozen=True)
class Move:
    """A move that is wanted, with what is known of both ends.

    source_facts, target_facts : what `testbed.edge.probe.facts` says there.
    container : `testbed.edge.fitness.of_service` at the source.
    room : `testbed.edge.fitness.of_host` at the target.
    """

    service: str
    source: str
    target: str
    source_facts: Facts
    target_facts: Facts
    container: Facts
    room: Facts


def require(move: Move) -> None:
    """Refuse a move that cannot succeed.

    Raises
    ------
    PreflightError
        With every reason and its remedy.
    """
    found = tuple(reasons(move))
    if found:
        listed = "\n".join(f"  {reason}" for reason in found)
        raise PreflightError(
            f"{move.service} cannot be restored at {move.target}, and stays at {move.source}:\n"
            f"{listed}",
            reasons=found,
            running_at=move.source,
        )


def reasons(move: Move) -> Iterator[str]:
    """Why a move cannot succeed: what is wrong, where, and what to do; nothing where it can."""
    yield from _machines(move)
    yield from _criu(move)
    yield from _tasks(move)
    yield from _container(move)
    yield from _room(move)


def needed_flags(facts: Facts) -> set[str]:
    """Flags of a processor that a program which runs on it may have come to rely on."""
    flags = facts.get("cpu", {}).get("flags", ())
    if facts.get("architecture") == "x86_64":
        return {flag for flag in flags if INSTRUCTIONS.match(flag)}
    return set(flags)


def _machines(move: Move) -> Iterator[str]:
    here, there = move.source_facts, move.target_facts
    if here["architecture"] != there["architecture"]:
        yield (
            f"{move.source} is {here['architecture']}, {move.target} is {there['architecture']}: a "
            "checkpoint holds registers and machine code and never goes to another architecture; "
            f"choose a target that is {here['architecture']}"
        )
        return
    if here["page_size_bytes"] != there["page_size_bytes"]:
        yield (
            f"pages have {here['page_size_bytes']} bytes at {move.source}, "
            f"{there['page_size_bytes']} at {move.target}: memory cannot be laid out there; start "
            "both with kernels of one page size"
        )
    missing = sorted(needed_flags(here) - needed_flags(there))
    if missing:
        yield (
            f"the processor of {move.target} lacks {', '.join(missing)}, which programs that "
            f"started at {move.source} may use; choose a target with them, or start the service "
            "where they are missing"
        )


def _criu(move: Move) -> Iterator[str]:
    for host, facts in ((move.source, move.source_facts), (move.target, move.target_facts)):
        for finding in examine(facts, "edge").blocking:
            yield f"{host}: {finding.name}: {finding.sentence}"
    here, there = (
        str(facts["criu"]["version"] or "") for facts in (move.source_facts, move.target_facts)
    )
    if here and there and numbers(there)[:2] < numbers(here)[:2]:
        yield (
            f"CRIU {here} of {move.source} writes images that CRIU {there} of {move.target} need "
            "not understand; install the same version, or a later one at the target"
        )


def _tasks(move: Move) -> Iterator[str]:
    old = [_named(task) for task in move.container["tasks"] if task["bits"] == 32]  # noqa: PLR2004
    if old:
        for host, facts in ((move.source, move.source_facts), (move.target, move.target_facts)):
            if not facts["criu"].get("moves_32_bits"):
                yield (
                    f"{', '.join(old)} runs in 32 bits, and CRIU at {host} moves tasks of 64 bits "
                    "only (`criu check --feature compat_cr`); use a build for 64 bits"
                )
    for task in move.container["tasks"]:
        if task["namespaces"]:
            yield (
                f"{_named(task)} lives in namespaces of its own ({', '.join(task['namespaces'])}), "
                "which the container at the target has not; start it without them"
            )


def _container(move: Move) -> Iterator[str]:
    if move.container["mounts"]:
        yield (
            f"{', '.join(move.container['mounts'])} was mounted in the container after its start, "
            "and is not there at the target; unmount it, or put the files into the image"
        )
    for other in move.room["containers"]:
        if other["name"] == move.service:
            if other["lives"]:
                yield f"{move.service} runs at {move.target} already; end it there first"
        elif other["address"] == move.container["address"]:
            yield (
                f"{other['address']}, where the ports of {move.service} are, is the address of "
                f"{other['name']} at {move.target}; give each service an address of its own"
            )
        elif other["number"] == move.container["number"]:
            yield (
                f"{other['name']} at {move.target} has the network device of {move.service} "
                f"(number {other['number']}); give each service a number of its own"
            )


def _room(move: Move) -> Iterator[str]:
    needed, free = move.container["private_bytes"], move.room["available_bytes"]
    if needed + FEWEST_BYTES_LEFT > free:
        yield (
            f"{move.service} has {needed / 2**20:.0f} MiB of memory, and {move.target} has "
            f"{free / 2**20:.0f} MiB left; end something there"
        )


def _named(task: Facts) -> str:
    return f"task {task['pid']} ({task['name']})"
