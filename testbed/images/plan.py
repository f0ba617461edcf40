"""What must be done to make an image of a recipe, and under which key each step is remembered.

A step's key is the hash of the step before it, of what the step says and of the content of the
files it copies. The same key gives the same layer, so a step that is in the cache is never run
again.
"""

import hashlib
import json
import posixpath
import stat
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

from testbed.errors import RecipeError
from testbed.images.image import ImageConfig
from testbed.images.recipe import (
    Arg,
    Cmd,
    Copy,
    Entrypoint,
    Env,
    Expose,
    From,
    Instruction,
    Label,
    Recipe,
    Run,
    User,
    Workdir,
    substitute,
)

FORMAT = 1
"""Raise it when the same recipe is to give another image than before."""

SHELL = ("/bin/sh", "-c")
DEFAULT_ENV = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}


@dataclass(frozen=True)
class Step:
    """One change of the file system; ``text`` is the instruction, ``where`` its file and line."""

    key: str
    text: str
    where: str


@dataclass(frozen=True)
class BaseStep(Step):
    """Make or find the image named by ``FROM``."""

    image: str


@dataclass(frozen=True)
class CommandStep(Step):
    """Run a program inside the image."""

    argv: tuple[str, ...]
    env: dict[str, str]
    workdir: str
    user: str


@dataclass(frozen=True)
class CopiedFile:
    """A file, link or folder on its way into the image; ``name`` is below the destination."""

    name: str
    source: Path


@dataclass(frozen=True)
class CopyStep(Step):
    """Put files into the image; ``into`` says that the destination is a folder."""

    files: tuple[CopiedFile, ...]
    destination: str
    into: bool


@dataclass(frozen=True)
class ImagePlan:
    """Steps in order, how the container is started, and the hash of all of it."""

    steps: tuple[Step, ...]
    config: ImageConfig
    sha256: str


@dataclass
class _Progress:
    """What has been said so far while a recipe is read from top to bottom."""

    key: str = ""
    arguments: dict[str, str] = field(default_factory=dict)
    config: ImageConfig = field(default_factory=lambda: ImageConfig(env=dict(DEFAULT_ENV)))
    steps: list[Step] = field(default_factory=list)

    @property
    def variables(self) -> dict[str, str]:
        return {**self.arguments, **self.config.env}


def plan_image(
    recipe: Recipe, folder: Path, *, architecture: str, base_version: str = ""
) -> ImagePlan:
    """Work out the steps for a recipe; reads the files it copies, touches nothing.

    Parameters
    ----------
    architecture : str
        As `platform.machine` says; images of two architectures have nothing in common.
    base_version : str
        Changes when base images are made in another way.

    Raises
    ------
    RecipeError
        If a file to be copied does not exist or leads out of the folder.
    """
    so_far = _Progress()
    for instruction in recipe.instructions:
        where = f"{recipe.path}:{instruction.line}"
        if isinstance(instruction, From):
            image = substitute(instruction.image, so_far.arguments)
            so_far.key = _hash([FORMAT, "FROM", image, architecture, base_version])
            so_far.steps.append(BaseStep(so_far.key, f"FROM {image}", where, image))
            so_far.arguments = {}
        elif isinstance(instruction, Run):
            argv = (*SHELL, *instruction.command) if instruction.shell else instruction.command
            _add_command(so_far, instruction.text, where, argv)
        elif isinstance(instruction, Copy):
            _add_copy(so_far, instruction, where, folder)
        elif isinstance(instruction, Workdir):
            _add_workdir(so_far, instruction, where)
        else:
            _configure(so_far, instruction, where)
    config = so_far.config
    words = [so_far.key, config.env, config.workdir, config.cmd, config.entrypoint, config.user]
    sha256 = _hash([*words, config.exposed_ports, config.labels])
    return ImagePlan(tuple(so_far.steps), config, sha256)


def _configure(so_far: _Progress, instruction: Instruction, where: str) -> None:
    """Take up an instruction that says how commands and the container are run."""
    config = so_far.config

    def filled(text: str) -> str:
        return substitute(text, so_far.variables)

    def argv(said: Cmd | Entrypoint) -> tuple[str, ...]:
        return (*SHELL, *said.command) if said.shell else said.command

    match instruction:
        case Arg():
            so_far.arguments[instruction.name] = filled(instruction.default or "")
        case Env():
            said = {filled(name): filled(value) for name, value in instruction.variables}
            so_far.config = replace(config, env={**config.env, **said})
        case Label():
            labels = {filled(name): filled(value) for name, value in instruction.labels}
            so_far.config = replace(config, labels={**config.labels, **labels})
        case User():
            so_far.config = replace(config, user=filled(instruction.user))
        case Expose():
            ports = [filled(port) for port in instruction.ports]
            ports = [port if "/" in port else f"{port}/tcp" for port in ports]
            known = config.exposed_ports
            so_far.config = replace(config, exposed_ports=tuple(dict.fromkeys([*known, *ports])))
        case Cmd():
            so_far.config = replace(config, cmd=argv(instruction))
        case Entrypoint():
            so_far.config = replace(config, entrypoint=argv(instruction))
        case _:  # pragma: no cover - the parser knows no others
            raise RecipeError(f"{where}: {instruction.text}: not known to the planner")


def _add_command(so_far: _Progress, text: str, where: str, argv: tuple[str, ...]) -> None:
    config, env = so_far.config, so_far.variables
    so_far.key = _hash([so_far.key, "RUN", argv, env, config.workdir, config.user])
    so_far.steps.append(
        CommandStep(so_far.key, text, where, argv, env, config.workdir, config.user)
    )


def _add_workdir(so_far: _Progress, instruction: Workdir, where: str) -> None:
    config = so_far.config
    path = _absolute(substitute(instruction.path, so_far.variables), config.workdir)
    so_far.config = replace(config, workdir="/", user="")
    _add_command(so_far, instruction.text, where, ("/bin/mkdir", "-p", path))
    so_far.config = replace(config, workdir=path)


def _add_copy(so_far: _Progress, instruction: Copy, where: str, folder: Path) -> None:
    said = substitute(instruction.destination, so_far.variables)
    sources = [substitute(source, so_far.variables) for source in instruction.sources]
    found = [path for source in sources for path in _matching(where, folder, source)]
    into = said.endswith(("/", "/.")) or said == "." or len(found) > 1 or found[0].is_dir()
    files: list[CopiedFile] = []
    for path in found:
        files.extend(_below(path) if path.is_dir() else [CopiedFile(path.name, path)])
    files = list({file.name: file for file in files}.values())  # the last of a name wins
    destination = _absolute(said, so_far.config.workdir)
    described = [(file.name, *_describe(file.source)) for file in files]
    so_far.key = _hash([so_far.key, "COPY", destination, into, described])
    so_far.steps.append(
        CopyStep(so_far.key, instruction.text, where, tuple(files), destination, into)
    )


def _matching(where: str, folder: Path, source: str) -> list[Path]:
    """Files and folders that a source of a COPY stands for, sorted."""
    if PurePosixPath(source) == PurePosixPath("."):
        return [folder]
    found = sorted(path for path in folder.glob(source) if path.name != "__pycache__")
    if not found:
        raise RecipeError(f"{where}: there is no {source!r} in {folder}; check the name")
    for path in found:
        if not path.resolve().is_relative_to(folder.resolve()):
            raise RecipeError(f"{where}: {source!r} leads out of {folder}; put the file into it")
    return found


def _below(folder: Path) -> list[CopiedFile]:
    """Everything below a folder, parents first, without what Python leaves there."""
    return [
        CopiedFile(path.relative_to(folder).as_posix(), path)
        for path in sorted(folder.rglob("*"))
        if "__pycache__" not in path.relative_to(folder).parts
    ]


def _describe(path: Path) -> tuple[str, int, str]:
    """Kind, mode and content of a file, as far as they matter to the image."""
    status = path.lstat()
    if stat.S_ISLNK(status.st_mode):
        return "link", 0, str(path.readlink())
    mode = stat.S_IMODE(status.st_mode)
    if stat.S_ISDIR(status.st_mode):
        return "folder", mode, ""
    return "file", mode, hashlib.sha256(path.read_bytes()).hexdigest()


def _absolute(path: str, workdir: str) -> str:
    return posixpath.normpath(posixpath.join(workdir, path))


def _hash(words: list[object]) -> str:
    said = json.dumps(words, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(said.encode()).hexdigest()
