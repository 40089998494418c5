"""Repeated augmentation: each image several times in one batch, prepared anew each time."""

from collections.abc import Sequence


class RepeatedOrder:
    """Which image stands at each position of a training stream, `repeats` of it in a batch.

    Sources: Multigrain's batches (1902.05509, 1901.09335), laid out as DeiT's authors' code does
    (2012.12877). A batch takes the next images of a shuffled epoch, each `repeats` times in a row,
    and deals them out among `parts`, the published run's GPUs, in turn: so that the copies of an
    image lie in different ones, which are `batch_size / parts` neighbouring rows, those that mixing
    keeps among themselves. Where repeats don't divide a batch, an image goes on in the next one. An
    epoch has as many batches as without repeats, so it shows a part of the images; then comes a new
    order. Every position is a function of its number.

    order: indices of the source, epoch after epoch of `epoch_size` of them. ValueError for sizes
    that don't divide.
    """

    def __init__(
        self, order: Sequence[int], epoch_size: int, batch_size: int, repeats: int, parts: int
    ):
        if not 1 <= repeats <= batch_size:
            raise ValueError(
                f"repeats: got {repeats}, expected from 1 to the batch_size, {batch_size}"
            )
        if parts < 1 or batch_size % parts:
            raise ValueError(
                f"parts: got {parts}, expected a divisor of the batch_size, {batch_size}"
            )
        self._order, self._epoch_size = order, epoch_size
        self._batch_size, self._repeats, self._parts = batch_size, repeats, parts

    def __getitem__(self, position: int) -> int:
        batch, row = divmod(position, self._batch_size)
        epoch, batch = divmod(batch, max(1, self._epoch_size // self._batch_size))
        part, place = divmod(row, self._batch_size // self._parts)
        image = (batch * self._batch_size + place * self._parts + part) // self._repeats
        return int(self._order[epoch * self._epoch_size + image % self._epoch_size])
