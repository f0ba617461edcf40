"""Build an image of a folder with a Dockerfile, on a machine without a Docker engine.

Every step that changes files becomes a layer and is remembered under the hash of all that went into
it: a second build touches nothing and needs no network. An engine's own builder may stand in for
this one, as long as it leaves an `Image` in the cache.
"""

import contextlib
import fcntl
import json
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from testbed.errors import ImageBuildError, UnsupportedMachineError
from testbed.images.base import base_version, find_base, plan_base
from testbed.images.image import (
    Image,
    Layer,
    layer_archive,
    layer_folder,
    manifest_path,
    write_whole,
)
from testbed.images.layers import keep_layer
from testbed.images.machine import Loan, apt_sources, borrow
from testbed.images.plan import BaseStep, CommandStep, CopyStep, Step, plan_image
from testbed.images.recipe import read_recipe
from testbed.images.room import Room, lend_files, plan_command, plan_copy, run_apart, run_in_room

Progress = Callable[[str], None]
_TOOLS = {"mmdebstrap": "mmdebstrap", "zstd": "zstd", "setpriv": "util-linux", "mount": "mount"}


def quiet(_: str) -> None:
    """Say nothing."""


def build(
    folder: Path,
    *,
    cache: Path,
    name: str | None = None,
    progress: Progress = quiet,
    output: Progress = quiet,
) -> Image:
    """Build the image of ``folder/Dockerfile``, or find it built.

    Parameters
    ----------
    cache : Path
        The cache folder; images lie in its ``images/``. Two builds at once wait for each other.
    name : str, optional
        The image's name; by default the folder's, with dashes.
    progress : callable
        Gets a line for each step.
    output : callable
        Gets each line that a step prints.

    Raises
    ------
    RecipeError
        If the Dockerfile asks for something this builder does not know.
    ImageBuildError
        If a step fails; the message holds the end of its output.
    UnsupportedMachineError
        If something is to be built and this machine cannot.
    """
    recipe = read_recipe(folder / "Dockerfile")
    plan = plan_image(recipe, folder, architecture=platform.machine(), base_version=base_version())
    name = name or folder.resolve().name.replace("_", "-").lower()
    manifest_path(cache, name)  # refuses a name that cannot be one, before anything is done
    with only_builder(cache):
        builder = _Builder(cache.resolve(), name, progress, output)
        for step in plan.steps:
            builder.take(step)
        image = Image(
            name=name,
            architecture=platform.machine(),
            layers=tuple(builder.layers),
            config=plan.config,
            recipe_sha256=plan.sha256,
            cache=cache,
        )
        if builder.built or not _same(image):
            image.save()
    return image


def _same(image: Image) -> bool:
    try:
        return Image.load(image.cache, image.name) == image
    except ImageBuildError:
        return False


@dataclass(frozen=True)
class _Record:
    """What a step gave: a layer, or nothing where it changed nothing."""

    layer: Layer | None


class _Builder:
    """Takes one step after another and collects layers."""

    def __init__(self, cache: Path, name: str, progress: Progress, output: Progress) -> None:
        self.layers: list[Layer] = []
        self.built = 0
        self._cache, self._name = cache, name
        self._progress, self._output = progress, output
        self._suite = ""
        self._loan: Loan | None = None

    def take(self, step: Step) -> None:
        if isinstance(step, BaseStep):
            self._suite = find_base(step.image, step.where).suite
        record = _remembered(self._cache, step)
        if record is None:
            _require_a_machine_that_can()
            self._progress(f"{self._name}: {step.text}")
            record = _Record(self._make(step))
            write_whole(_step_path(self._cache, step), json.dumps(asdict(record)) + "\n")
            self.built += 1
        else:
            self._progress(f"{self._name}: {step.text} (cached)")
        if record.layer is not None:
            self.layers.append(record.layer)

    def _make(self, step: Step) -> Layer | None:
        home = self._cache / "images"
        with _work_folder(home) as work:
            room = Room(home, tuple(f"layers/{layer.digest}" for layer in self.layers), work)
            room.make()
            self._run(room, step)
            return keep_layer(
                self._cache,
                room.upper,
                home / work,
                created_by=step.text,
                base=isinstance(step, BaseStep),
            )

    def _run(self, room: Room, step: Step) -> None:
        if isinstance(step, BaseStep):
            command = plan_base(
                find_base(step.image, step.where), str(room.upper), apt_sources(self._suite)
            )
            run_apart(
                command,
                home=room.home,
                env=dict(os.environ),
                where=step.where,
                text=step.text,
                say=self._output,
            )
            return
        if isinstance(step, CopyStep):
            lend_files(room, step)
            argv, env, loan = plan_copy(room, step), {}, Loan({})
        elif isinstance(step, CommandStep):
            self._loan = loan = self._loan or borrow(self._suite)
            argv, env = plan_command(room, step), {"HOME": "/root", **loan.env, **step.env}
        else:  # pragma: no cover - there are three kinds
            raise ImageBuildError(f"{step.where}: {step.text}: the builder cannot do this")
        run_in_room(
            room,
            loan,
            argv,
            env={
                **env,
                "PATH": os.environ.get("PATH", os.defpath),
                "LIBMOUNT_FORCE_MOUNT2": "always",
            },
            where=step.where,
            text=step.text,
            say=self._output,
        )


def _step_path(cache: Path, step: Step) -> Path:
    return cache / "images" / "steps" / f"{step.key}.json"


def _remembered(cache: Path, step: Step) -> _Record | None:
    """What the step gave when it was last run; ``None`` where it, or its layer, is not there."""
    try:
        found = json.loads(_step_path(cache, step).read_text(encoding="utf-8"))["layer"]
        layer = Layer(**{**found, "created_by": step.text}) if found else None
    except (OSError, ValueError, KeyError, TypeError):
        return None
    if layer is not None and not (
        layer_archive(cache, layer.digest).is_file() and layer_folder(cache, layer.digest).is_dir()
    ):
        return None
    return _Record(layer)


@contextlib.contextmanager
def only_builder(cache: Path) -> Iterator[None]:
    """Hold the cache's lock: one build at a time."""
    home = cache / "images"
    try:
        home.mkdir(parents=True, exist_ok=True)
        lock = (home / ".lock").open("w")
    except OSError as error:
        raise ImageBuildError(
            f"{home}: cannot be written ({error.strerror}); set TESTBED_CACHE to a folder of yours"
        ) from error
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        shutil.rmtree(home / "work", ignore_errors=True)  # of a builder that was killed
        yield


@contextlib.contextmanager
def _work_folder(home: Path) -> Iterator[str]:
    """A folder for one step, relative to ``home``."""
    work = home / "work"
    work.mkdir()
    name = tempfile.mkdtemp(dir=work)
    Path(name).chmod(0o755)
    try:
        yield f"work/{Path(name).name}"
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _require_a_machine_that_can() -> None:
    if sys.platform != "linux" or os.geteuid() != 0:
        raise UnsupportedMachineError(
            "building an image needs root on Linux (overlay mounts, chroot); run it with sudo"
        )
    missing = sorted({package for tool, package in _TOOLS.items() if shutil.which(tool) is None})
    if missing:
        raise UnsupportedMachineError(
            f"building an image needs programs that are not installed: "
            f"`apt-get install {' '.join(missing)}`"
        )
