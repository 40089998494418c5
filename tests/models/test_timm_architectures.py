"""The table of timm's architectures is timm's, name by name and size by size."""

import pytest

from vit_jax_xfer.models.timm_architectures import ARCHITECTURES
from vit_jax_xfer.models.timm_arguments import vit_fields
from vit_jax_xfer.models.timm_tags import tagged

FILES = ("vision_transformer", "deit", "beit", "eva")


@pytest.fixture(scope="module")
def timm():
    torch = pytest.importorskip("torch", reason="timm's networks are compared with the table")
    kept = torch.library.Library("torchvision", "FRAGMENT")  # where its operators are missing
    for name in ("nms", "qnms"):
        if not hasattr(torch.ops.torchvision, name):
            kept.define(name + "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    yield pytest.importorskip("timm", reason="its networks are compared with the table")
    del kept


def test_every_name_of_timm_is_listed(timm):
    names = {name for file in FILES for name in timm.list_models(module=file)}
    assert names == set(ARCHITECTURES)


def test_sizes_and_tags_are_timms(timm):
    import torch

    for name, arguments in ARCHITECTURES.items():
        try:
            fields = vit_fields(arguments)
        except ValueError:
            continue  # refused, and the sweep of benchmarks/ shows why
        with torch.device("meta"):
            theirs = timm.create_model(name, depth=1)
        block = theirs.blocks[0]
        assert fields["num_heads"] == block.attn.num_heads, name
        assert fields["width"] == theirs.embed_dim, name
        assert fields["mlp_dim"] == block.mlp.fc2.in_features, name
        assert fields["norm_eps"] == block.norm1.eps, name
        sides = theirs.pretrained_cfg["input_size"][1:]
        assert fields["image_size"] == sides[0] == sides[1], name
        for tag, published in timm.models._registry._model_default_cfgs[name].cfgs.items():
            found = tagged(name, tag, fields["width"])
            if tag == "untrained":
                continue
            ours = found["preprocessing"]
            assert found["num_classes"] == published.num_classes, (name, tag)
            assert (ours.crop, ours.crop_mode) == (published.crop_pct, published.crop_mode)
            assert ours.interpolation == published.interpolation
            assert ours.mean == pytest.approx(published.mean)
            assert ours.std == pytest.approx(published.std)
