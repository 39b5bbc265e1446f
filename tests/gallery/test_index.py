"""The index of a large gallery: what it finds is right and exactly scored, and how much it misses is measured."""

import importlib.util
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_normface.gallery import Gallery, IndexStatus, _index

DIM = 32


def clustered(count, clusters, seed, dim=DIM, spread=0.15):
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(clusters, dim))
    centres /= np.linalg.norm(centres, axis=1, keepdims=True)
    return centres[rng.integers(0, clusters, count)] + spread * rng.normal(size=(count, dim)) * np.sqrt(16 / dim)


def unit(rows):
    rows = np.asarray(rows, "float64")
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def names(count, start=0, letter="p"):
    return [f"{letter}{number}" for number in range(start, start + count)]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "people.gallery"


def enrolled(path, rows):
    with Gallery(path, fingerprint="toy") as gallery:
        gallery.enrol_embeddings(names(len(rows)), rows)
    return path


def answers(gallery, probes, count=5):
    return gallery.identify_many(probes, threshold=0.5, count=count)


def share_found(found, exact):
    pairs = list(zip(found, exact, strict=True))
    return np.mean([len(set(a.candidates) & set(b.candidates)) / len(b.candidates) for a, b in pairs])


class TestRecall:
    @settings(max_examples=12, deadline=None)
    @given(
        st.integers(1, 2500), st.integers(1, 60), st.sampled_from([8, 32, 100]), st.integers(1, 9), st.integers(0, 99)
    )
    def test_against_exact_search_on_clustered_vectors(self, tmp_path_factory, count, clusters, dim, wanted, seed):
        rows = clustered(count, clusters, seed, dim)
        path = enrolled(tmp_path_factory.mktemp("recall") / "a.gallery", rows)
        probes = rows[:: max(1, count // 60)] + 0.05 * np.random.default_rng(seed).normal(size=(1, dim))
        with Gallery(path) as gallery, Gallery(path, index=None) as other:
            status = gallery.build_index()
            found, exact = answers(gallery, probes, wanted), answers(other, probes, wanted)
            assert not other.index_status().in_use
        if not status.in_use:
            assert status.recall < status.target_recall
            assert found == exact
        assert share_found(found, exact) > 0.97
        for ours, theirs in zip(found, exact, strict=True):
            assert len(ours.candidates) == len(theirs.candidates)
            # Never better than the best there is, and always in the order of candidates.
            scores, best = ([one.score for one in each.candidates] for each in (ours, theirs))
            assert all(a <= b for a, b in zip(scores, best, strict=True))
            assert scores == sorted(scores, reverse=True)

    def test_it_is_what_a_search_of_each_sampled_template_finds(self, path, monkeypatch):
        rows = clustered(3000, 2, 0, dim=96, spread=0.5)
        with Gallery(enrolled(path, rows)) as gallery:
            monkeypatch.setattr(_index, "TARGET_RECALL", 0.0)
            status = gallery.build_index()
            own = np.unique(np.linspace(0, 2999, 256).astype(int))
            found = answers(gallery, rows[own], count=6)
        scores = unit(rows)[own] @ unit(rows).T
        scores[np.arange(len(own)), own] = -2
        nearest = np.argsort(-scores, axis=1)[:, :5]
        hits = [
            len({f"p{n}" for n in those} & {one.name for one in each.candidates})
            for those, each in zip(nearest, found, strict=True)
        ]
        assert (status.num_probes, status.num_indexed, status.width) == (256, 3000, 64)
        assert status.recall == pytest.approx(np.sum(hits) / (5 * len(own)), abs=1e-9)
        assert status.recall < 1

    def test_vectors_without_any_structure_stay_with_exact_search(self, path):
        rows = np.random.default_rng(0).normal(size=(5000, 256))
        probes = np.random.default_rng(1).normal(size=(20, 256))
        with Gallery(enrolled(path, rows)) as gallery, Gallery(path, index=None) as other:
            status = gallery.build_index()
            assert answers(gallery, probes) == answers(other, probes)
            assert gallery.index_status() == status
        assert not status.in_use
        assert status.recall < 0.99
        assert "exact search among 5,000 subjects: it finds too few" in str(status)
        assert "99 % are wanted" in str(status)

    @pytest.mark.parametrize("equal", [300, 3000])
    def test_many_equal_templates_are_told_apart_as_in_exact_search(self, path, equal, monkeypatch):
        monkeypatch.setattr(_index, "TARGET_RECALL", 0.9)
        rows = clustered(3000, 30, 3)
        rows[np.random.default_rng(0).permutation(3000)[:equal]] = rows[0]
        with Gallery(enrolled(path, rows)) as gallery, Gallery(path, index=None) as other:
            assert gallery.build_index().in_use
            assert answers(gallery, rows[:3], 7) == answers(other, rows[:3], 7)


class TestChanges:
    @pytest.fixture
    def both(self, path, monkeypatch):
        # Threads build another graph each time: seldom one that finds a little less.
        monkeypatch.setattr(_index, "TARGET_RECALL", 0.9)
        with Gallery(enrolled(path, clustered(2000, 20, 0))) as gallery, Gallery(path, index=None) as other:
            assert gallery.build_index().in_use
            yield gallery, other

    def test_who_is_new_or_changed_is_searched_exactly_beside_it(self, both, monkeypatch):
        gallery, other = both
        monkeypatch.setattr(_index.TemplateSearch, "_grow", lambda self, seconds: False)
        new = clustered(300, 300, 7)
        other.enrol_embeddings(names(300, letter="n"), new)
        assert [one.name for one in answers(gallery, new, 1)] == names(300, letter="n")
        assert gallery.index_status().num_indexed == 2000
        moved = unit(clustered(50, 50, 8))
        other.remove(names(50, 100))
        other.enrol_embeddings(names(50, 200), 20 * moved)  # a second embedding each
        found = answers(gallery, moved, 60)
        every = [{one.name: one.score for one in each.candidates} for each in answers(other, moved, 60)]
        assert gallery.index_status().num_indexed == 1900
        assert all(f"p{200 + k}" in {one.name for one in each.candidates} for k, each in enumerate(found))
        for ours, theirs in zip(found, every, strict=True):
            assert all(theirs[one.name] == one.score for one in ours.candidates if one.name in theirs)
            assert not {one.name for one in ours.candidates} & set(names(50, 100))

    def test_new_subjects_are_added_by_and_by(self, both):
        gallery, other = both
        other.enrol_embeddings(names(300, letter="n"), clustered(300, 20, 0))
        for _ in range(300):
            answers(gallery, clustered(8, 8, 5))
            if gallery.index_status().num_indexed == 2300:
                break
        assert gallery.index_status().num_indexed == 2300

    def test_measured_anew_when_it_has_grown_by_a_quarter(self, both):
        gallery, other = both
        before = gallery.index_status()
        other.enrol_embeddings(names(600, letter="n"), np.random.default_rng(0).normal(size=(600, DIM)))
        status = gallery.build_index()
        assert status.num_indexed == 2600
        assert status.seconds > before.seconds

    def test_built_anew_when_much_of_it_has_changed(self, both):
        gallery, other = both
        other.remove(names(100))
        assert gallery.index_status().in_use
        other.remove(names(100, 100))
        assert not gallery.index_status().in_use
        assert answers(gallery, clustered(9, 9, 1)) == answers(other, clustered(9, 9, 1))
        assert gallery.build_index().num_indexed == 1800

    def test_nobody_is_left(self, both):
        gallery, other = both
        other.remove(names(2000))
        assert answers(gallery, clustered(2, 2, 1))[0].candidates == ()
        assert gallery.build_index().num_subjects == 0

    @settings(max_examples=5, deadline=None)
    @given(st.lists(st.tuples(st.sampled_from("armc"), st.integers(0, 400), st.integers(1, 60)), max_size=8))
    def test_any_changes(self, tmp_path_factory, changes):
        rows = clustered(500, 10, 0)
        path = enrolled(tmp_path_factory.mktemp("changes") / "a.gallery", rows)
        with Gallery(path) as gallery, Gallery(path, index=None) as other:
            gallery.build_index()
            for step, (kind, start, count) in enumerate(changes):
                there = [name for name in names(count, start) if name in other]
                if kind == "a":
                    other.enrol_embeddings(names(count, letter=f"s{step}-"), clustered(count, 3, step))
                elif kind == "r" and there:
                    gallery.remove(there)
                elif kind == "m" and len(there) > 1:
                    gallery.merge(there[0], there[1])
                elif there:
                    other.enrol_embeddings(there, clustered(len(there), 3, 1000 + step))
                probes = rows[start : start + 5]
                found, exact = answers(gallery, probes), answers(other, probes)
                assert share_found(found, exact) >= 0.9
                every = {name for name, _ in other.subjects()}
                assert all(one.name in every for each in found for one in each.candidates)

    def test_another_process_changes_the_gallery(self, both, path):
        gallery, _ = both
        code = (
            "import sys\nimport numpy as np\nfrom keras_normface.gallery import Gallery\n"
            "with Gallery(sys.argv[1]) as gallery:\n"
            "    gallery.remove([f'p{number}' for number in range(60)])\n"
            "    gallery.enrol_embeddings(['new'], np.eye(32)[:1])\n"
            "    print(gallery.build_index().num_indexed)\n"
        )
        done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, timeout=120)
        assert (done.returncode, done.stdout) == (0, "1941\n"), done.stderr
        assert gallery.identify(np.eye(DIM)[0], threshold=0.9).name == "new"
        gone = set(names(60))
        found = answers(gallery, clustered(2000, 20, 0)[:60])
        assert not gone & {one.name for each in found for one in each.candidates}


class TestWhen:
    def test_automatic_above_the_size(self, path, monkeypatch):
        rows = clustered(1500, 30, 0)
        with Gallery(enrolled(path, rows)) as gallery, Gallery(path, index=None) as other:
            for _ in range(5):
                answers(gallery, rows[:64])
            assert "at least 100,000 subjects" in gallery.index_status().reason
            monkeypatch.setattr(_index, "LEAST_SUBJECTS", 1500)
            monkeypatch.setattr(_index, "TARGET_RECALL", 0.9)
            for _ in range(500):
                assert share_found(answers(gallery, rows[:64]), answers(other, rows[:64])) > 0.97
                if gallery.index_status().in_use:
                    break
            assert gallery.index_status().in_use
            assert other.index_status().reason == "no index is wanted"

    def test_a_gallery_that_is_refused_is_not_tried_again_at_once(self, path, monkeypatch):
        monkeypatch.setattr(_index, "LEAST_SUBJECTS", 100)
        monkeypatch.setattr(_index, "TARGET_RECALL", 1.1)
        rows = clustered(1000, 30, 0)
        with Gallery(enrolled(path, rows)) as gallery:
            while not (status := gallery.index_status()).num_probes:
                answers(gallery, rows[:64])
            answers(gallery, rows[:64])
            assert gallery.index_status() == status
            gallery.enrol_embeddings(names(250, letter="n"), clustered(250, 30, 1))
            while gallery.index_status().seconds == status.seconds:
                answers(gallery, rows[:64])

    def test_without_the_library(self, path, monkeypatch):
        monkeypatch.setattr(_index, "LEAST_SUBJECTS", 100)
        there = importlib.util.find_spec
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "usearch" else there(name))
        rows = clustered(200, 10, 0)
        with Gallery(enrolled(path, rows)) as gallery:
            assert answers(gallery, rows[:9], 1)[3].name == "p3"
            assert 'pip install "keras-normface[index]"' in str(gallery.index_status())
            with pytest.raises(ImportError, match=r"keras-normface\[index\]"):
                gallery.build_index()

    @pytest.mark.parametrize("index", ["exact", True, 5])
    def test_choices_that_are_none(self, path, index):
        with pytest.raises(ValueError, match="index"):
            Gallery(path, fingerprint="toy", index=index)
        assert not path.exists()

    def test_progress_and_what_it_returns(self, path):
        seen = []
        with Gallery(enrolled(path, clustered(300, 3, 0))) as gallery:
            status = gallery.build_index(progress=lambda done, total: seen.append((done, total)))
            assert gallery.index_status() == status
            assert gallery.build_index() == status
        assert seen[-1] == (300, 300)
        assert isinstance(status, IndexStatus)

    def test_of_nobody_and_of_few(self, path):
        with Gallery(path, fingerprint="toy") as gallery:
            assert gallery.build_index().num_subjects == 0
            gallery.enrol_embeddings(["Ada", "Bob"], np.eye(2))
            assert gallery.build_index().recall == 1
            assert gallery.identify([1.0, 0.0], threshold=0.5).name == "Ada"
