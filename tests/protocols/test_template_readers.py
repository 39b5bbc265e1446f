"""IJB-A, IJB-B and IJB-C: NIST's tables and InsightFace's text files."""

import numpy as np
import pytest

from keras_normface.protocols import ProtocolFileError, read_ijb, read_ijb_a
from keras_normface.protocols._files import read_numbers
from tests.support import protocol_files as files

SETS = pytest.mark.parametrize(
    ("kind", "stem", "galleries"), [("IJB-C", "ijbc", ("G1", "G2")), ("IJB-B", "ijbb", ("S1", "S2"))]
)


def members_of(protocol):
    """Image names by template and medium, as the protocol numbers them."""
    found = {}
    for image, template, medium in zip(protocol.members, protocol.template_ids, protocol.media_ids, strict=True):
        found.setdefault(int(template), {}).setdefault(int(medium), []).append(protocol.images[image])
    return {template: sorted(media.values()) for template, media in found.items()}


@SETS
def test_insightface(tmp_path, kind, stem, galleries):
    protocol = read_ijb(files.write_ijb_text(tmp_path, stem, galleries), kind)
    assert protocol.name == kind
    assert protocol.images == tuple(f"{number}.jpg" for number in range(1, 8))
    # Templates 10, 11, 20, 21, 22 are numbered in the order in which they occur.
    assert members_of(protocol) == {
        0: [["1.jpg", "2.jpg"], ["3.jpg"]],
        1: [["4.jpg"]],
        2: [["5.jpg"]],
        3: [["6.jpg"]],
        4: [["7.jpg"]],
    }
    (pairs,) = protocol.pairs
    assert list(zip(pairs.left, pairs.right, pairs.same, strict=True)) == [(0, 2, 1), (0, 3, 0), (1, 3, 1), (1, 4, 0)]
    # Subjects 100, 101, 102: those of the templates, and of their images.
    assert protocol.template_subjects.tolist() == [0, 1, 0, 1, 2]
    assert protocol.subjects.tolist() == [0, 0, 0, 1, 0, 1, 2]
    ((first, second),) = protocol.searches
    assert (first.gallery.tolist(), second.gallery.tolist()) == ([0], [1])
    assert first.probes.tolist() == second.probes.tolist() == [2, 3, 4]


@SETS
def test_nist(tmp_path, kind, stem, galleries):
    protocol = read_ijb(files.write_ijb_csv(tmp_path, stem, galleries), kind)
    # The photo img/9.jpg shows subjects 100 and 101: two faces, two images.
    assert members_of(protocol) == {
        0: [["frames/1_31.png", "frames/2_31.png"], ["img/9_32.jpg"]],
        1: [["img/9_33.jpg"]],
        2: [["img/5_34.jpg"]],
        3: [["img/6_35.jpg"]],
        4: [["img/7_36.jpg"]],
    }
    (pairs,) = protocol.pairs
    assert pairs.same.tolist() == [True, False, True, False]
    assert protocol.template_subjects.tolist() == [0, 1, 0, 1, 2]
    assert [search.gallery.tolist() for search in protocol.searches[0]] == [[0], [1]]


def test_parts_that_may_be_missing(tmp_path):
    text = files.write_ijb_text(tmp_path / "text")
    for name in ("gallery_G1", "gallery_G2", "probe_mixed"):
        (text / f"ijbc_1N_{name}.csv").unlink()
    protocol = read_ijb(text)
    assert protocol.searches == ()
    assert protocol.template_subjects is None
    assert protocol.subjects is None
    assert len(protocol.pairs[0].same) == 4
    text = files.write_ijb_text(tmp_path / "search")
    (text / "ijbc_template_pair_label.txt").unlink()
    assert read_ijb(text).pairs == ()
    tables = files.write_ijb_csv(tmp_path / "tables")
    (tables / "ijbc_11_G1_G2_matches.csv").unlink()
    assert read_ijb(tables).pairs == ()
    (tables / "ijbc_1N_probe_mixed.csv").unlink()
    with pytest.raises(FileNotFoundError):
        read_ijb(tables)


def test_parts_that_may_not_be_missing(tmp_path):
    text = files.write_ijb_text(tmp_path)
    (text / "ijbc_1N_gallery_G2.csv").unlink()
    with pytest.raises(FileNotFoundError):
        read_ijb(text)
    with pytest.raises(FileNotFoundError):
        read_ijb(tmp_path, "IJB-B")
    with pytest.raises(ValueError, match="kind='IJB-D'"):
        read_ijb(tmp_path, "IJB-D")


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("ijbc_face_tid_mid.txt", "1.jpg 10\n", "Line 1 .*face_tid_mid.txt .* its medium"),
        ("ijbc_face_tid_mid.txt", "../1.jpg 10 5\n", "Line 1 .* stays in its directory"),
        ("ijbc_face_tid_mid.txt", "1.jpg -1 5\n", "Line 1 .* the template"),
        ("ijbc_face_tid_mid.txt", "1.jpg 10 5.0\n", "Line 1 .* the medium"),
        ("ijbc_face_tid_mid.txt", "1.jpg 10 5\n", "gallery_G2.csv .* template 11, which has no images"),
        ("ijbc_template_pair_label.txt", "10 20 1\n10 21\n", "Line 2 .*label.txt .* 3 numbers"),
        ("ijbc_template_pair_label.txt", "10 20 1\n10 x 0\n", "Line 2 .* the template as an integer"),
        ("ijbc_template_pair_label.txt", "10 20 1\n10 21 0.5\n", "Line 2 .* the label as an integer"),
        ("ijbc_template_pair_label.txt", "10 20 1\n10 21 -1\n", "Line 2 .* the label as an integer"),
        ("ijbc_template_pair_label.txt", "10 20 1\n10 1234567890 1\n", "Line 2 .* the template as an integer"),
        ("ijbc_template_pair_label.txt", "10 20\n10 21\n", "Line 1 .* 3 numbers"),
        ("ijbc_template_pair_label.txt", "", "label.txt is empty"),
        ("ijbc_template_pair_label.txt", b"10 20 1\n\xff\n", "Line 2 .* not valid UTF-8"),
        ("ijbc_template_pair_label.txt", "10 20 1\n10 21 2\n", "Comparison 2 is labelled 2"),
        ("ijbc_template_pair_label.txt", "10 20 1\n10 99 0\n", "label.txt: .*template 99"),
        ("ijbc_template_pair_label.txt", "10 20 1\n10 21 1\n", "comparison 2, of templates 10 and 21, contradicts"),
        ("ijbc_1N_gallery_G1.csv", "TEMPLATE_ID\n10\n", "column SUBJECT_ID. Its columns are: TEMPLATE_ID"),
        ("ijbc_1N_gallery_G1.csv", "TEMPLATE_ID,SUBJECT_ID\n", "holds no faces"),
        ("ijbc_1N_gallery_G1.csv", "", "holds no faces"),
        ("ijbc_1N_gallery_G1.csv", "TEMPLATE_ID,SUBJECT_ID\n10\n", "Line 2 .* 2 fields"),
        ("ijbc_1N_gallery_G1.csv", "TEMPLATE_ID,SUBJECT_ID\n10,NaN\n", "Line 2 .* name the subject"),
        ("ijbc_1N_gallery_G1.csv", "TEMPLATE_ID,SUBJECT_ID\n10,\n", "Line 2 .* name the subject"),
        ("ijbc_1N_gallery_G1.csv", "TEMPLATE_ID,SUBJECT_ID\n10,1\n10,2\n", "Line 3 .* another subject"),
        (
            "ijbc_1N_gallery_G1.csv",
            "TEMPLATE_ID,SUBJECT_ID\n20,100\n",
            "probe_mixed.csv repeats template 20 of .*G1.csv",
        ),
    ],
)
def test_what_is_not_in_insightface_s_form(tmp_path, file, text, message):
    files.write(files.write_ijb_text(tmp_path) / file, text)
    with pytest.raises(ProtocolFileError, match=message):
        read_ijb(tmp_path)


HEADING = "TEMPLATE_ID,SUBJECT_ID,FILENAME,SIGHTING_ID"


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("ijbc_1N_gallery_G1.csv", "TEMPLATE_ID,SUBJECT_ID,SIGHTING_ID\n1,2,3\n", "column FILENAME or FILE"),
        ("ijbc_1N_gallery_G1.csv", "TEMPLATE_ID,SUBJECT_ID,FILENAME\n1,2,a.jpg\n", "column SIGHTING_ID"),
        ("ijbc_1N_gallery_G1.csv", f"{HEADING}\n10,100,../a.jpg,3\n", "Line 2 .* stays in its directory"),
        ("ijbc_1N_gallery_G1.csv", f"{HEADING}\n10,100,a.jpg,../3\n", "Line 2 .* letters and digits"),
        ("ijbc_1N_gallery_G1.csv", f"{HEADING}\n10,100,a.jpg,\n", "Line 2 .* letters and digits"),
        ("ijbc_1N_gallery_G1.csv", f"{HEADING}\n10,nan,a.jpg,3\n", "Line 2 .* name the subject"),
        ("ijbc_1N_gallery_G1.csv", f"{HEADING}\n10,100,img/5.jpg,34\n10,9,b.jpg,4\n", "Line 3 .* same template"),
        ("ijbc_1N_gallery_G1.csv", f"{HEADING}\n10,9,img/5.jpg,34\n", "Line 2 .*probe_mixed.* same image"),
        ("ijbc_1N_gallery_G1.csv", f'{HEADING}\n10,9,"img,34\n', "Line 2 .* 4 fields, .* holds 3"),
        ("ijbc_1N_gallery_G1.csv", f"{HEADING}\n11,101,img/5.jpg,3\n", "G2.csv repeats template 11 of .*G1.csv"),
        ("ijbc_11_G1_G2_matches.csv", "10,20,1\n", "Line 1 .* 2 numbers"),
        ("ijbc_11_G1_G2_matches.csv", "10 20\n", "Line 1 .* 2 numbers"),
    ],
)
def test_what_is_not_in_nist_s_form(tmp_path, file, text, message):
    files.write(files.write_ijb_csv(tmp_path) / file, text)
    with pytest.raises(ProtocolFileError, match=message):
        read_ijb(tmp_path)


def test_a_column_of_media_goes_before_sightings(tmp_path):
    rows = [(10, 100, "frames/1.png", 1, 7), (10, 100, "frames/2.png", 2, 7), (10, 100, "img/1.png", 3, 8)]
    text = files.faces_csv(rows, " template_id , subject_id,file,sighting_id,media_id")
    files.write(files.write_ijb_csv(tmp_path) / "ijbc_1N_gallery_G1.csv", text)
    assert members_of(read_ijb(tmp_path))[0] == [["frames/1_1.png", "frames/2_2.png"], ["img/1_3.png"]]


def test_an_image_may_be_in_several_templates(tmp_path):
    rows = [(10, 100, "img/1.jpg", 1), (20, 100, "img/1.jpg", 1)]
    text = files.faces_csv(rows, HEADING)
    directory = files.write_ijb_csv(tmp_path)
    files.write(directory / "ijbc_1N_gallery_G1.csv", files.faces_csv(rows[:1], HEADING))
    files.write(directory / "ijbc_1N_probe_mixed.csv", text.replace("10,100,img/1.jpg,1\n", ""))
    (directory / "ijbc_11_G1_G2_matches.csv").unlink()
    protocol = read_ijb(directory)
    assert protocol.images == ("img/1_1.jpg", "img/9_33.jpg")
    assert protocol.members.tolist() == [0, 1, 0]


def test_ijb_a(tmp_path):
    protocol = read_ijb_a(files.write_ijb_a(tmp_path))
    assert protocol.name == "IJB-A, ten splits"
    assert len(protocol.pairs) == len(protocol.searches) == 10
    members, seen = members_of(protocol), set()
    subjects = protocol.template_subjects
    for split, pairs in enumerate(protocol.pairs, 1):
        left, right = pairs.left.tolist(), pairs.right.tolist()
        assert left[0] == left[1]
        assert members[left[0]] == [[f"img/1_{split}.jpg"]]
        assert [members[template] for template in right] == [[[f"img/2_{split}.jpg"]], [["img/3_7x.jpg"]]]
        assert pairs.same.tolist() == [True, False]
        seen.update(left + right)
    assert len(seen) == 30
    for split, (search,) in enumerate(protocol.searches, 1):
        assert [members[template] for template in search.gallery] == [[[f"img/1_{split + 1}.jpg"]], [["img/3_7x.jpg"]]]
        assert [members[template] for template in search.probes] == [[["img/4_8.jpg"]], [["img/5_9.jpg"]]]
        # Subject 99 is in the gallery, 98 is not.
        assert np.isin(subjects[search.probes], subjects[search.gallery]).tolist() == [True, False]
        assert not seen.intersection(search.gallery.tolist() + search.probes.tolist())


def test_ijb_a_in_part(tmp_path):
    assert read_ijb_a(files.write_ijb_a(tmp_path / "a", search=False)).searches == ()
    assert read_ijb_a(files.write_ijb_a(tmp_path / "b", verify=False)).pairs == ()
    with pytest.raises(FileNotFoundError, match=r"IJB-A_11_sets or .*IJB-A_1N_sets"):
        read_ijb_a(tmp_path)
    directory = files.write_ijb_a(tmp_path / "c")
    (directory / "IJB-A_11_sets/split7/verify_comparisons_7.csv").unlink()
    with pytest.raises(FileNotFoundError, match="verify_comparisons_7"):
        read_ijb_a(directory)


def test_ijb_a_with_a_template_of_another_split(tmp_path):
    directory = files.write_ijb_a(tmp_path)
    files.write(directory / "IJB-A_11_sets/split3/verify_comparisons_3.csv", "1,2\n1,4\n")
    with pytest.raises(ProtocolFileError, match=r"verify_comparisons_3.csv: .*template 4"):
        read_ijb_a(directory)


def test_many_comparisons(tmp_path):
    rng = np.random.default_rng(0)
    table = rng.integers(0, 10**9, (5000, 3))
    path = files.write(tmp_path / "x.txt", "".join("{} {}\t{} \n".format(*row) for row in table))
    np.testing.assert_array_equal(read_numbers(path, ("a", "b", "c")), table)
    files.write(path, b"\xef\xbb\xbf1 2 3\r\n\r\n4 5 6")
    assert read_numbers(path, ("a", "b", "c")).tolist() == [[1, 2, 3], [4, 5, 6]]
