"""The suites as tensorflow_datasets has them, prepared as array_record and read without it."""

from vit_jax_xfer.data.sources.tfds import TfdsSource, open_tfds
from vit_jax_xfer.suites.imagenet_labels import synsets_of
from vit_jax_xfer.suites.suite_set import SuiteSet

TFDS = "tfds:"  # in place of a folder
_SETS = {
    "imagenet": ("imagenet2012", "validation"),
    "real": ("imagenet2012_real", "validation"),
    "a": ("imagenet_a", "test"),
    "r": ("imagenet_r", "test"),
    "sketch": ("imagenet_sketch", "test"),
    "v2": ("imagenet_v2/matched-frequency", "test"),
    "cifar10": ("cifar10", "test"),
    "cifar100": ("cifar100", "test"),
    "flowers": ("oxford_flowers102", "test"),
    "pets": ("oxford_iiit_pet", "test"),
    "inaturalist2017": ("i_naturalist2017", "validation"),
    "inaturalist2018": ("i_naturalist2018", "validation"),
    "inaturalist2021": ("i_naturalist2021", "val"),
}


def open_tfds_suite(name: str, folder: str) -> SuiteSet:
    """The set of a suite. folder: where tfds looks, "" = its own default.

    ValueError naming the suite where tfds has no such set, or none that figures can be compared
    by: its ImageNet-C is made anew, of other crops and other draws than the published images.
    """
    if name == "c":
        raise ValueError(
            "c: tfds makes its imagenet2012_corrupted anew, so no mCE on it is comparable with "
            "published ones; give a folder with the authors' images (zenodo.org/records/2235448)"
        )
    if name not in _SETS:
        raise ValueError(f"{name}: tfds has no such set; give a folder")
    path, split = _SETS[name]
    try:
        source = open_tfds(path, split, folder or None)
    except ValueError as error:
        raise ValueError(f"{name}: {str(error).removeprefix('spec: ')}") from None
    return SuiteSet(
        name,
        source,
        truths=_several(source) if name == "real" else None,
        scored=synsets_of(name) if name in ("a", "r") else None,
        numbered=name.startswith("inaturalist"),
    )


def _several(source: TfdsSource) -> tuple[tuple[str, ...], ...]:
    """The names of the classes that are right for each image, of the feature "real_label"."""
    records = (source.record(index) for index in range(len(source)))
    return tuple(
        tuple(source.class_names[int(label)] for label in dict.fromkeys(one["real_label"]))
        for one in records
    )
