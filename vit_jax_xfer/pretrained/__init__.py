"""Other people's checkpoints → this project's variables, one file per family."""

from vit_jax_xfer.pretrained.load import FAMILIES, load_pretrained, to_publisher_names

__all__ = ["FAMILIES", "load_pretrained", "to_publisher_names"]
