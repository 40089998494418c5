"""Attention, and the distillation of its maps, in numpy's float64: what kernels are held against.

q, k, v (B, T, H, d); gradients by hand, so that no kernel of the project has a part in them.
"""

import numpy as np

Arrays = tuple[np.ndarray, ...]


def attention(q: np.ndarray, k: np.ndarray, v: np.ndarray, cotangent: np.ndarray) -> Arrays:
    """softmax(q kᵀ / √d) v, and the gradients of its product with the cotangent by q, k, v."""
    scale = q.shape[-1] ** -0.5
    weights = np.exp(_log_map(q, k))
    out = np.einsum("bhts,bshd->bthd", weights, v)
    by_weights = np.einsum("bthd,bshd->bhts", cotangent, v)
    own = (by_weights * weights).sum(-1, keepdims=True)
    by_scores = scale * weights * (by_weights - own)
    return (
        out,
        np.einsum("bhts,bshd->bthd", by_scores, k),
        np.einsum("bhts,bthd->bshd", by_scores, q),
        np.einsum("bhts,bthd->bshd", weights, cotangent),
    )


def map_distance(
    student_q: np.ndarray,
    student_k: np.ndarray,
    teacher_q: np.ndarray,
    teacher_k: np.ndarray,
    cotangent: np.ndarray,
) -> Arrays:
    """Each image's cross-entropy of maps (B,), and its gradients by the student's q and k.

    cotangent: (B,), by which the images' losses are weighed.
    """
    own, theirs = _log_map(student_q, student_k), np.exp(_log_map(teacher_q, teacher_k))
    loss = -(theirs * own).sum(-1).mean((1, 2))
    number = own.shape[1] * own.shape[2]
    by_scores = (np.exp(own) - theirs) * cotangent[:, None, None, None]
    by_scores *= student_q.shape[-1] ** -0.5 / number
    return (
        loss,
        np.einsum("bhts,bshd->bthd", by_scores, student_k),
        np.einsum("bhts,bthd->bshd", by_scores, student_q),
    )


def _log_map(q: np.ndarray, k: np.ndarray) -> np.ndarray:
    scores = np.einsum("bthd,bshd->bhts", q, k) * q.shape[-1] ** -0.5
    scores -= scores.max(-1, keepdims=True)
    return scores - np.log(np.exp(scores).sum(-1, keepdims=True))
