"""MTCNN in NumPy: from photos to faces with five points."""

import importlib.metadata
import os

import numpy as np

from keras_normface._io import threads
from keras_normface.prepare._detector_networks import mtcnn_networks
from keras_normface.prepare._faces import Face

LONGEST_SIDE = 2048  # so that sums of all pixels fit in int32
PIXELS_AT_ONCE = 2**23
SMALLEST_FACE = 20
CELL, STEP = 12, 2  # of the first network: it looks at 12 pixels, every 2 pixels
FACTOR = 0.709  # of a level of the pyramid to the one before
# Least probability of the three networks, and how much boxes may overlap after each.
LEAST_PROPOSED, LEAST_REFINED, LEAST_LOCATED = 0.6, 0.7, 0.8
WITHIN_LEVEL, MOST_OVERLAP = 0.5, 0.7
AT_ONCE = 128  # patches in one call of a network
REVISION = 1  # to be raised with what changes the faces that are found
ROWS = 512  # boxes compared with all before them in one step


class Mtcnn:
    """Finds faces by MTCNN, in NumPy, with the weights of the package `mtcnn` 1.0, which it does not import.

    Boxes and points are those of `mtcnn` itself, which runs in TensorFlow, to 0.002 pixel; where two boxes have
    probabilities that differ in the last bit of float32, either may win, here as there. An image with a side longer
    than 2048 pixels is reduced to that for finding faces (only for that). The smallest faces that can be found are
    20 pixels high after that.

    Each image is looked at by one thread, several at a time, as many as there are cores.

    Raises:
        ImportError: If the package `mtcnn`, `lz4` or `threadpoolctl` is not installed.
        ValueError: If the files of weights are not those of `mtcnn` 1.0.

    Source: Zhang et al., "Joint Face Detection and Alignment Using Multitask Cascaded Convolutional Networks",
    arXiv 1604.02878; thresholds and pyramid as in `mtcnn` 1.0.

    Example:
    >>> import numpy as np
    >>> detect = Mtcnn()
    >>> detect([np.full((48, 48, 3), 127, "uint8")])
    [[]]
    """

    def __init__(self):
        self._propose, self._refine, self._locate = mtcnn_networks()
        self.name = f"MTCNN in NumPy {REVISION}, weights of mtcnn {importlib.metadata.version('mtcnn')}"
        self._blas = _blas()

    def __call__(self, images):
        """Find the faces in images.

        Args:
            images: List of uint8 RGB arrays `(height, width, 3)`, of any sizes.

        Returns:
            List with a list of `Face` for each image.

        Raises:
            ValueError: If an image is something else.
        """
        for place, image in enumerate(images):
            fits = getattr(image, "dtype", None) == np.uint8 and image.ndim == 3 and image.shape[2] == 3 and image.size
            if not fits:
                form = f"{image.dtype} {image.shape}" if hasattr(image, "dtype") else type(image).__name__
                raise ValueError(f"`images[{place}]` must be uint8 RGB (height, width, 3). Received: {form}")
        pixels = max((min(image.size // 3, LONGEST_SIDE**2) for image in images), default=1)
        count = max(1, min(PIXELS_AT_ONCE // pixels, os.cpu_count() or 1))
        # Products of small matrices are several times slower if each is shared among threads.
        with self._blas.limit(limits=1, user_api="blas"), threads(count) as pool:
            return list(pool.map(self._found, images))

    def _found(self, image):
        image, scale = _reduced(image)
        boxes = self._proposed(image)
        boxes = _squares(self._refined(image, boxes))
        boxes, points, scores = self._located(image, boxes)
        boxes, points = ((places + 0.5) * scale - 0.5 for places in (boxes, points))
        return [
            Face(tuple(box), tuple(zip(five[:5], five[5:], strict=True)), score)
            for box, five, score in zip(boxes.tolist(), points.tolist(), scores.tolist(), strict=True)
        ]

    def _proposed(self, image):
        """Square boxes `(n, 4)` of all levels of the pyramid."""
        sums = sums_before(image)
        found = [self._proposed_on_level(sums, scale) for scale in _scales(*image.shape[:2])]
        if not found:
            return np.zeros((0, 4))
        boxes, scores = (np.concatenate(parts) for parts in zip(*found, strict=True))
        chosen = _without_overlap(boxes, scores, MOST_OVERLAP)
        return _squares(boxes[chosen])

    def _proposed_on_level(self, sums, scale):
        size = int((sums.shape[0] - 1) * scale), int((sums.shape[1] - 1) * scale)
        offsets, scores = self._propose(_normalized(area_resized(sums, size))[None])
        rows, columns = np.nonzero(scores[0] > LEAST_PROPOSED)
        corner = STEP * np.stack([columns, rows], axis=-1) + 1
        cells = np.concatenate([corner, corner + CELL - 1], axis=-1)
        boxes = (cells + (CELL - 1) * offsets[0, rows, columns].astype("float64")) / scale
        scores = scores[0, rows, columns]
        chosen = _without_overlap(boxes, scores, WITHIN_LEVEL)
        return boxes[chosen], scores[chosen]

    def _refined(self, image, boxes):
        """Boxes that the second network takes for faces, moved."""
        offsets, scores = _in_parts(self._refine, image, boxes, 24)
        likely = scores > LEAST_REFINED
        boxes = _moved(boxes[likely], offsets[likely])
        return boxes[_without_overlap(boxes, scores[likely], MOST_OVERLAP)]

    def _located(self, image, boxes):
        """Boxes, points and probabilities of the faces by the third network."""
        offsets, points, scores = _in_parts(self._locate, image, boxes, 48)
        likely = scores > LEAST_LOCATED
        boxes, offsets, points, scores = boxes[likely], offsets[likely], points[likely], scores[likely]
        sides = np.repeat(boxes[:, 2:] - boxes[:, :2] + 1, 5, axis=1)
        points = sides * points + np.repeat(boxes[:, :2], 5, axis=1) - 1
        boxes = _moved(boxes, offsets)
        chosen = _without_overlap(boxes, scores, MOST_OVERLAP, of_smaller=True)
        return boxes[chosen], points[chosen], scores[chosen]


def _blas():
    """What sets the number of threads of NumPy's matrix products."""
    try:
        from threadpoolctl import ThreadpoolController
    except ImportError as error:
        raise ImportError("Aligning needs threadpoolctl: pip install 'keras-normface[align]'") from error
    return ThreadpoolController()


def _scales(height, width):
    """Scales of the pyramid, the largest first: the first finds the smallest faces."""
    count = round(-(np.log(min(height, width) / CELL) / np.log(FACTOR) + 1))
    return CELL / SMALLEST_FACE * FACTOR ** np.arange(count)


def _reduced(image):
    """Return an image none of whose sides is too long, and by what it was divided."""
    height, width = image.shape[:2]
    longest = max(height, width)
    if longest <= LONGEST_SIDE:
        return image, 1.0
    from PIL import Image

    scale = longest / LONGEST_SIDE
    size = max(1, round(width / scale)), max(1, round(height / scale))
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BILINEAR)), scale


def _normalized(pixels):
    return ((pixels - 127.5) / 128).astype("float32")


def sums_before(image):
    """(h, w, 3) uint8 → (h + 1, w + 1, 3) int32 sums of all pixels above and to the left of each corner."""
    sums = np.zeros((image.shape[0] + 1, image.shape[1] + 1, 3), "int32")
    np.cumsum(image, axis=0, dtype="int32", out=sums[1:, 1:])
    np.cumsum(sums[1:, 1:], axis=1, out=sums[1:, 1:])
    return sums


def area_resized(sums, size):
    """`sums_before` of an image → (*size, 3) means of the areas that the new pixels cover."""
    height, width = sums.shape[0] - 1, sums.shape[1] - 1
    rows = _between(sums, size[0], 0)
    corners = _between(rows[1:] - rows[:-1], size[1], 1)
    return (corners[:, 1:] - corners[:, :-1]) * (size[0] * size[1] / (height * width))


def _between(sums, parts, axis):
    """Sums at `parts` + 1 places that are evenly spaced, between those that are known."""
    last = sums.shape[axis] - 1
    places = np.arange(parts + 1) * (last / parts)
    first = np.minimum(places.astype("int64"), last - 1)
    share = (places - first).reshape((-1, 1, 1) if axis == 0 else (-1, 1))
    below = sums.take(first, axis)
    return below + share * (sums.take(first + 1, axis) - below)


def patches(image, boxes, size):
    """Parts (n, size, size, 3) of a photo, bilinear, normalized; grey where they reach beyond it."""
    height, width = image.shape[:2]
    # The convention of the package: corners in parts of the whole side, spread over the centres of the pixels.
    (left, right), (top, bottom) = (
        (boxes[:, [axis, axis + 2]].T * ((side - 1) / side))[..., None] for axis, side in ((0, width), (1, height))
    )
    steps = np.arange(size) / (size - 1)
    upper, lower, down, inside_y = _neighbours(top + (bottom - top) * steps, height)
    before, after, across, inside_x = _neighbours(left + (right - left) * steps, width)
    down, across = down[:, :, None, None], across[:, None, :, None]
    rows = [
        image[y[:, :, None], before[:, None]] * (1 - across) + image[y[:, :, None], after[:, None]] * across
        for y in (upper, lower)
    ]
    inside = inside_y[:, :, None, None] & inside_x[:, None, :, None]
    return np.where(inside, _normalized(rows[0] * (1 - down) + rows[1] * down), np.float32(0))


def _neighbours(places, side):
    inside = (places >= 0) & (places <= side - 1)
    places = np.clip(places, 0, side - 1)
    first = places.astype("int64")
    return first, np.minimum(first + 1, side - 1), (places - first).astype("float32"), inside


def _in_parts(network, image, boxes, size):
    """What a network says of all boxes; there may be none, and there may be thousands."""
    starts = range(0, max(len(boxes), 1), AT_ONCE)
    results = [network(patches(image, boxes[start : start + AT_ONCE], size)) for start in starts]
    return [np.concatenate(parts).astype("float64") for parts in zip(*results, strict=True)]


def _moved(boxes, offsets):
    return boxes + offsets * np.tile(boxes[:, 2:] - boxes[:, :2] + 1, 2)


def _squares(boxes):
    """Squares around the same centres, of the longer sides."""
    sides = boxes[:, 2:] - boxes[:, :2]
    largest = sides.max(axis=1, keepdims=True, initial=0)
    corner = boxes[:, :2] + (sides - largest) * 0.5
    return np.concatenate([corner, corner + largest], axis=1)


def _without_overlap(boxes, scores, most, of_smaller=False):
    """Indices, best first, of the boxes that overlap none with a higher score too much."""
    # Unlike the usual rule, a box that is dropped drops others all the same: so does `mtcnn`.
    order = np.argsort(scores, kind="stable")[::-1]  # of equal ones the last first
    boxes = boxes[order]
    areas = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
    kept = np.ones(len(boxes), bool)
    for start in range(0, len(boxes), ROWS):
        rows, better = slice(start, start + ROWS), slice(0, start + ROWS)
        corner = np.maximum(boxes[rows, None, :2], boxes[None, better, :2])
        opposite = np.minimum(boxes[rows, None, 2:], boxes[None, better, 2:])
        common = np.prod(np.maximum(opposite - corner, 0), axis=-1)
        one, other = areas[rows, None], areas[None, better]
        with np.errstate(divide="ignore", invalid="ignore"):
            share = common / (np.minimum(one, other) if of_smaller else one + other - common)
        earlier = np.arange(share.shape[1]) < np.arange(start, start + len(share))[:, None]
        kept[rows] = ~((share > most) & earlier).any(axis=1)
    return order[kept]
