"""LiFT's benchmark: PyTorch's module is ours, forwards and in training, and the pieces run."""

import argparse
import functools
import time

import numpy as np
import pytest

from benchmarks import lift_speed
from vit_jax_xfer.models.lifting.lift import LiFT

torch = pytest.importorskip("torch", reason="needs torch, which ours is compared with")


@pytest.fixture(autouse=True)
def one_thread():
    """PyTorch's threads wait actively, which slows down whatever runs beside."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize(("patch", "steps"), [(8, 1), (16, 2)])
def test_pytorchs_outputs_are_ours(patch, steps):
    found = lift_speed.extraction(LiFT(6, patch), 2, 2 * patch, last=True, steps=steps)
    assert list(found) == [
        *("vit_jax_xfer", "torch", "torch channels_last", "ConvexLiFT", "JointBilateral")
    ]
    outputs = {name: np.asarray(run()) for name, run in found.items()}
    side = 2 * 2**steps
    assert {x.shape for x in outputs.values()} == {(2, side, side, 6)}
    for name in ("torch", "torch channels_last"):
        np.testing.assert_allclose(outputs[name], outputs["vit_jax_xfer"], atol=1e-5)
    assert outputs["vit_jax_xfer"].std() > 1e-3  # signals get through


def test_pytorch_learns_as_ours_does():
    found = lift_speed.training(LiFT(6, 8), 2, 32)
    losses = {name: [float(step()) for _ in range(5)] for name, step in found.items()}
    np.testing.assert_allclose(losses["torch"], losses["vit_jax_xfer"], rtol=1e-3)
    assert losses["vit_jax_xfer"][-1] < losses["vit_jax_xfer"][0]


def test_what_disagrees_is_refused(monkeypatch):
    monkeypatch.setattr(lift_speed, "_torch_steps", lambda *_: lambda: torch.tensor(7.0))
    with pytest.raises(ValueError, match="training step: losses of torch are off by"):
        lift_speed.training(LiFT(6, 8), 1, 16)
    wrong = np.zeros((1, 4, 4, 6), np.float32)
    monkeypatch.setattr(lift_speed, "_torch_lift", lambda *_: lambda: wrong)
    with pytest.raises(ValueError, match="×1: outputs of torch are off by"):
        lift_speed.extraction(LiFT(6, 8), 1, 16)


def test_a_table_of_ratios(capsys):
    arguments = argparse.Namespace(width=384, patch_size=16, image_size=224, batch=2, rounds=1)
    names = ("vit_jax_xfer", "torch", "ConvexLiFT")
    found = {name: functools.partial(time.sleep, 0.001) for name in names}
    rows = lift_speed.compare("×1", found, arguments)
    assert [row["M multiply-adds"] for row in rows] == [752.4, 752.4, 104.2]
    assert rows[0]["ratio"] == 1
    rows = lift_speed.compare("training step", {"vit_jax_xfer": found["torch"]}, arguments)
    assert rows[0]["M multiply-adds"] == round(752.4 + 188.1, 1)
    assert '"contender": "torch"' in capsys.readouterr().out
