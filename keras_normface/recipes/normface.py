"""NormFace (arXiv 1704.06369): from scratch, and the fine-tuning of its experiments."""

import dataclasses

from keras_normface.data import CASIA_LFW_OVERLAP
from keras_normface.preprocessing import PREPROCESSING, Preprocessing
from keras_normface.recipes.experiment import experiment
from keras_normface.recipes.head_description import HeadDescription
from keras_normface.recipes.recipe import Recipe
from keras_normface.recipes.registry import Source

BIASES = ("/bias$", 2.0, 0.0)
CAFFE = "biases at twice the rate and not decayed, as in the networks of center loss, which were not re-read"
SOFTMAX_FILE = "prototxt/scaled_cosine_softmax.prototxt"
CONTRASTIVE_FILE = "prototxt/normalized_Euclidean_contrastive.prototxt"
TRIPLET_FILE = "prototxt/normalized_Euclidean_triplet.prototxt"
JOINT_FILE = "prototxt/combine_softmax_contrastive.prototxt"

RESNET27 = {
    "backbone": Source("NormFace, §5.1: the ResNet of center loss", "paper"),
    "embedding_dim": Source("the last layer of center loss's network", "authors' code"),
    "dropout": Source("center loss's network has none", "authors' code"),
    "preprocessing": Source("112×96, (pixel − 127.5) / 128, as center loss and SphereFace", "not re-read"),
    "augmentation": Source("mirror; that of center loss", "not re-read"),
    "feature_norm": Source("NormFace, §3", "paper"),
    "excluded_identities": Source("the 17 that CASIA shares with LFW; the README of NormFace's code names 3", "ours"),
}
FINETUNING = {
    "batch_size": Source("NormFace, §5.1", "paper"),
    "steps": Source("NormFace, §5.1: about 5 000, then 5 000 with snapshots", "paper"),
    "learning_rate": Source("NormFace, §5.1: 1e-3 for ResNet-27", "paper"),
    "milestones": Source("no drop is mentioned", "ours"),
    "learning_rate_factor": Source("without milestones it does nothing", "ours"),
    "momentum": Source("NormFace, §5.1", "paper"),
    "weight_decay": Source("that of center loss's solver", "not re-read"),
    "snapshots": Source("NormFace, §5.1: five, averaged", "paper"),
    "snapshot_share": Source("NormFace, §5.1: over the second 5 000; that they are evenly spread is ours", "paper"),
    "initial_weights_needed": Source("NormFace, §5.1: from a network trained with softmax", "paper"),
}


@experiment("normface_casia")
class NormFaceCasia(Recipe):
    """Normalised softmax with a learnable scale, on CASIA-WebFace, from scratch.

    The paper only fine-tunes; batch, rates and steps are those of AM-Softmax, by the same first author.

    Source: NormFace (arXiv 1704.06369), Eq. 6; happynear/NormFace.
    """

    name: str = "normface_casia"
    backbone: str = "ResNet27"
    preprocessing: Preprocessing = PREPROCESSING["sphereface"]
    heads: tuple = (HeadDescription("margin_softmax", {"scale": {"initial": 10.0, "minimum": 0.01}}),)
    milestones: tuple = (16000, 24000, 28000)
    multipliers: tuple = (BIASES,)
    excluded_identities: tuple = tuple(sorted(CASIA_LFW_OVERLAP))

    sources = {  # noqa: RUF012
        **RESNET27,
        "heads": Source(f"{SOFTMAX_FILE}: start and floor of the scale", "authors' code"),
        "batch_size": Source("AM-Softmax's", "ours"),
        "steps": Source("AM-Softmax's", "ours"),
        "learning_rate": Source("AM-Softmax's", "ours"),
        "milestones": Source("AM-Softmax's", "ours"),
        "learning_rate_factor": Source("AM-Softmax's", "ours"),
        "momentum": Source("AM-Softmax's", "ours"),
        "weight_decay": Source("AM-Softmax's", "ours"),
        "multipliers": Source(
            f"agents and scale are decayed, as in the form of {SOFTMAX_FILE} that differentiates through the "
            f"normalisation; {CAFFE}",
            "not re-read",
        ),
        "snapshots": Source("none", "ours"),
        "snapshot_share": Source("without snapshots it does nothing", "ours"),
        "initial_weights_needed": Source("from scratch", "ours"),
    }


@experiment("normface_finetune")
class NormFaceFinetune(NormFaceCasia):
    """Normalised softmax on a network that was trained with softmax, five snapshots averaged.

    Source: NormFace (arXiv 1704.06369), §5.1; happynear/NormFace.
    """

    name: str = "normface_finetune"
    steps: int = 10000
    learning_rate: float = 1e-3
    milestones: tuple = ()
    snapshots: int = 5
    initial_weights_needed: bool = True

    sources = {**NormFaceCasia.sources, **FINETUNING}  # noqa: RUF012


@experiment("normface_finetune_lightcnn")
class NormFaceFinetuneLightCNN(NormFaceFinetune):
    """The same on Light CNN, with a tenth of the learning rate.

    Source: NormFace (arXiv 1704.06369), §5.1; happynear/NormFace; Light CNN (arXiv 1511.02683).
    """

    name: str = "normface_finetune_lightcnn"
    backbone: str = "LightCNN"
    backbone_options: dict = dataclasses.field(default_factory=lambda: {"depth": 9})
    embedding_dim: int = 256
    preprocessing: Preprocessing = Preprocessing((128, 128), "over_255", "GRAY")
    learning_rate: float = 1e-4

    sources = {  # noqa: RUF012
        **NormFaceFinetune.sources,
        "backbone": Source("NormFace, §5.1: Light CNN; its README says model B, here the 9 layers", "paper"),
        "backbone_options": Source("9 layers; the Caffe models were not compared", "not re-read"),
        "embedding_dim": Source("AlfredXiangWu/LightCNN, light_cnn.py", "authors' code"),
        "dropout": Source("none in the fine-tuning; the published network drops half in training", "ours"),
        "preprocessing": Source("grey, 128×128, pixel / 255: AlfredXiangWu/LightCNN", "authors' code"),
        "augmentation": Source("mirror; the published code crops too", "ours"),
        "learning_rate": Source("NormFace, §5.1: 1e-4 for Light CNN", "paper"),
    }


@experiment("normface_contrastive")
class NormFaceContrastive(NormFaceFinetune):
    """C-contrastive loss on agents, fine-tuning; the agents are not decayed.

    Source: NormFace (arXiv 1704.06369), Eq. 10 and §5.1; happynear/NormFace.
    """

    name: str = "normface_contrastive"
    heads: tuple = (HeadDescription("agent_contrastive", {"positive_margin": 0.0, "negative_margin": 1.0}),)
    multipliers: tuple = (("(^|/)contrastive/kernel$", 1.0, 0.0), BIASES)

    sources = {  # noqa: RUF012
        **NormFaceFinetune.sources,
        "heads": Source(f"NormFace, §4; {CONTRASTIVE_FILE}", "paper"),
        "multipliers": Source(f"agents not decayed: {CONTRASTIVE_FILE}; {CAFFE}", "not re-read"),
    }


@experiment("normface_triplet")
class NormFaceTriplet(NormFaceFinetune):
    """C-triplet loss with the hardest negative and the positive pull, fine-tuning; the agents are not decayed.

    Source: NormFace (arXiv 1704.06369), Eq. 11 and §5.1; happynear/NormFace.
    """

    name: str = "normface_triplet"
    heads: tuple = (
        HeadDescription("agent_triplet", {"margin": 0.8, "hardest_negative_only": True, "positive_pull": True}),
    )
    multipliers: tuple = (("(^|/)triplet/kernel$", 1.0, 0.0), BIASES)

    sources = {  # noqa: RUF012
        **NormFaceFinetune.sources,
        "heads": Source(TRIPLET_FILE, "authors' code"),
        "heads.0.options.margin": Source(f"NormFace, §4; {TRIPLET_FILE}", "paper"),
        "multipliers": Source(f"agents not decayed: {TRIPLET_FILE}; {CAFFE}", "not re-read"),
    }


@experiment("normface_joint")
class NormFaceJoint(NormFaceFinetune):
    """Normalised softmax and a hundredth of C-contrastive, each with agents of its own, fine-tuning.

    Source: NormFace (arXiv 1704.06369), §5; happynear/NormFace.
    """

    name: str = "normface_joint"
    heads: tuple = (
        HeadDescription("margin_softmax", {"scale": {"initial": 4.0, "minimum": 1e-6}}),
        HeadDescription("agent_contrastive", {"positive_margin": 0.0, "negative_margin": 1.0}, weight=0.01),
    )

    sources = {  # noqa: RUF012
        **NormFaceFinetune.sources,
        "heads": Source(f"{JOINT_FILE}", "authors' code"),
        "heads.0.options.scale.minimum": Source(f"{JOINT_FILE} has no floor; 1e-6 stands for that", "ours"),
        "multipliers": Source(f"agents and scale are decayed: {JOINT_FILE}; {CAFFE}", "not re-read"),
    }
