"""What looks like weights and isn't: adapters, packed numbers, other formats; with ways out."""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple


class _Refusal(NamedTuple):
    """pattern: of names that only such a file has. why: what it is, and what to do."""

    pattern: re.Pattern[str]
    why: str


_QUANTISED = (
    "quantised weights ({kind}); where they were made, dequantise them and save floats: "
    "model.dequantize(), or model.float()"
)
_REFUSED = tuple(
    _Refusal(re.compile(rf"(?:^|.*[./])(?:{pattern})"), why)
    for pattern, why in (
        (
            r"(?:lora_[A-Z]|lora_embedding_[AB]|lora_magnitude_vector|hada_w1_a|lokr_w1)(?:\..*)?",
            "a LoRA adapter, which changes another network's weights; merge it first: "
            "PeftModel.from_pretrained(base, folder).merge_and_unload(), and save that",
        ),
        (
            r"_?flat_param(?:_\d+)?",
            "FSDP's flat parameters, which hold no shapes; save the full state dict: "
            "FSDP.state_dict_type(model, StateDictType.FULL_STATE_DICT)",
        ),
        (
            r"(?:nested_)?(?:absmax|quant_map)|quant_state\..*|SCB|weight_format",
            _QUANTISED.format(kind="bitsandbytes"),
        ),
        (r"qweight|qzeros|g_idx", _QUANTISED.format(kind="GPTQ or AWQ")),
        (
            r"weight_(?:scale|scale_inv|packed|zero_point)|input_scale|_packed_params(?:\..*)?"
            r"|weight\._(?:data|scale)",
            _QUANTISED.format(kind="scales beside them"),
        ),
    )
)


def refuse_no_weights(names: Iterable[str], where: str) -> None:
    """ValueError naming the first name of a kind that can't be a network's weights."""
    for name in names:
        for refusal in _REFUSED:
            if refusal.pattern.fullmatch(name):
                raise ValueError(f"{where}: {name} belongs to {refusal.why}")


def refuse_empty_arrays(shapes: Mapping[str, tuple[int, ...]], where: str) -> None:
    """ValueError where most arrays hold no number, as placeholders don't."""
    empty = [name for name, shape in shapes.items() if 0 in shape]
    if 2 * len(empty) > len(shapes):
        raise ValueError(
            f"{where}: {len(empty)} of {len(shapes)} arrays are empty ({empty[0]}, …), as in the "
            "model_states.pt of DeepSpeed's ZeRO-3, whose numbers lie in other files; gather them "
            "with its zero_to_fp32.py, and load what that writes"
        )


_OTHERWISE = "take the same weights as .safetensors, .npz or one of PyTorch's files"
_PICKLED = (
    "is a pickle, which may run code while it is read, so it is not opened; where you trust it, "
    "save its arrays once: numpy.savez(…, **arrays)"
)
_PACKED = "is packed; unpack it, and pass what is inside"
_FORMATS = {
    ".onnx": "is an ONNX graph, whose weights have lost their names' meaning; take the checkpoint "
    "that it was exported from, or pass a mapping {name: array} in a publisher's names, of "
    "onnx.numpy_helper.to_array(one) for one in onnx.load(file).graph.initializer",
    ".gguf": "is a GGUF file, mostly of quantised weights; take the checkpoint it was made from",
    ".tflite": "is a TensorFlow Lite graph; take the checkpoint that it was exported from",
    ".distcp": "is a part of a checkpoint of torch.distributed; gather it first: python -m "
    "torch.distributed.checkpoint.format_utils dcp_to_torch FOLDER weights.pth",
    **dict.fromkeys((".h5", ".hdf5", ".keras"), f"is a Keras file; {_OTHERWISE}"),
    **dict.fromkeys((".pb", ".index"), f"is of TensorFlow's; {_OTHERWISE}"),
    **dict.fromkeys((".pkl", ".pickle", ".joblib", ".npy", ".pdparams"), _PICKLED),
    **dict.fromkeys((".gz", ".zip", ".tar", ".tgz", ".xz", ".bz2", ".zst", ".7z"), _PACKED),
}


def refuse_format(path: Path) -> None:
    """ValueError for a file of a known format that isn't read, with the way out."""
    if path.is_dir() or path.name.lower().endswith(".pth.tar"):  # by custom no archive
        return
    for ending, why in _FORMATS.items():
        if path.name.lower().endswith(ending):
            raise ValueError(f"{path}: {why}")


def refuse_adapter(folder: Path) -> None:
    """ValueError for a folder that holds an adapter alone."""
    if (folder / "adapter_config.json").exists():
        raise ValueError(f"{folder}: adapter_config.json: holds {_REFUSED[0].why}")
