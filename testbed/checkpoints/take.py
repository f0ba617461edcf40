"""A checkpoint of a service that runs in a lab, brought here as an archive."""

import subprocess
from pathlib import Path

from testbed.errors import CheckpointError
from testbed.hosts.namespace import RUN, read_state, ssh_command
from testbed.hosts.remote import agent_command


def take(lab: str, host: str, service: str, out: Path) -> Path:
    """Have a host write a checkpoint of a service (`testbed.edge.checkpoint`).

    The service stands still meanwhile and goes on. Nothing half written is left at ``out``.

    Parameters
    ----------
    lab : str
        Name of a lab that is up.
    host, service : str
        Where it runs, and its name in the scenario.
    out : Path
        The archive (tar) to write.

    Raises
    ------
    LabError
        If no such lab is up.
    CheckpointError
        If the lab has no such host, or the checkpoint cannot be taken there.
    """
    hosts = read_state(lab)["hosts"]
    if not isinstance(hosts, dict) or host not in hosts:
        known = ", ".join(hosts) if isinstance(hosts, dict) else "none"
        raise CheckpointError(f"lab {lab!r} has no host {host!r}; it has: {known}")
    ssh = ssh_command(RUN / lab, str(hosts[host]))
    unfinished = out.with_name(f".{out.name}.unfinished")
    try:
        with unfinished.open("wb") as file:
            done = subprocess.run(
                [*ssh, *agent_command("checkpoint"), service],
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.PIPE,
                check=False,
            )
        if done.returncode:
            said = done.stderr.decode(errors="replace").strip()
            raise CheckpointError(f"{host}: no checkpoint of {service}: {said}")
        unfinished.replace(out)
    except OSError as error:
        raise CheckpointError(f"{out}: cannot be written ({error.strerror})") from error
    finally:
        unfinished.unlink(missing_ok=True)
    return out
