"""`keras-normface evaluate`: each protocol from files to result.json, and what must be refused."""

import dataclasses
import json
import os
import shutil

import numpy as np
import pytest
from typer.testing import CliRunner

from keras_normface import export_embedding_model
from keras_normface.cli._app import app
from keras_normface.inference import Embedder, embed_images, read_card, save_embeddings
from keras_normface.metrics import Result, cross_validated_accuracy, equal_error_rate, tar_at_far
from keras_normface.protocols import open_protocol, write_megaface_features
from tests.support import faces, products, ready
from tests.support import protocol_files as files

SHARD = {"name": "shard-00000-of-00001.tfrecord", "samples": 2, "bytes": 99, "sha256": "0" * 64}


def call(*arguments):
    result = CliRunner().invoke(app, ["evaluate", *map(os.fspath, map(_text, arguments))])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exc_info
    return result


def _text(argument):
    return argument if isinstance(argument, (str, os.PathLike)) else str(argument)


def good(*arguments):
    result = call(*arguments)
    assert result.exit_code == 0, result.output
    return result


def refused(*arguments):
    result = call(*arguments)
    assert result.exit_code == 2, result.output
    assert "Traceback" not in result.output
    return result.stderr.splitlines()[-1]


def figures(out):
    result = Result.load(out / "result.json")
    return {figure.name: dataclasses.replace(figure, note="") for figure in result.figures}


def same_figures(one, other):
    assert one.keys() == other.keys()
    for name in one:
        assert one[name].value == pytest.approx(other[name].value, abs=1e-9), name
        assert one[name].threshold == pytest.approx(other[name].threshold, abs=1e-6), name


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return products.export(tmp_path_factory.mktemp("product") / "first", seed=0)


@pytest.fixture(scope="module")
def other_model(tmp_path_factory):
    return products.export(tmp_path_factory.mktemp("product") / "second", seed=1)


@pytest.fixture(scope="module")
def lfw(tmp_path_factory):
    """LFW's layout: four folds of eight pairs of each kind, noisy enough that some are decided wrongly."""
    root, lines = tmp_path_factory.mktemp("lfw"), ["4\t8"]
    rng = np.random.default_rng(0)
    for fold in range(4):
        one, two = products.PEOPLE[2 * fold : 2 * fold + 2]
        genuine = [(person, i, j) for person in (one, two) for i in range(1, 5) for j in range(i + 1, 5)]
        lines += ["\t".join(map(str, genuine[k])) for k in rng.permutation(len(genuine))[:8]]
        impostor = [(one, i, two, j) for i in range(1, 5) for j in range(1, 5)]
        lines += ["\t".join(map(str, impostor[k])) for k in rng.permutation(len(impostor))[:8]]
    (root / "pairs.txt").write_text("\n".join(lines) + "\n")
    for person in products.PEOPLE:
        for image in range(1, 5):
            name = f"{person}/{person}_{image:04d}.jpg"
            products.write_face(root / "faces", name, person, image, noise=2.0)
    return root


def lfw_options(lfw):
    return "lfw", "--protocol-file", lfw / "pairs.txt", "--images", lfw / "faces"


def scores_of(lfw, model, mirror=False):
    """Cosines of LFW's pairs, worked from the lines of pairs.txt."""
    names = [f"{person}/{person}_{image:04d}.jpg" for person in products.PEOPLE for image in range(1, 5)]
    both = embed_images(
        Embedder(model, faces="aligned"), [(name, lfw / "faces" / name) for name in names], mirror="both"
    )
    rows = both.front + both.mirrored if mirror else both.front
    unit = dict(zip(names, rows / np.linalg.norm(rows, axis=1, keepdims=True), strict=True))
    scores, same, folds = [], [], []
    for place, line in enumerate((lfw / "pairs.txt").read_text().splitlines()[1:]):
        fields = line.split("\t")
        people = fields[0], fields[0] if len(fields) == 3 else fields[2]
        left, right = (
            unit[f"{person}/{person}_{int(image):04d}.jpg"]
            for person, image in zip(people, (fields[1], fields[-1]), strict=True)
        )
        scores.append(float(left @ right))
        same.append(len(fields) == 3)
        folds.append(place // 16)
    return np.array(scores), np.array(same), np.array(folds)


def test_lfw_from_files_to_figures(lfw, model, tmp_path):
    out = tmp_path / "out"
    result = good(*lfw_options(lfw), "--model", model, "--out", out, "--far", "0.125", "--far", 0.5, "--repeats", 20)
    scores, same, folds = scores_of(lfw, model)
    found = figures(out)
    accuracy = cross_validated_accuracy(scores, same, folds=folds)
    assert found["accuracy"].value == pytest.approx(accuracy.mean, abs=1e-9)
    assert found["accuracy"].spread == pytest.approx(accuracy.standard_error, abs=1e-9)
    assert found["EER"].value == pytest.approx(equal_error_rate(scores, same), abs=1e-9)
    for far, name in ((0.125, "TAR@FAR=0.125"), (0.5, "TAR@FAR=5e-01")):
        point = tar_at_far(scores, same, far)
        assert found[name].value == pytest.approx(point.tar, abs=1e-9)
        assert found[name].threshold == pytest.approx(point.threshold, abs=1e-6)
        assert found[name].interval is not None
    printed = [line for line in result.stdout.splitlines() if line]
    assert len(printed) == 4
    assert all(line.startswith("LFW, 64 pairs, 4 folds: ") for line in printed)
    assert 0.5 < found["accuracy"].value < 1.0  # the protocol is one on which something can go wrong
    text = (out / "result.md").read_text()
    assert text.count("LFW, 64 pairs, 4 folds") == 4
    assert (out / "roc.png").read_bytes()[:4] == (out / "det.png").read_bytes()[:4] == b"\x89PNG"
    settings = Result.load(out / "result.json").settings
    assert settings["preprocessing"]["size"] == [12, 10]
    assert len(settings["fingerprint"]) == 64


@pytest.mark.parametrize("kind", ["pairs", "agedb30", "cfp-fp", "blufr", "ytf", "megaface", "ijba", "ijbb", "ijbc"])
def test_the_same_figures_from_images_and_from_stored_embeddings(kind, model, tmp_path):
    options = products.prepared(kind, tmp_path)
    one, two = tmp_path / "one", tmp_path / "two"
    result = good(*options, "--model", model, "--out", one, "--save-embeddings", tmp_path / "e.npz", "--repeats", 0)
    found, protocol = figures(one), Result.load(one / "result.json").protocol
    assert found
    lines = result.stdout.splitlines()
    assert [line.split(": ")[0] for line in lines] == [protocol] * len(found)
    assert all(f"{name} {100 * found[name].value:.2f} %" in line for name, line in zip(found, lines, strict=True))
    distractors = [tmp_path / "distractors.npy"] if kind == "megaface" else []
    if distractors:
        listed = sorted(
            (path.relative_to(tmp_path / "others").as_posix(), path) for path in tmp_path.glob("others/*/*")
        )
        np.save(distractors[0], embed_images(Embedder(model, faces="aligned"), listed).front)
        options[options.index("--distractors") + 1] = distractors[0]
    good(*options, "--embeddings", tmp_path / "e.npz", "--out", two, "--repeats", 0)
    same_figures(found, figures(two))
    assert (two / "roc.png").exists() == bool(Result.load(two / "result.json").curves)


@pytest.mark.parametrize(
    ("kind", "name"), [("calfw", "CALFW"), ("cplfw", "CPLFW"), ("lfw", "LFW"), ("cfp-fp", "CFP-FP")]
)
def test_each_packed_file_has_its_own_name(kind, name, tmp_path):
    path = products.packed(tmp_path, "pairs.bin")
    images = open_protocol(kind, path).protocol.images
    save_embeddings(tmp_path / "e.npz", images, np.random.default_rng(0).normal(size=(len(images), 4)))
    result = good(kind, "--protocol-file", path, "--embeddings", tmp_path / "e.npz", "--repeats", 0)
    assert result.stdout.startswith(f"{name}, 10 pairs, ten folds: accuracy")


def test_a_second_run_takes_all_from_the_cache(lfw, model, other_model, tmp_path):
    options = (*lfw_options(lfw), "--out", tmp_path / "out", "--repeats", 0)
    assert "32 images embedded, 0 taken from the cache" in good(*options, "--model", model).stderr
    first = figures(tmp_path / "out")
    assert "0 images embedded, 32 taken from the cache" in good(*options, "--model", model).stderr
    same_figures(first, figures(tmp_path / "out"))
    assert "32 images embedded, 32 taken" in good(*options, "--model", model, "--flip", "sum").stderr
    assert "32 images embedded, 0 taken" in good(*options, "--model", other_model).stderr
    assert "0 images embedded" in good(*lfw_options(lfw), "--model", model, "--cache", tmp_path / "out/cache").stderr


def test_a_killed_run_resumes(lfw, model, tmp_path, monkeypatch):
    import importlib

    monkeypatch.setattr(importlib.import_module("keras_normface.inference._store"), "CHUNK_IMAGES", 10)
    options = (*lfw_options(lfw), "--model", model, "--out", tmp_path / "out", "--repeats", 0)
    whole = Embedder.embed

    def killed(self, *arguments, **more):
        if self.embedded >= 20:
            raise KeyboardInterrupt
        return whole(self, *arguments, **more)

    with monkeypatch.context() as patch:
        patch.setattr(Embedder, "embed", killed)
        assert "again to resume" in refused(*options)
        assert "Nothing was saved" in refused(*lfw_options(lfw), "--model", model)
    assert not (tmp_path / "out" / "result.json").exists()
    assert "12 images embedded, 20 taken from the cache" in good(*options).stderr


@pytest.mark.parametrize("mirror", ["sum", "concatenate", "maximum"])
def test_mirror_images(lfw, model, tmp_path, mirror):
    good(*lfw_options(lfw), "--model", model, "--out", tmp_path / "out", "--flip", mirror, "--repeats", 0)
    if mirror == "sum":
        scores, same, folds = scores_of(lfw, model, mirror=True)
        accuracy = cross_validated_accuracy(scores, same, folds=folds)
        assert figures(tmp_path / "out")["accuracy"].value == pytest.approx(accuracy.mean, abs=1e-9)
    assert Result.load(tmp_path / "out" / "result.json").settings["flip"] == mirror


def test_mean_and_pca_reach_the_protocol(lfw, model, tmp_path):
    good(*lfw_options(lfw), "--model", model, "--out", tmp_path / "out", "--center", "--pca", "0.9", "--repeats", 0)
    settings = Result.load(tmp_path / "out" / "result.json").settings
    assert settings["center"] is True
    assert len(settings["dimensions"]) == 4
    options = products.prepared("blufr", tmp_path)
    good(*options, "--model", model, "--out", tmp_path / "out", "--pca", "0.9", "--repeats", 0)
    assert "0.9 of the variance" in Result.load(tmp_path / "out" / "result.json").settings["projection"]


def test_megaface_from_feature_files(model, tmp_path):
    options = products.prepared("megaface", tmp_path)
    good(*options, "--model", model, "--out", tmp_path / "one", "--repeats", 0)
    for part in ("images", "others"):
        paths = [path for path in (tmp_path / part).rglob("*") if path.is_file()]
        names = [path.relative_to(tmp_path / part).as_posix() for path in paths]
        for name, row in zip(
            names,
            embed_images(Embedder(model, faces="aligned"), list(zip(names, paths, strict=True))).front,
            strict=True,
        ):
            target = tmp_path / "features" / part / f"{name}_ours.bin"
            target.parent.mkdir(parents=True, exist_ok=True)
            write_megaface_features(target, row)
    options[options.index("--distractors") + 1] = tmp_path / "features" / "others"
    stored = ("--embeddings", tmp_path / "features" / "images", "--feature-suffix", "_ours.bin")
    good(*options, *stored, "--out", tmp_path / "two", "--repeats", 0)
    same_figures(figures(tmp_path / "one"), figures(tmp_path / "two"))
    listed = sorted(path.relative_to(tmp_path / "others").as_posix() for path in (tmp_path / "others").glob("*/*"))
    (tmp_path / "list.json").write_text(json.dumps({"path": listed[:20]}))
    good(*options, *stored, "--out", tmp_path / "two", "--repeats", 0, "--distractor-list", tmp_path / "list.json")
    assert Result.load(tmp_path / "two" / "result.json").counts["distractors"] == 20


def test_ytf_with_the_svm(model, tmp_path):
    options = products.prepared("ytf", tmp_path)
    good(*options, "--model", model, "--out", tmp_path / "out", "--repeats", 0, "--svm")
    assert "accuracy HIK-SVM" in figures(tmp_path / "out")


def test_calibrate_then_read_back(lfw, model, tmp_path):
    own = tmp_path / "own"
    shutil.copytree(model, own)
    options = (*lfw_options(lfw), "--model", own, "--cache", tmp_path / "cache", "--repeats", 30)
    result = good(*options, "--calibrate-far", "0.125")
    threshold = read_card(own).threshold
    scores, same, _ = scores_of(lfw, model)
    point = tar_at_far(scores, same, 0.125)
    assert threshold.cosine == pytest.approx(point.threshold, abs=1e-6)
    assert threshold.squared_distance == pytest.approx(2 - 2 * point.threshold, abs=1e-6)
    assert threshold.protocol == "LFW, 64 pairs, 4 folds"
    assert threshold.interval[0] <= threshold.cosine <= threshold.interval[1]
    assert f"cosine >= {threshold.cosine:.4f}" in result.stdout
    assert f"squared distance <= {threshold.squared_distance:.4f}" in result.stdout
    # The threshold does not change what the model computes: its cache holds.
    assert "0 images embedded, 32 taken from the cache" in good(*options).stderr


def test_leaks_are_listed_before_the_figures(lfw, model, tmp_path):
    options = (*lfw_options(lfw), "--model", model, "--cache", tmp_path / "cache", "--repeats", 0)
    (tmp_path / "names.txt").write_text("somebody\nperson 3\nPERSON-5\n")
    for name in ("0001", "Person_3", "person_5"):
        (tmp_path / "folder" / name).mkdir(parents=True)
    good(*options, "--save-embeddings", tmp_path / "train.npz")
    with np.load(tmp_path / "train.npz") as file:
        twins = [f"train/{number}.jpg" for number in range(2)]
        save_embeddings(tmp_path / "train.npz", [*twins, "other"], [*file["embeddings"][[4, 9]], -np.ones(24)])
        first, second = file["names"][[4, 9]]
    for source in ("names.txt", "folder"):
        arguments = ("--train-identities", tmp_path / source, "--train-embeddings", tmp_path / "train.npz")
        lines = good(*options, *arguments).stdout.splitlines()
        assert lines[0].startswith("Leak check: 2 of 8 test identities are in the training set by name")
        assert "as 'Person_3'" in lines[1]
        assert "as 'Person_5'" in lines[2]
        assert lines[3].startswith("Leak check: 2 test images")
        assert {line.split("'")[1] for line in lines[4:6]} == {first, second}
        assert all("train/" in line for line in lines[4:6])
        assert all(line.startswith("LFW, 64 pairs, 4 folds: ") for line in lines[6:])
    lines = good(*options, "--train-embeddings", tmp_path / "train.npz").stdout.splitlines()
    assert lines[0].startswith("Leak check: 2 test images")
    (tmp_path / "names.txt").write_text("\n")
    assert "names.txt, which names none" in refused(*options, "--train-identities", tmp_path / "names.txt")
    options = products.prepared("pairs", tmp_path)
    (tmp_path / "names.txt").write_text("PERSON_2\n")
    result = good(*options, "--model", model, "--repeats", 0, "--train-identities", tmp_path / "names.txt")
    assert result.stdout.startswith("Leak check: 1 of 4 test identities")


def test_identities_of_shards(lfw, model, tmp_path):
    files.write(
        tmp_path / "shards" / "dataset.json", json.dumps(faces.metadata([SHARD], ["Person_1", "Bob"], samples=2))
    )
    for source in ("shards", "shards/dataset.json"):
        arguments = ("--train-identities", tmp_path / source, "--repeats", 0)
        assert "1 of 8 test identities" in good(*lfw_options(lfw), "--model", model, *arguments).stdout


def test_two_models_compared(lfw, model, other_model, tmp_path):
    options = (*lfw_options(lfw), "--model", model, "--out", tmp_path / "out", "--repeats", 40)
    result = good(*options, "--compare", other_model)
    content = json.loads((tmp_path / "out" / "comparison.json").read_text())
    values = {difference["name"]: difference for difference in content["differences"]}
    for key, path in (("a", model), ("b", other_model)):
        scores, same, folds = scores_of(lfw, path)
        assert values["accuracy"][key] == pytest.approx(cross_validated_accuracy(scores, same, folds=folds).mean)
        assert values["EER"][key] == pytest.approx(equal_error_rate(scores, same))
    assert "first" in result.stdout
    assert "second better in" in result.stdout
    assert "second better in" in (tmp_path / "out" / "result.md").read_text()
    # A model against its own stored embeddings: no difference.
    good(*options, "--save-embeddings", tmp_path / "same.npz")
    assert not (tmp_path / "out" / "comparison.json").exists()
    good(*options, "--compare", tmp_path / "same.npz")
    content = json.loads((tmp_path / "out" / "comparison.json").read_text())
    assert all(difference["interval"] == [0.0, 0.0] for difference in content["differences"])


@pytest.mark.parametrize("kind", ["blufr", "ytf", "megaface"])
def test_two_models_on_other_protocols(kind, model, other_model, tmp_path):
    options = (*products.prepared(kind, tmp_path), "--cache", tmp_path / "cache", "--repeats", 50)
    result = good(*options, "--model", model, "--compare", other_model, "--out", tmp_path / "out")
    assert ", 50 bootstrap replicates of " in result.stdout
    content = json.loads((tmp_path / "out" / "comparison.json").read_text())
    assert content["repeats"] == Result.load(tmp_path / "out" / "result.json").settings["intervals"]["resamples"] == 50
    good(*options, "--model", other_model, "--out", tmp_path / "out")
    for difference in content["differences"]:
        assert difference["b"] == figures(tmp_path / "out")[difference["name"]].value
        low, high = difference["interval"]
        assert low <= high
        assert difference["name"] in result.stdout


def test_two_models_without_draws(model, other_model, tmp_path):
    options = (*products.prepared("megaface", tmp_path), "--cache", tmp_path / "cache", "--repeats", 0)
    result = good(*options, "--model", model, "--compare", other_model)
    assert "without intervals of the differences" in result.stdout
    # In this IJB-A one subject has a mate: there is nothing to draw.
    options = (*products.prepared("ijba", tmp_path / "ijba"), "--cache", tmp_path / "cache", "--repeats", 50)
    result = good(*options, "--model", model, "--compare", other_model)
    assert "without intervals of the differences" in result.stdout
    assert "no interval: too few subjects" in result.stdout


def test_a_rate_that_cannot_be_resolved_is_one_line_before_anything_is_embedded(lfw, model, tmp_path):
    options = (*lfw_options(lfw), "--model", model, "--out", tmp_path / "out")
    message = refused(*options, "--far", "1e-3")
    assert message.startswith("Error: `--far` must be at least 1/32 = 0.0312")
    assert message.endswith("0.001")
    assert "--calibrate-far" in refused(*options, "--calibrate-far", "0.01")
    assert not (tmp_path / "out" / "result.json").exists()
    assert not list((tmp_path / "out").rglob("*.npz"))
    for kind in ("blufr", "megaface", "ijbc"):
        assert "--far" in refused(*products.prepared(kind, tmp_path / kind), "--model", model, "--far", "1e-9")


@pytest.mark.parametrize(
    ("kind", "rate", "message"),
    [
        ("blufr", "0.5", "`--fpir` must be at least 1/1 = 1"),
        ("ijba", "0.5", "`--fpir` must be at least 1/1 = 1"),
        ("ijbb", "0.4", "`--fpir` must be at least 1/2 = 0.5"),
        ("ijbc", "2", "`--fpir` must be a number in (0, 1]"),
    ],
)
def test_a_rate_of_false_identifications_that_cannot_be_resolved(kind, rate, message, model, tmp_path):
    options = products.prepared(kind, tmp_path)
    # Nothing is embedded: an image that is missing is not even looked for.
    for path in (tmp_path / "images").rglob("*.*"):
        path.unlink()
    assert message in refused(*options, "--model", model, "--fpir", rate)


def test_a_rate_of_what_the_protocol_does_not_have(model, tmp_path):
    options = products.prepared("ijbb", tmp_path)
    for searches in (tmp_path / "ijbb").glob("*_1N_*"):
        searches.unlink()
    message = refused(*options, "--model", model, "--fpir", "0.5")
    assert "--fpir must not be given for IJB-B" in message


def test_a_protocol_too_small_for_any_default_rate_says_so(model, tmp_path):
    options = products.prepared("blufr", tmp_path)
    options = options[: options.index("--far")]
    assert "give --far" in refused(*options, "--model", model, "--repeats", 0)


def test_missing_images_and_embeddings_are_listed(lfw, model, tmp_path):
    faces = tmp_path / "faces"
    shutil.copytree(lfw / "faces", faces)
    shutil.rmtree(faces / "Person_3")
    options = ("lfw", "--protocol-file", lfw / "pairs.txt")
    assert "Person_3/Person_3_000" in refused(*options, "--images", faces, "--model", model)
    save_embeddings(tmp_path / "e.npz", ["Person_0/Person_0_0001.jpg"], np.ones((1, 3)))
    message = refused(*options, "--embeddings", tmp_path / "e.npz")
    assert "31 of the protocol's 32 images" in message
    (tmp_path / "e.npz").write_bytes(b"damaged")
    assert "must be an .npz file" in refused(*options, "--embeddings", tmp_path / "e.npz")
    (faces / "Person_3").symlink_to(lfw / "faces" / "Person_3")
    assert "leads out of the directory" in refused(*options, "--images", faces, "--model", model)


def test_distractors_that_are_no_matrix(tmp_path):
    options = products.prepared("megaface", tmp_path)
    matrix = options[options.index("--distractors") + 1] = tmp_path / "d.npy"
    for content in (b"", b"PK\x03\x04 cut", b"\x93NUMPY\x01\x00\x09\x00((((((((\n"):
        matrix.write_bytes(content)
        assert "d.npy must be an .npy file" in refused(*options, "--embeddings", matrix)


def test_a_model_that_adds_the_mirror_image_by_itself(lfw, tmp_path):
    fusing = products.export(tmp_path / "fusing", flip="sum")
    assert "by itself" in refused(*lfw_options(lfw), "--model", fusing, "--flip", "sum")


def test_the_ready_network_by_its_name(lfw, tmp_path, monkeypatch):
    network = ready.ready_network()
    monkeypatch.setattr("keras_normface.backbones.pretrained", lambda name: network)
    export_embedding_model(network.network, tmp_path / "model", preprocessing=network.preprocessing)
    for name, chosen in (("ready", "dlib"), ("exported", tmp_path / "model")):
        good(*lfw_options(lfw), "--model", chosen, "--resize", "--out", tmp_path / name)
    same_figures(figures(tmp_path / "ready"), figures(tmp_path / "exported"))
    assert Result.load(tmp_path / "ready" / "result.json").settings["model"] == "dlib"


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ([], "--model and --embeddings"),
        (["--model", "MODEL", "--embeddings", "FILE"], "--model and --embeddings"),
        (["--embeddings", "FILE", "--flip", "sum"], "--flip"),
        (["--embeddings", "FILE", "--calibrate-far", "0.1"], "--calibrate-far"),
        (["--model", "MODEL", "--flip", "sum", "--calibrate-far", "0.1"], "--calibrate-far"),
        (["--model", "MODEL", "--fpir", "0.1"], "--fpir"),
        (["--model", "MODEL", "--rank", "1"], "--rank"),
        (["--model", "MODEL", "--pca", "0"], "--pca must be a share"),
        (["--model", "MODEL", "--pca", "1.5"], "--pca must be a share"),
        (["--model", "MODEL", "--svm"], "--svm"),
        (["--model", "MODEL", "--distractors", "FILE"], "--distractors"),
        (["--model", "NOWHERE"], "--model"),
        (["--model", "DIRECTORY"], "model.json"),
        (["--model", "MODEL", "--compare", "DIRECTORY"], "model.json"),
        (["--model", "MODEL", "--compare", "NOWHERE"], "or an .npz file. Received: "),
        (["--model", "dlib", "--calibrate-far", "0.1"], "dlib must be exported first"),
        (["--embeddings", "MODEL"], ".npz"),
        (["--model", "MODEL", "--save-embeddings", "e.npy"], "--save-embeddings"),
    ],
)
def test_options_that_do_not_go_together(lfw, model, options, named):
    places = {"MODEL": model, "FILE": lfw / "pairs.txt", "NOWHERE": lfw / "nowhere", "DIRECTORY": lfw}
    assert named in refused(*lfw_options(lfw), *(places.get(option, option) for option in options))


def test_options_of_other_protocols(model, tmp_path):
    bin_file = products.packed(tmp_path, "agedb_30.bin")
    options = ("agedb30", "--protocol-file", bin_file, "--model", model)
    assert "--images" in refused(*options, "--images", tmp_path)
    assert "--train-identities" in refused(*options, "--train-identities", bin_file)
    probes = ("megaface", "--protocol-file", bin_file, "--images", tmp_path, "--model", model)
    assert "--distractors" in refused(*probes)
    assert "--compare" in refused(*probes, "--distractors", bin_file, "--compare", model)
    lists = ("lfw", "--protocol-file", files.write_lfw(tmp_path / "pairs.txt"))
    assert "--images" in refused(*lists, "--model", model)
    assert "--images" in refused(*lists, "--model", "dlib")
    assert "--images" in refused(*lists, "--embeddings", bin_file, "--compare", model)
    assert "`suffix` does not belong to agedb30 from a .bin file" in refused(*options, "--suffix", ".png")
