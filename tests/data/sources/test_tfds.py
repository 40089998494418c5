"""tfds sources without TensorFlow: a prepared array_record set, tfds's mock, error texts."""

import pickle
import shutil

import numpy as np
import pytest

from vit_jax_xfer.data import open_source
from vit_jax_xfer.data.broken_images import BrokenImage

tfds = pytest.importorskip("tensorflow_datasets")


class Swatches(tfds.core.GeneratorBasedBuilder):
    """Twelve images, every third of them grey though the feature has three channels."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        features = tfds.features.FeaturesDict(
            {
                "image": tfds.features.Image(shape=(None, None, 3), encoding_format="png"),
                "label": tfds.features.ClassLabel(names=["red", "blue"]),
            }
        )
        return tfds.core.DatasetInfo(
            builder=self, features=features, supervised_keys=("image", "label")
        )

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples()}

    def _generate_examples(self):
        import io

        from PIL import Image

        for i in range(12):
            image = Image.new("L" if i % 3 == 0 else "RGB", (5 + i % 2, 4), i)
            file = io.BytesIO()
            image.save(file, "PNG")
            yield i, {"image": io.BytesIO(file.getvalue()), "label": i % 2}


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tfds")
    Swatches(data_dir=folder, file_format="array_record").download_and_prepare()
    return str(folder)


def test_prepared_set(data_dir):
    source = open_source("tfds:swatches", data_dir=data_dir)
    assert len(source) == 12 and source.class_names == ("red", "blue")
    for i, label in enumerate(source.labels()):
        example = source[i]
        assert example["image"].dtype == np.uint8 and example["image"].shape[::2] == (4, 3)
        assert type(example["label"]) is int and example["label"] == label
    few = open_source("tfds:swatches", per_class=2, data_dir=data_dir)
    assert sorted(few.labels().tolist()) == [0, 0, 1, 1]
    copy = pickle.loads(pickle.dumps(source))
    np.testing.assert_array_equal(copy[3]["image"], source[3]["image"])


def test_records_that_are_damaged(data_dir, tmp_path):
    copy = shutil.copytree(data_dir, tmp_path / "copy")
    (file,) = copy.rglob("*array_record-*")
    whole = file.read_bytes()
    for damaged, said in ((whole[: 2**16], "nothing in it"), (whole[:-100], ""), (b"", "64KB")):
        file.write_bytes(damaged)
        source = open_source("tfds:swatches", data_dir=str(copy))
        with pytest.raises(BrokenImage, match=f"image tfds:swatches/train record 3: .*{said}"):
            source[3]
        with pytest.raises(BrokenImage, match="image tfds:swatches/train record 0: "):
            source.labels()


def test_split_strings(data_dir):
    half = open_source("tfds:swatches", "train[:50%]", data_dir=data_dir)
    both = open_source("tfds:swatches", "train[:25%]+train[75%:]", data_dir=data_dir)
    assert len(half) == 6 and len(both) == 6
    with pytest.raises(ValueError, match="split: got 'test', but tfds:swatches has train"):
        open_source("tfds:swatches", "test", data_dir=data_dir)


def test_not_prepared(tmp_path):
    message = f"run .* tfds build mnist --file_format=array_record --data_dir={tmp_path}"
    with pytest.raises(ValueError, match=message):
        open_source("tfds:mnist", data_dir=str(tmp_path))
    with pytest.raises(ValueError, match="tfds has no data set 'no_such_set'"):
        open_source("tfds:no_such_set", data_dir=str(tmp_path))


def test_mock_data():
    with tfds.testing.mock_data(num_examples=3):
        source = open_source("tfds:mnist", "test")
        assert source[0]["image"].shape == (28, 28, 3) and source.num_classes == 10
