"""Networks with weights that everybody may use, found in the packages that distribute them. Nothing is downloaded."""

import dataclasses
import importlib.util
import os

import keras

from keras_normface._threshold import CalibratedThreshold
from keras_normface.backbones._dlib_file import MEANS, SIDE, load_dlib
from keras_normface.preprocessing import Preprocessing

PACKAGE = "face_recognition_models"
DLIB_FILE = os.path.join("models", "dlib_face_recognition_resnet_model_v1.dat")
INSTALL = 'pip install "keras-normface[pretrained]"'


@dataclasses.dataclass(frozen=True)
class PretrainedNetwork:
    """A network with published weights, and all that is needed to compare faces with it.

    Attributes:
        name: What `pretrained` calls it.
        network: `keras.Model` from preprocessed images to embeddings, which are not normalised.
        preprocessing: `Preprocessing` of the images; its `template` is that by which faces must be aligned.
        metric: How embeddings are compared: "cosine", of their directions.
        threshold: `CalibratedThreshold` on that; its `protocol` names the pairs it was calibrated on.
        licence: Of the weights, as an SPDX identifier.
        source: Who trained them, on what, and where they are published.

    Example:
    >>> sorted(field.name for field in dataclasses.fields(PretrainedNetwork))[:3]
    ['licence', 'metric', 'name']
    """

    name: str
    network: keras.Model
    preprocessing: Preprocessing
    metric: str
    threshold: CalibratedThreshold
    licence: str
    source: str


def pretrained(name):
    """Load a network with published weights, ready to compare faces with.

    "dlib" is dlib's face recognition network, from the file in the package face_recognition_models, which must be
    installed: nothing is downloaded, and nothing of that package is run. `keras-normface verify` uses it.

    Args:
        name: "dlib".

    Returns:
        A `PretrainedNetwork`.

    Raises:
        ValueError: If there is no such network, or its file is damaged.
        ImportError: If the package with its weights is not installed; the message says how to install it.

    Source: dlib, `examples/dnn_face_recognition_ex.cpp`; the weights are in the public domain (CC0 1.0).

    Example:
    >>> ready = pretrained("dlib")
    >>> ready.network.output_shape, ready.preprocessing.template, ready.licence
    ((None, 128), 'dlib_150x150', 'CC0-1.0')
    """
    if not isinstance(name, str) or name not in NETWORKS:
        raise ValueError(f"`name` must be one of {list(NETWORKS)}. Received: name={name!r}")
    return NETWORKS[name]()


def _dlib():
    preprocessing = Preprocessing(
        (SIDE, SIDE), scale=1 / 256, offset=[-mean / 256 for mean in MEANS], template="dlib_150x150"
    )
    return PretrainedNetwork(
        name="dlib",
        network=load_dlib(_weights_file(DLIB_FILE)),
        preprocessing=preprocessing,
        metric="cosine",
        threshold=DLIB_THRESHOLD,
        licence="CC0-1.0",
        source=DLIB_SOURCE,
    )


def _weights_file(relative):
    """Path of a file of the package face_recognition_models, which is not imported: it needs `pkg_resources`."""
    spec = importlib.util.find_spec(PACKAGE)
    for root in (spec and spec.submodule_search_locations) or ():
        path = os.path.join(root, relative)
        if os.path.isfile(path):
            return path
    state = f"{PACKAGE} is not installed" if spec is None else f"{PACKAGE} is installed without {relative}"
    raise ImportError(f"The weights of dlib's network are in a package of their own, and {state}: {INSTALL}")


# As dlib's author has it in the README of dlib-models, and without jittering in `dnn_face_recognition_ex.cpp`.
DLIB_SOURCE = (
    "dlib_face_recognition_resnet_model_v1.dat by Davis E. King, in the public domain (CC0 1.0), from the package "
    "face_recognition_models 0.3.0. Trained from random weights on about 3 million faces of 7485 people, half of them "
    "from FaceScrub and VGG Face, half from the web, none of LFW. Accuracy on LFW as dlib states it, not measured "
    "here: .9913, and .9938 with descriptors averaged over 100 jittered copies of each face"
)
# python benchmarks/ready_weights.py
DLIB_THRESHOLD = CalibratedThreshold(
    far=0.001,
    cosine=0.9333,
    interval=(0.9257, 0.9389),
    achieved_far=0.001,
    tar=0.9878,
    num_genuine=1800,
    num_impostor=78000,
    protocol="ORL, all pairs of 400 photos, aligned by mtcnn's points",
)
NETWORKS = {"dlib": _dlib}
