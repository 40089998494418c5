"""Videos with masks as DAVIS 2016 and DAVIS 2017 lay them out on disk.

Perazzi et al., CVPR 2016; Pont-Tuset et al., arXiv 1704.00675. Both have
JPEGImages/480p/VIDEO/00000.jpg and Annotations/480p/VIDEO/00000.png.
"""

import re
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath

import numpy as np

from vit_jax_xfer.data.sources.decode import image_size, readable_suffixes
from vit_jax_xfer.data.sources.integrity import check_files
from vit_jax_xfer.data.sources.named_files import inside_folder, read_text
from vit_jax_xfer.data.sources.upright_photo import photograph_size
from vit_jax_xfer.data.sources.visible_files import visible
from vit_jax_xfer.evaluate.videos.davis import VOID, labels_of
from vit_jax_xfer.evaluate.videos.video import Video, read_object_mask

# Where the names of the videos to be scored may be written.
_LISTS = {
    "davis2016": ("ImageSets/480p/val.txt", "ImageSets/2016/val.txt"),
    "davis2017": ("ImageSets/2017/val.txt",),
}
_MIN_FRAMES = 3  # the first and the last one aren't scored


def open_videos(
    data: str, limit: int | None = None, frames: int | None = None
) -> tuple[str, list[Video]]:
    """(name, videos) of "davis2016:PATH" or "davis2017:PATH", those of its list val.txt.

    DAVIS 2016 without a list has every folder of frames. limit: the first videos; frames: the first
    ones of each. All files must be there and have one size in a video; all masks are read, of
    photographs the head and the end.
    ValueError naming the file that isn't as it should be.
    """
    name, _, path = data.partition(":")
    if name not in _LISTS or not path:
        known = " or ".join(f"{layout}:PATH" for layout in _LISTS)
        raise ValueError(f"data: got {data!r}, expected {known}")
    if frames is not None and frames < _MIN_FRAMES:
        raise ValueError(f"frames: got {frames}, expected at least {_MIN_FRAMES}")
    root = Path(path).expanduser()
    if not (root / "JPEGImages" / "480p").is_dir() and (root / "DAVIS").is_dir():
        root = root / "DAVIS"
    if not (root / "JPEGImages" / "480p").is_dir():
        raise ValueError(f"data: there is no folder {root / 'JPEGImages' / '480p'}")
    names = _names(root, name)[:limit]
    videos = [_video(root, video, frames, name == "davis2016") for video in names]
    if not any(len(labels_of(video.mask(0))) for video in videos):
        raise ValueError(f"{videos[0].masks[0]}: has no object, nor has any video's first mask")
    return name, videos


def _names(root: Path, layout: str) -> list[str]:
    """The videos to be scored."""
    for listed in _LISTS[layout]:
        file = root / listed
        if file.is_file():
            try:
                lines = read_text(file).splitlines()
            except ValueError as error:
                raise ValueError(f"{file}: {error}") from None
            names = [_listed_name(root, line.strip()) for line in lines if line.strip()]
            if not all(names) or not names:
                raise ValueError(f"{file}: no videos in it, or a line without one")
            for name in dict.fromkeys(names):
                inside_folder(root, name, file)
            return list(dict.fromkeys(names))
    if layout == "davis2017":
        raise ValueError(f"{root / _LISTS[layout][0]}: this list of videos is missing")
    folder = root / "JPEGImages" / "480p"
    names = [one.name for one in visible(folder.iterdir(), folder) if one.is_dir()]
    if not names:
        raise ValueError(f"{folder}: no folders of frames there")
    return names


def _listed_name(root: Path, line: str) -> str:
    """The video of a line: its first word, or all of it where a folder is called so."""
    word = line.split()[0]
    # DAVIS 2016 has a line a frame: /JPEGImages/480p/VIDEO/00000.jpg and its mask.
    if "/" in word:
        return PurePosixPath(word).parent.name
    return line if "/" not in line and (root / "JPEGImages" / "480p" / line).is_dir() else word


def _in_order(folder: Path, endings: Sequence[str]) -> list[Path]:
    """A video's files by the numbers in their names: 2.jpg before 10.jpg, as they were taken.

    ValueError where two are of one frame.
    """

    def key(file: Path) -> tuple[list[str | int], str]:
        parts = re.split(r"(\d+)", file.stem)
        # Words and numbers take turns, so that like is compared with like.
        return [int(part) if i % 2 else part for i, part in enumerate(parts)], file.name

    files = [one for one in visible(folder.iterdir(), folder) if one.suffix.lower() in endings]
    numbers = Counter(one.stem for one in files)
    if twice := next((file for file in files if numbers[file.stem] > 1), None):
        raise ValueError(f"{twice}: another file there is the same frame; leave one of them")
    return sorted(files, key=key)


def _video(root: Path, name: str, limit: int | None, one_object: bool) -> Video:
    """A video whose files are there, of one size, with a first mask that can be read."""
    folders = [root / kind / "480p" / name for kind in ("JPEGImages", "Annotations")]
    for folder in folders:
        if not folder.is_dir():
            raise ValueError(f"{folder}: this folder of a video is missing")
    frames, masks = (
        _in_order(folder, endings)
        for folder, endings in zip(folders, (readable_suffixes(), (".png",)), strict=True)
    )
    for here, there, place in ((frames, masks, folders[1]), (masks, frames, folders[0])):
        known = {file.stem for file in there}
        lone = next((file for file in here if file.stem not in known), None)
        if lone is not None:
            raise ValueError(f"{lone}: no file of that name in {place}; each frame needs its mask")
    frames, masks = frames[:limit], masks[:limit]
    if len(frames) < _MIN_FRAMES:
        raise ValueError(f"{folders[0]}: {len(frames)} frames, expected at least {_MIN_FRAMES}")
    size = photograph_size(frames[0])
    for files, size_of in ((frames, photograph_size), (masks, image_size)):
        if other := next((file for file in files if size_of(file) != size), None):
            raise ValueError(
                f"{other}: {size_of(other)} pixels, but {frames[0].name} of this video has {size}"
            )
    check_files([str(file) for file in frames], f"video {name}")
    with ThreadPoolExecutor() as pool:
        seen = list(pool.map(lambda file: _labels(file, one_object), masks))
    # Of a first mask without an object the later ones tell.
    told = seen[0] if seen[0] != {0} else set.union(*seen)
    if not one_object and VOID in told and not told - {0, VOID}:
        raise ValueError(
            f"{masks[0]}: has values 0 and 255 alone; open masks of one object as davis2016:PATH"
        )
    later = set.union(*seen) - seen[0] - {0, VOID}
    return Video(name, tuple(frames), tuple(masks), size, one_object, len(later))


def _labels(file: Path, one_object: bool) -> set[int]:
    """The values that a mask has."""
    return set(np.unique(read_object_mask(file, one_object)).tolist())
