"""Margins by the sample in the heads: the float64 oracle in every form, limits, what is kept, draws, shares."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_normface import EmbeddingModel, MarginSoftmaxHead, SampledMarginSoftmaxHead
from keras_normface.heads import WholeBatch
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
    MVSoftmax,
    NoMargin,
)
from tests.support import oracle
from tests.support import sample_oracle as truth
from tests.support.helpers import COMPILED, central_differences, check_layer, to_numpy, value_and_gradients

# JAX has float64 only if it is asked for it at the start.
EXACT = keras.backend.backend() == "tensorflow"
FLOAT = "float64" if EXACT else "float32"
VALUES = {"rtol": 1e-10, "atol": 1e-10} if EXACT else {"rtol": 1e-4, "atol": 1e-4}
SLOPES = {"rtol": 1e-6, "atol": 1e-6} if EXACT else {"rtol": 5e-3, "atol": 5e-3}
IDS = np.array([0, 10, 4, 4, 8, 4], dtype="int32")
CLASSES, SCALE, STEP = 11, 9.3, 3
BOUNDS = (3.0, 20.0)
FORMS = (False, "buffer", "stream", "sampled")
STATE = {"norm_mean": 7.0, "norm_deviation": 3.0, "mean_target_cosine": 0.15}
NORMS = ("norm_mean", "norm_deviation")


def data(seed=0, classes=CLASSES):
    """Embeddings of norms on both sides of all bounds, and class centres."""
    rng = np.random.default_rng(seed)
    x = oracle.unit(rng.normal(size=(6, 4))) * np.array([[1.0], [4.0], [6.0], [9.0], [14.0], [30.0]])
    return x, rng.normal(size=(classes, 4))


def draws(margin, cosines, step=STEP):
    """E of each sample, by the oracle."""
    numbers = [truth.normal(margin.seed, step, place) for place in range(len(cosines))]
    if margin.by_rank:
        numbers = np.sort(numbers)[np.argsort(np.argsort(-np.asarray(cosines)))]
    return margin.value + margin.deviation * np.asarray(numbers)


def norms(x):
    return [truth.norm_of(row) for row in x]


def adaface(margin, x, cosines, training):
    state = tuple(STATE[name] for name in NORMS)
    if training:
        state = truth.moving(np.clip(norms(x), 0.001, 100.0), *state, margin.rate)
    options = {"m": margin.value, "h": margin.concentration, "mean": state[0], "deviation": state[1]}
    return {"psi": lambda i, theta, row: truth.adaface(theta, norms(x)[i], **options)}


def magface(margin, x, cosines, training):
    options = {"low": margin.least_margin, "high": margin.value, "bounds": BOUNDS}
    return {
        "psi": lambda i, theta, row: truth.magface(
            theta, truth.norm_of(row), positive=margin.only_positive_cosines, **options
        ),
        "addend": lambda norm: truth.magface_penalty(norm, margin.norm_weight, BOUNDS),
    }


def elastic(margin, x, cosines, training):
    e = draws(margin, cosines) if training else [margin.value] * len(x)
    return {"psi": lambda i, theta, row: truth.elastic(theta, e[i], margin.variant)}


def curricular(margin, x, cosines, training):
    t = STATE["mean_target_cosine"]
    t = margin.rate * np.mean(cosines) + (1 - margin.rate) * t if training else t
    return {
        "psi": lambda i, theta, row: np.cos(min(np.pi, theta + margin.value)),
        "eta": lambda i, cosine, own, there: cosine * (t + cosine) if there > own else cosine,
    }


def mv_softmax(margin, x, cosines, training):
    t = margin.hardness
    return {
        "psi": lambda i, theta, row: np.cos(min(np.pi, theta + margin.value)),
        "eta": lambda i, cosine, own, there: t * cosine + t - 1 if there > own else cosine,
    }


def filtered(margin, x, cosines, training):
    return {
        "psi": lambda i, theta, row: np.cos(min(np.pi, theta + margin.value)),
        "eta": lambda i, cosine, own, there: 0.0 if there > margin.threshold else cosine,
    }


def t_vmf(margin, x, cosines, training):
    similarity = lambda cosine: (1 + cosine) / (1 + margin.value * (1 - cosine)) - 1  # noqa: E731
    return {
        "psi": lambda i, theta, row: similarity(np.cos(theta)),
        "eta": lambda i, cosine, own, there: similarity(cosine),
        "at": None,
    }


def circle(margin, x, cosines, training):
    m = margin.value
    return {
        "psi": lambda i, theta, row: max(0.0, 1 + m - cosines[i]) * (np.cos(theta) - 1 + m),
        "eta": lambda i, cosine, own, there: max(0.0, there + m) * (cosine - m),
        "around": (x, data()[1]),
        "at": None,
    }


CASES = {
    "adaface": (lambda **kw: AdaFace(0.4, rate=0.3, **kw), adaface),
    "magface": (lambda **kw: MagFace(0.7, least_margin=0.2, norms=BOUNDS, norm_weight=1.5, **kw), magface),
    "magface, positive": (lambda **kw: MagFace(norms=BOUNDS, only_positive_cosines=True, **kw), magface),
    "elastic": (lambda **kw: ElasticFace(deviation=0.1, seed=5, **kw), elastic),
    "elastic by rank": (lambda **kw: ElasticFace(deviation=0.1, by_rank=True, **kw), elastic),
    "curricular": (lambda **kw: CurricularFace(0.6, rate=0.3, **kw), curricular),
    "mv": (lambda **kw: MVSoftmax(AdditiveAngular(0.3, **kw), hardness=1.3), mv_softmax),
    "filtered": (lambda **kw: InterClassFilter(AdditiveAngular(0.3, **kw), threshold=0.2), filtered),
    "t-vMF": (lambda **kw: TVMF(3.0), t_vmf),
    "circle": (lambda **kw: Circle(0.3), circle),
    "elastic cosine": (lambda **kw: ElasticFace(deviation=0.1, variant="cosine", **kw), elastic),
}


def make(margin, form, agents, **options):
    """A head in one of the forms, at step 3, with known moving averages."""
    options = {"dtype": FLOAT, "scale": SCALE, **options}
    if form == "sampled":  # of all classes
        head = SampledMarginSoftmaxHead(len(agents), margin, fused=False, **options)
    else:
        head = MarginSoftmaxHead(len(agents), margin, fused=form, **options)
    head.build((None, 4))
    head.kernel.assign(agents)
    if head.counts_steps:
        head.step.assign(STEP)
    for name, variable in head.margin_state.items():
        variable.assign(STATE[name])
    return head


def loss_of(head, form, training):
    """Function of embeddings and class centres; what the head keeps begins anew at each call."""

    def losses(x, agents):
        with keras.StatelessScope(state_mapping=[(head.kernel, agents)]):
            if form == "sampled":
                slots = head.sample(ops.convert_to_tensor(IDS), STEP)
                return head.statistics(IDS, x, training=training, sample=(slots, agents)).loss
            return head.loss(IDS, x, training=training)

    return losses


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", CASES)
def test_losses_and_all_gradients_are_the_oracles(name, form):
    x, agents = data()
    # Each form is seen detached or exact, in training or not; the plain one in all four.
    number = list(CASES).index(name) + FORMS.index(form)
    kinds = [("exact", True), ("detached", False)] if number % 2 else [("detached", True), ("exact", False)]
    kinds = [(g, t) for g in ("exact", "detached") for t in (True, False)] if form is False else kinds
    for gradient, training in kinds:
        new, parts = CASES[name]
        margin = new(gradient=gradient)
        cosines = oracle.cosine_matrix(x, agents)[np.arange(6), IDS]
        at = (x, agents) if gradient == "detached" else None
        options = {"at": at, **parts(margin, x, cosines, training)}
        expected = lambda e, w, options=options: truth.losses(e, w, IDS, SCALE, **options)  # noqa: E731
        ours = loss_of(make(margin, form, agents), form, training)
        value, gradients = value_and_gradients(ours, x, agents, dtype=FLOAT)
        np.testing.assert_allclose(value, expected(x, agents), **VALUES)
        for slope, numeric in zip(gradients, central_differences(expected, x, agents), strict=True):
            np.testing.assert_allclose(slope, numeric, **SLOPES)


LIMITS = {
    "AdaFace, m = 0": (AdaFace(0.0, gradient="exact"), NoMargin()),
    "MagFace, one margin and no weight": (
        MagFace(0.5, least_margin=0.5, norm_weight=0.0, norms=BOUNDS),
        AdditiveAngular(0.5),
    ),
    "MV-Softmax, t = 1": (MVSoftmax(AdditiveCosine(0.35), hardness=1.0), AdditiveCosine(0.35)),
    "MV-Softmax, t = 1, on angles": (MVSoftmax(AdditiveAngular(0.5), hardness=1.0), AdditiveAngular(0.5)),
    "MV-Softmax around AdaFace, t = 1": (MVSoftmax(AdaFace(rate=0.3), hardness=1.0), AdaFace(rate=0.3)),
    "InterClassFilter, τ = 1": (InterClassFilter(AdditiveCosine(0.35), threshold=1.0), AdditiveCosine(0.35)),
    "t-vMF, κ = 0": (TVMF(0.0), NoMargin()),
    "ElasticFace, no deviation": (ElasticFace(0.5, 0.0), AdditiveAngular(0.5)),
    "ElasticFace by rank, no deviation": (ElasticFace(0.5, 0.0, by_rank=True), AdditiveAngular(0.5)),
    "ElasticFace on cosines, no deviation": (ElasticFace(0.35, 0.0, variant="cosine"), AdditiveCosine(0.35)),
}


@pytest.mark.skipif(not EXACT, reason="JAX computes in float32 here")
@pytest.mark.parametrize(
    ("name", "form"),
    [
        pytest.param(name, form, marks=() if (i + j) % 2 == 0 else pytest.mark.slow)
        for i, name in enumerate(LIMITS)
        for j, form in enumerate(FORMS)
    ],
)
def test_limits_are_the_older_margins(name, form):
    x, agents = data(1)
    found = []
    for margin in LIMITS[name]:
        ours = loss_of(make(margin, form, agents), form, training=True)
        found.append(value_and_gradients(ours, x, agents, dtype=FLOAT))
    (one, slopes), (other, expected) = found
    np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-12)
    for slope, wanted in zip(slopes, expected, strict=True):
        np.testing.assert_allclose(slope, wanted, rtol=1e-12, atol=1e-12)


@pytest.mark.skipif(not EXACT, reason="JAX computes in float32 here")
@pytest.mark.parametrize("form", FORMS)
def test_curricularface_is_arcface_without_hard_classes(form):
    agents = np.eye(11, 4) + 0.1 * np.random.default_rng(0).normal(size=(11, 4))
    agents[4:] = -np.abs(agents[4:])
    x = 7.0 * agents[np.array([0, 1, 2, 3, 0, 1])] + 0.1
    found = []
    for margin in (CurricularFace(0.4), AdditiveAngular(0.4)):
        head = make(margin, form, agents)
        ids = np.array([0, 1, 2, 3, 0, 1], dtype="int32")

        def losses(e, w, head=head, ids=ids):
            with keras.StatelessScope(state_mapping=[(head.kernel, w)]):
                if form != "sampled":
                    return head.loss(ids, e, training=True)
                slots = head.sample(ops.convert_to_tensor(ids), STEP)
                return head.statistics(ids, e, training=True, sample=(slots, w)).loss

        found.append(value_and_gradients(losses, x, agents, dtype=FLOAT))
    cosines = oracle.cosine_matrix(x, agents)
    psi = np.cos(np.arccos(cosines[np.arange(6), ids]) + 0.4)
    assert (np.sort(cosines, axis=1)[:, -2] < psi).all()
    np.testing.assert_allclose(found[0][0], found[1][0], rtol=1e-12, atol=1e-12)
    for ours, wanted in zip(found[0][1], found[1][1], strict=True):
        np.testing.assert_allclose(ours, wanted, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("form", [False, "buffer", "stream"])
def test_curricularface_by_hand(form):
    # Own class at 60 degrees, one at a cosine of 0.8, which is hard, and one at -0.6; t = 0 gives 0.8 squared.
    agents = np.array([[0.5, np.sqrt(0.75)], [0.8, 0.6], [-0.6, 0.8]])
    head = MarginSoftmaxHead(3, CurricularFace(rate=0.5), scale=2.0, fused=form, dtype=FLOAT)
    head.build((None, 2))
    head.kernel.assign(agents)
    x, ids = np.array([[4.0, 0.0]]), np.array([0])
    own = np.cos(np.pi / 3 + 0.5)
    for training, t in ((False, 0.0), (True, 0.25), (False, 0.25)):
        loss = to_numpy(head.loss(ids, x, training=training))
        terms = np.exp(2.0 * (0.8 * (t + 0.8) - own)) + np.exp(2.0 * (-0.6 - own))
        np.testing.assert_allclose(loss, [np.log(1 + terms)], rtol=1e-6)
    assert float(head.margin_state["mean_target_cosine"]) == pytest.approx(0.25, rel=1e-6)
    head.loss(ids, np.full((1, 2), np.nan), training=True)
    assert float(head.margin_state["mean_target_cosine"]) == pytest.approx(0.25, rel=1e-6)


def test_moving_averages_by_hand():
    x = np.array([[3.0, 0.0, 0.0, 0.0], [0.0, 5.0, 0.0, 0.0], [0.0, 0.0, 10.0, 0.0]], dtype="float32")
    head = make(AdaFace(rate=0.5), False, data()[1], dtype="float32")

    def kept():
        return [round(float(variable), 4) for variable in head.margin_state.values()]

    head.loss(IDS[:3], x)
    assert kept() == [7.0, 3.0]  # not in evaluation
    head.loss(IDS[:3], x, training=True)
    assert kept() == [6.5, 3.3028]  # halves of 7 and 6, of 3 and √13
    for bad in (x[:1], np.full((2, 4), np.nan, "float32"), np.full((2, 4), 1e30, "float32")):
        head.loss(IDS[: len(bad)], bad, training=True)
        assert kept() == [6.5, 3.3028]
    head.loss(IDS[:3], np.zeros((3, 4), "float32"), training=True)
    assert kept() == pytest.approx([3.2505, 1.6514], abs=2e-3)  # one pass of float32, far from the mean so far


def test_the_deviation_of_large_equal_norms_is_not_rounded_away():
    head = make(AdaFace(rate=1.0), False, data()[1], dtype="float32")
    x = np.eye(4, dtype="float32") * np.array([90.0, 90.001, 90.002, 90.003], "float32")
    for _ in range(2):  # the second time the sums are taken about the mean itself
        head.loss(IDS[:4], x, training=True)
    assert float(head.margin_state["norm_deviation"]) == pytest.approx(np.std(x.max(axis=1), ddof=1), rel=1e-4)


def test_draws_follow_seed_step_and_place_and_are_normal():
    x, agents = data()
    x, ids = np.tile(x, (400, 1)).astype("float32"), np.tile(IDS, 400)
    head = make(ElasticFace(0.5, 1.0, variant="cosine"), False, agents, dtype="float32")
    psi = []
    for step in (3, 4):
        head.step.assign(step)
        psi.append(to_numpy(head._margin_value(ids, ops.convert_to_tensor(x), head.kernel, True)) - 0.5)
    expected = [truth.normal(0, 3, place) for place in range(50)]
    np.testing.assert_allclose(psi[0][:50], expected, rtol=1e-4, atol=1e-5)
    assert np.abs(np.corrcoef(psi)[0, 1]) < 0.07
    for drawn in psi:
        assert abs(drawn.mean()) < 0.08
        assert abs(drawn.std() - 1) < 0.06
        assert abs((drawn**3).mean()) < 0.3
    head.loss(ids, x, training=True)
    assert float(head.step) == 5.0
    head.loss(ids, x)
    assert float(head.step) == 5.0


def test_the_farthest_sample_gets_the_largest_margin():
    x, agents = data()
    head = make(ElasticFace(deviation=0.1, by_rank=True), False, agents)
    e = to_numpy(head._margin_value(IDS, ops.convert_to_tensor(x, dtype=FLOAT), head.kernel, True))
    cosines = oracle.cosine_matrix(x, agents)[np.arange(6), IDS]
    assert (np.diff(e[np.argsort(cosines)]) < 0).all()
    alike = make(ElasticFace(deviation=0.1), False, agents)
    each = to_numpy(alike._margin_value(IDS, ops.convert_to_tensor(x, dtype=FLOAT), alike.kernel, True))
    np.testing.assert_allclose(np.sort(e), np.sort(each), rtol=1e-6)


@pytest.mark.parametrize("cut", [2, 5])
@pytest.mark.parametrize("name", CASES)
def test_shares_of_a_batch_give_what_the_batch_gives(name, cut):
    x, agents = (array.astype(FLOAT) for array in data())
    margin = CASES[name][0]()
    whole = make(margin, False, agents)
    expected = to_numpy(whole.loss(IDS, x, training=True))
    parts = slice(None, cut), slice(cut, None)
    heads = [make(margin, "stream", agents) for _ in parts]
    if not whole.needs_of_batch:
        with pytest.raises(ValueError, match="`batch` must be None"):
            heads[0].statistics(IDS, x, training=True, batch=WholeBatch(0))
        return
    shares = [head.batch_share(IDS[part], x[part]) for head, part in zip(heads, parts, strict=True)]
    sums = None if shares[0][0] is None else shares[0][0] + shares[1][0]
    cosines = None if shares[0][1] is None else ops.concatenate([share[1] for share in shares])
    found = [
        head.statistics(IDS[part], x[part], training=True, batch=WholeBatch(part.start or 0, sums, cosines)).loss
        for head, part in zip(heads, parts, strict=True)
    ]
    np.testing.assert_allclose(np.concatenate([to_numpy(f) for f in found]), expected, rtol=1e-5)
    for head in heads:
        for kept, wanted in zip(head.margin_state.values(), whole.margin_state.values(), strict=True):
            assert float(kept) == pytest.approx(float(wanted), rel=1e-5)


USUAL = {
    "curricular": lambda **kw: MarginSoftmaxHead(5, CurricularFace(), scale=20.0, **kw),
    "mv": lambda **kw: MarginSoftmaxHead(5, MVSoftmax(AdaFace()), scale=20.0, **kw),
    "adaface": lambda **kw: MarginSoftmaxHead(5, AdaFace(), scale=20.0, **kw),
    "magface": lambda **kw: MarginSoftmaxHead(5, MagFace(norms=(0.5, 6.0), norm_weight=0.1), scale=20.0, **kw),
    "elastic": lambda **kw: MarginSoftmaxHead(5, ElasticFace(by_rank=True), scale=20.0, **kw),
}


SOME = [pytest.param(name, marks=() if name in ("adaface", "curricular") else pytest.mark.slow) for name in USUAL]


@pytest.mark.parametrize("name", SOME)
def test_generic(name, tmp_path):
    check_layer(USUAL[name], (4,), tmp_path)


def blobs(classes=5, each=13, dim=6):
    rng = np.random.default_rng(0)
    x = np.repeat(3 * np.eye(dim)[:classes], each, axis=0) + 0.3 * rng.normal(size=(classes * each, dim))
    return x.astype("float32")[:64], np.repeat(np.arange(classes), each)[:64]


@pytest.mark.parametrize("name", SOME)
def test_a_separable_problem_is_learnt_and_what_is_kept_is_saved(name, tmp_path):
    x, y = blobs()
    keras.utils.set_random_seed(0)
    backbone = keras.Sequential([keras.Input((6,)), keras.layers.Dense(8, activation="tanh"), keras.layers.Dense(4)])
    model = EmbeddingModel(backbone, USUAL[name]())
    model.compile(keras.optimizers.Adam(0.02), jit_compile=COMPILED)
    start = [float(v) for v in model.heads[0].margin_state.values()]
    model.evaluate(x, y, verbose=0)
    assert [float(v) for v in model.heads[0].margin_state.values()] == start
    model.fit(np.tile(x, (40, 1)), np.tile(y, 40), batch_size=16, verbose=0)
    after = model.evaluate(x, y, verbose=0, return_dict=True)
    assert after["accuracy"] == 1.0
    assert np.isfinite(after["loss"])
    moved = [float(v) for v in model.heads[0].margin_state.values()]
    assert not set(moved) & set(start)
    if model.heads[0].counts_steps:
        assert float(model.heads[0].step) == 160.0
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras").heads[0]
    assert [float(v) for v in again.margin_state.values()] == moved


def test_a_schedule_replaces_the_margin():
    x, agents = data()
    schedule = keras.optimizers.schedules.PiecewiseConstantDecay([1], [0.1, 0.25])
    for new in (AdaFace, MagFace, lambda m: ElasticFace(m, 0.0), CurricularFace, lambda m: MVSoftmax(AdaFace(m))):
        scheduled = make(new(0.1), False, agents, margin_schedule=schedule)
        fixed = make(new(0.25), False, agents)
        np.testing.assert_allclose(to_numpy(scheduled.loss(IDS, x)), to_numpy(fixed.loss(IDS, x)), rtol=1e-6)
