"""What `keras-normface verify` does once its options are checked; and how a command opens a model."""

import dataclasses
import os

from keras_normface._io import json_text
from keras_normface._threshold import CalibratedThreshold
from keras_normface.cli._choices import READY_NETWORKS
from keras_normface.inference import Embedder, read_card
from keras_normface.startup import load_tensorflow

WITH_TENSORFLOW = "saved_model"  # the only format of a model that TensorFlow computes


def open_embedder(model, *, aligned, resize, center_crop, **options):
    """Name of a ready network or directory of an exported model → its `Embedder`."""
    if model not in READY_NETWORKS and not os.path.isdir(model):
        names = " or ".join(READY_NETWORKS)
        raise ValueError(f"--model must be the directory of an exported model, or {names}. Received: {model}")
    found = model
    if model in READY_NETWORKS:
        load_tensorflow()
        from keras_normface.backbones import pretrained  # here, since it imports Keras

        found = pretrained(model)
    elif read_card(model).format == WITH_TENSORFLOW:
        load_tensorflow()
    faces = "aligned" if aligned else "photo"
    return Embedder(found, faces=faces, resize=resize, center_crop=center_crop, **options)


@dataclasses.dataclass(frozen=True)
class Answer:
    """Two images, their cosine, and the threshold that decides: `calibrated` is `None` if it was given."""

    images: tuple[str, str]
    cosine: float
    threshold: float
    calibrated: CalibratedThreshold | None
    model: str
    fingerprint: str
    licence: str | None
    source: str | None

    @property
    def same(self):
        """Whether the images show one person."""
        return self.cosine >= self.threshold


def compare(embedder, first, second, threshold=None):
    """Paths of two images → the `Answer`, by the model's own threshold or the one given."""
    calibrated = embedder.threshold if threshold is None else None
    if threshold is None and calibrated is None:
        raise ValueError(
            f"{embedder.name} comes without a threshold: give one with --threshold, or store one with the model by "
            "keras-normface evaluate pairs ... --calibrate-far 0.001"
        )
    images = (os.fspath(first), os.fspath(second))
    one, other = embedder.embed(images).astype("float64")
    return Answer(
        images,
        float(one @ other),
        float(calibrated.cosine if threshold is None else threshold),
        calibrated,
        embedder.name,
        embedder.fingerprint,
        embedder.licence,
        embedder.source,
    )


def as_text(answer):
    """The answer in three lines: the decision, what the threshold is worth, the model."""
    decision = "Same person" if answer.same else "Different people"
    relation = "at least" if answer.same else "below"
    known = answer.calibrated
    if known is None:
        worth = "The threshold was given: its false accept rate is not known"
    else:
        far, tar = _percent(known.achieved_far), _percent(known.tar)
        worth = (
            f"At this threshold the false accept rate is {far} ({known.num_impostor:,} pairs of different people), the "
            f"true accept rate {tar} ({known.num_genuine:,} pairs of one person); calibrated on {known.protocol}"
        )
    licence = "" if answer.licence is None else f", licence of the weights: {answer.licence}"
    worth, model = (" ".join(text.split()) for text in (worth, f"Model: {answer.model}{licence}"))
    return f"{decision}: cosine {answer.cosine:.4f}, {relation} the threshold {answer.threshold:.4f}\n{worth}\n{model}"


def as_json(answer):
    """The answer as JSON text without the last line break."""
    known = answer.calibrated
    content = {
        "same": answer.same,
        "cosine": answer.cosine,
        "threshold": answer.threshold,
        "far": None if known is None else known.far,
        "achieved_far": None if known is None else known.achieved_far,
        "calibrated_on": None if known is None else known.protocol,
        **{name: getattr(answer, name) for name in ("images", "model", "fingerprint", "licence", "source")},
    }
    return json_text(content).rstrip("\n")


def _percent(share):
    return f"{100 * share:.3g} %"
