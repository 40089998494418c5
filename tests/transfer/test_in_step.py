"""Two scanned networks go along together: the values of networks in turn, at any depth's length."""

import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vit_jax_xfer.models.vit import VisionTransformer
from vit_jax_xfer.pretrained.parameter_rules import stack_blocks
from vit_jax_xfer.train.sharding import batch_sharding, make_mesh, param_shardings
from vit_jax_xfer.transfer import forward, in_step
from vit_jax_xfer.transfer.forward import transfer_forward
from vit_jax_xfer.transfer.in_step import Steps, plan_steps
from vit_jax_xfer.transfer.spec import Transfer

BATCH, TOKENS, DEPTH = 8, 5, 3
SIZES = {"image_size": 4, "patch_size": 2, "width": 8, "num_heads": 2, "mlp_dim": 8}
STUDENT = VisionTransformer(depth=DEPTH, num_classes=3, **SIZES)
IMAGES = np.random.default_rng(0).standard_normal((BATCH, 4, 4, 3)).astype(np.float32)
QUICKLY = {"xla_backend_optimization_level": 0}


def draw(model, seed, dtype=np.float64):
    shapes = jax.eval_shape(model.init, jax.random.key(0), IMAGES)
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda x: (0.4 * rng.standard_normal(x.shape)).astype(dtype), shapes)


def results(student, teacher, images, own, theirs, **options):
    """Logits, loss, and the gradient of both in the student's variables."""

    def total(own):
        logits, loss = transfer_forward(student, own, teacher, theirs, images, **options)
        return loss + jnp.square(logits).sum(), (logits, loss)

    return jax.grad(total, has_aux=True)(own)


# What all blocks have and plain ones have not.
ALIKE = {"class_token": False, "pool": "avg"}
RNGS = {"dropout": jax.random.key(3)}
CASES = {
    "all layers": {},
    "a gap, one head": {"layers": (2, 0), "heads": (1,)},
    "values of the last": {"mode": "distill_v", "layers": (-1,)},
    "copy": {"mode": "copy"},
    "copy of some": {"mode": "copy", "layers": (0, 2), "heads": (0,)},
    "keys of the second": {"mode": "copy_k", "layers": (1,)},
    "maps are copied": {"mode": "copy", "materialize": True, "layers": (1, 2)},
    "every second": {"teacher": {"depth": 6}, "match_layers": "even"},
    "the last": {"teacher": {"depth": 4, "num_heads": 4}, "match_layers": "last"},
    "no even steps": {"teacher": {"depth": 5}, "match_layers": "even"},
    "copy in no steps": {"mode": "copy", "match_layers": (2, 0, 1)},
    "dropped together": {"drop_path": 0.5, "train": True, "rngs": RNGS, "share_drop_path": True},
    "dropped alone": {"drop_path": 0.5, "train": True, "rngs": RNGS, "mode": "copy_q"},
    "biases": {"relative_bias": "shared", "teacher": {"relative_bias": "block"}},
    "windows": {**ALIKE, "window_size": 3, "window_blocks": (0, 1, 2)},
    "convolutions": {**ALIKE, "conv_blocks": (0, 1, 2), "mode": "copy"},
    "copied bias": {"relative_bias": "block", "rotary": "dinov3", "mode": "copy"},
}
IN_TURN = ("no even steps", "copy in no steps")


@pytest.mark.parametrize("name", CASES)
def test_values_and_gradients_are_those_of_networks_that_are_not_scanned(name, monkeypatch):
    options = dict(CASES[name])
    fields = {key: options.pop(key) for key in list(options) if key in STUDENT.keywords()}
    teacher_fields = options.pop("teacher", {})
    if "num_heads" in teacher_fields:
        options["match_heads"] = "group"
    went = []
    monkeypatch.setattr(
        forward, "forward_in_step", lambda *x: went.append(1) or in_step.forward_in_step(*x)
    )
    with jax.enable_x64(True):
        student = STUDENT.clone(dtype=jnp.float64, **fields)
        teacher = student.clone(drop_path=0.0, **teacher_fields)
        variables = draw(student, 1), draw(teacher, 2)
        images = IMAGES.astype(np.float64)

        # Op by op: equal shapes are compiled once for all cases.
        wanted, wanted_values = results(student, teacher, images, *variables, **options)
        scanned = (x.clone(scan=True, remat="full") for x in (student, teacher))
        step = jax.jit(partial(results, *scanned, **options), compiler_options=QUICKLY)
        got, values = step(images, *map(stack_blocks, variables))
    assert bool(went) == (name not in IN_TURN)
    assert options.get("mode", "").startswith("copy") or wanted_values[1] > 1e-3
    close = partial(np.testing.assert_allclose, rtol=1e-6, atol=1e-8)
    jax.tree.map(close, values, wanted_values)
    jax.tree.map(close, got, stack_blocks(jax.tree.map(np.asarray, wanted)))


@pytest.mark.parametrize("mode", ["distill", "copy"])
def test_eight_devices_give_the_numbers_of_one(mode):
    model = STUDENT.clone(scan=True, remat="full")
    variables = [stack_blocks(draw(model.clone(scan=False), seed, np.float32)) for seed in (1, 2)]
    step = partial(results, model, model, mode=mode, layers=(0, 2))
    wanted = jax.jit(step, compiler_options=QUICKLY)(IMAGES, *variables)
    mesh = make_mesh(2, 4, 1)
    shardings = [param_shardings(tree, mesh, 1) for tree in variables]
    with jax.set_mesh(mesh):
        placed = jax.device_put((IMAGES, *variables), (batch_sharding(mesh), *shardings))
        got = jax.jit(step, compiler_options=QUICKLY)(*placed)
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5), got, wanted)


def traced(depth, teacher_depth=None, **options):
    """The program of a gradient, before any compiler, as its jaxpr."""
    model = STUDENT.clone(depth=depth, scan=True, remat="full")
    teacher = model.clone(depth=teacher_depth or depth)
    shapes = [jax.eval_shape(net.init, jax.random.key(0), IMAGES) for net in (model, teacher)]
    return jax.make_jaxpr(partial(results, model, teacher, **options))(IMAGES, *shapes)


@pytest.mark.parametrize("mode", ["distill", "copy"])
@pytest.mark.parametrize("fields", [{}, {"match_layers": "even"}])
def test_the_program_is_as_long_for_any_depth(mode, fields):
    more = 2 if fields else 0  # a teacher with which no even steps can be made
    short, long = (
        str(traced(depth, depth + more, mode=mode, **fields)).count(" = ") for depth in (4, 12)
    )
    assert long == short


@pytest.mark.parametrize(("mode", "kept"), [("distill", 2), ("copy", 2), ("distill_v", 1)])
def test_queries_and_keys_of_all_layers_are_not_kept(mode, kept):
    """But for the backward pass: two gradients a layer, or what stands in the student's place."""
    depth = 7
    text = str(traced(depth, mode=mode))
    loop = next(line for line in text.splitlines() if " = scan[" in line)
    stacks = re.findall(rf"f32\[{depth},{BATCH},{TOKENS},2,4\]", loop)
    assert len(stacks) == kept


@pytest.mark.parametrize(
    ("depths", "options", "steps"),
    [
        ((3, 3), {}, Steps(0, 0, 1, (True,) * 3)),
        ((4, 4), {"layers": (3, 1)}, Steps(1, 1, 1, (True, False, True))),
        ((2, 6), {"match_layers": "even"}, Steps(0, 0, 3, (True, True))),
        ((2, 6), {"match_layers": "last"}, Steps(0, 4, 1, (True, True))),
        ((6, 2), {"match_layers": "last", "layers": (4, 5)}, Steps(4, 0, 1, (True, True))),
        ((3, 3), {"match_layers": (0,), "layers": (2,)}, Steps(2, 0, 1, (True,))),
        ((3, 5), {"match_layers": "even"}, None),
        ((6, 3), {"match_layers": "even"}, None),
        ((2, 2), {"match_layers": (1, 0)}, None),
    ],
)
def test_steps(depths, options, steps):
    student, teacher = (STUDENT.clone(depth=depth) for depth in depths)
    assert plan_steps(Transfer(**options).pair(student, teacher, (4, 4, 3))) == steps
