"""The full recipe's input as users of PyTorch have it: timm's or torchvision's transforms."""

from collections.abc import Iterator, Sequence
from typing import Any

POLICY = "rand-m9-mstd0.5-inc1"
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def transforms(library: str, size: int) -> Any:
    """timm: the published recipes' own. v2: torchvision's, with its own RandAugment at 9."""
    _import_torchvision()
    if library == "timm":
        _allow_no_bits()
        from timm.data import create_transform

        return create_transform(
            size,
            is_training=True,
            interpolation="bicubic",
            auto_augment=POLICY,
            re_prob=0.25,
            re_mode="pixel",
            mean=MEAN,
            std=STD,
        )
    import torch
    from torchvision.transforms import InterpolationMode, v2

    return v2.Compose(
        [
            v2.RandomResizedCrop(size, interpolation=InterpolationMode.BICUBIC),
            v2.RandomHorizontalFlip(),
            v2.RandAugment(interpolation=InterpolationMode.BICUBIC),
            v2.PILToTensor(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(MEAN, STD),
            v2.RandomErasing(0.25, value="random"),
        ]
    )


def batches(
    files: Sequence[str], library: str, size: int, batch_size: int, workers: int
) -> Iterator[Any]:
    """Endless batches (B, 3, H, W) float32 on the first GPU where there is one."""
    import torch
    from torch.utils.data import DataLoader

    torch.set_num_threads(1)  # in this process too, as it is in workers
    device = "cuda" if torch.cuda.is_available() else "cpu"
    loader = DataLoader(
        Files(files, transforms(library, size)),
        batch_size,
        shuffle=True,
        num_workers=workers,
        drop_last=True,
        pin_memory=device == "cuda",
        persistent_workers=workers > 0,
    )
    while True:
        for images, _ in loader:
            yield images.to(device, non_blocking=True)


class Files:
    """A data set as torchvision's folders read one."""

    def __init__(self, files: Sequence[str], transform: Any):
        self.files, self.transform = list(files), transform

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        return self.transform(opened(self.files[index])), 0


def opened(file: str) -> Any:
    """The file's image in RGB."""
    from PIL import Image

    with open(file, "rb") as stream:  # noqa: PTH123 - as theirs
        return Image.open(stream).convert("RGB")


def _import_torchvision() -> None:
    """Imports it; without its compiled operations as well, of which transforms need none."""
    try:
        import torchvision  # noqa: F401
    except RuntimeError:  # its operator nms does not exist
        import torch

        library = torch.library.Library("torchvision", "DEF")
        for name in ("nms", "qnms"):
            library.define(f"{name}(Tensor a) -> Tensor")
        globals()["_kept"] = library  # what it defines is gone with it
        import torchvision  # noqa: F401


def _allow_no_bits() -> None:
    """Pillow 13 refuses to keep 0 bits, which timm asks for at times; here it keeps one."""
    from PIL import ImageOps

    posterize = ImageOps.posterize
    ImageOps.posterize = lambda image, bits: posterize(image, max(bits, 1))
