"""Augmentation against NumPy."""

import numpy as np
import pytest
import tensorflow as tf

from keras_normface.data import Augmentation

IMAGE = np.random.default_rng(0).integers(0, 256, (7, 5, 3), dtype="uint8")


def changed(augmentation, seed=0, mirrored=0):
    return augmentation(tf.constant(IMAGE), tf.constant(mirrored), tf.constant([seed, 9])).numpy()


def moved(down, right):
    rows = np.clip(np.arange(7) - down, 0, 6)
    return IMAGE[rows][:, np.clip(np.arange(5) - right, 0, 4)]


def test_mirror_is_done_when_told_and_only_if_wanted():
    np.testing.assert_array_equal(changed(Augmentation(), mirrored=1), IMAGE[:, ::-1])
    np.testing.assert_array_equal(changed(Augmentation(), mirrored=0), IMAGE)
    np.testing.assert_array_equal(changed(Augmentation(mirror=False), mirrored=1), IMAGE)


def test_crop_moves_by_every_step_up_to_its_size_and_repeats_the_edge():
    possible = {moved(down, right).tobytes(): (down, right) for down in range(-2, 3) for right in range(-2, 3)}
    found = {possible[changed(Augmentation(crop=2), seed).tobytes()] for seed in range(300)}
    assert found == set(possible.values())


def test_brightness_and_contrast_stay_within_their_bounds_and_repeat():
    brighter = [changed(Augmentation(brightness=0.1), seed).astype(int) - IMAGE for seed in range(50)]
    inside = (IMAGE > 30) & (IMAGE < 225)
    assert max(np.abs(difference).max() for difference in brighter) <= 26
    for difference in brighter:
        assert np.ptp(difference[inside]) <= 1
    assert len({int(difference[inside][0]) for difference in brighter}) > 20
    for seed in range(20):
        contrasted = changed(Augmentation(contrast=0.2), seed).astype(float)
        spread = contrasted.std() / IMAGE.astype(float).std()
        assert 0.75 < spread < 1.2
        np.testing.assert_array_equal(contrasted, changed(Augmentation(contrast=0.2), seed))


def test_a_function_of_ones_own_comes_last_with_a_seed_of_its_own():
    seeds = []

    def note(image, seed):
        seeds.append(tuple(seed.numpy()))
        return 255 - image

    np.testing.assert_array_equal(changed(Augmentation(image=note), mirrored=1), 255 - IMAGE[:, ::-1])
    changed(Augmentation(image=note), seed=1)
    assert len(set(seeds)) == 2


@pytest.mark.parametrize(
    "bad", [{"crop": -1}, {"brightness": 1.0}, {"brightness": -0.1}, {"contrast": 2.0}, {"mirror": "no"}]
)
def test_ranges(bad):
    (name,) = bad
    with pytest.raises(ValueError, match=f"`{name}` must be"):
        Augmentation(**bad)
