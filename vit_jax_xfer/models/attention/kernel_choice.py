"""Which attention kernel runs: by backend, type and shape, or as the field `attention` says."""

import importlib.util
from typing import Literal, get_args

import jax
import jax.numpy as jnp

from vit_jax_xfer.models.attention import fused_loss, splash
from vit_jax_xfer.models.devices import one_device_each, platform

Kernel = Literal["plain", "blockwise", "cudnn", "splash", "tokamax"]
Implementation = Literal["auto", Kernel]
KERNELS: tuple[str, ...] = get_args(Kernel)
IMPLEMENTATIONS: tuple[str, ...] = ("auto", *KERNELS)
# How a loss between maps is computed without them: as `attention` says, or by its own kernel.
LossKernel = Literal["auto", "fused"]
LOSS_KERNELS: tuple[str, ...] = get_args(LossKernel)

# Keys up to which a whole map is built at once, where no network says otherwise. Beyond, blocks of
# rows cost a CPU nothing that could be measured (docs/attention_kernels.md). A TPU's compiler keeps
# the maps of a few hundred tokens off its main memory by itself.
MAPS_UP_TO = {"cpu": 128, "gpu": 128, "tpu": 1024}


def choose(
    q: jax.Array,
    k: jax.Array,
    v: jax.Array,
    requested: str,
    blockwise_above: int | None,
    biased: bool = False,
) -> Kernel:
    """Names the kernel that runs for these arrays; `requested` other than "auto" is final.

    blockwise_above: see `takes_blocks`.

    ValueError, naming the field and the reason, for a kernel that can't run here or on these.
    """
    if requested not in IMPLEMENTATIONS:
        raise ValueError(f"model.attention: {requested!r} is unknown; choose of {IMPLEMENTATIONS}")
    if requested != "auto":
        if reason := obstacle(requested, q, k, v, biased):
            raise ValueError(f"model.attention: {requested} {reason}; auto takes what can run")
        return requested  # type: ignore[return-value]
    # The fused kernel's derivative of a bias costs a map for every image, so a bias goes portable.
    # On GPUs other than Hopper nobody has measured that it pays.
    if not biased and _hopper() and obstacle("cudnn", q, k, v, biased) is None:
        return "cudnn"
    if not takes_blocks(k.shape[1], blockwise_above):
        return "plain"
    if one_device_each() and obstacle("splash", q, k, v, biased) is None:
        return "splash"
    return "blockwise"


def choose_loss(
    tensors: tuple[jax.Array, ...],
    requested: str,
    attention: str,
    blockwise_above: int | None,
    portable: bool,
) -> str:
    """Names what computes a distillation's loss: "fused", "blocks", or a kernel of attention.

    tensors: q and k of the student, then of the teacher, (B, T, H, d). requested: of LOSS_KERNELS.
    attention: the network's field, blockwise_above: see `takes_blocks`. portable: whether a bias
    or a mean of maps is part of the loss, which blocks of rows alone have ("blocks").

    ValueError, naming the field and the reason, for a kernel that can't run here or on these.
    """
    if requested == "fused":
        if reason := _fused(tensors, portable):
            raise ValueError(f"task.loss_kernel: fused {reason}; auto takes what can run")
        return "fused"
    if portable:
        return "blocks"
    if attention != "auto":
        return attention
    # Fused attention takes more products here, and more memory: docs/attention_kernels.md.
    return "blockwise" if takes_blocks(tensors[1].shape[1], blockwise_above) else "plain"


def takes_blocks(keys: int, blockwise_above: int | None) -> bool:
    """Whether rows of so many keys are too many for a map at once; None = MAPS_UP_TO's number."""
    return keys > (MAPS_UP_TO[platform()] if blockwise_above is None else blockwise_above)


def obstacle(kernel: str, q: jax.Array, k: jax.Array, v: jax.Array, biased: bool) -> str | None:
    """Why a kernel can't run on these arrays, to be read after its name; None where it can."""
    check = {"cudnn": _cudnn, "splash": _splash, "tokamax": _tokamax}.get(kernel)
    return None if check is None else check(q, k, v, biased)


def _cudnn(q: jax.Array, k: jax.Array, v: jax.Array, biased: bool) -> str | None:
    if platform() != "gpu":
        return f"runs on NVIDIA GPUs, not on this {platform()}"
    if _capability().startswith("gfx"):
        return f"runs on NVIDIA GPUs, not on AMD's {_capability()}"
    if reason := _other_types((q, k, v), (jnp.bfloat16, jnp.float16)):
        return reason
    sizes = sorted({x.shape[-1] for x in (q, k, v)})
    if len(sizes) > 1:
        return f"takes one head size for queries, keys and values, not {sizes}"
    largest = 256 if float(_capability()) >= 9 else 128  # from the H100 on
    if sizes[0] % 8 or sizes[0] > largest:
        return f"takes head sizes that 8 divides, up to {largest}, not {sizes[0]}"
    if biased and (q.shape[1] % 2 or k.shape[1] % 2):
        return f"learns a bias for even numbers of tokens, not {q.shape[1]} × {k.shape[1]}"
    return None


def _capability() -> str:
    """What this machine's GPU is, such as 9.0 or AMD's gfx942; 0 without one."""
    return getattr(jax.local_devices()[0], "compute_capability", "0")


def _hopper() -> bool:
    """Whether the GPU is an H100 or H200: here, or as a mesh describes one that is not here."""
    described = jax.sharding.get_abstract_mesh().abstract_device
    kind = getattr(described, "device_kind", "")
    return _capability().startswith("9.") or any(name in kind for name in ("H100", "H200"))


def _splash(q: jax.Array, k: jax.Array, v: jax.Array, biased: bool) -> str | None:
    if platform() != "tpu" and not splash.INTERPRET:
        return f"runs on TPUs, not on this {platform()}"
    if biased:
        return "takes no bias, which this network's relative positions are"
    if q.dtype != k.dtype:
        return f"takes queries and keys of one type, not {q.dtype} and {k.dtype}"
    return _other_types((q, k, v), (jnp.bfloat16, jnp.float32))


def _tokamax(q: jax.Array, k: jax.Array, v: jax.Array, biased: bool) -> str | None:
    if importlib.util.find_spec("tokamax") is None:
        return "is not installed: pip install 'vit_jax_xfer[tokamax]'"
    return _other_types((q, k, v), (jnp.bfloat16, jnp.float16, jnp.float32))


def _fused(tensors: tuple[jax.Array, ...], portable: bool) -> str | None:
    if platform() not in ("gpu", "tpu") and not fused_loss.INTERPRET:
        return f"runs on GPUs and TPUs, not on this {platform()}"
    if portable:
        return "takes neither a bias in the scores nor means of the teacher's maps"
    for q, k in (tensors[:2], tensors[2:]):
        if q.dtype != k.dtype:
            return f"takes queries and keys of one type, not {q.dtype} and {k.dtype}"
    return _other_types(tensors, (jnp.bfloat16, jnp.float32))


def _other_types(arrays: tuple[jax.Array, ...], allowed: tuple[type, ...]) -> str | None:
    """Why a kernel for the allowed types takes no arrays of others."""
    others = [str(x.dtype) for x in arrays if x.dtype not in allowed]
    names = " or ".join(jnp.dtype(one).name for one in allowed)
    return f"takes {names}, not {others[0]}" if others else None
