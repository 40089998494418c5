"""Mean IoU of a linear probe on an extractor's frozen features."""

import dataclasses
import math
from collections.abc import Callable, Collection, Sequence

import numpy as np

from vit_jax_xfer.evaluate.benchmark import ALONE, ItemBenchmark, Report, Result, Together
from vit_jax_xfer.evaluate.photographs import batches, features_of, places_of, read_squashed
from vit_jax_xfer.evaluate.segmentation.labelled_images import (
    LabelledImage,
    LabelledImages,
    read_class_mask,
    shrunk,
    survey,
)
from vit_jax_xfer.evaluate.segmentation.mask_layouts import open_masks
from vit_jax_xfer.evaluate.segmentation.probe import (
    BATCH,
    UNLABELLED,
    Probe,
    predict,
    train_probe,
)
from vit_jax_xfer.evaluate.segmentation.segmentation_metrics import (
    confusion_matrix,
    segmentation_score,
)
from vit_jax_xfer.evaluate.segmentation.training_set import TrainingSet
from vit_jax_xfer.features.feature_extractor import FeatureExtractor

PROBE_STEPS, PROBE_LR, MEMORY = 500, 1e-2, 2.0


@dataclasses.dataclass(eq=False)
class SegmentationBenchmark(ItemBenchmark):
    """Trains a probe on the training images' features and scores the others'.

    Photographs and masks are squashed to size × size, masks by the nearest; labels are compared
    there for every extractor, whatever it enlarges. ids: the classes that training images have,
    then those that only scored ones have: nobody can predict these, and they count with an IoU of
    0, as in a mean over all classes that occur. A class that is predicted and never true counts as
    0 too. skipped: repeated in the result. memory: GB of features that are kept; of more, features
    are computed in each step. The result depends on nothing but the arguments, but for
    rounding where processes share the images.
    """

    data: LabelledImages
    ids: Sequence[int]
    trained: int  # how many of the ids training images have
    size: int
    skipped: dict[str, int]
    steps: int = PROBE_STEPS
    learning_rate: float = PROBE_LR
    memory: float = MEMORY
    name: str = "segmentation"
    together: Together = ALONE

    @property
    def photographs(self) -> int:
        """Those to train on and those to score, once each."""
        return len(self.data.train) + len(self.data.val)

    def check_classes(self) -> None:
        """ValueError where fewer than two classes are left, of which any classifier is right."""
        if self.trained > 1:
            return
        ignored = ", ".join(map(str, sorted(self.data.ignore))) or "nothing"
        hint = ""
        if self.ids[: self.trained] == (0,) and 255 in self.data.ignore:
            hint = "; for masks of 0 and 255 give --ignore '', and both are classes"
        raise ValueError(
            f"{self.data.train[0].mask.parent}: the training masks have one class, {self.ids[0]}, "
            f"where {ignored} is ignored; a score needs two or more{hint}"
        )

    @property
    def items(self) -> int:
        """Images to score."""
        return len(self.data.val)

    def among(self, together: Together) -> "SegmentationBenchmark":
        """Features of training images are shared out too; each process trains the same probe."""
        return dataclasses.replace(self, together=together)

    def reports(self, part: range) -> int:
        """One as each process has a training image, one a step of the probe, one an image."""
        shares = math.ceil(len(self.data.train) / self.together.number)
        return shares + self.steps + len(part)

    def outcomes(
        self, extractor: FeatureExtractor, part: range, report: Report | None = None
    ) -> list[np.ndarray]:
        """A probe's confusion matrix (classes, classes) int64 of each of some images."""
        done = 0
        total = len(self.data.train) + self.steps * BATCH + len(part)

        def count(images: int) -> None:
            nonlocal done
            done += images
            if report:
                report(done, total)

        train = self.data.train
        memory = self.memory * 2**30
        given = self.size, self._labels(), memory, count, self.together
        examples = TrainingSet(extractor, train, *given)
        probe = train_probe(
            examples,
            len(train),
            (examples.mean, examples.std),
            self.trained,
            self.steps,
            self.learning_rate,
            places=examples.places,
            report=lambda step: count(BATCH),
        )
        return self._confusions(extractor, probe, self.data.val[part.start : part.stop], count)

    def result(self, outcomes: Sequence[np.ndarray]) -> Result:
        """Mean IoU and accuracy over all pixels."""
        classes = len(self.ids)
        score = segmentation_score(sum(outcomes, np.zeros((classes, classes), np.int64)))
        figures = {"mIoU": score.mean_iou, "accuracy": float(score.accuracy)}
        return Result(figures, dict(self.skipped))

    def _confusions(
        self,
        extractor: FeatureExtractor,
        probe: Probe,
        images: Sequence[LabelledImage],
        count: Callable[[int], None],
    ) -> list[np.ndarray]:
        classes, labels, side = len(self.ids), self._labels(), extractor.side(self.size)
        confusions = []
        for batch in batches(images, side):
            files = [one.image for one in batch]
            features = features_of(extractor, [read_squashed(x, side) for x in files], files)
            places = places_of(extractor, features.shape[1:3], side)
            found = predict(probe, features, self.size, places)
            for one, predicted in zip(batch, found, strict=True):
                truth = labels[shrunk(read_class_mask(one.mask), self.size)]
                confusions.append(
                    np.asarray(confusion_matrix(predicted, truth, classes, UNLABELLED), np.int64)
                )
                count(1)
        return confusions

    def _labels(self) -> np.ndarray:
        """Ids → labels, by index: places in `ids`, UNLABELLED for those that are ignored."""
        labels = np.full(max([*self.ids, *self.data.ignore]) + 1, UNLABELLED, np.int32)
        labels[list(self.ids)] = np.arange(len(self.ids))
        return labels


def open_segmentation(
    data: str,
    size: int,
    limit: int | None = None,
    ignore: Collection[int] | None = None,
    steps: int = PROBE_STEPS,
    learning_rate: float = PROBE_LR,
    memory: float = MEMORY,
) -> SegmentationBenchmark:
    """The benchmark of a data set as `open_masks` takes it; all masks are read to find the classes.

    limit: only so many images to train on and so many to score, the first. ValueError naming the
    file or argument for what is wrong.
    """
    if not (learning_rate > 0 and np.isfinite(learning_rate)):
        raise ValueError(f"learning_rate: got {learning_rate:g}, expected more than 0")
    if steps < 1:
        raise ValueError(f"steps: got {steps}, expected 1 or more")
    opened = open_masks(data, ignore)
    opened = dataclasses.replace(opened, train=opened.train[:limit], val=opened.val[:limit])
    train, val = (survey(images, size, opened.ignore) for images in (opened.train, opened.val))
    for found, kind in ((train, "training"), (val, "scored")):
        if not found.ids:
            ignored = ", ".join(map(str, sorted(opened.ignore))) or "nothing"
            raise ValueError(f"{data}: no class in any {kind} mask, where {ignored} is ignored")
    unseen = sorted(set(val.ids) - set(train.ids))
    skipped = {
        "images without masks": opened.without_mask,
        "images without labels": train.empty + val.empty,
        "labels that vanish when shrunk": train.vanished + val.vanished,
        "classes unseen in training": len(unseen),
    }
    return SegmentationBenchmark(
        opened,
        (*train.ids, *unseen),
        len(train.ids),
        size,
        skipped,
        steps,
        learning_rate,
        memory,
        f"{data.partition(':')[0]}_segmentation",
    )
