"""What a benchmark of steps measures: a case, the contenders for it, and their operations."""

import dataclasses
from collections.abc import Sequence

from vit_jax_xfer import create_model
from vit_jax_xfer.compiler import LIBRARIES
from vit_jax_xfer.models.multiply_adds import multiply_adds

CLASSES = 1000
WEIGHT = 3.0  # of the maps' distance, as published (2411.09702)
LEARNING_RATE, WEIGHT_DECAY = 1e-4, 0.05
FRAMEWORKS: tuple[str, ...] = ("jax", "torch")
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

# Of ours, which attention; "fused" is the distillation loss's own kernel. Of PyTorch's fused
# attention "cudnn" alone, in place of what it chooses by itself.
KERNEL_WORDS: tuple[str, ...] = ("plain", "blockwise", "cudnn", "splash", "tokamax", "fused")


class Skipped(Exception):
    """Why a row is not there, in one line."""


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


RUNTIMES: tuple[str, ...] = ("onnxruntime", "openvino")
PRODUCTS = "products"


@dataclasses.dataclass(frozen=True)
class Contender:
    """One way of taking a step.

    framework: ours | torch | onnxruntime | openvino, the last two of our network as an ONNX file;
    products: the network's products alone, by `of`, jax or torch (product_rate.py).
    small_products: ours multiplies tokens with weights in bfloat16 (`model.product_dtype`).
    maps: ours builds them for the transfer. saver: of SAVERS.
    fused: PyTorch takes its fused attention and torch.compile, else it is eager and builds scores.
    kernel: of KERNEL_WORDS. library: that multiplies ours on a CPU, of the compiler's LIBRARIES, ""
    for its choice.
    """

    framework: str
    dtype: str = "float32"
    small_products: bool = False
    maps: bool = False
    saver: str = ""
    fused: bool = False
    of: str = ""
    kernel: str = ""
    library: str = ""

    @property
    def name(self) -> str:
        """How tables call it."""
        extra = ["bfloat16-products" if self.small_products else self.dtype]
        if self.framework == "torch":
            extra = ["compiled" if self.fused else "eager", self.dtype]
        elif self.framework == PRODUCTS:
            extra = [self.of, self.dtype]
        extra += ["maps"] if self.maps else []
        extra += [self.saver] if self.saver else []
        extra += [self.kernel] if self.kernel else []
        extra += [self.library] if self.library else []
        return " ".join([self.framework, *extra])

    @property
    def multiplies_in(self) -> str:
        """The type of its products."""
        return "bfloat16" if self.small_products else self.dtype

    def takes(self, case: Case) -> bool:
        """Whether it has this case, and differs from the others there."""
        if self.framework in RUNTIMES:
            return case.what == "inference"
        if self.kernel == "fused" and case.what != "distill":
            return False
        return not self.maps or case.what in ("copy", "distill")


def contender(name: str) -> Contender:
    """The contender of a name such as "ours bfloat16 maps". ValueError for an unknown one."""
    words = name.split()
    savers = [word for word in words if word in SAVERS and word]
    framework = words[0] if words else ""
    found = Contender(
        framework=framework,
        dtype="bfloat16" if "bfloat16" in words else "float32",
        small_products="bfloat16-products" in words,
        maps="maps" in words,
        saver=savers[0] if savers else "",
        fused="compiled" in words,
        of="".join(word for word in words[1:2] if framework == PRODUCTS and word in FRAMEWORKS),
        kernel="".join(word for word in words if word in KERNEL_WORDS),
        library="".join(word for word in words if framework == "ours" and word in LIBRARIES),
    )
    known = ("ours", "torch", *RUNTIMES, PRODUCTS)
    whole = bool(found.of) == (framework == PRODUCTS)
    # The compiler minds a library's name for float32 products alone.
    minded = not found.library or (found.multiplies_in == "float32" and found.saver != "defaults")
    if (
        framework not in known
        or not (whole and minded)
        or sorted(found.name.split()) != sorted(words)
    ):
        raise ValueError(
            f"--contenders: {name!r} is none; examples: 'ours float32', 'ours bfloat16-products', "
            "'ours bfloat16 maps', 'ours float32 remat', 'torch eager float32', "
            "'torch compiled bfloat16', 'onnxruntime float32', 'openvino bfloat16'"
        )
    return found


def products_beside(contenders: Sequence[Contender]) -> list[Contender]:
    """The products alone, in both frameworks, in every type that a contender multiplies in."""
    types = dict.fromkeys(one.multiplies_in for one in contenders if one.framework != PRODUCTS)
    return [Contender(PRODUCTS, dtype, of=name) for dtype in types for name in FRAMEWORKS]


def peak_tflops(device: str, dtype: str) -> float | None:
    """What a device can do in a type, None where that isn't known."""
    known = [peak for part, peak in PEAKS.items() if part in device]
    return known[0] if known and dtype == "bfloat16" else None
