"""What a benchmark of steps measures: a case, the contenders for it, and their operations."""

import dataclasses

from vit_jax_xfer import create_model
from vit_jax_xfer.models.multiply_adds import multiply_adds

CLASSES = 1000
WEIGHT = 3.0  # of the maps' distance, as published (2411.09702)
LEARNING_RATE, WEIGHT_DECAY = 1e-4, 0.05
WHATS: tuple[str, ...] = ("inference", "scratch", "copy", "distill")
# Fields of the network that save memory or compilation, for ours alone; "defaults" leaves out what
# `compiler_options` says, to show what that does.
SAVERS: dict[str, dict[str, object]] = {
    "": {},
    "defaults": {},
    "remat": {"remat": "full"},
    "dots": {"remat": "dots"},
    "scan": {"scan": True},
}

# Dense bf16 products in TFLOP/s by the makers' data sheets, by a part of a device's name; the first
# that fits counts.
PEAKS: dict[str, float] = {
    "H200": 989.0,
    "H100 PCIe": 756.0,
    "H100": 989.0,
    "A100": 312.0,
    "TPU v4": 275.0,
    "TPU v5 lite": 197.0,
    "TPU v5": 459.0,
    "TPU v6 lite": 918.0,
}


@dataclasses.dataclass(frozen=True)
class Case:
    """One step: what it does, with which network, at how many pixels, on how many images."""

    what: str
    model: str
    size: int
    batch: int

    def gflops(self) -> float:
        """Of the network's products: 3 × forward for training, and a teacher's forward pass.

        What a contender computes again, and the transfer itself, is not counted.
        """
        model = create_model(self.model, image_size=self.size, num_classes=CLASSES)
        forward = 2e-9 * multiply_adds(model, batch=self.batch)
        times = {"inference": 1, "scratch": 3, "copy": 4, "distill": 4}[self.what]
        return times * forward


@dataclasses.dataclass(frozen=True)
class Contender:
    """One way of taking a step.

    framework: ours | torch. maps: ours builds them for the transfer. saver: of SAVERS.
    fused: PyTorch takes its fused attention and torch.compile, else it is eager and builds scores.
    """

    framework: str
    dtype: str = "float32"
    maps: bool = False
    saver: str = ""
    fused: bool = False

    @property
    def name(self) -> str:
        """How tables call it."""
        extra = [self.dtype] if self.framework == "ours" else []
        extra += ["maps"] if self.maps else []
        extra += [self.saver] if self.saver else []
        if self.framework == "torch":
            extra = ["compiled" if self.fused else "eager", self.dtype]
        return " ".join([self.framework, *extra])

    def takes(self, case: Case) -> bool:
        """Whether it differs from the others for this case."""
        return not self.maps or case.what in ("copy", "distill")


def contender(name: str) -> Contender:
    """The contender of a name such as "ours bfloat16 maps". ValueError for an unknown one."""
    words = name.split()
    savers = [word for word in words if word in SAVERS and word]
    found = Contender(
        framework=words[0] if words else "",
        dtype="bfloat16" if "bfloat16" in words else "float32",
        maps="maps" in words,
        saver=savers[0] if savers else "",
        fused="compiled" in words,
    )
    if found.framework not in ("ours", "torch") or sorted(found.name.split()) != sorted(words):
        raise ValueError(
            f"--contenders: {name!r} is none; examples: 'ours float32', 'ours bfloat16 maps', "
            "'ours float32 remat', 'torch eager float32', 'torch compiled bfloat16'"
        )
    return found


def peak_tflops(device: str, dtype: str) -> float | None:
    """What a device can do in a type, None where that isn't known."""
    known = [peak for part, peak in PEAKS.items() if part in device]
    return known[0] if known and dtype == "bfloat16" else None
