"""ONNX files: outputs as the network's for any number of images, and what can't be exported."""

import importlib.util
import json
import sys
import types

import jax
import numpy as np
import pytest

import vit_jax_xfer as vjx
from vit_jax_xfer.convert import main
from vit_jax_xfer.pretrained import onnx_export
from vit_jax_xfer.pretrained.description import from_description

MEAN = {"mean": (0.5,) * 3, "std": (0.25,) * 3}
NAMES = ("ant", "bee", "cow")


def drawn(name, **fields):
    """A small network with class names and variables that are no zeros."""
    model = vjx.create_model(
        name,
        image_size=16,
        num_classes=3,
        class_names=NAMES,
        preprocessing=vjx.Preprocessing(size=16, **MEAN),
        **fields,
    )
    rng = np.random.default_rng(0)
    shapes = jax.eval_shape(model.init_variables, jax.random.key(0))
    return model, jax.tree.map(lambda x: rng.uniform(0.1, 0.3, x.shape).astype(x.dtype), shapes)


@pytest.fixture(scope="module")
def vit():
    return drawn("vit_micro_patch8", depth=1, width=8, num_heads=2)


def test_a_vit_in_onnx_runtime(vit, tmp_path, capsys):
    pytest.importorskip("jax2onnx")
    runtime = pytest.importorskip("onnxruntime")
    model, variables = vit
    vjx.save(tmp_path / "model", model, variables)
    out = tmp_path / "model.onnx"
    assert main([str(tmp_path / "model"), str(out), "--to", "onnx"]) == 0
    said = capsys.readouterr().out
    assert "images any × 16 × 16 × 3 float32" in said and "its outputs in ONNX Runtime" in said
    session = runtime.InferenceSession(str(out))
    written = json.loads(session.get_modelmeta().custom_metadata_map["vit_jax_xfer"])
    assert from_description(written) == model
    for number in (1, 3):
        images = np.random.default_rng(number).standard_normal((number, 16, 16, 3), np.float32)
        (found,) = session.run(["output"], {"images": images})
        expected = model.apply(variables, images)
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)


def test_stacked_blocks_and_overlapping_patches_take_any_number_of_images(tmp_path):
    pytest.importorskip("jax2onnx")
    pytest.importorskip("onnxruntime")
    small = {"depth": 2, "width": 8, "num_heads": 2}
    model, variables = drawn("vit_micro_patch8", scan=True, patch_stride=4, **small)
    assert "blocks" in variables["params"]
    exported = vjx.export_onnx(tmp_path / "model.onnx", model, variables)
    assert exported.input_shape == ("any", 16, 16, 3) and exported.difference < 1e-5


def test_a_filter_vit_for_so_many_images_and_the_network_works_afterwards(tmp_path):
    pytest.importorskip("jax2onnx")
    pytest.importorskip("onnxruntime")
    model, variables = drawn("filter_vit_micro")
    exported = vjx.export_onnx(tmp_path / "filter.onnx", model, variables, batch_size=2)
    assert exported.input_shape == (2, 16, 16, 3) and exported.difference < 1e-5
    # The exporter's own primitives stood in what JAX had cached of its parts.
    assert jax.jit(model.apply)(variables, np.zeros((2, 16, 16, 3), np.float32)).shape == (2, 3)


def test_what_the_exporter_cannot_is_one_line(tmp_path):
    pytest.importorskip("jax2onnx")
    model, variables = drawn("filter_vit_micro")
    with pytest.raises(ValueError, match="^jax2onnx can't export .*; with a fixed batch_size"):
        vjx.export_onnx(tmp_path / "filter.onnx", model, variables)
    assert list(tmp_path.iterdir()) == []


def test_what_the_runtime_refuses_is_one_line():
    pytest.importorskip("onnxruntime")
    with pytest.raises(ValueError, match="^ONNX Runtime refuses what jax2onnx made: [^\n]*$"):
        onnx_export._difference(b"no graph", None, np.zeros((1, 2, 2, 3), np.float32))


def test_an_exporters_failure_is_one_line(vit, tmp_path, monkeypatch):
    def fail(*given, **named):
        raise RuntimeError("no plugin for sort\nmore\nlines")

    monkeypatch.setattr(onnx_export, "_exporter", lambda: fail)
    out = tmp_path / "model.onnx"
    with pytest.raises(ValueError, match="^jax2onnx can't export .*: no plugin for sort; with a"):
        vjx.export_onnx(out, *vit)
    with pytest.raises(ValueError, match="no plugin for sort$"):
        vjx.export_onnx(out, *vit, batch_size=1)
    assert list(tmp_path.iterdir()) == []


def test_outputs_that_differ_are_refused(monkeypatch):
    off = [0.0]
    images = np.arange(12, dtype=np.float32).reshape(2, 6)

    class Session:
        def __init__(self, *given, **named):
            pass

        def run(self, names, inputs):
            return [2 * inputs["images"] + off[0]]

    runtime = types.SimpleNamespace(InferenceSession=Session, SessionOptions=types.SimpleNamespace)
    monkeypatch.setitem(sys.modules, "onnxruntime", runtime)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
    assert onnx_export._difference(b"", lambda x: 2 * x, images) == 0
    for off[0] in (0.01, np.nan):  # what each session adds
        with pytest.raises(ValueError, match="off by .* of the largest, more than 0.0001; nothing"):
            onnx_export._difference(b"", lambda x: 2 * x, images)
    with pytest.raises(ValueError, match=r"gives \(2, 6\), and the network \(6,\)"):
        onnx_export._difference(b"", lambda x: x[0], images)


def test_a_missing_exporter_says_how_to_install_it(vit, tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"ONNX needs the package jax2onnx: pip install 'vit_jax"):
        vjx.export_onnx(tmp_path / "model.onnx", *vit)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["model.npz", "--to", "onnx"], "--to onnx: model.npz must end in .onnx"),
        (["model.onnx", "--names", "timm"], "--names: an ONNX file has no publisher's names"),
        (["model", "--batch-size", "2"], "--batch-size: is for ONNX files (--to onnx) alone"),
        (["model", "--image-size", "2"], "--image-size: is for ONNX files (--to onnx) alone"),
    ],
)
def test_flags_that_do_not_fit(arguments, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["source.pth", *arguments]) == 1
    assert message in capsys.readouterr().err


def test_what_is_no_classifier_is_refused(tmp_path):
    with pytest.raises(ValueError, match="model: one that predicts features isn't exported"):
        vjx.export_onnx(tmp_path / "lift.onnx", vjx.create_model("lift_patch8"), {})
    with pytest.raises(ValueError, match=r"path: .*lift.pb doesn't end in \.onnx"):
        vjx.export_onnx(tmp_path / "lift.pb", None, {})
