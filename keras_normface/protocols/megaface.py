"""MegaFace's lists of probes and distractors."""

import json
import os

import numpy as np

from keras_normface.evaluation.megaface import MegaFaceProtocol
from keras_normface.protocols.text_lines import ProtocolFileError, faults_of, is_contained


def read_megaface(probes, distractors, name="MegaFace"):
    """Read the lists of MegaFace's devkit.

    `facescrub_features_list.json` holds the probes, {"path": [...], "id": [...]}: images and their persons, of equal
    length. `megaface_features_list.json_1000000_1` holds the distractors, {"path": [...]}.

    Args:
        probes: Path of the list of probes.
        distractors: Path of that of the distractors, or their number where the images are not needed.
        name: What the protocol is called; the numbers of probes and distractors are added.

    Returns:
        A `MegaFaceProtocol`.

    Raises:
        ProtocolFileError: If a file is no such list, repeats an image or leads out of its directory, or a person has
            one probe only.
        OSError: If a file cannot be read.

    Source: Kemelmacher-Shlizerman et al. 2016, "The MegaFace Benchmark: 1 Million Faces for Recognition at Scale", and
    its devkit.

    Example:
    >>> import tempfile
    >>> path = os.path.join(tempfile.mkdtemp(), "facescrub_features_list.json")
    >>> with open(path, "w") as file:
    ...     json.dump({"path": ["Ada/1.png", "Ada/2.png"], "id": ["Ada", "Ada"]}, file)
    >>> read_megaface(path, 1_000_000).name
    'MegaFace, 2 probes, 1 000 000 distractors'
    """
    images, persons = _list(probes, with_persons=True)
    # Not NumPy's unique, to which a name is the same with zero characters behind it.
    places = {person: place for place, person in enumerate(sorted(set(persons)))}
    numbers = np.array([places[person] for person in persons])
    others = distractors if isinstance(distractors, int) else _list(distractors)[0]
    count = others if isinstance(others, int) else len(others)
    counted = f"{len(images):,} probes; {count:,} distractors".replace(",", " ").replace(";", ",")
    with faults_of(probes):
        return MegaFaceProtocol(f"{name}, {counted}", images, numbers, others)


def _list(path, with_persons=False):
    path = os.fspath(path)
    with open(path, encoding="utf-8-sig") as file:
        try:
            content = json.load(file)
        except (ValueError, RecursionError) as error:
            raise ProtocolFileError(f"{path} is no JSON file: {error}") from error
    images = _texts(content, "path", path)
    wrong = next((image for image in images if not is_contained(image)), None)
    if wrong is not None:
        raise ProtocolFileError(
            f'"path" in {path} must hold paths that stay in their directory. Received: {wrong[:80]!r}'
        )
    if len(set(images)) != len(images):
        raise ProtocolFileError(
            f'"path" in {path} must hold each image once, but {len(images) - len(set(images))} recur'
        )
    persons = _texts(content, "id", path) if with_persons else None
    if with_persons and len(persons) != len(images):
        raise ProtocolFileError(f'{path} must hold an "id" for each "path", but holds {len(persons)} for {len(images)}')
    return tuple(images), persons


def _texts(content, key, path):
    texts = content.get(key) if isinstance(content, dict) else None
    if not isinstance(texts, list) or not texts or not all(isinstance(text, str) for text in texts):
        raise ProtocolFileError(f'{path} must hold a list of texts called "{key}"')
    return texts
