"""iNaturalist's sets, laid out as published: labels, names, what is missing or refused."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from vit_jax_xfer.data import open_source
from vit_jax_xfer.data.sources import inaturalist
from vit_jax_xfer.data.sources.inaturalist import PublishedSet, open_inaturalist

# Category → (super-category, images of train, of val): sorted as text, folders are 0, 1, 10, 2.
CATEGORIES = {0: ("Plantae", 2, 1), 1: ("Aves", 3, 1), 2: ("Aves", 1, 1), 10: ("Fungi", 2, 1)}


def write_set(root, year, with_images=True):
    """A tree of a year's set; returns {split: [(file, category)]} in the lists' order."""
    rng, made = np.random.default_rng(0), {}
    categories = [
        {"id": n, "name": str(n), "supercategory": kind} for n, (kind, *_) in CATEGORIES.items()
    ]
    for place, split in enumerate(("train", "val")):
        images = []
        for number, (kind, *counts) in CATEGORIES.items():
            for i in range(counts[place]):
                images.append((f"train_val{year}/{kind}/{number}/{split}{i}.jpg", number))
        images = [images[i] for i in rng.permutation(len(images))]
        made[split] = images
        for i, (file, _) in enumerate(images if with_images else ()):
            (root / file).parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (4, 4), (i, 50 * place, 0)).save(root / file, "PNG")
        listed = {
            "images": [{"id": 7 + i, "file_name": file} for i, (file, _) in enumerate(images)],
            # In another order than the images.
            "annotations": [
                {"image_id": 7 + i, "category_id": number}
                for i, (_, number) in reversed(list(enumerate(images)))
            ],
            "categories": categories[::-1],
        }
        (root / f"{split}{year}.json").write_text(json.dumps(listed))
    return made


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    root = tmp_path_factory.mktemp("inaturalist")
    return root, write_set(root, 2018)


def test_the_category_is_the_label(tree):
    root, made = tree
    for split in ("train", "val"):
        source = open_source(f"inaturalist2018:{root}", split)
        # The name of a folder, sorted as text, would have put 10 before 2.
        ranks = {0: 0, 1: 1, 2: 2, 10: 3}
        assert source.labels().tolist() == [ranks[number] for _, number in made[split]]
        assert source.files == [file for file, _ in made[split]]
        assert source.class_names == ("0", "1", "2", "10")
        for i in range(len(source)):
            assert source[i]["image"][0, 0].tolist() == [i, 50 * (split == "val"), 0]
    assert len(open_source(f"inaturalist2018:{root}", "validation")) == 4
    assert len(open_source(f"inaturalist2018:{root}", "train[:50%]")) == 4
    assert source.left_out == (
        "it lists 4 classes, and the published set 8,142",
        "it lists 4 images, and the published val 24,426",
    )


def test_names_that_were_published_later(tree, tmp_path):
    root, _ = tree
    copy = shutil.copytree(root, tmp_path / "copy")
    named = [{"id": 10, "name": "Amanita"}, {"id": 2, "name": "Corvus"}]
    named += [{"id": 1, "name": "Corvus"}, {"id": 0, "name": "Quercus"}]
    (copy / "categories.json").write_text(json.dumps(named))
    found = open_inaturalist(str(copy), "val", "2018")
    assert found.class_names == ("Quercus", "Corvus (1)", "Corvus (2)", "Amanita")
    (copy / "categories.json").write_text(json.dumps(named[1:]))
    with pytest.raises(ValueError, match=r"categories.json has no name for the category 10"):
        open_inaturalist(str(copy), "val", "2018")


def test_images_that_are_missing_are_named_and_counted(tree, tmp_path, monkeypatch):
    root, made = tree
    copy = shutil.copytree(root, tmp_path / "copy")
    gone = [file for file, _ in made["train"][:5]]
    for file in gone:
        (copy / file).unlink()
    monkeypatch.setitem(inaturalist.YEARS, "2018", PublishedSet(4, {"train": 8, "val": 4}))
    found = open_inaturalist(str(copy), "train", "2018")
    said = f"5 × image that is listed and not there: {', '.join(gone[:3])}, …"
    assert found.left_out == (said,) and len(found) == 3
    assert found.files == [file for file, _ in made["train"][5:]]
    with pytest.raises(ValueError, match="train is not whole: 5 × image that is listed"):
        open_inaturalist(str(copy), "train", "2018", whole=True)
    assert open_inaturalist(str(copy), "val", "2018", whole=True).left_out == ()
    # The folder that the archive makes may be PATH itself.
    for file in copy.glob("*.json"):
        file.rename(copy / "train_val2018" / file.name)
    inner = open_inaturalist(str(copy / "train_val2018"), "train", "2018")
    assert len(inner) == 3 and inner[0]["image"].shape == (4, 4, 3)


def test_of_2019_train_and_val_are_counted_together(tmp_path, monkeypatch):
    write_set(tmp_path, 2019)
    monkeypatch.setitem(inaturalist.YEARS, "2019", PublishedSet(4, {}, train_and_val=12))
    assert open_inaturalist(str(tmp_path), "val", "2019", whole=True).left_out == ()
    monkeypatch.setitem(inaturalist.YEARS, "2019", PublishedSet(4, {}, train_and_val=13))
    said = "train and val list 12 images, and the published 13"
    assert open_inaturalist(str(tmp_path), "train", "2019").left_out == (said,)
    (tmp_path / "train2019.json").unlink()
    assert open_inaturalist(str(tmp_path), "val", "2019").left_out == ()


def test_2021_has_files_without_a_year(tmp_path):
    write_set(tmp_path, 2021)
    (tmp_path / "train2021.json").rename(tmp_path / "train_mini.json")
    source = open_source(f"inaturalist2021:{tmp_path}", "train_mini")
    assert len(source) == 8
    assert "it lists 8 images, and the published train_mini 500,000" in source.left_out


def test_the_published_numbers():
    """Of the READMEs of visipedia/inat_comp."""
    years = inaturalist.YEARS
    assert {year: one.classes for year, one in years.items()} == {
        "2017": 5089, "2018": 8142, "2019": 1010, "2021": 10_000
    }  # fmt: skip
    assert years["2017"].images == {"train": 579_184, "val": 95_986}
    assert years["2018"].images == {"train": 437_513, "val": 24_426}
    assert years["2019"].train_and_val == 268_243 and years["2021"].images["train"] == 2_686_843


def changed(change):
    listed = {
        "images": [{"id": 1, "file_name": "a/x.jpg"}],
        "annotations": [{"image_id": 1, "category_id": 0}],
        "categories": [{"id": 0, "name": "oak"}],
    }
    return json.dumps({**listed, **change})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", r"train2017.json can't be read as JSON \("),
        ("[]", "train2017.json has no list 'images', as"),
        ("{}", "train2017.json has no list 'images', as"),
        (changed({"annotations": []}), "labels no image: the labels of test sets are not public"),
        (changed({"images": [{"id": "1"}]}), r"images\[0\] has no 'id' of type int"),
        (changed({"categories": [{"id": 0}]}), "has no name for the category 0"),
        (changed({"categories": [{"id": 0}] * 2}), "has a category twice, or none"),
        (changed({"images": [{"id": 1, "file_name": "../x"}]}), r"'../x' is no name of a file in"),
        (changed({}), r"none is there, as .*a/x.jpg; unpack a.tar.gz in"),
        (
            changed({"annotations": [{"image_id": 1, "category_id": 3}]}),
            "image 1 has the category 3, which is in no list",
        ),
        (
            changed({
                "annotations": [{"image_id": 1, "category_id": n} for n in (0, 1)],
                "categories": [{"id": 0, "name": "oak"}, {"id": 1, "name": "elm"}],
            }),
            "image 1 is of two categories, 0 and 1",
        ),
    ],
)  # fmt: skip
def test_what_is_no_such_set(text, message, tmp_path):
    (tmp_path / "train2017.json").write_text(text)
    with pytest.raises(ValueError, match=message):
        open_source(f"inaturalist2017:{tmp_path}")


def test_what_is_not_there(tree):
    root, _ = tree
    with pytest.raises(ValueError, match="split: got 'test', but .* neither test2018.json nor tes"):
        open_source(f"inaturalist2018:{root}", "test")
    with pytest.raises(ValueError, match="spec: folder '/nowhere' does not exist"):
        open_source("inaturalist2018:/nowhere")
    with pytest.raises(ValueError, match="spec: got 'inaturalist2020:x', expected .*2018:PATH"):
        open_source("inaturalist2020:x")
