"""Experiments that no paper has: a trained network for people of your own, and a small one that learns from it."""

from keras_normface.heads import DistillationHead
from keras_normface.preprocessing import Preprocessing
from keras_normface.recipes._components import serialized
from keras_normface.recipes._recipe import Recipe
from keras_normface.recipes._registry import Source, experiment
from keras_normface.recipes.papers import BIASES, NORMALISED_SOFTMAX, SOFTMAX_FILE

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


AS_CASIA = Source("as the recipes on CASIA-WebFace from scratch", "ours")


@experiment("mobilefacenet_distilled")
class MobileFaceNetDistilled(Recipe):
    """A network of a million parameters that learns another model's embeddings, beside the normalised softmax.

    `train --teacher` gives the other model; its embeddings are made once. Faces are aligned as the ready network takes
    them, and resized. With another teacher, set its template and dimension.

    Source: MobileFaceNets (arXiv 1804.07573) for the network, NormFace (arXiv 1704.06369) for the softmax; the rest is
    ours.
    """

    name: str = "mobilefacenet_distilled"
    backbone: str = "MobileFaceNet"
    embedding_dim: int = 128
    preprocessing: Preprocessing = Preprocessing((112, 112), template="dlib_150x150")
    heads: tuple = (NORMALISED_SOFTMAX, serialized(DistillationHead, cosine_weight=1.0, relation_weight=2.0))
    head_weights: tuple = (0.1, 1.0)
    milestones: tuple = (16000, 24000, 28000)
    multipliers: tuple = (BIASES,)

    sources = {  # noqa: RUF012
        "backbone": Source("MobileFaceNets, table 1", "paper"),
        "embedding_dim": Source("that of the ready network and of MobileFaceNets", "ours"),
        "dropout": Source("MobileFaceNets has none", "not re-read"),
        "preprocessing": Source("(pixel − 127.5) / 128, as MobileFaceNets", "not re-read"),
        "preprocessing.size": Source("MobileFaceNets, table 1", "paper"),
        "preprocessing.template": Source("that of the ready network", "ours"),
        "augmentation": Source("mirror: a teacher's embedding is that of image and mirror image together", "ours"),
        "heads": Source(f"{SOFTMAX_FILE}: start and floor of the scale", "authors' code"),
        "heads.0.config.feature_norm": Source("NormFace, §3", "paper"),
        "heads.1": Source("the cosine to the teacher, and the cosines within the batch", "ours"),
        "head_weights": Source("the softmax's loss is about ten times the teacher's", "ours"),
        "batch_size": AS_CASIA,
        "steps": AS_CASIA,
        "learning_rate": AS_CASIA,
        "milestones": AS_CASIA,
        "learning_rate_factor": AS_CASIA,
        "momentum": AS_CASIA,
        "weight_decay": AS_CASIA,
        "multipliers": Source("biases at twice the rate, not decayed, as Caffe's networks", "ours"),
        "snapshots": Source("none", "ours"),
        "snapshot_share": Source("without snapshots it does nothing", "ours"),
        "excluded_identities": Source("none", "ours"),
        "initial_weights_needed": Source("from scratch", "ours"),
    }
