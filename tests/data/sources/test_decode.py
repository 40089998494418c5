"""Decoding what may be anything: one line, in bounded memory, and what is no fault of the file."""

import errno
import resource
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from vit_jax_xfer.data import open_source
from vit_jax_xfer.data.broken_images import BrokenImage, ImageOutOfReach
from vit_jax_xfer.data.sources import decode
from vit_jax_xfer.data.sources.decode import decode_image, image_size
from vit_jax_xfer.data.sources.index_picture import read_index_picture


def png_of(width, height, rows=b""):
    """A PNG that claims a size, whatever it holds."""

    def chunk(kind, body):
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def test_a_claim_of_too_many_pixels_is_refused_before_they_are_made(tmp_path, monkeypatch):
    path = tmp_path / "x.png"
    path.write_bytes(png_of(200_000, 200_000, bytes(1000)))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for pillows in (Image.MAX_IMAGE_PIXELS, None):  # which some libraries switch off
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", pillows)
        with pytest.raises(BrokenImage, match="x.png: .*pixels") as raised:
            decode_image(str(path), str(path))
        assert "\n" not in str(raised.value)
        with pytest.raises(ValueError, match="x.png"):
            image_size(path)
        with pytest.raises(ValueError, match="x.png"):
            read_index_picture(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000  # kB


def test_formats_that_run_programs_are_none(tmp_path):
    path = tmp_path / "x.jpg"
    path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n")
    with pytest.raises(BrokenImage, match="cannot identify image file"):
        decode_image(path, str(path))


def test_a_name_need_not_say_the_format(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 255, (4, 6, 3), dtype=np.uint8)
    for kind in ("PNG", "BMP", "TIFF", "PPM", "TGA"):
        Image.fromarray(pixels).save(tmp_path / "x.jpg", kind)
        np.testing.assert_array_equal(decode_image(tmp_path / "x.jpg", "x"), pixels)


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (errno.EIO, ImageOutOfReach),
        (errno.ESTALE, ImageOutOfReach),
        (errno.EMFILE, OSError),
        (errno.EACCES, BrokenImage),
    ],
)
def test_what_the_disk_says_is_no_fault_of_the_image(monkeypatch, number, kind):
    def fails(data):
        raise OSError(number, "as the disk says")

    monkeypatch.setattr(decode, "open_picture", fails)
    with pytest.raises(
        (OSError, BrokenImage), match="cannot read image x.jpg: .*as the disk"
    ) as one:
        decode_image("x.jpg", "x.jpg")
    assert type(one.value) is kind


def test_memory_that_is_used_up_is_no_broken_image(monkeypatch):
    def fails(data):
        raise MemoryError

    monkeypatch.setattr(decode, "open_picture", fails)
    with pytest.raises(OSError, match="no memory left to decode image x.jpg"):
        decode_image("x.jpg", "x.jpg")


def test_a_file_that_is_gone_and_a_folder_that_is(tmp_path):
    (tmp_path / "set").mkdir()
    for name in ("a.png", "b.png"):
        Image.new("RGB", (4, 4)).save(tmp_path / "set" / name)
    source = open_source(f"folder:{tmp_path / 'set'}")
    (tmp_path / "set" / "a.png").unlink()
    with pytest.raises(BrokenImage, match="a.png"):
        source[0]
    (tmp_path / "set").rename(tmp_path / "unmounted")
    with pytest.raises(ImageOutOfReach, match="b.png: No such file.*network folder"):
        source[1]
