"""Where images come from and how they are prepared: sources, pipelines, streams of batches."""

from vit_jax_xfer.data.sources import Source, choose_examples, open_source
from vit_jax_xfer.data.streams import eval_batches, num_eval_batches, train_stream
from vit_jax_xfer.data.transforms import parse as parse_pipeline

__all__ = [
    "Source",
    "choose_examples",
    "eval_batches",
    "num_eval_batches",
    "open_source",
    "parse_pipeline",
    "train_stream",
]
