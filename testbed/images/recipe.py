"""A Dockerfile, read into instructions: pure text in, frozen values out.

The edge's builder knows the instructions of a plain recipe: ``FROM RUN COPY ENV WORKDIR EXPOSE CMD
ENTRYPOINT USER LABEL ARG``. Anything else is refused with file, line and remedy, rather than
ignored.
"""

import json
import re
import shlex
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from testbed.errors import RecipeError


@dataclass(frozen=True)
class Instruction:
    """One instruction; ``line`` is where it starts, ``text`` what it says, in one line."""

    line: int
    text: str


@dataclass(frozen=True)
class From(Instruction):
    """The image everything is put upon."""

    image: str


@dataclass(frozen=True)
class Run(Instruction):
    """A command whose changes to files become a layer; a shell's words where ``shell``."""

    command: tuple[str, ...]
    shell: bool


@dataclass(frozen=True)
class Copy(Instruction):
    """Files of the recipe's folder, put into the image."""

    sources: tuple[str, ...]
    destination: str


@dataclass(frozen=True)
class Env(Instruction):
    """Variables of the environment, also while building."""

    variables: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Arg(Instruction):
    """A variable that exists only while building, with its default."""

    name: str
    default: str | None


@dataclass(frozen=True)
class Label(Instruction):
    """Words about the image."""

    labels: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Workdir(Instruction):
    """The folder in which later commands, and the container, run."""

    path: str


@dataclass(frozen=True)
class User(Instruction):
    """Who runs later commands, and the container: ``name`` or ``name:group``."""

    user: str


@dataclass(frozen=True)
class Expose(Instruction):
    """Ports on which the service listens, such as ``8000/tcp``."""

    ports: tuple[str, ...]


@dataclass(frozen=True)
class Cmd(Instruction):
    """What the container runs, or the arguments of its entry point."""

    command: tuple[str, ...]
    shell: bool


@dataclass(frozen=True)
class Entrypoint(Instruction):
    """What the container always runs."""

    command: tuple[str, ...]
    shell: bool


@dataclass(frozen=True)
class Recipe:
    """A whole recipe: the file and its instructions, of which the first makes the base."""

    path: Path
    instructions: tuple[Instruction, ...]

    @property
    def base(self) -> str:
        """The image named by ``FROM``, with the arguments' defaults filled in."""
        arguments: dict[str, str] = {}
        for instruction in self.instructions:
            if isinstance(instruction, Arg):
                arguments[instruction.name] = instruction.default or ""
            elif isinstance(instruction, From):
                return substitute(instruction.image, arguments)
        raise RecipeError(f"{self.path}: there is no FROM")  # pragma: no cover - parse checks it


def read_recipe(path: Path) -> Recipe:
    """Read the Dockerfile at ``path``.

    Raises
    ------
    RecipeError
        If it cannot be read or says something the builder does not know.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(f"{path}: cannot be read ({error}). A recipe is a text file") from error
    return parse_recipe(text, path)


def parse_recipe(text: str, path: Path = Path("Dockerfile")) -> Recipe:
    """Read the text of a Dockerfile; ``path`` is for messages.

    Raises
    ------
    RecipeError
        Naming file, line and remedy.
    """
    instructions = tuple(_instruction(path, line, said) for line, said in _logical_lines(text))
    first = next((i for i in instructions if not isinstance(i, Arg)), None)
    if not isinstance(first, From):
        where = f"{path}:{first.line}" if first else str(path)
        raise RecipeError(f"{where}: a recipe starts with FROM, such as `FROM debian:trixie-slim`")
    for instruction in instructions:
        if isinstance(instruction, From) and instruction is not first:
            raise RecipeError(
                f"{path}:{instruction.line}: a second FROM: stages are not supported; do the "
                "building and the cleaning up in one RUN"
            )
    return Recipe(path, instructions)


_VARIABLE = re.compile(
    r"\\(?P<escaped>\$)|\$(?:(?P<bare>[A-Za-z_]\w*)"
    r"|\{(?P<braced>[A-Za-z_]\w*)(?::(?P<rule>[-+])(?P<word>[^}]*))?\})"
)


def substitute(text: str, variables: dict[str, str]) -> str:
    r"""Fill in ``$NAME``, ``${NAME}``, ``${NAME:-default}`` and ``${NAME:+instead}``.

    An unknown name becomes nothing, as in a shell; ``\$`` stays a dollar sign.
    """

    def value(match: re.Match[str]) -> str:
        if match["escaped"]:
            return "$"
        found = variables.get(match["bare"] or match["braced"], "")
        if match["rule"] == "-":
            return found or match["word"]
        if match["rule"] == "+":
            return match["word"] if found else ""
        return found

    return _VARIABLE.sub(value, text)


_CONTINUED = re.compile(r"(?<!\\)\\[ \t]*$")


def _logical_lines(text: str) -> Iterator[tuple[int, str]]:
    """Instructions with continued lines joined; comments and empty lines between them dropped."""
    joined = ""
    start = 0
    for number, raw in enumerate(text.splitlines(), start=1):
        if not raw.strip() or raw.lstrip().startswith("#"):
            continue
        start = start if joined else number
        line = _CONTINUED.sub("", raw)
        joined += line
        if line == raw and joined.strip():
            yield start, joined.strip()
            joined = ""
    if joined.strip():
        yield start, joined.strip()


def _instruction(path: Path, line: int, text: str) -> Instruction:
    word, rest = (*text.split(maxsplit=1), "")[:2]
    reader = _READERS.get(word.upper())
    where = f"{path}:{line}"
    if reader is None:
        raise RecipeError(
            f"{where}: unknown instruction {word!r}; this builder knows {', '.join(_READERS)}. "
            f"{_REMEDIES.get(word.upper(), 'Remove the line or write it as a RUN')}"
        )
    if not rest:
        raise RecipeError(f"{where}: {word} says nothing; write what it is about after it")
    flag = re.match(r"--([\w-]+)", rest)
    if flag:
        raise RecipeError(
            f"{where}: {word} --{flag[1]} is not supported; remove it"
            + (" and set owner and mode in a RUN" if word.upper() == "COPY" else "")
        )
    return reader(where, line, " ".join([word.upper(), *rest.split()]), rest)


_REMEDIES = {
    "ADD": "Use COPY for files; unpack or download in a RUN",
    "MAINTAINER": "Use LABEL maintainer=...",
    "VOLUME": "Remove it: a service that moves keeps its data in its own root",
    "HEALTHCHECK": "Remove it: the user's own requests are the check",
    "SHELL": 'Write `RUN ["bash", "-c", "..."]` where another shell is needed',
    "STOPSIGNAL": "Let the service end on SIGTERM",
    "ONBUILD": "Write the instruction into the recipe itself",
}  # fmt: skip


def _from(where: str, line: int, text: str, rest: str) -> From:
    words = rest.split()
    named = len(words) == 3 and words[1].upper() == "AS"  # noqa: PLR2004 - IMAGE AS NAME
    if len(words) != 1 and not named:
        raise RecipeError(f"{where}: FROM names one image, such as `FROM debian:trixie-slim`")
    return From(line, text, words[0])


def _command(where: str, rest: str) -> tuple[tuple[str, ...], bool]:
    """A command in exec form (a JSON list) or, failing that, as a shell's words."""
    if rest.startswith("["):
        try:
            words = json.loads(rest)
        except ValueError:
            words = None
        if isinstance(words, list) and words and all(isinstance(word, str) for word in words):
            return tuple(words), False
        if not rest.startswith(("[ ", "[[ ")):
            raise RecipeError(
                f'{where}: not a JSON list of words: {rest!r}. Write ["program", "argument"] with '
                "double quotes, or leave the brackets out to use the shell"
            )
    if re.search(r"<<-?\s*['\"]?[A-Za-z_]\w*", rest):
        raise RecipeError(
            f"{where}: here-documents are not supported; COPY a file, or use printf in the RUN"
        )
    return (rest,), True


def _run(where: str, line: int, text: str, rest: str) -> Run:
    return Run(line, text, *_command(where, rest))


def _cmd(where: str, line: int, text: str, rest: str) -> Cmd:
    return Cmd(line, text, *_command(where, rest))


def _entrypoint(where: str, line: int, text: str, rest: str) -> Entrypoint:
    return Entrypoint(line, text, *_command(where, rest))


def _copy(where: str, line: int, text: str, rest: str) -> Copy:
    command, shell = _command(where, rest)
    words = tuple(_words(where, command[0])) if shell else command
    if len(words) < 2:  # noqa: PLR2004 - at least one source, and the destination
        raise RecipeError(f"{where}: COPY needs a source and a destination: `COPY server.py /app/`")
    *sources, destination = words
    if len(sources) > 1 and not destination.endswith("/"):
        raise RecipeError(
            f"{where}: COPY of several sources needs a folder: write {destination + '/'!r}"
        )
    for source in sources:
        if ".." in Path(source).parts:
            raise RecipeError(
                f"{where}: COPY {source}: leads out of the recipe's folder; put the file into it"
            )
    return Copy(line, text, tuple(source.lstrip("/") or "." for source in sources), destination)


def _words(where: str, rest: str) -> list[str]:
    r"""Split as a shell would, but keep ``\$`` for `substitute`."""
    try:
        return shlex.split(rest.replace("\\$", "\\\\$"), comments=False)
    except ValueError as error:
        raise RecipeError(
            f"{where}: {error}: {rest!r}. Close the quotation mark it opens"
        ) from error


def _pairs(where: str, word: str, rest: str) -> tuple[tuple[str, str], ...]:
    words = _words(where, rest)
    if "=" not in words[0]:  # the old form: NAME and all the rest
        name, _, value = rest.partition(" ")
        if not value.strip():
            raise RecipeError(f"{where}: {word} {name} has no value: `{word} {name}=value`")
        return ((name, value.strip()),)
    pairs = [pair.partition("=") for pair in words]
    for name, equals, _ in pairs:
        if not equals or not name:
            raise RecipeError(f"{where}: {word} {name!r}: every word is NAME=value; quote spaces")
    return tuple((name, value) for name, _, value in pairs)


def _env(where: str, line: int, text: str, rest: str) -> Env:
    return Env(line, text, _pairs(where, "ENV", rest))


def _label(where: str, line: int, text: str, rest: str) -> Label:
    return Label(line, text, _pairs(where, "LABEL", rest))


def _arg(where: str, line: int, text: str, rest: str) -> Arg:
    words = _words(where, rest)
    name, equals, default = words[0].partition("=")
    if len(words) != 1 or not name.isidentifier():
        raise RecipeError(f"{where}: ARG names one variable: `ARG NAME` or `ARG NAME=default`")
    return Arg(line, text, name, default if equals else None)


def _workdir(_where: str, line: int, text: str, rest: str) -> Workdir:
    return Workdir(line, text, rest.strip("\"'"))


def _user(where: str, line: int, text: str, rest: str) -> User:
    if len(rest.split()) != 1:
        raise RecipeError(f"{where}: USER names one user: `USER name` or `USER name:group`")
    return User(line, text, rest)


def _expose(where: str, line: int, text: str, rest: str) -> Expose:
    ports = []
    for word in rest.split():
        number, _, protocol = word.partition("/")
        literal = "$" not in word
        if literal and not (number.isdecimal() and protocol in {"", "tcp", "udp"}):
            raise RecipeError(f"{where}: EXPOSE {word}: write a number, or 8000/tcp or 8000/udp")
        ports.append(word if protocol or not literal else f"{number}/tcp")
    return Expose(line, text, tuple(ports))


_Reader = Callable[[str, int, str, str], Instruction]
_READERS: dict[str, _Reader] = {
    "FROM": _from,
    "RUN": _run,
    "COPY": _copy,
    "ENV": _env,
    "ARG": _arg,
    "LABEL": _label,
    "WORKDIR": _workdir,
    "USER": _user,
    "EXPOSE": _expose,
    "CMD": _cmd,
    "ENTRYPOINT": _entrypoint,
}
