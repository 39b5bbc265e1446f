"""Experiments that no paper has: what to begin with when a trained network is to know people of your own."""

from keras_normface.preprocessing import Preprocessing
from keras_normface.recipes._recipe import Recipe
from keras_normface.recipes._registry import Source, experiment
from keras_normface.recipes.papers import NORMALISED_SOFTMAX, SOFTMAX_FILE

FEW = "chosen on people of ORL who are held out of its training people: {}"
# That of the ready network, whose weights this recipe begins with.
DLIB = Preprocessing(
    (150, 150), scale=1 / 256, offset=[-mean / 256 for mean in (122.782, 117.001, 104.298)], template="dlib_150x150"
)


@experiment("normface_ready")
class NormFaceReady(Recipe):
    """Normalised softmax on a ready network and few people: minutes on two cores.

    The class centres begin at the mean embeddings; the head is trained on the embeddings of the network as it is, then
    both together, at a low rate; training ends when people who are held out are told apart no better.

    Source: NormFace (arXiv 1704.06369), §5.1, for fine-tuning a trained network with this loss; the rest is ours.
    """

    name: str = "normface_ready"
    backbone: str = "DlibResNet"
    embedding_dim: int = 128
    preprocessing: Preprocessing = DLIB
    heads: tuple = (NORMALISED_SOFTMAX,)
    batch_size: int = 32
    steps: int = 120
    learning_rate: float = 1e-5
    initial_weights_needed: bool = True
    initial_centers: str = "class_means"
    frozen_steps: int = 200
    evaluation_steps: int = 20

    sources = {  # noqa: RUF012
        "backbone": Source("dlib, `examples/dnn_face_recognition_ex.cpp`", "authors' code"),
        "embedding_dim": Source("dlib, `examples/dnn_face_recognition_ex.cpp`", "authors' code"),
        "dropout": Source("dlib's network has none", "authors' code"),
        "preprocessing": Source("dlib's input and chip, by the template that was fitted to it", "authors' code"),
        "augmentation": Source("mirror", "ours"),
        "heads": Source(f"{SOFTMAX_FILE}: start and floor of the scale", "authors' code"),
        "heads.0.config.feature_norm": Source("NormFace, §3", "paper"),
        "head_weights": Source("one head", "ours"),
        "batch_size": Source("few people have few photos", "ours"),
        "steps": Source(FEW.format("a few epochs of some hundred photos"), "ours"),
        "learning_rate": Source(FEW.format("1e-4 and 3e-5 were no better"), "ours"),
        "milestones": Source("no drop", "ours"),
        "learning_rate_factor": Source("without milestones it does nothing", "ours"),
        "momentum": Source("NormFace, §5.1", "paper"),
        "weight_decay": Source("as the other recipes of NormFace", "ours"),
        "multipliers": Source("all is decayed", "ours"),
        "snapshots": Source("the best on held-out people is kept instead", "ours"),
        "snapshot_share": Source("without snapshots it does nothing", "ours"),
        "excluded_identities": Source("none", "ours"),
        "initial_weights_needed": Source("from the ready network", "ours"),
        "initial_centers": Source("the network is trained already: its means are near where centres end", "ours"),
        "frozen_steps": Source(FEW.format("the head's loss no longer falls"), "ours"),
        "frozen_learning_rate": Source("the rate of the recipes from scratch", "ours"),
        "evaluation_steps": Source("six looks", "ours"),
        "patience": Source("nearly all of them", "ours"),
    }
