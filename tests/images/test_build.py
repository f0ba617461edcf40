"""Builds that really run; the base is in the cache after the first time."""

import fcntl
import io
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import pytest

from testbed.errors import ImageBuildError, RecipeError, UnsupportedMachineError
from testbed.images.build import build
from testbed.images.image import Image

CACHE = Path(os.environ.get("TESTBED_CACHE", "/var/cache/testbed"))
lab = [
    pytest.mark.lab,
    pytest.mark.skipif(
        sys.platform != "linux" or os.geteuid() != 0, reason="building images needs root on Linux"
    ),
    pytest.mark.skipif(shutil.which("mmdebstrap") is None, reason="needs mmdebstrap"),
]

RECIPE = """
FROM debian:trixie-slim
RUN rm /etc/issue && rm -r /usr/share/zoneinfo && mkdir -m 700 /usr/share/zoneinfo && \\
    echo cached > /var/cache/apt/x && echo gone > /tmp/x && echo secret > /dev/y
WORKDIR /app
COPY data/ program /app/
COPY program /srv/renamed
COPY .hidden /srv
USER nobody
RUN test "$(id -un)" = nobody && test "$PWD" = /app && ! echo x >> /etc/hosts
CMD ["/app/program"]
"""


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "Some_Thing"
    (folder / "data" / "deep").mkdir(parents=True)
    (folder / "data" / "deep" / "file").write_text("1")
    (folder / "program").write_text("#!/bin/sh\necho hello\n")
    (folder / "program").chmod(0o755)
    (folder / ".hidden").write_text("dot")
    (folder / "Dockerfile").write_text(RECIPE)
    return folder


@pytest.fixture
def left_as_found():
    yield
    assert "images/work" not in Path("/proc/self/mounts").read_text()
    with (CACHE / "images" / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # another build may be going on
        assert not (CACHE / "images" / "work").exists()


def seen(image, script):
    """Output of a shell script inside the image."""
    lower = ":".join(str(path) for path in image.lowerdirs())
    mount = f'mount -t overlay -o lowerdir={lower} overlay /mnt && exec chroot /mnt sh -c "$0"'
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", mount, script], capture_output=True, text=True, check=True
    )
    return done.stdout


@pytest.mark.usefixtures("left_as_found")
class TestLab:
    pytestmark = lab

    def test_an_image_is_built_and_a_second_time_found(self, folder):
        image = build(folder, cache=CACHE, name="test-build")
        assert image.config.command == ("/app/program",)
        assert (
            seen(image, "cat /app/deep/file; /app/program; /srv/renamed; cat /srv/.hidden")
            == "1hello\nhello\ndot"
        )
        listed = "ls -A /etc/issue /usr/share/zoneinfo /tmp /dev /var/cache/apt 2>&1; stat -c %a%U"
        said = seen(image, f"{listed} /usr/share/zoneinfo /app/program")
        assert "cannot access '/etc/issue'" in said
        assert said.endswith("700root\n755root\n")
        assert not any(name in said for name in ("Europe", "\nx\n", "\ny\n"))

        before = {path: path.stat().st_mtime_ns for path in (CACHE / "images").rglob("*.json")}
        said = []
        again = build(folder, cache=CACHE, name="test-build", progress=said.append)
        assert again == image == Image.load(CACHE, "test-build")
        assert all(line.endswith("(cached)") for line in said)
        after = {path: path.stat().st_mtime_ns for path in (CACHE / "images").rglob("*.json")}
        assert after == before

    def test_archives_hold_the_portable_form(self, folder):
        image = build(folder, cache=CACHE, name="test-build")
        names = []
        for layer in image.app_layers:
            unpacked = subprocess.run(
                ["zstd", "-dc", image.archive(layer)], capture_output=True, check=True
            )
            with tarfile.open(fileobj=io.BytesIO(unpacked.stdout)) as archive:
                names += archive.getnames()
        assert "etc/.wh.issue" in names
        assert "usr/share/zoneinfo/.wh..wh..opq" in names
        assert not [name for name in names if name.startswith(("tmp/", "dev/", "var/cache/apt/"))]

    def test_a_failing_step_says_why_and_keeps_the_steps_before(self, folder):
        (folder / "Dockerfile").write_text("FROM debian:trixie-slim\nRUN echo oh dear && exit 7\n")
        with pytest.raises(
            ImageBuildError, match=r"Dockerfile:2: RUN .*\nended with 7; .*\noh dear"
        ):
            build(folder, cache=CACHE, name="test-build-fails")
        with pytest.raises(ImageBuildError, match="build it first"):
            Image.load(CACHE, "test-build-fails")

    def test_a_lost_layer_is_made_again(self, folder):
        (folder / "Dockerfile").write_text("FROM debian:trixie-slim\nRUN echo lost > /lost\n")
        image = build(folder, cache=CACHE, name="test-build-lost")
        shutil.rmtree(image.folder(image.layers[-1]))
        again = build(folder, cache=CACHE, name="test-build-lost")
        assert not again.missing_files()
        assert seen(again, "cat /lost") == "lost\n"

    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
    def test_a_broken_off_build_leaves_no_process_and_no_mount(self, folder, number):
        (folder / "Dockerfile").write_text("FROM debian:trixie-slim\nRUN echo on; sleep 98765\n")
        program = (
            "import pathlib, sys; from testbed.images.build import build; "
            "build(pathlib.Path(sys.argv[1]), cache=pathlib.Path(sys.argv[2]), name='test-broken', "
            "output=lambda line: print(line, flush=True))"
        )
        with subprocess.Popen(
            [sys.executable, "-c", program, folder, CACHE],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        ) as process:
            assert process.stdout.readline() == "on\n"
            process.send_signal(number)
            assert process.wait(10) != 0
        for _ in range(100):
            if not sleeping("98765"):
                break
            time.sleep(0.02)
        assert not sleeping("98765")
        (folder / "Dockerfile").write_text("FROM debian:trixie-slim\nRUN true\n")
        build(folder, cache=CACHE, name="test-broken")


def sleeping(argument):
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().split(b"\0")
        except OSError:
            continue
        if words[:2] == [b"sleep", argument.encode()]:
            found.append(path)
    return found


def test_a_wrong_recipe_is_refused_before_anything_is_done(folder, tmp_path):
    (folder / "Dockerfile").write_text("FROM debian:trixie-slim\nVOLUME /x\n")
    with pytest.raises(RecipeError):
        build(folder, cache=tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


def test_a_wrong_base_is_refused_before_anything_is_done(folder, tmp_path):
    (folder / "Dockerfile").write_text("FROM scratch\n")
    with pytest.raises(RecipeError, match="debian:trixie-slim"):
        build(folder, cache=tmp_path / "cache")


def test_missing_programs_are_named_with_their_packages(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(shutil, "which", lambda _: None)
    with pytest.raises(UnsupportedMachineError, match="apt-get install mmdebstrap mount"):
        build(folder, cache=tmp_path / "cache")


def test_building_without_root_says_so(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(UnsupportedMachineError, match="needs root"):
        build(folder, cache=tmp_path / "cache")
