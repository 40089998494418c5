"""Which positions of the global stream stand in which rows of which process's batch."""

import math
from dataclasses import dataclass

# Rows are made in groups: a data-loader element per image would cost more than a small image
# itself, and one per batch would leave all but one worker idle and hold a batch in each.
_MAX_ROWS_PER_GROUP = 32


@dataclass(frozen=True)
class BatchLayout:
    """Batch b holds positions b·batch_size …; process p has contiguous rows of it.

    So the processes' batches, concatenated, are the same for any number of processes. Raises
    ValueError where the sizes don't divide or the process does not exist.
    """

    batch_size: int
    process_index: int
    process_count: int

    def __post_init__(self):
        if self.batch_size < 1:
            raise ValueError(f"batch_size: got {self.batch_size}, expected a positive integer")
        if not 0 <= self.process_index < self.process_count:
            raise ValueError(
                f"process_index: got {self.process_index} of {self.process_count} processes"
            )
        if self.batch_size % self.process_count:
            raise ValueError(
                f"batch_size: got {self.batch_size}, expected a multiple of the "
                f"{self.process_count} processes"
            )

    @property
    def local_batch_size(self) -> int:
        """Rows of one batch on this process."""
        return self.batch_size // self.process_count

    @property
    def groups_per_batch(self) -> int:
        """Groups in one batch of this process: the fewest equal ones of at most 32 rows."""
        rows = self.local_batch_size
        fewest = math.ceil(rows / _MAX_ROWS_PER_GROUP)
        return next(groups for groups in range(fewest, rows + 1) if rows % groups == 0)

    @property
    def rows_per_group(self) -> int:
        """Rows of one group."""
        return self.local_batch_size // self.groups_per_batch

    def positions(self, group: int) -> range:
        """The global positions of this process's group number `group`, counted from batch 0."""
        batch, part = divmod(group, self.groups_per_batch)
        rows = self.rows_per_group
        start = batch * self.batch_size + self.process_index * self.local_batch_size + part * rows
        return range(start, start + rows)
