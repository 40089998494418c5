"""VOC's boxes and class masks as sources."""

import numpy as np
import pytest
from clutter import clutter
from PIL import Image

from tests.data.object_sets import write_photograph
from vit_jax_xfer import data


def write_voc(root, names=("a", "b"), objects="", lists=()):
    for name in names:
        write_photograph(root / "JPEGImages" / f"{name}.png")
        (root / "Annotations").mkdir(exist_ok=True)
        text = f"<annotation>{objects}</annotation>"
        (root / "Annotations" / f"{name}.xml").write_text(text)
    for split, listed in dict(lists).items():
        file = root / "ImageSets" / "Main" / f"{split}.txt"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("\n".join(listed))
    return root


def entry(name, box=(1, 1, 10, 20), difficult=0):
    edges = "".join(
        f"<{e}>{v}</{e}>" for e, v in zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True)
    )
    return (
        f"<object><name>{name}</name><difficult>{difficult}</difficult><bndbox>{edges}</bndbox>"
        "</object>"
    )


def test_boxes(tmp_path):
    root = write_voc(
        tmp_path / "VOCdevkit" / "VOC2007",
        objects=entry("dog", (3, 5, 10, 20)) + entry("cat", difficult=1),
        lists={"train": ["b"], "val": ["a", "b"]},
    )
    source = data.open_source(f"voc:{root.parent}", "validation")
    assert len(source) == 2 and source.num_classes == 20
    objects = source[0]["objects"]
    np.testing.assert_array_equal(objects.boxes, [(2, 4, 10, 20), (0, 0, 10, 20)])
    assert [source.class_names[label] for label in objects.labels] == ["dog", "cat"]
    assert objects.hard.tolist() == [False, True] and source.without_outline == 4
    with pytest.raises(ValueError, match="the splits are: train, val"):
        data.open_source(f"voc:{root}", "test")


def test_capital_endings(tmp_path):
    write_voc(tmp_path, objects=entry("dog"))
    for file in (tmp_path / "JPEGImages" / "a.png", tmp_path / "Annotations" / "a.xml"):
        file.rename(file.with_suffix(file.suffix.upper()))
    source = data.open_source(f"voc:{tmp_path}")
    assert len(source) == 2 and source[0]["name"].endswith("a.PNG")


def test_classes_of_ones_own(tmp_path):
    write_voc(tmp_path, objects=entry("pea") + entry("bean"))
    clutter(tmp_path)
    source = data.open_source(f"voc:{tmp_path}")
    assert source.class_names == ("bean", "pea")
    with pytest.raises(
        ValueError, match="got 'validation', but .*without ImageSets/Main, is one li"
    ):
        data.open_source(f"voc:{tmp_path}", "validation")
    write_voc(tmp_path, objects=entry(""))
    with pytest.raises(ValueError, match=r"^spec: .*a\.xml: an object has no name"):
        data.open_source(f"voc:{tmp_path}")


def sized(width, height):
    return f"<size><width>{width}</width><height>{height}</height><depth>3</depth></size>"


@pytest.mark.parametrize(
    ("size", "box", "wrong"),
    [
        ((60, 40), (1, 1, 60, 40), None),
        ((0, 0), (1, 1, 60, 40), None),  # some tools write that
        ((40, 60), (1, 1, 60, 40), None),  # exchanged, as in some of VOC's
        ((40, 60), (1, 1, 40, 60), "it has 40×60 pixels, its boxes are for 60×40"),
        ((120, 80), (1, 1, 60, 40), "it has 40×60 pixels, its boxes are for 80×120"),
    ],
)
def test_boxes_for_an_image_of_another_size(tmp_path, size, box, wrong):
    write_voc(tmp_path, objects=sized(*size) + entry("dog", box))
    source = data.open_source(f"voc:{tmp_path}")
    if wrong is None:
        assert source[0]["objects"].boxes.tolist() == [[0, 0, 60, 40]]
        return
    with pytest.raises(ValueError, match=wrong):
        source[0]


def test_a_photograph_that_its_exif_turns(tmp_path):
    """Its boxes are for it as stored, or upright; the size tells which, where there is one."""
    for size, wrong in ((sized(60, 40), ""), (sized(40, 60), "boxes are for 60×40")):
        write_voc(tmp_path, objects=size + entry("dog"))
        turn(tmp_path / "JPEGImages" / "a.png")
        source = data.open_source(f"voc:{tmp_path}")
        if not wrong:
            assert source[0]["image"].shape == (40, 60, 3)
            continue
        with pytest.raises(ValueError, match=wrong):
            source[0]
    write_voc(tmp_path, objects=entry("dog"))
    turn(tmp_path / "JPEGImages" / "a.png")
    with pytest.raises(ValueError, match=r"^spec: .*a\.png: its EXIF orientation turns it"):
        data.open_source(f"voc:{tmp_path}")


def turn(file):
    """Writes an image anew, with an EXIF orientation of a quarter."""
    exif = Image.Exif()
    exif[0x0112] = 6
    with Image.open(file) as image:
        image.load()
    image.save(file, exif=exif)


def test_masks(tmp_path):
    ids = np.zeros((40, 60), np.uint8)
    ids[:4], ids[4:9] = 255, 20
    for name in "ab":
        write_photograph(tmp_path / "JPEGImages" / f"{name}.png")
        picture = Image.fromarray(ids, "P")
        picture.putpalette([i % 256 for i in range(768)])
        (tmp_path / "SegmentationClass").mkdir(exist_ok=True)
        picture.save(tmp_path / "SegmentationClass" / f"{name}.png")
    clutter(tmp_path)
    source = data.open_source(f"voc_masks:{tmp_path}")
    assert source.class_names[0] == "background" and source.num_classes == 21
    np.testing.assert_array_equal(source[1]["label_map"], ids)
