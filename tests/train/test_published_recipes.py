"""Each published config at its real values: two steps on one device and on eight, the same losses.

Only the network, the images and the batch are small, and the arithmetic is float32.
"""

import jax
import numpy as np
import pytest

import vit_jax_xfer as vjx
from tests.runs import load_config, one_device_mesh
from vit_jax_xfer.tasks.build import build_task
from vit_jax_xfer.train.compile import trace_step
from vit_jax_xfer.train.inputs import open_inputs
from vit_jax_xfer.train.schedule import make_run_schedule
from vit_jax_xfer.train.sharding import frozen_shardings, make_mesh, place, to_device

SMALL = {"image_size": 16, "width": 16, "num_heads": 2, "mlp_dim": 32}
ENCODER = {**SMALL, "depth": 24, "pool": "avg"}
TEACHERS = ("attention_copy", "attention_distill", "feature_distill", "logit_distill")
STARTED = ("finetune", "linear_probe")
CONFIGS = ("scratch", *STARTED, *TEACHERS, "masked_pretraining")
FIRST = 1000  # where the rate is no longer 0


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory):
    """Files of a small ViT-L, without a head and with one."""
    folder = tmp_path_factory.mktemp("pretrained")
    for classes in (0, 10):
        model = vjx.create_model("vit_large_patch16", num_classes=classes, **ENCODER)
        variables = model.init_variables(jax.random.key(classes))
        vjx.save(folder / f"{classes}.safetensors", model, variables)
    return folder


def shrunken(name, pretrained):
    """The published config, but for sizes, data and paths."""
    config = load_config(name, "")
    for field, value in SMALL.items():
        config.model[field] = value
    config.model.dtype, config.model.scan = "float32", True
    if name == "masked_pretraining":
        config.model.update({"decoder_width": 16, "decoder_num_heads": 2, "decoder_depth": 2})
        config.model.patch_size = 4  # so that there is more than one
    config.data.source, config.eval.split = "digits", "test"
    for section in (config.data, config.eval):
        section.pipeline = section.pipeline.replace("224", "16").replace("256", "18")
    config.batch_size = 64
    if name in TEACHERS:
        classes = 10 if name == "logit_distill" else 0
        config.task.teacher = str(pretrained / f"{classes}.safetensors")
    if name in STARTED:
        config.init_from = str(pretrained / "0.safetensors")
    return config


def two_steps(config, mesh):
    """The metrics of two steps on a mesh, from the same state."""
    inputs = open_inputs(config)
    task = build_task(config, inputs.image_shape(), inputs.num_classes)
    run_schedule = make_run_schedule(config, inputs.steps_per_epoch())
    program = trace_step(task, config, run_schedule, mesh, inputs.batch_shapes())
    init = jax.jit(program.init, out_shardings=program.shardings)
    state = init(jax.random.key(0), program.loaded).replace(step=jax.numpy.int32(FIRST))
    frozen = place(task.frozen, frozen_shardings(task.frozen, mesh, config.mesh))
    step, found = program.compile(), []
    with inputs.train_stream(FIRST) as stream:
        for _ in range(2):
            state, metrics = step(state, frozen, to_device(next(stream), mesh))
            found.append(jax.device_get(metrics))
    return found


@pytest.mark.parametrize("name", CONFIGS)
def test_two_steps_are_the_same_on_one_device_and_on_eight(name, pretrained):
    config = shrunken(name, pretrained)
    one = two_steps(config, one_device_mesh())
    eight = two_steps(config, make_mesh(4, 2, 1))
    for wanted, found in zip(one, eight, strict=True):
        assert found.keys() == wanted.keys()
        for metric, value in wanted.items():
            np.testing.assert_allclose(found[metric], value, rtol=1e-5, atol=1e-5, err_msg=metric)
    assert one[0]["lr"] > 0 and one[0]["loss"] != one[1]["loss"]
    assert np.isfinite([row["loss"] for row in one]).all()


@pytest.mark.parametrize("name", CONFIGS)
def test_images_are_prepared_and_mixed_as_published(name):
    config = load_config(name, "")
    labelled = name not in ("masked_pretraining", "linear_probe")
    assert ("rand-m9-mstd0.5-inc1" in config.data.pipeline) == labelled
    assert ("random_erasing(0.25)" in config.data.pipeline) == (labelled and name != "scratch")
    mixed = (0.8, 1.0, "batch", 64 if name == "scratch" else 32, "timm_0_3_2", 1.0, 0.5)
    fields = ("mixup", "cutmix", "mode", "group", "boxes", "probability", "switch")
    if labelled:
        assert tuple(config.mix[field] for field in fields) == mixed
        assert config.task.label_smoothing == 0.1
    else:
        assert not config.mix.mixup and not config.mix.cutmix
    small = load_config(name, "digits")
    assert not small.mix.mixup and not small.mix.cutmix
