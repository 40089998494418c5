"""Masked pre-training: a teacher from images alone (MAE, 2111.06377)."""

import dataclasses
from typing import TYPE_CHECKING, ClassVar

import jax
import jax.numpy as jnp

from vit_jax_xfer.models.mae import MaskedAutoencoder, mae_forward
from vit_jax_xfer.models.transformer.patches import grid_of
from vit_jax_xfer.tasks.configured_model import build_model, check_predicts, initial_variables
from vit_jax_xfer.tasks.task import Aux, Batch, Task, Variables
from vit_jax_xfer.tasks.teachers import Loader

if TYPE_CHECKING:  # tasks import where there are no configs
    from ml_collections import ConfigDict


@dataclasses.dataclass(frozen=True)
class MaskedPretrainingSettings:
    """The fields of `config.task` for "masked_pretraining"."""

    mask_ratio: float = 0.75
    norm_pix_loss: bool = True  # standardise each patch's pixels before comparing


@dataclasses.dataclass
class MaskedPretraining(Task):
    """The pixels of hidden patches from the visible ones."""

    model: MaskedAutoencoder
    settings: MaskedPretrainingSettings
    initial: Variables | None = None
    frozen: Variables = dataclasses.field(default_factory=dict)
    needs_labels: bool = False
    name: ClassVar[str] = "masked_pretraining"
    settings_type: ClassVar[type[MaskedPretrainingSettings]] = MaskedPretrainingSettings

    @classmethod
    def from_config(
        cls,
        config: "ConfigDict",
        settings: MaskedPretrainingSettings,
        image_shape: tuple[int, int, int],
        num_classes: int,
        load: Loader,
    ) -> "MaskedPretraining":
        model = build_model(config.model, image_shape, num_classes)
        check_predicts(config.model, model, "pixels")
        return cls(model, settings, initial_variables(config, model))

    def init(self, key: jax.Array) -> Variables:
        return self.model.init_variables(key)

    def loss(
        self, variables: Variables, frozen: Variables, batch: Batch, key: jax.Array
    ) -> tuple[jax.Array, Aux]:
        noise_key, dropout_key = jax.random.split(key)
        images = batch["image"]
        loss, _, _ = mae_forward(
            self.model,
            variables,
            images,
            noise=jax.random.uniform(noise_key, self._noise_shape(images)),
            mask_ratio=self.settings.mask_ratio,
            norm_pix_loss=self.settings.norm_pix_loss,
            train=True,
            rngs={"dropout": dropout_key},
        )
        return loss, Aux({})

    def evaluate(
        self, variables: Variables, frozen: Variables, batch: Batch
    ) -> dict[str, jax.Array]:
        images, mask = batch["image"], batch["mask"]
        key, number = jax.random.key(0), self._noise_shape(images)[1:]
        # Each image's mask hangs on its index alone, so that the batch size changes nothing.
        noise = jax.vmap(lambda i: jax.random.uniform(jax.random.fold_in(key, i), number))(
            batch["index"]
        )

        def one(image: jax.Array, row: jax.Array) -> jax.Array:
            return mae_forward(
                self.model,
                variables,
                image[None],
                noise=row[None],
                mask_ratio=self.settings.mask_ratio,
                norm_pix_loss=self.settings.norm_pix_loss,
            )[0]

        losses = jax.vmap(one)(images, noise)
        return {"loss": jnp.where(mask, losses, 0).sum(), "count": mask.sum()}

    def check(self, image_shape: tuple[int, ...]) -> None:
        self.model.num_tokens(image_shape)

    def _noise_shape(self, images: jax.Array) -> tuple[int, int]:
        h, w = grid_of(images.shape[1:3], self.model.encoder.patch_size)
        return images.shape[0], h * w
