"""Ansible over SSH brings hosts into the state the testbed needs, whatever they are made of."""

import io
import json
import os
import signal
import sys
import tarfile
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from testbed.edge import tracker
from testbed.errors import ProvisioningError
from testbed.hosts.plan import LabPlan
from testbed.hosts.remote import edge_files
from testbed.hosts.strays import end_marked

REPOSITORY = Path(__file__).parent.parent.parent
GROUPS = {"server": "servers", "base-station": "base_stations", "user": "users"}
FORKS = 8
FAILURES = {"runner_on_failed", "runner_on_unreachable"}
Progress = Callable[[str], None]


@dataclass(frozen=True)
class LayerArchive:
    """One image layer to be brought to every server: its digest and its file."""

    digest: str
    archive: Path


@dataclass(frozen=True)
class ClientFolder:
    """What a service's client needs on users' hosts: a local folder and where it goes."""

    source: Path
    folder: str


@dataclass(frozen=True)
class Provisioned:
    """What a run of the playbooks did: tasks by outcome, per host."""

    changed: dict[str, int] = field(default_factory=dict)
    ok: dict[str, int] = field(default_factory=dict)

    @property
    def changes(self) -> int:
        """Number of changes on all hosts together; 0 on a second run."""
        return sum(self.changed.values())


def inventory(plan: LabPlan, state: Path, wan_plans: dict[str, Any]) -> dict[str, Any]:
    """The hosts of a lab as an Ansible inventory, to be read after ``inventory/local.yml``."""
    ssh = state / "ssh"
    common = f"-o UserKnownHostsFile={ssh / 'known_hosts'} -o IdentitiesOnly=yes -F none"
    groups: dict[str, Any] = {name: {"hosts": {}} for name in GROUPS.values()}
    for name, host in plan.hosts.items():
        groups[GROUPS[host.spec.role]]["hosts"][name] = {
            "ansible_host": host.control_address,
            "ansible_ssh_private_key_file": str(ssh / "id"),
            "ansible_ssh_common_args": common,
            "wan_plan": wan_plans[name],
        }
    return {"all": {"children": groups}}


def provision(
    plan: LabPlan,
    state: Path,
    *,
    wan_plans: dict[str, Any],
    layers: list[LayerArchive],
    clients: list[ClientFolder],
    progress: Progress,
) -> Provisioned:
    """Run ``playbooks/site.yml`` on every host of the lab.

    Parameters
    ----------
    wan_plans : dict
        For each host, how its links are to be shaped (`testbed.hosts.wan.plan_wan`).
    layers, clients : list
        Image layers for servers, client folders for users.

    Raises
    ------
    ProvisioningError
        With one line per failing task and host.
    """
    with tempfile.TemporaryDirectory(prefix="provision-", dir=state) as name:
        private = Path(name)
        variables = _stage(private, state, layers, clients)
        (private / "hosts.yml").write_text(yaml.safe_dump(inventory(plan, state, wan_plans)))
        try:
            return _run(private, variables, progress)
        finally:  # an interrupted playbook's workers would go on, also writing into the folder
            end_marked(name)


def _stage(
    private: Path, state: Path, layers: list[LayerArchive], clients: list[ClientFolder]
) -> dict[str, Any]:
    """Write what the roles bring to the hosts; return the variables that name it."""
    code = private / "edge.tar"
    code.write_bytes(archive({f"edge/{name}": data for name, data in edge_files().items()}))
    user_clients = []
    for number, client in enumerate(clients):
        packed = private / f"client-{number}.tar"
        content = {
            str(path.relative_to(client.source)): path.read_bytes()
            for path in sorted(client.source.rglob("*"))
            if path.is_file() and "__pycache__" not in path.parts
        }
        where = client.folder.strip("/")
        packed.write_bytes(archive({f"{where}/{name}": data for name, data in content.items()}))
        user_clients.append({"archive": str(packed), "folder": "/"})
    return {
        "agent_code_archive": str(code),
        "edge_tracker": str(tracker.PROGRAM),
        "edge_peer_key": str(state / "ssh" / "peer"),
        "edge_known_hosts": str(state / "ssh" / "known_hosts"),
        "images_layers": [{"digest": x.digest, "archive": str(x.archive)} for x in layers],
        "user_clients": user_clients,
    }


def archive(content: dict[str, bytes]) -> bytes:
    """A tar archive that is the same whenever its content is (a second run must change nothing)."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, data in sorted(content.items()):
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(data), 0o644
            tar.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


def _run(private: Path, variables: dict[str, Any], progress: Progress) -> Provisioned:
    import ansible_runner  # noqa: PLC0415 - slow to import

    failures: list[str] = []

    def listen(event: dict[str, Any]) -> bool:
        data = event.get("event_data", {})
        if event["event"] == "playbook_on_task_start":
            progress(data["task"])
        elif event["event"] in FAILURES and not data.get("ignore_errors"):
            failures.append(_explain(event["event"], data))
        return False

    with _own_signals():
        result = ansible_runner.run(
            private_data_dir=str(private),
            playbook=str(REPOSITORY / "playbooks" / "site.yml"),
            inventory=[str(REPOSITORY / "inventory" / "local.yml"), str(private / "hosts.yml")],
            extravars=variables,
            envvars={
                "ANSIBLE_FORKS": str(FORKS),
                "ANSIBLE_HOST_KEY_CHECKING": "True",
                "ANSIBLE_ROLES_PATH": str(REPOSITORY / "playbooks" / "roles"),
                "ANSIBLE_LOCAL_TEMP": str(private / "local"),
                "ANSIBLE_SSH_CONTROL_PATH_DIR": str(private / "cp"),
                "ANSIBLE_DEPRECATION_WARNINGS": "False",
                "PATH": f"{Path(sys.executable).parent}:{os.environ.get('PATH', '')}",
            },
            quiet=True,
            rotate_artifacts=1,
            event_handler=listen,
        )
    if result.status == "canceled":  # ansible-runner took the Ctrl-C for itself
        raise KeyboardInterrupt
    if result.status != "successful":
        said = failures or [_tail(result)]
        raise ProvisioningError("provisioning failed:\n" + "\n".join(dict.fromkeys(said)))
    stats = result.stats or {}
    return Provisioned(changed=dict(stats.get("changed", {})), ok=dict(stats.get("ok", {})))


@contextmanager
def _own_signals() -> Iterator[None]:
    """Put this process's signal handlers back: ansible-runner leaves its own behind."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.getsignal(number) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _explain(kind: str, data: dict[str, Any]) -> str:
    """One line for one task that failed on one host."""
    answer = data.get("res", {})
    items = [item for item in answer.get("results", []) if item.get("failed")]
    words = "; ".join(_words(item) for item in items) or _words(answer)
    if kind == "runner_on_unreachable":
        return f"{data['host']}: cannot be reached over SSH: {words.strip()[:300]}"
    return f"{data['host']}: {data['task']}: {words.strip()[-400:]}"


def _words(answer: dict[str, Any]) -> str:
    words = answer.get("stderr") or answer.get("msg") or answer
    return words if isinstance(words, str) else json.dumps(words)


def _tail(result: Any) -> str:
    text = result.stdout.read() if result.stdout else ""
    return str(text[-600:]) or f"ansible-playbook ended with status {result.status}"
