"""From an encoded image to uint8 RGB, whatever mode it was stored in."""

import contextlib
import errno
import functools
import io
import pathlib
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np

from vit_jax_xfer.data.broken_images import BrokenImage, ImageOutOfReach

# Half a gigabyte in RGB, and what Pillow allows by itself. A file of a few kilobytes can claim any
# number of pixels.
MAX_PIXELS = 178_956_970
# What a photograph or a mask may be, whatever its file is called. Of Pillow's other formats one
# runs a program (EPS), and some hold drawings or other files.
_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF", "PPM", "JPEG2000", "AVIF", "ICO", "PCX",
            "TGA")  # fmt: skip
# Of a disk or network folder that doesn't answer; ENOENT as well where the folder is gone.
_OUT_OF_REACH = {
    errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.ENOTCONN, errno.ECONNABORTED, errno.ECONNRESET,
    errno.EHOSTDOWN, errno.EHOSTUNREACH, errno.ENETDOWN, errno.ENETUNREACH,
}  # fmt: skip
_RESOURCES = {errno.EMFILE, errno.ENFILE, errno.ENOMEM}


def decode_image(data: bytes | str | pathlib.Path, name: str) -> np.ndarray:
    """Decodes a file's path or bytes to uint8 (h, w, 3); within `undecoded`, to a Picture.

    Grey, palette, alpha and CMYK images become RGB as `PIL.Image.convert` does it (alpha is
    dropped); EXIF rotation is not applied, as in torchvision and timm. Raises BrokenImage, a
    ValueError that names `name`, where the data is broken, deeper than eight bits, which conversion
    would clip, or larger than MAX_PIXELS; ImageOutOfReach, an OSError, where a disk or network
    folder doesn't answer; OSError where memory or files are used up.
    """
    draft = getattr(_THREAD, "draft", None)
    picture = Picture(data, name, bool(draft))
    return picture if draft is not None else np.asarray(picture.rgb())


_THREAD = threading.local()


@contextlib.contextmanager
def undecoded(draft: bool) -> Iterator[None]:
    """Within it this thread's `decode_image` gives Pictures, which pipelines take as images too.

    draft: whether these may be decoded at a part of their size.
    """
    _THREAD.draft = draft
    try:
        yield
    finally:
        _THREAD.draft = None


class Picture:
    """An image file whose header is read: what of it is wanted can be known before it is decoded.

    shape: (h, w, 3) of the whole, of which `rgb` makes a PIL image. draft: whether `region` may
    take a JPEG's pixels at a half, a quarter or an eighth of its size. Errors as of `decode_image`.
    """

    def __init__(self, data: bytes | str | pathlib.Path, name: str, draft: bool = False):
        self._data, self._name, self.draft = data, name, draft
        with _naming(data, name):
            self._image = open_picture(data)
            mode = self._image.mode
            if mode in ("I", "F") or mode.startswith("I;"):
                self._image.close()
                raise ValueError(f"mode {mode}, expected 8 bits per channel")
        self.shape = (self._image.height, self._image.width, 3)

    def rgb(self) -> Any:
        """The whole as a PIL image in RGB."""
        with _naming(self._data, self._name), self._image as image:
            image.load()
            return image if image.mode == "RGB" else image.convert("RGB")

    def region(
        self, top: int, left: int, height: int, width: int, least: tuple[int, int]
    ) -> tuple[Any, tuple[float, float, float, float]]:
        """Decoded as small as leaves a box of the whole `least` (height, width) pixels at least.

        → a PIL image in RGB, and the box in it: left, top, right, bottom.
        """
        most = max(min(height // least[0], width // least[1]), 1)
        shrink = max(n for n in (1, 2, 4, 8) if n <= most)
        with _naming(self._data, self._name):
            if shrink > 1:  # what is no JPEG stays as it is
                self._image.draft(None, (self.shape[1] // shrink, self.shape[0] // shrink))
        image = self.rgb()
        across, down = image.width / self.shape[1], image.height / self.shape[0]
        return image, (left * across, top * down, (left + width) * across, (top + height) * down)


@contextlib.contextmanager
def _naming(data: bytes | str | pathlib.Path, name: str) -> Iterator[None]:
    """What Pillow raises within it becomes what `decode_image` raises."""
    try:
        yield
    except MemoryError as error:
        raise OSError(f"no memory left to decode image {name}") from error
    # Pillow's plugins raise nearly anything on broken data: OSError, SyntaxError, struct.error, …
    except Exception as error:
        number = getattr(error, "errno", None)
        if number in _RESOURCES:
            raise OSError(f"cannot read image {name}: {error.strerror}") from error
        if number in _OUT_OF_REACH or (number == errno.ENOENT and _folder_is_gone(data)):
            raise ImageOutOfReach(
                f"cannot read image {name}: {error.strerror}; is its disk or network folder there?"
            ) from error
        said = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        reason = said.replace(name, "file").splitlines()[0] if said else repr(error)
        raise BrokenImage(name, reason) from error


def open_picture(data: bytes | str | pathlib.Path) -> Any:
    """The PIL image of a file's path or bytes, nothing decoded yet. Raises as Pillow does.

    ValueError for more than MAX_PIXELS; a format that isn't one of photographs is not identified.
    """
    from PIL import Image

    file = io.BytesIO(data) if isinstance(data, bytes) else data
    image = Image.open(file, formats=_known_formats())
    if image.width * image.height > MAX_PIXELS:
        image.close()
        raise ValueError(
            f"{image.width}×{image.height} pixels, expected {MAX_PIXELS:,} at most: shrink it"
        )
    return image


@functools.cache
def readable_suffixes() -> tuple[str, ...]:
    """The suffixes of all formats that `decode_image` reads, lower case, ".jpg" first."""
    from PIL import Image

    known = set(_known_formats())
    found = (suffix for suffix, name in Image.registered_extensions().items() if name in known)
    return tuple(sorted(found, key=lambda suffix: (suffix != ".jpg", suffix)))


@functools.cache
def _known_formats() -> list[str]:
    """Those that this Pillow was built with."""
    from PIL import Image

    Image.init()
    return [name for name in _FORMATS if name in Image.OPEN]


def image_size(path: pathlib.Path) -> tuple[int, int]:
    """(width, height) from a file's header. Raises ValueError naming it where there is none."""
    if not path.is_file():
        raise ValueError(f"{path}: this image is missing")
    try:
        with open_picture(path) as image:
            return image.size
    except Exception as error:
        raise ValueError(f"cannot read image {path}: {type(error).__name__}") from error


def _folder_is_gone(data: bytes | str | pathlib.Path) -> bool:
    return not isinstance(data, bytes) and not pathlib.Path(data).parent.is_dir()
