"""Data sets prepared by tensorflow_datasets, read without TensorFlow."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vit_jax_xfer.data.broken_images import BrokenImage
from vit_jax_xfer.data.sources.decode import decode_image


@dataclass
class TfdsSource:
    """Wraps a tfds data source whose image feature comes undecoded."""

    records: Sequence
    image_key: str
    label_key: str | None
    class_names: tuple[str, ...]
    name: str
    left_out: tuple[str, ...] = ()

    @property
    def num_classes(self) -> int:
        """How many classes the label feature has; 0 without one."""
        return len(self.class_names)

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> dict:
        record = self.record(index)
        image = record[self.image_key]
        if not isinstance(image, np.ndarray):
            image = decode_image(bytes(image), f"{self.name} record {index}")
        if image.shape[-1] == 1:
            image = image.repeat(3, axis=-1)
        label = -1 if self.label_key is None else int(record[self.label_key])
        return {"image": image, "label": label, "name": f"{self.name} record {index}"}

    def labels(self) -> np.ndarray:
        """All labels, int64 (N,). Reads every record, though it decodes no image."""
        if self.label_key is None:
            return np.full(len(self), -1)
        return np.array([int(self.record(i)[self.label_key]) for i in range(len(self))])

    def record(self, index: int) -> dict:
        """What is stored of an example. BrokenImage where it can't be read."""
        name = f"{self.name} record {index}"
        try:
            record = self.records[index]
        except Exception as error:  # array_record raises its own kinds for a checksum that's wrong
            raise BrokenImage(name, _first_line(error)) from error
        # What it gives of a file that was cut off.
        if record[self.image_key] is None or (self.label_key and record[self.label_key] is None):
            raise BrokenImage(name, "there is nothing in it")
        return record


def open_tfds(path: str, split: str, data_dir: str | None) -> TfdsSource:
    """Opens the prepared data set `path` (NAME or NAME/CONFIG) with any tfds split string.

    The image is the supervised pair's or the only image feature; the label the supervised pair's,
    a feature "label" or the only class label; without one the source is unlabelled. `data_dir` is
    tfds's (default: its environment variable, then ~/tensorflow_datasets). Raises ValueError for
    an unknown name or split, and where nothing is prepared as array_record.
    """
    import tensorflow_datasets as tfds

    try:
        builder = tfds.builder(path, data_dir=data_dir)
    except Exception as error:  # tfds: DatasetNotFoundError, ValueError, AssertionError, …
        raise ValueError(f"spec: tfds has no data set {path!r} ({_first_line(error)})") from error
    image_key, label_key = _feature_keys(builder.info, path)
    try:
        records = builder.as_data_source(split=split)
    except Exception as error:  # tfds: AssertionError, NotImplementedError, ValueError, KeyError, …
        raise ValueError(_why_not_opened(builder, path, split, data_dir)) from error
    if isinstance(builder.info.features[image_key], tfds.features.Image):
        # tfds leaves grey images in colour sets without channels, and decodes by OpenCV where it
        # is installed. Set after opening, because tfds.testing.mock_data needs TensorFlow where
        # as_data_source gets decoders; the mock's images come as arrays all the same.
        records.decoders = {image_key: tfds.decode.SkipDecoding()}
    names = tuple(builder.info.features[label_key].names) if label_key else ()
    return TfdsSource(records, image_key, label_key, names, f"tfds:{path}/{split}")


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [repr(error)])[0]


def _why_not_opened(builder, path: str, split: str, data_dir: str | None) -> str:
    formats = {format_.value for format_ in builder.info.available_file_formats()}
    if builder.is_prepared() and "array_record" in formats:
        return f"split: got {split!r}, but tfds:{path} has {', '.join(builder.info.splits)}"
    flag = f" --data_dir={data_dir}" if data_dir else ""
    return (
        f"spec: tfds:{path} is not prepared as array_record in {builder.data_dir}; run (with "
        f"TensorFlow installed) tfds build {path} --file_format=array_record{flag}"
    )


def _feature_keys(info, path: str) -> tuple[str, str | None]:
    import tensorflow_datasets as tfds

    features = info.features
    images = [key for key, feature in features.items() if isinstance(feature, tfds.features.Image)]
    labels = [k for k, feature in features.items() if isinstance(feature, tfds.features.ClassLabel)]
    if info.supervised_keys and len(info.supervised_keys) == 2:
        image, label = info.supervised_keys
        if image in images and label in labels:
            return image, label
    image = "image" if "image" in features else images[0] if len(images) == 1 else None
    if image is None:
        raise ValueError(
            f"spec: tfds:{path} has no single image feature, only {', '.join(features)}"
        )
    label = "label" if "label" in labels else labels[0] if len(labels) == 1 else None
    return image, label
