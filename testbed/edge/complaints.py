"""What CRIU's complaints mean: for each known line of its log the cause, and what to do about it.

CRIU tells its caller an errno, often 0, and its log a line about its own insides. `understand`
finds the first line that is known: later ones tell what followed from it.
"""

import re
from dataclasses import dataclass

LOG_LINES = 12
HARMLESS = ("RLIMIT_NOFILE", "tun: Unable to create tun", "Can't create a cgroup")
"""What CRIU complains about on hosts without CAP_SYS_RESOURCE or TUN, and gets on without."""
MAJORS = {"10": "miscellaneous", "13": "input", "29": "frame buffer", "81": "video",
          "116": "sound", "195": "NVIDIA", "226": "graphics"}  # fmt: skip


@dataclass(frozen=True)
class Complaint:
    """A kind of complaint: how it is recognised, the cause in our words, and the remedy.

    ``cause`` and ``remedy`` may name groups of ``pattern`` in braces.
    """

    name: str
    pattern: str
    cause: str
    remedy: str


KNOWN = (
    Complaint(
        "open device",
        r"Can't dump file (?P<fd>\d+) of that type \[2\d+\] \(chr (?P<major>\d+):(?P<minor>\d+)\)",
        "the service has a device open ({kind}device {major}:{minor}, descriptor {fd}), and what "
        "is in a device cannot be copied",
        "have the service close it before it moves, or keep it where it is",
    ),
    Complaint(
        "kernel object",
        r"send_fds failed \(-22\)|(?P<what>bpf-?map|perf_event|io_uring|kvm-vm)",
        "the service has a descriptor open that the kernel hands to nobody, such as an io_uring",
        "switch that off in the service (many programs have an option), or keep it where it is",
    ),
    Complaint(
        "open file of a strange kind",
        r"Can't dump file (?P<fd>\d+) of that type \[\d+\] \((?P<what>[^)]+)\)",
        "descriptor {fd} of the service is something that CRIU cannot save ({what})",
        "have the service close it before it moves",
    ),
    Complaint(
        "missing file",
        r"Can't open file (?P<path>\S+)(?: on restore)?: No such file",
        "the service uses the file {path}, which is not in the container at the target",
        "provision the target with the same image; files outside image and writable layer do not "
        "travel",
    ),
    Complaint(
        "changed file",
        r"File (?P<path>\S+) has bad (?P<what>size|mode|build-ID)",
        "the file {path} is another one at the target (its {what} differs)",
        "provision both edges with the same image, and do not change files of it at the target",
    ),
    Complaint(
        "file outside the container",
        r"Can't lookup mount=\d+ for fd=(?P<fd>-?\d+) path=(?P<path>\S*)",
        "the service has a file open that lies outside its container ({path}, descriptor {fd})",
        "start it with /dev/null or pipes as standard streams, log inside, and mount no folder of "
        "the edge by hand; POSIX message queues cannot move",
    ),
    Complaint(
        "mount",
        r"(?P<path>\S+) doesn't have a proper root mount",
        "{path} is mounted in the container from outside, and nobody declared it",
        "unmount it, or have the container's specification name it on every edge",
    ),
    Complaint(
        "deleted file",
        r"Can't (?:create link remap for (?P<path>\S+?)\.|dump ghost file (?P<big>\S+))",
        "the service has a file open that was deleted and that CRIU does not copy (too large, or "
        "it has another name elsewhere)",
        "have the service close or keep its temporary files",
    ),
    Complaint(
        "CPU",
        r"cpu: .*(?:do not match run time|not supported on host|xsave|xfeatures|missing support)",
        "the target's processor lacks what the source's has, and the service may use it",
        "move it between processors of one kind, or start it on the weaker one",
    ),
    Complaint(
        "connection without leave",
        r"Connected TCP socket",
        "the service has open TCP connections, and this CRIU was not told to keep them",
        "ask for it with tcp-established",
    ),
    Complaint(
        "connection in flight",
        r"In-flight connection",
        "a client's connection was just being made and not accepted yet",
        "try again: it is accepted in a moment",
    ),
    Complaint(
        "connection's address",
        r"inet: Can't bind inet socket.*: (?P<why>.+)|Can't bind inet socket back",
        "the service's address or port cannot be had at the target",
        "give the service an address of its own there, and end what listens on its port",
    ),
    Complaint(
        "half-closed connection",
        r"TCP_REPAIR can't be enabled for half-closed sockets",
        "a TCP connection of the service is closed on one side only",
        "try again when it is closed",
    ),
    Complaint(
        "socket",
        r"(?:Unsupported (?:proto|socket family|socket type)|Unknown socket (?:family|collected))"
        r"\W*(?P<what>[\w ]*)",
        "the service has a socket of a family or protocol that CRIU cannot save ({what})",
        "have the service close it before it moves",
    ),
    Complaint(
        "unix socket",
        r"unix: .*(?:[Ee]xternal socket|queue on packet|peer)",
        "the service is connected by a unix socket to a process outside its container",
        "have the service close it before it moves",
    ),
    Complaint(
        "file watches",
        r"fsnotify: .*(?:dump|find|create|resolve)",
        "the service watches files (inotify, fanotify), and a watch cannot be made again",
        "have the service end its watches, or keep the files it watches in its image",
    ),
    Complaint(
        "pid taken",
        r"(?:Can't fork for (?P<pid>\d+): File exists|Pid (?P<other>\d+) do not match expected)",
        "a process id that the service needs is taken in the container at the target",
        "try again: what has it ends with CRIU; nothing else may be started in the container",
    ),
    Complaint(
        "kernel too new",
        r"vdso: Unexpected rt vDSO area bounds|Can't get 1:16 opt: Operation not supported",
        "this CRIU is older than this kernel and trips over it",
        "install CRIU 4.2 or later (`testbed doctor` names what was found)",
    ),
    Complaint(
        "other version",
        r"Not supported images version|Image carries unknown capability version|"
        r"(?:Head magic|Magic) doesn't match",
        "the images were written by a CRIU that the target's cannot read",
        "install the same version on every edge",
    ),
    Complaint(
        "kernel lacks something",
        r"(?:seccomp filters not supported|kernel lacks get_rseq_conf|UFFD is not supported|"
        r"TCP_REPAIR_WINDOW option isn't supported|Compatible mode without vdso)",
        "the kernel lacks what CRIU needs for this service",
        "`testbed doctor` says what this kernel can do; use a kernel that has it",
    ),
    Complaint(
        "32-bit task",
        r"Can't dump task (?P<pid>\d+) running in 32-bit mode",
        "process {pid} of the service is a 32-bit program",
        "use a 64-bit build of it",
    ),
    Complaint(
        "being traced",
        r"(?:Unseizable non-zombie|SEIZE) ?(?P<pid>\d+)",
        "process {pid} of the service cannot be stopped by CRIU: a debugger or tracer holds it",
        "end the debugger, strace or profiler",
    ),
    Complaint(
        "no space",
        r"No space left on device",
        "the edge's memory for images is full",
        "remove other services from that edge, or give it more memory",
    ),
    Complaint(
        "damaged image",
        r"Unexpected EOF on (?P<what>\S+)|Missing (?P<page>\S+) in parent pagemap|Image corrupted",
        "an image is incomplete or damaged",
        "try again; if it comes back, look for a full or failing disk at the target",
    ),
)


def understand(log: str) -> tuple[Complaint, str] | None:
    """The first complaint that is known and its line; None where none is."""
    for line in errors(log):
        for complaint in KNOWN:
            if re.search(complaint.pattern, line):
                return complaint, line
    return None


def errors(log: str) -> list[str]:
    """The lines of a CRIU log that tell of errors, warnings where there are none."""
    wanted = [line for line in log.splitlines() if re.search(r"Error|Warn", line)]
    wanted = [line for line in wanted if not any(word in line for word in HARMLESS)]
    return [line for line in wanted if "Error" in line] or wanted


def explain(action: str, error: Exception, log: str) -> tuple[str, str]:
    """Message and relevant lines for a failed action; "errno 0" alone helps nobody.

    Parameters
    ----------
    action : str
        What CRIU was to do.
    error : Exception
        What it answered.
    log : str
        Its log.
    """
    lines = errors(log)
    known = understand(log)
    if known:
        complaint, line = known
        groups = _words(re.search(complaint.pattern, line))
        why = f"{_fill(complaint.cause, groups)}. Remedy: {_fill(complaint.remedy, groups)}"
        # What is known may stand far above the last lines.
        shown = (
            lines[-LOG_LINES:] if line in lines[-LOG_LINES:] else [line, *lines[1 - LOG_LINES :]]
        )
        return f"CRIU could not {action}: {why}", "\n".join(shown)
    last = lines[-1] if lines else f"{error}, and its log is silent"
    return f"CRIU could not {action}: {last}", "\n".join(lines[-LOG_LINES:])


def _words(found: re.Match[str] | None) -> dict[str, str]:
    groups = {name: text or "" for name, text in (found.groupdict() if found else {}).items()}
    kind = MAJORS.get(groups.get("major", ""), "")
    return {**groups, "kind": f"{kind} " if kind else ""}


def _fill(text: str, groups: dict[str, str]) -> str:
    return re.sub(r"\{(\w+)\}", lambda found: groups.get(found[1], ""), text)
