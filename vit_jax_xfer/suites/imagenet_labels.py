"""ImageNet's classes in order, those of its variants, and AlexNet's errors on corrupted images.

Sources: the authors' lists for ImageNet-A and -R (1907.07174, 2006.16241); AlexNet's errors, by
which those on ImageNet-C are divided (1903.12261).
"""

import functools
import json
from collections.abc import Sequence
from importlib import resources
from typing import Any

CORRUPTIONS = (
    *("gaussian_noise", "shot_noise", "impulse_noise"),
    *("defocus_blur", "glass_blur", "motion_blur", "zoom_blur"),
    *("snow", "frost", "fog", "brightness"),
    *("contrast", "elastic_transform", "pixelate", "jpeg_compression"),
)
SEVERITIES = (1, 2, 3, 4, 5)

# Publishers write ImageNet's names in words of their own ("tench", "tench, Tinca tinca",
# "tench_Tinca_tinca"); these tell them, in their order, from any other thousand classes.
LANDMARKS = {
    0: "tench", 1: "goldfish", 99: "goose", 130: "flamingo", 207: "golden retriever", 291: "lion",
    340: "zebra", 388: "giant panda", 404: "airliner", 555: "fire engine", 609: "jeep",
    779: "school bus", 817: "sports car", 852: "tennis ball", 949: "strawberry", 954: "banana",
    963: "pizza", 980: "volcano", 985: "daisy", 999: "toilet tissue",
}  # fmt: skip


def synsets() -> tuple[str, ...]:
    """The 1,000 WordNet names, such as "n01440764": the order of ImageNet's outputs."""
    return tuple(_lists()["synsets"])


def synsets_of(variant: str) -> tuple[str, ...]:
    """The 200 names that ImageNet-A ("a") or ImageNet-R ("r") has, in ImageNet's order."""
    return tuple(synsets()[index] for index in _lists()[variant])


def alexnet_errors(corruption: str) -> tuple[float, ...]:
    """AlexNet's share of errors at severities 1 to 5."""
    return tuple(_lists()["alexnet_error"][corruption])


def class_names_of(model: Any) -> tuple[str, ...]:
    """The names of a classifier's outputs: its own, ImageNet's for 1,000 of them, else numbers.

    ValueError where there is no head.
    """
    number = getattr(model, "num_classes", 0)
    if not number:
        raise ValueError("the network has no head, so it predicts no classes; give one with a head")
    if model.class_names is not None:
        return tuple(model.class_names)
    return synsets() if number == len(synsets()) else tuple(map(str, range(number)))


def are_imagenets(names: Sequence[str]) -> bool:
    """Whether names are those of ImageNet's 1,000 classes in their order, in English words."""
    if len(names) != len(synsets()):
        return False
    return all(_begins_with(names[place], word) for place, word in LANDMARKS.items())


def _begins_with(name: str, word: str) -> bool:
    """Whether the first of a class's names, or all that it has, is this word or these two."""
    plain = name.lower().replace("_", " ").strip()
    return plain.startswith(word) and plain[len(word) :][:1] in ("", ",", " ")


def names_beside(names: Sequence[str], others: Sequence[str]) -> Sequence[str]:
    """A network's class names, as they compare with others.

    ImageNet's in English words are WordNet's names where the others have such: data sets are told
    apart by these.
    """
    in_words = are_imagenets(names) and not set(synsets()).isdisjoint(others)
    return synsets() if in_words else names


@functools.cache
def _lists() -> dict[str, Any]:
    text = resources.files("vit_jax_xfer.suites").joinpath("labels/imagenet.json").read_text()
    return json.loads(text)
