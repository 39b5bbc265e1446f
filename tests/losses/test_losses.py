"""NormFace's losses on logits and cosines."""

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_normface import AgentContrastiveLoss, AgentTripletLoss, NormFaceLoss
from tests.support import oracle
from tests.support.helpers import central_differences, check_loss, in_graph, random_units, to_numpy, value_and_gradients

IDS = np.array([0, 2, 1, 2, 4, 3])
CONTRASTIVE = [
    ({}, {}),
    (
        {"positive_margin": 0.5, "negative_margin": 2.5, "positive_weight": 3.0, "negative_weight": 0.5},
        {"m_pos": 0.5, "m_neg": 2.5, "w_pos": 3.0, "w_neg": 0.5},
    ),
    ({"positive_cap": 1.25}, {"cap": 1.25}),
    ({"negative_margin": 2.5, "hardest_negative_only": True}, {"m_neg": 2.5, "hardest": True}),
    ({"negative_margin": 2.5, "exponential_negatives": True}, {"m_neg": 2.5, "exponential": True}),
    ({"negative_margin": 0.0}, {"m_neg": 0.0}),
]
TRIPLET = [
    ({}, {}),
    ({"margin": 2.0}, {"margin": 2.0}),
    ({"positive_pull": True}, {"pull": True}),
    ({"hardest_negative_only": True, "positive_pull": True}, {"hardest": True, "pull": True}),
    ({"hardest_negative_only": True}, {"hardest": True}),
]
SOFTMAX = [({}, 1.0, 0.0), ({"scale": 20.0}, 20.0, 0.0), ({"scale": 5.0, "label_smoothing": 0.1}, 5.0, 0.1)]


def all_cases():
    """Each loss with its oracle on the same cosines."""
    for options, scale, smoothing in SOFTMAX:
        yield (
            lambda o=options, **kw: NormFaceLoss(**o, **kw),
            lambda c, ids, s=scale, e=smoothing: oracle.softmax_losses(s * c, ids, e),
        )
    for options, theirs in CONTRASTIVE:
        yield (
            lambda o=options, **kw: AgentContrastiveLoss(**o, **kw),
            lambda c, ids, t=theirs: oracle.agent_contrastive_losses(c, ids, **t),
        )
    for options, theirs in TRIPLET:
        yield (
            lambda o=options, **kw: AgentTripletLoss(**o, **kw),
            lambda c, ids, t=theirs: oracle.agent_triplet_losses(c, ids, **t),
        )


CASES = list(all_cases())


def some_cosines(seed=0, samples=6, classes=5, dim=4):
    rng = np.random.default_rng(seed)
    return random_units(rng, samples, dim) @ random_units(rng, classes, dim).T


@pytest.mark.parametrize(("make", "expected"), CASES)
def test_value_and_gradient_against_the_oracle(make, expected):
    cosines = some_cosines()
    value, (gradient,) = value_and_gradients(lambda c: make(reduction=None)(IDS, c), cosines)
    np.testing.assert_allclose(value, expected(cosines, IDS), rtol=1e-5, atol=1e-5)
    (numeric,) = central_differences(lambda c: expected(c, IDS), cosines)
    np.testing.assert_allclose(gradient, numeric, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("make", [make for make, _ in CASES[::2]])
def test_generic(make):
    check_loss(make, IDS, some_cosines(), num_classes=5)


def test_generic_of_the_caffe_gradient():
    check_loss(lambda **kw: AgentTripletLoss(gradient="caffe", **kw), IDS, some_cosines(), num_classes=5)


def test_contrastive_by_hand():
    # d = 2 − 2·(0.75, 0.75, −1) = (0.5, 0.5, 4): pull 0.5, push max(0, 1 − 0.5) + max(0, 1 − 4) = 0.5
    assert to_numpy(AgentContrastiveLoss()(np.array([0]), np.array([[0.75, 0.75, -1.0]]))) == pytest.approx(1.0)
    # exponential: 0.5 + e^{−0.5}
    value = to_numpy(AgentContrastiveLoss(exponential_negatives=True)(np.array([0]), np.array([[0.75, 0.75, -1.0]])))
    assert value == pytest.approx(0.5 + np.exp(-0.5), rel=1e-6)


def caffe(cosines, **options):
    loss = AgentTripletLoss(gradient="caffe", reduction=None, **options)
    value, (gradient,) = value_and_gradients(lambda c: loss(np.array([0]), c), cosines)
    return value[0], gradient[0] / -2  # ∂/∂d, since d = 2 − 2 cos


def test_caffe_gradient_by_hand_two_violations():
    # d = (1, 1.5, 1.25, 4), m = 0.8: hinges 0.3 and 0.55; each violating negative −1, the own agent 1 (not 2)
    value, gradient = caffe([[0.5, 0.25, 0.375, -1.0]])
    assert value == pytest.approx(0.85, rel=1e-6)
    np.testing.assert_allclose(gradient, [1, -1, -1, 0])


def test_caffe_gradient_by_hand_no_violation():
    # d = (0.5, 3, 4): no hinge. The pull acts only with `positive_pull`, and never shows in the value
    value, gradient = caffe([[0.75, -0.5, -1.0]])
    assert value == 0
    np.testing.assert_allclose(gradient, [0, 0, 0])
    value, gradient = caffe([[0.75, -0.5, -1.0]], positive_pull=True)
    assert value == 0
    np.testing.assert_allclose(gradient, [1, 0, 0])


def test_caffe_gradient_by_hand_hardest_only():
    value, gradient = caffe([[0.5, 0.25, 0.375, -1.0]], hardest_negative_only=True)
    assert value == pytest.approx(0.55, rel=1e-6)
    np.testing.assert_allclose(gradient, [1, 0, -1, 0])


def test_exact_gradient_counts_each_violation():
    loss = AgentTripletLoss(reduction=None)
    _, (gradient,) = value_and_gradients(lambda c: loss(np.array([0]), c), [[0.5, 0.25, 0.375, -1.0]])
    np.testing.assert_allclose(gradient[0] / -2, [2, -1, -1, 0])


def test_soft_labels():
    cosines = some_cosines()
    soft = 0.25 * np.eye(5)[IDS] + 0.75 * np.eye(5)[(IDS + 1) % 5]
    expected = 0.25 * oracle.softmax_losses(cosines, IDS) + 0.75 * oracle.softmax_losses(cosines, (IDS + 1) % 5)
    ours = to_numpy(NormFaceLoss(reduction=None)(soft, cosines))
    np.testing.assert_allclose(ours, expected, rtol=1e-5)
    with pytest.raises(ValueError, match="one-hot row"):
        AgentTripletLoss()(soft, cosines)


@pytest.mark.parametrize(("make", "_expected"), CASES)
def test_one_class_and_one_sample(make, _expected):
    loss = make(reduction=None)
    value, (gradient,) = value_and_gradients(lambda c: loss(np.array([[0]]), c), [[0.5]])
    assert value.shape == (1,)
    assert np.isfinite(value).all()
    assert np.isfinite(gradient).all()
    with pytest.raises(ValueError, match="y_true"):
        loss(np.array([[1]]), np.array([[0.5]], dtype="float32"))


@pytest.mark.parametrize(("make", "expected"), CASES)
@pytest.mark.parametrize("cosine", [1.0, -1.0])
def test_the_ends(make, expected, cosine):
    cosines = np.full((2, 3), -cosine)
    cosines[:, 1] = cosine
    value, (gradient,) = value_and_gradients(lambda c: make(reduction=None)(np.array([1, 0]), c), cosines)
    np.testing.assert_allclose(value, expected(cosines, [1, 0]), rtol=1e-5, atol=1e-6)
    assert np.isfinite(gradient).all()


@pytest.mark.parametrize(("make", "_expected"), CASES)
def test_a_nan_embedding_is_not_hidden(make, _expected):
    cosines = some_cosines()
    cosines[1] = np.nan
    values = in_graph(lambda c: make(reduction=None)(IDS, c), cosines.astype("float32"))
    assert np.isnan(values[1])
    assert np.isfinite(np.delete(values, 1)).all()


@pytest.mark.parametrize(("make", "expected"), CASES)
def test_sequences(make, expected):
    cosines = some_cosines()
    values = to_numpy(make(reduction=None)(IDS.reshape(2, 3), cosines.reshape(2, 3, 5).astype("float32")))
    np.testing.assert_allclose(values, expected(cosines, IDS).reshape(2, 3), rtol=1e-5, atol=1e-5)


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 6), st.integers(1, 6), st.integers(0, 2**32 - 1))
def test_order_of_samples_and_of_classes_does_not_matter(samples, classes, seed):
    rng = np.random.default_rng(seed)
    cosines, ids = some_cosines(seed, samples, classes), rng.integers(0, classes, samples)
    rows, columns = rng.permutation(samples), rng.permutation(classes)
    for make, _ in CASES[1::4]:
        loss = make(reduction=None)
        permuted = loss(np.argsort(columns)[ids[rows]], cosines[rows][:, columns])
        np.testing.assert_allclose(to_numpy(permuted), to_numpy(loss(ids, cosines))[rows], rtol=1e-4, atol=1e-5)


def test_a_million_classes():
    cosines = np.zeros((2, 10**6), dtype="float32")
    ids = np.array([5, 999_999])
    assert to_numpy(NormFaceLoss()(ids, cosines)) == pytest.approx(np.log(1e6), rel=1e-6)
    assert to_numpy(AgentContrastiveLoss(negative_margin=2.5)(ids, cosines)) == pytest.approx(
        2 + 0.5 * 999_999, rel=1e-6
    )
    # m + d_iy − d_ij = 0.75 for each of the others
    assert to_numpy(AgentTripletLoss(margin=0.75)(ids, cosines)) == pytest.approx(0.75 * 999_999, rel=1e-6)


def test_ids_that_float32_cannot_hold_are_refused():
    spec = keras.KerasTensor((1, 2**24 + 1))
    with pytest.raises(ValueError, match="2\\^24"):
        NormFaceLoss().call(np.zeros((1,), dtype="float32"), spec)


def test_losses_stay_float32_and_round_trip_their_dtype():
    assert NormFaceLoss().get_config()["dtype"] == "float32"
    loss = NormFaceLoss.from_config(NormFaceLoss(dtype="float64").get_config())
    assert loss.dtype == "float64"


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: NormFaceLoss(scale=0.0), "`scale`.*Received: scale=0.0"),
        (lambda: NormFaceLoss(scale=float("inf")), "`scale`.*Received: scale=inf"),
        (lambda: NormFaceLoss(scale="30"), "`scale`.*Received: scale='30'"),
        (lambda: AgentContrastiveLoss(negative_margin=float("inf")), "`negative_margin`"),
        (lambda: NormFaceLoss(label_smoothing=1.0), "`label_smoothing`"),
        (lambda: NormFaceLoss(dtype="float16"), "`dtype`.*Received: dtype='float16'"),
        (lambda: AgentContrastiveLoss(positive_margin=-1), "`positive_margin`.*Received: positive_margin=-1"),
        (lambda: AgentContrastiveLoss(negative_weight=float("nan")), "`negative_weight`"),
        (lambda: AgentContrastiveLoss(positive_cap=0), "`positive_cap`"),
        (lambda: AgentTripletLoss(margin=-0.1), "`margin`"),
        (lambda: AgentTripletLoss(gradient="true"), "`gradient`.*Received: gradient='true'"),
        (lambda: NormFaceLoss()(np.array([0, 1]), np.zeros((3, 4))), r"y_true.shape=\(2,\)"),
        (lambda: NormFaceLoss()(np.zeros((3, 5)), np.zeros((3, 4))), r"y_true.shape=\(3, 5\)"),
    ],
)
def test_errors_name_the_argument(call, message):
    with pytest.raises(ValueError, match=message):
        call()
