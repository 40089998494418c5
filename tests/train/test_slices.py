"""Meshes across several slices: the data axis goes from one to the next, the others stay inside."""

import types

import numpy as np
import pytest

from tests.runs import losses, tiny_config
from vit_jax_xfer.train import loop
from vit_jax_xfer.train.sharding import make_mesh
from vit_jax_xfer.train.slices import across_slices, mesh_slices


def pretended(slices, processes=1, count=8):
    """Devices in which slices and processes alternate, as their numbers need not be in order."""
    return [
        types.SimpleNamespace(
            id=i, slice_index=i % slices, process_index=i % processes, platform="gpu",
            device_kind="pretended",
        )
        for i in range(count)
    ]  # fmt: skip


@pytest.mark.parametrize("sizes", [(2, 4, 1), (4, 1, 2), (8, 1, 1)])
def test_a_slice_is_a_run_of_the_data_axis(sizes):
    devices = pretended(2)
    assert mesh_slices(0, sizes[0], devices) == mesh_slices(2, sizes[0], devices) == 2
    arranged = across_slices(sizes, 2, devices)
    assert arranged.shape == sizes
    for part, half in enumerate(np.split(arranged, 2)):
        assert {device.slice_index for device in half.flat} == {part}
    assert sorted(device.id for device in arranged.flat) == list(range(8))


def test_processes_stand_for_slices_where_asked():
    devices = pretended(1, processes=4)
    assert (mesh_slices(0, 8, devices), mesh_slices(4, 8, devices)) == (1, 4)
    arranged = across_slices((4, 2, 1), 4, devices)
    for part, quarter in enumerate(arranged):
        assert {device.process_index for device in quarter.flat} == {part}


def test_slices_that_do_not_divide_the_data_axis():
    devices = pretended(4)
    assert mesh_slices(0, 2, devices) == 1 and mesh_slices(1, 2, devices) == 1
    with pytest.raises(ValueError, match="mesh.slices: data = 2 is not a multiple of the 4 slices"):
        mesh_slices(4, 2, devices)
    with pytest.raises(ValueError, match="mesh.slices: 2, and the devices are of 4; 0 = "):
        mesh_slices(2, 2, devices)
    with pytest.raises(ValueError, match="mesh.slices: -1 slices are none"):
        mesh_slices(-1, 2, devices)


def test_fake_devices_are_as_many_slices_as_asked():
    ids = [device.id for device in make_mesh(4, 1, 2, 2).devices.flat]
    assert ids == [device.id for device in make_mesh(4, 1, 2).devices.flat]
    with pytest.raises(ValueError, match="mesh.slices: data = 8 is not a multiple of the 3"):
        make_mesh(-1, 1, 1, 3)


def test_a_run_started_without_slices_goes_on_across_them(tmp_path, capsys):
    loop.run(tiny_config("scratch"), tmp_path / "plain")
    config = tiny_config("scratch", mesh__slices=2)
    loop.run(config, tmp_path / "slices")
    assert losses(tmp_path / "slices") == losses(tmp_path / "plain")
    with config.unlocked():
        config.steps, config.mesh.slices = 4, 4
    capsys.readouterr()
    assert loop.run(config, tmp_path / "slices")["step"] == 4
    assert "mesh.slices: 2 → 4" in capsys.readouterr().out
