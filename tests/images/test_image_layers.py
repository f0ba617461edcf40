import hashlib
import io
import os
import shutil
import socket
import subprocess
import tarfile

import pytest

from testbed.errors import ImageBuildError
from testbed.images.layers import keep_layer, tidy, write_archive

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: device nodes, attributes")
needs_zstd = pytest.mark.skipif(shutil.which("zstd") is None, reason="needs zstd")


def archived(folder):
    out = io.BytesIO()
    write_archive(folder, out)
    return out.getvalue()


def entries(folder):
    with tarfile.open(fileobj=io.BytesIO(archived(folder))) as archive:
        return {entry.name: entry for entry in archive}


@pytest.fixture
def upper(tmp_path):
    folder = tmp_path / "upper"
    (folder / "b" / "deep").mkdir(parents=True)
    (folder / "b" / "file").write_text("content")
    os.link(folder / "b" / "file", folder / "b" / "linked")
    (folder / "a").symlink_to("/absolute")
    os.mkfifo(folder / "pipe")
    (folder / "b" / "file").chmod(0o4750)
    return folder


def test_an_archive_is_sorted_and_keeps_kinds_and_links(upper):
    found = entries(upper)
    assert list(found) == ["a", "b", "b/deep", "b/file", "b/linked", "pipe"]
    assert found["a"].linkname == "/absolute"
    assert found["b/linked"].islnk()
    assert found["b/linked"].linkname == "b/file"
    assert found["b/file"].mode == 0o4750
    assert found["pipe"].isfifo()


def test_the_same_folder_gives_the_same_bytes(upper):
    assert archived(upper) == archived(upper)


def test_a_socket_is_refused(tmp_path):
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "s"))
        with pytest.raises(ImageBuildError, match="/s: a socket cannot be stored"):
            archived(tmp_path)


@needs_root
def test_removed_and_replaced_things_take_their_portable_form(tmp_path):
    (tmp_path / "d").mkdir()
    os.mknod(tmp_path / "d" / "gone", 0o020000, 0)
    os.mknod(tmp_path / "null", 0o020666, os.makedev(1, 3))
    os.setxattr(tmp_path / "d", "trusted.overlay.opaque", b"y")
    found = entries(tmp_path)
    assert list(found) == ["d", "d/.wh..wh..opq", "d/.wh.gone", "null"]
    assert found["d/.wh.gone"].isreg()
    assert (found["null"].ischr(), found["null"].devmajor, found["null"].devminor) == (True, 1, 3)
    assert not found["d"].pax_headers


@needs_root
def test_file_capabilities_survive_tar(tmp_path):
    value = bytes.fromhex("0100000200200000000000000000000000000000")
    source, target = tmp_path / "source", tmp_path / "target"
    source.mkdir()
    target.mkdir()
    (source / "ping").write_text("x")
    os.setxattr(source / "ping", "security.capability", value)
    (tmp_path / "a.tar").write_bytes(archived(source))
    subprocess.run(
        ["tar", "--xattrs", "--xattrs-include=*", "-xpf", tmp_path / "a.tar", "-C", target],
        check=True,
    )
    assert os.getxattr(target / "ping", "security.capability") == value


@needs_zstd
def test_a_layer_is_kept_under_the_hash_of_its_archive(upper, tmp_path):
    work = tmp_path / "work"
    work.mkdir()
    layer = keep_layer(tmp_path, upper, work, created_by="RUN x", base=False)
    kept = tmp_path / "images" / "layers"
    content = subprocess.run(
        ["zstd", "-dc", kept / f"{layer.digest}.tar.zst"], capture_output=True, check=True
    ).stdout
    assert hashlib.sha256(content).hexdigest() == layer.digest
    assert len(content) == layer.size_bytes
    assert (kept / layer.digest / "b" / "file").read_text() == "content"
    assert not upper.exists()


def test_no_change_is_no_layer(tmp_path):
    (tmp_path / "upper").mkdir()
    assert keep_layer(tmp_path, tmp_path / "upper", tmp_path, created_by="x", base=False) is None


def test_caches_and_logs_are_dropped_and_nothing_else(tmp_path):
    for name in ("var/cache/apt/x", "var/log/apt/term.log", "tmp/a/b", "var/log/service.log"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")
    (tmp_path / "proc").symlink_to("elsewhere")
    tidy(tmp_path)
    left = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")}
    assert left == {
        *("proc", "tmp", "var", "var/cache", "var/cache/apt"),
        *("var/log", "var/log/apt", "var/log/service.log"),
    }
