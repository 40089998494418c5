"""save_model and load_model: whole or not at all, on any mesh, quiet and light."""

import json
import os
import pathlib
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.storage.small_states import (
    abstract,
    assert_same_bits,
    flip_one_bit,
    make_state,
    place,
)
from vit_jax_xfer.storage import checkpoints
from vit_jax_xfer.storage.checkpoints import CheckpointError

ROOT = pathlib.Path(__file__).parents[2]


def model_variables() -> dict:
    state = place(make_state(), 8)
    return {"params": state.params, "stats": {"mean": jnp.arange(3.0)}}


def test_model_needs_no_tree_and_keeps_all_bits(tmp_path):
    variables = model_variables()
    assert not checkpoints.is_model_directory(tmp_path / "model")
    checkpoints.save_model(tmp_path / "model", variables, {"name": "ViT", "sizes": [1, 2]})
    assert checkpoints.is_model_directory(tmp_path / "model")
    loaded, description = checkpoints.load_model(tmp_path / "model")
    assert description == {"name": "ViT", "sizes": [1, 2]}
    assert_same_bits(loaded, variables)
    assert all(isinstance(leaf, np.ndarray) for leaf in jax.tree.leaves(loaded))
    assert {path.name for path in tmp_path.iterdir()} == {"model"}
    assert {path.name for path in (tmp_path / "model").iterdir()} == {
        "checksums.json",
        "model.json",
        "variables",
    }


def test_model_onto_a_mesh(tmp_path):
    variables = model_variables()
    checkpoints.save_model(tmp_path / "model", variables, {})
    wanted = abstract(variables, 2)
    loaded, _ = checkpoints.load_model(tmp_path / "model", wanted)
    assert_same_bits(loaded, variables)
    kernel = loaded["params"]["body"]["kernel"]
    assert kernel.sharding == wanted["params"]["body"]["kernel"].sharding
    other = abstract({"params": make_state(width=8).params}, 2)
    with pytest.raises(ValueError, match=r"params/body/kernel: \(16, 16\).*\(16, 8\)"):
        checkpoints.load_model(tmp_path / "model", other)


def test_model_is_replaced_only_when_the_new_one_is_complete(tmp_path, monkeypatch):
    target = tmp_path / "model"
    checkpoints.save_model(target, {"x": np.ones(3)}, {"version": 1})
    checkpoints.save_model(target, {"x": np.zeros(3)}, {"version": 2})
    assert checkpoints.load_model(target)[1] == {"version": 2}

    with monkeypatch.context() as patch:
        patch.setattr(checkpoints.ocp.StandardCheckpointer, "save", lambda *_: 1 / 0)
        with pytest.raises(CheckpointError, match="cannot write the model .*/model"):
            checkpoints.save_model(target, {"x": np.ones(3)}, {"version": 3})
    assert checkpoints.load_model(target)[1] == {"version": 2}
    assert [path.name for path in tmp_path.iterdir()] == ["model"]

    # Killed between the two renames: the older one is found, and the next save works.
    target.rename(tmp_path / ".model.replaced")
    assert checkpoints.load_model(target)[1] == {"version": 2}
    checkpoints.save_model(target, {"x": np.ones(3)}, {"version": 4})
    assert checkpoints.load_model(target)[1] == {"version": 4}
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_model_errors(tmp_path):
    with pytest.raises(FileNotFoundError, match="no model directory"):
        checkpoints.load_model(tmp_path)
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="not overwritten"):
        checkpoints.save_model(tmp_path, {"x": np.ones(3)}, {})
    with pytest.raises(TypeError):
        checkpoints.save_model(tmp_path / "model", {"x": np.ones(3)}, {"bad": object()})
    checkpoints.save_model(tmp_path / "model", {"x": np.random.rand(64, 64)}, {})
    files = [path for path in (tmp_path / "model" / "variables").rglob("d/*")]
    flip_one_bit(max(files, key=lambda path: path.stat().st_size))
    with pytest.raises(CheckpointError, match="model .*/model is damaged"):
        checkpoints.load_model(tmp_path / "model")


def test_a_description_that_changed_is_damage(tmp_path):
    checkpoints.save_model(tmp_path / "model", {"x": np.ones(2)}, {"num_heads": 4})
    (tmp_path / "model" / "model.json").write_text('{"num_heads": 2}')
    with pytest.raises(CheckpointError, match="model.json has changed since it was written"):
        checkpoints.load_model(tmp_path / "model")
    sums = tmp_path / "model" / "checksums.json"
    kept = {name: value for name, value in json.loads(sums.read_text()).items() if name == "x"}
    sums.write_text(json.dumps(kept))  # as version 0.1 wrote it
    assert checkpoints.load_model(tmp_path / "model")[1] == {"num_heads": 2}


def test_quiet_and_light_in_a_fresh_process(tmp_path):
    """No Orbax log under absl's INFO level; nothing heavy imported; another device count."""
    checkpoints.save_model(tmp_path / "model", model_variables(), {"name": "ViT"})
    program = """
import sys
from absl import logging
logging.use_absl_handler(); logging.set_verbosity(logging.INFO)
import jax, jax.numpy as jnp
from vit_jax_xfer.storage import checkpoints
variables, description = checkpoints.load_model(sys.argv[1] + "/model")
with checkpoints.Checkpoints(sys.argv[1] + "/ckpt", best_metric="top1") as ckpt:
    ckpt.save(1, {"x": jnp.ones(3)}, {})
    ckpt.restore({"x": jax.ShapeDtypeStruct((3,), jnp.float32, sharding=jnp.ones(3).sharding)})
heavy = {"grain", "tensorflow", "ml_collections"} & set(sys.modules)
print(jax.device_count(), variables["params"]["head"].dtype, description["name"], heavy)
"""
    environment = dict(os.environ, PYTHONPATH=str(ROOT), JAX_NUM_CPU_DEVICES="1")
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "1 bfloat16 ViT set()\n"
    assert done.stderr == ""


def test_files_are_plain(tmp_path):
    """`model.json` is what it says, for people and other programs."""
    checkpoints.save_model(tmp_path / "model", {"x": np.ones(2)}, {"name": "ViT"})
    assert json.loads((tmp_path / "model" / "model.json").read_text()) == {"name": "ViT"}
