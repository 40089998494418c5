"""Adapters, packed numbers and other formats: named, with the way out."""

import numpy as np
import pytest

from tests.outputs import prefixed
from vit_jax_xfer.pretrained import load_pretrained
from vit_jax_xfer.pretrained.read_files import read_checkpoint


def fails(match, source):
    with pytest.raises(ValueError, match=match) as caught:
        read_checkpoint(source)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "match"),
    [
        ("base_model.model.blocks.0.attn.qkv.lora_A.weight", "a LoRA adapter, .*merge it first"),
        ("blocks.0.attn.qkv.lora_B.default.weight", "a LoRA adapter, .*merge it first"),
        ("blocks.0.attn.qkv.lora_A", "a LoRA adapter, .*merge it first"),
        ("blocks.0.attn.lora_magnitude_vector.default", "a LoRA adapter, .*merge it first"),
        ("_fsdp_wrapped_module._flat_param", "FSDP's flat parameters, .*FULL_STATE_DICT"),
        ("blocks.0.flat_param_0", "FSDP's flat parameters"),
        ("blocks.0.attn.qkv.weight.absmax", "quantised weights .bitsandbytes"),
        ("blocks.0.attn.qkv.weight.quant_state.bitsandbytes__nf4", "quantised .* floats"),
        ("blocks.0.attn.qkv.SCB", "quantised weights .bitsandbytes"),
        ("blocks.0.attn.qkv.qweight", "quantised weights .GPTQ or AWQ"),
        ("blocks.0.attn.qkv.weight_scale", "quantised weights"),
        ("blocks.0.attn.qkv.weight_scale_inv", "quantised weights"),
        ("blocks.0.attn.qkv._packed_params._packed_params", "quantised weights"),
        ("blocks.0.attn.qkv.weight._data", "quantised weights"),
    ],
)
def test_names_of_what_is_no_networks_weights(name, match):
    state = {"cls_token": np.ones((1, 1, 8)), name: np.ones((2, 2), np.float32)}
    for source in (state, {"state_dict": prefixed("model.", state)}):
        fails(rf"source: .*{name.rpartition('.')[2]}.* belongs to {match}", source)


@pytest.mark.parametrize(
    "name", ["blocks.0.norm1.scale", "explorer_A.weight", "weight_scaler", "logit_scale", "g.idx"]
)
def test_names_that_only_look_alike_pass(name):
    assert name in read_checkpoint({name: np.ones(2)}).state


@pytest.mark.parametrize("file", ["adapter_model.safetensors", "adapter_model.bin", None])
def test_adapter_folders(tmp_path, file):
    (tmp_path / "adapter_config.json").write_text("{}")
    if file:
        (tmp_path / file).write_bytes(b"never opened")
    fails("adapter_config.json: .*LoRA adapter.*merge it first", tmp_path)


@pytest.mark.parametrize(
    ("name", "match"),
    [
        ("model.onnx", "ONNX graph, .*take the checkpoint"),
        ("MODEL.ONNX", "ONNX graph"),
        ("model.gguf", "GGUF"),
        ("model.tflite", "TensorFlow Lite"),
        ("__0_0.distcp", "dcp_to_torch"),
        ("tf_model.h5", "Keras file; take the same weights as"),
        ("saved_model.pb", "TensorFlow's; take"),
        ("weights.pkl", "pickle, .*is not opened; .*numpy.savez"),
        ("weights.npy", "pickle, .*is not opened"),
        ("weights.pth.gz", "packed; unpack it"),
    ],
)
def test_other_formats(tmp_path, name, match):
    (tmp_path / name).write_bytes(b"never opened")
    fails(match, tmp_path / name)
    fails(match, tmp_path)


def test_what_is_neither_a_path_nor_names_and_arrays():
    class Module:
        def state_dict(self):
            return {}

    for source, says in ((Module(), "got a Module, .*; pass its state_dict"), ([], "got a list")):
        with pytest.raises(ValueError, match=f"source: {says}"):
            load_pretrained(source)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("blocks.0.attn.qkv.weight", np.int8),
        ("pos_embed", np.uint8),
        ("head.bias", np.int64),
        ("patch_embed.proj.weight", np.bool_),
    ],
)
def test_whole_numbers_are_no_weights(golden, name, kind):
    state = golden("timm/supervised_cls")
    state[name] = (state[name] * 9).astype(kind)
    with pytest.raises(ValueError, match=rf"whole numbers.*{name} \({np.dtype(kind).name}\)"):
        load_pretrained(state, num_heads=3)


def test_placeholders_of_sharded_training():
    state = dict.fromkeys(("a.weight", "b.weight"), np.zeros(0, np.float32))
    for more in ({}, {"c.weight": np.ones(3, np.float32)}):
        number = 2 + len(more)
        fails(
            rf"^source: 2 of {number} arrays are empty \(a.weight, …\), .*ZeRO-3.*zero_to_fp32.py",
            {"module": {**state, **more}},
        )
    half = {**state, "c.weight": np.ones(3), "d.weight": np.ones(3)}
    assert len(read_checkpoint(half).state) == 4  # transformers' arrays of no registers
