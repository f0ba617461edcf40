import errno
import fcntl
import hashlib
import http.server
import threading
import zipfile
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest
from made_geolife import make_user, northward

from testbed.errors import ChecksumError, DataImportError, DataNotFoundError, TraceError
from testbed.mobility.files import read_traces
from testbed.mobility.geolife import archive, download, importing
from testbed.mobility.geolife.importing import import_geolife
from testbed.mobility.geolife.plt import Rules
from testbed.mobility.geolife.tracks import find_geolife, read_track

TOP = "Geolife Trajectories 1.3"


@pytest.fixture
def folder(tmp_path):
    """An unpacked data set of two users."""
    data = tmp_path / "mine" / TOP / "Data"
    make_user(data, "000", {"a": [*northward(), "nonsense"]}, [(0, 99, "walk")])
    make_user(data, "001", {"a": northward(count=50), "b": northward(100)})
    return data.parent


@pytest.fixture
def packed(folder, tmp_path):
    """The same as an archive."""
    path = tmp_path / "mine" / f"{TOP}.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for member in sorted(folder.rglob("*.*")):
            file.write(member, member.relative_to(folder.parent))
        file.writestr(f"{TOP}/User Guide-1.3.pdf", "a guide")
    return path


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


def sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def left_in(out):
    return sorted(path.name for path in out.iterdir() if path.name != ".geolife.lock")


def test_a_folder_is_imported_and_loads_as_it_would_be_read(folder, out):
    done = import_geolife(folder, out)
    assert done.fresh
    assert done.folder == out / "geolife-1.3"
    assert left_in(out) == ["geolife-1.3"]
    trace, report = read_traces(out)
    direct, counted = read_traces(folder)
    pd.testing.assert_frame_equal(trace, direct)
    assert report.dropped == counted.dropped == {"malformed lines": 1}
    assert report.modes == counted.modes
    assert pd.read_parquet(done.folder / "traces")["user"].unique().tolist() == ["000", "001"]
    one, report = read_traces(done.folder, users=["001"])
    assert len(one) == report.fixes == 80
    assert "no redistribution" in str(done) or "may be passed on" in str(done)
    assert "malformed lines 1" in done._repr_html_()


@pytest.mark.parametrize("kind", ["folder", "zip"])
def test_scenarios_find_their_tracks_in_what_was_imported(folder, packed, out, kind):
    import_geolife(folder if kind == "folder" else packed, out)
    trace, _ = read_track(find_geolife([out]), "001", file="a")
    assert len(trace) == 50


def test_an_archive_is_imported_whole_and_the_second_time_nothing_is_done(packed, out):
    done = import_geolife(packed, out, sha256=f"SHA256:{sha256(packed).upper()}")
    assert done.report.fixes == 110
    assert (done.folder / "Data" / "000" / "labels.txt").is_file()
    before = (done.folder / "manifest.json").stat()
    for asked in (None, sha256(packed)):
        again = import_geolife(packed, out, sha256=asked)
        assert not again.fresh
        assert again.manifest == done.manifest
    assert (done.folder / "manifest.json").stat() == before


@pytest.mark.parametrize("change", ["source", "rules", "damage"])
def test_it_is_imported_anew_when_anything_has_changed(folder, out, change):
    done = import_geolife(folder, out)
    rules = Rules(gap_s=10.0) if change == "rules" else None
    if change == "source":
        make_user(folder / "Data", "002", {"a": northward()})
    if change == "damage":
        (done.folder / "traces" / "000.parquet").unlink()
    again = import_geolife(folder, out, rules=rules)
    assert again.fresh
    assert len(again.manifest.users) == (3 if change == "source" else 2)
    assert left_in(out) == ["geolife-1.3"]


def test_a_wrong_checksum_is_refused_and_an_earlier_import_stays(packed, out):
    with pytest.raises(ChecksumError, match=f"{TOP}.zip: its sha256 is {sha256(packed)}, and 00"):
        import_geolife(packed, out, sha256="0" * 64)
    assert left_in(out) == []
    import_geolife(packed, out)
    with pytest.raises(ChecksumError):
        import_geolife(packed, out, sha256="0" * 64)
    assert len(read_traces(out)[0]) == 110
    with pytest.raises(ChecksumError, match="is no sha256"):
        import_geolife(packed, out, sha256="abc")


def test_the_sums_in_a_folder_are_checked_file_by_file(folder, out):
    files = [*folder.rglob("*.plt"), *folder.rglob("labels.txt")]
    sums = folder / "SHA256SUMS"
    sums.write_text("".join(f"{sha256(f)}  {f.relative_to(folder)}\n" for f in files))
    done = import_geolife(folder, out, sha256=sha256(sums))
    assert done.manifest.checked == f"4 files are as in {sums}"
    with pytest.raises(ChecksumError, match="SHA256SUMS: its sha256"):
        import_geolife(folder / "Data", out, sha256="0" * 64)
    make_user(folder / "Data", "002", {"a": northward()})
    assert "1 files are not listed" in import_geolife(folder, out).manifest.checked
    changed = folder / "Data" / "001" / "Trajectory" / "b.plt"
    changed.write_bytes(changed.read_bytes().replace(b"39.9", b"39.8"))
    with pytest.raises(ChecksumError, match=r"001/Trajectory/b\.plt: its sha256"):
        import_geolife(folder, out)
    changed.unlink()
    with pytest.raises(DataNotFoundError, match=r"b\.plt: listed in"):
        import_geolife(folder, out)
    sums.write_text("nonsense\n")
    with pytest.raises(ChecksumError, match="SHA256SUMS:1"):
        import_geolife(folder, out)
    sums.unlink()
    with pytest.raises(ChecksumError, match="and there is none"):
        import_geolife(folder, out, sha256="0" * 64)
    assert left_in(out) == ["geolife-1.3"]


def test_the_sums_beside_an_archive_are_checked(packed, out):
    sums = packed.parent / "SHA256SUMS"
    sums.write_text(f"{sha256(packed)} *{packed.name}\n")
    assert "the one in" in import_geolife(packed, out).manifest.checked
    sums.write_text(f"{'0' * 64} *{packed.name}\n")
    with pytest.raises(ChecksumError, match="and 0000"):
        import_geolife(packed, out)


def link(name):
    member = zipfile.ZipInfo(name)
    member.external_attr = 0o120777 << 16
    return member


@pytest.mark.parametrize(
    ("member", "message"),
    [
        ("../../outside.plt", "leads outside"),
        (f"{TOP}/Data/../../../outside.plt", "leads outside"),
        ("/Data/000/Trajectory/a.plt", "leads outside"),
        ("Data\\..\\..\\outside.plt", "leads outside"),
        ("C:/Data/000/Trajectory/a.plt", "leads outside"),
        (link("Data/000/Trajectory"), "is a link"),
        ("Data/000/Trajectory/a.plt", "twice"),
    ],
)
def test_an_archive_that_reaches_out_of_its_folder_is_refused(packed, out, member, message):
    with zipfile.ZipFile(packed, "a") as file:
        file.writestr(member, "/etc")
    with pytest.raises(DataImportError, match=message):
        import_geolife(packed, out)
    assert left_in(out) == []
    assert not list(out.parent.rglob("outside.plt"))


def test_a_damaged_or_strange_archive_is_refused(packed, out, tmp_path):
    content = bytearray(packed.read_bytes())
    content[200:230] = bytes(30)
    packed.write_bytes(content)
    with pytest.raises(DataImportError, match="not a whole zip file"):
        import_geolife(packed, out)
    packed.write_bytes(content[:1000])
    with pytest.raises(DataImportError, match="not a whole zip file"):
        import_geolife(packed, out)
    other = tmp_path / "other.zip"
    with zipfile.ZipFile(other, "w") as file:
        file.writestr("readme.txt", "")
    with pytest.raises(DataImportError, match="is it GeoLife"):
        import_geolife(other, out)
    with pytest.raises(DataNotFoundError, match="no such folder or file"):
        import_geolife(tmp_path / "none.zip", out)
    assert left_in(out) == []


def test_data_without_a_fix_is_not_imported(tmp_path, out):
    make_user(tmp_path / "Data", "000", {"a": ["nonsense"]})
    with pytest.raises(TraceError, match=r"not one usable fix.*a\.plt:7"):
        import_geolife(tmp_path, out)
    assert left_in(out) == []


def test_a_full_disk_is_said_and_leaves_the_earlier_import(packed, folder, out, monkeypatch):
    import_geolife(packed, out)
    usage = importing.shutil.disk_usage(out)
    with monkeypatch.context() as patched:
        patched.setattr(archive.shutil, "disk_usage", lambda _: usage._replace(free=100))
        with pytest.raises(DataImportError, match=r"has 0\.00 GB left"):
            import_geolife(packed, out, rules=Rules(gap_s=1.0))

    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(pq, "write_table", full)
        with pytest.raises(DataImportError, match="disk is full"):
            import_geolife(folder, out)
    assert left_in(out) == ["geolife-1.3"]
    assert len(read_traces(out)[0]) == 110


def test_an_interrupted_import_leaves_nothing_and_what_a_killed_one_left_is_removed(
    folder, out, monkeypatch
):
    (out / ".geolife-killed").mkdir(parents=True)

    def interrupted(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(pq, "write_table", interrupted)
        with pytest.raises(KeyboardInterrupt):
            import_geolife(folder, out)
    assert left_in(out) == []


def test_a_folder_that_is_not_ours_or_is_in_use_is_left_alone(folder, out):
    (out / "geolife-1.3").mkdir(parents=True)
    (out / "geolife-1.3" / "mine.txt").write_text("mine")
    with pytest.raises(DataImportError, match="was not made by an import"):
        import_geolife(folder, out)
    assert (out / "geolife-1.3" / "mine.txt").read_text() == "mine"
    other = out / "other"
    other.mkdir()
    with (other / ".geolife.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(DataImportError, match="another import is running"):
            import_geolife(folder, other)


def test_what_an_import_made_is_no_source_of_it(packed, out):
    done = import_geolife(packed, out)
    for source in (out, done.folder, done.folder / "Data", done.folder / "Data" / "001"):
        with pytest.raises(DataImportError, match="Name your own copy"):
            import_geolife(source, out)
    assert (done.folder / "Data" / "001" / "Trajectory" / "a.plt").is_file()


def test_the_earlier_import_comes_back_where_the_new_one_cannot_be_put_in_place(
    packed, out, monkeypatch
):
    import_geolife(packed, out)
    rename = Path.rename

    def fails(self, target):
        if self.name == "new":
            raise OSError(errno.EIO, "Input/output error")
        return rename(self, target)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "rename", fails)
        with pytest.raises(DataImportError, match="Input/output error"):
            import_geolife(packed, out, rules=Rules(gap_s=1.0))
    assert left_in(out) == ["geolife-1.3"]
    assert len(read_traces(out)[0]) == 110


def test_without_a_folder_it_goes_where_scenarios_look(monkeypatch, tmp_path):
    monkeypatch.setenv("TESTBED_DATA", f"{tmp_path / 'none'}:{tmp_path}")
    assert importing.default_folder() == tmp_path
    monkeypatch.delenv("TESTBED_DATA")
    monkeypatch.setenv("TESTBED_CACHE", str(tmp_path / "cache"))
    assert importing.default_folder() == tmp_path / "cache"


@pytest.fixture
def server(packed):
    """Serves the archive: ``trouble`` says what goes wrong with the next answers."""
    content = packed.read_bytes()

    class Handler(http.server.BaseHTTPRequestHandler):
        validators = True

        def log_message(self, *_):
            pass

        def do_HEAD(self):
            self.answer(200, b"", len(content))

        def do_GET(self):
            begin = 0
            if ranged := self.headers.get("Range"):
                begin = int(ranged.removeprefix("bytes=").removesuffix("-"))
            self.asked.append(begin)
            trouble = self.trouble.pop(0) if self.trouble else ""
            if trouble.isdigit():
                self.send_error(int(trouble))
                return
            part = content[begin:]
            cut = part[: len(part) // 2] if trouble == "cut" else part
            self.answer(206 if begin else 200, cut, len(part))

        def answer(self, status, body, length):
            self.send_response(status)
            self.send_header("Content-Length", str(length))
            if self.validators:
                self.send_header("ETag", '"one"')
            self.end_headers()
            self.wfile.write(body)

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listening:
        thread = threading.Thread(target=listening.serve_forever)
        thread.start()
        Handler.trouble, Handler.asked = [], []
        Handler.url = f"http://127.0.0.1:{listening.server_port}/{packed.name}"
        yield Handler
        listening.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def waits(monkeypatch):
    """Seconds that a download would have waited."""
    waited = []
    monkeypatch.setattr(download.time, "sleep", waited.append)
    return waited


def test_a_download_is_taken_up_where_it_broke(server, packed, out, waits):
    server.trouble += ["503", "cut", "cut"]
    done = import_geolife(server.url, out, sha256=sha256(packed))
    size = packed.stat().st_size
    assert server.asked == [0, 0, size // 2, size // 2 + (size - size // 2) // 2]
    assert waits == [2.0, 4.0, 8.0]
    assert done.report.fixes == 110
    assert not import_geolife(server.url, out).fresh
    assert len(server.asked) == 4
    assert left_in(out) == ["geolife-1.3"]


def test_a_server_that_names_no_version_is_asked_again(server, out):
    server.validators = False
    assert import_geolife(server.url, out).fresh
    assert import_geolife(server.url, out).fresh
    assert len(server.asked) == 2


@pytest.mark.parametrize(
    ("trouble", "message"),
    [
        (["404"], "answers 404"),
        (["503"] * 4, "answers 503"),
        (["cut"] * 4, "bytes came|4 attempts"),
    ],
)
def test_a_download_that_fails_says_why_and_leaves_nothing(server, out, trouble, message):
    server.trouble += trouble
    with pytest.raises(DataImportError, match=message):
        import_geolife(server.url, out)
    assert left_in(out) == []


def test_a_server_that_is_not_there_is_said(out):
    with pytest.raises(DataImportError, match="Connection refused"):
        import_geolife("http://127.0.0.1:9/geolife.zip", out)


def test_a_file_address_is_a_file(packed, out):
    assert import_geolife(packed.as_uri(), out).report.fixes == 110
