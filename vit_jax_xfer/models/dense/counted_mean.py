"""A mean over what only a batch can count: labelled pixels, regions that were drawn."""

from typing import Self

import flax.struct
import jax
import jax.numpy as jnp


@flax.struct.dataclass
class CountedMean:
    """A mean as its sum and its number, so that parts of a batch make the mean of all of it.

    total: () float32. number: () float32, of things that it is the sum over. The means of parts
    would be another number wherever parts have not equally many.
    """

    total: jax.Array
    number: jax.Array

    @classmethod
    def of(cls, values: jax.Array, counted: jax.Array) -> Self:
        """Of values (B, …), those where counted (B, …), of as many axes or fewer, is True."""
        # An image's in int32, then floats: a large batch has more pixels than int32 numbers.
        number = counted.sum(tuple(range(1, counted.ndim))).astype(jnp.float32).sum()
        wide = counted.reshape(*counted.shape, *(1,) * (values.ndim - counted.ndim))
        return cls(jnp.where(wide, values.astype(jnp.float32), 0.0).sum(), number)

    def scaled(self, weight: float | jax.Array) -> Self:
        """It times a weight."""
        return self.replace(total=self.total * weight)

    def mean(self, number: jax.Array | None = None) -> jax.Array:
        """(), the mean; 0 of nothing. number: in place of its own; see `Task.loss_of_part`."""
        return self.total / (jnp.maximum(self.number, 1.0) if number is None else number)
