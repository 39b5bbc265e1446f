"""Tiny exported models, made-up faces for them (a pattern for each person, with some noise), and small protocols."""

import io
import warnings
from pathlib import Path

import numpy as np
from PIL import Image

from keras_normface.protocols import open_protocol, write_pair_list
from tests.support import protocol_files as files

SIZE = (12, 10)
PEOPLE = [f"Person_{number}" for number in range(8)]


def export(path, seed=0, **options):
    """A dense layer on pixels, as a SavedModel; patterns stay as unlike as they are."""
    import keras

    import keras_normface as knf

    keras.utils.set_random_seed(seed)
    net = keras.Sequential([keras.Input((*SIZE, 3)), keras.layers.Flatten(), keras.layers.Dense(24)])
    options.setdefault("preprocessing", knf.Preprocessing(size=SIZE))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        knf.export_embedding_model(net, path, **options)
    return Path(path)


def face(person, image, noise=0.35, size=SIZE):
    """Encoded PNG; `person` is any text."""
    pattern = np.random.default_rng([*person.encode()]).normal(size=(*size, 3))
    other = np.random.default_rng([*person.encode(), 1 + image]).normal(size=(*size, 3))
    pixels = np.clip(127.5 + 60 * (pattern + noise * other), 0, 255).astype("uint8")
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def write_face(root, name, person, image, **options):
    path = Path(root) / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(face(person, image, **options))
    return path


def paint(root, protocol, noise=1.5):
    """A face for each image of a protocol, of the person that the protocol says."""
    subjects = protocol.subjects
    for place, name in enumerate(protocol.images):
        person = f"person {place if subjects is None else subjects[place]}"
        write_face(root, name, person, place, noise=noise)


def packed(tmp_path, name):
    faces = [face(person, image, noise=1.5) for person in PEOPLE[:6] for image in (1, 2)]
    pairs = [
        (0, 1, 1),
        (0, 2, 0),
        (2, 3, 1),
        (3, 5, 0),
        (4, 5, 1),
        (6, 8, 0),
        (6, 7, 1),
        (7, 9, 0),
        (8, 9, 1),
        (1, 4, 0),
    ]
    images = [faces[number] for left, right, _ in pairs for number in (left, right)]
    return files.write_packed(tmp_path / name, images, [bool(same) for _, _, same in pairs])


def prepared(kind, root):
    """Options of the command for a small protocol whose images are below `root`/images."""
    images = root / "images"
    if kind == "agedb30":
        return [kind, "--protocol-file", packed(root, "agedb_30.bin")]
    extra, options = [], {}
    if kind == "pairs":
        people = [(f"{person}/1.png", f"{person}/2.png", person) for person in PEOPLE[:4]]
        pairs = [(left, right, k % 2, person, person) for k, (left, right, person) in enumerate(people)]
        pairs += [(people[k][0], people[k - 2][1], k % 2, people[k][2], people[k - 2][2]) for k in range(4)]
        path = root / "ours.tsv"
        write_pair_list(path, pairs)
    elif kind == "lfw":
        path = files.write_lfw(root / "pairs.txt")
    elif kind == "cfp-fp":
        path = images = files.write_cfp(root / "cfp")
    elif kind == "blufr":
        path = files.write_blufr_text(root / "blufr")
        extra = ["--far", "0.5", "--fpir", "1"]
    elif kind == "ytf":
        path = files.write_ytf(root)
        images = root / "frames"
    elif kind == "megaface":
        path = files.write_megaface(root) / "probes.json"
        for number in range(30):
            write_face(root / "others", f"{number % 3}/{number}.png", f"distractor {number}", 0)
        extra, options = ["--distractors", root / "others"], {"distractors": 30}
    elif kind == "ijba":
        path = files.write_ijb_a(root / "ijba")
    else:
        galleries = {"ijbb": ("S1", "S2"), "ijbc": ("G1", "G2")}[kind]
        path = files.write_ijb_text(root / kind, kind, galleries)
    paint(images, open_protocol(kind, path, images if kind == "ytf" else None, **options).protocol)
    return [kind, "--protocol-file", path, *([] if kind == "cfp-fp" else ["--images", images]), *extra]
