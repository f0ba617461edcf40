import json
import socket
import struct

import pytest

from testbed.errors import ServiceError
from testbed.services import package
from testbed.services.face_detection import inputs
from testbed.services.face_detection.client import Frames, read_frames
from testbed.services.face_detection.server import detect, load_detector
from testbed.services.service import find_service


@pytest.fixture(scope="module")
def frames(client_folder):
    return read_frames(client_folder("face-detection") / "inputs")


@pytest.fixture
def port(serve):
    return serve("face-detection")


def connect(port):
    return socket.create_connection(("127.0.0.1", port), timeout=10)


def said(reader):
    header = reader.read(4)
    return json.loads(reader.read(struct.unpack(">I", header)[0])) if header else None


def ask(port, *contents, announced=None):
    """Answers to frames sent one after another on one connection; ``None``: it was closed."""
    with connect(port) as connection, connection.makefile("rb") as reader:
        answers = []
        for content in contents:
            length = len(content) if announced is None else announced
            connection.sendall(struct.pack(">I", length) + content)
            answers.append(said(reader))
        return answers


def test_the_inputs_are_the_whole_video_with_a_face_in_many_frames(frames):
    assert len(frames) == 120
    assert all(jpeg[:2] == b"\xff\xd8" for jpeg, _ in frames)
    found = [len(faces) for _, faces in frames]
    assert sum(found) > 60
    assert max(found) == 1


def test_the_expected_faces_are_what_the_server_finds(frames):
    detector = load_detector()
    for jpeg, faces in frames[::10]:
        assert detect(jpeg, detector) == faces


def test_the_second_time_needs_no_network(tmp_path, client_folder, cache, monkeypatch):
    first = client_folder("face-detection")

    def refuse(*_args, **_more):
        raise AssertionError("started a program")

    monkeypatch.setattr(package.subprocess, "run", refuse)
    inputs.write_inputs(tmp_path / "inputs", cache)
    for path in (first / "inputs").rglob("*.j*"):
        copy = tmp_path / path.relative_to(first)
        assert copy.read_bytes() == path.read_bytes()


def test_a_cache_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "cache").write_text("a file, not a folder")
    with pytest.raises(ServiceError, match=r"cannot be written: .* TESTBED_CACHE"):
        find_service("face-detection").prepare_inputs(tmp_path / "x", cache=tmp_path / "cache")


def test_an_undisturbed_run_is_all_right(port, use):
    run = use("face-detection", port, "--requests", "130", "--interval-s", "0.005")
    assert run.code == 0, run.errors
    assert run.summary["answered"] == 130
    assert [int(row["count"]) for row in run.rows] == list(range(1, 131))
    assert all(0 < float(row["processing_s"]) < float(row["delay_s"]) for row in run.rows)


def test_never_more_than_a_few_frames_are_out(port, use):
    options = ("--requests", "20", "--interval-s", "0.0001", "--most-outstanding", "2")
    run = use("face-detection", port, *options)
    assert run.code == 0
    sent = [float(row["sent_epoch_s"]) for row in run.rows]
    answered = [float(row["answered_epoch_s"]) for row in run.rows]
    assert all(sent[n] >= answered[n - 2] - 1e-5 for n in range(2, 20))


def test_a_broken_jpeg_is_an_error_and_not_counted(port, frames):
    jpeg = frames[0][0]
    answers = ask(port, jpeg, b"\xff\xd8 no jpeg", b"", jpeg)
    assert [answer.get("count") for answer in answers] == [1, None, None, 2]
    assert [answer["sequence"] for answer in answers] == [1, 2, 3, 4]
    assert all("not a readable JPEG" in answer["error"] for answer in answers[1:3])


def test_an_announced_gigabyte_closes_only_that_connection(port, frames):
    jpeg = frames[0][0]
    with connect(port) as good, good.makefile("rb") as reader:
        good.sendall(struct.pack(">I", len(jpeg)) + jpeg)
        assert said(reader)["count"] == 1
        (answer,) = ask(port, b"", announced=1 << 30)
        assert "bytes announced" in answer["error"]
        with connect(port) as bad, bad.makefile("rb") as rest:
            bad.sendall(struct.pack(">I", 1 << 30))
            said(rest)
            assert rest.read() == b""
        good.sendall(struct.pack(">I", len(jpeg)) + jpeg)
        assert said(reader)["count"] == 2


def test_truncated_frames_and_abrupt_endings_disturb_nobody(port, frames):
    jpeg = frames[0][0]
    for cut in (0, 2, 4, 100):
        for linger in (b"\0" * 8, b"\1\0\0\0\0\0\0\0"):
            connection = connect(port)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            connection.sendall((struct.pack(">I", len(jpeg)) + jpeg)[:cut])
            connection.close()
    assert ask(port, jpeg)[0]["count"] == 1


def answering(*answers):
    def handle(connection):
        reader = connection.makefile("rb")
        for answer in answers:
            reader.read(struct.unpack(">I", reader.read(4))[0])
            text = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
            connection.sendall(struct.pack(">I", len(text)) + text)

    return handle


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"count": 3}, "count 3 instead of 2"),
        ({"faces": [[1, 2, 3, 4], [5, 6, 7, 8], [9, 9, 9, 9]]}, "faces"),
        ({"faces": None}, "not an answer"),
        ({"sequence": 7}, "an answer to 7, which was not asked"),
        ({"error": "oh dear"}, "error: oh dear"),
    ],
)
def test_a_wrong_server_makes_the_client_fail(fake, use, frames, change, error):
    good = [
        {"sequence": n + 1, "count": n + 1, "faces": frames[n][1], "processing_s": 0.001}
        for n in range(2)
    ]
    port = fake(answering(good[0], {**good[1], **change}))
    run = use("face-detection", port, "--requests", "2")
    assert run.code == 1
    assert any(said.startswith(error) for said in run.errors), run.errors


@pytest.mark.parametrize("text", [b"", b"[]", b"no json", b"5", b'{"sequence": []}'])
def test_any_text_is_an_answer_or_none(text):
    codec = Frames([(b"", [])])
    (answer,) = codec.hear(struct.pack(">I", len(text)) + text)
    assert answer.problem.startswith("not an answer")


def test_faces_may_differ_by_the_tolerance_only():
    text = json.dumps({"sequence": 1, "count": 1, "faces": [[10, 10, 50, 52]], "processing_s": 0})
    content = struct.pack(">I", len(text)) + text.encode()
    expected = [(b"", [[10, 10, 50, 50]])]
    assert Frames(expected, 2).hear(content)[0].problem == ""
    assert Frames(expected, 1).hear(content)[0].problem.startswith("faces [[10")


def test_a_new_connection_is_numbered_from_its_first_request():
    codec = Frames([(b"a", [])])
    codec.start(41)
    text = json.dumps({"sequence": 2, "count": 9, "faces": [], "processing_s": 0.5}).encode()
    assert codec.hear(struct.pack(">I", len(text)) + text)[0].sequence == 42
