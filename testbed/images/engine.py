"""Build an image with a Docker engine, through its SDK, and keep it as our own builder would.

The engine runs the recipe; its layers are then tidied and stored in the cache in the one form that
edges take (`testbed.images.image`). Where no registry can be reached, the base is made of Debian
packages, as without an engine, and given to it. What a build borrows from this machine (mirrors,
pip's settings) lies in an image in between and is no part of the result.
"""

import contextlib
import hashlib
import io
import json
import os
import platform
import re
import socket
import subprocess
import tarfile
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import docker
import docker.errors
import requests

from testbed.errors import ImageBuildError, UnsupportedMachineError
from testbed.images.base import base_version
from testbed.images.build import Progress, build, only_builder, quiet
from testbed.images.image import Image, Layer, layer_archive, layer_folder, write_whole
from testbed.images.layers import keep_layer, unpack_archive
from testbed.images.machine import LENT, Loan, borrow
from testbed.images.plan import plan_image
from testbed.images.recipe import From, Recipe, read_recipe

FORMAT = 1
LOCAL = "unix:///var/run/docker.sock"
LOAN = "/var/cache/testbed-loan"
_ANSWER_S = 10.0
_BUILD_S = 3600
_FAILURES = (docker.errors.DockerException, requests.RequestException)


def find_engine() -> Any | None:
    """A client of the engine that the environment names (DOCKER_HOST) or of the local one.

    ``None`` where none answers.
    """
    place = os.environ.get("DOCKER_HOST") or LOCAL
    try:
        if place.startswith("unix://"):  # the SDK leaves a socket open where there is none
            with socket.socket(socket.AF_UNIX) as door:
                door.connect(place.removeprefix("unix://"))
        with contextlib.closing(docker.from_env(timeout=_ANSWER_S)) as asking:
            asking.ping()
        return docker.from_env(timeout=_BUILD_S)
    except (*_FAILURES, OSError):
        return None


def build_with_engine(
    folder: Path,
    *,
    cache: Path,
    name: str,
    engine: Any,
    progress: Progress = quiet,
    output: Progress = quiet,
) -> Image:
    """Build the image of ``folder/Dockerfile`` with an engine, or find it built.

    Parameters
    ----------
    cache : Path
        The cache folder; images lie in its ``images/``.
    engine : docker.DockerClient
        As `find_engine` gives it.
    progress, output : callable
        Get a line for each step, and each line that a step prints.

    Raises
    ------
    RecipeError
        If the Dockerfile asks for something our own builder does not know: a recipe must do for
        both.
    ImageBuildError
        If a step fails; the message holds the end of its output.
    UnsupportedMachineError
        If layers cannot be unpacked here.
    """
    recipe = read_recipe(folder / "Dockerfile")
    plan = plan_image(recipe, folder, architecture=platform.machine(), base_version=base_version())
    key = hashlib.sha256(f"engine {FORMAT} {plan.sha256}".encode()).hexdigest()
    known = _find(cache, name, key)
    if known is not None:
        progress(f"{name}: built by the engine (cached)")
        return known
    if os.geteuid() != 0:
        raise UnsupportedMachineError("unpacking an image's layers needs root; run it with sudo")
    try:
        base, own_base = _base(engine, recipe.base, cache, progress, output)
        lent = _lend(engine, base, _loan(recipe.base, own=bool(own_base)))
        tag = f"testbed-{name}:{key[:12]}"
        _run_recipe(engine, folder, recipe, base=lent, tag=tag, progress=progress, output=output)
        with only_builder(cache):
            layers = _keep_layers(engine, recipe, base=base, lent=lent, tag=tag, cache=cache)
    except _FAILURES as error:
        raise ImageBuildError(f"{recipe.path}: the Docker engine: {error}. {_REMEDY}") from error
    image = Image(
        name=name,
        architecture=platform.machine(),
        layers=(*own_base, *layers) if own_base else tuple(layers),
        config=plan.config,
        recipe_sha256=key,
        cache=cache,
    )
    image.save()
    return image


_REMEDY = "TESTBED_BUILDER=own builds without it"


def _find(cache: Path, name: str, key: str) -> Image | None:
    try:
        image = Image.load(cache, name)
    except ImageBuildError:
        return None
    return image if image.recipe_sha256 == key and not image.missing_files() else None


def _base(
    engine: Any, base: str, cache: Path, progress: Progress, output: Progress
) -> tuple[str, tuple[Layer, ...]]:
    """The engine's name for the base image; and our layers of it, where it is of our own making."""
    try:
        engine.images.get(base)
    except docker.errors.ImageNotFound:
        try:
            progress(f"pulling {base}")
            engine.images.pull(base)
        except docker.errors.APIError:
            return _own_base(engine, base, cache, progress, output)
    return base, ()


def _own_base(
    engine: Any, base: str, cache: Path, progress: Progress, output: Progress
) -> tuple[str, tuple[Layer, ...]]:
    """Make the base of packages and give it to the engine."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "Dockerfile").write_text(f"FROM {base}\n", encoding="utf-8")
        name = re.sub(r"[^a-z0-9._-]", "-", base)
        made = build(Path(folder), cache=cache, name=name, progress=progress, output=output)
    (layer,) = made.layers
    tag = f"testbed-base:{layer.digest[:12]}"
    try:
        engine.images.get(tag)
    except docker.errors.ImageNotFound:
        command = ["zstd", "-dcq", str(made.archive(layer))]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as archive:
            engine.api.import_image_from_data(
                archive.stdout, repository=tag.partition(":")[0], tag=tag.partition(":")[2]
            )
        engine.images.get(tag)
    return tag, made.layers


def _loan(base: str, *, own: bool) -> Loan:
    """What a build may borrow; a base from a registry keeps its own package sources."""
    loan = borrow(base.partition(":")[2].partition("-")[0])
    return loan if own else Loan(loan.env, loan.binds)


def plan_lending(base: str, loan: Loan) -> tuple[str, dict[str, bytes]]:
    """Recipe and files of the image in between: the base with what is lent.

    An engine can bind nothing into a build, so files are copied. Folders (of wheels, say) are not
    lent, and words that name them are left out.
    """
    files = {there: Path(here) for here, there in loan.binds if Path(here).is_file()}
    contents = {there.removeprefix(f"{LENT}/"): path.read_bytes() for there, path in files.items()}
    lines = [f"FROM {base}"]
    if contents:
        lines += [f"COPY {name} {LOAN}/{name}" for name in contents]
    if loan.apt_sources is not None:
        contents["sources.list"] = loan.apt_sources.encode()
        lines.append("COPY sources.list /etc/apt/sources.list")
    for name, value in loan.env.items():
        words = [
            word.replace(LENT, LOAN)
            for word in value.split(" ")
            if LENT not in word or word.removeprefix("file://") in files
        ]
        if words:
            lines.append(f"ENV {name}={json.dumps(' '.join(words))}")
    return "\n".join(lines) + "\n", contents


def _lend(engine: Any, base: str, loan: Loan) -> str:
    recipe, contents = plan_lending(base, loan)
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as context:
        for name, content in {**contents, "Dockerfile": recipe.encode()}.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), 0o644
            context.addfile(entry, io.BytesIO(content))
    digest = hashlib.sha256(packed.getvalue()).hexdigest()
    tag = f"testbed-lent:{digest[:12]}"
    try:
        engine.images.get(tag)
    except docker.errors.ImageNotFound:
        packed.seek(0)
        engine.images.build(fileobj=packed, custom_context=True, tag=tag, rm=True)
    return tag


def _run_recipe(
    engine: Any,
    folder: Path,
    recipe: Recipe,
    *,
    base: str,
    tag: str,
    progress: Progress,
    output: Progress,
) -> None:
    """Have the engine run the recipe upon ``base``."""
    text = recipe.path.read_text(encoding="utf-8")
    upon = re.sub(r"(?im)^(\s*FROM)\s+\S+", rf"\g<1> {base}", text, count=1)
    tail: list[str] = []
    with tempfile.TemporaryDirectory() as outside:
        dockerfile = Path(outside) / "Dockerfile"
        dockerfile.write_text(upon, encoding="utf-8")
        for said in engine.api.build(
            path=str(folder),
            dockerfile=str(dockerfile),
            tag=tag,
            rm=True,
            forcerm=True,
            decode=True,
            network_mode="host",
        ):
            if "error" in said:
                end = "\n".join([*tail, said["error"]])[-3000:]
                raise ImageBuildError(
                    f"{recipe.path}: the Docker engine could not build it; the end of the "
                    f"output:\n{end.rstrip()}\nCorrect the step; the steps before it are kept. "
                    f"{_REMEDY}"
                )
            for line in str(said.get("stream", "")).splitlines():
                if line.startswith("Step "):
                    progress(f"{tag.partition(':')[0]}: {line.partition(' : ')[2]}")
                elif line.strip():
                    tail = [*tail[-40:], line]
                    output(line)


def _keep_layers(
    engine: Any, recipe: Recipe, *, base: str, lent: str, tag: str, cache: Path
) -> list[Layer]:
    """Store the engine's layers in the cache, but for those that are lent or of our own making."""
    made = engine.images.get(tag)
    diffs: list[str] = made.attrs["RootFS"]["Layers"]
    below = len(engine.images.get(lent).attrs["RootFS"]["Layers"])
    of_base = 0 if base.startswith("testbed-base:") else len(
        engine.images.get(base).attrs["RootFS"]["Layers"]
    )  # fmt: skip
    said = [i.text for i in recipe.instructions if not isinstance(i, From)]
    history = list(reversed(made.history()))[-len(said) :]
    texts = [text for text, entry in zip(said, history, strict=False) if _makes_layer(entry, text)]
    if len(texts) != len(diffs) - below:
        texts = [f"layer {number}" for number in range(len(diffs) - below)]
    wanted = [(diff, recipe.instructions[0].text, True) for diff in diffs[:of_base]]
    wanted += [(diff, text, False) for diff, text in zip(diffs[below:], texts, strict=True)]
    if all(_remembered(cache, diff) is not None for diff, _, _ in wanted):
        found = [(_remembered(cache, diff) or [None])[0] for diff, _, _ in wanted]
        return [layer for layer in found if layer is not None]
    layers = []
    with tempfile.TemporaryDirectory(dir=cache / "images") as work, _saved(made, work) as archive:
        (manifest,) = json.loads(_member(archive, "manifest.json"))
        names = dict(zip(diffs, manifest["Layers"], strict=True))
        for number, (diff, text, is_base) in enumerate(wanted):
            known = _remembered(cache, diff)
            if known is None:
                home = Path(work) / str(number)
                (home / "upper").mkdir(parents=True)
                archive.extract(names[diff], home, filter="data")
                unpack_archive(home / names[diff], home / "upper")
                known = [keep_layer(cache, home / "upper", home, created_by=text, base=is_base)]
                kept = asdict(known[0]) if known[0] else None
                write_whole(_record(cache, diff), json.dumps(kept) + "\n")
            if known[0] is not None:
                layers.append(known[0])
    return layers


def _makes_layer(entry: dict[str, Any], text: str) -> bool:
    """Whether an entry of the engine's history changed files."""
    return bool(entry["Size"]) or text.split(maxsplit=1)[0] in {"RUN", "COPY", "WORKDIR"}


def _saved(image: Any, work: str) -> tarfile.TarFile:
    """The engine's own archive of an image."""
    path = Path(work) / "image.tar"
    with path.open("wb") as file:
        for chunk in image.save():
            file.write(chunk)
    return tarfile.open(path)


def _member(archive: tarfile.TarFile, name: str) -> bytes:
    file = archive.extractfile(name)
    if file is None:
        raise ImageBuildError(f"the engine's archive has no {name}. {_REMEDY}")
    with file:
        return file.read()


def _record(cache: Path, diff: str) -> Path:
    return cache / "images" / "engine" / f"{diff.partition(':')[2]}.json"


def _remembered(cache: Path, diff: str) -> list[Layer | None] | None:
    """Our layer of an engine's layer, in a list; ``None`` where it was not stored yet."""
    try:
        found = json.loads(_record(cache, diff).read_text(encoding="utf-8"))
        layer = Layer(**found) if found else None
    except (OSError, ValueError, TypeError):
        return None
    if layer is not None and not (
        layer_archive(cache, layer.digest).is_file() and layer_folder(cache, layer.digest).is_dir()
    ):
        return None
    return [layer]
