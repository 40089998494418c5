"""Reference weights of dense heads, by PyTorch's names, as our variables."""

from typing import Any

import numpy as np

State = dict[str, np.ndarray]


def convolution(state: State, name: str) -> dict[str, np.ndarray]:
    """A convolution's kernel (k, k, C, width), with a bias where it has one."""
    return _with_bias(state, name, state[f"{name}.weight"].transpose(2, 3, 1, 0))


def linear(state: State, name: str) -> dict[str, np.ndarray]:
    """A linear layer's kernel (C, width), of a 1×1 convolution too."""
    kernel = state[f"{name}.weight"]
    return _with_bias(state, name, kernel.reshape(kernel.shape[:2]).T)


def doubling(state: State, name: str) -> dict[str, np.ndarray]:
    """A 2×2 transposed convolution's."""
    return _with_bias(state, name, state[f"{name}.weight"].transpose(2, 3, 0, 1))


def norm(state: State, name: str) -> dict[str, np.ndarray]:
    """A norm's scale and bias."""
    return {"scale": state[f"{name}.weight"], "bias": state[f"{name}.bias"]}


def statistics(state: State, name: str) -> dict[str, np.ndarray]:
    """A batch norm's running mean and variance."""
    return {"mean": state[f"{name}.running_mean"], "var": state[f"{name}.running_var"]}


def convolution_norm(state: State, conv: str, batch_norm: str) -> tuple[Any, Any]:
    """Parameters and statistics of a ConvolutionNorm."""
    params = {"conv": convolution(state, conv), "norm": norm(state, batch_norm)}
    return params, {"norm": statistics(state, batch_norm)}


def _with_bias(state: State, name: str, kernel: np.ndarray) -> dict[str, np.ndarray]:
    bias = state.get(f"{name}.bias")
    return {"kernel": kernel} if bias is None else {"kernel": kernel, "bias": bias}
