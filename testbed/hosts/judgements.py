"""What single facts mean for a host: one function for each subject, and the choices they lead to.

Pure functions of what `testbed.edge.probe.facts` found; nothing here looks at a machine.
"""

import ipaddress
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from testbed.edge import probe
from testbed.hosts.diagnosis import Finding, Role

Facts = Mapping[str, Any]

OWN_DEVICES = "tb-"
"""How the names of a lab's own devices on the machine begin."""
OLDEST_PYTHON = (3, 11)
TESTED_ARCHITECTURES = ("x86_64", "aarch64")
ENOUGH_MEMORY_BYTES: dict[Role, int] = {"machine": 3 * 2**30, "edge": 2**29}
ENOUGH_DISK_BYTES: dict[Role, int] = {"machine": 4 * 2**30, "edge": 2**30}
NEEDED_CAPABILITIES = ("SYS_ADMIN", "NET_ADMIN", "SYS_PTRACE")


def works(facts: Facts, name: str) -> bool:
    """Whether a feature was tried and works; one that could not be tried counts as absent."""
    return bool(facts.get("features", {}).get(name, {}).get("works"))


def wan_backend(facts: Facts) -> str:
    """The best way to emulate the WAN with this kernel."""
    if works(facts, "netem"):
        return "netem"
    return "delay-line" if works(facts, "tun") and works(facts, "tbf") else "none"


def refused(facts: Facts, name: str) -> bool:
    """Whether a feature was tried and does not work; one that could not be tried may well do."""
    return facts.get("features", {}).get(name, {}).get("works") is False


def dirty_tracker(facts: Facts) -> str:
    """The best way to learn which pages a running process has written."""
    kernel_can = works(facts, "wp_async") and works(facts, "pagemap_scan")
    if kernel_can and not refused(facts, "tracker"):
        return "wp-async"
    return "soft-dirty" if works(facts, "soft_dirty") else "content"


def techniques(facts: Facts) -> tuple[str, ...]:
    """The ways to move a service; memory can follow it only where the kernel tells of writes.

    A kernel with soft-dirty bits would have CRIU look at them, and dump memory all the same.
    """
    everywhere = ("cold", "delta", "pre-copy")
    follows = works(facts, "userfaultfd") and dirty_tracker(facts) == "wp-async"
    if follows and not works(facts, "soft_dirty"):
        return (*everywhere, "post-copy", "hybrid")
    return everywhere


def _detail(facts: Facts, name: str) -> str:
    return str(facts.get("features", {}).get(name, {}).get("detail") or "not tried")


def _need(
    name: str, *, good: bool, what: str, missing: str, consequence: str, remedy: str
) -> Finding:
    """Build a finding that blocks where it is not good."""
    if good:
        return Finding(name, "ok", what)
    return Finding(name, "missing", missing, consequence, remedy, blocks=True)


def judge_system(facts: Facts) -> Iterator[Finding]:
    """Operating system and rights; without them nothing else could be tried."""
    system = facts.get("system") or "an unknown system"
    yield _need(
        "system",
        good=system == "Linux",
        what=f"Linux {facts.get('kernel')} on {facts.get('architecture')}",
        missing=f"this is {system}",
        consequence="containers, namespaces and CRIU are Linux's own",
        remedy="Use Linux, WSL 2 or a Linux VM; the calibrated model runs everywhere",
    )
    if system != "Linux":
        return
    yield _need(
        "root",
        good=bool(facts.get("root")),
        what="may change the system",
        missing="not root",
        consequence="network namespaces and checkpoints need it, and most could not be tried",
        remedy="Run it with sudo",
    )


def judge_kernel(facts: Facts, role: Role) -> Iterator[Finding]:
    """Architecture, namespaces, overlayfs, cgroups and policy rules."""
    architecture = str(facts.get("architecture"))
    if architecture not in TESTED_ARCHITECTURES:
        yield Finding(
            "architecture",
            "limited",
            f"{architecture} was never tried",
            "migration writes registers and may fail",
            f"Use one of: {', '.join(TESTED_ARCHITECTURES)}",
        )
    if role == "machine":
        for name, title, option in (
            ("namespaces", "namespaces", "CONFIG_NAMESPACES and CONFIG_NET_NS"),
            ("overlayfs", "overlayfs", "CONFIG_OVERLAY_FS"),
        ):
            yield _need(
                title,
                good=works(facts, name),
                what=_detail(facts, name),
                missing=_detail(facts, name),
                consequence="namespace hosts cannot be made",
                remedy=f"Use a kernel with {option}; in a container, start it privileged",
            )
    yield _need(
        "freezer",
        good=works(facts, "cgroup_freeze"),
        what=f"cgroup2: {_detail(facts, 'cgroup_freeze')}",
        missing=_detail(facts, "cgroup_freeze"),
        consequence="a service cannot be stopped for its checkpoint",
        remedy="Use a kernel from 5.2 on with cgroup2",
    )
    for name, title, consequence, remedy in (
        ("cgroup_kill", "cgroup kill", "a whole tree is killed task by task", "Kernel 5.14 has it"),
        (
            "policy_rules",
            "policy rules",
            "traffic cannot be routed by its source",
            "Use a kernel with CONFIG_IP_MULTIPLE_TABLES",
        ),
    ):
        if works(facts, name):
            yield Finding(title, "ok", _detail(facts, name))
        else:
            yield Finding(title, "limited", _detail(facts, name), consequence, remedy)


def judge_wan(facts: Facts, role: Role) -> Finding:
    """How the paths between hosts can be slowed down."""
    backend = wan_backend(facts)
    if backend == "netem":
        return Finding("WAN", "ok", "netem does rate, delay and loss")
    if backend == "delay-line" and role == "machine":
        return Finding(
            "WAN", "ok", "no netem here; tbf does the rate, the delay line (TUN) delay and loss"
        )
    if backend == "delay-line":
        return Finding(
            "WAN",
            "limited",
            f"netem: {_detail(facts, 'netem')}",
            "as a namespace edge all is well; an edge of its own can shape its rate only",
            "Install the kernel's extra modules (sch_netem)",
        )
    lacks = [f"{name}: {_detail(facts, name)}" for name in ("netem", "tun", "tbf")]
    return Finding(
        "WAN",
        "missing",
        "; ".join(lacks),
        "no path can be slowed down",
        "Use a kernel with CONFIG_NET_SCH_NETEM, or with CONFIG_TUN and CONFIG_NET_SCH_TBF; in a "
        "container, pass /dev/net/tun",
        blocks=True,
    )


def judge_tracking(facts: Facts) -> Finding:
    """How changed pages of a running process can be found."""
    tracker = dirty_tracker(facts)
    soft = "has" if works(facts, "soft_dirty") else "lacks"
    peer = f"the kernel {soft} soft-dirty, which CRIU's own pre-dump needs"
    if tracker == "wp-async":
        return Finding("dirty pages", "ok", f"userfaultfd wp-async with PAGEMAP_SCAN; {peer}")
    if tracker == "soft-dirty":
        return Finding("dirty pages", "ok", f"soft-dirty; wp-async: {_detail(facts, 'wp_async')}")
    return Finding(
        "dirty pages",
        "limited",
        f"wp-async: {_detail(facts, 'wp_async')}; {peer}",
        "pages are compared by content, about 45 ms per 160 MB",
        "Kernel 6.7 with CONFIG_USERFAULTFD has wp-async",
    )


def judge_engine(facts: Facts) -> Iterator[Finding]:
    """What the fast path leans on at an edge; each has a second way, which is slower."""
    for name, title, consequence, remedy in (
        (
            "tracker",
            "tracker",
            "all content is compared, which takes longer the larger the service is",
            "Kernel 6.7 or later; provision the edge again, so that its tracker is compiled",
        ),
        (
            "claim",
            "claimed dump",
            "CRIU writes all pages while the service stands still, and nobody reads them",
            "CRIU 4.1 or 4.2 as Debian has it keeps its kernel features where they are looked for",
        ),
        (
            "lazy_restore",
            "lazy restore",
            "all memory is restored before the service goes on",
            "A kernel with CONFIG_USERFAULTFD, and vm.unprivileged_userfaultfd or root",
        ),
    ):
        if works(facts, name):
            yield Finding(title, "ok", _detail(facts, name))
        else:
            yield Finding(title, "limited", _detail(facts, name), consequence, remedy)


def engine_ways(facts: Facts) -> dict[str, str]:
    """How the engine will move a service away from and to this host, in a few words each."""
    return {
        "tracker": dirty_tracker(facts),
        "dump": "without pages" if works(facts, "claim") else "with pages",
        "restore": "memory after" if works(facts, "lazy_restore") else "memory first",
    }


def judge_machine(facts: Facts, ranges: Sequence[str]) -> Iterator[Finding]:
    """Tools and free addresses of a machine that makes hosts."""
    tools = facts.get("tools", {})
    absent = [name for name in ("ip", "tc") if not tools.get(name)]
    yield _need(
        "tools",
        good=not absent,
        what="ip and tc",
        missing=f"not installed: {', '.join(absent)}",
        consequence="no network can be made",
        remedy="apt-get install iproute2",
    )
    if not tools.get("mmdebstrap"):
        yield Finding(
            "mmdebstrap",
            "limited",
            "not installed",
            "the edges' root file system cannot be made (once; then it is kept)",
            "apt-get install mmdebstrap",
        )
    clashes = [
        (str(route.get("dev", "?")), f"{taken} ({route.get('dev', '?')}) overlaps {wanted}")
        for route in facts.get("routes", [])
        for wanted in ranges
        if (taken := _network(route.get("dst", ""))) and taken.overlaps(_ipv4(wanted))
    ]
    foreign = [text for device, text in clashes if not device.startswith(OWN_DEVICES)]
    if clashes and not foreign:
        yield Finding(
            "addresses",
            "limited",
            "; ".join(text for _, text in clashes),
            "a lab is up already, and there is room for one",
            "`testbed lab down` ends it",
        )
        return
    yield _need(
        "addresses",
        good=not clashes,
        what=f"{', '.join(ranges)} are free",
        missing="; ".join(foreign),
        consequence="a lab's hosts would hide that network, or not be reached",
        remedy="A VPN, or containers? Take it down, or choose other ranges",
    )


def _ipv4(text: str) -> ipaddress.IPv4Network:
    return ipaddress.IPv4Network(text, strict=False)


def _network(destination: str) -> ipaddress.IPv4Network | None:
    """Return what a route leads to; ``None`` for a default route and everything but IPv4."""
    try:
        found = _ipv4(destination)
    except ValueError:
        return None
    return found if found.prefixlen else None


def judge_edge(facts: Facts) -> Iterator[Finding]:
    """CRIU, runtime, Python and capabilities of a host that runs and moves services."""
    criu = facts.get("criu", {})
    yield _need(
        "CRIU",
        good=bool(criu.get("version")) and not criu.get("problem"),
        what=f"{criu.get('version')}, no known trouble with this kernel",
        missing=criu.get("problem") or "not installed",
        consequence="nothing can be moved",
        remedy="Install CRIU 4.2 or later (Debian forky has it)",
    )
    runtimes = {name: v for name, v in facts.get("runtimes", {}).items() if v is not None}
    yield _need(
        "runtime",
        good=bool(runtimes),
        what=", ".join(f"{name} {version}" for name, version in runtimes.items()),
        missing="neither crun nor runc",
        consequence="no container can be started",
        remedy="apt-get install crun libcriu2",
    )
    python = str(facts.get("python"))
    yield _need(
        "Python",
        good=probe.numbers(python)[:2] >= OLDEST_PYTHON,
        what=python,
        missing=f"{python} is too old",
        consequence="the edge's part of the testbed does not start",
        remedy="Python 3.11 or later (Debian 12, Raspberry Pi OS bookworm)",
    )
    has = facts.get("capabilities", {})
    absent = [name for name in NEEDED_CAPABILITIES if not has.get(name)]
    yield _need(
        "capabilities",
        good=not absent,
        what="all that are needed",
        missing=f"lacks {', '.join(absent)}",
        consequence="CRIU cannot take or give a process",
        remedy="Start the edge privileged",
    )
    if not has.get("SYS_RESOURCE"):
        yield Finding(
            "SYS_RESOURCE",
            "limited",
            "not granted",
            "CRIU cannot raise limits (harmless in its logs); its own lazy pages need larger pipes",
            "sysctl fs.pipe-max-size=134217728 where lazy pages are used",
        )


def judge_room(facts: Facts, role: Role) -> Iterator[Finding]:
    """Memory and disk that are left."""
    memory = facts.get("memory", {}).get("available_bytes", 0)
    disk = facts.get("disk_free_bytes", 0)
    for name, has, enough, consequence, remedy in (
        ("memory", memory, ENOUGH_MEMORY_BYTES[role], "large services may not fit", "Free some"),
        ("disk", disk, ENOUGH_DISK_BYTES[role], "images may not fit", "Free some"),
    ):
        what = f"{has / 2**30:.1f} GiB free"
        if has >= enough:
            yield Finding(name, "ok", what)
        else:
            short = f"{what}, {enough / 2**30:.1f} are advised"
            yield Finding(name, "limited", short, consequence, remedy)
