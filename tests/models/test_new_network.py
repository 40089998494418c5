"""A network that is entered in the one table, and nowhere else, is known wherever networks are."""

import dataclasses
import json
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import vit_jax_xfer as vjx
from tests.runs import load_config, tiny_config
from vit_jax_xfer.config import model_config
from vit_jax_xfer.convert import overview
from vit_jax_xfer.data.prepare import preprocess
from vit_jax_xfer.models import registry
from vit_jax_xfer.models.multiply_adds import multiply_adds
from vit_jax_xfer.models.preprocessing import INCEPTION, Preprocessing
from vit_jax_xfer.models.protocol import Network
from vit_jax_xfer.pretrained.description import describe, from_description
from vit_jax_xfer.pretrained.warm_start import start_from
from vit_jax_xfer.tasks.attention_transfer import AttentionTransfer
from vit_jax_xfer.tasks.build import build_task
from vit_jax_xfer.tasks.ensemble import Ensemble, Member
from vit_jax_xfer.tasks.teachers import load_teacher
from vit_jax_xfer.train.optimizer import optimizer_of
from vit_jax_xfer.train.preparation import with_preparation
from vit_jax_xfer.train.rules import named_leaves
from vit_jax_xfer.train.schedule import RunSchedule
from vit_jax_xfer.train.sharding import make_mesh, param_shardings


@dataclasses.dataclass(frozen=True)
class Shade:
    """A value that a field of the made-up network holds."""

    strength: float = 0.5


class ScaledNorm(nn.Module):
    """A block: its norm, scaled."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        factor = self.param("layer_scale1", nn.initializers.ones, x.shape[-1:])
        return x + factor * nn.LayerNorm(name="norm1")(x)


class PatchAverages(Network):
    """Made up: patches, a few norms, their mean, a linear layer."""

    image_size: int | tuple[int, int] = 8
    patch_size: int = 4
    width: int = 6
    depth: int = 2
    num_classes: int = 10
    class_names: tuple[str, ...] | None = None
    preprocessing: Preprocessing | None = None
    shade: Shade | None = None
    dtype: Any = jnp.float32

    @property
    def encoder(self) -> "PatchAverages":
        return self

    def num_tokens(self, image_shape: tuple[int, ...]) -> int:
        return (image_shape[-3] // self.patch_size) * (image_shape[-2] // self.patch_size)

    @nn.compact
    def __call__(self, images: jax.Array, train: bool = False) -> jax.Array:
        patch = (self.patch_size,) * 2
        x = nn.Conv(self.width, patch, patch, name="patch_embed")(images)
        for i in range(self.depth):
            x = ScaledNorm(name=f"blocks_{i}")(x)
        return nn.Dense(self.num_classes, name="head")(x.mean(axis=(1, 2)))


@pytest.fixture(autouse=True)
def entered(monkeypatch):
    """The one place in which a network is entered."""
    monkeypatch.setitem(registry.ENTRIES, "averages_tiny", (PatchAverages, {"width": 5}))


def drawn(model):
    return model.init_variables(jax.random.key(1))


def test_it_is_listed_and_made():
    assert "averages_tiny" in vjx.list_models() and vjx.list_models("aver*") == ["averages_tiny"]
    model = vjx.create_model("averages_tiny", depth=1)
    assert (type(model), model.width, model.depth) == (PatchAverages, 5, 1)
    with pytest.raises(ValueError, match="PatchAverages has no field 'dept'; did you mean 'depth'"):
        vjx.create_model("averages_tiny", dept=1)
    with pytest.raises(ValueError, match=r"nearest: 'averages_tiny'"):
        vjx.create_model("averages_tin")


def test_a_config_has_its_plain_fields():
    config = model_config("averages_tiny", depth=1)
    plain = {"image_size", "patch_size", "width", "depth", "num_classes", "dtype"}
    assert set(config) == {"name", *plain}  # no `parts`: no attention is transferred into it
    assert registry.field_types("averages_tiny")["dtype"] is str
    with pytest.raises(ValueError, match="'averages_tiny' has no field 'heads'"):
        model_config("averages_tiny", heads=1)


def test_it_is_written_down_saved_and_loaded(tmp_path):
    own = Preprocessing(*INCEPTION, size=8)
    model = vjx.create_model("averages_tiny", shade=Shade(0.25), preprocessing=own, num_classes=3)
    assert from_description(json.loads(json.dumps(describe(model)))) == model
    variables = drawn(model)
    for path in (tmp_path / "model", tmp_path / "model.npz"):
        vjx.save(path, model, variables, class_names=("a", "b", "c"))
        again, loaded = vjx.load_pretrained(path)
        assert again == model.clone(class_names=("a", "b", "c"))
        jax.tree.map(np.testing.assert_array_equal, loaded, variables)
    text = overview("x", again, loaded, None)
    assert "PatchAverages, 0.00 million parameters" in text
    images = preprocess(again, np.zeros((9, 9, 3), np.uint8))
    assert images.shape == (1, 8, 8, 3)


def test_its_work_is_counted():
    model = vjx.create_model("averages_tiny")
    assert multiply_adds(model) == 4 * 16 * 3 * 5 + 5 * 10
    assert multiply_adds(model, (8, 16), batch=2) == 2 * (8 * 16 * 3 * 5 + 5 * 10)


def test_a_run_trains_it_by_the_same_rules():
    config = load_config("scratch")
    config.model = model_config("averages_tiny")
    config.optim.layer_decay = 0.5
    task = build_task(config, (8, 8, 3), 7)
    assert (task.model.num_classes, task.model.image_size, task.model.width) == (7, 8, 5)
    optimizer = optimizer_of(task, config, RunSchedule(10, 0, 0, 0))
    params = task.init(jax.random.key(0))["params"]
    updates, _ = optimizer.tx.update(
        jax.tree.map(jnp.ones_like, params), optimizer.tx.init(params), params
    )
    sizes = {name: float(abs(leaf).max()) for name, leaf in named_leaves(updates)}
    for name, steps in (("blocks_1/norm1/bias", 1), ("blocks_0/norm1/bias", 2)):
        assert sizes[name] == pytest.approx(sizes["head/bias"] * 0.5**steps, rel=1e-5), name
    assert sizes["patch_embed/bias"] == pytest.approx(sizes["head/bias"] * 0.5**3, rel=1e-5)
    shapes = jax.eval_shape(lambda: params)
    places = param_shardings(shapes, make_mesh(1, 8, 1), 1)
    assert jax.tree.structure(places) == jax.tree.structure(shapes)
    prepared = with_preparation(task.model, "resize(8)|normalize(0.5, 0.5)", (8, 8, 3))
    assert prepared.preprocessing.size == 8


def test_what_it_cannot_do_is_said():
    model = vjx.create_model("averages_tiny")
    variables, images = drawn(model), jnp.zeros((1, 8, 8, 3))
    with pytest.raises(ValueError, match="extract looks into .*, not into a PatchAverages"):
        vjx.extract(model, variables, images)
    with pytest.raises(ValueError, match="expected a VisionTransformer, got a PatchAverages"):
        vjx.dense.descriptors(model, variables, images)
    teacher = AttentionTransfer.settings_type(teacher="FILE")
    with pytest.raises(ValueError, match="task.teacher: FILE is a PatchAverages, and a teacher is"):
        load_teacher(teacher, lambda *about: (model, variables))
    lift = vjx.create_model("lift_patch8")
    members = [Member("a", model, {}, model.apply), Member("b", lift, {}, lift.apply)]
    with pytest.raises(ValueError, match="task.members: b is a LiFT, which predicts features"):
        Ensemble(members, Ensemble.settings_type())
    for name, task in (("masked_pretraining", "pixels"), ("filter_vit", "classes")):
        config = tiny_config(name)
        config.model = model_config("averages_tiny" if task == "pixels" else "lift_patch8")
        with pytest.raises(ValueError, match=f"predicts .*, and this task learns {task}"):
            build_task(config, (8, 8, 3), 10)


def test_its_weights_start_another():
    model = vjx.create_model("averages_tiny")
    variables = drawn(model)
    found = start_from(model, variables, model)
    jax.tree.map(np.testing.assert_array_equal, found, variables)
    fresh = start_from(model, variables, model.clone(num_classes=3))
    assert variables["params"].keys() - fresh["params"].keys() == {"head"}
    with pytest.raises(ValueError, match="blocks_1"):
        start_from(model, variables, model.clone(depth=1))
