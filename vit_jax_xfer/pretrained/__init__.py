"""Other people's checkpoints → this project's variables, and back.

`file_to_model.py` has the steps from a file to a model in order, `publish.py` walks back, and each
family of published checkpoints is one file of `families/`.
"""

from vit_jax_xfer.pretrained.families import FAMILIES as _BY_NAME
from vit_jax_xfer.pretrained.file_to_model import load_pretrained
from vit_jax_xfer.pretrained.publish import to_publisher_names

FAMILIES: tuple[str, ...] = tuple(sorted(_BY_NAME))

__all__ = ["FAMILIES", "load_pretrained", "to_publisher_names"]
