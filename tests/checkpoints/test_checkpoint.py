import contextlib
import io
import json
import subprocess
import sys
import tarfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_images import HEAP, LAZY, LIBRARY, PAGE, PARENT, SHARED, STACK, make, message, write

from testbed import cli
from testbed.checkpoints.checkpoint import Checkpoint
from testbed.checkpoints.wire import Field, decode
from testbed.edge.images import PRESENT, Range, write_pagemap
from testbed.errors import CheckpointError


@pytest.fixture
def folder(tmp_path):
    return make(tmp_path / "images")


@pytest.fixture
def checkpoint(folder):
    return Checkpoint.open(folder)


def row(frame, **wanted):
    for name, value in wanted.items():
        frame = frame[frame[name] == value]
    assert len(frame) == 1, wanted
    return frame.iloc[0]


# -- what is in one


def test_processes_are_told_with_command_program_and_state(checkpoint):
    assert list(checkpoint.processes["pid"]) == [1000, 1001, 1002]
    server = row(checkpoint.processes, pid=1000)
    assert (server["command"], server["program"]) == ("server --port 8000", "/usr/bin/server")
    assert (server["threads"], server["bits"], server["state"]) == (2, 64, "alive")
    assert server["held_bytes"] == 4 * PAGE
    assert row(checkpoint.processes, pid=1002)["state"] == "zombie"
    assert (checkpoint.machine, checkpoint.page_size) == ("x86-64", PAGE)
    assert checkpoint.frozen_s == pytest.approx(0.0125)


def test_memory_is_told_by_mapping(tmp_path):
    heap = [b"a" * PAGE, bytes(PAGE), PARENT, LAZY, None, b"b" * PAGE]
    mappings = Checkpoint.open(make(tmp_path, heap=heap)).mappings
    found = row(mappings, pid=1000, start=HEAP)
    assert (found["kind"], found["access"], found["size_bytes"]) == ("heap", "rw-p", 8 * PAGE)
    counts = [found[f"{name}_pages"] for name in ("held", "zero", "parent", "lazy")]
    assert counts == [3, 1, 1, 1]
    assert found["held_bytes"] == 3 * PAGE
    library = row(mappings, start=LIBRARY)
    assert (library["kind"], library["access"]) == ("private file", "r-xp")
    assert (library["path"], library["held_pages"]) == ("/usr/lib/libx.so.1", 0)
    assert row(mappings, start=STACK)["kind"] == "stack"


def test_shared_memory_is_found_in_its_own_image(checkpoint):
    for pid in (1000, 1001):
        shared = row(checkpoint.mappings, pid=pid, start=SHARED)
        assert (shared["kind"], shared["access"]) == ("shared memory", "rw-s")
        assert (shared["held_pages"], shared["pagemap"]) == (1, "pagemap-shmem-77.img")


def test_files_and_sockets_are_told_with_addresses_and_state(checkpoint):
    library = row(checkpoint.files, pid=1000, fd=0)
    assert (library["what"], library["position"]) == ("/usr/lib/libx.so.1", 17)
    assert (library["access"], library["size_bytes"]) == ("rw, append", 9000)
    assert row(checkpoint.files, pid=1001, fd=1)["what"] == "pipe 5"
    connected = row(checkpoint.sockets, pid=1000, fd=4)
    ends = (connected["local"], connected["remote"])
    assert ends == ("10.88.0.11:8000", "10.78.0.4:40000")
    assert (connected["protocol"], connected["state"]) == ("TCP", "established")
    assert (connected["received_bytes"], connected["unacknowledged_bytes"]) == (12, 34)
    listening = row(checkpoint.sockets, pid=1000, fd=3)
    assert (listening["state"], listening["remote"]) == ("listening", "")
    assert row(checkpoint.sockets, pid=1001, fd=2)["local"] == "@hidden"


def test_sizes_of_images_are_told_largest_first(checkpoint):
    assert checkpoint.images["image"].iloc[0] == "pages-1.img"
    assert checkpoint.images["size_bytes"].iloc[0] == 4 * PAGE
    assert checkpoint.size_bytes == checkpoint.images["size_bytes"].sum()


@pytest.mark.parametrize("page", [4096, 16384, 65536])
def test_a_page_of_another_machine_has_its_own_size(tmp_path, page):
    make(tmp_path, machine=3)
    write_pagemap(tmp_path / "pagemap-1000.img", 1, [Range(HEAP, 2, PRESENT)])
    (tmp_path / "pages-1.img").write_bytes(bytes(2 * page))
    checkpoint = Checkpoint.open(tmp_path)
    assert (checkpoint.machine, checkpoint.page_size) == ("arm64", page)


def test_a_32_bit_task_is_told(tmp_path):
    make(tmp_path)
    write(tmp_path, "core-1001.img", {1: 1, 2: {2: {28: 2}}, 3: {1: 1, 6: "old"}, 4: {2: 2}})
    assert list(Checkpoint.open(tmp_path).processes["bits"]) == [64, 32, 64]


@settings(max_examples=40, deadline=None)
@given(st.lists(st.sampled_from([None, PARENT, LAZY, b"\0", b"x"]), max_size=8))
def test_every_page_is_counted_once(tmp_path_factory, pages):
    heap = [p * PAGE if isinstance(p, bytes) else p for p in pages]
    folder = make(tmp_path_factory.mktemp("images"), heap=heap)
    found = row(Checkpoint.open(folder).mappings, pid=1000, start=HEAP)
    assert found["held_pages"] == sum(isinstance(p, bytes) for p in pages)
    assert found["zero_pages"] == pages.count(b"\0")
    assert (found["parent_pages"], found["lazy_pages"]) == (pages.count(PARENT), pages.count(LAZY))


# -- what changed


def test_changed_new_and_gone_pages_are_found_where_they_are(tmp_path):
    a, b, c = (letter * PAGE for letter in (b"a", b"b", b"c"))
    before = Checkpoint.open(make(tmp_path / "1", heap=[a, b, c, a, a, None]))
    after = Checkpoint.open(make(tmp_path / "2", heap=[a, c, a, a, None, b]))
    difference = after.difference(before)
    heap = row(difference.mappings, pid=1000, start=HEAP)
    assert [heap[f"{n}_pages"] for n in ("changed", "new", "gone")] == [2, 1, 1]
    assert difference.changed_bytes == heap["changed_bytes"] == 3 * PAGE
    places = difference.places[["start", "end", "how"]].itertuples(index=False, name=None)
    assert list(places) == [
        (HEAP + PAGE, HEAP + 3 * PAGE, "changed"),
        (HEAP + 5 * PAGE, HEAP + 6 * PAGE, "new"),
        (HEAP + 4 * PAGE, HEAP + 5 * PAGE, "gone"),
    ]
    assert all(not len(rows) for rows in difference.appeared.values())


def test_a_page_left_in_the_parent_is_as_it_was_and_one_written_again_is_not(tmp_path):
    a = b"a" * PAGE
    before = Checkpoint.open(make(tmp_path / "1", heap=[a, a, PARENT]))
    after = Checkpoint.open(make(tmp_path / "2", heap=[PARENT, a, a]))
    heap = row(after.difference(before).mappings, pid=1000, start=HEAP)
    assert [heap[f"{n}_pages"] for n in ("changed", "new", "gone")] == [1, 0, 0]


def test_shared_memory_is_compared_too(tmp_path):
    before, after = make(tmp_path / "1"), make(tmp_path / "2")
    (after / "pages-3.img").write_bytes(b"t" * PAGE)
    mappings = Checkpoint.open(after).difference(Checkpoint.open(before)).mappings
    assert row(mappings, pid=1000, start=SHARED)["changed_pages"] == 1
    assert row(mappings, pid=1000, start=HEAP)["changed_pages"] == 0


def test_what_appeared_and_what_went_is_told(tmp_path):
    before, after = make(tmp_path / "1"), make(tmp_path / "2")
    write(after, "fdinfo-2.img", {1: 4, 3: 2, 4: 9})
    difference = Checkpoint.open(after).difference(Checkpoint.open(before))
    assert list(difference.appeared["files"]["fd"]) == [9]
    assert list(difference.disappeared["files"]["fd"]) == [1, 2]
    assert list(difference.disappeared["sockets"]["local"]) == ["@hidden"]
    assert not len(difference.appeared["processes"])


# -- where it comes from


def archive(folder, path, mode, inside="checkpoint"):
    with tarfile.open(path, mode) as tar:
        for file in sorted(folder.iterdir()):
            tar.add(file, arcname=f"{inside}/{file.name}")
        other = tarfile.TarInfo("rootfs-diff.tar")
        other.size = 3
        tar.addfile(other, io.BytesIO(b"abc"))
    return path


def test_an_archive_says_the_same_as_the_folder_plain_or_compressed(folder, checkpoint, tmp_path):
    plain = archive(folder, tmp_path / "a.tar", "w")
    subprocess.run(["zstd", "-q", str(plain)], check=True)
    squeezed = archive(folder, tmp_path / "a.tar.gz", "w:gz")
    for path in (plain, squeezed, tmp_path / "a.tar.zst"):
        found = Checkpoint.open(path)
        for table in cli.checkpoint.TABLES:
            assert getattr(found, table).equals(getattr(checkpoint, table)), (path, table)


def test_what_was_unpacked_goes_with_the_object(folder, tmp_path):
    found = Checkpoint.open(archive(folder, tmp_path / "a.tar", "w"))
    unpacked = found._store.folder
    assert unpacked.is_dir()
    del found
    assert not unpacked.exists()


def test_images_below_a_folder_are_found_but_not_two_of_them(tmp_path):
    make(tmp_path / "exported" / "checkpoint")
    assert len(Checkpoint.open(tmp_path / "exported").processes) == 3
    make(tmp_path / "exported" / "other")
    with pytest.raises(CheckpointError, match="several checkpoints; name one of: checkpoint, oth"):
        Checkpoint.open(tmp_path / "exported")


# -- what is none


def cut(path, size):
    path.write_bytes(path.read_bytes()[:size])


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda f: (f / "inventory.img").unlink(), "no checkpoint, inventory.img is neither"),
        (
            lambda f: cut(f / "pages-1.img", 3 * PAGE),
            "pages-1.img is not whole .12,288 bytes for 4",
        ),
        (lambda f: (f / "pages-1.img").unlink(), "pages-1.img is not whole .0 bytes for 4 pages"),
        (lambda f: cut(f / "mm-1000.img", 40), "mm-1000.img is not whole .cut short"),
        (lambda f: cut(f / "files.img", 2), "files.img does not begin"),
        (lambda f: (f / "core-1001.img").unlink(), "core-1001.img is not whole .it is missing"),
        (lambda f: (f / "core-1001.img").write_bytes(b"nonsense" * 9), "magic number 0x736e6f6e"),
        (lambda f: (f / "pagemap-1000.img").write_bytes((f / "mm-1000.img").read_bytes()), "magic"),
        (lambda f: cut(f / "pagemap-1000.img", 25), "pagemap-1000.img is not whole"),
        (lambda f: write(f, "pstree.img"), "no process is in it"),
    ],
)
def test_images_that_are_not_whole_are_refused_by_name(folder, spoil, said):
    spoil(folder)
    with pytest.raises(CheckpointError, match=said) as refused:
        Checkpoint.open(folder).mappings.sum()
    assert str(folder) in str(refused.value)


@pytest.mark.parametrize(
    "content", [b"", b"no archive at all", b"\x28\xb5\x2f\xfdbroken", b"\x1f\x8b"]
)
def test_a_file_that_is_no_archive_is_refused(tmp_path, content):
    path = tmp_path / "x.tar"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"x\.tar: no"):
        Checkpoint.open(path)
    with pytest.raises(CheckpointError, match="no such file or folder"):
        Checkpoint.open(tmp_path / "nothing")


def test_an_archive_that_is_cut_short_is_refused(folder, tmp_path):
    plain = archive(folder, tmp_path / "a.tar", "w")
    with tarfile.open(plain) as tar:
        headers = [member.offset for member in tar]
    whole = plain.read_bytes()
    # Also where one file ends and the next begins, and before the blocks that end an archive.
    for size in (len(whole) // 2, *headers[1:], len(whole.rstrip(b"\0")) + 1):
        cut_file = tmp_path / "cut.tar"
        cut_file.write_bytes(whole[:size])
        with pytest.raises(CheckpointError, match="not an archive that can be read to its end"):
            Checkpoint.open(cut_file)
    subprocess.run(["zstd", "-q", str(plain)], check=True)
    for path in (
        archive(folder, tmp_path / "a.tgz", "w:gz"),
        archive(folder, tmp_path / "a.txz", "w:xz"),
        tmp_path / "a.tar.zst",
    ):
        whole = path.read_bytes()
        for size in range(8, len(whole), 97):
            path.write_bytes(whole[:size])
            with pytest.raises(CheckpointError, match="not an archive that can be read to its end"):
                Checkpoint.open(path)


@given(st.binary(max_size=60))
def test_bytes_that_are_no_message_are_refused_in_words(data):
    table = {1: Field("a"), 2: Field("b", "text"), 3: Field("c", "message", {1: Field("d")})}
    found = {}
    with contextlib.suppress(ValueError):  # and nothing else
        found = decode(data, table)
    assert set(found) <= {"a", "b", "c"}


@given(st.integers(0, 2**64 - 1), st.lists(st.integers(0, 2**32 - 1)), st.binary())
def test_a_message_is_read_as_it_was_written(number, several, data):
    table = {
        1: Field("a"),
        2: Field("b", many=True),
        9: Field("c", "message", {3: Field("d", "bytes")}),
    }
    fields = {1: number, 2: several, 7: b"unknown", 8: 5, 9: {3: data}}
    assert decode(message(fields), table) == {"a": number, "b": several, "c": {"d": data}}
    packed = {1: number, 2: b"".join(message({0: n})[1:] for n in several)}
    assert decode(message(packed), table) == {"a": number, "b": several}


SMALL = ("pstree", "core-1000", "mm-1000", "pagemap-1000", "files", "fdinfo-1", "tcp-stream-ff")


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(SMALL), st.integers(0, 400), st.integers(0, 255))
def test_whatever_a_byte_becomes_the_answer_is_a_table_or_a_clear_error(spoilt, name, at, byte):
    path = spoilt / f"{name}.img"
    was = path.read_bytes()
    content = bytearray(was)
    content[at % len(content)] = byte
    path.write_bytes(content)
    try:
        with contextlib.suppress(CheckpointError):
            found = Checkpoint.open(spoilt)
            assert all(len(getattr(found, table)) >= 0 for table in cli.checkpoint.TABLES)
    finally:
        path.write_bytes(was)


@pytest.fixture(scope="module")
def spoilt(tmp_path_factory):
    return make(tmp_path_factory.mktemp("spoilt"))


# -- how it looks


def test_a_checkpoint_fits_a_terminal_and_a_notebook(checkpoint):
    said = str(checkpoint)
    assert max(map(len, said.splitlines())) <= 100
    for word in ("server --port 8000", "├─ 1001 child", "└─ 1002 z", "heap", "10.78.0.4:40000"):
        assert word in said
    page = checkpoint._repr_html_()
    assert "data:image/png" in page
    assert "10.88.0.11:8000 → 10.78.0.4:40000" in page


def test_a_difference_fits_a_terminal_and_a_notebook(checkpoint, tmp_path):
    other = Checkpoint.open(make(tmp_path / "2", heap=[b"z" * PAGE]))
    difference = other.difference(checkpoint)
    said = str(difference)
    assert "1 changed, 0 new, 2 gone of" in said
    assert max(map(len, said.splitlines())) <= 100
    assert "data:image/png" in difference._repr_html_()
    assert "nothing" in str(checkpoint.difference(checkpoint))
    assert "data:image/png" in checkpoint.difference(checkpoint)._repr_html_()


def test_names_in_a_checkpoint_cannot_write_the_page(tmp_path):
    make(tmp_path)
    write(tmp_path, "core-1001.img", {1: 1, 3: {1: 1, 6: "<script>"}, 4: {2: 2}})
    assert "<script>" not in Checkpoint.open(tmp_path)._repr_html_()


def run(monkeypatch, capsys, *words):
    monkeypatch.setattr(sys, "argv", ["testbed", "checkpoint", *map(str, words)])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    return ended.value.code, capsys.readouterr()


def test_the_command_shows_tells_differences_and_speaks_json(monkeypatch, capsys, folder, tmp_path):
    code, said = run(monkeypatch, capsys, "show", folder)
    assert code == 0
    assert "1000 server --port 8000" in said.out
    _, said = run(monkeypatch, capsys, "show", folder, "--json")
    tables = json.loads(said.out)
    assert set(tables) == {"processes", "mappings", "files", "sockets", "images"}
    assert tables["processes"][0]["pid"] == 1000
    other = make(tmp_path / "2", heap=[b"z" * PAGE])
    _, said = run(monkeypatch, capsys, "show", other, "--since", folder, "--json")
    told = json.loads(said.out)
    assert {place["how"] for place in told["places"]} == {"changed", "gone"}
    _, said = run(monkeypatch, capsys, "show", other, "--since", folder)
    assert "1 changed" in said.out


def test_the_command_ends_in_one_line_where_there_is_no_checkpoint(monkeypatch, capsys, tmp_path):
    code, said = run(monkeypatch, capsys, "show", tmp_path)
    assert code == 1
    assert said.err.startswith(f"testbed: {tmp_path}: no checkpoint")
    code, said = run(monkeypatch, capsys, "take", "edge-1", "counter", "-o", tmp_path / "x",
                     "--name", "no-such-lab")  # fmt: skip
    assert code == 1
    assert list(tmp_path.iterdir()) == []
