"""Attention transfer, token filtering and feature lifting for Vision Transformers in JAX/Flax.

    import vit_jax_xfer as vjx
    model, variables = vjx.load_pretrained("mae_pretrain_vit_base.pth")
    maps = vjx.extract(model, variables, images, attention=True).attention

Needs jax and flax alone; each name below is imported when it is first used.
"""

from typing import TYPE_CHECKING

from vit_jax_xfer import moved
from vit_jax_xfer.lazy_names import lazy_names

moved.install()

__version__ = "0.1.0"

_WHERE = {
    "compiler_options": "vit_jax_xfer.compiler",
    "create_model": "vit_jax_xfer.models.registry",
    "list_models": "vit_jax_xfer.models.registry",
    "VisionTransformer": "vit_jax_xfer.models.vit",
    "MaskedAutoencoder": "vit_jax_xfer.models.mae",
    "mae_forward": "vit_jax_xfer.models.mae",
    "export_onnx": "vit_jax_xfer.pretrained.onnx_export",
    "extract": "vit_jax_xfer.models.extract",
    "Extracted": "vit_jax_xfer.models.extract",
    "Preprocessing": "vit_jax_xfer.models.preprocessing",
    "student_like": "vit_jax_xfer.models.student",
    "preprocess": "vit_jax_xfer.data.prepare",
    "FAMILIES": "vit_jax_xfer.pretrained",
    "load_pretrained": "vit_jax_xfer.pretrained",
    "save": "vit_jax_xfer.pretrained.saved_models",
    "Transfer": "vit_jax_xfer.transfer.spec",
    "to_nnx": "vit_jax_xfer.models.nnx_bridge",
    "transfer_forward": "vit_jax_xfer.transfer.forward",
}
# Namespaces, reached as vjx.NAME.
_MODULES = ("analysis", "augment", "dense", "detection", "explain")

__all__ = [
    "FAMILIES",
    "Extracted",
    "MaskedAutoencoder",
    "Preprocessing",
    "Transfer",
    "VisionTransformer",
    "analysis",
    "augment",
    "compiler_options",
    "create_model",
    "dense",
    "detection",
    "explain",
    "export_onnx",
    "extract",
    "list_models",
    "load_pretrained",
    "mae_forward",
    "preprocess",
    "save",
    "student_like",
    "to_nnx",
    "transfer_forward",
]

if TYPE_CHECKING:
    from vit_jax_xfer import analysis, augment, dense, detection, explain
    from vit_jax_xfer.compiler import compiler_options
    from vit_jax_xfer.data.prepare import preprocess
    from vit_jax_xfer.models.extract import Extracted, extract
    from vit_jax_xfer.models.mae import MaskedAutoencoder, mae_forward
    from vit_jax_xfer.models.nnx_bridge import to_nnx
    from vit_jax_xfer.models.preprocessing import Preprocessing
    from vit_jax_xfer.models.registry import create_model, list_models
    from vit_jax_xfer.models.student import student_like
    from vit_jax_xfer.models.vit import VisionTransformer
    from vit_jax_xfer.pretrained import FAMILIES, load_pretrained
    from vit_jax_xfer.pretrained.onnx_export import export_onnx
    from vit_jax_xfer.pretrained.saved_models import save
    from vit_jax_xfer.transfer.forward import transfer_forward
    from vit_jax_xfer.transfer.spec import Transfer


if not TYPE_CHECKING:  # else a type checker takes any name for one of these
    __getattr__, __dir__ = lazy_names(__name__, _WHERE, _MODULES)
