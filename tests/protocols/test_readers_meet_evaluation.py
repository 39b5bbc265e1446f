"""What the readers give is what the evaluation takes."""

import numpy as np

from keras_normface.protocols import (
    MegafaceFeatures,
    evaluate_blufr,
    evaluate_ijb,
    evaluate_megaface,
    evaluate_pairs,
    evaluate_video_pairs,
    open_protocol,
    write_megaface_features,
)
from tests.support import protocol_files as files


def vectors(protocol, seed=0):
    return np.random.default_rng(seed).standard_normal((len(protocol.images), 8)).astype("float32")


def test_lfw(tmp_path):
    protocol = open_protocol("lfw", files.write_lfw(tmp_path / "pairs.txt", 4, 5)).protocol
    people = np.eye(protocol.subjects.max() + 1)
    result = evaluate_pairs(protocol, people[protocol.subjects])
    assert result.protocol == "LFW, 40 pairs, 4 folds"
    assert result["accuracy"].value == 1.0


def test_packed_pairs_of_nobody_known(tmp_path):
    path = files.write_packed(tmp_path / "calfw.bin", [b"a", b"b", b"c", b"d"] * 10, [True, False] * 10)
    protocol = open_protocol("calfw", path).protocol
    vector = dict(
        zip(("calfw/0", "calfw/1", "calfw/2", "calfw/3"), ([1, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]), strict=True)
    )
    assert evaluate_pairs(protocol, np.array([vector[name] for name in protocol.images]))["accuracy"].value == 1.0


def test_the_others_run(tmp_path):
    protocol = open_protocol("blufr", files.write_blufr_text(tmp_path / "blufr")).protocol
    assert evaluate_blufr(protocol, vectors(protocol), fars=0.5, dir_fars=1.0).protocol == protocol.name
    protocol = open_protocol("ytf", files.write_ytf(tmp_path / "ytf"), tmp_path / "ytf/frames").protocol
    assert evaluate_video_pairs(protocol, vectors(protocol)).protocol == protocol.name
    for kind, write in (("ijba", files.write_ijb_a), ("ijbc", files.write_ijb_text)):
        protocol = open_protocol(kind, write(tmp_path / kind)).protocol
        assert evaluate_ijb(protocol, vectors(protocol)).protocol == protocol.name


def test_distractors_from_feature_files(tmp_path):
    path = files.write_megaface(tmp_path) / "probes.json"
    protocol = open_protocol("megaface", path, distractors=tmp_path / "others.json").protocol
    others = np.random.default_rng(1).standard_normal((2, 8)).astype("float32")
    for name, vector in zip(protocol.distractors, others, strict=True):
        directory = (tmp_path / name).parent
        directory.mkdir(parents=True, exist_ok=True)
        write_megaface_features(f"{tmp_path / name}_x.bin", vector)
    from_files = MegafaceFeatures(tmp_path, protocol.distractors, "_x.bin", block_rows=1)
    results = [evaluate_megaface(protocol, vectors(protocol), source) for source in (others, from_files)]
    assert results[0].figures == results[1].figures
