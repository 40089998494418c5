"""A case's products alone, built and run in a process of its own."""

import jax

from benchmarks.product_rate import ProductRate
from benchmarks.product_shapes import products
from benchmarks.step_case import Case, Contender
from benchmarks.step_ours import network


class ProductsStep:
    """What a step's products take by themselves; it times itself, in `seconds`."""

    def __init__(self, case: Case, contender: Contender) -> None:
        exact = contender.dtype == "float32"
        jax.config.update("jax_default_matmul_precision", "highest" if exact else "default")
        found = products(network(case), batch=case.batch)
        self._rate = ProductRate(found, case.what, contender.of, contender.dtype)
        self.about = {"device": "cpu", "version": jax.__version__}
        if contender.of == "torch":
            import torch

            cuda = torch.cuda.is_available()
            self.about = {"device": torch.cuda.get_device_name() if cuda else "cpu"}
            self.about["version"] = torch.__version__
        else:
            self.about["device"] = jax.devices()[0].device_kind
        self.seconds = 0.0

    def __call__(self) -> float:
        """Takes each product once; its value says nothing."""
        self.seconds = self._rate.seconds()
        return 0.0
