"""Other people's checkpoints → this project's variables, and back.

A file is read (files), its names are brought to common ones (dialects, common, flax_names), what
they tell is read off (reading), the family is told (families), and the model is filled (fill).
"""

from vit_jax_xfer.pretrained.file_to_model import FAMILIES, load_pretrained
from vit_jax_xfer.pretrained.publish import to_publisher_names

__all__ = ["FAMILIES", "load_pretrained", "to_publisher_names"]
