"""MegaFace against a loop that puts each mate among the distractors."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_normface.metrics.identification import MateRanks
from keras_normface.protocols import MegaFaceProtocol, evaluate_megaface
from keras_normface.protocols import megaface as megaface_evaluation
from keras_normface.protocols.megaface import _distractor_blocks
from tests.support.evaluation_oracle import cosine, exact_rows, rank_of, rate_at


def toy(rng, images=24, people=5, distractors=300):
    subjects = rng.permutation(np.arange(images) % people) + 10
    protocol = MegaFaceProtocol("toy", tuple(f"i{n}" for n in range(images)), subjects, distractors)
    probes, others = exact_rows(rng, images), exact_rows(rng, distractors)
    # Some likeness within a subject, so that ranks spread.
    probes[:, :9] = exact_rows(rng, 20)[subjects, :9]
    return protocol, probes, others


def slow_ranks_and_scores(protocol, probes, distractors):
    ranks, genuine, impostor = [], [], []
    for i, probe in enumerate(probes):
        scores = [cosine(probe, other) for other in distractors]
        impostor += scores
        for j, mate in enumerate(probes):
            if i != j and protocol.subjects[i] == protocol.subjects[j]:
                genuine.append(cosine(probe, mate))
                ranks.append(rank_of(genuine[-1], scores))
    return np.array(ranks), genuine, impostor


@pytest.mark.parametrize("seed", range(3))
def test_against_the_loop_with_ties(seed):
    protocol, probes, distractors = toy(np.random.default_rng(seed))
    ranks, genuine, impostor = slow_ranks_and_scores(protocol, probes, distractors)
    result = evaluate_megaface(protocol, probes, distractors, ranks=(1, 2, 10, 50, 301), fars=(0.5, 0.01, 1e-3))
    for rank in (1, 2, 10, 50, 301):
        assert result[f"rank-{rank}"].value == np.mean(ranks <= rank)
    for far, name in ((0.5, "5e-01"), (0.01, "1e-02"), (1e-3, "1e-03")):
        assert result[f"TAR@FAR={name}"].value == pytest.approx(rate_at(genuine, impostor, far))
    assert result.counts["searches"] == len(ranks)
    assert result.counts["impostor"] == len(impostor)
    assert 0.0 < result["rank-1"].value < result["rank-50"].value


def test_by_hand():
    # ann: a1 at 0 degrees, a2 at 40. Distractors at 20, 35 and 180 degrees; the mate is always 40 away.
    # Probe a1: distractors 20, 35, 180 away: rank 3. Probe a2: 20, 5, 140 away: rank 3.
    # Impostor distances rise 5, 20, 20, 35, 140, 180: at FAR 1/6 only 5 is accepted, at 4/6 all up to 35, at 5/6 mates.
    degrees = np.radians([0, 40, 20, 35, 180])
    rows = np.stack([np.cos(degrees), np.sin(degrees)], axis=1)
    protocol = MegaFaceProtocol("hand", ("a1", "a2"), [0, 0], 3)
    result = evaluate_megaface(protocol, rows[:2], rows[2:], ranks=(1, 2, 3), fars=(1 / 6, 0.7, 5 / 6))
    assert [result[f"rank-{k}"].value for k in (1, 2, 3)] == [0.0, 0.0, 1.0]
    values = [figure.value for figure in result.figures if figure.name.startswith("TAR")]
    # At 0.7, 4 of 6 are allowed; the threshold just above cos 140 lies below cos 40.
    assert values == [0.0, 1.0, 1.0]


@pytest.mark.parametrize("seed", range(4))
def test_a_model_that_maps_all_to_one_finds_and_verifies_nobody(seed):
    # Genuine and impostor cosines are sums of one and the same terms, in whatever order.
    row = np.random.default_rng(seed).normal(size=512).astype("float32")
    protocol = MegaFaceProtocol("one", tuple(f"i{n}" for n in range(30)), np.arange(30) % 10, 2001)
    result = evaluate_megaface(protocol, np.tile(row, (30, 1)), np.tile(row, (2001, 1)), ranks=1, fars=(1e-3, 0.5))
    assert [figure.value for figure in result.figures] == [0.0, 0.0, 0.0]


def test_a_distractor_that_is_the_mate_counts_against_the_probe():
    # In float32 the same cosine may come out of two products with different last bits.
    rng = np.random.default_rng(3)
    probes = rng.normal(size=(40, 129)).astype("float32")
    protocol = MegaFaceProtocol("copies", tuple(f"i{n}" for n in range(40)), np.arange(40) % 20, 40)
    result = evaluate_megaface(protocol, probes, 7 * probes, ranks=(1, 2, 3))
    # The probe's own copy beats the mate, and the mate's copy ties with it.
    assert [result[f"rank-{k}"].value for k in (1, 2)] == [0.0, 0.0]
    assert result["rank-3"].value > 0.0


def as_array(distractors, _):
    return distractors


def as_memmap(distractors, folder):
    distractors.tofile(folder / "distractors.f32")
    return np.memmap(folder / "distractors.f32", np.float32, "r", shape=distractors.shape)


def as_blocks(distractors, _):
    return iter([distractors[:1], distractors[1:150], distractors[150:150], distractors[150:]])


def as_vectors(distractors, _):
    return (vector for vector in distractors)


@pytest.mark.parametrize("form", [as_array, as_memmap, as_blocks, as_vectors])
@pytest.mark.parametrize(("block", "tile", "first"), [(8192, 64, 64), (7, 5, 1), (100, 1, 300), (300, 24, 2)])
def test_the_form_and_the_blocks_do_not_matter(form, block, tile, first, tmp_path, monkeypatch):
    protocol, probes, distractors = toy(np.random.default_rng(4))
    expected = evaluate_megaface(protocol, probes, distractors)
    for name, value in (("_BLOCK_ROWS", block), ("_TILE_ROWS", tile), ("_FIRST_COLUMNS", first)):
        monkeypatch.setattr(megaface_evaluation, name, value)
    got = evaluate_megaface(protocol, probes, form(distractors, tmp_path))
    assert got.to_json() == expected.to_json()


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_ranks_are_exact_as_deep_as_asked(data):
    score = st.integers(-8, 8).map(lambda n: n / 8)
    genuine = data.draw(st.lists(st.tuples(st.integers(0, 2), score), min_size=1, max_size=8))
    blocks = data.draw(st.lists(st.lists(st.tuples(st.integers(0, 2), score), max_size=15), max_size=6))
    deepest = data.draw(st.integers(1, 12))
    probes, scores = np.array([g[0] for g in genuine]), np.float32([g[1] for g in genuine])
    mates = MateRanks(probes, scores, 3, deepest)
    for block in blocks:
        kept = [(probe, value) for probe, value in block if value >= mates.floor[probe]]
        mates.add(np.array([p for p, _ in kept], int), np.float32([v for _, v in kept]))
        mates.raise_floor()
    for got, (probe, value) in zip(mates.ranks(), genuine, strict=True):
        rank = rank_of(value, [v for block in blocks for p, v in block if p == probe])
        assert got == rank if rank <= deepest else got > deepest


def test_images_in_another_order_score_the_same():
    rng = np.random.default_rng(5)
    protocol, probes, distractors = toy(rng)
    order = rng.permutation(len(probes))
    other = MegaFaceProtocol("toy", tuple(protocol.images[i] for i in order), protocol.subjects[order], 300)
    got = evaluate_megaface(other, 5 * probes[order], distractors[rng.permutation(300)])
    assert got.to_json() == evaluate_megaface(protocol, probes, distractors).to_json()


def test_intervals_over_the_identities():
    protocol, probes, distractors = toy(np.random.default_rng(6))
    result = evaluate_megaface(protocol, probes, distractors, ranks=10, fars=0.01)
    low, high = result["rank-10"].interval
    assert low < result["rank-10"].value < high
    assert "distractors kept" in result["rank-10"].note
    assert "threshold kept" in result.figures[-1].note
    one = MegaFaceProtocol("one", ("a", "b"), [3, 3], 300)
    figure = evaluate_megaface(one, probes[:2], distractors)["rank-1"]
    assert (figure.interval, figure.note) == (None, "no interval: too few subjects")


def test_refusals():
    protocol, probes, distractors = toy(np.random.default_rng(7))
    with pytest.raises(ValueError, match=r"`fars` must be at least 1/7200 = .*Received: fars=1e-06"):
        evaluate_megaface(protocol, probes, distractors, fars=1e-6)
    with pytest.raises(ValueError, match=r"`distractors` must be 300 .*Received: 299"):
        evaluate_megaface(protocol, probes, distractors[1:])
    with pytest.raises(ValueError, match=r"`distractors` must be 300 .*Received: more"):
        evaluate_megaface(protocol, probes, (row for row in np.tile(distractors, (2, 1))))
    with pytest.raises(ValueError, match=r"as many columns as probes, 16.*\(5, 3\) from distractors\[2\] on"):
        evaluate_megaface(protocol, probes, [np.ones((2, 16)), np.ones((5, 3))])
    with pytest.raises(ValueError, match="`probes` must have shape"):
        evaluate_megaface(protocol, probes[1:], distractors)
    distractors[123, 4] = np.nan
    for form in (distractors, iter([distractors[:100], distractors[100:]])):
        with pytest.raises(ValueError, match=r"distractors\[123\]"):
            evaluate_megaface(protocol, probes, form)


def test_protocols_that_cannot_be():
    with pytest.raises(ValueError, match=r"two images each.*subject 7 with one"):
        MegaFaceProtocol("lonely", ("a", "b", "c"), [3, 3, 7], 5)
    with pytest.raises(ValueError, match="`distractors` must be a positive integer"):
        MegaFaceProtocol("empty", ("a", "b"), [3, 3], 0)
    with pytest.raises(ValueError, match="`images` must hold each key once"):
        MegaFaceProtocol("twice", ("a", "a"), [3, 3], 5)
    assert MegaFaceProtocol("keys", ("a", "b"), [3, 3], ("x", "y", "z")).num_distractors == 3


@pytest.mark.parametrize("rows", [1, 3, 4, 100])
def test_blocks_of_one_size(rows):
    distractors = exact_rows(np.random.default_rng(8), 17)
    parts = [distractors[:4], distractors[4:5], distractors[5], distractors[6:]]
    blocks = list(_distractor_blocks(iter(parts), 16, rows))
    assert [len(block) for block in blocks[:-1]] == [rows] * (len(blocks) - 1)
    assert np.concatenate(blocks).tolist() == distractors.tolist()
