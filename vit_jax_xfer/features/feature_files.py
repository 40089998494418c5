"""Features of single photographs: how they are resized, and the files that features go to."""

import contextlib
import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from vit_jax_xfer.data.images import resize
from vit_jax_xfer.features.feature_extractor import FeatureExtractor
from vit_jax_xfer.whole_files import naming_file, write_npz


@dataclasses.dataclass(frozen=True)
class Sizing:
    """How a photograph becomes a network's input, in whole patches each way, bilinear.

    size: squashed to this square. longest: or else the longer side is as near to this as patches
    allow, and the other as near to the photograph's shape, one patch at least. patch: pixels.
    any_size: of patches that overlap, and of a network whose own size leaves pixels over, any
    number of pixels will do for a size.
    """

    patch: int
    size: int | tuple[int, int] | None = None
    longest: int | None = None
    any_size: bool = False

    def __post_init__(self) -> None:
        for name, flag in (("size", "--image-size"), ("longest", "--longest")):
            value = getattr(self, name)
            for side in (value if isinstance(value, tuple) else (value,)) if value else ():
                if side < self.patch:
                    raise ValueError(
                        f"{flag}: {side} pixels are smaller than one {self.patch}-pixel patch"
                    )
                if name == "size" and side % self.patch and not self.any_size:
                    near = max(1, round(side / self.patch)) * self.patch
                    raise ValueError(
                        f"{flag}: {side} pixels are not a whole number of {self.patch}-pixel "
                        f"patches; {near} is the nearest that is"
                    )

    def sides(self, height: int, width: int) -> tuple[int, int]:
        """(height, width) of the network's input of a photograph of this size."""
        if self.longest is None:
            return (self.size, self.size) if isinstance(self.size, int) else self.size
        scale = self.longest / max(height, width)
        return tuple(max(1, round(n * scale / self.patch)) * self.patch for n in (height, width))

    def __call__(self, photo: np.ndarray) -> np.ndarray:
        """A photograph uint8 (H, W, 3) → (h, w, 3)."""
        sides = self.sides(*photo.shape[:2])
        return photo if photo.shape[:2] == sides else np.asarray(resize(photo, *sides, "bilinear"))


def about(extractor: FeatureExtractor, lift: str | None) -> dict[str, Any]:
    """What a reader of features must know of them, as arrays of an .npz."""
    backbone = extractor.backbone
    return {
        "model": np.array(backbone.name),
        "facet": np.array(backbone.facet),
        "layer": np.array(backbone.layers if len(backbone.layers) > 1 else backbone.layers[0]),
        "log_bins": np.array(backbone.log_bins),
        "patch_size": np.array(backbone.patch_size),
        "stride": np.array(backbone.step),
        "lift": np.array(lift or ""),
        "steps": np.array(extractor.steps if extractor.upsampler is not None else 0),
    }


class OneFile:
    """All features in one .npz: features (N, h, w, C), files (N,), image_size (N, 2) and `about`.

    They wait in a file beside it, so that they need not fit in memory.
    """

    def __init__(self, path: Path, dtype: str, facts: Mapping[str, Any]) -> None:
        self._path, self._dtype, self._facts = path, dtype, facts
        self._waiting = path.with_name(f".{path.name}.features")
        self._file: BinaryIO | None = None
        self._shape: tuple[int, ...] = ()
        self._files: list[str] = []
        self._sizes: list[tuple[int, int]] = []

    def add(self, file: Path, name: str, features: np.ndarray, size: tuple[int, int]) -> None:
        """Takes one image's features (h, w, C). size: (height, width) of the network's input."""
        if self._file is None:
            self._file, self._shape = self._waiting.open("wb"), features.shape
        # Written, not mapped: to a page that a full disk has no room for the process would die.
        with naming_file(self._path):
            self._file.write(np.ascontiguousarray(features, self._dtype).data)
        self._files.append(str(file))
        self._sizes.append(size)

    def close(self, complete: bool) -> None:
        """Writes the .npz where there are features and nothing went wrong."""
        try:
            if complete and self._file is not None:
                with naming_file(self._path):
                    self._file.flush()
                shape = (len(self._files), *self._shape)
                features = np.memmap(self._waiting, self._dtype, "r", shape=shape)
                write_npz(self._path, {"features": features, **self._beside()})
        finally:
            if self._file is not None:
                with contextlib.suppress(OSError):  # of what could not be written before either
                    self._file.close()
            self._waiting.unlink(missing_ok=True)

    def _beside(self) -> dict[str, Any]:
        return {"files": np.array(self._files), "image_size": np.array(self._sizes), **self._facts}


class OneFileEach:
    """DIR/NAME.npz for each image, with arrays as in OneFile, N = 1."""

    def __init__(self, folder: Path, dtype: str, facts: Mapping[str, Any]) -> None:
        self._folder, self._dtype, self._facts = folder, dtype, facts

    def add(self, file: Path, name: str, features: np.ndarray, size: tuple[int, int]) -> None:
        """Writes one image's features (h, w, C)."""
        self._folder.mkdir(parents=True, exist_ok=True)
        arrays = {"features": features[None].astype(self._dtype), "files": np.array([str(file)])}
        arrays["image_size"] = np.array([size])
        write_npz(self._folder / f"{name}.npz", {**arrays, **self._facts})

    def close(self, complete: bool) -> None:
        """Nothing is left to do."""
