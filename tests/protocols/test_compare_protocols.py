"""Two models on BLUFR, MegaFace, IJB and YTF: each draw of subjects evaluated case by case, for both models."""

import numpy as np
import pytest

from keras_normface.metrics.bootstrap import subject_counts
from keras_normface.protocols import (
    BlufrProtocol,
    BlufrTrial,
    GallerySearch,
    MegaFaceProtocol,
    PairProtocol,
    TemplatePairs,
    TemplateProtocol,
    VideoPairProtocol,
    compare_pairs,
    compare_results,
    evaluate_blufr,
    evaluate_ijb,
    evaluate_megaface,
    evaluate_video_pairs,
)
from tests.support.evaluation_oracle import cosine, exact_rows, rank_of

PEOPLE, EACH, REPEATS, SEED = 12, 4, 23, 5
SUBJECTS = np.repeat(np.arange(PEOPLE), EACH)
IMAGES = tuple(f"i{number}" for number in range(SUBJECTS.size))


def models(rng):
    """Two models' rows, the second with more of each subject in it."""
    rows = [exact_rows(rng, SUBJECTS.size) for _ in range(2)]
    for each, shared in zip(rows, (8, 10), strict=True):
        each[:, :shared] = exact_rows(rng, PEOPLE)[SUBJECTS, :shared]
    return rows


def gained(cases_a, cases_b, combine):
    """Differences on the draws. A model's cases: for each trial or gallery, the subject and the success of each."""
    present = sorted({subject for part in cases_a for subject, _ in part})
    differences = []
    for counts in subject_counts(len(present), REPEATS, SEED):
        times = dict(zip(present, counts, strict=True))
        figures = []
        for cases in (cases_a, cases_b):
            drawn = [[hit for subject, hit in part for _ in range(times[subject])] for part in cases]
            figures.append(combine([sum(part) / len(part) for part in drawn]))
        differences.append(figures[1] - figures[0])
    return differences


def check(difference, differences):
    assert difference.interval == pytest.approx(tuple(np.quantile(differences, [0.025, 0.975])), abs=1e-12)
    assert difference.b_better == np.mean([1.0 if d > 1e-12 else 0.0 if d < -1e-12 else 0.5 for d in differences])
    assert difference.interval[0] < difference.interval[1]


def compared(evaluate, protocol, rows, *more, **options):
    results = [evaluate(protocol, each, *more, repeats=REPEATS, seed=SEED, **options) for each in rows]
    comparison = compare_results(*results)
    assert (comparison.resampled, comparison.repeats, comparison.seed) == ("subjects", REPEATS, SEED)
    assert all(result.settings["intervals"] == {"resamples": REPEATS, "seed": SEED} for result in results)
    assert [(d.a, d.b) for d in comparison.differences] == [
        (a.value, b.value) for a, b in zip(results[0].figures, results[1].figures, strict=True)
    ]
    return comparison, results


def mean_less_deviation(values):
    return np.mean(values) - np.std(values, ddof=1)


def test_blufr():
    rng = np.random.default_rng(0)
    trials = []
    for _ in range(3):
        people = rng.permutation(PEOPLE)
        test = np.flatnonzero(np.isin(SUBJECTS, people[2:]))
        gallery = np.array([np.flatnonzero(person == SUBJECTS)[0] for person in people[2:8]])
        trials.append(
            BlufrTrial(np.flatnonzero(np.isin(SUBJECTS, people[:2])), test, gallery, np.setdiff1d(test, gallery))
        )
    protocol, rows = BlufrProtocol("toy", IMAGES, SUBJECTS, tuple(trials)), models(rng)
    comparison, results = compared(evaluate_blufr, protocol, rows, fars=0.05, dir_fars=0.5)
    pairs, searches = [], []
    for each, result in zip(rows, results, strict=True):
        # The thresholds themselves are held to loops elsewhere; each trial keeps its own.
        kept = {name: [trial["threshold"] for trial in trials] for name, trials in result.settings["trials"].items()}
        pairs.append([])
        searches.append([])
        for number, trial in enumerate(trials):
            threshold = kept["VR@FAR=5e-02"][number]
            pairs[-1].append([])
            for place, i in enumerate(trial.test):
                for j in trial.test[:place]:
                    if SUBJECTS[i] == SUBJECTS[j]:
                        pairs[-1][-1].append((SUBJECTS[i], cosine(each[i], each[j]) >= threshold))
            threshold = kept["DIR@FAR=5e-01 rank-1"][number]
            searches[-1].append([])
            for probe in trial.probes:
                own = [cosine(each[probe], each[g]) for g in trial.gallery if SUBJECTS[g] == SUBJECTS[probe]]
                others = [cosine(each[probe], each[g]) for g in trial.gallery if SUBJECTS[g] != SUBJECTS[probe]]
                if own:
                    found = own[0] >= threshold and rank_of(own[0], others) == 1
                    searches[-1][-1].append((SUBJECTS[probe], found))
    for cases, name in ((pairs, "VR@FAR=5e-02"), (searches, "DIR@FAR=5e-01 rank-1")):
        check(comparison[name], gained(*cases, mean_less_deviation))
        check(comparison[f"{name} mean"], gained(*cases, np.mean))
    assert "threshold kept" in str(comparison["VR@FAR=5e-02"])


def test_megaface():
    rng = np.random.default_rng(1)
    rows, others = models(rng), exact_rows(rng, 60)
    protocol = MegaFaceProtocol("toy", IMAGES, SUBJECTS, 60)
    comparison, results = compared(evaluate_megaface, protocol, rows, others, ranks=(1, 5), fars=0.01)
    ranked, accepted = [], []
    for each, result in zip(rows, results, strict=True):
        ranked.append([])
        accepted.append([])
        for i, probe in enumerate(each):
            scores = [cosine(probe, other) for other in others]
            for j in np.flatnonzero(SUBJECTS[i] == SUBJECTS):
                if i != j:
                    score = cosine(probe, each[j])
                    ranked[-1].append((SUBJECTS[i], rank_of(score, scores) <= 5))
                    accepted[-1].append((SUBJECTS[i], score >= result["TAR@FAR=1e-02"].threshold))
    check(comparison["rank-5"], gained(*([cases] for cases in ranked), np.mean))
    check(comparison["TAR@FAR=1e-02"], gained(*([cases] for cases in accepted), np.mean))
    assert "distractors kept" in str(comparison["rank-1"])


def ijb(rng, known=True):
    left, right = rng.integers(0, SUBJECTS.size, size=(2, 400))
    pairs = (TemplatePairs(left, right, SUBJECTS[left] == SUBJECTS[right]),)
    galleries = [np.arange(0, SUBJECTS.size, EACH)[part] for part in (slice(0, 5), slice(5, 10))]
    searches = (tuple(GallerySearch(g, np.setdiff1d(np.arange(SUBJECTS.size), g)) for g in galleries),)
    rest = (SUBJECTS, pairs, searches) if known else (None, pairs)
    count = SUBJECTS.size
    return TemplateProtocol("toy", IMAGES, range(count), range(count), [0] * count, *rest)


def test_ijb():
    rng = np.random.default_rng(2)
    protocol, rows = ijb(rng), models(rng)
    comparison, results = compared(evaluate_ijb, protocol, rows, fars=0.05, fpirs=0.2, ranks=(1, 3))
    pairs, ranked = [], []
    for each, result in zip(rows, results, strict=True):
        listed = protocol.pairs[0]
        pairs.append([[]])
        for i, j, same in zip(listed.left, listed.right, listed.same, strict=True):
            if same:
                accepted = cosine(each[i], each[j]) >= result["TAR@FAR=5e-02"].threshold
                pairs[-1][0].append((SUBJECTS[i], accepted))
        ranked.append([])
        for search in protocol.searches[0]:
            ranked[-1].append([])
            for probe in search.probes:
                own = [cosine(each[probe], each[g]) for g in search.gallery if SUBJECTS[g] == SUBJECTS[probe]]
                others = [cosine(each[probe], each[g]) for g in search.gallery if SUBJECTS[g] != SUBJECTS[probe]]
                if own:
                    ranked[-1][-1].append((SUBJECTS[probe], rank_of(own[0], others) == 1))
    check(comparison["TAR@FAR=5e-02"], gained(*pairs, np.mean))
    check(comparison["rank-1"], gained(*ranked, np.mean))
    assert comparison["TPIR@FPIR=2e-01"].interval is not None


def test_ijb_of_unknown_subjects():
    rng = np.random.default_rng(3)
    protocol, rows = ijb(rng, known=False), models(rng)
    comparison = compare_results(*(evaluate_ijb(protocol, each, fars=0.05, repeats=REPEATS) for each in rows))
    assert comparison.repeats == 0
    assert str(comparison["TAR@FAR=5e-02"]).endswith("no interval: subjects unknown")


def test_videos_of_one_frame_are_pairs_of_images():
    rng = np.random.default_rng(4)
    left, right = np.triu_indices(SUBJECTS.size, 1)
    chosen = np.concatenate([np.flatnonzero(SUBJECTS[left] == SUBJECTS[right]), rng.permutation(left.size)[:200]])
    left, right = left[chosen], right[chosen]
    lists = left, right, SUBJECTS[left] == SUBJECTS[right], np.arange(left.size) % 4
    rows = models(rng)
    videos = VideoPairProtocol("toy", IMAGES, tuple([n] for n in range(SUBJECTS.size)), *lists, SUBJECTS)
    comparison, results = compared(evaluate_video_pairs, videos, rows, svm=True)
    expected = compare_pairs(PairProtocol("toy", IMAGES, *lists, SUBJECTS), *rows, repeats=REPEATS, seed=SEED)
    assert comparison["accuracy"].interval == pytest.approx(expected["accuracy"].interval)
    assert comparison["accuracy"].b_better == expected["accuracy"].b_better
    assert comparison["accuracy"].interval[1] > comparison["accuracy"].interval[0]
    assert comparison["accuracy HIK-SVM"].interval is not None
    for result in results:
        assert set(result.resamples.values) == {"accuracy", "accuracy HIK-SVM"}


@pytest.mark.parametrize("evaluate", [evaluate_blufr, evaluate_ijb, evaluate_video_pairs])
@pytest.mark.parametrize("repeats", [0, 2.5, True])
def test_a_number_of_draws_that_is_none(evaluate, repeats):
    with pytest.raises(ValueError, match="`repeats` must be a positive integer"):
        evaluate(_of(evaluate), exact_rows(np.random.default_rng(6), SUBJECTS.size), repeats=repeats)


def _of(evaluate):
    rng = np.random.default_rng(7)
    if evaluate is evaluate_ijb:
        return ijb(rng)
    if evaluate is evaluate_blufr:
        trial = BlufrTrial(range(4), range(4, 48), range(4, 40, 4), range(41, 48))
        return BlufrProtocol("toy", IMAGES, SUBJECTS, (trial, trial))
    return VideoPairProtocol("toy", IMAGES, ([0], [1], [4]), [0, 0] * 2, [1, 2] * 2, [1, 0] * 2, [0, 0, 1, 1])
