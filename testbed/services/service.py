"""What the rest of the testbed knows of an offloaded application.

A service is one folder with ``Dockerfile``, ``server.py`` and ``client.py``, described by a
`Service` under an entry point of the group ``testbed.services``. Nothing else has to change for a
service of one's own.
"""

import difflib
import hashlib
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from importlib.metadata import entry_points
from pathlib import Path

from testbed.errors import ServiceError
from testbed.images.recipe import Copy, From, Run, read_recipe
from testbed.scenario import Tier
from testbed.services.context import (
    CLIENT_MODULES,
    MODELS,
    SERVER_MODULES,
    OwnFile,
    copy_modules,
    sha256_of,
    write_context,
)
from testbed.services.memory import MemoryBehaviour

GROUP = "testbed.services"
Value = float | int | str


@dataclass(frozen=True)
class Needs:
    """What a service asks of the edge that holds it.

    memory_mb : resident, with what it needs at its start. cores : busy while it answers.
    latency : the farthest tier that still serves it well (MSMF, section 4.2: a task's level).
    """

    memory_mb: float
    cores: float = 1.0
    latency: Tier = "local"


@dataclass(frozen=True)
class Service:
    """An offloaded application.

    name : as in a scenario's ``kind``.
    folder : holds ``Dockerfile``, ``server.py`` and ``client.py``.
    port, protocol : where the server listens inside its container.
    server_options, client_options : options with their defaults; ``memory_mb`` is given to the
        program as ``--memory-mb``. A default's type is the option's.
    write_inputs : ``write_inputs(folder, cache)`` writes what the client needs besides its program.
    interval_s : time between two requests that suits it, seconds.
    modules, shared : modules of the testbed that the server imports besides those all have, and
        that both programs do.
    own_files : files of the user's that the image is built with where they are there.
    write_models : ``write_models(folder, cache, own)`` writes the other files that the image is
        built with; ``own`` says where the user's are.
    needs : what it asks of an edge; ``None`` where nobody has said.
    """

    name: str
    folder: Path
    port: int
    protocol: str = "tcp"
    server_options: Mapping[str, Value] = field(default_factory=dict)
    client_options: Mapping[str, Value] = field(default_factory=dict)
    write_inputs: Callable[[Path, Path], None] | None = None
    interval_s: float = 0.02
    modules: tuple[str, ...] = ()
    shared: tuple[str, ...] = ()
    own_files: tuple[OwnFile, ...] = ()
    write_models: Callable[[Path, Path, Mapping[str, Path]], None] | None = None
    needs: Needs | None = None

    @cached_property
    def memory(self) -> MemoryBehaviour:
        """How its memory behaves, as measured.

        Raises
        ------
        ServiceError
            If it was not measured.
        """
        return MemoryBehaviour.read(self.folder)

    def server_command(self, options: Mapping[str, Value] | None = None) -> list[str]:
        """Argument list that starts the server inside its container.

        Raises
        ------
        ServiceError
            If an option is unknown or of the wrong kind.
        """
        chosen = self._chosen(options, self.server_options)
        return ["python3", "/app/server.py", "--port", str(self.port), *_flags(chosen)]

    def client_command(
        self,
        address: str,
        port: int,
        interval_s: float,
        options: Mapping[str, Value] | None = None,
    ) -> list[str]:
        """Argument list that starts the client, in the folder that `prepare_inputs` filled.

        Add ``--output FILE`` for its rows, ``--reconnect`` to survive a broken connection.

        Raises
        ------
        ServiceError
            If an option is unknown or of the wrong kind.
        """
        chosen = self._chosen(options, self.client_options)
        where = ["--address", address, "--port", str(port), "--interval-s", repr(float(interval_s))]
        return ["python3", "client.py", *where, *_flags(chosen)]

    def prepare_inputs(self, folder: Path, *, cache: Path) -> None:
        """Write all that the user's host needs into ``folder``: client, its modules, its inputs.

        Raises
        ------
        ServiceError
            If something is needed that cannot be had.
        """
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(self.folder / "client.py", folder / "client.py")
        copy_modules((*CLIENT_MODULES, *self.shared), folder)
        if self.write_inputs is not None:
            with self._cache_errors(cache):
                self.write_inputs(folder / "inputs", cache)

    @contextmanager
    def build_context(
        self, cache: Path, options: Mapping[str, Value] | None = None
    ) -> Iterator[Path]:
        """A temporary folder with the recipe and everything it copies, to build an image of.

        Raises
        ------
        ServiceError
            If a file of the user's that an option names is not there or is another one, or a model
            cannot be had.
        """
        files = self._own_files(options)
        with tempfile.TemporaryDirectory(prefix=f"{self.name}-") as folder:
            context = Path(folder) / "context"
            write_context(
                context, self.folder, (*SERVER_MODULES, *self.modules, *self.shared), files
            )
            if self.write_models is not None:
                with self._cache_errors(cache):
                    self.write_models(context / MODELS, cache, files)
            yield context

    def image_name(self, options: Mapping[str, Value] | None = None) -> str:
        """Name of its image: another one where other files of the user's go into it."""
        files = self._own_files(options)
        if not files:
            return self.name
        words = sorted((name, sha256_of(path)) for name, path in files.items())
        return f"{self.name}-{hashlib.sha256(repr(words).encode()).hexdigest()[:8]}"

    @contextmanager
    def _cache_errors(self, cache: Path) -> Iterator[None]:
        try:
            yield
        except ServiceError:
            raise
        except OSError as error:
            raise ServiceError(
                f"service {self.name!r}: its inputs cannot be written: {error}. "
                f"Is {cache} a folder of yours? TESTBED_CACHE names another"
            ) from error

    def _own_files(self, options: Mapping[str, Value] | None) -> dict[str, Path]:
        chosen = self._chosen(options, {file.option: "" for file in self.own_files})
        found = {file.name: file.find(str(chosen[file.option])) for file in self.own_files}
        return {name: path for name, path in found.items() if path is not None}

    def expected_layers(self) -> dict[str, str]:
        """Instructions that make layers, and of which kind: ``base`` or ``app``."""
        recipe = read_recipe(self.folder / "Dockerfile")
        return {
            said.text: "base" if isinstance(said, From) else "app"
            for said in recipe.instructions
            if isinstance(said, From | Run | Copy)
        }

    def _chosen(
        self, options: Mapping[str, Value] | None, defaults: Mapping[str, Value]
    ) -> dict[str, Value]:
        """Defaults with what was asked for put over them; options of the other side are let by."""
        own = {file.option: "" for file in self.own_files}
        every = {**self.server_options, **self.client_options, **own}
        chosen = dict(defaults)
        for name, value in (options or {}).items():
            if name not in every:
                close = difflib.get_close_matches(name, every, n=1)
                hint = f"did you mean {close[0]!r}?" if close else f"it has: {', '.join(every)}"
                raise ServiceError(f"service {self.name!r} has no option {name!r}; {hint}")
            fitting = _fitting(value, every[name])
            if fitting is None:
                raise ServiceError(
                    f"service {self.name!r}: option {name!r} is {value!r}; write "
                    f"{_KINDS[type(every[name])]}, such as {every[name]!r}"
                )
            if name in defaults:
                chosen[name] = fitting
        return chosen


_KINDS = {int: "a whole number", float: "a number", str: "a text"}


def _fitting(value: Value, default: Value) -> Value | None:
    """The value as the default's type; ``None`` where it cannot be that."""
    if isinstance(default, str) or isinstance(value, str | bool):
        return value if isinstance(value, str) and isinstance(default, str) else None
    if isinstance(default, int):
        return int(value) if value == int(value) else None
    return float(value)


def _flags(options: Mapping[str, Value]) -> list[str]:
    return [word for name, value in options.items() for word in (_flag(name), str(value))]


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def service_names() -> list[str]:
    """Names of all services that are installed, ours and the user's own."""
    return sorted({point.name for point in entry_points(group=GROUP)})


def find_service(name: str) -> Service:
    """The service of this name.

    Raises
    ------
    ServiceError
        If there is none, or it cannot be loaded.
    """
    found = list(entry_points(group=GROUP, name=name))
    if not found:
        known = service_names()
        close = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"there are: {', '.join(known)}"
        raise ServiceError(
            f"there is no service {name!r}; {hint}. One of your own needs an entry point in the "
            f"group {GROUP}"
        )
    try:
        service = found[0].load()
    except (ImportError, AttributeError) as error:
        raise ServiceError(
            f"service {name!r} ({found[0].value}) cannot be loaded: {error}. Is its package "
            "installed whole?"
        ) from error
    if not isinstance(service, Service):
        raise ServiceError(f"{found[0].value} is a {type(service).__name__}, not a Service")
    return service
