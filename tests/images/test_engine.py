import contextlib
import hashlib
import io
import os
import shutil
import stat
import sys
import tarfile
from pathlib import Path
from types import SimpleNamespace

import docker.errors
import pytest

from testbed.errors import ImageBuildError, RecipeError
from testbed.images import engine as engine_module
from testbed.images import make
from testbed.images.build import build
from testbed.images.engine import build_with_engine, find_engine, plan_lending
from testbed.images.image import Image, Layer
from testbed.images.layers import is_opaque, is_whiteout
from testbed.images.machine import Loan

as_root = pytest.mark.skipif(
    sys.platform != "linux" or os.geteuid() != 0, reason="unpacking layers needs root on Linux"
)
RECIPE = """FROM debian:trixie-slim
RUN rm /etc/issue && rm -r /usr/share/zoneinfo && mkdir -m 700 /usr/share/zoneinfo && \\
    echo cached > /var/cache/apt/x && echo gone > /tmp/x
ENV GREETING=hello
WORKDIR /app
COPY program /app/
CMD ["/app/program"]
"""


def packed(entries):
    """A layer archive of names and contents; a name with a slash at its end is a folder."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        for name, content in entries.items():
            entry = tarfile.TarInfo(name.rstrip("/"))
            entry.mode, entry.size = 0o755, len(content)
            entry.type = tarfile.DIRTYPE if name.endswith("/") else tarfile.REGTYPE
            archive.addfile(entry, io.BytesIO(content))
    return file.getvalue()


BASE = [packed({"etc/": b"", "etc/issue": b"Debian"})]
LENT = [packed({"etc/apt/": b"", "etc/apt/sources.list": b"a mirror of this machine"})]
MADE = [
    packed({"etc/": b"", "etc/.wh.issue": b"", "usr/": b"", "usr/zone/": b"",
            "usr/zone/.wh..wh..opq": b"", "tmp/": b"", "tmp/x": b"gone"}),
    packed({"app/": b""}),
    packed({"app/": b"", "app/program": b"#!/bin/sh\n"}),
]  # fmt: skip


class Made(SimpleNamespace):
    """An image of the fake engine."""

    @property
    def attrs(self):
        diffs = ["sha256:" + hashlib.sha256(layer).hexdigest() for layer in self.layers]
        return {"RootFS": {"Layers": diffs}}

    def history(self):
        sizes = [1] * 2 + [1, 0, 0, 1, 0]  # below; then RUN, ENV, WORKDIR, COPY, CMD
        return [{"Size": size} for size in reversed(sizes)]

    def save(self):
        manifest = [{"Layers": [f"{number}/layer.tar" for number in range(len(self.layers))]}]
        names = {f"{number}/layer.tar": layer for number, layer in enumerate(self.layers)}
        yield packed({**names, "manifest.json": repr(manifest).replace("'", '"').encode()})


class Engine:
    """Answers as an engine does, without running anything."""

    def __init__(self, *, reachable=True, lines=()):
        self.images = self.api = self
        self.known, self.reachable, self.lines = {}, reachable, lines
        self.builds, self.imported = [], []

    def get(self, name):
        if name not in self.known:
            raise docker.errors.ImageNotFound(name)
        return self.known[name]

    def pull(self, name):
        if not self.reachable:
            raise docker.errors.APIError("no such host")
        self.known[name] = Made(layers=BASE)

    def import_image_from_data(self, data, repository, tag):
        self.imported.append(data.read())
        self.known[f"{repository}:{tag}"] = Made(layers=BASE)

    def build(self, *, tag, dockerfile=None, fileobj=None, **_more):
        if fileobj is not None:
            with tarfile.open(fileobj=fileobj) as context:
                recipe = context.extractfile("Dockerfile").read().decode()
            base = recipe.split()[1]
            self.known[tag] = Made(layers=self.known[base].layers + LENT)
            return []
        recipe = Path(dockerfile).read_text()
        self.builds.append(recipe)
        self.known[tag] = Made(layers=self.known[recipe.split()[1]].layers + MADE)
        return [{"stream": "Step 1/6 : FROM x\n"}, *self.lines]


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "thing"
    folder.mkdir()
    (folder / "Dockerfile").write_text(RECIPE)
    (folder / "program").write_text("#!/bin/sh\n")
    (folder / "program").chmod(0o755)
    return folder


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "cache"


@as_root
class TestWithAFakeEngine:
    def test_the_image_is_kept_in_the_form_that_edges_take(self, folder, cache):
        image = build_with_engine(folder, cache=cache, name="thing", engine=Engine())
        assert image == Image.load(cache, "thing")
        assert not image.missing_files()
        assert [layer.base for layer in image.layers] == [True, False, False, False]
        assert [layer.created_by.split()[0] for layer in image.layers] == [
            "FROM", "RUN", "WORKDIR", "COPY",
        ]  # fmt: skip
        first = image.folder(image.layers[1])
        assert is_whiteout((first / "etc" / "issue").lstat())
        assert is_opaque(first / "usr" / "zone")
        assert not (first / "tmp" / "x").exists()
        program = image.folder(image.layers[3]) / "app" / "program"
        assert stat.S_IMODE(program.stat().st_mode) == 0o755
        assert image.config.env["GREETING"] == "hello"
        assert image.config.command == ("/app/program",)

    def test_nothing_that_was_lent_is_in_it(self, folder, cache):
        image = build_with_engine(folder, cache=cache, name="thing", engine=Engine())
        assert not any((image.folder(one) / "etc" / "apt").exists() for one in image.layers)

    def test_a_second_build_asks_the_engine_nothing(self, folder, cache):
        first = build_with_engine(folder, cache=cache, name="thing", engine=Engine())
        assert build_with_engine(folder, cache=cache, name="thing", engine=None) == first
        (folder / "program").write_text("changed")
        engine = Engine()
        assert build_with_engine(folder, cache=cache, name="thing", engine=engine) != first
        assert len(engine.builds) == 1

    def test_without_a_registry_the_base_is_made_here(self, folder, cache, monkeypatch):
        monkeypatch.setattr(engine_module, "build", own_base)
        engine = Engine(reachable=False)
        image = build_with_engine(folder, cache=cache, name="thing", engine=engine)
        assert engine.imported == BASE
        assert image.layers[0].created_by == "FROM debian:trixie-slim"
        assert [layer.base for layer in image.layers] == [True, False, False, False]

    def test_a_failing_step_says_why_and_how_to_do_without(self, folder, cache):
        engine = Engine(lines=[{"stream": "oh dear\n"}, {"error": "exit code 7"}])
        with pytest.raises(ImageBuildError, match=r"(?s)oh dear.*code 7.*TESTBED_BUILDER=own"):
            build_with_engine(folder, cache=cache, name="thing", engine=engine)

    def test_an_engine_that_goes_away_says_so(self, folder, cache, monkeypatch):
        engine = Engine()

        def gone(**_):
            raise docker.errors.APIError("connection lost")

        monkeypatch.setattr(engine, "build", gone)
        with pytest.raises(ImageBuildError, match="the Docker engine: connection lost"):
            build_with_engine(folder, cache=cache, name="thing", engine=engine)

    def test_a_recipe_must_do_for_both_builders(self, folder, cache):
        (folder / "Dockerfile").write_text("FROM debian:trixie-slim\nVOLUME /x\n")
        with pytest.raises(RecipeError, match="VOLUME"):
            build_with_engine(folder, cache=cache, name="thing", engine=Engine())


def own_base(folder, *, cache, name, **_more):
    """Stands in for our own builder: a base image of one layer."""
    archive = cache / "images" / "layers" / "d.tar"
    archive.parent.mkdir(parents=True)
    archive.write_bytes(BASE[0])
    os.system(f"zstd -q {archive} -o {archive}.zst")  # noqa: S605 - a path of this test's
    (archive.parent / "d").mkdir()
    layer = Layer("d", 1, 1, "FROM debian:trixie-slim", base=True)
    return SimpleNamespace(layers=(layer,), archive=lambda _: Path(f"{archive}.zst"))


def test_files_are_lent_and_folders_are_not(tmp_path):
    (tmp_path / "cert").write_text("trust")
    (tmp_path / "wheels").mkdir()
    loan = Loan(
        {"PIP_CERT": "/dev/build/0", "PIP_FIND_LINKS": "/dev/build/1", "A": 'b "c"',
         "PIP_EXTRA_INDEX_URL": "file:///dev/build/1/simple http://index"},
        ((str(tmp_path / "cert"), "/dev/build/0"), (str(tmp_path / "wheels"), "/dev/build/1")),
        "deb mirror trixie main\n",
    )  # fmt: skip
    recipe, files = plan_lending("base:1", loan)
    assert recipe.splitlines() == [
        "FROM base:1",
        "COPY 0 /var/cache/testbed-loan/0",
        "COPY sources.list /etc/apt/sources.list",
        'ENV PIP_CERT="/var/cache/testbed-loan/0"',
        'ENV A="b \\"c\\""',
        'ENV PIP_EXTRA_INDEX_URL="http://index"',
    ]
    assert files == {"0": b"trust", "sources.list": b"deb mirror trixie main\n"}


class TestWhoBuilds:
    @pytest.fixture
    def builders(self, monkeypatch):
        """Who was asked; an engine is there unless a test says otherwise."""
        asked = []

        def by(name):
            return lambda *_args, **_more: asked.append(name)

        monkeypatch.setattr(make, "build", by("own"))
        monkeypatch.setattr(engine_module, "build_with_engine", by("docker"))
        monkeypatch.setattr(engine_module, "find_engine", io.BytesIO)  # anything that closes
        return asked

    @pytest.mark.parametrize(
        ("said", "there", "who"),
        [
            ("", True, "docker"),
            ("", False, "own"),
            ("own", True, "own"),
            ("docker", True, "docker"),
        ],
    )
    def test_an_engine_where_there_is_one(self, builders, monkeypatch, said, there, who):
        monkeypatch.setenv("TESTBED_BUILDER", said)
        if not there:
            monkeypatch.setattr(engine_module, "find_engine", lambda: None)
        make.make_image(Path(), cache=Path(), name="x")
        assert builders == [who]

    @pytest.mark.usefixtures("builders")
    def test_what_cannot_be_is_refused(self, monkeypatch):
        monkeypatch.setenv("TESTBED_BUILDER", "podman")
        with pytest.raises(ImageBuildError, match="'podman'; write one of docker, own"):
            make.make_image(Path(), cache=Path(), name="x")
        monkeypatch.setenv("TESTBED_BUILDER", "docker")
        monkeypatch.setattr(engine_module, "find_engine", lambda: None)
        with pytest.raises(ImageBuildError, match="no engine answers"):
            make.make_image(Path(), cache=Path(), name="x")


def test_where_no_engine_answers_there_is_none(monkeypatch, tmp_path):
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/nothing.sock")
    assert find_engine() is None


@as_root
@pytest.mark.lab
def test_a_real_engine_and_our_builder_make_the_same_of_a_recipe(folder, cache):
    engine = find_engine()
    if engine is None:
        pytest.skip("no Docker engine answers (DOCKER_HOST names another)")
    if shutil.which("mmdebstrap") is None:
        pytest.skip("our own builder needs mmdebstrap")
    shared = Path(os.environ.get("TESTBED_CACHE", "/var/cache/testbed"))
    with contextlib.closing(engine):
        theirs = build_with_engine(folder, cache=shared, name="test-engine", engine=engine)
    ours = build(folder, cache=shared, name="test-own")
    assert [layer.created_by for layer in theirs.app_layers] == [
        layer.created_by for layer in ours.app_layers
    ]
    assert theirs.config == ours.config
    for one, other in zip(theirs.app_layers, ours.app_layers, strict=True):
        assert listing(theirs.folder(one)) == listing(ours.folder(other))


def listing(folder):
    """Every file, mark and link in a layer, by name; and every folder that hides what is below."""
    found = {}
    for path in folder.rglob("*"):
        status = path.lstat()
        if not stat.S_ISDIR(status.st_mode) or is_opaque(path):
            content = path.read_bytes() if path.is_file() else b""
            name = path.relative_to(folder)
            found[name] = (status.st_mode, status.st_uid, status.st_rdev, content)
    return found
