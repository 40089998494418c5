"""Images that can't be read: named, counted, skipped alike everywhere; too many end a stream."""

import numpy as np
import pytest

from tests.data.test_streams import assert_same
from vit_jax_xfer.data import eval_batches, row_maker, train_stream
from vit_jax_xfer.data.broken_images import BrokenImage, ImageOutOfReach, TooManyBroken


class Damaged:
    """Forty images of their own number, which is their label as well; some can't be read."""

    num_classes, class_names, name, left_out = 0, (), "damaged", ()

    def __init__(self, broken, size=40):
        self.broken, self.size = broken, size

    def __len__(self):
        return self.size

    def __getitem__(self, index):
        if index in self.broken:
            raise BrokenImage(f"{index}.jpg", "it is cut off")
        return {"image": np.full((2, 2, 3), index, np.uint8), "label": index}


def take(source, count=10, **arguments):
    given = {"batch_size": 8, "seed": 3, "max_broken": 5} | arguments
    with train_stream(source, "random_crop(2, padding=1)", **given) as stream:
        return [next(stream) for _ in range(count)], stream.broken


def test_another_image_stands_in_the_place_of_a_broken_one():
    (whole, none), (batches, broken) = take(Damaged(())), take(Damaged({7, 20}))
    assert not none and broken == {"7.jpg": "it is cut off", "20.jpg": "it is cut off"}
    for left, right in zip(whole, batches, strict=True):
        gone = np.isin(left["label"], [7, 20])
        assert not np.isin(right["label"], [7, 20]).any()
        for key in left:  # nothing else is another
            np.testing.assert_array_equal(left[key][~gone], right[key][~gone])
    drawn = [right["label"][left["label"] == 7] for left, right in zip(whole, batches, strict=True)]
    assert len(set(np.concatenate(drawn).tolist())) == 2  # two epochs, not one neighbour for ever


def test_places_taken_are_the_same_for_any_start_host_thread_and_worker():
    source = Damaged({1, 7, 20, 33})
    batches, broken = take(source)
    assert_same(batches[4:], take(source, 6, start_step=4)[0])
    assert_same(batches, take(source, threads=0)[0])
    by_worker, found = take(source, 10, workers=2)
    assert_same(batches, by_worker)
    assert found == broken and list(found) == list(broken)
    parts = [take(source, process_index=i, process_count=2)[0] for i in range(2)]
    joined = [
        {key: np.concatenate([one[key], two[key]]) for key in one}
        for one, two in zip(*parts, strict=True)
    ]
    assert_same(batches, joined)


def first_beyond(source, allowed, **arguments):
    """How many batches come before too many images are broken, and what is said then."""
    given = {"batch_size": 8, "seed": 3, "max_broken": allowed} | arguments
    with train_stream(source, "to_float", **given) as stream:
        for count in range(10):
            try:
                next(stream)
            except TooManyBroken as error:
                with pytest.raises(TooManyBroken):  # again
                    next(stream)
                return count, str(error)
    return None


def test_too_many_end_the_stream_with_the_batch_that_has_one_more():
    source = Damaged(set(range(0, 40, 10)))
    assert first_beyond(source, 4) is None  # of two epochs: each counts once
    counts = [first_beyond(source, allowed)[0] for allowed in range(4)]
    assert counts == sorted(counts) and counts[0] < counts[3] < 5
    count, said = first_beyond(source, 3)
    assert "\n" not in said and "data.max_broken allows 3" in said and "that makes 4" in said
    for name in source.broken:
        assert f"{name}.jpg: it is cut off" in said
    assert first_beyond(source, 3, workers=1) == (count, said)


def test_a_source_without_an_image_that_can_be_read():
    with pytest.raises(BrokenImage, match=r"cannot read image \d+.jpg"):
        take(Damaged(set(range(40))))
    nearly = Damaged({*range(1, 40)} - {39}, size=39)
    with pytest.raises(TooManyBroken):
        take(nearly)


def test_an_evaluation_leaves_them_out():
    source = Damaged({0, 9, 39})
    with eval_batches(source, "to_float", batch_size=16, max_broken=3) as stream:
        batches = list(stream)
        assert list(stream.broken) == ["0.jpg", "9.jpg", "39.jpg"]
    mask = np.concatenate([batch["mask"] for batch in batches])
    assert np.flatnonzero(~mask).tolist() == [0, 9, 39, *range(40, 48)]
    labels = np.concatenate([batch["label"] for batch in batches])
    assert labels[mask].tolist() == [i for i in range(40) if i not in source.broken]
    with (
        pytest.raises(TooManyBroken, match="39.jpg"),
        eval_batches(source, "to_float", batch_size=16, max_broken=2) as stream,
    ):
        list(stream)


class Small(Damaged):
    """Images among which some are smaller than the rest."""

    def __getitem__(self, index):
        side = 1 if index in self.broken else 4
        return {
            "image": np.zeros((side, side, 3), np.uint8),
            "label": index,
            "name": f"{index}.jpg",
        }


def test_an_image_that_the_pipeline_has_no_use_for():
    given = {"batch_size": 8, "seed": 3, "max_broken": 2}
    with train_stream(Small({7, 20}), "random_crop(3)", **given) as stream:
        labels = np.concatenate([next(stream)["label"] for _ in range(5)])
    assert not np.isin(labels, [7, 20]).any()
    assert stream.broken.keys() == {"7.jpg", "20.jpg"} and "size 3x3" in stream.broken["7.jpg"]
    with pytest.raises(
        ValueError, match=r"cannot prepare image \d+.jpg: pipeline: random_crop: size"
    ):
        train_stream(Small(()), "random_crop(5)", **given)
    with (
        train_stream(Small({7, 20}), "normalize", **given) as stream,
        pytest.raises(ValueError, match=r"different sizes.* of (7|20).jpg: end it with"),
    ):
        for _ in range(5):
            next(stream)


def test_none_is_skipped_unless_it_is_allowed():
    with pytest.raises(ValueError, match="cannot read image 7.jpg: it is cut off; that makes 1"):
        take(Damaged({7}), max_broken=0)


class Away(Damaged):
    """A folder that is gone for a few tries."""

    def __init__(self, tries):
        super().__init__(())
        self.tries = tries

    def __getitem__(self, index):
        if index == 7 and self.tries:
            self.tries -= 1
            raise ImageOutOfReach("cannot read image 7.jpg: Stale file handle")
        return super().__getitem__(index)


def test_a_folder_that_is_gone_for_a_while_changes_nothing(monkeypatch):
    monkeypatch.setattr(row_maker, "_PAUSES", (0.01,) * 3)
    batches, broken = take(Away(3))
    assert_same(batches, take(Damaged(()))[0])
    assert not broken  # it is not taken for a broken image
    with pytest.raises(OSError, match="Stale file handle"):
        take(Away(4))
