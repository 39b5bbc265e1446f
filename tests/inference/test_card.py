"""The card of an exported model: read back as it was written, replaced whole, from files that may be damaged."""

import contextlib
import copy
import dataclasses
import json

import keras
import pytest

from keras_normface import Preprocessing, export_embedding_model
from keras_normface.inference import (
    CalibratedThreshold,
    CardFigure,
    ModelCard,
    model_fingerprint,
    read_card,
    write_card,
)
from tests.support import products

THRESHOLD = CalibratedThreshold(0.5, 0.125, (0.1, 0.2), 0.5, 1.0, num_genuine=2, num_impostor=2, protocol="toy")
CARD = ModelCard(
    format="onnx",
    quantization="int8",
    input_shape=(12, 10, 3),
    input_dtype="uint8",
    dimension=24,
    flip="sum",
    preprocessing=Preprocessing((12, 10), scale=(1.0, 0.5, 0.25), offset=-1, template="sphereface_112x96"),
    threshold=THRESHOLD,
    recipe={"recipe": "toy", "fields": {"steps": 3, "rates": [0.1, None]}},
    versions={"keras_normface": "0.1.0", "keras": "3.15.1"},
    licence="CC0-1.0",
    source="https://example.org/weights",
    training_data="three million faces",
    figures=(CardFigure("EER", 0.0054, "ORL, all pairs", "make demo"), CardFigure("TAR", 1, "toy")),
)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    given = {"licence": "CC0-1.0", "recipe": {"name": "toy"}, "figures": [dataclasses.asdict(CARD.figures[0])]}
    return products.export(tmp_path_factory.mktemp("card") / "model", flip="sum", card=given)


@pytest.fixture
def place(tmp_path):
    """The directory of a model, for what reads its card alone."""
    (tmp_path / "model.json").write_text("")
    write_card(tmp_path, CARD)
    return tmp_path


def test_what_is_exported_says_what_it_is(model):
    card = read_card(model)
    assert (card.format, card.quantization, card.flip, card.dimension) == ("saved_model", "none", "sum", 24)
    assert (card.input_shape, card.input_dtype) == ((12, 10, 3), "uint8")
    assert card.preprocessing == Preprocessing(size=(12, 10))
    assert (card.threshold, card.source, card.template) == (None, None, None)
    assert (card.licence, card.recipe, card.figures) == ("CC0-1.0", {"name": "toy"}, CARD.figures[:1])
    assert set(card.versions) == {"keras_normface", "keras", "tensorflow", "numpy"}
    assert card.versions["keras"] == keras.__version__
    assert sorted(entry.name for entry in model.iterdir() if entry.suffix in (".json", ".md")) == [
        "README.md",
        "model.json",
    ]
    assert not (model / "assets.extra").exists()


def test_a_model_that_takes_no_images(tmp_path):
    export_embedding_model(keras.Sequential([keras.Input((None, 8)), keras.layers.Dense(4)]), tmp_path / "model")
    card = read_card(tmp_path / "model")
    assert (card.preprocessing, card.input_shape, card.input_dtype) == (None, (None, 8), "float32")
    assert "float32, any x 8" in str(card)
    assert card.markdown().splitlines()[2] == "Maps its inputs to embeddings of unit length."


def test_cards_are_read_back_as_they_were_written(place):
    assert read_card(place) == CARD
    assert ModelCard.from_dict(json.loads(json.dumps(CARD.to_dict()))) == CARD
    stored = json.loads((place / "model.json").read_text())
    assert (stored["format"], stored["version"]) == ("keras_normface.model", 1)
    assert stored["card"]["threshold"]["cosine"] == 0.125
    page = (place / "README.md").read_text()
    assert page == CARD.markdown()
    for shown in (
        "CC0-1.0",
        "FAR 0.5 (wanted 0.5) of 2 impostor pairs",
        "0.0054 on ORL",
        "make demo",
        "model.onnx",
        "int8",
    ):
        assert shown in page


def test_the_life_of_a_threshold(model, monkeypatch):
    card, fingerprint = read_card(model), model_fingerprint(model)
    write_card(model, dataclasses.replace(card, threshold=THRESHOLD))
    assert read_card(model).threshold == THRESHOLD
    assert model_fingerprint(model) == fingerprint
    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", lambda descriptor: (_ for _ in ()).throw(OSError("disk full")))
        with pytest.raises(OSError, match="disk full"):
            write_card(model, card)
    assert read_card(model).threshold == THRESHOLD
    write_card(str(model), card)
    assert read_card(model) == card


def test_only_cards_and_only_beside_a_model(tmp_path, place):
    with pytest.raises(ValueError, match="`card` must be a ModelCard"):
        write_card(place, CARD.to_dict())
    with pytest.raises(ValueError, match="at most 1048576 bytes"):
        write_card(place, dataclasses.replace(CARD, source="x" * (1 << 20)))
    for call in (lambda: write_card(tmp_path / "no", CARD), lambda: read_card(tmp_path / "no")):
        with pytest.raises(FileNotFoundError, match=r"exported model, with model\.json in it"):
            call()
    assert read_card(place) == CARD


def changed(**changes):
    return {**CARD.to_dict(), **changes}


def without(key):
    return {name: value for name, value in CARD.to_dict().items() if name != key}


def inside(name, **changes):
    fields = copy.deepcopy(CARD.to_dict())
    fields[name].update(changes)
    return fields


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (changed(format="pickle"), "`format` must be one of saved_model, onnx, litert"),
        (changed(quantization="int4"), "`quantization` must be one of"),
        (changed(flip=["sum"]), "`flip` must be one of none, sum"),
        (changed(dimension=0), "`dimension` must be a positive integer"),
        (changed(dimension=True), "`dimension` must be a positive integer"),
        (changed(input_shape="abc"), "`input_shape` must be a sequence of positive integers or None"),
        (changed(input_shape=[12, -1, 3]), "`input_shape` must be a sequence"),
        (changed(input_shape=[12, 11, 3]), "`input_shape` must be that of the preprocessing"),
        (changed(input_dtype=""), "`input_dtype` must be a text"),
        (changed(licence=3), "`licence` must be a text that is not empty, or None"),
        (changed(recipe=[1]), "`recipe` must be a dictionary"),
        (changed(versions={"keras": 3}), "`versions` must be a dictionary of names and versions"),
        (changed(figures={"name": 1}), "`figures` must be a sequence"),
        (changed(figures=[{"name": "EER"}]), r"`figures\[0\]` must be a CardFigure, or a dictionary of name, value"),
        (changed(figures=[{"name": "EER", "value": True, "data": "x"}]), r"`figures\[0\]` does not fit: `value` must"),
        (changed(preprocessing={}), "`preprocessing` does not fit: `version`"),
        (changed(preprocessing=[]), "`preprocessing` does not fit"),
        (inside("preprocessing", size=[0, 1]), "`preprocessing` does not fit: `size`"),
        (changed(threshold={"cosine": 1}), "`threshold` does not fit: `format`"),
        (changed(threshold="0.5"), "`threshold` does not fit"),
        (inside("threshold", cosine=0.5), "`threshold` does not fit: `squared_distance`"),
        (inside("threshold", interval=[[], 1]), "`threshold` does not fit: `interval`"),
        (changed(more=1), r"must have the keys of a card, .* Received: \['more'\]"),
        (without("flip"), r"must have the keys of a card, .* Received: \['flip'\]"),
        ([], "must have the keys of a card, .* Received: list"),
    ],
)
def test_a_field_that_does_not_fit_is_named_with_its_file(place, fields, message):
    (place / "model.json").write_text(json.dumps({"format": "keras_normface.model", "version": 1, "card": fields}))
    with pytest.raises(ValueError, match=rf"model\.json is not valid: .*{message}"):
        read_card(place)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"format": "keras_normface.model", "version": 2, "card": {}}',
        '{"format": "keras_normface.model", "version": 1}',
        '{"format": "keras_normface.model", "version": 1, "card": {}, "more": 1}',
        '{"format": "keras_normface.model", "version": 1, "card": NaN}',
        "[" * 60000,
        " " * (1 << 21),
        b"\xff\xfe",
    ],
)
def test_files_that_hold_no_card(place, text):
    (place / "model.json").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ValueError, match=r"model\.json is not valid"):
        read_card(place)


@pytest.mark.parametrize("depth", [50, 200, 300, 450, 700, 990, 5000])
def test_recipes_that_nest_deep_are_read_or_refused(place, depth):
    """Never a RecursionError, also where JSON's own reader has room for it."""
    recipe = '{"a":' * depth + "1" + "}" * depth
    text = json.dumps(changed(recipe=None)).replace('"recipe": null', f'"recipe": {recipe}')
    (place / "model.json").write_text(f'{{"format": "keras_normface.model", "version": 1, "card": {text}}}')
    if depth > 200:
        with contextlib.suppress(ValueError):
            read_card(place)
        return
    write_card(place, read_card(place))
    assert read_card(place).recipe == json.loads(recipe)


def test_what_a_terminal_or_a_page_would_obey_is_escaped(place):
    nasty = "a\x1b[31m | <script>b</script> [x](javascript:y) `c`\u202e\n# head"
    card = dataclasses.replace(CARD, source=nasty, figures=(CardFigure(nasty, 1, nasty, nasty),))
    write_card(place, card)
    page = (place / "README.md").read_text()
    assert not [letter for letter in page if not letter.isprintable() and letter != "\n"]
    assert r"a\\x1b" in page
    assert "<script>" not in page
    assert r"\[x\](" in page
    assert page.count("\n# ") == 0
    rows = [line for line in page.splitlines() if line.startswith("| ")]
    assert all(row.replace(r"\|", "").count("|") == 3 for row in rows)
    assert "\n# head" not in str(card)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"flip": "sum"}, "`card` must be a dictionary of licence, source, training_data"),
        ("CC0-1.0", "`card` must be a dictionary of licence"),
        ({"licence": ""}, "`licence` must be a text"),
        ({"threshold": 0.5}, "`threshold` must be a CalibratedThreshold or None"),
    ],
)
def test_what_an_export_may_be_told_is_checked_before_anything_is_written(tmp_path, given, message):
    with pytest.raises(ValueError, match=message):
        products.export(tmp_path / "model", card=given)
    assert list(tmp_path.iterdir()) == []
