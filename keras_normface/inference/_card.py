"""The card of an exported model: what it takes, makes and was made of, as `model.json` and as a page of Markdown."""

import dataclasses
import re

from keras_normface import _validation
from keras_normface._io import JsonFormat, printable, read_bounded, write_text
from keras_normface._threshold import CalibratedThreshold
from keras_normface.inference._directory import CARD_FILE, model_directory
from keras_normface.preprocessing import Preprocessing

PAGE_FILE = "README.md"
CARD_FILES = (CARD_FILE, PAGE_FILE)
JSON = JsonFormat("keras_normface.model", 1)
FORMATS = {"saved_model": "saved_model.pb", "onnx": "model.onnx", "litert": "model.tflite"}
QUANTIZATIONS = ("none", "float16", "dynamic", "int8")
FLIPS = ("none", "sum")
LARGEST_CARD = 1 << 20
_MARKDOWN = re.compile(r"([\\|<>\[\]`])")


@dataclasses.dataclass(frozen=True)
class CardFigure:
    """A figure of an exported model, and what produced it.

    Args:
        name: What was measured, such as "EER".
        value: A finite number.
        data: On what, such as "ORL, 10 people, all pairs".
        command: The command that produces it, or `None`.

    Raises:
        ValueError: If an argument is of another type, or a text is empty.

    Example:
    >>> CardFigure("EER", 0.0054, "ORL, all pairs").value
    0.0054
    """

    name: str
    value: float
    data: str
    command: str | None = None

    def __post_init__(self):
        for name in ("name", "data", "command"):
            _check_text(name, getattr(self, name), optional=name == "command")
        object.__setattr__(self, "value", _validation.number("value", self.value))


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelCard:
    """What somebody who gets an exported model needs to know about it.

    Args:
        format: "saved_model", "onnx" or "litert": whether `saved_model.pb`, `model.onnx` or `model.tflite` holds it.
        quantization: "none", "float16", "dynamic" or "int8".
        input_shape: Shape of one input without the batch, `(height, width, channels)` for images; `None` stands for
            any size.
        input_dtype: Type of its numbers; "uint8" for raw RGB pixels.
        dimension: Numbers in an embedding.
        flip: `"none"`, or `"sum"` if the model adds the flipped image's embedding by itself.
        preprocessing: The `Preprocessing` that the model applies to raw pixels, or `None` if it takes something else.
        threshold: The `CalibratedThreshold` on the cosine of its embeddings, or `None`.
        recipe: The experiment behind the weights, a dictionary that JSON can hold, or `None`.
        versions: Dictionary of the packages that made it and their versions.
        licence: Licence of the weights, such as "CC0-1.0", or `None` if it is not known.
        source: Where the weights come from, or `None`.
        training_data: What they were trained on, or `None`.
        figures: Sequence of `CardFigure`, or of dictionaries with their arguments.
        compatible_with: Sequence of fingerprints of older models, with whose embeddings its own may be compared.

    `dataclasses.replace(card, threshold=...)` gives a card with other fields.

    Raises:
        ValueError: If a field is of another type or out of range; it is named.

    Example:
    >>> card = ModelCard(format="onnx", input_shape=(8,), input_dtype="float32", dimension=4, licence="CC0-1.0")
    >>> ModelCard.from_dict(card.to_dict()) == card
    True
    """

    format: str
    quantization: str = "none"
    input_shape: tuple[int | None, ...]
    input_dtype: str
    dimension: int
    flip: str = "none"
    preprocessing: Preprocessing | None = None
    threshold: CalibratedThreshold | None = None
    recipe: dict | None = None
    versions: dict = dataclasses.field(default_factory=dict)
    licence: str | None = None
    source: str | None = None
    training_data: str | None = None
    figures: tuple[CardFigure, ...] = ()
    compatible_with: tuple[str, ...] = ()

    def __post_init__(self):
        _validation.choice("format", self.format, tuple(FORMATS))
        _validation.choice("quantization", self.quantization, QUANTIZATIONS)
        _validation.choice("flip", self.flip, FLIPS)
        _check_text("input_dtype", self.input_dtype)
        for name in ("licence", "source", "training_data"):
            _check_text(name, getattr(self, name), optional=True)
        for name, kind in (("preprocessing", Preprocessing), ("threshold", CalibratedThreshold)):
            value = getattr(self, name)
            if not isinstance(value, kind | None):
                raise ValueError(f"`{name}` must be a {kind.__name__} or None. {_validation.received(name, value)}")
        if self.recipe is not None:
            self._set("recipe", _validation.json_dictionary("recipe", self.recipe))
        self._set("dimension", _validation.integer("dimension", self.dimension, 1))
        self._set("input_shape", _checked_shape(self.input_shape))
        self._set("versions", _checked_versions(self.versions))
        self._set("figures", _checked_figures(self.figures))
        self._set("compatible_with", _validation.strings("compatible_with", self.compatible_with))
        if self.preprocessing is not None and self.input_shape != (*self.preprocessing.size, 3):
            raise ValueError(
                f"`input_shape` must be that of the preprocessing, {(*self.preprocessing.size, 3)}. "
                f"Received: input_shape={self.input_shape}"
            )

    def _set(self, name, value):
        object.__setattr__(self, name, value)

    @property
    def template(self):
        """Name of the landmark template by which the faces must be aligned, or `None`."""
        return None if self.preprocessing is None else self.preprocessing.template

    def to_dict(self):
        """Return the fields as a dictionary that JSON can hold."""
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        for name in ("preprocessing", "threshold"):
            fields[name] = None if fields[name] is None else fields[name].to_dict()
        fields["input_shape"] = list(self.input_shape)
        fields["compatible_with"] = list(self.compatible_with)
        fields["figures"] = [dataclasses.asdict(figure) for figure in self.figures]
        return fields

    @classmethod
    def from_dict(cls, fields):
        """Make the card that `to_dict` described.

        Args:
            fields: Dictionary of all fields, as `to_dict` returns it; it may come from anywhere.

        Returns:
            A `ModelCard`.

        Raises:
            ValueError: If a key is missing or not known, or a value does not fit; the field is named.
        """
        known = [field.name for field in dataclasses.fields(cls)]
        fields = {"compatible_with": [], **fields} if isinstance(fields, dict) else fields  # older cards are without
        if not isinstance(fields, dict) or set(fields) != set(known):
            differing = sorted(set(fields) ^ set(known)) if isinstance(fields, dict) else type(fields).__name__
            raise ValueError(f"`fields` must have the keys of a card, {', '.join(known)}. Received: {differing}")
        made = dict(fields)
        for name, make in (("preprocessing", Preprocessing.from_dict), ("threshold", CalibratedThreshold.from_dict)):
            if made[name] is not None:
                try:
                    made[name] = make(made[name])
                except ValueError as error:
                    raise ValueError(f"`{name}` does not fit: {error}") from error
        return cls(**made)

    def __str__(self):
        rows = _rows(self)
        width = max(len(name) for name, _ in rows)
        return "\n".join(f"{name:<{width}}  {value}" for name, value in rows)

    def markdown(self):
        """Return the card as a page of Markdown, with what is not printable in it escaped."""
        table = [f"| {_escaped(name)} | {_escaped(value)} |" for name, value in _rows(self)]
        return "\n".join(
            [
                "# Embedding model",
                "",
                _escaped(_purpose(self)),
                "",
                "| | |",
                "|---|---|",
                *table,
                "",
                "`model.json` has the same for programs. The file was written by `keras_normface`.",
                "",
            ]
        )


def read_card(path):
    """Read the card of an exported model.

    Nothing in it runs; a file of more than 1 MiB is refused.

    Args:
        path: Directory of the exported model.

    Returns:
        A `ModelCard`.

    Raises:
        FileNotFoundError: If there is no `model.json` in `path`.
        ValueError: If it is not a card, of another version, or a field does not fit; file and field are named.

    Example:
    >>> import keras, tempfile
    >>> from keras_normface.inference import export_embedding_model
    >>> backbone = keras.Sequential([keras.Input((8,)), keras.layers.Dense(4)])
    >>> with tempfile.TemporaryDirectory() as directory:
    ...     _ = export_embedding_model(backbone, directory + "/model", card={"licence": "CC0-1.0"})
    ...     read_card(directory + "/model").licence
    'CC0-1.0'
    """
    return read_bounded(model_directory(path) / CARD_FILE, _parsed, LARGEST_CARD)


def write_card(path, card):
    """Write the card of an exported model, `model.json` and `README.md`, each of them atomically.

    Embeddings that were stored stay valid: the fingerprint of the model covers what computes them, not its threshold,
    licence or figures.

    Args:
        path: Directory of the exported model.
        card: `ModelCard`.

    Raises:
        FileNotFoundError: If there is no exported model in `path`.
        ValueError: If `card` is not a `ModelCard`, or has more than 1 MiB.
        OSError: If it cannot be written; what was there stays.

    Example:
    >>> import dataclasses, keras, tempfile
    >>> from keras_normface.inference import CalibratedThreshold, export_embedding_model
    >>> backbone = keras.Sequential([keras.Input((8,)), keras.layers.Dense(4)])
    >>> threshold = CalibratedThreshold(0.5, 0.125, None, 0.5, 1.0, num_genuine=2, num_impostor=2, protocol="toy")
    >>> with tempfile.TemporaryDirectory() as directory:
    ...     _ = export_embedding_model(backbone, directory + "/model")
    ...     write_card(directory + "/model", dataclasses.replace(read_card(directory + "/model"), threshold=threshold))
    ...     read_card(directory + "/model").threshold.cosine
    0.125
    """
    write_files(model_directory(path), card)


def write_files(directory, card):
    """Write `model.json` and `README.md` into a directory that need not have them yet."""
    if not isinstance(card, ModelCard):
        raise ValueError(f"`card` must be a ModelCard. {_validation.received('card', card)}")
    text = card_text(card)
    if len(text) > LARGEST_CARD:
        raise ValueError(f"`card` must have at most {LARGEST_CARD} bytes as JSON. Received: {len(text)} bytes")
    write_text(directory / PAGE_FILE, card.markdown())
    write_text(directory / CARD_FILE, text)


def card_text(card):
    """The text of `model.json`."""
    return JSON.text({"card": card.to_dict()})


def _parsed(text):
    content = JSON.parse(text)
    if set(content) != {"card"}:
        raise ValueError(f"it must have the keys format, version and card. Received also: {sorted(content)}")
    return ModelCard.from_dict(content["card"])


def _rows(card):
    """What people read of a card: pairs of texts."""
    pixels = card.preprocessing
    shape = " x ".join("any" if size is None else str(size) for size in card.input_shape)
    rows = [
        ("format", f"{card.format}, {FORMATS[card.format]}"),
        ("quantization", card.quantization),
        ("input", f"{card.input_dtype}, {shape}" + (" (height x width x channels), RGB, 0 to 255" if pixels else "")),
        ("output", f"float32, {card.dimension} numbers, of unit length; compare two by their cosine"),
        ("preprocessing", _pixels(pixels)),
        ("template", card.template or "unknown: faces must be aligned as those that it was trained on"),
        ("flip", "the flipped image's embedding is added, inside" if card.flip == "sum" else "none"),
        ("threshold", str(card.threshold or "none is stored: keras-normface evaluate --calibrate-far")),
        ("licence", card.licence or "not stated"),
        ("source", card.source or "not stated"),
        ("training data", card.training_data or "not stated"),
        ("recipe", "none" if card.recipe is None else str(card.recipe.get("recipe", "see model.json"))),
        ("versions", ", ".join(f"{name} {version}" for name, version in card.versions.items()) or "not stated"),
    ]
    if card.compatible_with:
        rows.append(("compatible with", ", ".join(card.compatible_with)))
    for figure in card.figures:
        command = "" if figure.command is None else f"; {figure.command}"
        rows.append((figure.name, f"{figure.value:.6g} on {figure.data}{command}"))
    return [tuple(printable(" ".join(text.split())) for text in row) for row in rows]


def _pixels(preprocessing):
    if preprocessing is None:
        return "none"
    scale, offset = preprocessing.scale, preprocessing.offset
    return f"inside: {preprocessing.channels}, x * {scale} + {offset}"


def _purpose(card):
    if card.preprocessing is None:
        return "Maps its inputs to embeddings of unit length."
    return (
        "Maps aligned faces to embeddings of unit length: the cosine of two embeddings says how alike the faces are. "
        "keras_normface.inference and the commands keras-normface verify and embed use this directory as it is."
    )


def _escaped(text):
    return _MARKDOWN.sub(r"\\\1", text)


def _check_text(name, value, optional=False):
    if (value is None and optional) or (isinstance(value, str) and value):
        return
    expected = "a text that is not empty" + (", or None" if optional else "")
    raise ValueError(f"`{name}` must be {expected}. {_validation.received(name, value)}")


def _checked_shape(shape):
    try:
        listed = shape if isinstance(shape, tuple | list) else ["none of these"]
        return tuple(size if size is None else _validation.integer("input_shape", size, 1) for size in listed)
    except ValueError as error:
        raise ValueError(
            "`input_shape` must be a sequence of positive integers or None. "
            f"{_validation.received('input_shape', shape)}"
        ) from error


def _checked_versions(versions):
    if not isinstance(versions, dict) or not all(isinstance(text, str) for pair in versions.items() for text in pair):
        raise ValueError(
            "`versions` must be a dictionary of names and versions, all texts. "
            f"{_validation.received('versions', versions)}"
        )
    return dict(versions)


def _checked_figures(figures):
    if not isinstance(figures, tuple | list):
        raise ValueError(f"`figures` must be a sequence of CardFigure. {_validation.received('figures', figures)}")
    return tuple(_checked_figure(number, figure) for number, figure in enumerate(figures))


def _checked_figure(number, figure):
    if isinstance(figure, CardFigure):
        return figure
    known = [field.name for field in dataclasses.fields(CardFigure)]
    if not isinstance(figure, dict) or not set(known[:3]) <= set(figure) <= set(known):
        raise ValueError(
            f"`figures[{number}]` must be a CardFigure, or a dictionary of {', '.join(known)}. "
            f"{_validation.received(f'figures[{number}]', figure)}"
        )
    try:
        return CardFigure(**figure)
    except ValueError as error:
        raise ValueError(f"`figures[{number}]` does not fit: {error}") from error
