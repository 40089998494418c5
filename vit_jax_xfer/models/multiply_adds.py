"""How many multiply-adds a network's forward pass takes, without running or compiling it.

Counted as papers count them: convolutions, linear layers, the two products of attention. Not:
norms, activations, softmax, pooling, resizing of maps, choosing tokens, the bilinear samples of
deformable attention, and what is done to parameters alone, such as fitting positions to another
image size.
"""

import math
from typing import Any

import jax
import jax.extend.core as jex
import jax.numpy as jnp

from vit_jax_xfer.compiler import programs_inside
from vit_jax_xfer.models.protocol import Network
from vit_jax_xfer.models.transformer.patches import ImageSize

# attention: scores times values and queries times keys, also where a cell of a doubled grid weighs
# the cells around it. scoring: of pixels, to choose tokens.
KINDS: tuple[str, ...] = ("convolution", "linear", "attention", "scoring")

Counts = dict[str, int]


def multiply_adds(model: Network, image_size: ImageSize | None = None, batch: int = 1) -> int:
    """Multiply-adds of a forward pass on `batch` images. image_size: None = the model's own."""
    return sum(multiply_adds_by_kind(model, image_size, batch).values())


def multiply_adds_by_kind(
    model: Network, image_size: ImageSize | None = None, batch: int = 1
) -> Counts:
    """{kind: multiply-adds} for each of KINDS. A 1×1 convolution is a convolution.

    A MaskedAutoencoder is counted as it trains, three quarters of its patches masked; a network
    that doubles features (LiFT, ConvexLiFT, JointBilateral) without the ViT that they come from.
    The same on every backend and for every kernel of attention. ValueError where a network has no
    image size, or no width, of its own and none is given.
    """
    two, three = (count(forward_program(model, image_size, number)) for number in (2, 3))
    # What doesn't grow with the batch is done to parameters alone.
    return {kind: batch * (three[kind] - two[kind]) for kind in KINDS}


def forward_program(model: Network, image_size: ImageSize | None, batch: int) -> jex.Jaxpr:
    """The program of a forward pass of abstract images, in which every product can be seen."""
    # In float32 no backend has a fused kernel that hides its products.
    model = model.with_fields(dtype=jnp.float32, product_dtype=None, attention="plain")
    if model.image_size is None and image_size is None:
        raise ValueError(f"image_size: a {type(model).__name__} has none of its own; pass one")
    inputs = model.example_inputs(image_size, batch)
    variables = jax.eval_shape(model.init, jax.random.key(0), *inputs)
    return jax.make_jaxpr(model.apply)(variables, *inputs).jaxpr


def count(jaxpr: jex.Jaxpr, scope: tuple[str, ...] = ()) -> Counts:
    """{kind: multiply-adds} of a program, and of those inside it. scope: names of modules around.

    Of several branches the most costly one; of attention's kernels the blocks, with the tokens that
    fill them. ValueError for a loop of unknown length with products.
    """
    total = dict.fromkeys(KINDS, 0)
    for equation in jaxpr.eqns:
        for kind, number in _of_equation(equation, scope).items():
            total[kind] += number
    return total


def _of_equation(equation: jex.JaxprEqn, scope: tuple[str, ...]) -> Counts:
    params, name = equation.params, equation.primitive.name
    scope = (*scope, *str(equation.source_info.name_stack).split("/"))
    if name in ("jit", "pjit") and params["name"] in STANDS_FOR:
        return STANDS_FOR[params["name"]](equation)
    if name == "dot_general":
        return {_kind_of_product(equation, scope): _product(equation)}
    if name == "conv_general_dilated":
        return {"scoring" if "score" in scope else "convolution": _convolution(equation)}
    inside = [count(inner, scope) for inner in programs_inside(params)]
    if name == "cond":
        return max(inside, key=lambda counts: sum(counts.values()))
    if name == "while" and any(sum(counts.values()) for counts in inside):
        raise ValueError("a while loop with products in it: its length is not known before it runs")
    times = times_run(name, params)
    total = {kind: times * sum(counts[kind] for counts in inside) for kind in KINDS}
    return {"attention": sum(total.values())} if name == "pallas_call" else total


def times_run(name: str, params: dict[str, Any]) -> int:
    """How often what is inside runs: a loop's steps, a kernel's blocks, the devices of a mesh."""
    if name == "scan":
        return params["length"]
    if name == "pallas_call":
        return math.prod(params["grid_mapping"].grid)
    if name == "shard_map":
        return params["mesh"].size
    return 1


def _kind_of_product(equation: jex.JaxprEqn, scope: tuple[str, ...]) -> str:
    """What a product is: of two activations, attention; of all pixels of a map, a convolution."""
    if "score" in scope:
        return "scoring"
    contracted, (batched, _) = equation.params["dimension_numbers"]
    if batched:
        return "attention"
    operands = zip(equation.invars, contracted, strict=True)
    maps = [x.aval.ndim == 4 and tuple(axes) == (3,) for x, axes in operands]
    return "convolution" if any(maps) else "linear"


def _product(equation: jex.JaxprEqn) -> int:
    (left, _), _ = equation.params["dimension_numbers"]
    shape = equation.invars[0].aval.shape
    return equation.outvars[0].aval.size * math.prod(shape[i] for i in left)


def _convolution(equation: jex.JaxprEqn) -> int:
    """Taps outside the image count, as in every published count; a transposed one counts inputs."""
    image, kernel = (x.aval for x in equation.invars)
    numbers, params = equation.params["dimension_numbers"], equation.params
    taps = kernel.size // kernel.shape[numbers.rhs_spec[0]]  # of each output: window × inputs
    outputs = equation.outvars[0].aval
    if all(dilation == 1 for dilation in params["lhs_dilation"]):
        return outputs.size * taps
    sides = math.prod(image.shape[i] for i in numbers.lhs_spec[2:])
    channels = outputs.shape[numbers.out_spec[1]]
    return image.shape[numbers.lhs_spec[0]] * sides * channels * taps


def _shifted(equation: jex.JaxprEqn) -> Counts:
    """A depthwise convolution as shifted multiply-adds (filter/convolution.py)."""
    kernel = equation.invars[1].aval
    return {"convolution": equation.outvars[0].aval.size * math.prod(kernel.shape[:-1])}


def _weighed(equation: jex.JaxprEqn) -> Counts:
    """Each cell's neighbours times their weights (neighbours.py), those outside included."""
    return {"attention": equation.outvars[0].aval.size * equation.invars[1].aval.shape[-1]}


def _compared(equation: jex.JaxprEqn) -> Counts:
    """Each cell's query times its neighbours' keys, however many more are multiplied for that."""
    return {"attention": equation.outvars[0].aval.size * equation.invars[0].aval.shape[-1]}


# Functions under jit whose equations would be counted otherwise than what they stand for.
STANDS_FOR: dict[str, Any] = {
    "shifted_sum": _shifted,
    "adaptive_pool": lambda equation: {},
    "resized_map": lambda equation: {},
    "neighbour_sum": _weighed,
    "neighbour_products": _compared,
    "sum_of_taps": lambda equation: {},  # of which the product before it is the convolution
}
