"""Our services' images, really built and really used: the server inside, the client outside."""

import contextlib
import json
import os
import platform
import shutil
import subprocess
import sys
import time

import pytest

from testbed.images.build import build
from testbed.images.image import Image
from testbed.images.machine import apt_sources
from testbed.services.service import find_service

pytestmark = [
    pytest.mark.lab,
    pytest.mark.skipif(
        sys.platform != "linux" or os.geteuid() != 0, reason="building images needs root on Linux"
    ),
    pytest.mark.skipif(shutil.which("mmdebstrap") is None, reason="needs mmdebstrap"),
]
NAMES = ["simple", "face-detection", "ram", "yolo", "openface", "xonotic"]
PICTURES = ["face-detection", "yolo", "openface"]
REQUESTS = {"yolo": 8, "openface": 12}
MORE = {"xonotic": ["--game-port", "26123"]}
APART = [
    "setpriv",
    "--pdeathsig=KILL",
    "unshare",
    "--mount",
    "--pid",
    "--fork",
    "--kill-child",
    "sh",
    "-c",
]


@pytest.fixture(scope="module")
def images(cache):
    return {name: built(name, cache) for name in NAMES}


def built(name, cache, **more):
    with find_service(name).build_context(cache) as folder:
        return build(folder, cache=cache, name=name, **more)


@contextlib.contextmanager
def inside(image, command, folder=None):
    """A program in the image (read-only, no /proc), ``folder`` at its ``/mnt``."""
    lower = ":".join(str(path) for path in image.lowerdirs())
    script = f"mount -t overlay -o lowerdir={lower} overlay /media && "
    script += "mount --bind /dev /media/dev && mount -t tmpfs tmpfs /media/tmp && "
    script += f"mount --bind {folder} /media/mnt && " if folder else ""
    script += 'exec chroot /media env --chdir=/mnt "$0" "$@"'
    with subprocess.Popen(
        [*APART, script, *command], stdout=subprocess.PIPE, text=True, stdin=subprocess.DEVNULL
    ) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.fixture
def serve(images):
    """The image's server on a free port, instead of the source tree's."""
    with contextlib.ExitStack() as stack:

        def start(name, **options):
            command = find_service(name).server_command(options) + MORE.get(name, [])
            command[command.index("--port") + 1] = "0"
            process = stack.enter_context(inside(images[name], command))
            return int(process.stdout.readline())

        yield start


@pytest.mark.parametrize("name", NAMES)
def test_a_built_image_is_complete(images, name, cache):
    image = images[name]
    service = find_service(name)
    assert image == Image.load(cache, name)
    assert not image.missing_files()
    assert image.architecture == platform.machine()
    made = {layer.created_by: "base" if layer.base else "app" for layer in image.layers}
    assert service.expected_layers().items() <= made.items()
    assert image.config.exposed_ports == (f"{service.port}/{service.protocol}",)
    assert list(image.config.command) == service.server_command()[: len(image.config.command)]


def test_the_images_share_their_base(images):
    first, *others = images.values()
    for other in others:
        assert other.base_layers == first.base_layers
        assert other.layers[1] == first.layers[1]


def test_services_that_look_at_pictures_share_opencv(images):
    first, *others = [images[name].layers for name in PICTURES]
    opencv = next(layer for layer in first if "pip install" in layer.created_by)
    assert opencv.size_bytes > 100e6
    assert all(opencv in layers for layers in others)


@pytest.mark.parametrize("name", NAMES)
def test_a_second_build_does_nothing(images, name, cache, monkeypatch):
    monkeypatch.setattr(subprocess, "Popen", None)  # nothing can be started
    said = []
    began_s = time.monotonic()
    again = built(name, cache, progress=said.append)
    assert time.monotonic() - began_s < 1.0
    assert again == images[name]
    assert all(line.endswith("(cached)") for line in said)


@pytest.mark.parametrize("name", NAMES)
def test_nothing_of_this_machine_is_in_the_layers(images, name):
    empty = ["etc/resolv.conf", "etc/hosts", "etc/machine-id"]
    empty += ["etc/apt/sources.list"] if apt_sources("trixie") else []
    for layer in images[name].layers:
        folder = images[name].folder(layer)
        for left in ("dev", "tmp", "var/cache/apt", "var/lib/apt/lists", "root/.cache"):
            assert not (folder / left).exists() or not any((folder / left).iterdir()), left
        for file in empty:
            assert not (folder / file).exists() or (folder / file).stat().st_size == 0
        assert not list(folder.glob("**/pip.conf"))


@pytest.mark.parametrize("name", NAMES)
def test_the_image_answers_its_client_rightly(serve, use, name):
    requests = REQUESTS.get(name, 121)
    run = use(name, serve(name), "--requests", str(requests), "--interval-s", "0.005")
    assert run.code == 0, run.errors
    assert run.summary["answered"] == requests


def test_the_image_holds_and_rewrites_memory(serve, use):
    port = serve("simple", memory_mb=20, rewrite_mb_per_s=10)
    assert use("simple", port, "--requests", "100", "--interval-s", "0.01").code == 0


@pytest.mark.parametrize("name", NAMES)
def test_the_client_runs_on_debians_python(images, serve, client_folder, tmp_path, name):
    port = serve(name)
    shutil.copytree(client_folder(name), tmp_path / "user")
    command = find_service(name).client_command("127.0.0.1", port, 0.01)
    requests = REQUESTS.get(name, 50)
    command += ["--requests", str(requests), "--output", "rows.csv"]
    with inside(images["simple"], command, tmp_path / "user") as process:
        said, _ = process.communicate(timeout=30)
    assert json.loads(said)["answered"] == requests
    assert process.returncode == 0
    assert (tmp_path / "user" / "rows.csv").read_text().count("\n") == requests + 1
