import json
import struct
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from testbed.errors import ServiceError
from testbed.services.context import sha256_of
from testbed.services.service import find_service
from testbed.services.yolo.client import Photos, alike, overlap, read_photos
from testbed.services.yolo.server import Network, corners_inside

SIZES = {"dog.jpg": (768, 576), "person.jpg": (640, 424)}


@pytest.fixture(scope="module")
def photos(client_folder):
    return read_photos(client_folder("yolo") / "inputs")


@pytest.fixture(scope="module")
def network(context):
    return Network(context("yolo") / "models", context("yolo") / "own")


def test_every_photo_has_its_objects_found_and_counted(serve, use):
    run = use("yolo", serve("yolo"), "--requests", "8", "--interval-s", "0.01")
    assert run.code == 0, run.errors
    assert [int(row["count"]) for row in run.rows] == list(range(1, 9))
    assert all(0 < float(row["processing_s"]) < float(row["delay_s"]) for row in run.rows)


def test_the_right_objects_are_named(network, photos):
    names = [{one["name"] for one in network.answer(jpeg)["objects"]} for jpeg, _ in photos]
    assert names == [
        {"dog", "car", "truck", "bicycle"},
        {"bird"},
        {"giraffe", "zebra"},
        {"person", "dog", "sheep"},  # the small network takes the horse for a sheep
    ]


def test_boxes_stay_inside_the_photo(network, photos):
    for jpeg, _ in photos:
        for one in network.answer(jpeg)["objects"]:
            x, y, width, height = one["box"]
            assert min(x, y) >= 0
            assert x + width <= 773
            assert y + height <= 576


@given(
    st.lists(
        st.tuples(st.floats(-0.5, 1.5), st.floats(-0.5, 1.5), st.floats(0, 2), st.floats(0, 2)),
        min_size=1,
    )
)
def test_any_box_is_cut_to_the_photo(boxes):
    x, y, width, height = corners_inside(np.array(boxes), 640, 480).T
    assert (x >= 0).all()
    assert (y >= 0).all()
    assert (width >= 0).all()
    assert (x + width <= 640 + 1e-9).all()
    assert (y + height <= 480 + 1e-9).all()


box = st.tuples(*[st.integers(0, 100)] * 2, *[st.integers(1, 100)] * 2)


@given(one=box, other=box)
def test_overlap_is_what_counting_pixels_gives(one, other):
    def covered(b):
        grid = np.zeros((200, 200), bool)
        grid[b[1] : b[1] + b[3], b[0] : b[0] + b[2]] = True
        return grid

    a, b = covered(one), covered(other)
    assert overlap(one, other) == pytest.approx((a & b).sum() / (a | b).sum())


THINGS = [{"names": ["dog"], "box": [10, 10, 100, 100], "models": ["m"]}]
DOG = {"name": "dog", "confidence": 0.8, "box": [10, 10, 100, 100]}


def answer(codec, *objects, model="m", sequence=1):
    text = json.dumps({"sequence": sequence, "count": sequence, "processing_s": 0.1,
                       "model": model, "objects": list(objects)}).encode()  # fmt: skip
    return codec.hear(struct.pack(">I", len(text)) + text)[0].problem


@pytest.mark.parametrize(
    ("objects", "problem"),
    [
        ([DOG], ""),
        ([], "no dog at"),
        ([{**DOG, "name": "cat"}], "no dog at"),
        ([{**DOG, "box": [80, 10, 100, 100]}], "no dog at"),
    ],
)
def test_the_truth_decides(objects, problem):
    assert answer(Photos([(b"", THINGS)], 0.5), *objects).startswith(problem)


def test_only_models_known_to_find_a_thing_must():
    assert answer(Photos([(b"", THINGS)], 0.5), model="other") == ""


def test_another_answer_to_the_same_photo_is_wrong():
    codec = Photos([(b"", THINGS)], 0.5)
    assert answer(codec, DOG) == ""
    assert answer(codec, {**DOG, "confidence": 0.81}, sequence=2) == ""
    problem = answer(codec, {**DOG, "confidence": 0.6}, sequence=3)
    assert problem == "dog 0.6 [10, 10, 100, 100] where it was dog 0.8 [10, 10, 100, 100]"
    assert not alike([DOG], [DOG, DOG])


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """Weights of the full network's size and form; what they were trained for is not looked at."""
    path = tmp_path_factory.mktemp("models") / "yolov3.weights"
    numbers = np.random.default_rng(1).normal(0, 0.01, 62_001_757).astype(np.float32)
    with path.open("wb") as file:
        file.write(struct.pack("<iiiq", 0, 2, 0, 32_013_312))
        numbers.tofile(file)
    assert path.stat().st_size == 248_007_048  # as the original has
    return path


def test_the_full_network_is_built_in_and_used_where_the_weights_are(weights, cache, photos):
    service = find_service("yolo")
    own = replace(service.own_files[0], sha256=sha256_of(weights))
    service = replace(service, own_files=(own,))
    with service.build_context(cache, {"weights": str(weights)}) as folder:
        network = Network(folder / "models", folder / "own")
        assert network.model == "yolov3"
        assert network.answer(photos[0][0])["model"] == "yolov3"
        assert not (folder / "models" / "yolov3-tiny.weights").exists()


def test_other_weights_of_the_same_size_are_refused(weights):
    with pytest.raises(ServiceError, match=r"is not the known yolov3\.weights"):
        find_service("yolo").image_name({"weights": str(weights)})
