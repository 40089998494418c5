"""FilterViT and DropoutViT: the whole network, and the published ones."""

import itertools
import operator
from typing import Any

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp

from vit_jax_xfer.models.collections import resolve_layers
from vit_jax_xfer.models.devices import one_cpu
from vit_jax_xfer.models.filter.convolution import (
    InvertedResidual,
    Stem,
    adaptive_pool,
)
from vit_jax_xfer.models.filter.filter_blocks import (
    FilterAttention,
    FullAttention,
    PooledAttention,
    Stage,
)
from vit_jax_xfer.models.filter.patterns import PATTERNS
from vit_jax_xfer.models.filter.stage_checks import check_stages
from vit_jax_xfer.models.preprocessing import INCEPTION, Preprocessing
from vit_jax_xfer.models.protocol import Layers, Network
from vit_jax_xfer.models.pytorch_init import TORCH_KERNEL, torch_bias
from vit_jax_xfer.models.transformer.patches import ImageSize, check_images, sides_of

_AT_55, _AT_28 = 256 / 55**2, 128 / 28**2  # the published table of what is kept, as shares

PUBLISHED: dict[str, dict[str, Any]] = {
    "filter_vit_xxs": {
        "stem_width": 64,
        "stem_expand": 2,
        "stages": (
            Stage("pooled", 64, 2, stride=2, grid=20),
            Stage("filter", 64, 2, keep=_AT_55),
            Stage("filter", 64, 4, stride=2, keep=_AT_55),
            Stage("filter", 128, 4, keep=_AT_28),
            Stage("filter", 128, 4, keep=_AT_28),
            Stage("full", 128, 8, stride=2),
            Stage("full", 128, 8, stride=2),
        ),
        "head_width": 384,
    },
    "filter_vit_xs": {
        "stem_width": 64,
        "stem_expand": 3,
        "stages": (
            Stage("pooled", 128, 2, stride=2, grid=11),
            Stage("filter", 128, 4, expand=3, keep=_AT_55),
            Stage("pooled", 128, 2, stride=2, grid=11),
            Stage("filter", 128, 4, expand=3, keep=_AT_28),
            Stage("filter", 128, 4, expand=3, keep=_AT_28),
            Stage("pooled", 128, 2, stride=2, grid=7),
            Stage("full", 128, 8, stride=2),
            Stage("full", 256, 8, stride=2),
        ),
        "head_width": 384,
    },
    "filter_vit_s": {
        "stem_width": 128,
        "stem_expand": 3,
        "stages": (
            Stage("pooled", 128, 2, layers=2, stride=2, grid=16),
            Stage("filter", 128, 4, layers=2, keep=_AT_55),
            Stage("filter", 128, 4, expand=3, layers=2, stride=2, keep=_AT_55),
            Stage("filter", 128, 4, expand=3, layers=2, keep=_AT_28),
            Stage("filter", 256, 4, expand=3, layers=2, stride=2, keep=_AT_28),
            Stage("full", 256, 8, layers=2, stride=2),
            Stage("full", 256, 8, layers=2, stride=2),
        ),
        "head_width": 512,
    },
    "filter_vit_s2": {
        "stem_width": 128,
        "stem_expand": 3,
        "stages": (
            Stage("pooled", 128, 2, layers=2, stride=2, grid=20),
            Stage("filter", 128, 8, layers=2, keep=_AT_55),
            Stage("filter", 128, 8, layers=2, stride=2, keep=_AT_55),
            Stage("filter", 128, 8, layers=2, stride=2, keep=_AT_28),
            # Its map is 14×14, but it keeps as many and counts positions as on 28×28.
            Stage("filter", 256, 8, layers=2, stride=2, keep=128 / 14**2, position_width=28),
            Stage("full", 256, 16, layers=2, reduce=4),
            Stage("full", 256, 16, layers=2, stride=2, reduce=2),
            Stage("full", 512, 16, layers=2, reduce=8),
            Stage("full", 512, 16, layers=2, stride=2, reduce=4),
        ),
        "head_width": 0,
    },
}
PUBLISHED["dropout_vit_xs"] = {**PUBLISHED["filter_vit_xs"], "choose": "random"}
for _fields in PUBLISHED.values():
    _fields["preprocessing"] = Preprocessing(*INCEPTION, crop=0.875, interpolation="bilinear")

# This project's own, for images of 24 to 64 pixels: the kinds of blocks of the published xs, and a
# quarter of the pixels kept.
MICRO: dict[str, Any] = {
    "image_size": 32,
    "stem_width": 16,
    "stem_expand": 2,
    "stages": (
        Stage("pooled", 32, 2, grid=7),
        Stage("filter", 32, 2, keep=0.25),
        Stage("filter", 64, 2, stride=2, keep=0.25),
        Stage("full", 64, 4, stride=2),
    ),
    "head_width": 128,
    "preprocessing": Preprocessing(*INCEPTION, crop=1.0, interpolation="bilinear"),
}

NETWORKS: dict[str, dict[str, Any]] = {
    **PUBLISHED,
    "filter_vit_micro": MICRO,
    "dropout_vit_micro": {**MICRO, "choose": "random"},
}

PART_PIXELS = 224 * 224  # of images that a CPU runs at once
MAP_STRIDES = (4, 8, 16, 32)  # of the maps that heads for places take


@flax.struct.dataclass
class FilterOutput:
    """features (B, h, w, C) after the last block, pooled (B, C), logits (B, K) or None."""

    features: jax.Array
    pooled: jax.Array
    logits: jax.Array | None


class FilterViT(Network):
    """Images (B, H, W, 3) float32 → logits (B, K), or the pooled features where there is no head.

    Any image size: what a stage keeps is a share of its pixels, or a number.
    """

    collections = ("filter",)
    starts_afresh = ("head_hidden", "head")
    assumed_mean_std = INCEPTION  # as its authors prepare images

    stages: tuple[Stage, ...]
    image_size: ImageSize = 224  # that it is meant for; any other works
    stem_width: int = 64
    stem_expand: int = 3
    stem_stride: int = 2
    stem_grid: int = 0  # pool to this side after the stem, as the published xs does; 0 = don't
    num_classes: int = 1000  # 0 = no head
    head_width: int = 384  # of the head's hidden layer; 0 = a single linear layer
    choose: str = "score"  # score | random (DropoutViT)
    attend: str = "kept"  # kept | window | lsh | low_rank | deformable | all | none: patterns.py
    keep: float | int | tuple[float | int, ...] | None = None  # a stage; None = as published
    straight_through: bool = False  # scores get their gradient without weighing the map
    approximate: bool = False  # lax.approx_max_k in place of lax.top_k
    shared_draw: bool = False  # one random choice for the whole batch, as published
    random_evaluation: bool = False  # random choices at evaluation too, as published
    dropout: float = 0.1  # in the encoders
    head_dropout: float = 0.5
    preprocessing: Preprocessing | None = None  # how its images are prepared; travels along
    class_names: tuple[str, ...] | None = None  # of the outputs, in order; travel along
    dtype: Any = jnp.float32

    def __call__(self, images: jax.Array, train: bool = False) -> jax.Array:
        out = self.forward(images, train)
        return out.pooled if out.logits is None else out.logits

    def forward(self, images: jax.Array, train: bool = False) -> FilterOutput:
        """Every stage of the result. train=True takes rngs={"dropout": key}, moves batch_stats."""
        self._check(images)
        if 0 < (part := self._part(images, train)) < images.shape[0]:
            return self._in_parts(images, part)
        return self._run(images, train)[1]

    @nn.compact
    def _run(self, images: jax.Array, train: bool) -> tuple[list[jax.Array], FilterOutput]:
        """The map after each stage, (B, h, w, C), and what comes of the last."""
        x = Stem(self.stem_width, self.stem_stride, self.dtype, name="stem")(images, train)
        residual = InvertedResidual(
            self.stem_width, 1, self.stem_expand, self.dtype, name="stem_residual"
        )
        x = residual(x, train)
        if self.stem_grid:
            x = adaptive_pool(x, (self.stem_grid, self.stem_grid))
        maps = []
        for i, stage in enumerate(self.stages):
            x = self._block(i, stage)(x, train)
            maps.append(x)
        pooled = x.mean(axis=(1, 2))
        logits = self._head(pooled, train) if self.num_classes else None
        return maps, FilterOutput(x, pooled, logits)

    def _part(self, images: jax.Array, train: bool) -> int:
        """How many images run at once; 0 = all.

        A CPU runs a few after the others, whose maps stay in its caches, where a batch is only
        classified: not in training, watched, told what to keep, or with random choices.
        """
        watched = any(self.is_mutable_collection(c) for c in ("filter", "intermediates"))
        apart = train or watched or "given" in self.variables or self.random_evaluation
        if apart or self.is_initializing() or not one_cpu():
            return 0
        return max(1, PART_PIXELS // (images.shape[1] * images.shape[2]))

    def _in_parts(self, images: jax.Array, part: int) -> FilterOutput:
        """`forward` on `part` images after the other, and on those that are left."""
        network, variables = self.clone(parent=None), self.variables
        whole = len(images) // part * part

        def run(images: jax.Array) -> FilterOutput:
            return network.apply(variables, images, method="forward")

        out = jax.lax.map(run, images[:whole].reshape(-1, part, *images.shape[1:]))
        out = jax.tree.map(lambda x: x.reshape(whole, *x.shape[2:]), out)
        if whole == len(images):
            return out
        rest = run(images[whole:])
        return jax.tree.map(lambda x, y: jnp.concatenate([x, y]), out, rest)

    @property
    def encoder(self) -> "FilterViT":
        """Itself."""
        return self

    @property
    def kind(self) -> str:
        return "FilterViT" if self.choose == "score" else "DropoutViT"

    def summary(self) -> dict[str, str]:
        height, width = sides_of(self.image_size)
        image = f"{height}" if height == width else f"{height}×{width}"
        return {
            "sizes": f"image {image}, classes {self.num_classes}",
            "stages": ", ".join(f"{stage.kind} {stage.width}" for stage in self.stages),
        }

    @property
    def depth(self) -> int:
        """Blocks after the stem."""
        return len(self.stages)

    @property
    def map_strides(self) -> tuple[int, ...]:
        return tuple(stride for stride, _ in self.map_layout())

    @property
    def map_widths(self) -> tuple[int, ...]:
        return tuple(width for _, width in self.map_layout())

    @nn.nowrap
    def map_layout(self, layers: Layers = None) -> tuple[tuple[int, int], ...]:
        chosen = self._map_stages() if layers is None else resolve_layers(layers, self.depth)
        strides = self._strides()
        return tuple((strides[i], self.stages[i].width) for i in chosen)

    def _strides(self) -> tuple[int, ...]:
        """Pixels from one cell to the next after each stage."""
        if self.stem_grid:
            raise ValueError("stem_grid: maps of a fixed side have no stride; leave it 0")
        strides = (stage.stride for stage in self.stages)
        return tuple(itertools.accumulate(strides, operator.mul, initial=self.stem_stride))[1:]

    def _map_stages(self) -> tuple[int, ...]:
        """The last stage of each stride of MAP_STRIDES."""
        last = {stride: i for i, stride in enumerate(self._strides())}
        return tuple(i for stride, i in last.items() if stride in MAP_STRIDES)

    def feature_maps(
        self, images: jax.Array, train: bool = False, layers: Layers = None
    ) -> tuple[jax.Array, ...]:
        """The maps after each of these stages, (B, h, w, C); None = the last of each stride.

        Their sides are what the network's convolutions give, a cell less than H / stride at the
        finest: the first has no padding.
        """
        chosen = self._map_stages() if layers is None else resolve_layers(layers, self.depth)
        self._check(images)
        maps, _ = self._run(images, train)
        return tuple(maps[i] for i in chosen)

    def num_tokens(self, image_shape: tuple[int, ...]) -> int:
        """Pixels of the first map, which an image (…, H, W, 3) becomes. ValueError if too small."""
        sides = [(n - 5) // self.stem_stride + 1 for n in image_shape[-3:-1]]
        if min(image_shape[-3:-1]) < 5:
            raise ValueError(
                f"image_size: {image_shape[-3]}×{image_shape[-2]} pixels; the first convolution "
                "needs 5 each way"
            )
        return sides[0] * sides[1]

    def _block(self, i: int, stage: Stage) -> nn.Module:
        if self.attend == "none":
            return InvertedResidual(
                stage.width, stage.stride, stage.expand, self.dtype, name=f"stage_{i}"
            )
        if stage.kind == "pooled":
            return PooledAttention(stage, self.dropout, self.dtype, name=f"stage_{i}")
        if stage.kind == "full":
            return FullAttention(stage, self.dropout, self.dtype, name=f"stage_{i}")
        return FilterAttention(
            stage,
            self.dropout,
            choose=self.choose,
            attend=self.attend,
            keep=self._keep(i) if self.attend == "kept" else None,
            straight_through=self.straight_through,
            approximate=self.approximate,
            shared_draw=self.shared_draw,
            random_evaluation=self.random_evaluation,
            index=i,
            dtype=self.dtype,
            name=f"stage_{i}",
        )

    def _check(self, images: jax.Array) -> None:
        check_images(images)
        self.num_tokens(images.shape)
        for field, allowed in (
            ("choose", ("score", "random")),
            ("attend", ("kept", *PATTERNS, "none")),
        ):
            if getattr(self, field) not in allowed:
                raise ValueError(f"{field}: {getattr(self, field)!r} is none of {allowed}")
        check_stages(self.stages, self.stem_width, self.attend != "none")

    def _keep(self, i: int) -> int | float | None:
        """What filter stage i keeps, None for its own share."""
        if not isinstance(self.keep, tuple):
            return self.keep
        filters = self.filter_stages
        if len(self.keep) != len(filters):
            raise ValueError(
                f"keep: got {len(self.keep)} values for {len(filters)} filter stages; give one for "
                "each, or one for all"
            )
        return self.keep[filters.index(i)]

    @property
    def filter_stages(self) -> list[int]:
        """The indices of the stages that choose pixels; none where all pixels attend, or none."""
        if self.attend != "kept":
            return []
        return [i for i, stage in enumerate(self.stages) if stage.kind == "filter"]

    def _head(self, pooled: jax.Array, train: bool) -> jax.Array:
        x = pooled
        if self.head_width:
            x = x.astype(self.dtype)
            x = self.activate(self._dense(self.head_width, "head_hidden", x)(x))
            x = nn.Dropout(self.head_dropout, deterministic=not train)(x)
        # Logits are float32 at least, as the vision transformer's.
        x = x.astype(jnp.promote_types(jnp.float32, x.dtype))
        return self._dense(self.num_classes, "head", x)(x)

    def activate(self, x: jax.Array) -> jax.Array:
        """The head's activation; a method, which an onlooker can replace (collections.py)."""
        return nn.gelu(x, approximate=False)

    def _dense(self, width: int, name: str, x: jax.Array) -> nn.Dense:
        return nn.Dense(
            width,
            kernel_init=TORCH_KERNEL,
            bias_init=torch_bias(x.shape[-1]),
            dtype=x.dtype,
            name=name,
        )
