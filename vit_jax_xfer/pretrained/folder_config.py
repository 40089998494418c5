"""What a folder's configuration says of the network beside it, and whether the weights agree."""

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple

from vit_jax_xfer.pretrained.fields_from_shapes import Fields, Reading

_QKV_BIASES = {
    "full": (True, True, True),
    "no_key": (True, False, True),
    "none": (False, False, False),
}


class Statement(NamedTuple):
    """One key whose value the weights show too.

    key: as errors name it. fact: what of `weights_show`. value: what that must be.
    said: the key's own value, where it is another; None = `value`.
    """

    key: str
    fact: str
    value: Any
    said: Any = None


@dataclasses.dataclass(frozen=True)
class FolderConfig:
    """A folder's configuration, read.

    fields: a VisionTransformer's that no shape tells. image_size: of the stored positions, None
    where it isn't said. statements: what the weights must confirm. file: its name, for errors.
    renames: {beginning of canonical names: what it is here}, where a part is another one than its
    name says. seen: the size of the network's images, where it isn't image_size.
    """

    fields: Fields = dataclasses.field(default_factory=dict)
    image_size: Any = None
    statements: tuple[Statement, ...] = ()
    file: str = "config.json"
    renames: Mapping[str, str] = dataclasses.field(default_factory=dict)
    seen: Any = None

    def speaks_of(self, fact: str) -> bool:
        """Whether a statement is about this fact of `weights_show`."""
        return any(statement.fact == fact for statement in self.statements)

    def check(self, reading: Reading, fields: Fields) -> None:
        """ValueError naming the first key that the weights contradict, with both values."""
        shown = weights_show(reading, fields)
        for key, fact, value, said in self.statements:
            found = shown[fact]
            if found is not None and found != value:
                raise ValueError(
                    f"{self.file}: {key} is {value if said is None else said!r}, but the weights "
                    f"say {fact}: {found!r}"
                )


def weights_show(reading: Reading, fields: Fields) -> dict[str, Any]:
    """What statements can be about, {fact: what the weights show}; None where they don't."""
    head = fields["num_classes"] or None
    return {
        "width": fields["width"],
        "depth": fields["depth"],
        "MLP width": fields["mlp_dim"],
        "channels": reading.shape("patch_embed/kernel")[2],
        "patch size": fields["patch_size"],
        "biases of q, k and v": _QKV_BIASES[fields["qkv_bias"]],
        "a bias of q, k and v": fields["qkv_bias"] != "none",
        "registers": fields["registers"],
        "a class token": fields["class_token"],
        "a distillation token": fields["distillation_token"],
        "norms of queries and keys": fields["qk_norm"],
        "a norm inside of the attention": fields["attention_norm"],
        "a norm inside of the MLP": fields["mlp_norm"],
        "a gated MLP": fields["mlp"] != "plain",
        "a table of positions": fields["position"] == "learned",
        "a relative bias in each block": fields["relative_bias"] == "block",
        "a shared relative bias": fields["relative_bias"] == "shared",
        "LayerScale": reading.has("blocks_0/layer_scale1"),
        "a norm before the blocks": fields["pre_norm"],
        "classes": head if fields["head_bias"] else None,
        "projection width": None if fields["head_bias"] else head,
        "an average before the head": fields["pool"] == "avg" if head else None,
        "the pooler's activation": "tanh" if fields["pre_logits"] else None,
        **_decoder_shows(reading),
    }


def _decoder_shows(reading: Reading) -> dict[str, Any]:
    """The same of a masked autoencoder's decoder."""
    shown: dict[str, Any] = dict.fromkeys(("decoder width", "decoder depth", "decoder MLP width"))
    state = reading.state
    if reading.has_decoder:
        depth = sum(
            name.startswith("decoder_blocks.") and name.endswith(".norm1.weight") for name in state
        )
        shown |= {"decoder width": state.shape("decoder_embed.weight")[0], "decoder depth": depth}
        if "decoder_blocks.0.mlp.fc1.weight" in state:
            shown["decoder MLP width"] = state.shape("decoder_blocks.0.mlp.fc1.weight")[0]
    return shown


def number(key: str, value: Any, file: str = "config.json") -> int | float:
    """A number of a configuration. ValueError naming the key where it is none."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{file}: {key} is {value!r}, expected a number")
    return value


def size_of_image(key: str, value: Any, file: str = "config.json") -> int | tuple[int, int] | None:
    """Pixels, or (height, width), of an int, a pair or an object; None of None.

    ValueError naming the key where it is none of these.
    """
    if isinstance(value, Mapping):
        value = [value.get("height"), value.get("width")]
    sides = value if isinstance(value, list | tuple) else [value, value]
    if value is None:
        return None
    if len(sides) == 1:
        sides = [*sides, *sides]
    if len(sides) != 2 or not all(type(side) is int and side > 0 for side in sides):
        raise ValueError(f"{file}: {key} is {value!r}, expected pixels or [height, width]")
    return sides[0] if sides[0] == sides[1] else tuple(sides)


def size_of_patch(key: str, value: Any, file: str = "config.json") -> int | None:
    """The side of square patches. ValueError naming the key for others."""
    size = size_of_image(key, value, file)
    if isinstance(size, tuple):
        raise ValueError(f"{file}: {key} is {value!r}, and patches here are square")
    return size
