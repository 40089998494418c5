"""LiFT's training step and extraction beside the same module in plain PyTorch, weights alike.

    GLIBC_TUNABLES=glibc.malloc.hugetlb=1 python -m benchmarks.lift_speed

float32, by turns in one process, on the same threads; on a GPU where both have one. The backbone is
left out: its features are given. A training step is the cosine loss of the half and of the quarter,
backwards, and Adam; the half has --image-size pixels. ×1 and ×2 double the features of such images
once and twice; there the successor ConvexLiFT and the joint bilateral filter stand beside. Outputs
must agree to 1e-3 of the largest number, and the losses of three steps, before anything is timed.
Prints one JSON object a contender and a table (measured_rows.py says what is in a row); `ratio` is
how many times as long as our LiFT a contender takes. Needs an idle machine
(OMP_WAIT_POLICY=passive makes PyTorch's threads yield).
"""

import argparse
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from benchmarks.filter_forward import prepare
from benchmarks.measured_rows import PRODUCTS, SHARED, Report, about_machine, compare
from benchmarks.product_rate import ProductRate
from benchmarks.product_shapes import products
from benchmarks.shared_flags import add_flags
from vit_jax_xfer.compiler import compiled
from vit_jax_xfer.models.lifting.convex_lift import ConvexLiFT
from vit_jax_xfer.models.lifting.joint_bilateral import JointBilateral
from vit_jax_xfer.models.lifting.lift import LiFT, lift
from vit_jax_xfer.models.lifting.lift_loss import lift_loss_and_stats
from vit_jax_xfer.models.multiply_adds import multiply_adds

TOLERANCE, LEARNING_RATE = 1e-3, 1e-3
COLUMNS = ("what", "contender", "batch", "M multiply-adds", *SHARED)
# How often the features of one image pass through, by the side of that image over --image-size.
SIDES = {"training step": (1.0, 0.5), "×1": (1.0,), "×2": (1.0, 2.0)}

Contenders = dict[str, Callable[[], Any]]


def main() -> None:
    """Compares training steps, then extraction once and twice."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--width", type=int, default=384)
    parser.add_argument("--patch-size", type=int, default=16, choices=(8, 16))
    parser.add_argument("--image-size", type=int, default=224, help="a multiple of two patches")
    parser.add_argument("--batch", type=int, default=4)
    add_flags(parser, rounds=20)
    parser.add_argument("--channels-last", action="store_true", help="PyTorch in that layout too")
    parser.add_argument("--tf32", action="store_true", help="GPUs may round products, both sides")
    arguments = parser.parse_args()
    if arguments.image_size % (2 * arguments.patch_size):
        parser.error("--image-size: must be a multiple of two patches, for the loss's quarter")
    with Report(arguments, COLUMNS) as report:
        set_up = prepare(arguments.threads, arguments.tf32)
        report.about(about_machine(arguments, **set_up))
        model = LiFT(arguments.width, arguments.patch_size)
        shape = arguments.batch, arguments.image_size, arguments.channels_last
        for what, found in (
            ("training step", training(model, *shape)),
            ("×1", extraction(model, *shape, steps=1)),
            ("×2", extraction(model, *shape, steps=2)),
        ):
            compare_lifts(report, what, found)


def draw(model: LiFT, batch: int, image_size: int, levels: int) -> tuple[Any, Any, list[Any]]:
    """Fresh variables, images, and features of them and of each half again: `levels` maps."""
    random = np.random.default_rng(0)
    side = image_size // model.patch_size
    images = random.standard_normal((batch, image_size, image_size, 3)).astype(np.float32)
    features = [
        random.standard_normal((batch, side // 2**i, side // 2**i, model.width)).astype(np.float32)
        for i in range(levels)
    ]
    return _fresh(model, images, features[0]), images, features


def training(model: LiFT, batch: int, image_size: int, last: bool = False) -> Contenders:
    """{name: a function that takes a step and waits}. ValueError if the losses part."""
    variables, images, features = draw(model, batch, 2 * image_size, 3)
    found = {"vit_jax_xfer": _jax_steps(model, variables, images, features)}
    for label, layout in _layouts(last):
        found[label] = _torch_steps(model, variables, images, features, layout)
    losses = {label: [float(step()) for _ in range(3)] for label, step in found.items()}
    for label, values in losses.items():
        _check(f"training step: losses of {label}", values, losses["vit_jax_xfer"])
    return found


def extraction(
    model: LiFT, batch: int, image_size: int, last: bool = False, steps: int = 1
) -> Contenders:
    """{name: a function that doubles `steps` times and waits}. ValueError if outputs differ."""
    variables, images, (features,) = draw(model, batch, image_size, 1)
    found = {"vit_jax_xfer": _jax_lift(model, variables, images, features, steps)}
    for label, layout in _layouts(last):
        found[label] = _torch_lift(model, variables, images, features, steps, layout)
    expected = found["vit_jax_xfer"]()
    for label, run in found.items():
        _check(f"×{steps}: outputs of {label}", run(), expected)
    for other in (ConvexLiFT(model.width, model.patch_size), JointBilateral(model.patch_size)):
        fresh = _fresh(other, images, features)
        found[type(other).__name__] = _jax_lift(other, fresh, images, features, steps)
    return found


def _fresh(model: nn.Module, images: Any, features: Any) -> Any:
    return jax.jit(model.init)(jax.random.key(0), images[:1], features[:1])


def _jax_steps(model: LiFT, variables: Any, images: Any, features: Any) -> Callable[[], Any]:
    optimizer = optax.adam(LEARNING_RATE)

    def step(state: Any, images: Any, features: Any) -> tuple[Any, jax.Array]:
        variables, moments = state

        def loss(params: Any) -> tuple[jax.Array, Any]:
            return lift_loss_and_stats(model, {**variables, "params": params}, images, features)

        (value, stats), gradients = jax.value_and_grad(loss, has_aux=True)(variables["params"])
        updates, moments = optimizer.update(gradients, moments)
        params = optax.apply_updates(variables["params"], updates)
        return ({"params": params, **stats}, moments), value

    # A copy, for what the step gets is given up to it.
    variables = jax.tree.map(jnp.array, variables)
    state = [(variables, optimizer.init(variables["params"]))]
    inputs = jax.device_put((images, features))
    program = compiled(jax.jit(step, donate_argnums=0).trace(state[0], *inputs))

    def run() -> Any:
        state[0], value = program(state[0], *inputs)
        jax.block_until_ready(state[0])
        return value

    return run


def _jax_lift(
    model: nn.Module, variables: Any, images: Any, features: Any, steps: int
) -> Callable[[], Any]:
    inputs = jax.device_put((variables, images, features))
    program = compiled(jax.jit(partial(lift, model, steps=steps)).trace(*inputs))
    return lambda: jax.block_until_ready(program(*inputs))


def _layouts(last: bool) -> list[tuple[str, bool]]:
    return [("torch", False), ("torch channels_last", True)][: 1 + last]


def _torch_inputs(arrays: list[Any], last: bool) -> list[Any]:
    """NHWC arrays as PyTorch has them, on a GPU where there is one."""
    import torch

    layout = torch.channels_last if last else torch.contiguous_format
    device = "cuda" if torch.cuda.is_available() else "cpu"
    inputs = [torch.tensor(np.asarray(x)).permute(0, 3, 1, 2).to(device) for x in arrays]
    return [x.contiguous(memory_format=layout) for x in inputs]


def _torch_network(model: LiFT, variables: Any, like: Any, last: bool) -> Any:
    import torch

    from benchmarks.lift_torch import from_jax

    layout = torch.channels_last if last else torch.contiguous_format
    return from_jax(model, variables).to(like.device, memory_format=layout)


def _torch_steps(
    model: LiFT, variables: Any, images: Any, features: Any, last: bool
) -> Callable[[], Any]:
    import torch

    from benchmarks.lift_torch import training_step

    inputs, *pyramid = _torch_inputs([images, *features], last)
    network = _torch_network(model, variables, inputs, last)
    optimizer = torch.optim.Adam(network.parameters(), LEARNING_RATE)
    return _waiting(lambda: training_step(network, optimizer, inputs, pyramid))


def _torch_lift(
    model: LiFT, variables: Any, images: Any, features: Any, steps: int, last: bool
) -> Callable[[], np.ndarray]:
    import torch

    from benchmarks import lift_torch

    inputs = _torch_inputs([images, features], last)
    network = _torch_network(model, variables, inputs[0], last).eval()

    def run() -> Any:
        with torch.inference_mode():
            return lift_torch.lift(network, *inputs, steps)

    waiting = _waiting(run)
    return lambda: waiting().permute(0, 2, 3, 1)


def _waiting(run: Callable[[], Any]) -> Callable[[], Any]:
    import torch

    def waited() -> Any:
        found = run()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        return found

    return waited


def _check(what: str, found: Any, expected: Any) -> None:
    found, expected = (np.asarray(getattr(x, "cpu", lambda x=x: x)()) for x in (found, expected))
    worst = np.abs(found - expected).max() / np.abs(expected).max()
    if not worst <= TOLERANCE:
        raise ValueError(f"{what} are off by {worst:.1e}")


def compare_lifts(report: Report, what: str, found: Contenders) -> None:
    """Times the contenders for one thing, beside LiFT's products alone."""
    arguments = report.arguments
    model = LiFT(arguments.width, arguments.patch_size)
    form = "scratch" if what == "training step" else "inference"
    alone = sum((products(model, *one) for one in passes(what, arguments)), start=Counter())
    found = found | {label: ProductRate(alone, form, name) for name, label in PRODUCTS.items()}
    work = {name: {"M multiply-adds": millions(what, name, arguments)} for name in found}
    gflops = 2e-3 * arguments.batch * millions(what, "vit_jax_xfer", arguments)
    gflops *= 3 if form == "scratch" else 1
    about = {"what": what, "batch": arguments.batch}
    different = ("ConvexLiFT", "JointBilateral")
    ours = "vit_jax_xfer"
    compare(report, found, ours, about, gflops, arguments.batch, different, more=work)


def passes(what: str, arguments: argparse.Namespace) -> list[tuple[int, int]]:
    """(pixels of the image, number of images) of each pass through the network."""
    return [(round(part * arguments.image_size), arguments.batch) for part in SIDES[what]]


def millions(what: str, contender: str, arguments: argparse.Namespace) -> float:
    """Millions of multiply-adds an image forwards; of a training step the half's and quarter's."""
    fields = {"width": arguments.width, "patch_size": arguments.patch_size}
    others = {"ConvexLiFT": ConvexLiFT, "JointBilateral": JointBilateral}
    model = others.get(contender, LiFT)(**fields)
    sides = [side for side, _ in passes(what, arguments)]
    return round(sum(multiply_adds(model, side) for side in sides) / 1e6, 1)


if __name__ == "__main__":
    main()
