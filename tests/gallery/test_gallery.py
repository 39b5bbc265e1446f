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

    @pytest.mark.parametrize("probe", [[1.0, 2.0], [[1.0] * 16], "not/there.jpg", [0.0] * 16, ["a"] * 16])
    def test_probes_that_are_none(self, gallery, people, probe):
        with pytest.raises((ValueError, OSError)):
            gallery.identify(probe, threshold=0.5)


class TestSearch:
    @settings(max_examples=60, deadline=None)
    @given(st.integers(1, 9000), st.integers(1, 70), st.integers(1, 12), st.integers(0, 1000), st.booleans())
    def test_as_a_sort_of_all_scores(self, templates, probes, count, seed, tied):
        from keras_normface.gallery._search import best_matches

        rng = np.random.default_rng(seed)
        # Small integers, so that sums are exact in any order, and many scores are equal.
        sides = (-1, 2) if tied else (-900, 900)
        rows = rng.integers(*sides, (templates, 4)).astype("float32")
        wanted = rng.integers(*sides, (probes, 4)).astype("float32")
        scores, places = best_matches(rows, wanted, count)
        every = wanted.astype("float64") @ rows.T.astype("float64")
        order = np.argsort(-every, axis=1, kind="stable")[:, :count]
        np.testing.assert_array_equal(places, order)
        np.testing.assert_array_equal(scores, np.take_along_axis(every, order, axis=1))


class TestThreshold:
    def test_measured_by_hand(self, gallery):
        gallery.enrol_embeddings(["a", "b", "c"], [[1, 0], [0.6, 0.8], [-1, 0.0]])
        # The highest cosines with another subject are .6, .6 and -.6.
        found = gallery.threshold_at_fpir(0.34)
        assert found.cosine == np.nextafter(np.float32(0.6), np.float32(1))
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
        with pytest.raises(ValueError, match="`name`"):
            gallery.remove("p2")
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

    def test_an_export_can_be_enrolled_elsewhere(self, gallery, people, tmp_path):
        gallery.export(tmp_path / "all.npz")
        with np.load(tmp_path / "all.npz") as arrays, Gallery(tmp_path / "b", fingerprint="toy") as other:
            other.enrol_embeddings(arrays["names"].tolist(), arrays["embeddings"], arrays["images"].tolist())
            assert other.subjects() == gallery.subjects()
        with pytest.raises(ValueError, match="each name once"):  # names of subjects, not of images
            load_embeddings(tmp_path / "all.npz")


class TestFiles:
    def test_it_is_there_after_closing(self, path):
        with Gallery(path, fingerprint="toy") as gallery:
            gallery.enrol_embeddings(["a"], [[3, 4]])
        assert sorted(entry.name for entry in os.scandir(path.parent)) == [path.name]
        with Gallery(path) as gallery:
            assert (gallery.fingerprint, gallery.model, gallery.dimension) == ("toy", "toy", 2)
            assert gallery.identify([3, 4], threshold=0.99).name == "a"

    def test_another_model_is_refused(self, path):
        Gallery(path, fingerprint="one").close()
        with pytest.raises(ValueError, match="embeddings of the model one"):
            Gallery(path, fingerprint="other")
        Gallery(path, fingerprint="one").close()

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
        ],
    )
    def test_a_schema_of_somebody_is_refused(self, path, statement):
        Gallery(path, fingerprint="toy").close()
        _execute(path, statement)
        with pytest.raises(ValueError, match="is not a gallery"):
            Gallery(path)

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


def _execute(path, statement):
    connection = sqlite3.connect(path)
    connection.execute(statement)
    connection.commit()
    connection.close()


def test_it_imports_neither_tensorflow_nor_keras():
    code = "import sys, keras_normface.gallery; assert not {'keras', 'tensorflow'} & set(sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
