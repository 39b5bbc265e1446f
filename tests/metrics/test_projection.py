"""A mean or PCA fitted for each fold without it, against fitting each from its images anew."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_normface.metrics.projection import fold_projections, merged, scatter_of


def plain(features, left, right, codes, fold, share):
    """Mean, and the projector on the least number of singular directions, of the other folds' unique images."""
    images = sorted({image for pair in range(len(codes)) if codes[pair] != fold for image in (left[pair], right[pair])})
    chosen = np.stack([features[image] for image in images]).astype(float)
    mean = sum(chosen) / len(chosen)
    _, singular, axes = np.linalg.svd(chosen - mean, full_matrices=False)
    kept = 1
    while sum(singular[:kept] ** 2) < share * sum(singular**2) and kept < len(singular):
        kept += 1
    return mean, axes[:kept].T @ axes[:kept]


@pytest.mark.parametrize("shared", [0, 3, 12, 40])
@pytest.mark.parametrize("offset", [0.0, 1e4])
def test_each_fold_against_singular_vectors(shared, offset):
    rng = np.random.default_rng(shared)
    # Images of one fold alone, and `shared` that any fold may use; the last image is in no pair.
    codes = np.repeat(np.arange(4), 15)
    own = 200 + 20 * codes[:, None] + rng.integers(0, 20, size=(60, 2))
    sides = np.where(rng.random((60, 2)) < (shared > 0) * 0.5, rng.integers(0, max(shared, 1), size=(60, 2)), own)
    features = rng.normal(size=(300, 8)) * 1.5 ** np.arange(8) + offset
    features[299] = 1e9
    projections = list(fold_projections(features, *sides.T, codes, 0.9))
    assert len(projections) == 4
    for fold, projection in enumerate(projections):
        mean, projector = plain(features, *sides.T, codes, fold, 0.9)
        np.testing.assert_allclose(projection.mean, mean, rtol=1e-13)
        np.testing.assert_allclose(projection.components @ projection.components.T, projector, atol=1e-8)
        centred = features[sides[0]] - mean
        np.testing.assert_allclose(projection.of(features[sides[0]]) @ projection.components.T, centred @ projector)
    for fold, projection in enumerate(fold_projections(features, *sides.T, codes, None)):
        np.testing.assert_allclose(projection.mean, plain(features, *sides.T, codes, fold, 1.0)[0], rtol=1e-13)
        assert projection.components is None


def test_a_fold_of_huge_images_does_not_spoil_the_others():
    rng = np.random.default_rng(1)
    features = rng.normal(size=(30, 3)) * [3.0, 2.0, 1.0]
    features[:10] *= 1e12
    left, right, codes = np.arange(0, 30, 2), np.arange(1, 30, 2), np.repeat(np.arange(3), 5)
    first = next(iter(fold_projections(features, left, right, codes, 0.9)))
    mean, projector = plain(features, left, right, codes, 0, 0.9)
    np.testing.assert_allclose(first.mean, mean, rtol=1e-13)
    np.testing.assert_allclose(first.components @ first.components.T, projector, atol=1e-12)


@settings(deadline=None, max_examples=30)
@given(st.lists(st.integers(1, 9), min_size=1, max_size=6), st.integers(0, 2**32 - 1))
def test_parts_together_are_the_whole(sizes, seed):
    features = np.random.default_rng(seed).normal(size=(sum(sizes), 3)) + 7.0
    whole = merged(scatter_of(part) for part in np.split(features, np.cumsum(sizes)[:-1]))
    assert whole.count == len(features)
    np.testing.assert_allclose(whole.mean, features.mean(axis=0))
    np.testing.assert_allclose(
        whole.products, np.cov(features.T, bias=True) * len(features) if len(features) > 1 else 0, atol=1e-9
    )


def test_images_all_equal_in_the_other_folds():
    features = np.array([[1.0, 2.0], [1.0, 2.0], [3.0, 4.0], [5.0, 1.0]])
    pairs = np.array([0, 2]), np.array([1, 3]), np.array([0, 1])
    projections = fold_projections(features, *pairs, 0.9)
    next(projections)
    with pytest.raises(ValueError, match="must vary"):
        next(projections)
