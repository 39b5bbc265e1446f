"""Templates: pooling against loops, and lists that do not fit."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_normface.protocols import GallerySearch, TemplatePairs, TemplateProtocol, pool_templates
from keras_normface.protocols import templates as pooling
from keras_normface.protocols._records import template_rows


def slow_pool(embeddings, template_ids, media_ids, members):
    templates = {}
    for row, template, medium in zip(members, template_ids, media_ids, strict=True):
        templates.setdefault(template, {}).setdefault(medium, []).append(embeddings[row])
    vectors = {}
    for template, media in templates.items():
        total = sum(sum(images) / len(images) for images in media.values())
        vectors[template] = total / np.sqrt((total**2).sum())
    return sorted(vectors), np.array([vectors[template] for template in sorted(vectors)])


@pytest.mark.parametrize("block", [1, 37, 2**18])
def test_against_loops(block, monkeypatch):
    monkeypatch.setattr(pooling, "_BLOCK_ELEMENTS", block)
    rng = np.random.default_rng(0)
    embeddings = rng.normal(size=(60, 5))
    members, templates, media = rng.integers(0, 60, 90), rng.integers(-3, 9, 90) * 1000, rng.integers(0, 4, 90)
    ids, vectors = pool_templates(embeddings, templates, media, members=members)
    expected_ids, expected = slow_pool(embeddings, templates, media, members)
    assert ids.tolist() == expected_ids
    np.testing.assert_allclose(vectors, expected, atol=1e-6)
    assert vectors.dtype == np.float32


def test_a_long_video_weighs_no_more_than_a_photo():
    # Template 5: a video of three frames (2, 0) whose mean is (2, 0), and a photo (0, 2): direction (1, 1).
    # Template 4 has a medium of the same number, which is another medium.
    embeddings = [[2.0, 0.0]] * 3 + [[0.0, 2.0], [0.0, 7.0]]
    ids, vectors = pool_templates(embeddings, [5, 5, 5, 5, 4], [1, 1, 1, 2, 1])
    assert ids.tolist() == [4, 5]
    np.testing.assert_allclose(vectors, [[0, 1], [0.5**0.5, 0.5**0.5]], atol=1e-7)


@settings(deadline=None, max_examples=30)
@given(st.permutations(range(12)))
def test_the_order_of_members_does_not_matter(order):
    embeddings = np.arange(1.0, 25.0).reshape(12, 2)
    templates, media = np.arange(12) % 3, np.arange(12) % 4 // 2
    expected = pool_templates(embeddings, templates, media)[1]
    got = pool_templates(embeddings[order], templates[order], media[order])[1]
    np.testing.assert_allclose(got, expected, atol=1e-6)


def test_pooling_refuses():
    with pytest.raises(ValueError, match=r"embeddings\[1\] with NaN"):
        pool_templates([[1, 0], [np.nan, 0]], [0, 0], [0, 1])
    with pytest.raises(ValueError, match=r"pooled templates\[1\] is a zero vector"):
        pool_templates([[1, 0], [-1, 0], [1, 0]], [7, 7, 3], [0, 1, 0])
    with pytest.raises(ValueError, match="`media_ids` must be a list of integers of 2 entries"):
        pool_templates([[1, 0], [1, 1]], [0, 0], [0])
    with pytest.raises(ValueError, match="`embeddings` must be a matrix"):
        pool_templates([1, 0], [0, 0], [0, 1])


@pytest.mark.parametrize("ids", [[5, 9, 10**12], [5, 6, 9]])
def test_rows_of_templates(ids):
    ids = np.array(ids)
    wanted = ids[[2, 0, 0, 1]]
    assert template_rows(ids, wanted).tolist() == [2, 0, 0, 1]
    for missing in (4, 7, 10**13):
        with pytest.raises(ValueError, match=f"template {missing} without any"):
            template_rows(ids, np.array([ids[0], missing]))


def protocol(**changes):
    lists = {
        "members": [0, 1, 2],
        "template_ids": [1, 2, 3],
        "media_ids": [0, 0, 0],
        "template_subjects": [7, 7, 8],
        **changes,
    }
    return TemplateProtocol("toy", ("a", "b", "c"), **lists)


def test_templates_are_rising():
    assert protocol(template_ids=[9, 2, 9], template_subjects=[1, 2]).templates.tolist() == [2, 9]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"members": [0, 1, 3]}, r"`members` must lie in 0\.\.2"),
        ({"template_ids": [1, 2]}, "`template_ids` must be a list of integers of 3"),
        ({"media_ids": [0.5, 1, 2]}, "`media_ids` must be a list of integers"),
        ({"template_subjects": [7, 7]}, "`template_subjects` must be a list of integers of 3"),
        ({"template_subjects": [7, 7, -2]}, "`template_subjects` must be at least 0, or -1"),
        ({"subjects": [1, 2]}, "`subjects` must be a list of integers of 3"),
        ({"pairs": (TemplatePairs([1], [9], [True]),)}, "template 9 without any"),
        ({"pairs": (TemplatePairs([1, 1], [2, 3], [True, True]),)}, r"same\[1\]=True for subjects 7 and 8"),
        ({"searches": ((GallerySearch([1], [9]),),)}, "template 9 without any"),
        ({"searches": ((),)}, "a split without any"),
    ],
)
def test_lists_that_do_not_fit(changes, message):
    with pytest.raises(ValueError, match=message):
        protocol(**changes)


def test_pairs_and_galleries_that_cannot_be():
    with pytest.raises(ValueError, match="`right` must be a list of integers of 2"):
        TemplatePairs([1, 2], [3], [True, False])
    with pytest.raises(ValueError, match=r"`?same`?.*one entry for each of the 1"):
        TemplatePairs([1], [3], [2])
    with pytest.raises(ValueError, match="`gallery` must hold at least one template"):
        GallerySearch([1, 1], [3])
    with pytest.raises(ValueError, match="`probes` must hold at least one template"):
        GallerySearch([1], [])
    with pytest.raises(ValueError, match="template 2 in both"):
        GallerySearch([1, 2], [3, 2])
