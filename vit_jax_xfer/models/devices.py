"""Which devices a program is for: of the mesh that is set, which need not be here, or JAX's."""

import jax


def platform() -> str:
    """cpu, gpu or tpu: of the mesh that is set, whose devices need not be here, or of JAX."""
    device = jax.sharding.get_abstract_mesh().abstract_device
    return getattr(device, "platform", None) or jax.default_backend()


def one_cpu() -> bool:
    """Whether a program is for one CPU, where no axis is sharded and no layout has tiles."""
    return platform() == "cpu" and jax.device_count() == 1


def one_device_each() -> bool:
    """Whether a kernel that the compiler can't split may run: alone, or told of the mesh."""
    return not jax.sharding.get_abstract_mesh().empty or jax.device_count() == 1
