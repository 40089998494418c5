"""Arguments of other kinds than documented: taken where they say the same, else one line."""

import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import vit_jax_xfer as vjx
from vit_jax_xfer.arguments.given_arrays import given_array, host_array
from vit_jax_xfer.arguments.listed_values import listed, listed_numbers, plain

FIELDS = {"image_size": 16, "width": 16, "num_heads": 2, "depth": 2, "num_classes": 3}
IMAGES = np.zeros((1, 16, 16, 3), np.float32)
PREPARED = vjx.Preprocessing(mean=(0.5,) * 3, std=(0.5,) * 3, size=16)
BOXES = np.array([[0, 0, 4, 4], [1, 1, 5, 5]], np.float32)


@pytest.fixture(scope="module")
def network():
    model = vjx.create_model("vit_micro_patch8", **FIELDS)
    shapes = jax.eval_shape(model.init, jax.random.key(0), IMAGES)
    return model, jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), shapes)


@pytest.mark.parametrize(
    "value", [[0, 2], (0, 2), range(0, 3, 2), np.array([0, 2]), jnp.array([0, 2]), iter([0, 2])]
)
def test_a_list_in_any_form(value):
    found = listed_numbers("layers", value)
    assert found == (0, 2) and all(type(one) is int for one in found)


def test_one_number_is_a_list_of_it_and_text_is_none():
    assert (
        listed_numbers("layers", np.int64(-1)) == listed_numbers("layers", jnp.int32(-1)) == (-1,)
    )
    for value in ("01", None, {0, 1}, {0: 1}, 0.5):
        with pytest.raises(ValueError, match=r"^layers: got .*, expected a list$"):
            listed_numbers("layers", value)
    for value in (3, np.float32(3), jnp.float32(3)):
        with pytest.raises(ValueError, match=r"^names: got .*, expected a list$"):
            listed("names", value)
    assert plain(np.float64(0.5)) == 0.5 and plain("x") == "x"
    assert jax.jit(lambda x: plain(x) + 1)(1) == 2  # what is traced stays


def test_what_is_no_array_is_told_by_name():
    for value in ("cat.jpg", None, [[1], [1, 2]], object()):
        with pytest.raises(
            ValueError, match="^images: got .*expected an array of numbers; vjx.pre"
        ):
            given_array("images", value)
        with pytest.raises(ValueError, match="^cost: got .*, expected an array of numbers$"):
            host_array("cost", value, np.float64)
    with pytest.raises(ValueError, match="^maps: got 'x', expected"):
        host_array("maps", "x")


def test_fields_of_models_take_arrays(network):
    taken = {
        "image_size": np.array([16, 32]),
        "window_blocks": range(2),
        "window_size": jnp.int32(2),
    }
    model = vjx.create_model("vit_micro_patch8", **{**FIELDS, **taken}, drop_path=np.float32(0.5))
    assert (model.image_size, model.window_blocks, model.window_size) == ((16, 32), (0, 1), 2)
    assert type(model.drop_path) is float and hash(model)
    transfer = vjx.Transfer(layers=np.array([0, -1]), heads=jnp.array([1]), match_layers=range(2))
    assert transfer == vjx.Transfer(layers=(0, -1), heads=(1,), match_layers=(0, 1))
    assert hash(transfer) == hash(vjx.Transfer(layers=[0, -1], heads=1, match_layers=[0, 1]))


def test_layers_in_any_form_are_the_same_layers(network):
    def maps(layers):
        found = jax.eval_shape(lambda: vjx.extract(*network, IMAGES, attention=True, layers=layers))
        return found.attention.shape

    assert maps(jnp.array([1])) == maps(-1) == maps(iter([1])) == (1, 1, 2, 5, 5)
    forms = (np.array([0, 1]), range(2), [jnp.int32(0), 1])
    shapes = {
        jax.eval_shape(lambda one=one: vjx.dense.descriptors(*network, IMAGES, layer=one)).shape
        for one in forms
    }
    assert shapes == {(1, 2, 2, 32)}


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m, v: vjx.list_models(3), "pattern: got 3, expected text, such as 'vit_"),
        (lambda m, v: vjx.create_model(None), "name: got None, expected text"),
        (lambda m, v: vjx.load_pretrained(3), "source: got a int, expected a path, hf:"),
        (lambda m, v: vjx.load_pretrained(""), "source: got an empty text, expected a path"),
        (lambda m, v: vjx.load_pretrained({"x": IMAGES}, ["mae"]), r"family \['mae'\] is unknown"),
        (lambda m, v: vjx.load_pretrained({"x": IMAGES}, weights=3), "weights: got 3, expected te"),
        (lambda m, v: vjx.load_pretrained({"x": IMAGES}, seed=0.5), "seed: got 0.5, expected a wh"),
        (lambda m, v: vjx.save(None, m, v), "path: got None, expected a path"),
        (lambda m, v: vjx.save("", m, v), "path: got an empty text, expected a path"),
        (lambda m, v: vjx.save("x.npz", m, None), "variables: got a NoneType, expected {'params'"),
        (lambda m, v: vjx.save("x.npz", m, v["params"]), "variables: got a mapping without"),
        (lambda m, v: vjx.save("x.npz", m, v, "abc"), "class_names: got 'abc', expected a list"),
        (lambda m, v: vjx.save("x.npz", m, v, 3), "class_names: got 3, expected a list"),
        (
            lambda m, v: vjx.save("x.npz", m, v, {"a": 0}),
            "class_names: got {'a': 0}, expected a",
        ),
        (
            lambda m, v: vjx.save("x.npz", m, v, [None] * 3),
            "class_names: got None, expected str",
        ),
        (lambda m, v: vjx.extract("vit", v, IMAGES), "model: got 'vit', expected a network"),
        (lambda m, v: vjx.extract(m, None, IMAGES), "variables: got a NoneType, expected"),
        (lambda m, v: vjx.extract(m, v["params"], IMAGES), "variables: got a mapping without"),
        (lambda m, v: vjx.extract(m, v, "cat.jpg"), "images: got 'cat.jpg', expected an array"),
        (lambda m, v: vjx.extract(m, v, IMAGES, layers="0"), "layers: got '0', expected a list"),
        (lambda m, v: vjx.extract(m, v, IMAGES, layers=[True]), "layers: True is not a layer"),
        (lambda m, v: vjx.transfer_forward(m, v, None, v, IMAGES), "teacher: got a NoneType, expe"),
        (lambda m, v: vjx.transfer_forward(m, 3, m, v, IMAGES), "student_variables: got a int, ex"),
        (lambda m, v: vjx.transfer_forward(m, v, m, v, None), "images: got None, expected an arr"),
        (lambda m, v: vjx.Transfer(materialize="no"), "materialize: got 'no', expected True or"),
        (lambda m, v: vjx.dense.descriptors(m, v, IMAGES, layer="x"), "layer: got 'x', expected a"),
        (lambda m, v: vjx.dense.shrink_images(IMAGES, 1.5), "factor: got 1.5, expected a whole"),
        (lambda m, v: vjx.explain.attribute(m, v, None, "rollout"), "images: got None, expected"),
        (lambda m, v: vjx.explain.localise("x", IMAGES), "maps: got 'x', expected an array"),
        (lambda m, v: vjx.analysis.attention_entropy(None), "attention: got None, expected an ar"),
        (lambda m, v: vjx.detection.iou("x", BOXES), "a: got 'x', expected an array"),
        (
            lambda m, v: vjx.detection.anchors([(2, 2)], 4, [8], [1]),
            "strides: got 4, expected a li",
        ),
        (lambda m, v: vjx.detection.anchors([2], [4], [8], [1]), "grids: got 2, expected a list"),
        (lambda m, v: vjx.detection.anchors([(2, 2)], [4], ["8"], [1]), "sizes: got '8', expected"),
        (lambda m, v: vjx.detection.nms(BOXES, [1.0, 2.0], "x", 2), "threshold: got 'x', expected"),
        (lambda m, v: vjx.student_like("vit"), "teacher: got 'vit', expected a network"),
        (lambda m, v: vjx.student_like(m, parts=3), "parts: got 3, expected a list"),
        (lambda m, v: vjx.dense.lift(None, v, IMAGES, IMAGES), "model: got a NoneType, expected"),
        (lambda m, v: vjx.explain.attribute(m, v, IMAGES, ["edges"]), r"method: \['edges'\] is no"),
        (
            lambda m, v: vjx.dense.pck(*[IMAGES[0]] * 2, *[BOXES[:, :2]] * 2, 16, -0.1),
            "threshold: got -0.1, expected more than 0",
        ),
        (
            lambda m, v: vjx.explain.perturb(None, v, IMAGES, IMAGES[..., 0], [0, 4], target=0),
            "model: got a NoneType, expected a network",
        ),
        (
            lambda m, v: vjx.analysis.attention_distance(np.ones((1, 1, 1, 5, 5)) / 5, 4),
            "grid: got 4, expected a list",
        ),
        (lambda m, v: vjx.augment.mix(IMAGES, [0], "3", 0.5), "images: got 1, expected an even"),
        (lambda m, v: vjx.dense.tokencut(IMAGES[0], tau="x"), "tau: got 'x', expected a number"),
        (lambda m, v: vjx.augment.cutmix_box(4, 4, None, 1, 1), "lam: got None, expected a number"),
        (
            lambda m, v: vjx.detection.nms(BOXES, [1.0, 2.0], 0.5, 2, classes=[0]),
            r"classes: got \(1,\) for 2 boxes",
        ),
        (
            lambda m, v: vjx.detection.soft_nms(BOXES, [1.0, 2.0], 2, classes=[0, 0, 1]),
            r"classes: got \(3,\) for 2 boxes",
        ),
        (lambda m, v: vjx.detection.match([0.5], 0.3, 0.7), r"iou: expected \(…, G, N\), got \(1,"),
        (lambda m, v: vjx.detection.hungarian([[1.0]], [True, True]), r"valid: got \(2,\), expect"),
        (lambda m, v: vjx.detection.sample(None, [[1]], 1, 1), r"labels: expected \(N,\), got"),
    ],
)
def test_what_is_no_argument_is_one_line(network, call, message):
    with pytest.raises(ValueError, match=message) as raised:
        call(*network)
    assert "\n" not in str(raised.value)


def test_paths_and_names_in_any_form(network, tmp_path):
    model, variables = network
    for path in (str(tmp_path / "a.npz"), tmp_path / "b.npz", bytes(tmp_path / "c.npz")):
        vjx.save(path, model, variables, class_names=np.array(["x", "y", "z"]))
        again, _ = vjx.load_pretrained(path, class_names=iter(["p", "q", "r"]))
        assert again.class_names == ("p", "q", "r")
    again, _ = vjx.load_pretrained(pathlib.Path(tmp_path / "a.npz"))
    assert again.class_names == ("x", "y", "z") and all(type(x) is str for x in again.class_names)


def test_static_arguments_may_be_lists_and_numbers_of_arrays():
    levels = [np.zeros((8, 8, 2), np.float32), np.zeros((4, 4, 2), np.float32)]
    found = [
        vjx.detection.roi_align_levels(levels, BOXES, size, strides).shape
        for size, strides in ((2, (4, 8)), (np.int64(2), [4, 8]), (jnp.int32(2), np.array([4, 8])))
    ]
    assert found == [(2, 2, 2, 2)] * 3
    labels = [vjx.detection.match([[0.2, 0.8]], low, high)[1] for low, high in ((0.3, 0.7), (
        np.float32(0.3), jnp.float32(0.7)))]  # fmt: skip
    np.testing.assert_array_equal(*labels)


def test_photographs_in_any_form():
    photo = np.arange(20 * 20 * 3, dtype=np.uint8).reshape(20, 20, 3)
    wanted = vjx.preprocess(PREPARED, [photo, photo])
    forms = ((photo, photo), np.stack([photo] * 2), jnp.stack([photo] * 2), iter([photo, photo]))
    for form in forms:
        np.testing.assert_array_equal(vjx.preprocess(PREPARED, form), wanted)
    for size in (16, np.int64(16), np.array([16, 16]), jnp.array([16, 16])):
        np.testing.assert_array_equal(vjx.preprocess(PREPARED, photo, size=size), wanted[:1])
    for size in ((8, 8), np.array([8, 8])):
        cut = vjx.augment.crop_resize(jnp.asarray(photo), 0, 0, 8, 8, size)
        np.testing.assert_array_equal(cut, photo[:8, :8])
    for fill in ((1, 2, 3), [1, 2, 3], np.array([1, 2, 3])):
        turned = vjx.augment.rand_augment_op(jnp.asarray(photo), "Rotate", np.float32(9), fill=fill)
        assert turned[0, 0].tolist() == [1, 2, 3]


def test_figures_are_jax_arrays():
    maps, masks = np.eye(4)[None], np.eye(4, dtype=int)[None]
    found = vjx.explain.localise(maps, masks)
    assert all(isinstance(x, jax.Array | float) for x in found)
    assert isinstance(vjx.explain.energy(maps, [[0, 0, 2, 2]]), jax.Array)
    assert isinstance(vjx.analysis.match_heads(np.eye(2)), jax.Array)
