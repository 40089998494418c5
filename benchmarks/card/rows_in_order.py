"""What the card is asked, the most important first: rows of kernels and waves of steps."""

import dataclasses

from benchmarks.card.kernel_row import KERNELS, LOSSES, KernelCase
from benchmarks.card.step_wave import Wave
from benchmarks.step_case import Case, contender

HEADS = 12
# Images of 224 pixels that fit beside the other contenders of a wave; about as many tokens at
# every size.
BATCHES = {"vit_small_patch16": 256, "vit_base_patch16": 128, "vit_large_patch16": 64}
SMALL, BASE, LARGE = BATCHES
PYTORCH = ("torch compiled bfloat16", "torch compiled bfloat16 cudnn", "torch eager float32")
OURS = ("ours bfloat16", "ours bfloat16 fused", "ours bfloat16 maps")
DRY = {"model": "vit_micro_patch8", "size": 32, "batch": 2}


@dataclasses.dataclass(frozen=True)
class Kernels:
    """Rows of kernels that stand together."""

    cases: tuple[KernelCase, ...]

    @property
    def name(self) -> str:
        """How progress calls them."""
        one = self.cases[0]
        head = f"{one.part} kernels, {one.dtype}, {one.tokens} tokens, heads of {one.dim}"
        return f"{head}, {len(self.cases)} forms"

    def seconds(self) -> float:
        """About how long they take on an H100's host: a compilation each."""
        return 6.0 + 5.0 * len(self.cases)


def kernels(part: str, forms: tuple[str, ...], dtype: str, tokens: int, dim: int = 64) -> Kernels:
    """Rows of one part on one shape: as many scores as 64 images of 197 tokens have."""
    batch = max(2, round(64 * (197 / tokens) ** 2))
    return Kernels(
        tuple(KernelCase(part, form, dtype, tokens, dim, HEADS, batch) for form in forms)
    )


def wave(what: str, model: str, size: int, extra: tuple[str, ...] = ()) -> Wave:
    """All contenders that take a step."""
    case = Case(what, model, size, max(1, BATCHES[model] * 224**2 // size**2))
    found = (contender(name) for name in (*OURS, *extra, *PYTORCH))
    return Wave(case, tuple(one for one in found if one.takes(case)))


def all_items() -> list[Kernels | Wave]:
    """Everything, in the order in which time is spent on it."""
    exact = ("rows", "fused", "fused tiles", "maps")
    items: list[Kernels | Wave] = [
        kernels("loss", LOSSES, "bfloat16", 197),
        wave("distill", BASE, 224),
        kernels("attention", KERNELS, "bfloat16", 197),
        wave("scratch", BASE, 224),
        kernels("loss", exact, "float32", 197),
        wave("distill", LARGE, 224),
        kernels("loss", ("rows", "fused", "maps"), "bfloat16", 577),
        wave("copy", BASE, 224),
        wave("distill", BASE, 384),
        kernels("attention", KERNELS, "float32", 197),
        wave("distill", SMALL, 224, ("ours float32",)),
        kernels("loss", ("rows", "fused", "maps"), "bfloat16", 3137),
        kernels("loss", ("rows", "fused", "maps"), "bfloat16", 257, 80),
        kernels("attention", KERNELS, "bfloat16", 3137),
        wave("distill", BASE, 896),
        wave("scratch", LARGE, 224),
        wave("scratch", SMALL, 224),
    ]
    known = {item.case for item in items if isinstance(item, Wave)}
    rest = (
        wave(what, model, size)
        for size in (384, 896, 224)
        for model in (BASE, LARGE, SMALL)
        for what in ("scratch", "distill", "copy")
    )
    return items + [one for one in rest if one.case not in known]


def dry_items() -> list[Kernels | Wave]:
    """The same kinds of rows on a CPU: tiny, interpreted, without PyTorch's compiler."""

    def tiny(part: str, forms: tuple[str, ...]) -> Kernels:
        return Kernels(tuple(KernelCase(part, form, "float32", 5, 8, 1, 2) for form in forms))

    names = ("ours bfloat16", "ours bfloat16 maps", "torch eager float32")
    contenders = tuple(map(contender, names))
    return [
        tiny("loss", ("rows", "fused", "cudnn")),
        tiny("attention", ("auto",)),
        Wave(Case("distill", **DRY), contenders),
    ]
