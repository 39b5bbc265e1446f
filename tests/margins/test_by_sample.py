"""ψ of the margins by the sample: by hand, against the oracle, order, what is kept, round trips, errors."""

import math

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import ops

from keras_normface.losses import AMSoftmaxLoss, MarginSoftmaxLoss
from keras_normface.margins import (
    TVMF,
    AdaFace,
    AdditiveAngular,
    AdditiveCosine,
    Circle,
    CurricularFace,
    ElasticFace,
    InterClassFilter,
    MagFace,
    Margin,
    MultiplicativeAngular,
    MVSoftmax,
)
from tests.support import sample_oracle as truth
from tests.support.helpers import to_numpy, value_and_gradients

GRID = np.linspace(0.0, np.pi, 201)
ANGLES = st.floats(0.0, math.pi)


def never_rises(margin, value):
    psi = to_numpy(margin.target(ops.cast(np.cos(GRID), "float32"), value))
    assert np.isfinite(psi).all()
    assert (np.diff(psi) <= 2e-6).all()
    return psi


@settings(deadline=None, max_examples=15)
@given(m=st.floats(0.0, 1.0), z=st.floats(-1.0, 1.0))
def test_adaface_never_rises_with_the_angle(m, z):
    psi = never_rises(AdaFace(), (m, z))
    expected = [truth.adaface(t, 50.0 + 9.001 * z, m, 1.0, 50.0, 9.0) for t in GRID]
    np.testing.assert_allclose(psi, expected, atol=2e-5)


@settings(deadline=None, max_examples=15)
@given(low=ANGLES, high=ANGLES, norm=st.floats(0.0, 1000.0))
def test_magface_never_rises_with_the_angle_or_the_norm(low, high, norm):
    low, high = sorted((low, high))
    margin = MagFace(high, least_margin=low)
    m = [float(margin.of_samples(high, ops.array(n, "float32"), None, {})) for n in (norm, norm + 10.0)]
    assert m[1] >= m[0] - 1e-6
    psi = never_rises(margin, m[0])
    np.testing.assert_allclose(psi, [truth.magface(t, norm, low, high) for t in GRID], atol=2e-5)


@settings(deadline=None, max_examples=15)
@given(e=st.floats(-0.5, 4.0), variant=st.sampled_from(["angular", "cosine"]))
def test_elasticface_never_rises_with_the_angle(e, variant):
    psi = never_rises(ElasticFace(variant=variant), e)
    np.testing.assert_allclose(psi, [truth.elastic(t, e, variant) for t in GRID], atol=2e-5)


@settings(deadline=None, max_examples=15)
@given(m=ANGLES, t=st.floats(-1.0, 1.0), cosine=st.floats(-1.0, 1.0))
def test_curricularface_never_rises_with_the_angle_and_changes_hard_classes_alone(m, t, cosine):
    never_rises(CurricularFace(), (m, t))
    own = ops.array([cosine + 0.1, cosine, cosine - 0.1], "float32")
    margin, cosines = CurricularFace(), ops.full((3,), cosine, "float32")
    expected = [cosine, cosine, cosine * (t + cosine)]
    np.testing.assert_allclose(to_numpy(margin.non_target(cosines, (m, t), own)), expected, atol=1e-6)
    slopes = to_numpy(margin.non_target_slope(cosines, (m, t), own))
    np.testing.assert_allclose(slopes, [1.0, 1.0, t + 2 * cosine], atol=1e-6)
    np.testing.assert_array_equal(to_numpy(margin.non_target(cosines)), to_numpy(cosines))
    np.testing.assert_array_equal(to_numpy(margin.non_target_slope(cosines)), 1.0)


@settings(deadline=None, max_examples=15)
@given(m=ANGLES, t=st.floats(1.0, 3.0), own=st.floats(-1.0, 1.0))
def test_mv_softmax_never_rises_with_the_angle_and_its_hard_classes_lie_higher(m, t, own):
    margin = MVSoftmax(AdditiveAngular(m), hardness=t)
    never_rises(margin, None)
    cosines = ops.cast(np.cos(GRID), "float32")
    eta, slope = margin.non_target(cosines, own=own), margin.non_target_slope(cosines, own=own)
    hard = to_numpy(cosines) > np.float32(own)
    np.testing.assert_allclose(to_numpy(slope), np.where(hard, t, 1.0), rtol=1e-6)
    assert (to_numpy(eta) >= to_numpy(cosines) - 1e-6).all()
    assert (np.diff(to_numpy(eta)) <= 2e-6).all()


@settings(deadline=None, max_examples=15)
@given(kappa=st.floats(0.0, 100.0), m=st.floats(0.0, 1.0), tau=st.floats(0.0, 1.0))
def test_margins_on_cosines_never_rise_with_the_angle(kappa, m, tau):
    psi = never_rises(TVMF(kappa), None)
    assert psi[0] == pytest.approx(1.0, abs=1e-5)
    assert psi[-1] == pytest.approx(-1.0, abs=1e-5)
    never_rises(Circle(m), None)
    cosines = ops.cast(np.cos(GRID), "float32")
    assert (to_numpy(Circle(m).non_target_slope(cosines)) >= 0).all()  # its value, cos² − m², falls below 0
    margin = InterClassFilter(MultiplicativeAngular(1.5, variant="v2", gradient="exact"), threshold=tau)
    never_rises(margin, None)
    near = to_numpy(cosines) > np.float32(tau)
    for ours, whole in (
        (margin.non_target(cosines), margin.margin.non_target(cosines)),
        (margin.non_target_slope(cosines), margin.margin.non_target_slope(cosines)),
    ):
        np.testing.assert_array_equal(to_numpy(ours), np.where(near, 0.0, to_numpy(whole)))


def test_mv_softmax_is_a_loss_too():
    loss = MarginSoftmaxLoss(MVSoftmax(AdditiveCosine(0.25), hardness=1.5), scale=2.0)
    value = float(to_numpy(loss(np.array([0]), np.array([[0.5, 0.5, 0.125]], "float32"))))
    assert value == pytest.approx(math.log(1 + math.exp(2 * (1.25 - 0.25)) + math.exp(2 * (0.125 - 0.25))), rel=1e-6)


@settings(deadline=None, max_examples=15)
@given(
    norms=st.lists(st.floats(0.01, 90.0), min_size=2, max_size=9),
    cut=st.integers(0, 9),
    mean=st.floats(1.0, 50.0),
    rate=st.sampled_from([0.01, 0.5, 1.0]),
)
def test_sums_of_shares_move_the_averages_as_the_batch_does(norms, cut, mean, rate):
    margin, state = AdaFace(rate=rate), {"norm_mean": ops.array(mean), "norm_deviation": ops.array(5.0)}
    norms = np.array(norms, "float32")
    shares = [margin.sums(ops.array(part), None, state) for part in (norms[:cut], norms[cut:])]
    moved = [float(value) for value in margin.moved(state, shares[0] + shares[1]).values()]
    expected = truth.moving(norms.astype("float64"), mean, 5.0, rate)
    np.testing.assert_allclose(moved, expected, rtol=1e-4, atol=0.02)


def test_by_hand():
    margin, state = AdaFace(), {"norm_mean": 20.0, "norm_deviation": 10.0 - 1e-3}
    m, z = margin.of_samples(0.4, ops.array([20.0, 35.0, 1e6, 0.0]), None, state)
    np.testing.assert_allclose(to_numpy(z), [0.0, 0.333 * 1.5, 1.0, -0.333 * 1.9999], rtol=1e-5)
    assert m == 0.4
    right_angle = ops.array(0.0)
    # An angle of π/2 less m·ẑ: cos(π/2 − 0.4) = sin 0.4; of π/2 + 0.4 the other way, and no addend.
    assert float(margin.target(right_angle, (0.4, 1.0))) == pytest.approx(math.sin(0.4) - 0.8, abs=1e-6)
    assert float(margin.target(right_angle, (0.4, -1.0))) == pytest.approx(-math.sin(0.4), abs=1e-6)
    assert float(margin.target(ops.array(0.25))) == pytest.approx(-0.15, abs=1e-6)  # of an average sample
    # λ·(a/u² + 1/a) with a = u: 2λ/u; it falls up to there.
    penalty = to_numpy(MagFace().penalty(ops.array([1.0, 10.0, 110.0, 500.0])))
    np.testing.assert_allclose(penalty, [35 * (10 / 12100 + 0.1)] * 2 + [70 / 110] * 2, rtol=1e-6)
    easy = MagFace(only_positive_cosines=True)
    assert float(easy.target(ops.array(-0.25), 0.5)) == -0.25
    assert float(easy.target(ops.array(0.5), 0.5)) == pytest.approx(math.cos(math.pi / 3 + 0.5), abs=1e-6)


def test_what_passes_a_gradient_to_the_norm():
    norm, cosine = np.array([1.0, 12.0, 60.0, 200.0]), np.array([0.5, 0.1, 0.3, -0.2])

    def slopes(margin, state=None):
        function = lambda n, c: margin.target(c, margin.of_samples(margin.value, n, None, state))  # noqa: E731
        return value_and_gradients(function, norm, cosine)[1]

    by_norm, by_cosine = slopes(AdaFace(), {"norm_mean": 20.0, "norm_deviation": 10.0})
    assert not by_norm.any()
    np.testing.assert_array_equal(by_cosine, np.ones(4))
    for gradient in ("detached", "exact"):
        by_norm, by_cosine = slopes(MagFace(gradient=gradient))
        m = 0.45 + 0.35 * (np.clip(norm, 10, 110) - 10) / 100
        expected = -np.sin(np.arccos(cosine) + m) * 0.35 / 100 * [0, 1, 1, 0]
        np.testing.assert_allclose(by_norm, expected, rtol=1e-4, atol=1e-7)
        assert np.allclose(by_cosine, 1.0) == (gradient == "detached")
    _, (by_norm,) = value_and_gradients(MagFace().penalty, norm)
    np.testing.assert_allclose(by_norm, 35 * (1 / 12100 - 1 / norm**2) * [0, 1, 1, 0], rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize(
    "margin",
    [
        AdaFace(0.3, concentration=0.5, rate=0.1, gradient="exact"),
        MagFace(0.7, least_margin=0.2, norms=(1.0, 9.0), norm_weight=2.0, only_positive_cosines=True),
        ElasticFace(0.3, 0.1, variant="cosine", by_rank=True, seed=4),
        ElasticFace(),
        CurricularFace(0.3, rate=0.5, gradient="exact"),
        MVSoftmax(ElasticFace(0.3, seed=2), hardness=1.5),
        MVSoftmax(),
        InterClassFilter(CurricularFace(0.3), threshold=0.5),
        TVMF(4.0),
        Circle(0.3),
    ],
)
def test_round_trip(margin):
    config = keras.saving.serialize_keras_object(margin)
    again = keras.saving.deserialize_keras_object(config)
    assert type(again) is type(margin)
    assert again.get_config() == margin.get_config()


def test_defaults_are_the_papers():
    assert (ElasticFace().value, ElasticFace().deviation) == (0.5, 0.0125)
    by_rank = ElasticFace(variant="cosine", by_rank=True)
    assert (by_rank.value, by_rank.deviation) == (0.35, 0.025)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: AdaFace(1.5), "`margin`.*Received: margin=1.5"),
        (lambda: AdaFace(concentration=0.0), "`concentration`"),
        (lambda: AdaFace(rate=1.5), "`rate`"),
        (lambda: AdaFace(gradient="none"), "`gradient`"),
        (lambda: MagFace(4.0), "`margin`"),
        (lambda: MagFace(least_margin=-0.1), "`least_margin`"),
        (lambda: MagFace(norms=(5.0, 5.0)), "`norms`"),
        (lambda: MagFace(norm_weight=-1.0), "`norm_weight`"),
        (lambda: ElasticFace(variant="arc"), "`variant`"),
        (lambda: ElasticFace(deviation=-1.0), "`deviation`"),
        (lambda: ElasticFace(seed=-1), "`seed`"),
        (lambda: CurricularFace(4.0), "`margin`"),
        (lambda: CurricularFace(rate=0.0), "`rate`"),
        (lambda: MVSoftmax(MultiplicativeAngular(variant="v2")), "`margin` must leave the other classes"),
        (lambda: MVSoftmax(CurricularFace()), "`margin` must leave the other classes"),
        (lambda: MVSoftmax(hardness=0.9), "`hardness`"),
        (lambda: InterClassFilter(threshold=1.5), "`threshold`"),
        (lambda: TVMF(-1.0), "`concentration`"),
        (lambda: Circle(1.5), "`margin`"),
        (lambda: MarginSoftmaxLoss(CurricularFace()), "`margin` must follow from the cosine"),
        (lambda: MarginSoftmaxLoss(AdaFace()), "`margin` must follow from the cosine.*MarginSoftmaxHead"),
    ],
)
def test_errors_name_the_argument(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_a_margin_of_ones_own_must_say_what_is_summed():
    class Kept(Margin):
        by_sample, state = True, {"mean": 0.0}

    with pytest.raises(NotImplementedError, match="Kept must implement `sums`"):
        Kept(0.1, "exact").sums(ops.ones(2), ops.ones(2), {})
    with pytest.raises(NotImplementedError, match="Kept must implement `moved`"):
        Kept(0.1, "exact").moved({}, ops.ones(2))
    assert AMSoftmaxLoss().margin.state == {}
