"""A synthetic tree of ImageNet's suites: small images, the real names, laid out as published."""

import io
import json
import pathlib
import tarfile

import numpy as np
from PIL import Image

from vit_jax_xfer.suites.imagenet_labels import CORRUPTIONS, SEVERITIES, synsets, synsets_of

SIDE = 24


def picture(seed: int, side: int = SIDE) -> Image.Image:
    """Noise of one seed about a colour of its own."""
    rng = np.random.default_rng(seed)
    colour = rng.integers(0, 256, 3)
    pixels = np.clip(colour + rng.normal(0, 30, (side, side, 3)), 0, 255)
    return Image.fromarray(pixels.astype(np.uint8))


def save(path: pathlib.Path, seed: int, side: int = SIDE) -> None:
    """An image as a file, with its folders. Lossless, so that any decoder gives the same."""
    path.parent.mkdir(parents=True, exist_ok=True)
    picture(seed, side).save(path, "PNG")


def make_tree(root: pathlib.Path, number: int = 12) -> dict[str, list[tuple[int, tuple[str, ...]]]]:
    """Writes all suites; returns {set: [(image's seed, right synsets)]} in no particular order."""
    rng = np.random.default_rng(0)
    names, truths = synsets(), {}
    drawn = sorted(rng.choice(1000, number, replace=False))
    truths["imagenet"], right, seeds = [], [[] for _ in range(number)], {}
    for place, label in enumerate(drawn):
        file = f"ILSVRC2012_val_{place + 1:08d}.JPEG"
        save(root / "imagenet/val" / names[label] / file, seed := 100 + place)
        truths["imagenet"].append((seed, (names[label],)))
        right[place] = [[], [int(label)], [int(label), int(drawn[0]), 7]][place % 3]
        seeds[place] = seed
    (root / "imagenet/real.json").write_text(json.dumps(right))
    truths["real"] = [
        (seeds[place], tuple(names[label] for label in labels))
        for place, labels in enumerate(right)
    ]
    truths["a"] = []
    for place, name in enumerate(rng.permutation(synsets_of("a"))[:number]):
        save(root / "imagenet-a" / name / f"{place}.jpg", 200 + place)
        truths["a"].append((200 + place, (str(name),)))
    (root / "imagenet-a/README.txt").write_text("of the authors")
    truths["v2"] = []
    for place, label in enumerate([0, 1, 2, 10, 11, 100, 999]):
        save(root / "imagenetv2-matched-frequency-format-val" / str(label) / "x.jpeg", 300 + place)
        truths["v2"].append((300 + place, (names[label],)))
    truths["sketch"] = []
    for place, label in enumerate(drawn):
        save(root / "sketch" / names[label] / f"sketch_{place}.JPEG", 400 + place)
        truths["sketch"].append((400 + place, (names[label],)))
    truths["r"] = _archive(root / "imagenet-r.tar", rng.permutation(synsets_of("r"))[:number])
    for i, corruption in enumerate(CORRUPTIONS):
        for severity in SEVERITIES:
            seed = 1000 + 10 * i + severity
            folder = root / "imagenet-c" / corruption / str(severity) / names[drawn[i % number]]
            save(folder / "ILSVRC2012_val_00000001.JPEG", seed, 16)
            truths[f"c/{corruption}/{severity}"] = [(seed, (names[drawn[i % number]],))]
    return truths


def _archive(path: pathlib.Path, classes) -> list[tuple[int, tuple[str, ...]]]:
    truths = []
    with tarfile.open(path, "w") as archive:
        for place, name in enumerate(classes):
            data = io.BytesIO()
            picture(500 + place).save(data, "PNG")
            member = tarfile.TarInfo(f"imagenet-r/{name}/art_{place}.jpg")
            member.size = len(data.getvalue())
            archive.addfile(member, io.BytesIO(data.getvalue()))
            truths.append((500 + place, (str(name),)))
        note = tarfile.TarInfo("imagenet-r/README.txt")
        note.size = 2
        archive.addfile(note, io.BytesIO(b"hi"))
    return truths
