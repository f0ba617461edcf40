import hashlib
import os
import shutil
import subprocess
import tarfile

import pytest

from testbed.edge import layers

needs_zstd = pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("zstd") is None, reason="needs root and zstd"
)


@pytest.fixture
def edges(tmp_path, monkeypatch):
    """Lets the test be one edge or another."""

    def become(name):
        monkeypatch.setattr(layers, "LAYERS", tmp_path / name / "layers")
        monkeypatch.setattr(layers, "INCOMING", tmp_path / name / "incoming")
        layers.LAYERS.mkdir(parents=True, exist_ok=True)
        layers.missing([])

    return become


def provision(tmp_path):
    """Bring a small layer to this edge; return its digest."""
    (tmp_path / "content").mkdir(exist_ok=True)
    (tmp_path / "content" / "hello").write_bytes(os.urandom(2_500_000))
    (tmp_path / "content" / ".wh.gone").touch()
    archive = tmp_path / "layer.tar"
    with tarfile.open(archive, "w") as tar:
        tar.add(tmp_path / "content", arcname=".")
    digest = hashlib.sha256(archive.read_bytes()).hexdigest()
    packed = layers.INCOMING / f"{digest}{layers.SUFFIX}"
    subprocess.run(["zstd", "-q", str(archive), "-o", str(packed)], check=True)
    layers.unpack(packed)
    return digest


def carried(digest, become, to):
    """All pieces of a layer, as they would travel, taken at another edge."""
    sent = list(layers.pieces(digest))
    become(to)
    offset = 0
    for data in sent:
        assert layers.missing([digest]) == [digest]
        layers.take(digest, offset, data)
        offset += len(data)


@needs_zstd
def test_a_layer_goes_on_from_edge_to_edge_to_edge(edges, tmp_path):
    edges("first")
    digest = provision(tmp_path)
    for name in ("second", "third"):
        carried(digest, edges, name)
        assert layers.missing([digest, "other"]) == ["other"]
        folder = layers.LAYERS / digest
        content = (tmp_path / "content" / "hello").read_bytes()
        assert (folder / "hello").read_bytes() == content
        assert (folder / "gone").is_char_device()
        assert list(layers.INCOMING.iterdir()) == []


@needs_zstd
def test_a_layer_that_is_not_what_its_digest_says_is_refused_and_not_kept(edges, tmp_path):
    edges("first")
    digest = provision(tmp_path)
    other = "0" * 64
    layers.archive_of(digest).rename(layers.archive_of(other))
    with pytest.raises(ValueError, match="damaged"):
        carried(other, edges, "second")
    assert layers.missing([other]) == [other]
    assert list(layers.INCOMING.iterdir()) == list(layers.LAYERS.iterdir()) == []


@needs_zstd
def test_a_layer_that_was_sent_in_part_is_sent_again_from_its_beginning(edges, tmp_path):
    edges("first")
    digest = provision(tmp_path)
    first, *_ = layers.pieces(digest)
    edges("second")
    layers.take(digest, 0, first + b"and more than there is" * 200_000)
    edges("first")
    carried(digest, edges, "second")
    assert layers.missing([digest]) == []


def test_a_layer_whose_archive_is_gone_is_an_error_that_says_what_to_do(edges):
    edges("first")
    with pytest.raises(FileNotFoundError, match="provision the target"):
        list(layers.pieces("ab" * 32))


class Asked:
    """A channel whose other end lacks all layers and takes what it is sent."""

    def __init__(self):
        self.waiting, self.most, self.asked = 0, 0, []

    def send(self, *_):
        self.waiting += 1
        self.most = max(self.most, self.waiting)

    def ask(self, head):
        self.asked.append(head["message"])
        self.waiting = 0
        return {"lacking": head.get("layers")}


@needs_zstd
def test_before_the_next_layer_is_sent_the_last_one_has_been_unpacked(edges, tmp_path):
    """Whoever unpacks takes nothing meanwhile, and a line that takes nothing counts as broken."""
    edges("first")
    digest = provision(tmp_path)
    channel = Asked()
    assert layers.bring(channel, [digest, digest]) == "2 layers sent"
    assert channel.asked == ["lacking", "sync", "sync"]
    assert channel.most == len(list(layers.pieces(digest)))
