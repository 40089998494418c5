"""The teacher that a config names, and the student that takes its shape from it."""

import contextlib
import dataclasses
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from vit_jax_xfer.features.backbone import Backbone, backbone_of
from vit_jax_xfer.models.extract import encoder_of
from vit_jax_xfer.models.protocol import Network
from vit_jax_xfer.models.student import student_like
from vit_jax_xfer.models.vit import VisionTransformer
from vit_jax_xfer.pretrained.file_to_model import load_on_host, network_of
from vit_jax_xfer.pretrained.loading_notes import LoadingNote
from vit_jax_xfer.pretrained.parameter_rules import stack_blocks
from vit_jax_xfer.tasks.copying_runs import refuse_copying_teacher
from vit_jax_xfer.tasks.task import Variables

# (field of the config, path, heads, family) → the network and its variables; see `load_weights`.
Loader = Callable[..., tuple[nn.Module, Variables]]

# What `task.teacher_dtype` may be, beside "": the teacher is kept as it is stored and computes in
# the student's type.
DTYPES: tuple[str, ...] = ("bfloat16", "float32")


def load_weights(
    field: str, path: str, num_heads: int = 0, family: str = ""
) -> tuple[nn.Module, Variables]:
    """The model that a config's `field` names, with numpy arrays: the run puts them on devices.

    ValueError that says which field it was.
    """
    fields = {"num_heads": num_heads} if num_heads else {}
    with _naming(field):
        model, variables, _ = load_on_host(path, family or None, **fields)
    return model, variables


def read_network(field: str, path: str, num_heads: int = 0) -> Network:
    """The network of the weights that a field names, of which none is read. ValueError, as above.

    For before a run has devices, as when its config is made; what loading has to say is said when
    the weights are loaded.
    """
    with _naming(field), warnings.catch_warnings():
        warnings.simplefilter("ignore", LoadingNote)
        return network_of(path, num_heads)


@contextlib.contextmanager
def _naming(field: str) -> Iterator[None]:
    """What may go wrong with weights becomes a ValueError that says which field named them."""
    try:
        yield
    except FileNotFoundError as error:
        hint = "pass a run's folder or checkpoint, a downloaded file, or hf:ORG/NAME"
        raise ValueError(f"{field}: {error}; {hint}") from None
    # The last two: of a damaged checkpoint, and of an extra that is not installed.
    except (ValueError, OSError, RuntimeError, ImportError) as error:
        raise ValueError(f"{field}: {error}") from None


def load_teacher(settings: Any, load: Loader = load_weights) -> tuple[VisionTransformer, Variables]:
    """The teacher of a task's settings, its variables in `teacher_dtype` where that is given.

    ValueError without a teacher, for one that is no vision transformer or that copies its own
    teacher, and for an unknown type.
    """
    check_dtype("task.teacher_dtype", settings.teacher_dtype, "computing as the student does")
    product = settings.teacher_product_dtype
    check_dtype("task.teacher_product_dtype", product, "multiplying as the student does")
    if not settings.teacher:
        raise ValueError(
            "task.teacher: none given; pass --config.task.teacher= with a run's model folder or a "
            "checkpoint file"
        )
    refuse_copying_teacher("task.teacher", settings.teacher)
    family, num_heads = settings.teacher_family, settings.teacher_num_heads
    teacher, variables = encoder_of(*load("task.teacher", settings.teacher, num_heads, family))
    check_attends("task.teacher", settings.teacher, teacher)
    if settings.teacher_dtype:
        variables = keep_in(variables, settings.teacher_dtype)
    return teacher, variables


def check_attends(field: str, path: str, network: nn.Module) -> None:
    """ValueError, naming the field, for a network that no student can be like."""
    if "attention" not in network.collections:
        raise ValueError(
            f"{field}: {path} is a {network.kind}, and a teacher is a vision transformer or a "
            "masked autoencoder"
        )


def load_backbone_of(settings: Any, load: Loader = load_weights) -> tuple[Backbone, Variables]:
    """The frozen backbone of a task's settings, and its variables. ValueError without one."""
    if not settings.backbone:
        raise ValueError(
            "task.backbone: none given; pass --config.task.backbone= with a run's model folder or "
            "a checkpoint file"
        )
    family, num_heads = settings.backbone_family, settings.backbone_num_heads
    found = load("task.backbone", settings.backbone, num_heads, family)
    try:
        return backbone_of(*found, settings.backbone, facet=settings.facet, layer=settings.layer)
    except ValueError as error:
        raise ValueError(f"task.{error}") from None


def backbone_in(
    backbone: Backbone, variables: Variables, dtype: str, product_dtype: str = ""
) -> tuple[Backbone, Variables]:
    """A backbone kept in a type and computing in it; "" = as it is. ValueError: unknown type."""
    check_dtype("task.backbone_dtype", dtype, "computing as it was loaded")
    check_dtype("task.backbone_product_dtype", product_dtype, "multiplying in its own type")
    model = backbone.model
    if product_dtype:
        model = model.with_fields(product_dtype=jnp.dtype(product_dtype))
    if dtype:
        model, variables = model.clone(dtype=jnp.dtype(dtype)), keep_in(variables, dtype)
    return dataclasses.replace(backbone, model=model), variables


def check_dtype(field: str, dtype: str, otherwise: str) -> None:
    """ValueError unless a field holds one of DTYPES, or "": as it is stored, and `otherwise`."""
    if dtype not in ("", *DTYPES):
        known = ", ".join(DTYPES)
        raise ValueError(f'{field}: {dtype!r} is none of {known}; "" = as stored, and {otherwise}')


def keep_in(variables: Variables, dtype: str) -> Variables:
    """Variables on the host with every floating number in a type."""

    def cast(leaf: Any) -> np.ndarray:
        array = np.asarray(leaf)
        if not jnp.issubdtype(array.dtype, jnp.floating):
            return array
        if not any(array.strides):  # a stand-in: one number in every place, which takes no memory
            return np.broadcast_to(array[(0,) * array.ndim].astype(dtype), array.shape)
        return array.astype(dtype)

    return jax.tree.map(cast, variables)


def run_like(teacher: VisionTransformer, student: nn.Module, settings: Any) -> VisionTransformer:
    """The teacher computing as the student does, but for the types of a task's settings.

    A student that is no vision transformer has neither kernels nor products to be like.
    """
    fields: dict[str, Any] = {"dtype": student.dtype, "drop_path": 0.0, "remat": "none"}
    if isinstance(student, VisionTransformer):
        own = ("product_dtype", "attention", "blockwise_above")
        fields |= {name: getattr(student, name) for name in own}
    given = {"dtype": settings.teacher_dtype, "product_dtype": settings.teacher_product_dtype}
    return teacher.clone(**fields | {name: jnp.dtype(one) for name, one in given.items() if one})


def scan_like(
    teacher: VisionTransformer, variables: Variables, student: VisionTransformer
) -> tuple[VisionTransformer, Variables]:
    """The teacher with its blocks stacked where the student's are, so that they go in step.

    One whose blocks differ, by windows or convolutions, stays as it is: they go in turn.
    """
    if teacher.scan or not student.scan or not teacher.blocks_alike:
        return teacher, variables
    return teacher.clone(scan=True), stack_blocks(variables)


def build_student(teacher: VisionTransformer, fields: Mapping[str, Any]) -> VisionTransformer:
    """`config.model` named "student_like": its fields that are given win over the teacher's.

    `parts` are as of `student_like`, in one string with commas or in a tuple; "" = all.
    """
    parts = fields.get("parts")
    rest = {name: value for name, value in fields.items() if name not in ("parts", "like")}
    # Its images are prepared by the run's own pipelines.
    return student_like(teacher, _parts(parts), **{"preprocessing": None, **rest})


def _parts(parts: str | Sequence[str] | None) -> Sequence[str] | None:
    if not isinstance(parts, str):
        return parts
    return [part.strip() for part in parts.split(",")] if parts else None
