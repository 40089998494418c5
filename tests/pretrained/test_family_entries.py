"""A family is complete in its one file, and a new one is entered in one place."""

import importlib
import pathlib
import re

import numpy as np
import pytest

from tests.outputs import assert_same, renamed
from vit_jax_xfer.models.preprocessing import CLIP, Preprocessing
from vit_jax_xfer.models.vit import VisionTransformer
from vit_jax_xfer.pretrained import FAMILIES, families, load_pretrained, to_publisher_names
from vit_jax_xfer.pretrained.families import FAMILIES as BY_NAME
from vit_jax_xfer.pretrained.family_entry import Family, Naming
from vit_jax_xfer.pretrained.file_to_model import load_on_host
from vit_jax_xfer.pretrained.publish import NAMES
from vit_jax_xfer.pretrained.rename import Dialect, in_blocks

ROOT = pathlib.Path(__file__).parents[2]


def in_files():
    """{file: the families that it declares} of every file of families/."""
    found = {}
    for path in pathlib.Path(families.__file__).parent.glob("*_weights.py"):
        module = importlib.import_module(f"{families.__name__}.{path.stem}")
        found[path.stem] = [x for x in vars(module).values() if isinstance(x, Family)]
    return found


def test_every_file_is_in_the_list_and_nothing_else_is():
    declared = in_files()
    assert all(declared.values()), declared
    names = [family.name for family in sum(declared.values(), [])]
    assert sorted(names) == sorted(BY_NAME) == list(FAMILIES)


@pytest.mark.parametrize("name", BY_NAME)
def test_an_entry_is_complete(name):
    family = BY_NAME[name]
    assert family.name == name
    assert re.search(r"\(\d{4}\.\d{5}\)", family.source), "source: no paper"
    assert isinstance(family.preprocessing, Preprocessing)
    assert "publisher" in family.names and set(family.names) <= set(NAMES)
    assert all(dialect.signature for dialect in family.dialects), "names: none to tell it by"
    assert family.other or family.fits is not None
    known = VisionTransformer.__dataclass_fields__
    assert set(family.needs) | set(family.defaults) <= set(known)
    docs = " ".join(path.read_text() for path in (ROOT / "docs").glob("*.md"))
    for title in re.findall(r"([A-Z][\w -]*?) \(\d{4}\.", family.source):
        assert title in docs, f"{title} is in no page of docs/"


MADE_UP_NAMES = Dialect(
    name="made up",
    signature=("layer_{i}.before.weight",),
    pairs=(
        ("start", "cls_token"),
        ("where", "pos_embed"),
        ("patches.*", "patch_embed.proj.*"),
        ("end.*", "norm.*"),
        ("classes.*", "head.*"),
        *in_blocks(
            "layer_{i}",
            (
                ("before", "norm1"),
                ("between", "norm2"),
                ("heads", "attn.qkv"),
                ("mix", "attn.proj"),
                ("wide", "mlp.fc1"),
                ("narrow", "mlp.fc2"),
            ),
        ),
    ),
    fields={"position_resize": "bilinear_corners"},
)
MADE_UP = Family(
    name="made_up",
    source="A test (0000.00000)",
    names={"publisher": Naming(MADE_UP_NAMES)},
    fits=lambda evidence: evidence.dialect == "made up",
    preprocessing=Preprocessing(*CLIP),
    defaults={"norm_eps": 1e-3},
)


@pytest.fixture
def made_up():
    """One more family in the list, before the others."""
    before = dict(BY_NAME)
    BY_NAME.clear()
    BY_NAME.update({"made_up": MADE_UP, **before})
    yield MADE_UP
    BY_NAME.clear()
    BY_NAME.update(before)


def test_a_new_family_is_one_entry(made_up, golden):
    plain = golden("timm/supervised_cls")
    theirs = [(re.escape(ours).replace(r"\*", "(.*)"), name) for name, ours in MADE_UP_NAMES.pairs]
    pairs = [
        (
            "^" + ours.replace(r"\{i\}", r"(\d+)") + "$",
            name.replace("{i}", r"\1").replace("*", r"\2" if "{i}" in name else r"\1"),
        )
        for ours, name in theirs
    ]
    state = renamed(plain, *pairs)
    assert "layer_2.narrow.bias" in state and not set(state) & set(plain)
    model, variables, found = load_on_host(state, num_heads=3)
    assert found.family is made_up and found.dialect == "made up"
    assert (model.norm_eps, model.position_resize) == (1e-3, "bilinear_corners")
    assert model.preprocessing == Preprocessing(*CLIP, size=32)
    assert_same(variables, load_on_host(plain, num_heads=3)[1])
    assert_same(to_publisher_names(variables, "made_up"), state)
    with pytest.raises(ValueError, match="family 'dyno' is unknown; .*made_up"):
        load_pretrained(state, "dyno")
    del state["layer_1.narrow.bias"]
    with pytest.raises(ValueError, match=r"blocks_1/mlp/fc2/bias \(from layer_1.narrow.bias\)$"):
        load_pretrained(state, num_heads=3)


def test_names_that_a_family_does_not_have(golden):
    _, variables = load_pretrained(golden("lift/c48_p8"), patch_size=8)
    with pytest.raises(
        ValueError, match="names: .*'lift' in the names of 'timm'; choose one of publisher$"
    ):
        to_publisher_names(variables, "lift", "timm")
    with pytest.raises(ValueError, match="of 'flip' in the names of 'huggingface'"):
        to_publisher_names({"params": {"norm": {"scale": np.ones(3)}}}, "flip", "huggingface")


def test_a_decoder_is_left_out_only_when_the_caller_says_so(golden):
    """Of another family than MAE a file with a decoder is not loaded in part, in silence."""
    state = golden("mae_pretrain/normpix_0")
    with pytest.raises(ValueError, match="not used: .*decoder_embed.weight"):
        load_pretrained(state, "dino", num_heads=3)
    model, _ = load_pretrained(state, "dino", num_heads=3, decoder=False)
    assert isinstance(model, VisionTransformer)
    assert load_pretrained(golden("timm/deit_distilled"), num_heads=3, decoder=False)
