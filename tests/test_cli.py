import os
import platform
import subprocess
import sys

import pytest

from testbed import cli


def call(*words, **environment):
    return subprocess.run(
        [sys.executable, "-m", "testbed.cli", *words],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **environment},
    )


def test_without_a_command_it_says_what_there_is():
    said = call("--help").stdout
    assert all(word in said for word in ("doctor", "lab", "run", "show"))


@pytest.mark.parametrize("words", [["run"], ["lab", "up"], ["lab", "down"]])
def test_not_root_is_refused_with_exit_code_2(monkeypatch, capsys, words):
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(sys, "argv", ["testbed", *words])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 2
    assert "sudo" in capsys.readouterr().err


def test_not_linux_is_refused_with_exit_code_2(monkeypatch, capsys):
    monkeypatch.setattr(platform, "system", lambda: "Darwin")
    monkeypatch.setattr(sys, "argv", ["testbed", "run"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 2
    assert "Darwin" in capsys.readouterr().err


def test_a_wrong_scenario_ends_in_one_clear_line(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(platform, "system", lambda: "Linux")
    scenario = tmp_path / "wrong.yml"
    scenario.write_text("name: wrong\nmapp: {source: berlin}\n")
    monkeypatch.setattr(sys, "argv", ["testbed", "run", str(scenario)])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    said = capsys.readouterr().err
    assert ended.value.code == 1
    assert f"{scenario}: mapp: unknown key; did you mean 'map'?" in said


def test_results_that_are_none_are_refused(tmp_path):
    done = call("show", str(tmp_path))
    assert done.returncode == 1
    assert "manifest" in done.stderr
    assert "Traceback" not in done.stderr
