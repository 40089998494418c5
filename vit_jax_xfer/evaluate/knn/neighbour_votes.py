"""The votes of nearest neighbours for classes, as DINO counts them (2104.14294)."""

import numpy as np

from vit_jax_xfer.arguments.whole_numbers import check_whole

_AT_ONCE = 2**24  # similarities in memory


def neighbour_votes(
    features: np.ndarray,
    labels: np.ndarray,
    queries: np.ndarray,
    k: int = 20,
    temperature: float = 0.07,
    num_classes: int | None = None,
) -> np.ndarray:
    """Each query's votes for each class, (M, K) float32: the greatest is the class it is taken for.

    That of its nearest neighbour counts 1.

    features (N, C) with labels (N,), classes from 0 on; queries (M, C). Neighbours are the k of the
    greatest cosine s, and each votes with exp(s / temperature), as in DINO's evaluation; all vote
    where there are fewer than k. num_classes: K, None = as many as labels name.
    ValueError naming the argument that doesn't fit.
    """
    features, queries = _directions("features", features), _directions("queries", queries)
    labels = np.asarray(labels)
    if labels.shape != features.shape[:1] or not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(
            f"labels: expected {len(features)} whole numbers, got {labels.dtype} {labels.shape}"
        )
    if queries.shape[1] != features.shape[1]:
        raise ValueError(
            f"queries: have {queries.shape[1]} channels, and features {features.shape[1]}"
        )
    check_whole("k", k)
    if not temperature > 0:
        raise ValueError(f"temperature: got {temperature}, expected more than 0")
    classes = int(labels.max()) + 1 if num_classes is None else num_classes
    if labels.min() < 0 or labels.max() >= classes:
        raise ValueError(
            f"labels: from {labels.min()} to {labels.max()}, expected 0 … {classes - 1}"
        )
    rows = max(1, _AT_ONCE // len(features))
    parts = [
        _votes(
            queries[start : start + rows] @ features.T,
            labels,
            min(k, len(labels)),
            temperature,
            classes,
        )
        for start in range(0, len(queries), rows)
    ]
    return np.concatenate(parts)


def _votes(
    cosines: np.ndarray, labels: np.ndarray, k: int, temperature: float, classes: int
) -> np.ndarray:
    """The votes by similarities (M, N)."""
    nearest = np.argpartition(-cosines, k - 1, axis=1)[:, :k]
    similar = np.take_along_axis(cosines, nearest, axis=1)
    similar = similar.astype(np.float64)
    # Less the greatest, so that at no temperature all are too large or too small for a number.
    weights = np.exp((similar - similar.max(1, keepdims=True)) / temperature)
    votes = np.zeros((len(cosines), classes))
    np.add.at(votes, (np.arange(len(cosines))[:, None], labels[nearest]), weights)
    return votes.astype(np.float32)


def _directions(name: str, features: np.ndarray) -> np.ndarray:
    """Features of length 1, (N, C) float32. ValueError for none, and for what is not finite."""
    features = np.asarray(features, np.float32)
    if features.ndim != 2 or not features.size:
        raise ValueError(f"{name}: expected shape (N, C), got {features.shape}")
    if not np.isfinite(features).all():
        raise ValueError(f"{name}: holds numbers that are not finite")
    return features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)
