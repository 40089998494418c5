"""Readers of data sets with boxes: VOC's folders, COCO's JSON, and what is wrong with them."""

import json

import numpy as np
import pytest
from clutter import clutter
from PIL import Image

from vit_jax_xfer.evaluate.objects.box_layouts import open_boxes

OBJECT = """<object><name>dog</name><truncated>{0}</truncated><difficult>{1}</difficult>
<bndbox><xmin>{2}</xmin><ymin>{3}</ymin><xmax>{4}</xmax><ymax>{5}</ymax></bndbox>
<part><name>head</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>2</xmax><ymax>2</ymax></bndbox>
</part></object>"""


def write_voc(root, objects):
    """objects: {name: [(truncated, difficult, xmin, ymin, xmax, ymax), …]}"""
    for folder in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (root / folder).mkdir(parents=True)
    for name, ones in objects.items():
        Image.new("RGB", (40, 30)).save(root / "JPEGImages" / f"{name}.jpg")
        text = "".join(OBJECT.format(*one) for one in ones)
        (root / "Annotations" / f"{name}.xml").write_text(f"<annotation>{text}</annotation>")
    return root


@pytest.fixture
def voc(tmp_path):
    objects = {
        "b": [(0, 0, 11, 6, 20, 16), (1, 0, 1, 1, 40, 30), (0, 1, 2.5, 3, 4, 5)],
        "a": [],
        "c": [(0, 0, 1, 1, 40, 30)],
    }
    root = write_voc(tmp_path / "VOCdevkit/VOC2007", objects)
    (root / "ImageSets/Main/val.txt").write_text("c\nb\n\n")
    (root / "ImageSets/Main/dog_val.txt").write_text("c  1\nb -1\n")
    return root


def test_voc(voc):
    clutter(voc)
    opened = open_boxes(f"voc:{voc}")
    assert [image.file.name for image in opened.images] == ["a.jpg", "b.jpg", "c.jpg"]
    assert opened.images[0].boxes.shape == (0, 4)
    # Counted from 1, the last pixel named; parts of an object are none.
    expected = [[5, 10, 16, 20], [0, 0, 30, 40], [2, 1.5, 5, 4]]
    np.testing.assert_array_equal(opened.images[1].boxes, expected)
    assert opened.tau == 0.2
    assert [image.dropped for image in opened.images] == [0, 0, 0]


def test_voc_without_hard_objects(voc):
    opened = open_boxes(f"voc:{voc}", hard=False)
    np.testing.assert_array_equal(opened.images[1].boxes, [[5, 10, 16, 20]])
    assert [image.dropped for image in opened.images] == [0, 2, 0]
    assert opened.dropped == "hard objects"


def test_voc_splits_and_devkits(voc):
    for path in (voc, voc.parent, voc.parent.parent):
        images = open_boxes(f"voc:{path}:val").images
        assert [image.file.name for image in images] == ["c.jpg", "b.jpg"]
    with pytest.raises(ValueError, match="test.txt: no such file; the splits are: dog_val, val"):
        open_boxes(f"voc:{voc}:test")
    with pytest.raises(ValueError, match="dog_val.txt: is a list of one class"):
        open_boxes(f"voc:{voc}:dog_val")
    write_voc(voc.parent / "VOC2012", {"x": []})
    with pytest.raises(ValueError, match="several data sets; name one of .*VOC2007, .*VOC2012"):
        open_boxes(f"voc:{voc.parent}:val")


def test_rubbish_in_voc_is_named(voc):
    annotation = voc / "Annotations/b.xml"
    good = annotation.read_text()
    for text, message in (
        ("<annotation><object>", "b.xml: is not XML"),
        (good.replace("<ymax>16</ymax>", ""), "b.xml: an object's bndbox has .*ymax None"),
        (
            good.replace("<ymax>16</ymax>", "<ymax>x</ymax>"),
            "b.xml: .*ymax x, .*numbers",
        ),
        # Entities of entities stand for any number of bytes; DTDs name files and addresses.
        ("<!DOCTYPE a [<!ENTITY b 'c'>]>" + good, "b.xml: is not XML: it has a DOCTYPE"),
        (good.encode("utf-16").decode("latin-1"), "b.xml: is not XML: it .*no UTF-8"),
        (good.replace("<ymax>16</ymax>", "<ymax>nan</ymax>"), r"b.xml: a box from \(10, 5\)"),
        (good.replace("<ymax>16</ymax>", "<ymax>3</ymax>"), r"to \(20, 3\) ends before it starts"),
    ):
        annotation.write_text(text)
        with pytest.raises(ValueError, match=message):
            open_boxes(f"voc:{voc}")
    annotation.write_text(good)
    (voc / "ImageSets/Main/val.txt").write_text("c\n../Annotations/b\n")
    with pytest.raises(ValueError, match="val.txt: '../Annotations/b' is no name of a file inside"):
        open_boxes(f"voc:{voc}:val")
    (voc / "ImageSets/Main/val.txt").write_text("c\n")
    (voc / "JPEGImages/c.jpg").write_bytes(b"\xff\xd8 half")
    with pytest.raises(ValueError, match="1 broken image file.*c.jpg"):
        open_boxes(f"voc:{voc}")
    (voc / "JPEGImages/c.jpg").unlink()
    with pytest.raises(ValueError, match="c.jpg: .*Annotations names it, but there is no such"):
        open_boxes(f"voc:{voc}")
    (voc / "Annotations/c.xml").unlink()
    with pytest.raises(ValueError, match="c.xml: no such file"):
        open_boxes(f"voc:{voc}:val")


@pytest.fixture
def coco(tmp_path):
    (tmp_path / "images").mkdir()
    for name in ("1.png", "2.png", "3.png"):
        Image.new("RGB", (20, 10)).save(tmp_path / "images" / name)
    content = {
        "images": [{"id": i, "file_name": f"{i}.png"} for i in (2, 1, 3)],
        "annotations": [
            {"image_id": 1, "bbox": [3, 2, 10, 5], "iscrowd": 0},
            {"image_id": 1, "bbox": [0, 0, 20, 10], "iscrowd": 1},
            {"image_id": 3, "bbox": [1.5, 0, 0, 4.5]},
        ],
    }
    return tmp_path, content


def opened_coco(coco, names=""):
    folder, content = coco
    (folder / "i.json").write_text(json.dumps(content))
    return open_boxes(f"coco:{folder}/i.json:{folder}/images{names}")


def test_coco(coco):
    opened = opened_coco(coco)
    assert [image.file.name for image in opened.images] == ["2.png", "1.png", "3.png"]
    boxes = [image.boxes.tolist() for image in opened.images]
    assert boxes == [[], [[2, 3, 7, 13]], [[0, 1.5, 4.5, 1.5]]]
    assert [image.dropped for image in opened.images] == [0, 1, 0]
    assert opened.dropped == "crowds" and opened.tau == 0.3
    folder = coco[0]
    (folder / "some.txt").write_text("train2014/3.png\n2.png\n")
    images = opened_coco(coco, f":{folder}/some.txt").images
    assert [image.file.name for image in images] == ["2.png", "3.png"]
    (folder / "some.txt").write_text("4.png\n")
    with pytest.raises(ValueError, match="some.txt: 4.png: not in .*i.json"):
        opened_coco(coco, f":{folder}/some.txt")


def test_files_of_one_name_in_a_list(coco):
    folder, content = coco
    (folder / "images/more").mkdir()
    Image.new("RGB", (20, 10)).save(folder / "images/more/3.png")
    content["images"].append({"id": 4, "file_name": "more/3.png"})
    for line, ids in (("more/3.png", [4]), ("3.png", [3])):  # as they are called in the JSON
        (folder / "some.txt").write_text(f"{line}\n2.png\n")
        images = opened_coco(coco, f":{folder}/some.txt").images
        assert [image.number for image in images] == [2, *ids]
    (folder / "some.txt").write_text("train/3.png\n")
    with pytest.raises(ValueError, match="some.txt: train/3.png: may be any of 2 images of .*json"):
        opened_coco(coco, f":{folder}/some.txt")


def test_boxes_that_are_on_no_image(coco):
    folder, content = coco
    for box in ([20, 0, 5, 5], [0, -4, 5, 4], [-9, 2, 5, 5]):
        listed = [*content["annotations"], {"image_id": 2, "bbox": box}]
        with pytest.raises(ValueError, match=r"2.png: its box from .* lies outside of it"):
            opened_coco((folder, {**content, "annotations": listed}))
    shares = [{"image_id": i, "bbox": [0.1 * i, 0.2, 0.5, 0.6]} for i in (1, 2, 3)]
    with pytest.raises(ValueError, match="i.json: all boxes end within .* pixels, not in shares"):
        opened_coco((folder, {**content, "annotations": shares}))


def test_boxes_for_images_of_another_size(coco, voc):
    """As where images were shrunk and their annotations weren't: figures would mean nothing."""
    folder, content = coco
    first, *others = content["images"]
    for size, fits in (((20, 10), True), ((0, 0), True), ((40, 20), False), ((10, 20), True)):
        one = {**first, "width": size[0], "height": size[1]}
        changed = {**content, "images": [one, *others]}
        if fits:  # (10, 20): sides exchanged, as in some of VOC's annotations
            assert opened_coco((folder, changed)).images[0].number == 2
            continue
        with pytest.raises(ValueError, match="2.png: is 20×10 and its boxes are for 40×20; take"):
            opened_coco((folder, changed))
    far = [*content["annotations"], {"image_id": 2, "bbox": [0, 0, 22, 5]}]
    with pytest.raises(ValueError, match=r"2.png: is 20×10 and its boxes reach \(22, 5\)"):
        opened_coco((folder, {**content, "annotations": far}))
    annotation = voc / "Annotations/b.xml"
    size = "<size><width>400</width><height>300</height></size>"
    annotation.write_text(annotation.read_text().replace("<annotation>", f"<annotation>{size}"))
    with pytest.raises(ValueError, match="b.jpg: is 40×30 and its boxes are for 400×300"):
        open_boxes(f"voc:{voc}")


def test_a_path_in_coco_leads_to_no_other_folder(coco):
    folder, content = coco
    Image.new("RGB", (20, 10)).save(folder / "4.png")  # beside images/
    for name in ("../4.png", str(folder / "4.png")):
        more = [*content["images"], {"id": 4, "file_name": name}]
        with pytest.raises(ValueError, match="images/4.png: .*there is no such"):
            opened_coco((folder, {**content, "images": more}))


def test_rubbish_in_coco_is_named(coco):
    folder, content = coco
    first = content["annotations"][0]
    for change, message in (
        ({"bbox": [1, 2, 3]}, r"i.json: the annotation of image 1 has bbox \[1, 2, 3\]"),
        ({"bbox": [1, 2, -3, 4]}, "i.json: a box from .* ends before it starts"),
        ({"bbox": None}, "i.json: the annotation of image 1 has bbox None"),
        ({"image_id": 7}, "i.json: an annotation is of image 7, which is not listed"),
        ({"image_id": None}, "i.json: an entry has no 'image_id'"),
    ):
        changed = {**content, "annotations": [{**first, **change}]}
        with pytest.raises(ValueError, match=message):
            opened_coco((folder, changed))
    with pytest.raises(ValueError, match="i.json: two images have one id"):
        opened_coco((folder, {**content, "images": content["images"] * 2}))
    with pytest.raises(ValueError, match="i.json: has no list 'annotations'"):
        opened_coco((folder, {"images": []}))
    with pytest.raises(ValueError, match="i.json: lists no images"):
        opened_coco((folder, {"images": [], "annotations": []}))
    more = [*content["images"], {"id": 9, "file_name": "9.png"}]
    with pytest.raises(ValueError, match="9.png: .*i.json names it"):
        opened_coco((folder, {**content, "images": more}))
    with pytest.raises(ValueError, match="--no-hard: COCO marks no objects"):
        open_boxes(f"coco:{folder}/i.json:{folder}/images", hard=False)
    (folder / "i.json").write_text("[" * 100_000)
    with pytest.raises(ValueError, match="i.json: is not JSON: .*too deep"):
        open_boxes(f"coco:{folder}/i.json:{folder}/images")
    (folder / "i.json").write_text("{")
    with pytest.raises(ValueError, match="i.json: is not JSON"):
        open_boxes(f"coco:{folder}/i.json:{folder}/images")


@pytest.mark.parametrize("spec", ["", "voc", "voc:", "coco:a.json", "pascal:x", "coco:a:b"])
def test_other_layouts_are_refused(spec):
    with pytest.raises(ValueError, match="data: got .* expected voc:PATH, voc:PATH:SPLIT, coco:"):
        open_boxes(spec)


def test_the_same_boxes_in_both_layouts(shared):
    folder = shared / "data/voc2012_boxes_100"
    voc = open_boxes(f"voc:{folder}").images
    coco = open_boxes(f"coco:{folder}/instances_coco_format.json:{folder}/JPEGImages").images
    assert len(voc) == len(coco) == 100
    assert sum(len(image.boxes) for image in voc) == 273
    by_file = {image.file.name: image.boxes for image in coco}
    for image in voc:
        other = by_file[image.file.name]
        # That JSON was made without taking the 1 off.
        np.testing.assert_allclose(
            np.sort(image.boxes, 0), np.sort(other, 0), atol=1.01, err_msg=str(image.file)
        )
