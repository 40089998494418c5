"""Class names travel: into the checkpoint, the model folder, result.json; what differs is told."""

import json
import pathlib
import shutil

import jax
import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import save_file

import vit_jax_xfer as vjx
from tests.pretrained.timm_names import state_dict
from tests.runs import half_way, tiny_config
from vit_jax_xfer.config import add_evaluation_set
from vit_jax_xfer.storage.checkpoints import Checkpoints
from vit_jax_xfer.suites.imagenet_labels import LANDMARKS, synsets
from vit_jax_xfer.tasks.build import build_task
from vit_jax_xfer.train.class_names import differing, name_classes
from vit_jax_xfer.train.inputs import open_inputs
from vit_jax_xfer.train.loop import run

NAMES = ("0", "1", "10", "2")  # as folders sort
PIPELINE = "normalize(0.5, 0.5)"


def make_images(root, names):
    for split in ("train", "test", "other"):
        for level, name in enumerate(names):
            (root / split / name).mkdir(parents=True)
            for i in range(4):
                Image.new("RGB", (4, 4), (60 * level, 10 * i, 90)).save(
                    root / split / name / f"{i}.png"
                )
    return f"folder:{root}"


def config_of(source, name="scratch", **fields):
    return tiny_config(
        name,
        data__source=source,
        data__per_class=0,
        data__pipeline=PIPELINE,
        **{"eval__split": "test", "eval__pipeline": PIPELINE, **fields},
    )


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """(source, work folder, what was said) of a run with two evaluation sets and an average."""
    folder = tmp_path_factory.mktemp("names")
    source = make_images(folder / "images", NAMES)
    (folder / "images" / "train" / "0" / "notes.txt").write_text("x")
    config = config_of(
        source, optim__ema=0.9, checkpoint__every=2, checkpoint__best_metric="other/ema_top1"
    )
    config.checkpoint.keep_last = 2
    add_evaluation_set(config, "usual")
    add_evaluation_set(config, "other", split="other")
    lines = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("vit_jax_xfer.train.loop.say", lines.append)
        result = run(config, folder / "run")
    return source, folder / "run", result, "\n".join(lines), config


def test_names_are_where_the_run_left_something(finished):
    _, folder, result, _, _ = finished
    assert result["class_names"] == list(NAMES)
    assert json.loads((folder / "result.json").read_text()) == result
    for name in ("model", "model_ema"):
        assert vjx.load_pretrained(folder / name)[0].class_names == NAMES
    assert Checkpoints(folder / "checkpoints").extra(3)["class_names"] == list(NAMES)


def test_every_set_has_its_figures(finished):
    _, folder, result, _, _ = finished
    kinds = [f"{which}{metric}" for which in ("", "ema_") for metric in ("loss", "top1")]
    assert set(result["metrics"]) == {f"{s}/{kind}" for s in ("usual", "other") for kind in kinds}
    best = Checkpoints(folder / "checkpoints", best_metric="other/ema_top1").best_step()
    assert best == 3


def test_the_run_said_what_it_has(finished):
    said = finished[3]
    assert "train: 16 images, 4 classes (0, 1, 10, 2), folder:" in said
    assert "  left out: 1 × file of a suffix that can't be read (.txt 1): 0/notes.txt" in said
    assert "eval usual: 16 images, 4 classes" in said and "eval other: 16 images" in said


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("0", "1", "2", "3"), "'10' only there, '3' only in the data"),
        (("0", "1", "10", "2", "3"), "it has 4 and the data 5, '3' only in the data"),
    ],
)
def test_other_classes_are_not_gone_on_with(finished, tmp_path, names, message):
    source, folder, _, _, config = finished
    copy = half_way(folder, tmp_path / "run", 2)
    images = source.removeprefix("folder:")
    aside = tmp_path / "aside"
    shutil.move(images, aside)  # the same path with other folders in it
    try:
        make_images(pathlib.Path(images), names)
        with pytest.raises(ValueError, match=f"data.source: its classes are not .*{message}"):
            run(config, copy)
    finally:
        shutil.rmtree(images)
        shutil.move(aside, images)


def test_a_checkpoint_without_names_goes_on(finished, tmp_path, monkeypatch):
    from vit_jax_xfer.train import class_names

    task = build_task(finished[4], (4, 4, 3), 4)
    name_classes(task, finished[4], NAMES)
    lines = []
    monkeypatch.setattr(class_names, "say", lines.append)
    class_names.check_same_classes(task, {"clock": {}})
    assert "no class names" in lines[0]
    class_names.check_same_classes(task, {"class_names": list(NAMES)})
    with pytest.raises(ValueError, match="number 2 is '2' there and '10' in the data"):
        class_names.check_same_classes(task, {"class_names": ["0", "1", "2", "10"]})


def test_a_start_from_other_classes_has_a_fresh_head(finished, tmp_path, monkeypatch):
    from vit_jax_xfer.train import class_names

    source, folder, _, _, _ = finished
    other = make_images(tmp_path / "images", ("ant", "bee", "cat", "dog"))
    lines = []
    monkeypatch.setattr(class_names, "say", lines.append)
    kept = {}
    for which in (source, other):
        config = config_of(which, init_from=str(folder / "model"))
        inputs = open_inputs(config)
        task = build_task(config, inputs.image_shape(), inputs.num_classes)
        name_classes(task, config, inputs.class_names)
        kept[which] = set(task.initial["params"])
        assert task.model.class_names == inputs.class_names
    assert kept[source] - kept[other] == {"head"}
    assert len(lines) == 1 and "init_from: its head is for other classes ('0'" in lines[0]


def test_a_start_from_a_publishers_folder_has_its_classes(tmp_path, monkeypatch):
    """Its head stays where config.json names the data's classes, and starts afresh for others."""
    from vit_jax_xfer.train import class_names

    labels = {"id2label": {str(i): name for i, name in enumerate(NAMES)}}
    arguments = {"embed_dim": 32, "depth": 1, "num_heads": 4, "img_size": 32, "num_classes": 4}
    more = {"architecture": "vit_tiny_patch16_224", "model_args": arguments}
    folder = tmp_path / "published"
    folder.mkdir()
    state = state_dict(**{"head.weight": (4, 32), "head.bias": (4,)})
    save_file(state, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps({**labels, **more}))
    monkeypatch.setattr(class_names, "say", lambda line: None)
    for names, kept in ((NAMES, True), (("ant", "bee", "cat", "dog"), False)):
        config = config_of(make_images(tmp_path / names[1], names), init_from=str(folder))
        config.model = {"name": "vit_tiny_patch16", "width": 32, "depth": 1, "num_heads": 4}
        task = build_task(config, (32, 32, 3), 4)
        name_classes(task, config, tuple(names))
        assert ("head" in task.initial["params"]) == kept


def test_teachers_of_other_classes_give_no_logits(finished, tmp_path):
    source, folder, _, _, _ = finished
    other = make_images(tmp_path / "images", ("0", "1", "2", "3"))
    for name, fields, field in (
        ("logit_distill", {"task__teacher": str(folder / "model")}, "task.teacher"),
        ("ensemble", {"task__members": (str(folder / "model"),) * 2}, "task.members: .*/model"),
    ):
        for which, fits in ((source, True), (other, False)):
            config = config_of(which, name, **fields)
            inputs = open_inputs(config)
            task = build_task(config, inputs.image_shape(), inputs.num_classes)
            if fits:
                name_classes(task, config, inputs.class_names)
                continue
            with pytest.raises(ValueError, match=f"{field}: its classes are not .*'10' only there"):
                name_classes(task, config, inputs.class_names)


@pytest.mark.parametrize("name", ["folder", "model.safetensors", "model.npz"])
def test_saving_and_loading(tmp_path, name):
    model = vjx.create_model("vit_micro_patch2", image_size=4, width=16, depth=1, num_classes=3)
    variables = jax.jit(model.init)(jax.random.key(0), np.zeros((1, 4, 4, 3), np.float32))
    vjx.save(tmp_path / "new" / name, model, variables, class_names=["ant", "bee", "cat"])
    loaded, found = vjx.load_pretrained(tmp_path / "new" / name)
    assert loaded.class_names == ("ant", "bee", "cat")
    assert loaded.clone(class_names=None) == model
    jax.tree.map(np.testing.assert_array_equal, found, jax.tree.map(np.asarray, variables))
    vjx.save(tmp_path / "new" / name, loaded, found)  # in its place, with the names it has
    assert vjx.load_pretrained(tmp_path / "new" / name)[0].class_names == ("ant", "bee", "cat")
    for names, message in ((["ant"], "got 1, and the model has 3"), ([1, 2, 3], "got 1, expected")):
        with pytest.raises(ValueError, match=f"class_names: {message}"):
            vjx.save(tmp_path / name, model, variables, class_names=names)
    with pytest.raises(ValueError, match=r"variables: params/head/bias is \(3,\), .* has \(4,\)"):
        vjx.save(tmp_path / name, model.clone(num_classes=4), variables)
    with pytest.raises(ValueError, match="params/blocks_1/.* is no such array, and the model has"):
        vjx.save(tmp_path / name, model.clone(depth=2), variables)
    for ending in (".pth", ".csv", ".NPZ"):
        with pytest.raises(ValueError, match=f"path: .* ends in {ending}"):
            vjx.save(tmp_path / f"model{ending}", model, variables)


def test_what_differs():
    assert differing(["a", "b"], ("a", "b")) == ""
    assert differing(["a", "b"], ["b", "a"]) == "number 0 is 'a' there and 'b' in the data"
    words = [LANDMARKS.get(i, f"thing {i}") for i in range(1000)]
    assert differing(words, synsets()) == "" and differing(words, words[::-1]).startswith("number")
    assert differing(["a"], ["a", "b"]) == "it has 1 and the data 2, 'b' only in the data"
