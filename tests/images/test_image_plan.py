from dataclasses import replace

import pytest

from testbed.errors import ImageBuildError, RecipeError
from testbed.images.base import base_version, find_base, plan_base
from testbed.images.image import Image, ImageConfig, Layer, manifest_path
from testbed.images.machine import Loan, plan_loan, plan_sources
from testbed.images.plan import BaseStep, CommandStep, CopyStep, plan_image
from testbed.images.recipe import read_recipe
from testbed.images.room import Room, plan_command, plan_copy, plan_script

RECIPE = """
FROM debian:trixie-slim
ARG SIZE=5
ENV GREETING=hello
RUN echo $GREETING
WORKDIR /app
WORKDIR sub
COPY server.py lib* ./
COPY one.txt /srv/other
USER nobody
RUN ["id"]
EXPOSE 80
ENTRYPOINT ["python3"]
CMD server.py $SIZE
"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "Dockerfile").write_text(RECIPE)
    (tmp_path / "server.py").write_text("print()\n")
    (tmp_path / "one.txt").write_text("1")
    (tmp_path / "library" / "__pycache__").mkdir(parents=True)
    (tmp_path / "library" / "__pycache__" / "x.pyc").write_text("")
    (tmp_path / "library" / "a.py").write_text("a")
    return tmp_path


def planned(folder, architecture="x86_64", **more):
    return plan_image(read_recipe(folder / "Dockerfile"), folder, architecture=architecture, **more)


def keys(plan):
    return [step.key for step in plan.steps]


def test_a_recipe_becomes_steps_and_a_config(folder):
    plan = planned(folder)
    base, run, _, workdir, copy, single, last = plan.steps
    assert isinstance(base, BaseStep)
    assert isinstance(run, CommandStep)
    assert run.argv == ("/bin/sh", "-c", "echo $GREETING")
    assert run.env["GREETING"] == "hello"
    assert run.env["SIZE"] == "5"
    assert workdir.argv[-1] == "/app/sub"
    assert isinstance(copy, CopyStep)
    assert [file.name for file in copy.files] == ["server.py", "a.py"]
    assert (copy.destination, copy.into) == ("/app/sub", True)
    assert (single.destination, single.into) == ("/srv/other", False)
    assert (last.user, last.workdir) == ("nobody", "/app/sub")
    config = plan.config
    assert config.command == ("python3", "/bin/sh", "-c", "server.py $SIZE")
    assert config.exposed_ports == ("80/tcp",)
    assert "SIZE" not in config.env


def test_the_same_folder_gives_the_same_keys(folder):
    assert planned(folder) == planned(folder)


def test_a_changed_file_changes_only_its_step_and_later_ones(folder):
    before = keys(planned(folder))
    (folder / "server.py").write_text("print(2)\n")
    after = keys(planned(folder))
    assert before[:4] == after[:4]
    assert all(one != other for one, other in zip(before[4:], after[4:], strict=True))


def test_a_changed_mode_is_a_change(folder):
    before = keys(planned(folder))
    (folder / "server.py").chmod(0o700)
    assert keys(planned(folder)) != before


def test_files_that_are_not_copied_do_not_matter(folder):
    before = keys(planned(folder))
    (folder / "notes.txt").write_text("x")
    (folder / "library" / "__pycache__" / "y.pyc").write_text("")
    assert keys(planned(folder)) == before


def test_architecture_and_base_version_change_everything(folder):
    plans = [planned(folder), planned(folder, "aarch64"), planned(folder, base_version="2")]
    assert len({plan.steps[0].key for plan in plans}) == 3
    assert len({plan.sha256 for plan in plans}) == 3


def test_a_missing_file_is_named(folder):
    (folder / "one.txt").unlink()
    with pytest.raises(RecipeError, match=r"Dockerfile:9: there is no 'one.txt' in"):
        planned(folder)


def test_a_link_out_of_the_folder_is_refused(folder):
    (folder / "one.txt").unlink()
    (folder / "one.txt").symlink_to("/etc/passwd")
    with pytest.raises(RecipeError, match="leads out of"):
        planned(folder)


def test_only_debian_is_a_base():
    assert find_base("debian:trixie-slim", "x").slim
    assert not find_base("debian:trixie", "x").slim
    with pytest.raises(RecipeError, match=r"Dockerfile:1: FROM alpine: .* debian:trixie-slim"):
        find_base("alpine", "Dockerfile:1")


def test_the_base_command_ends_with_the_mirrors():
    base = find_base("debian:trixie-slim", "x")
    command = plan_base(base, "up", ["deb SITE trixie main"])
    assert command[0] == "mmdebstrap"
    assert command[-3:] == ["trixie", "up", "deb SITE trixie main"]
    assert any("usr/share/doc" in word for word in command)
    assert "SITE" not in base_version()


def test_mirrors_are_those_of_the_machine_for_the_other_suite():
    listed = ["S bookworm", "S bookworm-updates", "T bookworm-security", "S bookworm"]
    listed += ["S bookworm-backports", "X nodistro", "", "S trixie"]
    assert plan_sources(listed, "bookworm", "trixie") == [
        "deb S trixie main",
        "deb S trixie-updates main",
        "deb T trixie-security main",
    ]


def test_pip_settings_are_lent_and_local_paths_bound():
    loan = plan_loan(
        {
            "PIP_CERT": "/certs/all.crt",
            "PIP_TARGET": "/somewhere",
            "HTTPS_PROXY": "proxy:1",
            "HOME": "/root",
            "SSL_CERT_FILE": "/certs/all.crt",
        },
        "global.extra-index-url='file:///srv/pypi/simple INDEX'\n"
        "global.find-links='/wheels /gone'\n:env:.cert='x'\n",
        dict.fromkeys(["/certs/all.crt", "/srv/pypi/simple", "/wheels"], True),
    )
    binds = dict(loan.binds)
    assert set(binds) == {"/certs/all.crt", "/srv/pypi", "/wheels"}
    assert loan.env["PIP_CERT"] == loan.env["SSL_CERT_FILE"] == binds["/certs/all.crt"]
    assert loan.env["PIP_EXTRA_INDEX_URL"] == f"file://{binds['/srv/pypi']}/simple INDEX"
    assert loan.env["PIP_FIND_LINKS"] == f"{binds['/wheels']} /gone"
    assert loan.env["HTTPS_PROXY"] == "proxy:1"
    assert not {"HOME", "PIP_TARGET"} & set(loan.env)


def test_the_room_lists_the_uppermost_layer_first_and_binds_read_only(tmp_path):
    room = Room(tmp_path, ("layers/a", "layers/b"), "work/1")
    script = plan_script(room, Loan({}, ((str(tmp_path), "/dev/build/0"),), "deb"), ["true"])
    assert "lowerdir=layers/b:layers/a,upperdir=work/1/upper" in script
    assert f"mount -o bind,ro {tmp_path} work/1/root/dev/build/0" in script
    assert "/etc/apt/sources.list" in script
    assert script.endswith("exec true\n")
    assert "/etc/apt/sources.list" not in plan_script(room, Loan({}), ["true"])


def test_a_command_runs_in_its_folder_as_its_user(folder):
    room = Room(folder, (), "work/1")
    last = planned(folder).steps[-1]
    command = plan_command(room, last)
    assert command[:3] == ["chroot", "--userspec=nobody", "work/1/root"]
    assert command[-2:] == ["/app/sub", "id"]


def test_a_copy_runs_inside_the_root(folder):
    room = Room(folder, (), "work/1")
    copies = [step for step in planned(folder).steps if isinstance(step, CopyStep)]
    for step in copies:
        assert plan_copy(room, step)[:2] == ["chroot", "work/1/root"]
        assert plan_copy(room, step)[-1] == step.destination


def image(cache):
    layers = (Layer("aa", 3_000_000, 1_000_000, "FROM x", base=True), Layer("bb", 10, 5, "RUN <a>"))
    config = ImageConfig({"A": "1"}, "/app", ("a",), (), "", ("80/tcp",), {})
    return Image("demo", "x86_64", layers, config, "ff", cache)


def test_an_image_comes_back_as_it_was_saved(tmp_path):
    saved = image(tmp_path)
    saved.save()
    assert Image.load(tmp_path, "demo") == saved
    assert [path.name for path in (tmp_path / "images" / "images").iterdir()] == ["demo.json"]


def test_an_image_knows_its_sizes_and_layers(tmp_path):
    found = image(tmp_path)
    assert (found.size_bytes, found.compressed_bytes) == (3_000_010, 1_000_005)
    assert [layer.digest for layer in found.base_layers] == ["aa"]
    assert [layer.digest for layer in found.app_layers] == ["bb"]
    assert [path.name for path in found.lowerdirs()] == ["bb", "aa"]
    assert len(found.missing_files()) == 4
    assert "RUN &lt;a&gt;" in found._repr_html_()


def test_a_missing_or_broken_manifest_says_what_to_do(tmp_path):
    with pytest.raises(ImageBuildError, match="build it first"):
        Image.load(tmp_path, "demo")
    replace(image(tmp_path), name="demo").save()
    manifest_path(tmp_path, "demo").write_text("{}")
    with pytest.raises(ImageBuildError, match="remove it and build again"):
        Image.load(tmp_path, "demo")
    with pytest.raises(ImageBuildError, match="use small letters"):
        Image.load(tmp_path, "../demo")
