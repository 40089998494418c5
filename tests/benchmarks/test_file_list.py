"""A simulated folder: its list is packed, and a worker gets descriptors of it."""

import pytest

from benchmarks.file_list import handed_over, simulated
from vit_jax_xfer.data import shared_arrays


def test_a_folder_that_is_not_there(monkeypatch):
    monkeypatch.setattr(shared_arrays, "_LARGE", 2**12)
    source = simulated(20_000, 300)
    assert len(source) == 20_000 and source.num_classes == 300
    assert source.files[-1] == "n00000299/n00000299_9.JPEG" and source.all_labels[-1] == 299
    whole = source.files.nbytes + source.all_labels.nbytes
    assert whole == pytest.approx(20_000 * (27 + 4 + 8), rel=0.05)
    written, added = handed_over(source)
    assert written < whole / 50 and added < whole / 4
    assert handed_over(source)[0] == written  # nor is anything copied for the next evaluation
