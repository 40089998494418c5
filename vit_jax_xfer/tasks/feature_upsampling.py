"""Learning to double the resolution of a frozen backbone's features (LiFT, 2403.14625)."""

import dataclasses
from typing import TYPE_CHECKING, Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from vit_jax_xfer.features.backbone import Backbone
from vit_jax_xfer.features.feature_extractor import FeatureExtractor
from vit_jax_xfer.models.lifting.lift import double
from vit_jax_xfer.models.lifting.lift_loss import (
    DISTANCES,
    SHRINKS,
    cosine_similarity,
    lift_loss_and_stats,
    shrink_images,
)
from vit_jax_xfer.models.registry import create_model
from vit_jax_xfer.tasks.configured_model import check_predicts, given_fields, initial_variables
from vit_jax_xfer.tasks.task import Aux, Batch, Shown, Task, Variables
from vit_jax_xfer.tasks.teacher_view import View, view_between
from vit_jax_xfer.tasks.teachers import Loader, backbone_in, load_backbone_of
from vit_jax_xfer.transfer.views import Normalisation

if TYPE_CHECKING:  # tasks import where there are no configs
    from ml_collections import ConfigDict


@dataclasses.dataclass(frozen=True)
class FeatureUpsamplingSettings:
    """The fields of `config.task` for "feature_upsampling"."""

    backbone: str = ""  # a run's folder or checkpoint, or any file that load_pretrained reads
    backbone_family: str = ""  # of load_pretrained; "" = told from its names
    backbone_num_heads: int = 0  # where shapes can't tell and 64 channels a head is wrong
    backbone_dtype: str = ""  # bfloat16 | float32: kept and computing in it; "" = as it is stored
    backbone_product_dtype: str = ""  # bfloat16 | float32: of its products, see models/products.py
    facet: str = "key"  # key | query | value | token | normed: the token after the final norm
    layer: int = -1  # the block, negative counts from the end
    loss: str = "cosine"  # cosine | l1 | l2
    shrink: str = "pick"  # pick: every n-th pixel, as published | resize: antialiased
    depths: int = 1  # 2: the quarter's features doubled twice, too, against the full ones


@dataclasses.dataclass
class FeatureUpsampling(Task):
    """Features of a shrunken image, doubled, against those of the image; the backbone is frozen."""

    model: nn.Module
    settings: FeatureUpsamplingSettings
    backbone: Backbone
    frozen: Variables  # the backbone's variables
    initial: Variables | None = None
    view: View = View()  # the backbone's images from the run's
    needs_labels: bool = False
    frozen_field: str = "task.backbone"
    name: ClassVar[str] = "feature_upsampling"
    settings_type: ClassVar[type[FeatureUpsamplingSettings]] = FeatureUpsamplingSettings

    @classmethod
    def from_config(
        cls,
        config: "ConfigDict",
        settings: FeatureUpsamplingSettings,
        image_shape: tuple[int, int, int],
        num_classes: int,
        load: Loader,
    ) -> "FeatureUpsampling":
        backbone, frozen = load_backbone_of(settings, load)
        # Patch size and width of a network that doubles features are the backbone's.
        own = {"patch_size": backbone.patch_size, "width": backbone.width}
        model = create_model(config.model["name"], **{**own, **given_fields(config.model)})
        check_predicts(config.model, model, "features")
        # Its source is known by the weights as they are stored, whatever type they run in.
        model = model.with_fields(source=backbone.source(frozen))
        backbone, frozen = backbone_in(
            backbone, frozen, settings.backbone_dtype, settings.backbone_product_dtype
        )
        view = view_between(config, Normalisation(*backbone.mean_std))
        initial = initial_variables(config, model)
        return cls(model, settings, backbone, frozen, initial, view)

    def init(self, key: jax.Array) -> Variables:
        return self.model.init_variables(key)

    def loss(
        self, variables: Variables, frozen: Variables, batch: Batch, key: jax.Array
    ) -> tuple[jax.Array, Aux]:
        images = self.view(batch["image"])
        loss, stats = self._distance(variables, images, self._pyramid(frozen, images), train=True)
        return loss, Aux({}, stats)

    def evaluate(
        self, variables: Variables, frozen: Variables, batch: Batch
    ) -> dict[str, jax.Array]:
        """The loss, and how alike doubled and true features are, beside bilinear doubling's."""
        images, mask = self.view(batch["image"]), batch["mask"]
        pyramid = self._pyramid(frozen, images)

        def one(image: jax.Array, *maps: jax.Array) -> jax.Array:
            batched = [x[None] for x in maps]
            return self._distance(variables, image[None], batched, train=False)[0]

        sums = {"loss": jax.vmap(one)(images, *pyramid)}
        half = shrink_images(images, 2, self.settings.shrink)
        found = self.model.apply(variables, half, pyramid[1])
        for name, doubled in (("cosine", found), ("bilinear_cosine", double(pyramid[1]))):
            sums[name] = cosine_similarity(doubled, pyramid[0]).mean(axis=(1, 2))
        sums = {name: jnp.where(mask, values, 0).sum() for name, values in sums.items()}
        return {**sums, "count": mask.sum()}

    def feature_extractor(
        self, variables: Variables, frozen: Variables, mean_std: Any
    ) -> FeatureExtractor:
        return FeatureExtractor("doubled", self.backbone, (frozen, variables), self.model)

    def networks_shown(self) -> dict[str, Shown]:
        raise ValueError("a network that doubles features attends to nothing that could be shown")

    def check(self, image_shape: tuple[int, ...]) -> None:
        for field, allowed in (("loss", DISTANCES), ("shrink", SHRINKS)):
            value = getattr(self.settings, field)
            if value not in allowed:
                raise ValueError(f"task.{field}: {value!r} is none of {', '.join(allowed)}")
        if self.settings.depths not in (1, 2):
            raise ValueError(f"task.depths: expected 1 or 2, got {self.settings.depths}")
        patch = self.backbone.patch_size
        if any(side < 4 * patch or side % (4 * patch) for side in image_shape[:2]):
            raise ValueError(
                f"data.pipeline: images of {image_shape[0]}×{image_shape[1]} pixels; a quarter of "
                f"them must be whole {patch}-pixel patches, so sides are multiples of {4 * patch}"
            )
        for field in ("patch_size", "width"):
            own, wanted = getattr(self.model, field), getattr(self.backbone, field)
            if own != wanted:
                raise ValueError(f"model.{field}: {own}, and the backbone has {wanted}; leave it")

    def _pyramid(self, frozen: Variables, images: jax.Array) -> list[jax.Array]:
        """The backbone's features of images, of their half and of their quarter."""
        sizes = [images, *(shrink_images(images, n, self.settings.shrink) for n in (2, 4))]
        return [self.backbone(frozen, one) for one in sizes]

    def _distance(
        self, variables: Variables, images: jax.Array, pyramid: list[jax.Array], train: bool
    ) -> tuple[jax.Array, Variables]:
        s = self.settings
        return lift_loss_and_stats(
            self.model, variables, images, pyramid, s.loss, s.shrink, train, depths=s.depths
        )
