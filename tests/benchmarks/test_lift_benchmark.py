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


def test_rows_with_their_work_and_share(capsys):
    flags = {"width": 8, "patch_size": 8, "image_size": 16, "batch": 2, "rounds": 1}
    flags |= {"widest": 0.15, "beside": False, "json": None, "table": None, "refuse": False}
    arguments = argparse.Namespace(**flags)
    with lift_speed.Report(arguments, lift_speed.COLUMNS) as report:
        found = {
            name: functools.partial(time.sleep, 0.001)
            for name in ("vit_jax_xfer", "torch", "ConvexLiFT")
        }
        lift_speed.compare_lifts(report, "×1", found)
        ours, theirs, convex, *alone = report.rows
        assert ours["ratio"] == 1 and ours["share %"] > 0 and ours["GFLOP_s"] > 0
        assert ours["M multiply-adds"] == theirs["M multiply-adds"] != convex["M multiply-adds"]
        assert "share %" not in convex and len(alone) == 2
        lift_speed.compare_lifts(report, "training step", found)
    assert report.rows[5]["M multiply-adds"] > ours["M multiply-adds"]
    assert '"contender": "torch"' in capsys.readouterr().out


def test_work_of_an_image():
    arguments = argparse.Namespace(width=384, patch_size=16, image_size=224, batch=2)
    names = ("vit_jax_xfer", "products alone, JAX", "ConvexLiFT")
    found = [lift_speed.millions("×1", name, arguments) for name in names]
    assert found == [752.4, 752.4, 104.2]
    training = lift_speed.millions("training step", "torch", arguments)
    assert training == round(752.4 + 188.1, 1)
