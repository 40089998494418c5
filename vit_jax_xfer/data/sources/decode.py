"""From an encoded image to uint8 RGB, whatever mode it was stored in."""

import io
import pathlib

import numpy as np


def decode_image(data: bytes | str | pathlib.Path, name: str) -> np.ndarray:
    """Decodes a file's path or bytes to uint8 (h, w, 3).

    Grey, palette, alpha and CMYK images become RGB as `PIL.Image.convert` does it (alpha is
    dropped); EXIF rotation is not applied, as in torchvision and timm. Raises ValueError naming
    `name` where the data is broken or deeper than eight bits, which conversion would clip.
    """
    from PIL import Image

    try:
        with Image.open(io.BytesIO(data) if isinstance(data, bytes) else data) as image:
            if image.mode in ("I", "F") or image.mode.startswith("I;"):
                raise ValueError(f"mode {image.mode}, expected 8 bits per channel")
            return np.asarray(image if image.mode == "RGB" else image.convert("RGB"))
    # Pillow's plugins raise nearly anything on broken data: OSError, SyntaxError, struct.error, …
    except Exception as error:
        reason = str(error).replace(name, "file").splitlines()[0] if str(error) else repr(error)
        raise ValueError(f"cannot read image {name}: {reason}") from error


def image_size(path: pathlib.Path) -> tuple[int, int]:
    """(width, height) from a file's header. Raises ValueError naming it where there is none."""
    from PIL import Image

    if not path.is_file():
        raise ValueError(f"{path}: this image is missing")
    try:
        with Image.open(path) as image:
            return image.size
    except Exception as error:
        raise ValueError(f"cannot read image {path}: {type(error).__name__}") from error
