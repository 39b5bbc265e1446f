"""`Gallery`: what is enrolled is found, strangers are not, and what is refused leaves the file as it was."""

import csv
import os
import pickle
import sqlite3
import subprocess
import sys
import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_normface.gallery import Candidate, Gallery, Identification
from keras_normface.inference import load_embeddings

ODD_NAMES = [
    'O\'Brien "Bob"',
    "two\nlines\r\n",
    "x" * 10_000,
    "'); DROP TABLE subject; --",
    "名前 \u202e right to left",
    " ",
    "%_*?",
    ":memory:",
]


def directions(count, dim=16, seed=0):
    rows = np.random.default_rng(seed).normal(size=(count, dim))
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def around(rows, each, spread=0.05, seed=1):
    """`each` vectors near each row, in order."""
    noise = np.random.default_rng(seed).normal(size=(len(rows), each, rows.shape[1]))
    return (rows[:, None] + spread * noise).reshape(-1, rows.shape[1])


@pytest.fixture
def path(tmp_path):
    return tmp_path / "people.gallery"


@pytest.fixture
def gallery(path):
    with Gallery(path, fingerprint="toy") as opened:
        yield opened


@pytest.fixture
def people(gallery):
    """Eight subjects, p0 to p7, of three embeddings each."""
    centres = directions(8)
    gallery.enrol_embeddings([f"p{number}" for number in range(8) for _ in range(3)], around(centres, 3))
    return centres


class TestIdentify:
    def test_a_worked_case(self, gallery):
        gallery.enrol_embeddings(["Ada", "Ada", "Bob"], [[3, 4], [3, -4], [0, 2]])
        found = gallery.identify([4, 3], threshold=0.7)
        # The template of Ada is the mean of (.6, .8) and (.6, -.8), at unit length: (1, 0).
        assert [candidate.name for candidate in found.candidates] == ["Ada", "Bob"]
        assert [candidate.score for candidate in found.candidates] == pytest.approx([0.8, 0.6])
        assert (found.name, found.threshold) == ("Ada", 0.7)
        assert gallery.identify([4, 3], threshold=0.81).name is None
        assert gallery.identify([4, 3], threshold=found.candidates[0].score).name == "Ada"
        assert gallery.identify([4, 3], threshold=0.7, count=1).candidates == found.candidates[:1]

    def test_everybody_is_found_and_strangers_are_not(self, gallery, people):
        found = gallery.identify_many(around(people, 2, seed=5), threshold=0.8)
        assert [one.name for one in found] == [f"p{number}" for number in range(8) for _ in range(2)]
        assert all(one.name is None for one in gallery.identify_many(directions(20, seed=9), threshold=0.95))

    def test_equal_scores_go_by_the_order_of_enrolment(self, gallery):
        gallery.enrol_embeddings(["second", "first", "other"], [[1, 0], [1, 0], [0, 1]])
        assert [one.name for one in gallery.identify([1, 0], threshold=0).candidates] == ["second", "first", "other"]

    def test_rows_of_nan_are_photos_without_a_face(self, gallery, people):
        found = gallery.identify_many(np.stack([people[0], np.full(16, np.nan)]), threshold=0.5)
        assert found[0].name == "p0"
        assert found[1] is None

    def test_nobody_is_enrolled(self, gallery):
        found = gallery.identify([1.0, 0.0], threshold=0.5)
        assert (found.candidates, found.name) == ((), None)
        assert "nobody is enrolled" in str(found)

    def test_names_are_shown_escaped(self):
        assert "\n" not in str(Identification((Candidate("a\nb", 0.9),), 0.5))

    def test_against_one_subject(self, gallery, people):
        found = gallery.verify("p3", people[3], threshold=0.9)
        assert found.name == "p3"
        assert [candidate.name for candidate in found.candidates] == ["p3"]
        assert gallery.verify("p3", people[4], threshold=0.9).name is None
        with pytest.raises(ValueError, match=r"`name` must be a subject of .*people.gallery"):
            gallery.verify("nobody", people[0], threshold=0.9)

    @pytest.mark.parametrize("threshold", [2, -1.5, float("nan"), "0.5", None])
    def test_thresholds_that_are_none(self, gallery, people, threshold):
        with pytest.raises(ValueError, match="threshold"):
            gallery.identify(people[0], threshold=threshold)

    @pytest.mark.parametrize("row", [[np.nan] * 16, [np.nan] + [1.0] * 15, [np.inf] * 16])
    def test_numbers_that_are_not_finite(self, gallery, people, row):
        with pytest.raises(ValueError, match=r"`probe` holds no face|`embeddings` must be finite"):
            gallery.identify(row, threshold=0.5)

    @pytest.mark.parametrize("probe", [[1.0, 2.0], [[1.0] * 16], "not/there.jpg", [0.0] * 16, ["a"] * 16])
    def test_probes_that_are_none(self, gallery, people, probe):
        with pytest.raises((ValueError, OSError)):
            gallery.identify(probe, threshold=0.5)


class TestSearch:
    @settings(max_examples=60, deadline=None)
    @given(st.integers(1, 9000), st.integers(1, 70), st.integers(1, 12), st.integers(0, 1000), st.integers(1, 9000))
    def test_as_a_sort_of_all_scores(self, templates, probes, count, seed, different):
        from keras_normface.gallery._search import best_matches

        rng = np.random.default_rng(seed)
        pool = directions(different, dim=8, seed=seed).astype("float32")
        rows, wanted = (pool[rng.integers(0, different, number)] for number in (templates, probes))
        scores, places = best_matches(rows, wanted, count)
        every = np.clip((wanted[:, None].astype("float64") * rows).sum(axis=2), -1, 1)
        order = np.argsort(-every, axis=1, kind="stable")[:, :count]
        np.testing.assert_array_equal(places, order)
        np.testing.assert_array_equal(scores, np.take_along_axis(every, order, axis=1))

    @pytest.mark.parametrize("people", [7, 33, 203, 4099])
    def test_equal_templates_have_equal_scores_however_they_are_searched(self, gallery, people):
        row, probes = directions(1, dim=128), directions(20, dim=128, seed=3)
        names = [f"p{number}" for number in range(people)]
        gallery.enrol_embeddings(names, np.repeat(row, people, axis=0))
        together = gallery.identify_many(probes, threshold=0)
        for probe, found in zip(probes, together, strict=True):
            assert [one.name for one in found.candidates] == names[:5]
            assert len({one.score for one in found.candidates}) == 1
            assert gallery.identify(probe, threshold=0) == found
            assert gallery.verify(names[-1], probe, threshold=0).candidates[0].score == found.candidates[0].score
        assert gallery.identify(row[0], threshold=0).candidates[0].score <= 1


class TestThreshold:
    def test_measured_by_hand(self, gallery):
        gallery.enrol_embeddings(["a", "b", "c"], [[1, 0], [0.6, 0.8], [-1, 0.0]])
        # The highest cosines with another subject are .6, .6 and -.6.
        found = gallery.threshold_at_fpir(0.34)
        assert found.cosine == np.nextafter(float(np.float32(0.6)), 1)
        assert (found.achieved_fpir, found.num_probes, found.num_subjects) == (0.0, 3, 3)
        assert found.cosine > 0.6  # one of three might be accepted, but two are tied
        two = gallery.threshold_at_fpir(0.67)
        assert two.achieved_fpir == pytest.approx(2 / 3)
        assert two.cosine < 0
        assert gallery.threshold_at_fpir(1.0).achieved_fpir == 1.0
        with pytest.raises(ValueError, match="`fpir` must be at least 1/3"):
            gallery.threshold_at_fpir(0.3)

    def test_a_subject_is_not_compared_with_itself(self, gallery):
        gallery.enrol_embeddings(["a", "a", "b"], [[1, 0], [1, 0.01], [0, 1]])
        assert gallery.threshold_at_fpir(0.34).cosine < 0.02

    def test_strangers_are_accepted_at_the_wanted_rate(self, gallery):
        centres = directions(400, seed=2)
        gallery.enrol_embeddings([f"p{number}" for number in range(400) for _ in range(3)], around(centres, 3))
        strangers = around(directions(4000, seed=77), 1, seed=78)
        for method in ("measured", "independent"):
            found = gallery.threshold_at_fpir(0.05, method=method)
            rate = np.mean([one.name is not None for one in gallery.identify_many(strangers, threshold=found)])
            # The binomial deviation of 1 200 probes, of 400 subjects, is at most 1.1 %.
            assert rate == pytest.approx(0.05, abs=0.035), method
            assert found.num_probes == 1200
        larger = gallery.threshold_at_fpir(0.05, method="independent", size=4000)
        assert larger.cosine > found.cosine
        assert larger.num_subjects == 4000

    def test_the_rate_of_a_comparison(self, gallery):
        gallery.enrol_embeddings([f"p{number}" for number in range(50)], directions(50))
        # 1 - .5^(1/50) = 1.377 % of 50 x 49 = 2 450 comparisons are 33; each pair of people is there twice.
        unit = directions(50).astype("float32")
        scores = np.sort((unit @ unit.T)[~np.eye(50, dtype=bool)])[::-1]
        found = gallery.threshold_at_fpir(0.5, method="independent")
        assert scores[33] < found.cosine <= scores[31]

    @pytest.mark.parametrize(
        ("options", "named"),
        [
            ({"fpir": 0}, "fpir"),
            ({"fpir": 1.5}, "fpir"),
            ({"fpir": True}, "fpir"),
            ({"fpir": 1e-9, "method": "independent"}, "fpir"),
            ({"fpir": 0.5, "method": "guessed"}, "method"),
            ({"fpir": 0.5, "size": 99}, "size"),
            ({"fpir": 0.5, "method": "independent", "size": 0}, "size"),
        ],
    )
    def test_what_is_refused(self, gallery, people, options, named):
        with pytest.raises(ValueError, match=f"`{named}`"):
            gallery.threshold_at_fpir(**options)

    def test_one_subject_alone(self, gallery):
        gallery.enrol_embeddings(["a"], [[1, 0]])
        with pytest.raises(ValueError, match="two subjects"):
            gallery.threshold_at_fpir(0.5)

    def test_rates_at_the_ends(self, gallery, people):
        found = gallery.threshold_at_fpir(1.0, method="independent")
        assert (found.cosine, found.achieved_fpir) == (-1.0, 1.0)
        with pytest.raises(ValueError, match="`size`"):
            gallery.threshold_at_fpir(0.5, method="independent", size=10**400)

    def test_of_many_embeddings_some_are_taken_evenly_spread(self, gallery, people, monkeypatch):
        monkeypatch.setattr("keras_normface.gallery._gallery.MOST_PROBES", 8)
        found = gallery.threshold_at_fpir(1.0)
        assert found.num_probes == 8
        rows = np.concatenate([part[-1] for part in gallery._database.embeddings()])
        own = np.arange(24) // 3
        templates = np.stack([rows[own == number].mean(axis=0) for number in range(8)])
        templates /= np.linalg.norm(templates, axis=1, keepdims=True)
        chosen = np.linspace(0, 23, 8).astype(int)
        scores = np.where(own[chosen, None] == np.arange(8), -2, rows[chosen] @ templates.T).max(axis=1)
        assert gallery.threshold_at_fpir(0.2).cosine == pytest.approx(np.sort(scores)[-2], abs=1e-5)


class TestChanges:
    def test_the_same_embedding_is_kept_once(self, gallery):
        assert gallery.enrol_embeddings(["a", "a", "b"], [[1, 0], [1, 0], [1, 0]]) == 2
        assert gallery.enrol_embeddings(["a"], [[1, 0]]) == 0
        assert gallery.subjects() == [("a", 1), ("b", 1)]
        assert len(gallery) == 2
        assert "a" in gallery
        assert "c" not in gallery

    def test_more_embeddings_move_the_template(self, gallery):
        gallery.enrol_embeddings(["a"], [[1, 0]])
        assert gallery.identify([0, 1], threshold=0).candidates[0].score == 0
        gallery.enrol_embeddings(["a"], [[0, 1]])
        assert gallery.identify([0, 1], threshold=0).candidates[0].score == pytest.approx(0.5**0.5)

    def test_remove(self, gallery, people):
        gallery.remove("p2")
        assert "p2" not in gallery
        assert gallery.identify(people[2], threshold=0.9).name is None
        assert gallery.identify(people[7], threshold=0.9).name == "p7"
        with pytest.raises(ValueError, match="`names`"):
            gallery.remove(["p3", "p2"])
        assert "p3" in gallery
        gallery.enrol_embeddings(["p2"], people[2:3])
        assert gallery.identify(people[2], threshold=0.9).name == "p2"
        assert gallery.check() == []

    def test_what_is_removed_is_in_no_file_any_more(self, path):
        secret = directions(1, dim=64, seed=4).astype("float32")
        with Gallery(path, fingerprint="toy") as gallery:
            gallery.enrol_embeddings(["keep"] * 40, directions(40, dim=64))
            gallery.enrol_embeddings(["a secret name"], secret, images=["a secret image.jpg"])
            (unit,) = secret / np.linalg.norm(secret.astype("float64"))
            parts = [unit.astype("float32").tobytes()[:32], b"a secret name", b"a secret image"]

            def found():
                files = [entry.path for entry in os.scandir(path.parent)]
                return [part for part in parts if any(part in open(file, "rb").read() for file in files)]

            assert len(found()) == 3
            gallery.remove("a secret name")
            assert found() == []

    def test_merge(self, gallery, people):
        gallery.merge("p1", into="p0")
        assert ("p0", 6) in gallery.subjects()
        assert "p1" not in gallery
        assert gallery.identify(people[1], threshold=0.3).name == "p0"
        assert gallery.check() == []
        for name, into in (("p1", "p0"), ("p0", "p1"), ("p0", "p0")):
            with pytest.raises(ValueError, match=r"`name`|`into`"):
                gallery.merge(name, into)

    def test_merge_keeps_an_embedding_that_both_have_once(self, gallery):
        gallery.enrol_embeddings(["a", "b", "b"], [[1, 0], [1, 0], [0, 1]])
        gallery.merge("b", "a")
        assert gallery.subjects() == [("a", 2)]
        assert gallery.check() == []

    def test_whole_names_are_overwritten_too(self, path):
        rng = np.random.default_rng(1)
        names = ["".join(rng.choice(list("abcdefgh ijklmno"), rng.integers(8, 30))) + str(n) for n in range(400)]
        with Gallery(path, fingerprint="toy") as gallery:
            for name, row in zip(names, directions(400), strict=True):
                gallery.enrol_embeddings([name], row[None])
            gone = rng.choice(names, 150, replace=False).tolist()
            assert gallery.remove(gone) is True
            content = path.read_bytes()
            assert [name for name in gone if name.encode() in content] == []
            assert os.path.getsize(f"{path}-wal") == 0
            assert len(gallery) == 250

    def test_a_reader_delays_the_overwriting_to_the_next_change(self, path):
        def found():
            files = [path, path.with_name(f"{path.name}-wal")]
            return any(b"a secret name" in file.read_bytes() for file in files)

        with Gallery(path, fingerprint="toy") as gallery:
            gallery.enrol_embeddings(["a secret name", "other"], directions(2))
            reader = sqlite3.connect(path, isolation_level=None)
            reader.execute("BEGIN")
            assert reader.execute("SELECT count(*) FROM subject").fetchone() == (2,)
            assert gallery.remove("a secret name") is False
            assert found()
            done = []
            gallery._database._connection.set_trace_callback(done.append)
            gallery.enrol_embeddings(["third"], directions(1, seed=5))
            assert found()
            # Whoever opens it after a crash of this process must know.
            assert gallery._database._one("SELECT erase FROM gallery", (int,)) == (1,)
            reader.execute("COMMIT")
            reader.close()
            gallery.enrol_embeddings(["fourth"], directions(1, seed=6))
            assert not found()
            assert gallery._database._one("SELECT erase FROM gallery", (int,)) == (0,)
            assert not any("VACUUM" in statement for statement in done)  # once is enough

    def test_what_a_killed_process_had_not_overwritten_is_at_the_next_change(self, path, monkeypatch):
        with monkeypatch.context() as patch, Gallery(path, fingerprint="toy") as gallery:
            gallery.enrol_embeddings(["a secret name", "other"], directions(2))
            patch.setattr("keras_normface.gallery._database.Database.erase", lambda self: False)
            gallery.remove("a secret name")
        with Gallery(path) as gallery:
            gallery.enrol_embeddings(["third"], directions(1, seed=5))
            assert not gallery._database._one("SELECT erase FROM gallery", (int,))[0]
            assert b"a secret name" not in path.read_bytes()

    def test_deleted_bytes_are_overwritten(self, gallery):
        # Many builds of SQLite do so by default, so that the files would not show it.
        assert gallery._database._one("PRAGMA secure_delete", (int,)) == (1,)
        assert gallery._database._one("PRAGMA trusted_schema", (int,)) == (0,)

    @pytest.mark.parametrize("name", ODD_NAMES, ids=range(len(ODD_NAMES)))
    def test_odd_names(self, gallery, name):
        gallery.enrol_embeddings([name, "other"], [[1, 0], [0, 1]])
        assert gallery.identify([1, 0], threshold=0.5).name == name
        assert (name, 1) in gallery.subjects()
        gallery.remove(name)
        assert gallery.subjects() == [("other", 1)]

    @pytest.mark.parametrize("name", ["", "\0", "a\0b", "\ud800", None, 5, b"a"], ids=repr)
    def test_names_that_are_none(self, gallery, name):
        with pytest.raises(ValueError, match="`name`"):
            gallery.enrol_embeddings([name], [[1, 0]])
        assert gallery.subjects() == []

    @pytest.mark.parametrize(
        ("names", "rows", "named"),
        [
            (["a"], [[0, 0]], "embeddings"),
            (["a"], [[np.nan, 0]], "embeddings"),
            (["a", "b"], [[1, 0]], "names"),
            (["a"], [[1, 0, 0]], "embeddings"),
            (["a", "a"], [[1, 0], [-1, 0]], "cancel"),
            (["x", "x"], [[0, 1], [0, -1]], "cancel"),
        ],
    )
    def test_nothing_is_stored_of_what_is_refused(self, gallery, names, rows, named):
        gallery.enrol_embeddings(["x", "y"], [[0, 1], [1, 0]])
        before = gallery.subjects()
        with pytest.raises(ValueError, match=named):
            gallery.enrol_embeddings(names, rows)
        assert gallery.subjects() == before
        assert gallery.check() == []

    def test_export(self, gallery, people, tmp_path):
        gallery.enrol_embeddings(['=cmd()\n"x"'], people[:1], images=["a,b.jpg"])
        gallery.export(tmp_path / "all.npz")
        with np.load(tmp_path / "all.npz") as arrays:
            assert arrays["embeddings"].shape == (25, 16)
            assert arrays["names"][-1] == '=cmd()\n"x"'
            assert arrays["images"][-1] == "a,b.jpg"
        gallery.export(tmp_path / "all.csv")
        with open(tmp_path / "all.csv", encoding="utf-8", newline="") as file:
            rows = list(csv.reader(file))
        assert rows[0] == ["name", "image", "sha256"]
        assert rows[-1][:2] == ['=cmd()\n"x"', "a,b.jpg"]
        assert len(rows) == 26
        with pytest.raises(ValueError, match="`path` must end in"):
            gallery.export(tmp_path / "all.txt")

    def test_an_export_is_another_file(self, tmp_path):
        for name in ("people.csv", "people.npz"):
            with Gallery(tmp_path / name, fingerprint="toy") as gallery:
                gallery.enrol_embeddings(["a"], [[1, 0]])
                (tmp_path / f"link{name}").symlink_to(tmp_path / name)
                for path in (tmp_path / name, tmp_path / f"link{name}"):
                    with pytest.raises(ValueError, match="`path` must be another file"):
                        gallery.export(path)
                assert gallery.subjects() == [("a", 1)]
                with pytest.raises(FileNotFoundError, match="nowhere"):
                    gallery.export(tmp_path / "nowhere" / "x.csv")

    def test_an_export_of_names_that_are_too_long(self, gallery, tmp_path, monkeypatch):
        gallery.enrol_embeddings(["x" * 1000, "y"], [[1, 0], [0, 1]])
        monkeypatch.setattr("keras_normface.gallery._export.MOST_BYTES_OF_TEXTS", 7000)
        with pytest.raises(ValueError, match=r"must end in .csv for names of 1,000 letters"):
            gallery.export(tmp_path / "a.npz")
        gallery.export(tmp_path / "a.csv")

    @pytest.mark.parametrize("names", ["xy", [], ["a"] * 3])
    def test_names_that_are_no_list_of_as_many(self, gallery, names):
        with pytest.raises(ValueError, match="names"):
            gallery.enrol_embeddings(names, [[1, 0], [0, 1]])

    @pytest.mark.parametrize("probe", [[[1, 2], [3]], "x"])
    def test_probes_of_several_lengths(self, gallery, people, probe):
        with pytest.raises(ValueError, match="`probes`"):
            gallery.identify_many(probe, threshold=0)

    def test_an_export_can_be_enrolled_elsewhere(self, gallery, people, tmp_path):
        gallery.export(tmp_path / "all.npz")
        with np.load(tmp_path / "all.npz") as arrays, Gallery(tmp_path / "b", fingerprint="toy") as other:
            other.enrol_embeddings(arrays["names"].tolist(), arrays["embeddings"], arrays["images"].tolist())
            assert other.subjects() == gallery.subjects()
        with pytest.raises(ValueError, match="each name once"):  # names of subjects, not of images
            load_embeddings(tmp_path / "all.npz")


class TestCopy:
    def test_the_same_is_found_with_the_same_scores(self, gallery, people, tmp_path, monkeypatch):
        monkeypatch.setattr("keras_normface.gallery._records.Records.rows_at_once", 5)
        gallery.enrol_embeddings(["x", "y", "z"], [people[0]] * 3, ["x.jpg", "y.jpg", "z.jpg"])
        # Those of z are older than those of y now, but y was enrolled first.
        gallery.merge("x", into="z")
        # Two embeddings that cancel each other until the third, which lies in another part.
        gallery.enrol_embeddings(["w"] * 3, [people[1], -people[1], people[2]])
        seen = []
        assert gallery.copy(tmp_path / "copy", progress=lambda *counts: seen.append(counts)) == (11, 29)
        assert (seen[0], seen[-1], len(seen)) == ((5, 29), (29, 29), 6)
        probes = directions(30, seed=3)
        with Gallery(tmp_path / "copy") as copy:
            assert (copy.fingerprint, copy.model, copy.subjects()) == ("toy", "toy", gallery.subjects())
            assert copy.identify_many(probes, threshold=0, count=11) == gallery.identify_many(
                probes, threshold=0, count=11
            )
            assert copy.threshold_at_fpir(0.1) == gallery.threshold_at_fpir(0.1)
            assert copy.check() == []
            assert copy.enrol_embeddings(["x"], people[:1]) == 1
            for other in (gallery, copy):
                other.export(tmp_path / f"{other is copy}.csv")
        assert (tmp_path / "True.csv").read_text().startswith((tmp_path / "False.csv").read_text())

    def test_nobody_to_copy(self, gallery, tmp_path):
        assert gallery.copy(tmp_path / "copy") == (0, 0)
        with Gallery(tmp_path / "copy") as copy:
            assert (copy.fingerprint, copy.dimension) == ("toy", None)

    def test_what_is_refused(self, gallery, people, path, tmp_path):
        gallery.copy(tmp_path / "copy")
        for there in (tmp_path / "copy", path):
            with pytest.raises(ValueError, match="`path` must be that of a gallery with nobody in it"):
                gallery.copy(there)
        with Gallery(tmp_path / "other", fingerprint="other") as other:
            other.enrol_embeddings(["a"], [[1, 0]])
            other.remove("a")
        with pytest.raises(ValueError, match="embeddings of the model other"):
            gallery.copy(tmp_path / "other")

    def test_one_that_fails_leaves_nobody(self, gallery, people, tmp_path):
        def stop(done, total):
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            gallery.copy(tmp_path / "copy", progress=stop)
        with Gallery(tmp_path / "copy") as copy:
            assert len(copy) == 0
        assert gallery.copy(tmp_path / "copy") == (8, 24)


class TestFiles:
    def test_it_is_there_after_closing(self, path):
        with Gallery(path, fingerprint="toy") as gallery:
            gallery.enrol_embeddings(["a"], [[3, 4]])
        assert sorted(entry.name for entry in os.scandir(path.parent)) == [path.name]
        with Gallery(path) as gallery:
            assert (gallery.fingerprint, gallery.model, gallery.dimension) == ("toy", "toy", 2)
            assert gallery.identify([3, 4], threshold=0.99).name == "a"

    def test_another_model_is_refused(self, path):
        with Gallery(path, fingerprint="one") as gallery:
            gallery.enrol_embeddings(["a"], [[1, 0]])
        with pytest.raises(ValueError, match="embeddings of the model one"):
            Gallery(path, fingerprint="other")
        Gallery(path, fingerprint="one").close()

    def test_one_in_which_nothing_was_stored_takes_another_model(self, path):
        Gallery(path, fingerprint="one").close()
        with Gallery(path, fingerprint="other") as gallery:
            assert (gallery.fingerprint, gallery.model) == ("other", "other")
            gallery.enrol_embeddings(["a"], [[1, 0]])
            gallery.remove("a")
        with pytest.raises(ValueError, match="embeddings of the model other"):
            Gallery(path, fingerprint="one")

    def test_one_that_became_another_model_s_meanwhile_takes_no_more_of_this(self, path):
        with Gallery(path, fingerprint="one") as gallery:
            with Gallery(path, fingerprint="other") as other:
                other.enrol_embeddings(["a"], [[1, 0]])
            with pytest.raises(ValueError, match="embeddings of the model other"):
                gallery.enrol_embeddings(["b"], [[1, 0]])
            assert gallery.subjects() == [("a", 1)]

    def test_without_a_model_none_is_made(self, path):
        with pytest.raises(FileNotFoundError):
            Gallery(path)
        assert not path.exists()
        with pytest.raises(FileNotFoundError):
            Gallery(path.parent / "nowhere" / "x.gallery", fingerprint="toy")

    def test_images_need_an_embedder(self, gallery):
        with pytest.raises(ValueError, match="need an embedder"):
            gallery.enrol("a", "a.jpg")

    def test_a_name_that_sqlite_would_take_for_memory(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        with Gallery(":memory:", fingerprint="toy") as gallery:
            gallery.enrol_embeddings(["a"], [[1, 0]])
        assert (tmp_path / ":memory:").is_file()

    @pytest.mark.parametrize("content", [b"", b"x", b"SQLite format 3\0" + b"\1" * 2000, pickle.dumps({}) * 300])
    def test_what_is_not_a_gallery(self, path, content):
        path.write_bytes(content)
        for fingerprint in (None, "toy") if content else (None,):
            with pytest.raises(ValueError, match=r"people.gallery is not a"):
                Gallery(path, fingerprint=fingerprint)
            assert path.read_bytes() == content

    def test_an_empty_file_becomes_a_gallery(self, path):
        path.touch()
        with Gallery(path, fingerprint="toy") as gallery:
            assert len(gallery) == 0

    def test_databases_of_others_are_left_alone(self, path):
        other = sqlite3.connect(path)
        other.execute("CREATE TABLE mine (x)")
        other.commit()
        other.close()
        before = path.read_bytes()
        with pytest.raises(ValueError, match="is not a gallery"):
            Gallery(path, fingerprint="toy")
        assert path.read_bytes() == before

    @pytest.mark.parametrize(
        "statement",
        [
            "CREATE TRIGGER t AFTER INSERT ON subject BEGIN DELETE FROM subject; END",
            "CREATE VIEW v AS SELECT 1",
            "DROP TABLE embedding",
            "PRAGMA application_id=5",
            "INSERT INTO sqlite_master VALUES ('trigger', 'sqlite_evil', 'subject', 0, 'CREATE TRIGGER sqlite_evil "
            "AFTER INSERT ON subject BEGIN DELETE FROM embedding; END')",
        ],
    )
    def test_a_schema_of_somebody_is_refused(self, path, statement):
        Gallery(path, fingerprint="toy").close()
        _execute(path, statement)
        with pytest.raises(ValueError, match="is not a gallery"):
            Gallery(path)

    @pytest.mark.parametrize("tables", [True, False])
    def test_a_database_of_another_program_stays_as_it_is_with_its_log(self, path, tables):
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("PRAGMA user_version=7")
        other.execute("PRAGMA journal_mode=WAL")
        other.execute("CREATE TABLE mine (x)" if tables else "PRAGMA application_id=1234")
        files = [path, path.with_name(f"{path.name}-wal")]
        before = [file.read_bytes() for file in files]
        assert before[1]
        for fingerprint in (None, "toy"):
            with pytest.raises(ValueError, match="of another program"):
                Gallery(path, fingerprint=fingerprint)
        assert [file.read_bytes() for file in files] == before
        other.close()

    def test_only_the_owner_may_read_it(self, path):
        Gallery(path, fingerprint="toy").close()
        assert path.stat().st_mode & 0o777 == 0o600

    def test_removed_or_replaced_while_it_is_open(self, path):
        with Gallery(path, fingerprint="toy") as gallery:
            gallery.enrol_embeddings(["a"], [[1, 0]])
            path.rename(path.with_name("moved"))
            for content in (None, b""):
                if content is not None:
                    path.write_bytes(content)
                with pytest.raises(OSError, match="removed or replaced while it was open") as raised:
                    gallery.enrol_embeddings(["b"], [[0, 1]])
                assert raised.value.filename == os.fspath(path)

    def test_a_closed_one(self, path):
        gallery = Gallery(path, fingerprint="toy")
        gallery.close()
        with pytest.raises(ValueError, match=r"people.gallery is closed"):
            gallery.subjects()

    def test_who_is_removed_while_a_photo_is_embedded_is_not_compared(self, path):
        class Slow:
            fingerprint, name, threshold = "toy", "toy", None

            def embed(self, images, names=None):
                with Gallery(path) as other:
                    other.remove("Ada")
                return np.array([[0.0, 1.0]], "float32")

        with Gallery(path, Slow()) as gallery:
            gallery.enrol_embeddings(["Ada", "Bob"], [[1, 0], [0, 1]])
            with pytest.raises(ValueError, match="`name` must be a subject"):
                gallery.verify("Ada", b"image", threshold=0.9)
            with pytest.raises(ValueError, match="`name` must be a subject"):
                gallery.merge("Ada", "Bob")
            assert gallery.subjects() == [("Bob", 1)]

    def test_another_version(self, path):
        Gallery(path, fingerprint="toy").close()
        _execute(path, "PRAGMA user_version=9")
        with pytest.raises(ValueError, match="version 9"):
            Gallery(path)

    @pytest.mark.parametrize(
        ("statement", "said"),
        [
            ("UPDATE embedding SET vector = zeroblob(7) WHERE id = 1", "has not 2 numbers"),
            ("UPDATE embedding SET vector = zeroblob(8) WHERE id = 1", "not a unit vector"),
            ("UPDATE template SET vector = (SELECT vector FROM template WHERE subject = 2) WHERE subject = 1", "mean"),
            ("DELETE FROM template WHERE subject = 1", "no template"),
            ("DELETE FROM embedding WHERE subject = 1", "no embedding"),
            ("UPDATE embedding SET vector = x'00' WHERE id = 1", "has not 2 numbers"),
        ],
    )
    def test_check_names_what_is_wrong(self, path, statement, said):
        with Gallery(path, fingerprint="toy") as gallery:
            gallery.enrol_embeddings(["Ada", "Bob"], [[1, 0], [0, 1]])
            assert gallery.check() == []
        _execute(path, statement)
        with Gallery(path) as gallery:
            (fault,) = gallery.check()
        assert said in fault
        assert "Ada" in fault

    @pytest.mark.parametrize(
        "statement",
        [
            "DELETE FROM gallery",
            "UPDATE gallery SET changes = 'many'",
            "UPDATE gallery SET changes = 9223372036854775807",
            "UPDATE gallery SET dimension = 'x'",
            "UPDATE gallery SET dimension = NULL",
            "UPDATE gallery SET fingerprint = x'ff'",
            "UPDATE template SET changed = 0",
            "UPDATE template SET changed = 99",
            "UPDATE template SET vector = 'text'",
            "UPDATE template SET vector = 5",
            "UPDATE template SET subject = 77 WHERE subject = 1",
            "UPDATE embedding SET subject = 77 WHERE subject = 1",
            "UPDATE embedding SET digest = 'text'",
            "UPDATE embedding SET image = x'ff'",
            "UPDATE embedding SET vector = 0.5",
            "UPDATE subject SET name = x'ff' WHERE id = 1",
            "UPDATE subject SET name = CAST(x'ff' AS TEXT) WHERE id = 1",
        ],
    )
    def test_stored_values_of_other_kinds_are_named(self, path, statement, tmp_path):
        with Gallery(path, fingerprint="toy") as gallery:
            gallery.enrol_embeddings(["Ada", "Bob"], [[1, 0], [0, 1]])
        _execute(path, statement)
        found = []
        try:
            with Gallery(path) as gallery:
                for work in (
                    gallery.check,
                    gallery.subjects,
                    lambda: gallery.identify([1, 0], threshold=0.5),
                    lambda: gallery.export(tmp_path / "a.npz"),
                    lambda: gallery.threshold_at_fpir(1.0),
                    lambda: gallery.merge("Bob", "Ada"),
                    lambda: gallery.enrol_embeddings(["Ada"], [[0.6, 0.8]]),
                ):
                    found += said_by(work) if work != gallery.check else gallery.check()
        except ValueError as error:
            found.append(str(error))
        assert found
        assert not any("\n" in text for text in found)

    @pytest.mark.parametrize("vector", [b"1234567", np.array([np.inf, 0], "<f4").tobytes()])
    def test_vectors_that_are_none_are_not_searched(self, path, vector):
        with Gallery(path, fingerprint="toy") as gallery:
            gallery.enrol_embeddings(["a", "b"], [[1, 0], [0, 1]])
        connection = sqlite3.connect(path)
        connection.execute("UPDATE template SET vector = ? WHERE subject = 1", (vector,))
        connection.commit()
        connection.close()
        with Gallery(path) as gallery, pytest.raises(ValueError, match=r"people.gallery is not a valid gallery"):
            gallery.identify([1, 0], threshold=0.5)

    def test_only_regular_files(self, path):
        os.mkfifo(path)
        with pytest.raises(OSError, match="Not a regular file"):
            Gallery(path, fingerprint="toy")
        with pytest.raises(IsADirectoryError):
            Gallery(path.parent, fingerprint="toy")

    def test_threads_share_a_gallery(self, gallery, people):
        errors = []

        def work(number):
            try:
                for step in range(20):
                    gallery.enrol_embeddings([f"t{number}-{step}"], directions(1, seed=1000 + 50 * number + step))
                    assert gallery.identify(people[0], threshold=0.9).name == "p0"
            except Exception as error:
                errors.append(error)

        threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert errors == []
        assert len(gallery) == 88
        assert gallery.check() == []


def said_by(work):
    """The message of the ValueError that a function raises, in a list; or an empty one."""
    try:
        work()
    except ValueError as error:
        return [str(error)]
    return []


def _execute(path, statement):
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA writable_schema=ON")
    connection.execute(statement)
    connection.commit()
    connection.close()


def test_it_imports_neither_tensorflow_nor_keras():
    code = "import sys, keras_normface.gallery; assert not {'keras', 'tensorflow'} & set(sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
