"""Each pair's own PCK as a CSV, a line a pair and feature extractor."""

import csv
import io
import math
from pathlib import Path

from vit_jax_xfer.evaluate.correspondence.correspondence_benchmark import ALPHAS
from vit_jax_xfer.evaluate.correspondence.keypoint_matching import Matches
from vit_jax_xfer.evaluate.correspondence.keypoint_pair import KeypointPair
from vit_jax_xfer.features.feature_extractor import FeatureExtractor
from vit_jax_xfer.whole_files import write_whole

COLUMNS = ("extractor", "category", "source", "target", "keypoints", "skipped")


class PairTable:
    """Lines of pairs as they are scored; an object of it is a Correspondence's `pair_scored`.

    Columns: extractor, category, source, target, keypoints (scored ones), skipped, and the share
    of the scored ones that are right at each threshold, "PCK@0.1" and so on.
    """

    def __init__(self) -> None:
        self.lines: list[list[object]] = []

    def __call__(
        self, extractor: FeatureExtractor, pair: KeypointPair, found: dict[float, Matches]
    ) -> None:
        skipped = int(found[ALPHAS[0]].skipped.sum())
        scored = len(found[ALPHAS[0]].correct) - skipped
        rates = [int(found[x].correct.sum()) / scored if scored else math.nan for x in ALPHAS]
        self.lines.append(
            [extractor.name, pair.category, pair.source, pair.target, scored, skipped, *rates]
        )

    def text(self) -> str:
        """The CSV, numbers in full."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow([*COLUMNS, *(f"PCK@{alpha}" for alpha in ALPHAS)])
        writer.writerows(self.lines)
        return text.getvalue()

    def write(self, path: Path) -> None:
        """Writes the CSV; the file appears when it is complete."""
        write_whole(path, self.text())
