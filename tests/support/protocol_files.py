"""Small protocols in their published formats, written without the package."""

import json
import pickle
import struct
from pathlib import Path

PEOPLE = ["Ada_Lovelace", "Bob", "Eve", "Joe"]


def write(path, text):
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def write_lfw(path, folds=3, pairs=2):
    """Every fold has other persons: P0a, P0b, ..., so that each line can be told."""
    lines = [f"{folds}\t{pairs}"]
    for fold in range(folds):
        lines += [f"P{fold}a\t{2 * k + 1}\t{2 * k + 2}" for k in range(pairs)]
        lines += [f"P{fold}a\t{k + 1}\tP{fold}b\t{k + 10}" for k in range(pairs)]
    return write(path, "\n".join(lines) + "\n")


def write_packed(path, images, same, protocol=2):
    return write(path, pickle.dumps((images, same), protocol))


def write_cfp(root, kind="FP", people=4, folds=2):
    """Two frontal and one profile image of each person; a fold has two persons."""
    root = Path(root)
    frontal = [f"../Data/Images/{p:03d}/frontal/{i:02d}.jpg" for p in range(1, people + 1) for i in (1, 2)]
    profile = [f"../Data/Images/{p:03d}/profile/01.jpg" for p in range(1, people + 1)]
    for letter, paths in (("F", frontal), ("P", profile)):
        text = "".join(f"{number} {path}\n" for number, path in enumerate(paths, 1))
        write(root / f"Protocol/Pair_list_{letter}.txt", text)
    for fold in range(folds):
        a, b = 2 * fold + 1, 2 * fold + 2
        same, diff = {"FP": ((2 * a - 1, a), (2 * a - 1, b)), "FF": ((2 * a - 1, 2 * a), (2 * a, 2 * b))}[kind]
        directory = root / f"Protocol/Split/{kind}/{fold + 1:02d}"
        write(directory / "same.txt", "{},{}\n".format(*same))
        write(directory / "diff.txt", "{},{}\r\n".format(*diff))
    return root


BLUFR_NAMES = [f"{person}_{i:04d}.jpg" for person in PEOPLE for i in (1, 2)]
BLUFR_LABELS = [1, 1, 2, 2, 3, 3, 4, 4]
BLUFR_TRIALS = [
    {"train": [1, 2], "test": [3, 4, 5, 6, 7], "gallery": [3, 5], "probes": [4, 6, 7]},
    {"train": [7, 8, 5], "test": [1, 2, 3, 4], "gallery": [2], "probes": [1, 4, 3]},
]
BLUFR_FILES = {"train": "train_set", "test": "test_set", "gallery": "gallery_set", "probes": "probe_set"}
BLUFR_FIELDS = {"train": "trainIndex", "test": "testIndex", "gallery": "galIndex", "probes": "probIndex"}


def write_blufr_text(directory, names=BLUFR_NAMES, labels=BLUFR_LABELS, trials=BLUFR_TRIALS):
    directory = Path(directory)
    write(directory / "image_list.txt", "".join(f"{name}\n" for name in names))
    write(directory / "labels.txt", "".join(f"{label}\n" for label in labels))
    for kind, file in BLUFR_FILES.items():
        text = f"{len(trials)}\n"
        for trial in trials:
            text += f"{len(trial[kind])}\n" + "".join(f"{i}, {names[i - 1]}\n" for i in trial[kind])
        write(directory / f"{file}.txt", text)
    return directory


def write_blufr_mat(path, names=BLUFR_NAMES, labels=BLUFR_LABELS, trials=BLUFR_TRIALS, dtype="float64", raw=None):
    import numpy as np
    from scipy.io import savemat

    def cells(values):
        array = np.empty((len(values), 1), object)
        for place, value in enumerate(values):
            array[place, 0] = value
        return array

    content = {"imageList": cells(names), "labels": np.array(labels, dtype)[:, None]}
    for kind, field in BLUFR_FIELDS.items():
        content[field] = cells([np.array(trial[kind], dtype)[:, None] for trial in trials])
    content.update(raw or {})
    savemat(path, {name: value for name, value in content.items() if value is not None}, do_compression=True)
    return Path(path)


YTF_FRAMES = {
    "Ada/1": ["1.10.jpg", "1.9.jpg"],
    "Ada/4": ["4.1.jpg"],
    "Bob/0": ["0.1.jpg", "0.2.png"],
    "Eve/2": ["2.3.jpg"],
}
YTF_PAIRS = [
    (1, 1, "Ada/1", "Ada/4", 1),
    (1, 2, "Ada/1", "Bob/0", 0),
    (2, 1, "Eve/2", "Bob/0", 0),
    (2, 2, "Ada/4", "Ada/1", 1),
]


def write_ytf(root, pairs=YTF_PAIRS, frames=YTF_FRAMES):
    root = Path(root)
    for video, names in frames.items():
        for name in names:
            write(root / "frames" / video / name, b"")
    text = "split number, pair number, first name, second name, is same\n"
    text += "".join(", ".join(map(str, pair)) + "\n" for pair in pairs)
    return write(root / "splits.txt", text)


def write_megaface(root):
    root = Path(root)
    paths = [f"{person}/{person}_{i}.png" for person in ("Joe", "Ada") for i in (7, 8)]
    write(root / "probes.json", json.dumps({"path": paths, "id": ["Joe", "Joe", "Ada", "Ada"]}))
    write(root / "others.json", json.dumps({"path": ["534/53415754@N00/37731000_1.jpg", "389/x@N07/1_13.jpg"]}))
    return root


def feature_file(vector, header=None):
    header = (len(vector), 1, 4, 5) if header is None else header
    return struct.pack("<4i", *header) + struct.pack(f"<{len(vector)}f", *vector)


# image, template, medium; subjects by template
IJB_MEMBERS = [
    ("1.jpg", 10, 5),
    ("2.jpg", 10, 5),
    ("3.jpg", 10, 6),
    ("4.jpg", 11, 7),
    ("5.jpg", 20, 8),
    ("6.jpg", 21, 9),
    ("7.jpg", 22, 9),
]
IJB_SUBJECTS = {10: 100, 11: 101, 20: 100, 21: 101, 22: 102}
IJB_PAIRS = [(10, 20, 1), (10, 21, 0), (11, 21, 1), (11, 22, 0)]


def write_ijb_text(directory, stem="ijbc", galleries=("G1", "G2")):
    directory = Path(directory)
    write(directory / f"{stem}_face_tid_mid.txt", "".join("{} {} {}\n".format(*member) for member in IJB_MEMBERS))
    write(directory / f"{stem}_template_pair_label.txt", "".join("{} {} {}\n".format(*pair) for pair in IJB_PAIRS))
    for name, templates in (
        (f"gallery_{galleries[0]}", [10]),
        (f"gallery_{galleries[1]}", [11]),
        ("probe_mixed", [20, 21, 22]),
    ):
        text = "TEMPLATE_ID,SUBJECT_ID\n" + "".join(f"{t},{IJB_SUBJECTS[t]}\n" for t in templates)
        write(directory / f"{stem}_1N_{name}.csv", text)
    return directory


def faces_csv(rows, heading="TEMPLATE_ID,SUBJECT_ID,FILENAME,SIGHTING_ID,FACE_X"):
    return heading + "\n" + "".join(",".join(map(str, row)) + "\n" for row in rows)


def write_ijb_csv(directory, stem="ijbc", galleries=("G1", "G2")):
    """Sighting 31 has two frames: they are one medium. The photo img/9.jpg shows two subjects."""
    directory = Path(directory)
    first = [(10, 100, "frames/1.png", 31, 4), (10, 100, "frames/2.png", 31, 4), (10, 100, "img/9.jpg", 32, 4)]
    second = [(11, 101, "img/9.jpg", 33, 4)]
    probes = [(20, 100, "img/5.jpg", 34, 4), (21, 101, "img/6.jpg", 35, 4), (22, 102, "img/7.jpg", 36, "")]
    for name, rows in (
        (f"gallery_{galleries[0]}", first),
        (f"gallery_{galleries[1]}", second),
        ("probe_mixed", probes),
    ):
        write(directory / f"{stem}_1N_{name}.csv", faces_csv(rows))
    write(directory / f"{stem}_11_{'_'.join(galleries)}_matches.csv", "".join(f"{a},{b}\n" for a, b, _ in IJB_PAIRS))
    return directory


def write_ijb_a(directory, verify=True, search=True):
    """Template 1 of split s is of subject s; the same ids in the search are others."""
    directory = Path(directory)
    heading = "TEMPLATE_ID,SUBJECT_ID,FILE,MEDIA_ID,SIGHTING_ID,FRAME"
    for split in range(1, 11):
        if verify:
            path = directory / f"IJB-A_11_sets/split{split}"
            rows = [
                (1, split, "img/1.jpg", 50, split, ""),
                (2, split, "img/2.jpg", 51, split, ""),
                (3, 99, "img/3.jpg", 52, "7x", ""),
            ]
            write(path / f"verify_metadata_{split}.csv", faces_csv(rows, heading))
            write(path / f"verify_comparisons_{split}.csv", "1,2\n1,3\n")
        if search:
            path = directory / f"IJB-A_1N_sets/split{split}"
            gallery = [(1, split + 1, "img/1.jpg", 50, split + 1, ""), (2, 99, "img/3.jpg", 52, "7x", "")]
            probes = [(3, 99, "img/4.jpg", 53, 8, ""), (4, 98, "img/5.jpg", 54, 9, "")]
            write(path / f"search_gallery_{split}.csv", faces_csv(gallery, heading))
            write(path / f"search_probe_{split}.csv", faces_csv(probes, heading))
    return directory
