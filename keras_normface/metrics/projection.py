"""A mean or PCA that is fitted on some of the images, or on all but those of each fold in turn."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

_BLOCK_ROWS = 1024


@dataclass(frozen=True, eq=False)
class Projection:
    """A mean that is subtracted, and directions that are kept.

    Attributes:
        mean: (D,) float64.
        components: (D, K) float64 with orthonormal columns, or None where all is kept.

    Example:
        >>> import numpy as np
        >>> Projection(np.ones(2), None).of(np.array([[1.0, 3.0]])).tolist()
        [[0.0, 2.0]]
    """

    mean: np.ndarray
    components: np.ndarray | None

    def of(self, features):
        """Project (N, D) features: (N, K) float64."""
        if self.components is None:
            return features - self.mean
        projected = np.empty((len(features), self.components.shape[1]))
        for start in range(0, len(features), _BLOCK_ROWS):
            block = slice(start, start + _BLOCK_ROWS)
            np.matmul(features[block] - self.mean, self.components, out=projected[block])
        return projected


@dataclass(frozen=True, eq=False)
class Scatter:
    """What a mean and PCA need to know of features; those of two sets together follow from those of each.

    Attributes:
        count: N, number of features.
        mean: (D,) float64.
        products: (D, D) float64, the sum of the outer products of features less their mean; None if not wanted.

    Example:
        >>> import numpy as np
        >>> both = merged([scatter_of(np.array([[0.0], [2.0]])), scatter_of(np.array([[4.0]]))])
        >>> both.count, both.mean.tolist(), both.products.tolist()
        (3, [2.0], [[8.0]])
    """

    count: int
    mean: np.ndarray
    products: np.ndarray | None


def scatter_of(features, products=True):
    """The `Scatter` of (N, D) features, N >= 1.

    Example:
        >>> import numpy as np
        >>> scatter_of(np.array([[1.0, 5.0], [3.0, 5.0]])).products.tolist()
        [[2.0, 0.0], [0.0, 0.0]]
    """
    mean = features.mean(axis=0, dtype=np.float64)
    if not products:
        return Scatter(len(features), mean, None)
    total = np.zeros((mean.size, mean.size))
    for start in range(0, len(features), _BLOCK_ROWS):
        centred = features[start : start + _BLOCK_ROWS] - mean
        total += centred.T @ centred
    return Scatter(len(features), mean, total)


def merged(parts):
    """The `Scatter` of several sets together.

    Only sums of what is not negative, so that nothing cancels: Chan, Golub, LeVeque 1983, "Algorithms for computing
    the sample variance".

    Args:
        parts: of the sets, at least one, all with their products or all without.

    Returns:
        A `Scatter`, equal but for rounding to that of all their features.
    """
    parts = list(parts)
    counts, means = np.array([part.count for part in parts]), np.stack([part.mean for part in parts])
    mean = counts @ means / counts.sum()
    products = None
    if parts[0].products is not None:
        apart = np.sqrt(counts)[:, None] * (means - mean)
        products = sum(part.products for part in parts) + apart.T @ apart
    return Scatter(int(counts.sum()), mean, products)


def fitted_projection(features, share):
    """The mean of features and, if wanted, their principal directions.

    Args:
        features: (N, D), N >= 2.
        share: None for the mean alone, or the share of the variance, in (0, 1], that the least number of
            principal components must keep.

    Returns:
        A `Projection`.

    Raises:
        ValueError: `share` is out of range, or the features do not vary.

    Example:
        >>> import numpy as np
        >>> fitted_projection(np.array([[0.0, 0.0], [4.0, 0.0], [2.0, 0.1]]), 0.9).components.shape
        (2, 1)
    """
    return _projection(scatter_of(features, products=share is not None), share)


def fold_projections(features, left, right, codes, share):
    """For each fold, `fitted_projection` of the unique images in the pairs of all other folds.

    Each image is looked at once, not once for each fold: an image of one fold alone is excluded in that fold only,
    and one of several folds never.

    Args:
        features: (N, D) of all images.
        left: (P,) indices of images.
        right: (P,) indices of images.
        codes: (P,) fold of each pair, 0..F-1, each fold with a pair.
        share: see `fitted_projection`.

    Yields:
        F projections, in the order of the folds.

    Raises:
        ValueError: see `fitted_projection`.

    Example:
        >>> import numpy as np
        >>> features, folds = np.array([[0.0], [1.0], [5.0]]), np.array([0, 1])
        >>> parts = fold_projections(features, np.array([0, 1]), np.array([1, 2]), folds, None)
        >>> [projection.mean.tolist() for projection in parts]
        [[3.0], [0.5]]
    """
    num_folds, images = codes.max() + 1, np.concatenate([left, right])
    first, last = np.full(len(features), num_folds), np.full(len(features), -1)
    np.minimum.at(first, images, np.tile(codes, 2))
    np.maximum.at(last, images, np.tile(codes, 2))
    parts = {}
    for fold in range(-1, num_folds):
        rows = np.flatnonzero((first == last) & (first == fold) if fold >= 0 else first < last)
        if rows.size:
            parts[fold] = scatter_of(features[rows], products=share is not None)
    for fold in range(num_folds):
        yield _projection(merged(part for other, part in parts.items() if other != fold), share)


def _projection(scatter, share):
    if share is None:
        return Projection(scatter.mean, None)
    variances, directions = np.linalg.eigh(scatter.products)
    cumulated = np.cumsum(np.maximum(variances[::-1], 0.0))
    if cumulated[-1] == 0.0:
        raise ValueError("`embeddings` must vary to be projected. Received: embeddings all equal in the fitting folds")
    kept = int(np.argmax(cumulated / cumulated[-1] >= share)) + 1
    return Projection(scatter.mean, np.ascontiguousarray(directions[:, ::-1][:, :kept]))
