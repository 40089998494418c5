"""Configs by path and by short name, from any directory and from an installed package."""

import re
import shutil
import subprocess
import sys

import pytest
from absl import flags

from tests.runs import ROOT
from vit_jax_xfer import run_elsewhere
from vit_jax_xfer.command_line.config_flag import _ConfigFile
from vit_jax_xfer.experiments import config_files
from vit_jax_xfer.experiments.config_files import config_names, find_config, load_config


def test_every_config_is_found_from_any_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert {"scratch", "attention_distill", "lift", "detection"} < set(config_names())
    for name in config_names():
        for said in (name, f"{name}.py", f"configs/{name}.py", ROOT / "configs" / f"{name}.py"):
            assert find_config(str(said)) == ROOT / "configs" / f"{name}.py"
    digits = load_config("attention_distill:digits,labels=3")
    assert digits.to_json() == load_config("attention_distill", "digits,labels=3").to_json()
    assert load_config("scratch").data.source == "tfds:imagenet2012"


def test_a_file_that_is_there_wins(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "scratch.py").write_text(
        "from vit_jax_xfer.config import default_config\n"
        "def get_config(arg=None):\n"
        "    config = default_config('ensemble', '', settings={})\n"
        "    config.data.source = arg\n"
        "    return config\n"
    )
    assert load_config("scratch.py", "x").data.source == "x"
    assert load_config("scratch", "digits").data.source == "digits"


@pytest.mark.parametrize("name", ["scrach", "configs/scrach.py", "elsewhere/scratch.py"])
def test_the_nearest_name_comes_first(name):
    with pytest.raises(ValueError, match=f"^{re.escape(name)}: no such file; .* names are scratch"):
        find_config(name)


def test_the_flag_takes_names_too(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["main", "--config.optim.lr=1"])
    passed = []

    class Loader(flags.ArgumentParser):
        def parse(self, path):
            passed.append(path)
            return load_config("scratch", "digits")

    parser = _ConfigFile(Loader())
    for said in ("scratch", "scratch:digits", "configs/scratch.py:folder,path=a:b"):
        parser.parse(said)
    file = ROOT / "configs" / "scratch.py"
    assert passed == [f"{file}", f"{file}:digits", f"{file}:folder,path=a:b"]
    with pytest.raises(ValueError, match="scrach: no such file"):
        parser.parse("scrach:digits")


def test_an_argument_is_given_once():
    with pytest.raises(ValueError, match="'scratch:digits': it has an argument already"):
        load_config("scratch:digits", "fashion")


def test_what_is_installed_comes_with_its_configs(tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    for name in ("setup.py", "setup.cfg", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source / name)
    for name in ("vit_jax_xfer", "configs", "launch"):
        shutil.copytree(ROOT / name, source / name)
    build = [sys.executable, "setup.py", "-q", "build_py", "--build-lib", str(tmp_path / "built")]
    subprocess.run(build, cwd=source, check=True, capture_output=True)
    shown = (
        "from vit_jax_xfer import run_elsewhere\n"
        "from vit_jax_xfer.experiments import config_files\n"
        "print(config_files.find_config('scratch'), run_elsewhere.script_folder())"
    )
    where = tmp_path / "elsewhere"
    where.mkdir()
    env = {"PYTHONPATH": str(tmp_path / "built"), "PATH": ""}
    ended = subprocess.run(
        [sys.executable, "-c", shown], cwd=where, env=env, check=True, capture_output=True
    )
    package = tmp_path / "built/vit_jax_xfer"
    scripts = package / "launch_scripts"
    assert ended.stdout.decode().split() == [str(package / "configs/scratch.py"), str(scripts)]
    for name in run_elsewhere.SCRIPTS:
        assert (scripts / f"{name}.sh").read_bytes() == (ROOT / f"launch/{name}.sh").read_bytes()
    assert (package / "py.typed").is_file()


def test_the_packages_own_configs_come_before_those_beside_it(tmp_path, monkeypatch):
    for name in ("site/vit_jax_xfer/configs", "site/configs"):
        (tmp_path / name).mkdir(parents=True)
    monkeypatch.setattr(config_files, "_PACKAGE", tmp_path / "site/vit_jax_xfer")
    assert config_files.config_folder() == tmp_path / "site/vit_jax_xfer/configs"
