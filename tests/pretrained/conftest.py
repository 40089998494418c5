"""The library whose models published files are compared with."""

import os
from types import ModuleType

import pytest


@pytest.fixture(scope="session")
def transformers() -> ModuleType:
    """Hugging Face's transformers, version 5; CI must have it."""
    try:
        import torch
        import transformers
    except ImportError as error:
        if os.environ.get("CI"):
            pytest.fail(f"CI must have torch and transformers: {error}")
        pytest.skip(f"needs torch and transformers: {error}")
    if int(transformers.__version__.split(".")[0]) < 5:
        pytest.skip(f"needs transformers 5, this is {transformers.__version__}")
    torch.set_num_threads(1)
    transformers.utils.logging.set_verbosity_error()
    return transformers
