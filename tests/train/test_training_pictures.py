"""Pictures while training: what is drawn of whom, that the run stays the same, what is refused."""

import jax
import numpy as np
import pytest
from PIL import Image

import vit_jax_xfer as vjx
from tests.runs import command, finish, one_device_mesh, pair_of, rows, tiny_config
from vit_jax_xfer import data
from vit_jax_xfer.analysis import head_divergence, match_heads
from vit_jax_xfer.explain import attribution_sheets
from vit_jax_xfer.train import loop
from vit_jax_xfer.train.inputs import open_inputs
from vit_jax_xfer.train.loop import run
from vit_jax_xfer.train.training_pictures import fixed_images

ON = {"explain__every": 2, "explain__images": 4}


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    sizes = {"image_size": 8, "width": 16, "depth": 2, "num_heads": 2, "num_classes": 10}
    model = vjx.create_model("vit_micro_patch2", **sizes)
    shapes = jax.eval_shape(model.init_variables, jax.random.key(0))
    rng = np.random.default_rng(0)
    variables = jax.tree.map(lambda x: (0.5 * rng.standard_normal(x.shape)).astype(x.dtype), shapes)
    path = tmp_path_factory.mktemp("teacher") / "teacher.safetensors"
    vjx.save(path, model, variables)
    return str(path)


def drawn(patch):
    """Of each sheet of a run, the rows that it was made of: (name, `Explained`)."""
    found, add = [], attribution_sheets.AttributionSheet.add

    def noted(rows, name, picture, explained):
        found.append((name, explained))
        add(rows, name, picture, explained)

    patch.setattr(attribution_sheets.AttributionSheet, "add", noted)
    return found


def test_a_student_is_drawn_beside_its_teacher_and_measured(teacher, tmp_path, monkeypatch):
    config = tiny_config(
        "attention_distill", task__teacher=teacher, steps=2, log__tensorboard=True, **ON
    )
    found = drawn(monkeypatch)
    result = run(config, tmp_path)
    assert sorted(x.name for x in (tmp_path / "explain").iterdir()) == ["0.png", "2.png"]
    assert [name for name, _ in found[:4]] == [name for name, _ in found[4:]]
    model, variables = vjx.load_pretrained(tmp_path / "model")
    other, weights = vjx.load_pretrained(teacher)
    images = fixed_images(4, next(iter(open_inputs(config).eval_sets.values()))).prepared
    # The student's head reads the mean over patches, and so the teacher is read there too.
    read = other.clone(num_classes=0, pool=model.pool, pool_norm=False)
    assert (model.pool, other.pool) == ("avg", "cls")
    seen = [
        vjx.explain.attribute(*one, images, "raw_attention").map
        for one in ((model, variables), (read, weights))
    ]
    for i, (_, explained) in enumerate(found[4:]):
        assert [x.asked.title for x in explained.maps] == [
            "raw_attention",
            "teacher's raw_attention",
        ]
        for one, expected in zip(explained.maps, seen, strict=True):
            np.testing.assert_allclose(one.values, expected[i], atol=1e-5)
    own, theirs = (
        jax.jit(lambda v, one=one: vjx.extract(one, v, images, attention=True).attention)(its)
        for one, its in ((model, variables), (other, weights))
    )
    costs = [np.asarray(head_divergence(*pair)) for pair in zip(own, theirs, strict=True)]
    matched = [cost[np.arange(2), match_heads(cost)].mean() for cost in costs]
    evaluations = [v for step, kind, v in rows(tmp_path) if kind == "eval" and "explain_cka" in v]
    assert len(evaluations) == 2
    last = evaluations[-1]
    assert last["explain_jsd"] == pytest.approx(np.mean(matched), abs=1e-5)
    same = np.mean([np.diag(cost).mean() for cost in costs])
    assert last["explain_jsd_same_head"] == pytest.approx(same, abs=1e-5)
    assert last["explain_jsd"] <= last["explain_jsd_same_head"] + 1e-6
    assert -1 < last["explain_cka"] <= 1.0001
    assert not any(name.startswith("explain") for name in result["metrics"])
    (events,) = (tmp_path / "tensorboard").iterdir()
    bytes_ = events.read_bytes()
    for step in (0, 2):
        assert (tmp_path / f"explain/{step}.png").read_bytes() in bytes_


def test_a_copying_student_has_its_teachers_attention(teacher, tmp_path, monkeypatch):
    found = drawn(monkeypatch)
    run(tiny_config("attention_copy", task__teacher=teacher, steps=2, **ON), tmp_path)
    for _, explained in found:
        own, theirs = explained.maps
        np.testing.assert_allclose(own.values, theirs.values, atol=1e-5)
    last = [v for _, kind, v in rows(tmp_path) if "explain_jsd" in v][-1]
    assert abs(last["explain_jsd_same_head"]) < 1e-5


def test_two_processes_draw_what_one_does(teacher, tmp_path):
    fields = {"task__teacher": teacher, "steps": 2, "mesh__data": 2, "mesh__fsdp": 2, **ON}
    fields["mesh__fsdp_min_elements"] = 64  # so that weights are split among the processes
    arguments = command("attention_distill", tmp_path / "two", **fields)

    def of(address, index):
        return [*arguments, f"--coordinator={address}", "--processes=2", f"--process={index}"]

    with pair_of(of) as pair:
        ended = [finish(process, timeout=400) for process in pair]
    assert [one.code for one in ended] == [0, 0], [one.err for one in ended]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "make_mesh", one_device_mesh)
        run(tiny_config("attention_distill", **fields), tmp_path / "one")
    two, one = (
        [v for _, kind, v in rows(tmp_path / x) if "explain_jsd" in v] for x in ("two", "one")
    )
    assert len(one) == 2
    for found, expected in zip(two, one, strict=True):
        for name in ("explain_jsd", "explain_jsd_same_head", "explain_cka"):
            assert found[name] == pytest.approx(expected[name], abs=1e-3)
    for step in (0, 2):
        pictures = [
            np.asarray(Image.open(tmp_path / f"{x}/explain/{step}.png")) for x in ("two", "one")
        ]
        assert np.abs(pictures[0].astype(int) - pictures[1]).mean() < 1


def test_a_run_learns_the_same_with_pictures(teacher, tmp_path):
    found = []
    for fields in ({}, {"explain__every": 1, "explain__images": (0, 3)}):
        folder = tmp_path / str(len(found))
        run(tiny_config("scratch", steps=2, **fields), folder)
        found.append(vjx.load_pretrained(folder / "model")[1])
    jax.tree.map(np.testing.assert_array_equal, *found)
    assert not (tmp_path / "0" / "explain").exists()
    sheets = [Image.open(tmp_path / f"1/explain/{step}.png").size for step in range(3)]
    assert len(set(sheets)) == 1


def test_images_are_the_sets_or_files(tmp_path):
    config = tiny_config("scratch")
    (chosen,) = open_inputs(config).eval_sets.values()
    source, prepare = chosen.source, data.parse_pipeline(chosen.pipeline)

    def expected(i):
        return prepare(source[i], np.random.default_rng(0))["image"]

    some = fixed_images(4, chosen)  # of 80
    np.testing.assert_array_equal(some.prepared, [expected(i) for i in (10, 30, 50, 70)])
    assert some.names[0] == f"image 10, {source.class_names[source[10]['label']]}"
    one = fixed_images((7,), chosen)
    np.testing.assert_array_equal(one.prepared[0], expected(7))
    Image.fromarray(np.full((8, 8, 3), 200, np.uint8)).save(tmp_path / "x.png")
    given = fixed_images(str(tmp_path), chosen)
    assert given.names == ("x.png",) and given.prepared.shape[1:] == expected(0).shape
    Image.fromarray(np.full((9, 9, 3), 200, np.uint8)).save(tmp_path / "y.png")
    with pytest.raises(ValueError, match=r"explain.images: y.png: eval.pipeline makes \(9, 9, 3\)"):
        fixed_images(str(tmp_path), chosen)


@pytest.mark.parametrize(
    ("name", "fields", "message"),
    [
        ("scratch", {"explain__every": -1}, "explain.every: got -1"),
        ("scratch", {"explain__images": 0}, "explain.images: got 0, expected 1 to the set's 80"),
        ("scratch", {"explain__images": (80,)}, "explain.images: 80 is none of the set's 0 to 79"),
        ("scratch", {"explain__images": "/no/x.png"}, "explain.images: /no/x.png: no such file"),
        ("scratch", {"explain__methods": "rolout"}, "explain.methods: method: 'rolout' is none"),
        ("scratch", {"explain__methods": ("edges:x=1",)}, "explain.methods: x: edges has"),
        ("masked_pretraining", {"explain__methods": "gradcam"}, "explain.methods: gradcam: "),
        ("lift", {}, "explain.every: a network that doubles features attends to nothing"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_written(
    name, fields, message, teacher, tmp_path
):
    if name == "lift":
        fields = {"task__backbone": teacher, **fields}
    with pytest.raises(ValueError, match=message):
        run(tiny_config(name, **{**ON, **fields}), tmp_path / "run")
    assert not (tmp_path / "run").exists()
