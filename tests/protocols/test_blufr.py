"""BLUFR against loops over all pairs and all searches."""

import numpy as np
import pytest

from keras_normface.protocols import BlufrProtocol, BlufrTrial, evaluate_blufr
from tests.support.evaluation_oracle import cosine, exact_rows, rank_of, share_above

PEOPLE, EACH = 14, 4


def random_protocol(rng, trials=3):
    subjects = rng.permutation(np.repeat(np.arange(100, 100 + PEOPLE), EACH))
    parts = []
    for _ in range(trials):
        people = 100 + rng.permutation(PEOPLE)
        train = np.flatnonzero(np.isin(subjects, people[:3]))
        test = np.flatnonzero(np.isin(subjects, people[3:]))
        # One image of each of five people, two of a sixth.
        gallery = np.concatenate([np.flatnonzero(subjects == p)[: 1 + (p == people[3])] for p in people[3:9]])
        parts.append(BlufrTrial(train, rng.permutation(test), gallery, np.setdiff1d(test, gallery)))
    return BlufrProtocol("random", tuple(f"i{n}" for n in range(subjects.size)), subjects, tuple(parts))


def half_up(x):
    return int(x) + (x - int(x) >= 0.5)


def slow_vr(protocol, rows, trial, far):
    genuine, impostor = [], []
    for a, i in enumerate(trial.test):
        for j in trial.test[:a]:
            score = cosine(rows[i], rows[j])
            (genuine if protocol.subjects[i] == protocol.subjects[j] else impostor).append(score)
    return share_above(genuine, sorted(impostor, reverse=True)[half_up(far * len(impostor)) - 1])


def slow_dir(protocol, rows, trial, far, rank):
    strangers, known = [], []
    for probe in trial.probes:
        own, others = [], []
        for entry in trial.gallery:
            score = cosine(rows[probe], rows[entry])
            (own if protocol.subjects[probe] == protocol.subjects[entry] else others).append(score)
        if own:
            known.append((max(own), rank_of(max(own), others)))
        else:
            strangers.append(max(others))
    threshold = sorted(strangers, reverse=True)[half_up(far * len(strangers)) - 1]
    return sum(score >= threshold and place <= rank for score, place in known) / len(known)


def mean_less_deviation(values):
    mean = sum(values) / len(values)
    return mean - (sum((value - mean) ** 2 for value in values) / (len(values) - 1)) ** 0.5


@pytest.mark.parametrize("seed", range(3))
def test_against_loops_with_ties(seed):
    rng = np.random.default_rng(seed)
    protocol = random_protocol(rng)
    rows = exact_rows(rng, len(protocol.images))
    rows[:, :6] = exact_rows(rng, 200)[protocol.subjects, :6]
    fars, dir_fars = (0.3, 0.05, 0.0017), (0.5, 0.1)
    result = evaluate_blufr(protocol, rows, fars=fars, dir_fars=dir_fars, ranks=(1, 3), intervals=False)
    for far, name in zip(fars, ("VR@FAR=3e-01", "VR@FAR=5e-02", "VR@FAR=0.0017"), strict=True):
        values = [slow_vr(protocol, rows, trial, far) for trial in protocol.trials]
        assert result[name].value == pytest.approx(mean_less_deviation(values), abs=1e-12)
        assert result[f"{name} mean"].value == pytest.approx(np.mean(values), abs=1e-12)
        assert result[name].spread == pytest.approx(np.std(values, ddof=1), abs=1e-12)
        assert [trial["value"] for trial in result.settings["trials"][name]] == pytest.approx(values)
    for far, name in zip(dir_fars, ("DIR@FAR=5e-01", "DIR@FAR=1e-01"), strict=True):
        for rank in (1, 3):
            values = [slow_dir(protocol, rows, trial, far, rank) for trial in protocol.trials]
            assert result[f"{name} rank-{rank}"].value == pytest.approx(mean_less_deviation(values), abs=1e-12)


def test_by_hand():
    # Unit vectors by angle; cosines fall with the angle between them.
    # Trial: ann 0 and 10 degrees, bob 90 and 120, eve 15. Genuine pairs: ann 10 apart, bob 30 apart.
    # Impostor pairs, 8: ann-bob 90, 120, 80, 110; eve-ann 15, 5; eve-bob 75, 105. The two best: 5 and 15 apart.
    # FAR 1/8: threshold cos 5: no genuine pair. FAR 2/8: cos 15: ann's, one of two. FAR 3/8: cos 75: both.
    # Gallery: ann 0, bob 90. Impostor probe eve: best 15 (ann). Mates: ann 10 apart, rank 1; bob 30 apart, rank 1.
    # DIR@FAR 1: every impostor is accepted, so every mate is, though bob's lies below cos 15.
    degrees = np.array([0, 10, 90, 120, 15, 200])
    rows = np.stack([np.cos(np.radians(degrees)), np.sin(np.radians(degrees))], axis=1)
    trial = BlufrTrial(train=[5], test=[0, 1, 2, 3, 4], gallery=[0, 2], probes=[1, 3, 4])
    protocol = BlufrProtocol("hand", tuple("abcdef"), [1, 1, 2, 2, 3, 4], (trial, trial))
    result = evaluate_blufr(protocol, rows, fars=(1 / 8, 2 / 8, 3 / 8, 1.0), dir_fars=1.0)
    assert result["VR@FAR=1e+00"].value == 1.0
    assert [result[f"VR@FAR={far}"].value for far in (0.125, 0.25, 0.375)] == [0.0, 0.5, 1.0]
    assert result["DIR@FAR=1e+00 rank-1"].value == 1.0
    assert result.settings["trials"]["DIR@FAR=1e+00 rank-1"][0]["threshold"] == pytest.approx(np.cos(np.radians(30)))
    assert result["VR@FAR=0.125 mean"].interval == (0.0, 0.0)
    assert result.counts["fewest impostor pairs"] == 8
    assert result.counts["fewest impostor probes"] == 1


def test_a_half_is_rounded_up():
    # Four impostor pairs and FAR 0.625: 2.5 is rounded to 3, where Python's round gives 2.
    rows = np.array([[1, 0], [0.6, 0.8], [0.8, 0.6], [0.28, 0.96], [0, 1]])
    trial = BlufrTrial(train=[4], test=[0, 1, 2, 3], gallery=[0], probes=[1, 2, 3])
    protocol = BlufrProtocol("half", tuple("abcde"), [1, 1, 2, 2, 3], (trial, trial))
    result = evaluate_blufr(protocol, rows, fars=0.625, dir_fars=1.0)
    # Impostor cosines: .8, .28, .96, .936: the third largest is .8.
    assert result.settings["trials"]["VR@FAR=0.625"][0]["threshold"] == pytest.approx(0.8)


def test_order_and_scale_change_nothing():
    rng = np.random.default_rng(5)
    protocol = random_protocol(rng)
    rows = rng.normal(size=(len(protocol.images), 8))
    result = evaluate_blufr(protocol, rows, intervals=False)
    order = rng.permutation(len(rows))
    place = np.argsort(order)
    moved = tuple(
        BlufrTrial(*(rng.permutation(place[part]) for part in (t.train, t.test, t.gallery, t.probes)))
        for t in protocol.trials
    )
    images = tuple(protocol.images[i] for i in order)
    other = BlufrProtocol("random", images, protocol.subjects[order], moved)
    assert [f.value for f in evaluate_blufr(other, 3 * rows[order], intervals=False).figures] == pytest.approx(
        [f.value for f in result.figures]
    )


def test_a_projection_is_fitted_on_each_trials_training_images():
    rng = np.random.default_rng(6)
    protocol = random_protocol(rng)
    rows = rng.normal(size=(len(protocol.images), 8)) + 5
    seen = []

    def fit(train, subjects):
        seen.append((train, subjects))
        mean = train.mean(axis=0)
        return lambda embeddings: embeddings - mean

    result = evaluate_blufr(protocol, rows, fars=0.1, projection=fit, intervals=False)
    for trial, (train, _) in zip(protocol.trials, seen, strict=True):
        np.testing.assert_allclose(train, rows[trial.train])
    values = [slow_vr(protocol, rows - rows[t.train].mean(axis=0), t, 0.1) for t in protocol.trials]
    assert result["VR@FAR=1e-01 mean"].value == pytest.approx(np.mean(values))
    assert result.settings["projection"] == "fit"


def test_pca_is_the_projection_on_the_training_directions():
    rng = np.random.default_rng(7)
    protocol = random_protocol(rng)
    scale = np.array([9, 7, 5, 0.01, 0.01])
    rows = rng.normal(size=(len(protocol.images), 5)) * scale + 3
    result = evaluate_blufr(protocol, rows, fars=0.1, projection="pca", intervals=False)
    values = []
    for trial in protocol.trials:
        train = rows[trial.train]
        _, _, axes = np.linalg.svd(train - train.mean(axis=0))
        values.append(slow_vr(protocol, (rows - train.mean(axis=0)) @ axes[:3].T, trial, 0.1))
    assert result["VR@FAR=1e-01 mean"].value == pytest.approx(np.mean(values))
    with pytest.raises(ValueError, match="`projection` must be"):
        evaluate_blufr(protocol, rows, projection="lda")


def test_intervals_hold_the_figure_and_follow_the_seed():
    rng = np.random.default_rng(8)
    protocol = random_protocol(rng)
    rows = exact_rows(rng, len(protocol.images))
    result, again = (evaluate_blufr(protocol, rows, fars=0.2, seed=3) for _ in range(2))
    low, high = result["VR@FAR=2e-01 mean"].interval
    assert low < result["VR@FAR=2e-01 mean"].value < high
    assert "threshold kept" in result["VR@FAR=2e-01"].note
    assert again.to_json() == result.to_json()
    other = evaluate_blufr(protocol, rows, fars=0.2, seed=4)
    assert other["VR@FAR=2e-01 mean"].interval != (low, high)


def test_a_figure_that_few_draws_define_has_no_interval():
    # Six people, and in each of six trials a pair of one of them alone: few draws hold them all.
    subjects = np.repeat(np.arange(7), 2)
    trials = tuple(
        BlufrTrial([12], [2 * n, 2 * n + 1, (2 * n + 2) % 12], [2 * n], [2 * n + 1, (2 * n + 2) % 12]) for n in range(6)
    )
    protocol = BlufrProtocol("few", tuple(f"i{n}" for n in range(14)), subjects, trials)
    result = evaluate_blufr(protocol, np.eye(7)[subjects], fars=0.5, dir_fars=1.0, repeats=60)
    assert result["VR@FAR=5e-01"].interval is None
    assert result["VR@FAR=5e-01"].note == "mean minus standard deviation; no interval: too few subjects"
    assert not result.resamples.values


def test_all_scores_equal():
    protocol = random_protocol(np.random.default_rng(9))
    result = evaluate_blufr(protocol, np.ones((len(protocol.images), 3)), dir_fars=0.5)
    # Every threshold accepts all; every stranger in the gallery ties with the mate.
    assert result["VR@FAR=1e-02"].value == 1.0
    assert result["DIR@FAR=5e-01 rank-1"].value == 0.0


def test_refusals():
    rng = np.random.default_rng(10)
    protocol = random_protocol(rng)
    rows = rng.normal(size=(len(protocol.images), 4))
    pairs = evaluate_blufr(protocol, rows).counts["fewest impostor pairs"]
    with pytest.raises(ValueError, match=rf"1/{pairs} = .*Received: fars=1e-06"):
        evaluate_blufr(protocol, rows, fars=1e-6)
    with pytest.raises(ValueError, match=r"impostor probes.*Received: dir_fars=0.001"):
        evaluate_blufr(protocol, rows, dir_fars=1e-3)
    with pytest.raises(ValueError, match="`embeddings` must have shape"):
        evaluate_blufr(protocol, rows[1:])
    with pytest.raises(ValueError, match="`ranks` must"):
        evaluate_blufr(protocol, rows, ranks=0)
    rows[7] = np.nan
    with pytest.raises(ValueError, match=r"embeddings\[7\]"):
        evaluate_blufr(protocol, rows)


@pytest.mark.parametrize(
    ("subjects", "gallery", "probes", "missing"),
    [
        ([0, 1, 2, 3], [1], [2, 3], "genuine pairs"),
        ([0, 1, 1, 1], [1], [2, 3], "impostor pairs"),
        ([0, 1, 1, 2], [3], [1, 2], "genuine probes"),
        ([0, 1, 1, 2], [1], [2], "impostor probes"),
    ],
)
def test_a_trial_of_one_kind_is_refused(subjects, gallery, probes, missing):
    trial = BlufrTrial([0], [1, 2, 3], gallery, probes)
    protocol = BlufrProtocol("one kind", tuple("abcd"), subjects, (trial, trial))
    with pytest.raises(ValueError, match=rf"trials\[0\] without {missing}"):
        evaluate_blufr(protocol, np.eye(4))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"train": [1]}, "other subjects"),
        ({"gallery": [0]}, "gallery` must be of the test set"),
        ({"probes": [0, 2]}, "probes` must be of the test set"),
        ({"probes": [1, 2]}, "must not look up"),
        ({"test": [1, 2, 9]}, r"test` must lie in 0\.\.3"),
    ],
)
def test_lists_that_contradict_each_other(change, message):
    lists = {"train": [0], "test": [1, 2, 3], "gallery": [1], "probes": [2, 3], **change}
    with pytest.raises(ValueError, match=message):
        BlufrProtocol("wrong", tuple("abcd"), [0, 1, 1, 2], (BlufrTrial(**lists),) * 2)


def test_lists_of_another_kind():
    with pytest.raises(ValueError, match="`train` must hold each index once"):
        BlufrTrial([0, 0], [1], [1], [1])
    with pytest.raises(ValueError, match="at least two"):
        BlufrProtocol("one", tuple("abcd"), [0, 1, 1, 2], (BlufrTrial([0], [1, 2], [1], [2]),))
    with pytest.raises(ValueError, match=r"`subjects` must be at least 0.*subjects\[3\]=-1"):
        BlufrProtocol("unknown", tuple("abcd"), [0, 1, 1, -1], (BlufrTrial([0], [1, 2], [1], [2]),) * 2)
