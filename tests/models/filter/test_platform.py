"""Which convolution runs hangs on the mesh that a program is for, not on this machine."""

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import AbstractDevice, AbstractMesh, AxisType

from vit_jax_xfer.models.filter.convolution import Depthwise
from vit_jax_xfer.models.filter.network import FilterViT


def program(platform, model, images):
    """The text of a forward pass for one device of a platform that need not be here."""
    described = AbstractDevice(device_kind="as described", num_cores=1, platform=platform)
    mesh = AbstractMesh((1,), ("data",), (AxisType.Auto,), abstract_device=described)
    variables = jax.eval_shape(model.init, jax.random.key(0), images)
    with jax.sharding.use_abstract_mesh(mesh):
        return str(jax.make_jaxpr(model.apply)(variables, images))


@pytest.mark.parametrize(("platform", "grouped"), [("tpu", True), ("gpu", True), ("cpu", False)])
@pytest.mark.parametrize("machine", ["cpu", "tpu"])
def test_the_mesh_says_which_convolution_runs(platform, grouped, machine, monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: machine)
    found = program(platform, Depthwise(), jax.ShapeDtypeStruct((1, 4, 4, 2), jnp.float32))
    assert ("conv_general_dilated" in found) == grouped
    assert ("shifted_sum" in found) != grouped


@pytest.mark.parametrize(("platform", "parts"), [("tpu", False), ("cpu", True)])
def test_only_a_cpu_of_the_mesh_runs_a_batch_in_parts(platform, parts, monkeypatch):
    monkeypatch.setattr(jax, "device_count", lambda: 1)
    images = jax.ShapeDtypeStruct((3, 224, 224, 3), jnp.float32)
    model = FilterViT(stages=(), stem_width=4, num_classes=0)
    assert ("scan[" in program(platform, model, images)) == parts
