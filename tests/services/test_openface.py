import json
import math
import struct
from dataclasses import replace

import cv2
import numpy as np
import pytest

from testbed.services.context import sha256_of
from testbed.services.openface.client import Faces, read_people
from testbed.services.openface.server import People
from testbed.services.service import find_service


@pytest.fixture(scope="module")
def photos(client_folder):
    """Photos by the name of the file they were made of."""
    people = read_people(client_folder("openface") / "inputs")
    return {person["from"]: jpeg for jpeg, person in people}


@pytest.fixture
def people(context):
    return People(context("openface") / "models", context("openface") / "own")


def test_an_undisturbed_run_is_all_right(serve, use):
    run = use("openface", serve("openface"), "--requests", "10", "--interval-s", "0.01")
    assert run.code == 0, run.errors
    assert [int(row["count"]) for row in run.rows] == list(range(1, 11))
    assert all(0 < float(row["processing_s"]) < float(row["delay_s"]) for row in run.rows)


def test_the_right_person_is_named_and_a_stranger_refused(people, photos):
    people.answer(b"Barack Obama\n" + photos["obama.jpg"])
    people.answer(b"the driver\n" + photos["000.jpg"])
    seen = {name: people.answer(b"\n" + jpeg)["faces"] for name, jpeg in photos.items()}
    assert all(len(faces) == 1 for faces in seen.values())
    assert {name: faces[0]["name"] for name, faces in seen.items()} == {
        **dict.fromkeys(("obama.jpg", "obama2.jpg", "obama3.jpg"), "Barack Obama"),
        **dict.fromkeys(("000.jpg", "040.jpg", "080.jpg"), "the driver"),
        **dict.fromkeys(("biden.jpg", "astronaut.png")),
    }
    strangers = [seen[name][0]["distance"] for name in ("biden.jpg", "astronaut.png")]
    known = [seen[name][0]["distance"] for name in ("obama2.jpg", "obama3.jpg", "040.jpg")]
    assert max(known) < 0.5
    assert min(strangers) > 0.7


def test_before_anybody_is_enrolled_nobody_is_known(people, photos):
    (face,) = people.answer(b"\n" + photos["obama.jpg"])["faces"]
    assert face["name"] is face["distance"] is None
    assert len(face["embedding"]) == 128


def test_boxes_are_those_of_the_photo_that_was_sent(people, photos):
    small = cv2.imdecode(np.frombuffer(photos["obama.jpg"], np.uint8), cv2.IMREAD_COLOR)
    large = cv2.imencode(".jpg", cv2.resize(small, None, fx=2, fy=2))[1].tobytes()
    (one,), (two,) = (people.answer(b"\n" + jpeg)["faces"] for jpeg in (photos["obama.jpg"], large))
    assert np.array(two["box"]) == pytest.approx(2 * np.array(one["box"]), abs=12)
    assert math.dist(one["embedding"], two["embedding"]) < 0.1


def test_several_faces_are_all_recognised_the_largest_first(people, photos):
    pictures = [
        cv2.imdecode(np.frombuffer(photos[name], np.uint8), cv2.IMREAD_COLOR)
        for name in ("biden.jpg", "obama2.jpg")
    ]
    wide = np.zeros((640, 640, 3), np.uint8)
    wide[: pictures[0].shape[0], : pictures[0].shape[1]] = pictures[0]
    wide[: pictures[1].shape[0], 300 : 300 + pictures[1].shape[1]] = pictures[1]
    people.answer(b"Barack Obama\n" + photos["obama.jpg"])
    faces = people.answer(b"\n" + cv2.imencode(".jpg", wide)[1].tobytes())["faces"]
    assert [face["name"] for face in faces] == ["Barack Obama", None]


@pytest.mark.parametrize(
    ("head", "photo", "error"),
    [
        (b"", "obama.jpg", "a name is UTF-8 text"),
        (b"x" * 70, None, "write a name"),
        (b"x" * 65 + b"\n", "obama.jpg", "write a name"),
        (b"\xff\n", "obama.jpg", "a name is UTF-8 text"),
        (b"Nobody\n", None, "there is no face to enrol"),
    ],
)
def test_what_cannot_be_done_is_refused(people, photos, head, photo, error):
    grey = cv2.imencode(".jpg", np.full((200, 200, 3), 128, np.uint8))[1].tobytes()
    with pytest.raises(ValueError, match=error):
        people.answer(head + (photos[photo] if photo else grey))
    assert people.known == {}


def answer(codec, sequence, **face):
    seen = {"box": [0, 0, 9, 9], "name": None, "distance": 1.0, "embedding": [0.0] * 128, **face}
    text = json.dumps({"sequence": sequence, "count": sequence, "processing_s": 0.1,
                       "faces": [seen]}).encode()  # fmt: skip
    return codec.hear(struct.pack(">I", len(text)) + text)[0].problem


ANN, FAR = [0.1] * 128, [0.0] * 127 + [1.0]
APART = math.dist(ANN, FAR)


@pytest.mark.parametrize(
    ("seen", "problem"),
    [
        ({"name": "Ann", "distance": 0.0, "embedding": ANN}, ""),
        ({"name": None, "distance": 0.9}, "None at 0.9 instead of Ann"),
        ({"name": "Bob", "distance": 0.9}, "Bob at 0.9 instead of Ann"),
        ({"name": "Ann", "distance": 0.5, "embedding": ANN}, "distance 0.5 where"),
        ({"name": "Ann", "distance": APART, "embedding": FAR}, ""),
        ({"name": "Ann", "distance": 0.0, "embedding": ANN[1:]}, "an embedding of 127 numbers"),
    ],
)
def test_a_wrong_answer_is_noticed(seen, problem):
    codec = Faces([(b"", {"enrol": "Ann"}), (b"", {"name": "Ann"})])
    assert answer(codec, 1, name="Ann", distance=0.0, embedding=ANN) == ""
    assert answer(codec, 2, **seen).startswith(problem)


def test_an_embedding_that_drifts_is_noticed():
    codec = Faces([(b"", {"enrol": "Ann"}), (b"", {"name": "Ann"})])
    answer(codec, 1, name="Ann", distance=0.0, embedding=ANN)
    assert answer(codec, 2, name="Ann", distance=0.0, embedding=ANN) == ""
    problem = answer(codec, 3, name="Ann", distance=APART, embedding=FAR)
    assert problem.startswith("the photo's embedding is")


def test_people_are_enrolled_once_and_shown_over_and_over():
    codec = Faces([(b"a", {"enrol": "Ann"}), (b"b", {"name": "Ann"}), (b"c", {"name": None})])
    assert [codec.which(n) for n in range(1, 8)] == [0, 1, 2, 1, 2, 1, 2]
    assert codec.request(1)[4:] == b"Ann\na"
    assert codec.request(4)[4:] == b"\nb"


class Torch:
    """Writes a small network in Torch's binary format: what OpenFace's network comes in."""

    def __init__(self):
        self.content = b""
        self._objects = 0

    def _text(self, text):
        self.content += struct.pack("<i", len(text)) + text.encode()

    def _begin(self, kind, name=None):
        self._objects += 1
        self.content += struct.pack("<ii", kind, self._objects)
        if name:
            self._text("V 1")
            self._text(name)

    def put(self, value):
        if isinstance(value, bool):
            self.content += struct.pack("<ii", 5, value)
        elif isinstance(value, dict):
            self._begin(3)
            self.content += struct.pack("<i", len(value))
            for key, item in value.items():
                self.put(key)
                self.put(item)
        elif isinstance(value, str):
            self.content += struct.pack("<i", 2)
            self._text(value)
        elif isinstance(value, np.ndarray):
            self._begin(4, "torch.FloatTensor")
            strides = [stride // 4 for stride in value.strides]
            self.content += struct.pack("<i", value.ndim)
            self.content += struct.pack(f"<{2 * value.ndim + 1}q", *value.shape, *strides, 1)
            self._begin(4, "torch.FloatStorage")
            self.content += struct.pack("<q", value.size) + value.tobytes()
        elif isinstance(value, tuple):
            self._begin(4, value[0])
            self.put(value[1])
        else:
            self.content += struct.pack("<id", 1, value)


@pytest.fixture
def network(tmp_path):
    """A network of nn4.small2's input and output, but with 128 random projections inside."""
    random = np.random.default_rng(1).normal(size=(128, 3, 8, 8)).astype(np.float32)
    window = {"padW": 0, "padH": 0}
    pool = {"kW": 12, "kH": 12, "dW": 12, "dH": 12, "ceil_mode": False, **window}
    project = {"nInputPlane": 3, "nOutputPlane": 128, "kW": 8, "kH": 8, "dW": 1, "dH": 1,
               "weight": random, "bias": np.zeros(128, np.float32), **window}  # fmt: skip
    layers = {1: ("nn.SpatialAveragePooling", pool), 2: ("nn.SpatialConvolution", project)}
    torch = Torch()
    torch.put(("nn.Sequential", {"modules": layers}))
    (tmp_path / "network.t7").write_bytes(torch.content)
    return tmp_path / "network.t7"


def test_the_users_own_network_is_built_in_and_used(network, cache, photos):
    service = find_service("openface")
    own = replace(service.own_files[0], sha256=sha256_of(network))
    with replace(service, own_files=(own,)).build_context(
        cache, {"network": str(network)}
    ) as folder:
        assert not list((folder / "models").glob("*resnet*"))
        people = People(folder / "models", folder / "own")
        people.answer(b"Barack Obama\n" + photos["obama.jpg"])
        said = people.answer(b"\n" + photos["obama.jpg"])
    assert said["model"] == "nn4.small2"
    (face,) = said["faces"]
    assert (face["name"], face["distance"]) == ("Barack Obama", 0.0)
    assert math.hypot(*face["embedding"]) == pytest.approx(1.0, abs=1e-3)
