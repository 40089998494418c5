"""Networks of Hugging Face's transformers, loaded from what it saves, and given back to it."""

import shutil
from functools import partial

import jax
import numpy as np
import pytest

import vit_jax_xfer as vjx
from tests.outputs import assert_close
from tests.pretrained.hugging_face import NETWORKS, Network, build, configuration, run
from vit_jax_xfer.models.mae import mae_forward
from vit_jax_xfer.pretrained import load_pretrained, to_publisher_names
from vit_jax_xfer.pretrained.file_to_model import load_on_host
from vit_jax_xfer.pretrained.saved_models import write_safetensors

RNG = np.random.default_rng(0)
# Native, larger and not square, smaller and not square.
IMAGES = [
    RNG.standard_normal((2, h, w, 3)).astype(np.float32) for h, w in ((32, 32), (48, 40), (24, 16))
]
MAE = Network(
    "ViTMAEForPreTraining",
    "ViTMAEConfig",
    "mae",
    {
        "decoder_hidden_size": 32,
        "decoder_num_attention_heads": 4,
        "decoder_num_hidden_layers": 2,
        "decoder_intermediate_size": 64,
    },
)


@pytest.fixture(scope="module", params=NETWORKS)
def saved(request, transformers, tmp_path_factory):
    """(network, transformers' model, the folder that it saved)."""
    network = NETWORKS[request.param]
    model = build(transformers, network)
    folder = tmp_path_factory.mktemp(request.param)
    shards = {"max_shard_size": "50KB"} if request.param == "vit_without_pooler" else {}
    model.save_pretrained(folder, **shards)
    assert (len(list(folder.glob("*.safetensors"))) > 1) == bool(shards)
    return network, model, folder


@pytest.fixture(scope="module")
def loaded(saved):
    return load_on_host(saved[2])


def assert_equal_outputs(network, model, ours, variables, images):
    """Every output that both have."""
    tower, whole = run(network, model, images)
    out = vjx.extract(ours, variables, images, attention=True)
    tokens = tower.last_hidden_state if "last_hidden_state" in tower else None
    if network.family == "clip":  # ours are after the last norm
        vision = getattr(model, "vision_model", model)
        tokens = vision.post_layernorm(tokens).detach()
    if tokens is not None:
        assert_close(out.tokens, tokens, "tokens")
    assert_close(out.attention, np.stack([x.numpy() for x in tower.attentions]), "attention")
    if "logits" in whole:
        assert_close(out.logits, whole.logits, "logits")
    elif network.model == "CLIPModel":
        unit = np.linalg.norm(out.logits, axis=-1, keepdims=True)
        assert_close(out.logits / unit, whole.image_embeds, "embeddings")
    elif tower.get("pooler_output") is not None:
        assert_close(out.pooled, tower.pooler_output, "pooled")


@pytest.mark.parametrize("images", IMAGES[:2], ids=["native", "larger"])
def test_equals_transformers(saved, loaded, images):
    network, model, _ = saved
    ours, variables, found = loaded
    assert found.family.name == network.family
    assert_equal_outputs(network, model, ours, variables, images)


# One for each way of fitting positions to another grid.
@pytest.mark.parametrize("name", ["vit", "beit", "dinov2_registers", "dinov3"])
def test_smaller_images(transformers, tmp_path, name):
    network = NETWORKS[name]
    model = build(transformers, network, seed=1)
    model.save_pretrained(tmp_path)
    assert_equal_outputs(network, model, *load_pretrained(tmp_path), IMAGES[2])


def test_transformers_takes_it_back(transformers, saved, loaded, tmp_path):
    network, model, folder = saved
    ours, variables, found = loaded
    state = to_publisher_names(variables, found.family.name, "huggingface")
    write_safetensors(tmp_path / "model.safetensors", state, {"format": "pt"})
    name, config = network.again or (network.model, network.config)
    if network.again:
        configuration(transformers, config, {}).save_pretrained(tmp_path)
        network = Network(name, config, network.family)
    else:
        shutil.copy(folder / "config.json", tmp_path)
    again, said = getattr(transformers, name).from_pretrained(
        tmp_path, attn_implementation="eager", output_loading_info=True
    )
    assert not any(said.values()), said
    if name == "CLIPVisionModelWithProjection":
        assert_close(
            run(network, again, IMAGES[0])[1].image_embeds,
            vjx.extract(ours, variables, IMAGES[0]).logits,
        )
    else:
        assert_equal_outputs(network, again, ours, variables, IMAGES[0])


@pytest.mark.parametrize("normalised", [False, True])
def test_masked_autoencoder(transformers, tmp_path, normalised):
    import torch

    network = MAE._replace(fields={**MAE.fields, "norm_pix_loss": normalised})
    model = build(transformers, network)
    model.save_pretrained(tmp_path / "saved")
    ours, variables, found = load_on_host(tmp_path / "saved")
    assert (found.family.name, ours.decoder_num_heads) == ("mae", 4)
    state = to_publisher_names(variables, "mae", "huggingface")
    write_safetensors(tmp_path / "model.safetensors", state, {"format": "pt"})
    shutil.copy(tmp_path / "saved/config.json", tmp_path)
    again, said = type(model).from_pretrained(tmp_path, output_loading_info=True)
    assert not any(said.values()), said
    noise = np.random.default_rng(1).random((2, 16)).astype(np.float32)

    @partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
    def step(variables):
        return mae_forward(ours, variables, IMAGES[0], noise=noise, norm_pix_loss=normalised)

    loss, prediction, mask = step(variables)
    for one in (model, again):
        _, out = run(network, one, IMAGES[0], noise=torch.from_numpy(noise))
        assert_close(prediction, out.logits, "prediction")
        assert_close(loss, out.loss, "loss")
        np.testing.assert_array_equal(mask, out.mask)
    # Its encoder alone, which sees all patches. (At other sizes, theirs takes the decoder's
    # positions for a line, so there it is no reference.)
    encoder, variables = load_pretrained(tmp_path / "saved", decoder=False)
    model.vit.config.mask_ratio = 0.0
    for images in IMAGES[:2]:
        number = images.shape[1] * images.shape[2] // 64
        order = torch.arange(number).float().repeat(2, 1)
        tower, _ = run(network, model.vit, images, noise=order)
        assert_close(vjx.extract(encoder, variables, images).tokens, tower.last_hidden_state)


@pytest.mark.parametrize("name", ["beit_shared", "dinov2", "dinov2_registers", "dinov3"])
def test_masked_patches(transformers, tmp_path, name):
    import torch

    network = NETWORKS[name]
    model = build(transformers, network)
    model.save_pretrained(tmp_path)
    ours, variables = load_pretrained(tmp_path)
    masked = np.random.default_rng(2).random((2, 16)) < 0.4
    wanted, _ = run(network, model, IMAGES[0], bool_masked_pos=torch.from_numpy(masked))
    out = ours.apply(variables, IMAGES[0], mask=masked, method="forward")
    assert_close(out.tokens, wanted.last_hidden_state, "tokens")
    with pytest.raises(AssertionError):
        assert_close(vjx.extract(ours, variables, IMAGES[0]).tokens, wanted.last_hidden_state)


def test_a_classifier_that_leaves_the_map_head_out(transformers, tmp_path):
    network = Network("SiglipForImageClassification", "SiglipConfig", "siglip")
    model = build(transformers, network)
    model.save_pretrained(tmp_path)
    ours, variables = load_pretrained(tmp_path)
    for images in IMAGES:
        _, wanted = run(network, model, images)
        assert_close(vjx.extract(ours, variables, images).logits, wanted.logits, "logits")
