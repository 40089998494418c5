"""The config of the small job: one matrix learns digits, saved every fourth step."""

from ml_collections import ConfigDict

from vit_jax_xfer.config import default_config
from vit_jax_xfer.experiments.variants import VARIANTS, use_data

STEPS, EVERY = 24, 4


def get_config() -> ConfigDict:
    """For `--config`; the network is entered by `small_job.py`."""
    config = default_config("classification", "one_matrix", settings={})
    use_data(config, VARIANTS["digits"])
    config.steps, config.batch_size, config.eval.batch_size = STEPS, 16, 32
    config.eval.split, config.eval.every = "test[:80]", 2 * EVERY
    config.checkpoint.every, config.checkpoint.keep_last = EVERY, 4
    config.log.every, config.log.tensorboard = 1, False
    return config
