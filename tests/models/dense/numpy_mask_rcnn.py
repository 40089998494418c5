"""Mask R-CNN's losses and detections in plain numpy, float64: loops, one image after the other.

Where the network draws at random, this takes everything, and says so where that would differ.
"""

import numpy as np

RATIOS = (0.5, 1.0, 2.0)
WEIGHTS = np.array([10.0, 10.0, 5.0, 5.0])


def box_iou(a, b):
    """Of two boxes."""
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    common = max(width, 0) * max(height, 0)
    areas = [(x[2] - x[0]) * (x[3] - x[1]) for x in (a, b)]
    return common / (sum(areas) - common) if sum(areas) > common else 0.0


def anchors_of(grids, strides, scale):
    """All anchors (A, 4)."""
    found = []
    for (height, width), stride in zip(grids, strides, strict=True):
        for y in range(height):
            for x in range(width):
                for ratio in RATIOS:
                    w, h = scale * stride / ratio**0.5, scale * stride * ratio**0.5
                    cx, cy = x * stride, y * stride
                    found.append([cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2])
    return np.array(found)


def encoded(box, target, weights):
    (w, h), (tw, th) = box[2:] - box[:2], target[2:] - target[:2]
    (cx, cy), (tx, ty) = (box[:2] + box[2:]) / 2, (target[:2] + target[2:]) / 2
    return np.array([(tx - cx) / w, (ty - cy) / h, np.log(tw / w), np.log(th / h)]) * weights


def decoded(box, deltas, weights):
    (w, h), (cx, cy) = box[2:] - box[:2], (box[:2] + box[2:]) / 2
    dx, dy, dw, dh = deltas / weights
    cx, cy = cx + dx * w, cy + dy * h
    w, h = w * np.exp(min(dw, np.log(1000 / 16))), h * np.exp(min(dh, np.log(1000 / 16)))
    return np.array([cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2])


def clipped(box, size):
    height, width = size
    return np.clip(box, 0, [width, height, width, height])


def entropy(logit, target):
    return np.logaddexp(0, logit) - logit * target


def proposal_losses(logits, deltas, anchors, images):
    """images: a list of true boxes (n, 4) each. → objectness, proposal_boxes."""
    wrong = apart = 0.0
    for logit, delta, boxes in zip(logits, deltas, images, strict=True):
        overlaps = np.array([[box_iou(box, a) for a in anchors] for box in boxes])
        overlaps = overlaps.reshape(len(boxes), len(anchors))
        best = overlaps.max(0) if len(boxes) else np.zeros(len(anchors))
        labels = np.where(best >= 0.7, 1, np.where(best < 0.3, 0, -1))
        for row in overlaps:
            labels[(row == row.max()) & (row > 0)] = 1
        assert (labels == 1).sum() <= 128, "else objects are drawn"
        assert (labels >= 0).sum() <= 256, "else others are drawn"
        for i in np.flatnonzero(labels >= 0):
            wrong += entropy(logit[i], labels[i])
        for i in np.flatnonzero(labels == 1):
            wanted = encoded(anchors[i], boxes[overlaps[:, i].argmax()], np.ones(4))
            apart += np.abs(delta[i] - wanted).sum()
    number = 256 * len(logits)
    return {"objectness": wrong / number, "proposal_boxes": apart / number}


def suppressed(boxes, scores, overlap):
    """Places kept, by falling score."""
    kept = []
    for i in np.argsort(-scores, kind="stable"):
        if all(box_iou(boxes[i], boxes[j]) <= overlap for j in kept):
            kept.append(i)
    return kept


def proposals_of(logits, deltas, anchors, counts, size, before, after):
    """Boxes (P, 4) of one image. counts: anchors a level."""
    found = []
    for end, count in zip(np.cumsum(counts), counts, strict=True):
        level = range(end - count, end)
        best = sorted(level, key=lambda i: -logits[i])[:before]
        boxes = [clipped(decoded(anchors[i], deltas[i], np.ones(4)), size) for i in best]
        pairs = [(b, logits[i]) for b, i in zip(boxes, best, strict=True) if (b[2:] > b[:2]).all()]
        if pairs:
            boxes, scores = np.array([b for b, _ in pairs]), np.array([s for _, s in pairs])
            found += [(scores[i], boxes[i]) for i in suppressed(boxes, scores, 0.7)]
    found.sort(key=lambda pair: -pair[0])
    return np.array([box for _, box in found[:after]])


def matched(regions, boxes, overlap=0.5):
    """The object of each region, -1 = none."""
    found = []
    for region in regions:
        overlaps = [box_iou(region, box) for box in boxes]
        found.append(int(np.argmax(overlaps)) if overlaps and max(overlaps) >= overlap else -1)
    return np.array(found, int)


def box_losses(logits, deltas, regions, images, overlap=0.5, weights=WEIGHTS):
    """logits, deltas, regions: a list an image. images: (boxes, labels) each. → classes, boxes."""
    wrong = apart = 0.0
    for logit, delta, region, (boxes, labels) in zip(logits, deltas, regions, images, strict=True):
        for i, object_ in enumerate(matched(region, boxes, overlap)):
            label = labels[object_] if object_ >= 0 else logit.shape[1] - 1
            wrong += np.logaddexp.reduce(logit[i]) - logit[i, label]
            if object_ >= 0:
                own = delta[i, label if delta.shape[1] > 1 else 0]
                apart += np.abs(own - encoded(region[i], boxes[object_], weights)).sum()
    number = sum(len(x) for x in regions)
    return {"classes": wrong / number, "boxes": apart / number}


def mask_loss(logits, regions, images):
    """logits: a list an image, (R, m, m, K). images: (boxes, labels, masks) each."""
    losses = []
    for logit, region, (boxes, labels, masks) in zip(logits, regions, images, strict=True):
        for i, object_ in enumerate(matched(region, boxes)):
            if object_ >= 0:
                target = seen(masks[object_], boxes[object_], region[i], logit.shape[1])
                losses.append(entropy(logit[i, :, :, labels[object_]], target).mean())
    return np.mean(losses) if losses else 0.0


def seen(mask, box, region, side):
    """The object's mask in the frame of a region, (side, side) of 0 and 1."""
    cells = len(mask)
    out = np.zeros((side, side))
    for row in range(side):
        for column in range(side):
            x = region[0] + (column + 0.5) / side * (region[2] - region[0])
            y = region[1] + (row + 0.5) / side * (region[3] - region[1])
            u, v = (x - box[0]) / (box[2] - box[0]), (y - box[1]) / (box[3] - box[1])
            if 0 <= u <= 1 and 0 <= v <= 1:
                out[row, column] = between(mask, v * cells - 0.5, u * cells - 0.5) > 0.5
    return out


def between(values, y, x):
    """Bilinear, the border's value beyond it."""
    y, x = (float(np.clip(z, 0, n - 1)) for z, n in zip((y, x), values.shape[:2], strict=True))
    top, left = min(int(y), values.shape[0] - 1), min(int(x), values.shape[1] - 1)
    down, right = min(top + 1, values.shape[0] - 1), min(left + 1, values.shape[1] - 1)
    b, a = y - top, x - left
    upper = (1 - a) * values[top, left] + a * values[top, right]
    return (1 - b) * upper + b * ((1 - a) * values[down, left] + a * values[down, right])


def pooled(levels, strides, box, side):
    """ROIAlign of one box from its level, two samples each way: (side, side, C)."""
    size = np.sqrt((box[2] - box[0]) * (box[3] - box[1]))
    which = int(np.clip(np.floor(4 + np.log2(size / 224 + 1e-8)), 2, len(levels) + 1)) - 2
    level, scale = levels[which].astype(np.float64), 1 / strides[which]
    start, end = box[:2] * scale - 0.5, box[2:] * scale - 0.5
    out = np.zeros((side, side, level.shape[-1]))
    for row in range(side):
        for column in range(side):
            for sample in range(4):
                x = start[0] + (column + (sample % 2 + 0.5) / 2) * (end[0] - start[0]) / side
                y = start[1] + (row + (sample // 2 + 0.5) / 2) * (end[1] - start[1]) / side
                if -1 <= y <= level.shape[0] and -1 <= x <= level.shape[1]:
                    out[row, column] += between(level, y, x) / 4
    return out
