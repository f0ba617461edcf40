"""From a scenario to a lab in which its services run: images, clients, hosts, links."""

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from testbed.edge.spec import Spec
from testbed.experiment.progress import Steps
from testbed.hosts.doctor import choose_backend
from testbed.hosts.lab import Lab
from testbed.hosts.plan import LabPlan, plan_lab
from testbed.hosts.provision import ClientFolder, LayerArchive
from testbed.images.image import Image, layer_archive
from testbed.images.make import make_image
from testbed.scenario import Scenario
from testbed.services.service import Service, find_service

CLIENTS = "/opt/testbed/clients"


@dataclass(frozen=True)
class Parts:
    """What a scenario's services are made of.

    kinds : the service behind each name in the scenario. images : its image.
    """

    kinds: dict[str, Service]
    images: dict[str, Image]


def build_parts(scenario: Scenario, cache: Path, steps: Steps) -> Parts:
    """Build the image of every service of the scenario.

    Raises
    ------
    ServiceError, RecipeError, ImageBuildError
        If a service is unknown or its image cannot be built.
    """
    kinds = {name: find_service(spec.kind) for name, spec in scenario.services.items()}
    for name, spec in scenario.services.items():
        kinds[name].server_command(spec.options)  # refuse wrong options before anything starts
    images: dict[str, Image] = {}
    wanted = {name: kinds[name].image_name(scenario.services[name].options) for name in kinds}
    for name, image in wanted.items():
        if image not in images:
            steps.next(f"image of {image}")
            with kinds[name].build_context(cache, scenario.services[name].options) as folder:
                images[image] = make_image(folder, cache=cache, name=image, progress=steps.detail)
    return Parts(kinds, {name: images[image] for name, image in wanted.items()})


def container_spec(scenario: Scenario, plan: LabPlan, parts: Parts, name: str) -> Spec:
    """How the service ``name`` of the scenario is held by an edge."""
    image, kind = parts.images[name], parts.kinds[name]
    config = image.config
    return Spec(
        name=name,
        address=plan.service_addresses[name],
        number=list(scenario.services).index(name) + 1,
        layers=tuple(layer.digest for layer in image.layers),
        command=tuple(kind.server_command(scenario.services[name].options)),
        environment=tuple(f"{key}={value}" for key, value in config.env.items()),
        directory=config.workdir,
        user=config.user or "0:0",
    )


def client_folder(service: Service) -> str:
    """Where a service's client lies on users' hosts."""
    return f"{CLIENTS}/{service.name}"


@contextmanager
def staged_clients(parts: Parts, cache: Path, within: Path) -> Iterator[list[ClientFolder]]:
    """Every client with what it sends, in temporary folders ready to be brought to users."""
    with tempfile.TemporaryDirectory(prefix="clients-", dir=within) as folder:
        staged = []
        for service in {s.name: s for s in parts.kinds.values()}.values():
            target = Path(folder) / service.name
            service.prepare_inputs(target, cache=cache)
            staged.append(ClientFolder(target, client_folder(service)))
        yield staged


def layer_archives(parts: Parts, cache: Path) -> list[LayerArchive]:
    """Every layer of the scenario's images, once."""
    digests = {layer.digest: None for image in parts.images.values() for layer in image.layers}
    return [LayerArchive(digest, layer_archive(cache, digest)) for digest in digests]


def start_lab(scenario: Scenario, name: str, cache: Path, steps: Steps) -> Lab:
    """Start the hosts of a scenario.

    Raises
    ------
    UnsupportedMachineError
        If this machine cannot run namespace edges; the message says what is missing.
    LabError
        If a lab of this name is up, or a host does not come up.
    """
    steps.next("what this machine can do")
    backend = choose_backend()
    steps.next("hosts")
    return Lab.start(plan_lab(scenario, name), cache=cache, backend=backend, progress=steps.detail)


def provision_lab(lab: Lab, parts: Parts, cache: Path, steps: Steps) -> None:
    """Bring every host of a started lab into shape, and open sessions to all."""
    with staged_clients(parts, cache, lab.state) as clients:
        done = lab.provision(layer_archives(parts, cache), clients, steps.detail)
    steps.detail(f"{done.changes} changes on {len(lab.plan.hosts)} hosts")
    lab.connect()


def spec_json(spec: Spec) -> dict[str, Any]:
    """A container's specification as the agent takes it."""
    content: dict[str, Any] = json.loads(json.dumps(asdict(spec)))
    return content
