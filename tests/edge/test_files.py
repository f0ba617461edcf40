import contextlib
import os
import shutil
import socket
import stat
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from testbed.edge import files
from testbed.edge.files import MEMORY_FOLDERS, Change, Watch, unpack

ROOT = sys.platform == "linux" and os.geteuid() == 0
as_root = pytest.mark.skipif(not ROOT, reason="gives files to others: needs root on Linux")
unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
NAMES = ["a", "b"]
TOPS = ["app", "tmp", "dev/shm"]


class Sides:
    """A container at its source (layer and inside) and the root it is to have at the target."""

    def __init__(self, folder):
        self.upper, self.inside, self.target = (folder / n for n in ("upper", "inside", "target"))
        for side in (self.upper, self.inside, self.target):
            side.mkdir()
        for name in MEMORY_FOLDERS:
            (self.inside / name).mkdir(parents=True)
            (self.target / name).mkdir(parents=True)
        self.watch = Watch(self.upper, self.inside)

    def at(self, name):
        """Where a process in the container would find ``name``, as this machine sees it."""
        in_memory = any(name.startswith(f"{folder}/") for folder in MEMORY_FOLDERS)
        return (self.inside if in_memory else self.upper) / name

    def write(self, name, content="x"):
        self.at(name).parent.mkdir(parents=True, exist_ok=True)
        self.at(name).write_text(content)
        return self.at(name)

    def move(self):
        """One round: look, pack, unpack; what the look found."""
        change = self.watch.look()
        unpack(self.watch.pack(change), list(change.removed), self.target)
        return change

    def source_state(self):
        state = described(self.upper)
        for name in MEMORY_FOLDERS:
            below = described(self.inside / name)
            state |= {f"{name}/{path}": entry for path, entry in below.items()}
        return state

    def target_state(self):
        # The memory folders are mounts of the container: they are there on both sides.
        mounts = {"tmp", "run", "dev", "dev/shm"}
        return {k: v for k, v in described(self.target).items() if k not in mounts}


def described(root):
    """Everything below a folder: kind, mode, owner, content."""
    found = {}
    for path in (
        Path(where) / name for where, dirs, names in os.walk(root) for name in (*dirs, *names)
    ):
        s = path.lstat()
        if stat.S_ISLNK(s.st_mode):
            content = str(path.readlink())
        else:
            content = path.read_bytes() if stat.S_ISREG(s.st_mode) else b""
        mode = 0 if stat.S_ISLNK(s.st_mode) else s.st_mode
        found[str(path.relative_to(root))] = (stat.S_IFMT(s.st_mode), mode, s.st_uid, content)
    return found


@contextlib.contextmanager
def both_sides():
    with tempfile.TemporaryDirectory() as folder:
        yield Sides(Path(folder))


@pytest.fixture
def sides(tmp_path):
    return Sides(tmp_path)


# -- what a service may do to its files

paths = st.builds(
    lambda top, names: "/".join([top, *names]),
    st.sampled_from(TOPS),
    st.lists(st.sampled_from(NAMES), min_size=1, max_size=2),
)
content = st.text(st.sampled_from("xyz"), max_size=3)
deeds = st.one_of(
    st.tuples(st.just("write"), paths, content),
    st.tuples(st.just("append"), paths, content),
    st.tuples(st.just("folder"), paths),
    st.tuples(st.just("link"), paths, st.sampled_from(["a", "../b", "/nowhere/c", "."])),
    st.tuples(st.just("remove"), paths),
    st.tuples(st.just("rename"), paths, paths),
    st.tuples(st.just("mode"), paths, st.sampled_from([0o700, 0o750, 0o755])),
)


def clear(path):
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def do(sides, deed):
    """What a service does; what its file system refuses is not done."""
    what, name, *rest = deed
    path = sides.at(name)
    with contextlib.suppress(OSError):
        if what in {"write", "folder", "link"}:
            path.parent.mkdir(parents=True, exist_ok=True)
        if what == "write" and not os.path.lexists(path):
            path.write_text(rest[0])
        elif what == "append" and path.is_file() and not path.is_symlink():
            with path.open("a") as file:
                file.write(rest[0])
        elif what == "folder" and not os.path.lexists(path):
            path.mkdir()
        elif what == "link" and not os.path.lexists(path):
            path.symlink_to(rest[0])
        elif what == "remove":
            clear(path)
        elif what == "rename" and os.path.lexists(path) and not os.path.lexists(sides.at(rest[0])):
            path.rename(sides.at(rest[0]))
        elif what == "mode" and os.path.lexists(path) and not path.is_symlink():
            path.chmod(rest[0])


@unhurried
@given(st.lists(st.lists(deeds, max_size=6), min_size=1, max_size=4))
def test_whatever_a_service_did_to_its_files_the_target_has_them_too(rounds):
    with both_sides() as sides:
        sides.move()
        for deeds_of_a_round in rounds:
            for deed in deeds_of_a_round:
                do(sides, deed)
            sides.move()
            assert sides.target_state() == sides.source_state()
        assert not sides.watch.look()


@unhurried
@given(st.lists(deeds, max_size=8), st.lists(deeds, max_size=8))
def test_one_look_finds_what_two_looks_find(early, late):
    with both_sides() as once, both_sides() as twice:
        for sides in (once, twice):
            for deed in early:
                do(sides, deed)
            if sides is twice:
                sides.move()
            for deed in late:
                do(sides, deed)
            sides.move()
        assert once.target_state() == twice.target_state()


@pytest.mark.parametrize("top", ["app", "tmp"])
@pytest.mark.parametrize("after", ["file", "folder", "link", "dangling"])
@pytest.mark.parametrize("before", ["file", "folder", "link", "dangling"])
def test_a_name_may_become_something_else(sides, top, before, after):
    def make(kind):
        path = sides.at(f"{top}/it")
        clear(path)
        if kind == "folder":
            path.mkdir()
            (path / "inner").write_text(before + after)
        elif kind == "file":
            path.write_text(before + after)
        else:
            path.symlink_to("beside" if kind == "link" else "nowhere")

    sides.write(f"{top}/beside", "beside")
    make(before)
    sides.move()
    assert sides.target_state() == sides.source_state()
    make(after)
    sides.move()
    assert sides.target_state() == sides.source_state()


def test_a_file_is_never_written_through_a_link_that_stood_there(sides, tmp_path):
    away = tmp_path / "the-edge-s-own-file"
    sides.write("tmp/it").unlink()
    sides.at("tmp/it").symlink_to(away)
    sides.move()
    sides.at("tmp/it").unlink()
    sides.write("tmp/it", "a container's")
    sides.move()
    assert not away.exists()
    assert (sides.target / "tmp" / "it").read_text() == "a container's"


def test_hard_links_may_be_written_to_again(sides):
    one = sides.write("app/one", "first")
    os.link(one, sides.at("app/two"))
    sides.move()
    one.write_text("second")
    sides.move()
    assert (sides.target / "app" / "one").read_text() == "second"
    assert (sides.target / "app" / "two").read_text() == "second"


def test_a_named_pipe_may_be_there_twice(sides):
    sides.write("tmp/beside")
    os.mkfifo(sides.at("tmp/pipe"))
    sides.move()
    sides.at("tmp/pipe").chmod(0o600)
    sides.move()
    assert stat.S_ISFIFO((sides.target / "tmp" / "pipe").stat().st_mode)
    assert sides.target_state() == sides.source_state()


@as_root
@pytest.mark.parametrize("kind", ["file", "folder"])
def test_a_new_owner_is_noticed(sides, kind):
    path = sides.write("app/folder/file")
    path = path if kind == "file" else path.parent
    sides.move()
    os.chown(path, 1234, 1234)
    sides.move()
    assert sides.target_state() == sides.source_state()


def test_open_files_at_the_target_keep_what_they_had(sides):
    sides.write("app/log", "old")
    sides.move()
    with (sides.target / "app" / "log").open() as still_open:
        sides.write("app/log", "new")
        sides.move()
        assert still_open.read() == "old"


# -- what is looked at


def test_a_second_look_without_a_change_finds_nothing(sides):
    sides.write("app/file")
    sides.write("run/file")
    assert sides.watch.look()
    assert sides.watch.look() == Change()
    assert not Change()


def test_only_what_changed_is_sent(sides):
    for n in range(5):
        sides.write(f"app/{n}", "x")
    sides.watch.look()
    sides.write("app/3", "y")
    sides.at("app/4").unlink()
    assert sides.watch.look() == Change(("app/3",), ("app/4",))


def test_criu_s_cache_and_the_testbed_s_own_folders_stay_at_home(sides):
    sides.write("run/criu.kdat")
    for name in (".testbed/edge", "proc/1", "dev/null"):
        (sides.upper / name).parent.mkdir(parents=True, exist_ok=True)
        (sides.upper / name).write_text("x")
    for folder in MEMORY_FOLDERS:  # what lies under the mounts, nobody sees
        (sides.upper / folder).mkdir(parents=True, exist_ok=True)
        (sides.upper / folder / "under").write_text("x")
    assert not sides.watch.look()
    sides.write("run/other")
    sides.write("run/below/criu.kdat")
    assert set(sides.watch.look().written) == {"run/other", "run/below", "run/below/criu.kdat"}


def test_sockets_are_left_to_criu(sides):
    sides.write("run/file")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(sides.at("run/s")))
        assert set(sides.watch.look().written) == {"run/file"}


def test_parents_come_before_what_is_in_them(sides):
    sides.write("app/a/b/c/file")
    written = sides.watch.look().written
    assert list(written) == ["app", "app/a", "app/a/b", "app/a/b/c", "app/a/b/c/file"]


@as_root
def test_a_file_of_the_image_that_the_service_deleted_is_deleted_at_the_target(sides):
    (sides.target / "etc").mkdir()
    (sides.target / "etc" / "motd").write_text("from the image")
    (sides.upper / "etc").mkdir()
    os.mknod(sides.upper / "etc" / "motd", stat.S_IFCHR, os.makedev(0, 0))
    assert "etc/motd" in sides.move().removed
    assert not (sides.target / "etc" / "motd").exists()


# -- files that change while they are looked at


def test_a_file_that_vanishes_between_look_and_pack_breaks_nothing(sides):
    sides.write("app/stays", "x")
    sides.write("app/folder/goes", "x")
    change = sides.watch.look()
    shutil.rmtree(sides.at("app/folder"))
    unpack(sides.watch.pack(change), list(change.removed), sides.target)
    assert (sides.target / "app" / "stays").read_text() == "x"
    assert set(sides.move().removed) == {"app/folder", "app/folder/goes"}
    assert sides.target_state() == sides.source_state()


def test_a_file_that_vanishes_while_the_folders_are_walked_breaks_nothing(sides, monkeypatch):
    sides.write("app/stays")
    going = sides.write("app/goes")
    real = Path.lstat

    def lstat(path):
        if path == going:
            going.unlink(missing_ok=True)
        return real(path)

    monkeypatch.setattr(Path, "lstat", lstat)
    assert set(sides.watch.look().written) == {"app", "app/stays"}


def test_a_file_that_shrinks_while_it_is_packed_breaks_nothing(sides, monkeypatch):
    shrinking = sides.write("app/log", "x" * 50000)
    sides.write("app/zebra", "striped")
    change = sides.watch.look()
    real = tarfile.TarFile.gettarinfo

    def gettarinfo(tar, name=None, arcname=None, fileobj=None):
        member = real(tar, name, arcname, fileobj)
        if arcname == "app/log":
            shrinking.write_text("short")
        return member

    with monkeypatch.context() as patch:
        patch.setattr(tarfile.TarFile, "gettarinfo", gettarinfo)
        packed = sides.watch.pack(change)
    unpack(packed, list(change.removed), sides.target)
    assert (sides.target / "app" / "zebra").read_text() == "striped"
    sides.move()
    assert sides.target_state() == sides.source_state()


def test_a_file_that_grows_while_it_is_packed_is_sent_again(sides, monkeypatch):
    growing = sides.write("app/log", "x")
    change = sides.watch.look()
    growing.write_text("x and more")
    unpack(sides.watch.pack(change), list(change.removed), sides.target)
    assert sides.move().written == ("app/log",)
    assert sides.target_state() == sides.source_state()


def test_what_is_to_be_removed_may_be_gone_already(sides):
    unpack(b"", ["app/never", "app", "tmp/never/was"], sides.target)
    assert sides.target_state() == {}


@pytest.mark.parametrize("name", ["weiß", "two words", "new\nline", "\udcff\udc80", "x" * 200])
def test_any_name_that_linux_takes_is_taken(sides, name):
    sides.write(f"tmp/{name}", name[:1].encode(errors="surrogateescape").hex())
    sides.move()
    assert sides.target_state() == sides.source_state()
    sides.at(f"tmp/{name}").unlink()
    sides.move()
    assert sides.target_state() == {}


# -- with a real overlay

IN_AN_OVERLAY = """
import os, shutil, subprocess, sys
from pathlib import Path
from testbed.edge.files import MEMORY_FOLDERS, Watch, unpack

here = Path(sys.argv[1])
image = here / "image"
for name in ("data/deep/one", "data/two", "etc/motd"):
    (image / name).parent.mkdir(parents=True, exist_ok=True)
    (image / name).write_text(name)
for folder in MEMORY_FOLDERS:
    (image / folder).mkdir(parents=True)
roots = {}
for side in ("source", "target"):
    for part in ("upper", "work", "root"):
        (here / side / part).mkdir(parents=True)
    options = f"lowerdir={image},upperdir={here/side}/upper,workdir={here/side}/work"
    subprocess.run(["mount", "-t", "overlay", "x", "-o", options, here / side / "root"], check=True)
    roots[side] = here / side / "root"

def state(root):
    return {
        str(p.relative_to(root)): p.read_text() if p.is_file() else None for p in root.rglob("*")
    }

watch = Watch(here / "source" / "upper", roots["source"])
root = roots["source"]
for step in sys.argv[2].split(";"):
    exec(step.strip())
    change = watch.look()
    unpack(watch.pack(change), list(change.removed), roots["target"])
    assert state(roots["target"]) == state(root), (step, state(roots["target"]), state(root))
print("same")
"""


@pytest.mark.lab
@pytest.mark.skipif(not ROOT, reason="mounts overlays: needs root on Linux")
@pytest.mark.parametrize(
    "steps",
    [
        "(root / 'etc/motd').unlink(); (root / 'etc/motd').write_text('again')",
        "(root / 'data/two').write_text('changed'); (root / 'data/deep/one').unlink()",
        "(root / 'data/two').rename(root / 'etc/three')",
        "shutil.rmtree(root / 'data'); (root / 'data').mkdir(); (root / 'data/n').write_text('n')",
        "shutil.rmtree(root / 'data') or (root / 'data').mkdir()",
        "(root / 'data/n').write_text(''); shutil.rmtree(root / 'data') or (root / 'data').mkdir()",
        "(root / 'etc/motd').unlink() or (root / 'etc/motd').mkdir()",
        "shutil.rmtree(root / 'data') or (root / 'data').write_text('a file now')",
    ],
)
def test_what_a_service_does_to_its_image_s_files_happens_at_the_target_too(tmp_path, steps):
    done = subprocess.run(
        [
            *("unshare", "--mount", "--propagation", "private"),
            *(sys.executable, "-c", IN_AN_OVERLAY, str(tmp_path), steps),
        ],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(files.__file__).parents[2],
    )
    assert done.stdout == "same\n", done.stderr[-1500:]
