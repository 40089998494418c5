"""What reads files and texts of strangers: for each a good one, made bad, and read.

A reader takes (a folder of its own, random numbers), makes a case there and reads it. It may come
back, or raise one of `EXPECTED`; what else happens is a fault (`watch.py`). `SHOULD_BE` raises an
AssertionError where what was read is none of what it may be.
"""

import functools
import io
import pathlib
import struct
import zlib
from collections.abc import Callable

import numpy as np
from PIL import Image

from tests.fuzz.mutations import NAMES, NUMBERS, mutated_bytes, mutated_json, mutated_text
from vit_jax_xfer.data.sources import open_source
from vit_jax_xfer.data.sources.class_lists import read_classes
from vit_jax_xfer.data.sources.class_match import read_class_map
from vit_jax_xfer.data.sources.decode import decode_image
from vit_jax_xfer.data.transforms import parse

Reader = Callable[[pathlib.Path, np.random.Generator], None]

PIPELINES = (
    "random_resized_crop(224)|flip|normalize",
    'resize(256, "bilinear")|center_crop(224)|normalize(0.5, 0.5)',
    "random_crop(8, padding=1)|trivial_augment()|to_float",
    "resize((9, 7))|color_jitter(0.2, 0.2, 0.2, 0.2)|normalize",
    "random_resized_crop(12, (0.2, 1.0), ratio=(0.5, 2.0))|flip",
    "lsj(16, 0.1, 2.0)|flip|normalize",
    "random_resize(0.5, 2.0, short=20)|random_crop(9, pad_smaller=True)|resize_pad((8, 7))",
)


# --- images ---------------------------------------------------------------------------------------


@functools.cache
def _images() -> tuple[bytes, ...]:
    """A picture in every format and mode that the readers know."""
    rng = np.random.default_rng(0)
    colour = Image.fromarray(rng.integers(0, 256, (13, 17, 3), np.uint8))
    kinds = [("JPEG", "RGB"), ("JPEG", "L"), ("JPEG", "CMYK"), ("WEBP", "RGB"), ("WEBP", "RGBA")]
    kinds += [("PNG", mode) for mode in ("RGB", "RGBA", "L", "LA", "P", "1", "I;16")]
    kinds += [("BMP", "RGB"), ("BMP", "P"), ("TIFF", "RGB"), ("TIFF", "CMYK"), ("TIFF", "F")]
    found = []
    for kind, mode in kinds:
        file = io.BytesIO()
        colour.convert("I" if mode == "I;16" else mode).convert(mode).save(file, kind)
        found.append(file.getvalue())
    for options in ({"progressive": True}, {"exif": b"Exif\x00\x00" + bytes(30)}):
        file = io.BytesIO()
        colour.save(file, "JPEG", **options)
        found.append(file.getvalue())
    for compression in ("tiff_lzw", "tiff_deflate", "jpeg", "packbits"):
        file = io.BytesIO()
        colour.save(file, "TIFF", compression=compression)
        found.append(file.getvalue())
    return tuple(found)


def _png_of(width: int, height: int) -> bytes:
    """A sound head of a PNG of any size, over the data of a tiny one: a decompression bomb."""
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)

    def chunk(name: bytes, data: bytes) -> bytes:
        body = name + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    data = zlib.compress(bytes(10_000_000), 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def _image(rng: np.random.Generator) -> bytes:
    if rng.random() < 0.03:
        width, height = (int(2 ** rng.uniform(0, 31)) for _ in range(2))
        return _png_of(width, height)
    images = _images()
    return mutated_bytes(rng, images[rng.integers(len(images))])


def image(folder: pathlib.Path, rng: np.random.Generator) -> None:
    """`decode_image` of bytes."""
    decoded = decode_image(_image(rng), "case")
    assert decoded.dtype == np.uint8 and decoded.ndim == 3 and decoded.shape[2] == 3


def image_folder(folder: pathlib.Path, rng: np.random.Generator) -> None:
    """A folder of images: the check at the start, then every image."""
    for number in range(3):
        file = folder / "train" / str(number % 2) / f"{number}.{('png', 'jpg')[rng.integers(2)]}"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(_image(rng) if number else _images()[0])
    source = open_source(f"folder:{folder}", "train")
    for number in range(len(source)):
        assert source[number]["image"].dtype == np.uint8


def preparation(folder: pathlib.Path, rng: np.random.Generator) -> None:
    """Pipelines on images of odd sides."""
    sides = [int(side) for side in np.exp(rng.uniform(0, np.log(3000), 2))]
    sides[1] = min(sides[1], 300_000 // sides[0] + 1)
    if rng.random() < 0.5:
        sides.reverse()
    pixels = np.zeros((*sides, 3), np.uint8)
    pipeline = parse(PIPELINES[rng.integers(len(PIPELINES))])
    assert pipeline({"image": pixels, "label": 0}, rng)["image"].dtype == np.float32


# --- texts ----------------------------------------------------------------------------------------


def pipeline_text(folder: pathlib.Path, rng: np.random.Generator) -> None:
    """A pipeline's text, parsed and run on a small image."""
    pipeline = parse(mutated_text(rng, PIPELINES[rng.integers(len(PIPELINES))]))
    pipeline({"image": np.zeros((9, 8, 3), np.uint8), "label": 0}, rng)


def class_lists(folder: pathlib.Path, rng: np.random.Generator) -> None:
    """Files and texts of class names, and maps between them."""
    file = folder / ("classes.txt", "map.json")[rng.integers(2)]
    pairs = {f"class {n}": f"other {n}" for n in range(4)}
    text = "\n".join(f"{a}\t{b}" for a, b in pairs.items())
    made = mutated_json(rng, pairs) if file.suffix == ".json" else mutated_text(rng, text)
    file.write_bytes(mutated_bytes(rng, made.encode("utf-8", "surrogatepass")))
    read = (read_classes, read_class_map)[rng.integers(2)]
    read((str(file), made)[rng.random() < 0.2])


def config_override(folder: pathlib.Path, rng: np.random.Generator) -> None:
    """--config.FIELD=VALUE, up to the first step that needs a compiler."""
    from absl import flags
    from ml_collections import config_flags

    from tests.runs import ROOT
    from vit_jax_xfer.command_line.config_flag import _ConfigFile
    from vit_jax_xfer.config import field_names
    from vit_jax_xfer.tasks.build import build_task
    from vit_jax_xfer.train.inputs import open_inputs
    from vit_jax_xfer.train.schedule import make_run_schedule

    values = flags.FlagValues()
    path = f"{ROOT / 'configs' / 'scratch.py'}:digits"
    config_flags.DEFINE_config_file("config", None, flag_values=values, lock_config=True)
    values["config"].parser = _ConfigFile(values["config"].parser)
    loaded = values["config"].parser.parse(path)
    names = field_names(loaded)
    arguments = []
    for _ in range(int(rng.integers(1, 3))):
        name = str(rng.choice(names))
        arguments.append(f"--config.{name}={_odd_text(rng)}")
    try:
        values(["main", f"--config={path}", *arguments])
    except flags.Error as error:
        raise ValueError(str(error)) from error
    config = values.config
    config.model.width, config.model.depth = 16, 1
    inputs = open_inputs(config)
    make_run_schedule(config, inputs.steps_per_epoch())
    build_task(config, inputs.image_shape(), inputs.num_classes)


def _odd_text(rng: np.random.Generator) -> str:
    texts = (*NUMBERS, *NAMES, "digits", "('a',", "()", "\x00", "é", "test[:0]", "test[5:2]", "all")
    text = str(texts[rng.integers(len(texts))])
    return mutated_text(rng, text) if rng.random() < 0.3 else text


READERS: dict[str, Reader] = {
    "image": image,
    "image_folder": image_folder,
    "preparation": preparation,
    "pipeline_text": pipeline_text,
    "class_lists": class_lists,
    "config_override": config_override,
}
