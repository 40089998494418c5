"""FilterViT's benchmarks: PyTorch's network is ours, and the pieces run."""

import jax
import numpy as np
import pytest

import vit_jax_xfer as vjx
from benchmarks import filter_cost, filter_forward, filter_step


@pytest.fixture
def torch():
    """PyTorch on one thread: its threads wait actively, which slows down whatever runs beside."""
    torch = pytest.importorskip("torch", reason="needs torch, which ours is compared with")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield torch
    torch.set_num_threads(threads)


@pytest.mark.parametrize("name", ["filter_vit_xs", "filter_vit_s2", "dropout_vit_xs"])
def test_pytorchs_network_is_ours(torch, name):
    model = vjx.create_model(name, num_classes=10, image_size=64)
    variables = filter_forward.lively(model)
    found = filter_forward.contenders(name, model, variables, batch=2)
    assert list(found) == ["vit_jax_xfer", "torch"]
    ours, theirs = (np.asarray(run()) for run in found.values())
    assert 0.1 < ours.std() < 10  # signals get through
    np.testing.assert_allclose(theirs, ours, atol=1e-4)


@pytest.mark.parametrize("wrong", [7.0, np.nan])
def test_logits_that_disagree_are_refused(monkeypatch, wrong):
    model = vjx.create_model("filter_vit_xxs", num_classes=10, image_size=64)
    variables = filter_forward.lively(model)
    monkeypatch.setattr(
        filter_forward, "torch_forward", lambda *_: lambda: np.full((2, 10), wrong, np.float32)
    )
    with pytest.raises(ValueError, match="filter_vit_xxs, batch 2: logits of torch are off"):
        filter_forward.contenders("filter_vit_xxs", model, variables, batch=2)


def test_cost_falls_with_the_tokens_kept():
    cases = {keep: filter_cost.make_case(keep, (1, 12, 12, 8), 2) for keep in ("4", "0.5", "all")}
    about = {keep: case[0] for keep, case in cases.items()}
    assert [row["tokens"] for row in about.values()] == [4, 72, 144]
    assert about["4"]["transformer_M"] <= about["0.5"]["transformer_M"]
    assert about["4"]["step_MiB"] < about["all"]["step_MiB"]
    for _, forward, step in cases.values():
        assert forward().shape == (1, 12, 12, 8)
        assert all(np.isfinite(x).all() for x in jax.tree.leaves(step()))


def test_pytorch_learns_as_ours_does(torch):
    model = filter_step.network("filter_vit_xs", 64)
    ours, about = filter_step.our_step(model, 2)
    theirs = filter_step.torch_step("filter_vit_xs", model, 2)
    found, wanted = (np.array([step() for _ in range(3)]) for step in (ours, theirs))
    assert about["temporary_MiB"] > 0
    assert abs(found[2, 0] - found[0, 0]) > 1e-3  # it learns, so later losses tell of gradients
    np.testing.assert_allclose(found[:2, 0], wanted[:2, 0], rtol=1e-2)
    filter_step.check("filter_vit_xs", {"ours": lambda: found[0], "torch": lambda: wanted[0]})


def test_losses_that_part_are_an_error():
    found = {"ours": lambda: (1.0, 2.0), "torch eager": lambda: (1.0, 2.1)}
    with pytest.raises(ValueError, match="filter_vit_xs: loss, norm .* of torch eager"):
        filter_step.check("filter_vit_xs", found)
