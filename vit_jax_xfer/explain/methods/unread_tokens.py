"""Leaves out what nothing reads: under class pooling, the patches after the last block's attention.

The head sees the class token alone, so the last projection and MLP of the other tokens change
neither logits nor slopes: a twelfth of a ViT-B's work three quarters of the way, both ways.
"""

from collections.abc import Callable
from typing import Any

import flax.linen as nn

from vit_jax_xfer.models.transformer.block import Block
from vit_jax_xfer.models.vit import VisionTransformer


def leave_out_unread(model: nn.Module) -> list[Callable[..., Any]]:
    """Interceptors that keep the last block's prefix tokens alone; none where patches are read."""
    if not isinstance(model, VisionTransformer) or model.pool != "cls" or model.scan:
        return []
    last = model.block_designs()[-1]
    if last.window or last.propagation:
        return []
    name, rows = f"blocks_{model.depth - 1}", model.prefix_tokens

    def interceptor(next_fun: Any, args: Any, kwargs: Any, context: Any) -> Any:
        module, method = context.module, context.method_name
        if method == "__call__" and module.path[-3:] == (name, "attention", "proj"):
            return next_fun(args[0][:, :rows], *args[1:], **kwargs)
        if method == "add" and isinstance(module, Block) and module.path[-1] == name:
            return next_fun(args[0][:, :rows], *args[1:], **kwargs)
        return next_fun(*args, **kwargs)

    return [interceptor]
