"""What is done to a batch of bytes on the device: normalisation, and erasing after it.

So images travel as uint8, a quarter of what floats take in workers, queues and transfers. Sums are
those of `pixels.py` in float32, but for a device's rounding of a division.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import jax
import jax.numpy as jnp

from vit_jax_xfer.data.pixels import Normalize
from vit_jax_xfer.data.random_erasing import RandomErasing
from vit_jax_xfer.data.transforms import ERASED, NOISE, Pipeline, parse

Batch = Mapping[str, jax.Array]
Levels = tuple[float, ...]


@dataclass(frozen=True)
class Finish:
    """What a pipeline leaves of its images: (batch, name of the images in it) → batch.

    normalisations: (mean, std) one after the other. erased: a mode of `random_erasing`, "" = none.
    Images that are floats are finished already, and stay as they are. Hashable.
    """

    normalisations: tuple[tuple[Levels, Levels], ...] = ()
    erased: str = ""

    @classmethod
    def of(cls, pipeline: str | Pipeline) -> "Finish":
        """What is left of a pipeline in bytes."""
        parsed = parse(pipeline) if isinstance(pipeline, str) else pipeline
        left = parsed.in_bytes().left
        means = tuple(op.levels for op in left if isinstance(op, Normalize))
        return cls(means, "".join(op.mode for op in left if isinstance(op, RandomErasing)))

    def __call__(self, batch: Batch, name: str = "image") -> dict[str, jax.Array]:
        """The batch with floats in place of bytes; what was drawn for them is taken off."""
        rest = dict(batch)
        images = rest[name]
        if images.dtype != jnp.uint8:
            return rest
        images = images.astype(jnp.float32) / 255
        for mean, std in self.normalisations:
            images = (images - jnp.array(mean)) / jnp.array(std)
        if self.erased:
            drawn = (rest.pop(name + what.removeprefix("image")) for what in (ERASED, NOISE))
            images = erase_boxes(images, *drawn, self.erased)
        return {**rest, name: images}


NOTHING = Finish()


def erase_boxes(images: jax.Array, boxes: jax.Array, keys: jax.Array, mode: str) -> jax.Array:
    """Boxes of each image give way to what `mode` of `random_erasing` says.

    images: (B, H, W, C). boxes: (B, N, 4) int, top, left, height and width. keys: (B, 2) uint32, of
    each image's noise, so that no other image and no mesh changes it.
    """
    height, width, channels = images.shape[1:]
    rows, columns = jnp.arange(height)[:, None], jnp.arange(width)

    def one(image: jax.Array, boxes: jax.Array, key: jax.Array) -> jax.Array:
        shape = {"pixel": image.shape, "rand": (len(boxes), channels), "const": (channels,)}[mode]
        noise = jnp.zeros(shape) if mode == "const" else normal_noise(key, shape)
        for number, (top, left, box_height, box_width) in enumerate(boxes):
            inside = (rows >= top) & (rows < top + box_height)
            inside &= (columns >= left) & (columns < left + box_width)
            image = jnp.where(inside[..., None], noise[number] if mode == "rand" else noise, image)
        return image

    return jax.vmap(one)(images, boxes, keys)


def normal_noise(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Standard normal float32 numbers, each a function of its place and the key, (2,) uint32.

    A hash of 32 bits (C. Wellons' lowbias32), once with each half of the key. An image of 224
    pixels takes a CPU a tenth of what `jax.random` does, whose numbers are better than this needs.
    """

    def hashed(values: jax.Array) -> jax.Array:
        values = (values ^ values >> 16) * jnp.uint32(0x7FEB352D)
        values = (values ^ values >> 15) * jnp.uint32(0x846CA68B)
        return values ^ values >> 16

    places = jnp.arange(math.prod(shape), dtype=jnp.uint32).reshape(shape)
    bits = hashed(hashed(places + key[0]) ^ key[1]) >> 8
    # The middles of 2**24 equal parts of (-1, 1): never an end, where the result is infinite.
    uniform = bits.astype(jnp.float32) * 2.0**-23 + (2.0**-24 - 1)
    return math.sqrt(2) * jax.lax.erf_inv(uniform)
