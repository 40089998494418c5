"""Which rule stands at which operation of a network: interceptors for `WatchedNetwork.watch`."""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from vit_jax_xfer.explain.methods import relevance_rules as rules
from vit_jax_xfer.explain.methods.watched_network import Interceptor
from vit_jax_xfer.models.attention.self_attention import Attention, QueryKeyValue
from vit_jax_xfer.models.batch_norm import BatchNorm

_LINEAR = (nn.Dense, nn.DenseGeneral, QueryKeyValue)


def slopes(*, constant_maps: bool, gamma: float | None = None) -> Interceptor:
    """The rules of AttnLRP, or with constant maps those of CP-LRP (2402.05602).

    LayerNorm: its standard deviation is a constant. Activations: value over argument. Gates and
    both products of attention: half to each factor; with constant maps, all to the values. What a
    filter network's pixels are weighed by is a constant. gamma: of linear layers, None = their own
    derivative.
    """

    def interceptor(next_fun: Any, args: Any, kwargs: Any, context: Any) -> Any:
        module, method = context.module, context.method_name
        if method == "__call__" and isinstance(module, nn.LayerNorm):
            return _norm_of_constant_width(module, *args)
        if method == "__call__" and gamma is not None and isinstance(module, _LINEAR):
            rule = functools.partial(rules.gamma_linear, gamma=gamma)
            return _linear(module, next_fun(*args), args[0], rule, with_bias=True)
        if method == "activate":
            return rules.ruled(rules.ratio, next_fun(*args), *args)
        if method == "multiply":
            return next_fun(*map(rules.halve, args))
        if method == "factor":
            return jax.lax.stop_gradient(next_fun(*args))
        if method == "attention_map":
            if constant_maps:
                return jax.lax.stop_gradient(next_fun(*args))
            q, k, *bias = args
            return next_fun(_halved_queries(module, q), rules.halve(k), *bias)
        if method == "apply_map":
            weights, v = args
            if constant_maps:
                return next_fun(jax.lax.stop_gradient(weights), v)
            return next_fun(rules.halve(weights), rules.halve(v))
        return next_fun(*args, **kwargs)

    return interceptor


def relevance(*, apart: bool = False) -> Interceptor:
    """The rules of 2012.09838; apart: its older ones, of sums that are not scaled."""
    linear = rules.positive_linear_apart if apart else rules.positive_linear
    two = {
        "add": rules.add_apart if apart else rules.add,
        "average": rules.add_apart if apart else rules.add,
        "multiply": rules.multiply,
        "mean": rules.mean,
        "turn": rules.turn,
        "apply_map": rules.look,
    }

    def interceptor(next_fun: Any, args: Any, kwargs: Any, context: Any) -> Any:
        module, method = context.module, context.method_name
        passes = method == "__call__" and isinstance(module, nn.LayerNorm | BatchNorm)
        if passes or method in ("activate", "scale"):
            return rules.pass_on(next_fun(*args), args[0])
        if method == "__call__" and isinstance(module, _LINEAR):
            return _linear(module, next_fun(*args), args[0], linear, with_bias=False)
        if method == "attention_map":
            return rules.ruled(rules.scores, next_fun(*args), *args[:2])
        if method in two:
            return rules.ruled(two[method], next_fun(*args), *args)
        return next_fun(*args, **kwargs)

    return interceptor


def _halved_queries(module: nn.Module, q: jax.Array) -> jax.Array:
    """Queries of which half of what arrives goes back, where they meet keys.

    With decomposed relative positions the further channels are products with weights, which meet
    constants (decomposed_positions.py): no second factor is there for the other half.
    """
    if not isinstance(module, Attention) or module.design.relative_bias != "decomposed":
        return rules.halve(q)
    own = module.variables["params"]["qkv"]["kernel"].shape[-1]
    return jnp.concatenate([rules.halve(q[..., :own]), q[..., own:]], axis=-1)


def _norm_of_constant_width(module: nn.LayerNorm, x: jax.Array) -> jax.Array:
    """LayerNorm whose standard deviation is a constant; its mean is not."""
    centred = x - x.mean(axis=-1, keepdims=True)
    variance = jnp.square(centred).mean(axis=-1, keepdims=True)
    width = jax.lax.rsqrt(jax.lax.stop_gradient(variance) + module.epsilon)
    out = centred * width * module.get_variable("params", "scale")
    return out + module.get_variable("params", "bias")


def _linear(module: nn.Module, value: Any, x: jax.Array, rule: rules.Rule, with_bias: bool) -> Any:
    """A linear layer's value with a rule, on matrices: x (…, C), kernel (C, D), bias (D,)."""
    kernel = module.get_variable("params", "kernel")
    parts = isinstance(module, QueryKeyValue)
    taken = len(module.axis) if isinstance(module, nn.DenseGeneral) else 1
    lead = x.shape[: x.ndim - taken]
    flat = kernel.reshape(x.size // max(1, _size(lead)), -1).astype(x.dtype)
    whole = jnp.stack(value, axis=2) if parts else value
    inputs = [x.reshape(*lead, -1), flat]
    if with_bias:
        inputs.append(_bias(module, kernel).reshape(-1).astype(x.dtype))
    out = rules.ruled(rule, whole.reshape(*lead, -1), *inputs).reshape(whole.shape)
    return tuple(out[:, :, i] for i in range(3)) if parts else out


def _size(shape: tuple[int, ...]) -> int:
    return functools.reduce(lambda a, b: a * b, shape, 1)


def _bias(module: nn.Module, kernel: jax.Array) -> jax.Array:
    """A linear layer's bias, zeros where it has none or doesn't use it."""
    if not isinstance(module, QueryKeyValue):
        if module.has_variable("params", "bias"):
            return module.get_variable("params", "bias")
        return jnp.zeros(kernel.shape[-1])
    zeros = jnp.zeros(kernel.shape[1:])
    if module.bias == "none":
        return zeros
    bias = module.get_variable("params", "bias")
    zeros = zeros.at[0].set(bias[0]).at[2].set(bias[-1])
    return zeros.at[1].set(bias[1]) if module.bias == "full" else zeros
