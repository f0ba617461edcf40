import ast
import hashlib
import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from testbed.errors import ServiceError
from testbed.images.plan import plan_image
from testbed.images.recipe import read_recipe
from testbed.services import service as service_module
from testbed.services.context import CLIENT_MODULES, TOP, OwnFile
from testbed.services.service import Service, find_service, service_names

NAMES = ["face-detection", "openface", "ram", "simple", "xonotic", "yolo"]


def test_our_services_are_found_by_name():
    assert set(NAMES) <= set(service_names())
    for name in NAMES:
        assert find_service(name).name == name


@pytest.mark.parametrize("name", NAMES)
def test_a_service_is_whole(name):
    service = find_service(name)
    assert (service.folder / "client.py").is_file()
    assert (service.folder / "server.py").is_file()
    layers = service.expected_layers()
    assert next(iter(layers.values())) == "base"
    assert set(list(layers.values())[1:]) == {"app"}
    recipe = read_recipe(service.folder / "Dockerfile")
    assert f"{service.port}/{service.protocol}" in str(recipe.instructions)


@pytest.mark.parametrize("name", NAMES)
def test_clients_need_the_standard_library_and_what_is_brought_only(name):
    service = find_service(name)
    brought = [*CLIENT_MODULES, *service.shared]
    ours = {path.removesuffix(".py").replace("/", ".") for path in brought}
    for file in [service.folder / "client.py", *(TOP / module for module in brought)]:
        for module in imported(file):
            assert module.split(".")[0] in sys.stdlib_module_names or any(
                module == known or module.startswith(f"{known}.") for known in ours
            ), (file, module)


def imported(file):
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("name", NAMES)
def test_a_build_context_holds_all_that_the_recipe_copies(name, cache):
    service = find_service(name)
    with service.build_context(cache) as folder:
        recipe = read_recipe(folder / "Dockerfile")
        plan_image(recipe, folder, architecture="x86_64")  # reads every file that is copied
        assert (folder / "server.py").read_bytes() == (service.folder / "server.py").read_bytes()
        kept = folder
    assert not kept.exists()
    assert service.image_name() == name


class TestFilesOfTheUsers:
    weights = b"trained for weeks"
    own = OwnFile("weights", "net.weights", hashlib.sha256(weights).hexdigest())

    @pytest.fixture
    def service(self, tmp_path, monkeypatch):
        (tmp_path / "service").mkdir()
        (tmp_path / "service" / "Dockerfile").write_text("FROM debian:trixie-slim\n")
        monkeypatch.delenv("TESTBED_DATA", raising=False)
        return Service("mine", tmp_path / "service", 9, own_files=(self.own,))

    def test_what_an_option_names_goes_into_the_image(self, service, tmp_path):
        (tmp_path / "w").write_bytes(self.weights)
        options = {"weights": str(tmp_path / "w")}
        with service.build_context(tmp_path, options) as folder:
            assert (folder / "own" / "net.weights").read_bytes() == self.weights
        assert service.image_name(options) not in {"mine", service.image_name()}
        assert "--weights" not in service.server_command(options)

    def test_what_lies_among_the_data_is_found(self, service, tmp_path, monkeypatch):
        (tmp_path / "models").mkdir()
        (tmp_path / "models" / "net.weights").write_bytes(self.weights)
        monkeypatch.setenv("TESTBED_DATA", f"/nowhere:{tmp_path}")
        with service.build_context(tmp_path) as folder:
            assert (folder / "own" / "net.weights").exists()

    def test_without_them_the_folder_is_empty(self, service, tmp_path):
        with service.build_context(tmp_path) as folder:
            assert list((folder / "own").iterdir()) == []
        assert service.image_name() == "mine"

    def test_a_file_that_is_not_there_or_another_is_refused(self, service, tmp_path):
        (tmp_path / "w").write_bytes(self.weights[:-1])
        with pytest.raises(ServiceError, match=r"is not the known net\.weights"):
            service.image_name({"weights": str(tmp_path / "w")})
        with pytest.raises(ServiceError, match="'weights': there is no file /no/such"):
            service.image_name({"weights": "/no/such"})


def test_an_unknown_service_is_answered_with_the_nearest():
    with pytest.raises(ServiceError, match="did you mean 'simple'"):
        find_service("simpel")
    with pytest.raises(ServiceError, match=r"there are: .*face-detection"):
        find_service("quake")


def test_a_service_of_ones_own_is_one_entry_point(monkeypatch, tmp_path):
    (tmp_path / "my_service.py").write_text(
        "from pathlib import Path\n"
        "from testbed.services.service import Service\n"
        "SERVICE = Service('mine', Path('.'), 9)\nWRONG = 5\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    points = {
        name: EntryPoint(name, f"my_service:{value}", service_module.GROUP)
        for name, value in (("mine", "SERVICE"), ("wrong", "WRONG"), ("broken", "NOTHING"))
    }

    def entry_points(group, name=None):
        return [points[name]] if name in points else []

    monkeypatch.setattr(service_module, "entry_points", entry_points)
    assert find_service("mine").port == 9
    with pytest.raises(ServiceError, match="is a int, not a Service"):
        find_service("wrong")
    with pytest.raises(ServiceError, match="cannot be loaded"):
        find_service("broken")


def test_options_become_flags_and_wrong_ones_are_refused():
    service = Service(
        "x",
        Path(),
        9,
        server_options={"memory_mb": 0.0},
        client_options={"inputs": "here", "most": 4},
    )
    assert service.server_command({"memory_mb": 5})[-2:] == ["--memory-mb", "5.0"]
    assert service.server_command()[-4:] == ["--port", "9", "--memory-mb", "0.0"]
    assert service.server_command({"inputs": "there"}) == service.server_command()
    command = service.client_command("10.0.0.1", 9, 0.02, {"inputs": "there", "most": 4.0})
    where = ["--address", "10.0.0.1", "--port", "9"]
    assert command[1:] == [
        "client.py",
        *where,
        "--interval-s",
        "0.02",
        "--inputs",
        "there",
        "--most",
        "4",
    ]
    with pytest.raises(ServiceError, match="no option 'memory'; did you mean 'memory_mb'"):
        service.server_command({"memory": 5})
    with pytest.raises(ServiceError, match="'memory_mb' is '5'; write a number"):
        service.server_command({"memory_mb": "5"})
    with pytest.raises(ServiceError, match=r"'most' is 4.5; write a whole number, such as 4"):
        service.client_command("a", 9, 0.02, {"most": 4.5})
    with pytest.raises(ServiceError, match="'inputs' is 5; write a text"):
        service.client_command("a", 9, 0.02, {"inputs": 5})
