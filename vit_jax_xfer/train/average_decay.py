"""By how much an average of the parameters keeps what it was, at each step: published rules."""

import jax
import jax.numpy as jnp

EMA_STARTS = ("fixed", "timm_v3", "timm_v3_warmup", "tensorflow")


def ema_decay_at(step: jax.typing.ArrayLike, decay: float, start: str) -> float | jax.Array:
    """The decay of the update after so many steps were taken, 1 for the first: at most `decay`.

    start: "fixed" is `decay` at once, from the first parameters on (MAE, attention transfer, timm's
    ModelEmaV2). timm's ModelEmaV3, told the steps: "timm_v3" copies the parameters at step 1 and
    has `decay` from then on, "timm_v3_warmup" rises as 1 - step^(-2/3). "tensorflow" rises as
    (1 + step) / (10 + step). ValueError for another.
    """
    if start not in EMA_STARTS:
        raise ValueError(f"optim.ema_start: got {start!r}, expected one of {', '.join(EMA_STARTS)}")
    if start == "fixed":
        return decay
    step = jnp.asarray(step, jnp.float32)
    if start == "tensorflow":
        return jnp.minimum(decay, (1 + step) / (10 + step))
    since = jnp.maximum(step - 1, 0)
    rising = decay if start == "timm_v3" else jnp.minimum(decay, 1 - (1 + since) ** (-2 / 3))
    return jnp.where(since > 0, rising, 0.0)
