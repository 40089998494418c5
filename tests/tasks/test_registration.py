"""A task is one class: its settings, how it is made from a config, and one entry in a list."""

import dataclasses
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import pytest

import vit_jax_xfer as vjx
from tests.runs import rows, tiny_config
from vit_jax_xfer.config import task_config
from vit_jax_xfer.tasks import registration
from vit_jax_xfer.tasks.build import TASKS, build_task, register, task_settings
from vit_jax_xfer.tasks.flat_settings import flat_types, from_flat, to_flat
from vit_jax_xfer.tasks.task import Aux, Task
from vit_jax_xfer.train.loop import run


@dataclasses.dataclass(frozen=True)
class Stretch:
    factor: float = 2.0
    places: tuple[int, ...] | None = None


@dataclasses.dataclass(frozen=True)
class BrightnessSettings:
    """Settings with a dataclass in them, whose fields lie flat in the config."""

    offset: float = 0.25
    stretch: Stretch = Stretch(3.0)


@dataclasses.dataclass
class Brightness(Task):
    """A made-up task: one number learns the images' mean."""

    model: Any
    settings: BrightnessSettings
    num_classes: int
    frozen: dict = dataclasses.field(default_factory=dict)
    needs_labels: bool = False
    name: ClassVar[str] = "brightness"
    settings_type: ClassVar[type] = BrightnessSettings

    @classmethod
    def from_config(cls, config, settings, image_shape, num_classes, load):
        model = vjx.create_model(config.model.name, image_size=image_shape[0])
        return cls(model, settings, num_classes)

    def init(self, key):
        return {"params": {"head": {"kernel": jnp.zeros((1, 1))}}}

    def loss(self, variables, frozen, batch, key):
        mean = self.settings.stretch.factor * batch["image"].mean() + self.settings.offset
        return jnp.square(variables["params"]["head"]["kernel"][0, 0] - mean), Aux({})

    def evaluate(self, variables, frozen, batch):
        return {"loss": batch["mask"].sum() * 1.0, "count": batch["mask"].sum()}

    def check(self, image_shape):
        self.model.num_tokens(image_shape)


@pytest.fixture
def brightness(monkeypatch):
    monkeypatch.setattr(registration, "TASKS", TASKS)
    register(Brightness)
    yield
    del TASKS["brightness"]


def test_a_task_entered_once_is_configured_built_and_run(brightness, tmp_path):
    config = tiny_config("scratch", steps=1, optim__warmup_steps=0, checkpoint__best_metric="loss")
    with config.unlocked():
        config.task = task_config("brightness", offset=0.5, factor=4.0)
    assert dict(config.task) == {
        "name": "brightness",
        "offset": 0.5,
        "factor": 4.0,
        "places": None,
    }
    config.task.places = (1, 2)  # as a command line would, by its declared type
    task = build_task(config, (8, 8, 3), 10)
    assert isinstance(task, Brightness) and task.num_classes == 10
    assert task.settings == BrightnessSettings(0.5, Stretch(4.0, (1, 2)))
    assert run(config, tmp_path)["finished"]
    assert rows(tmp_path)[0][2]["loss"] > 0


def test_settings_lie_flat_and_come_back():
    settings = BrightnessSettings(stretch=Stretch(5.0, (0,)))
    flat = to_flat(settings)
    assert flat == {"offset": 0.25, "factor": 5.0, "places": (0,)}
    assert list(flat_types(BrightnessSettings)) == list(flat)
    assert from_flat(BrightnessSettings, flat) == settings
    # What is not given is as the outer dataclass says, not as the inner one would.
    assert from_flat(BrightnessSettings, {}).stretch.factor == 3.0
    with pytest.raises(ValueError, match="fator: BrightnessSettings has no such field"):
        from_flat(BrightnessSettings, {"fator": 1})

    @dataclasses.dataclass(frozen=True)
    class Twice:
        factor: float = 1.0
        stretch: Stretch = Stretch()

    with pytest.raises(ValueError, match="factor: two fields of Twice"):
        flat_types(Twice)


def test_registering_refuses_what_no_config_could_name():
    class Other(Brightness):
        name = "classification"

    with pytest.raises(ValueError, match="'classification' is the name of Classification already"):
        register(Other)

    class Unset(Brightness):
        name = "unset"
        settings_type = dict

    with pytest.raises(ValueError, match="settings_type: Unset has no dataclass"):
        register(Unset)
    assert not {"unset", "brightness"} & TASKS.keys()


@pytest.mark.parametrize("name", sorted(TASKS))
def test_every_task_has_its_settings_in_its_config(name):
    config = task_config(name)
    fields = {key: config[key] for key in config if key != "name"}
    settings = task_settings(config)
    assert type(settings) is TASKS[name].settings_type and to_flat(settings) == fields


def test_a_transfer_is_a_field_of_the_settings():
    config = task_config("attention_transfer", mode="copy_v", layers=(1,), tokens="common")
    settings = task_settings(config)
    assert settings.transfer == vjx.Transfer("copy_v", (1,), tokens="common")
    config.mode = "copi"
    with pytest.raises(ValueError, match=r"task\.mode: 'copi' .* did you mean 'copy"):
        task_settings(config)
    assert all(f"`{mode}`" in vjx.Transfer.__doc__ for mode in ("distill", "copy", "copy_q"))


def test_a_transfer_stands_for_its_fields():
    model = vjx.create_model("vit_micro_patch2", image_size=8, width=16, depth=2, num_heads=2)
    images = jax.random.normal(jax.random.key(0), (2, 8, 8, 3))
    pair = [model, jax.jit(model.init)(jax.random.key(1), images)] * 2
    loss = vjx.transfer_forward(*pair, images, vjx.Transfer("distill_q", layers=(1,)))[1]
    wanted = vjx.transfer_forward(*pair, images, "distill_q", layers=(1,))[1]
    assert loss == wanted
    with pytest.raises(ValueError, match="mode: a Transfer says which layers"):
        vjx.transfer_forward(*pair, images, vjx.Transfer(), layers=(1,))
