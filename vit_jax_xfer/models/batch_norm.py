"""Batch normalisation with PyTorch's running statistics."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp


class BatchNorm(nn.Module):
    """Normalises each channel over all other axes: (…, C) → (…, C), statistics in float32.

    train=True takes the batch's statistics (of the whole global batch under jit on a mesh) and
    moves the running ones in the collection `batch_stats` by `momentum`; the running variance takes
    the unbiased variance of the batch, as PyTorch does and flax.linen.BatchNorm does not.
    affine: False learns no scale and no bias.
    """

    momentum: float = 0.1
    eps: float = 1e-5
    affine: bool = True
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        width = x.shape[-1]
        scale, bias = 1.0, 0.0
        if self.affine:
            scale = self.param("scale", nn.initializers.ones, (width,))
            bias = self.param("bias", nn.initializers.zeros, (width,))
        running_mean = self.variable("batch_stats", "mean", jnp.zeros, (width,))
        running_var = self.variable("batch_stats", "var", jnp.ones, (width,))
        mean, var = running_mean.value, running_var.value
        wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
        if train:
            axes = tuple(range(x.ndim - 1))
            number = x.size // width
            mean = wide.mean(axes)
            var = jnp.square(wide - mean).mean(axes)
            if not self.is_initializing():
                unbiased = var * (number / max(number - 1, 1))
                keep = 1 - self.momentum
                running_mean.value = keep * running_mean.value + self.momentum * mean
                running_var.value = keep * running_var.value + self.momentum * unbiased
        factor = scale * jax.lax.rsqrt(var + self.eps)
        return (wide * factor + (bias - mean * factor)).astype(self.dtype)


@contextlib.contextmanager
def statistics_held(still: Callable[[tuple[str, ...]], bool]) -> Iterator[None]:
    """Context in which some batch norms take and keep their running statistics, as evaluated.

    still: whether one is to, by its path in the network that is applied.
    """

    def intercept(call: Any, args: Any, kwargs: Any, context: nn.module.InterceptorContext) -> Any:
        held = isinstance(context.module, BatchNorm) and context.method_name == "__call__"
        if held and still(context.module.path):
            return call(args[0], train=False)
        return call(*args, **kwargs)

    with nn.intercept_methods(intercept):
        yield
