"""The papers' experiments, each number with its source."""

import dataclasses

from keras.optimizers.schedules import PiecewiseConstantDecay, PolynomialDecay

from keras_normface.data import CASIA_LFW_OVERLAP
from keras_normface.heads import AgentContrastiveHead, AgentTripletHead, MarginSoftmaxHead, SoftmaxHead
from keras_normface.layers import LearnableScale
from keras_normface.margins import AdditiveCosine, MultiplicativeAngular
from keras_normface.preprocessing import PREPROCESSING, SCALINGS, Preprocessing
from keras_normface.recipes._components import serialized
from keras_normface.recipes._recipe import Recipe
from keras_normface.recipes._registry import Source, experiment, register

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


def _normalised_softmax(start, floor):
    """The head of NormFace's Eq. 6 with a learnable scale."""
    scale = serialized(LearnableScale, initial_value=start, minimum=floor)
    return serialized(MarginSoftmaxHead, feature_norm="hard", scale=scale)


NORMALISED_SOFTMAX = _normalised_softmax(10.0, 0.01)
CONTRASTIVE_HEAD = serialized(AgentContrastiveHead, positive_margin=0.0, negative_margin=1.0)


@experiment("normface_casia")
class NormFaceCasia(Recipe):
    """Normalised softmax with a learnable scale, on CASIA-WebFace, from scratch.

    The paper only fine-tunes; batch, rates and steps are those of AM-Softmax, by the same first author.

    Source: NormFace (arXiv 1704.06369), Eq. 6; happynear/NormFace.
    """

    name: str = "normface_casia"
    backbone: str = "ResNet27"
    preprocessing: Preprocessing = PREPROCESSING["sphereface"]
    heads: tuple = (NORMALISED_SOFTMAX,)
    milestones: tuple = (16000, 24000, 28000)
    multipliers: tuple = (BIASES,)
    excluded_identities: tuple = tuple(sorted(CASIA_LFW_OVERLAP))

    sources = {  # noqa: RUF012
        **RESNET27,
        "heads": Source(f"{SOFTMAX_FILE}: start and floor of the scale", "authors' code"),
        "heads.0.config.feature_norm": Source("NormFace, §3", "paper"),
        "head_weights": Source(SOFTMAX_FILE, "authors' code"),
        "batch_size": Source("AM-Softmax's", "ours"),
        "steps": Source("AM-Softmax's", "ours"),
        "learning_rate": Source("AM-Softmax's", "ours"),
        "milestones": Source("AM-Softmax's", "ours"),
        "learning_rate_factor": Source("AM-Softmax's", "ours"),
        "momentum": Source("AM-Softmax's", "ours"),
        "weight_decay": Source("AM-Softmax's", "ours"),
        "multipliers": Source(
            f"class centres and scale are decayed, as in the form of {SOFTMAX_FILE} that differentiates through the "
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
    preprocessing: Preprocessing = Preprocessing((128, 128), **SCALINGS["zero_to_one"], channels="GRAY")
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
    heads: tuple = (CONTRASTIVE_HEAD,)
    multipliers: tuple = (("(^|/)contrastive/kernel$", 1.0, 0.0), BIASES)

    sources = {  # noqa: RUF012
        **NormFaceFinetune.sources,
        "heads": Source(f"NormFace, §4; {CONTRASTIVE_FILE}", "paper"),
        "head_weights": Source(f"NormFace, §4; {CONTRASTIVE_FILE}", "paper"),
        "multipliers": Source(f"agents not decayed: {CONTRASTIVE_FILE}; {CAFFE}", "not re-read"),
    }


@experiment("normface_triplet")
class NormFaceTriplet(NormFaceFinetune):
    """C-triplet loss with the hardest negative and the positive pull, fine-tuning; the agents are not decayed.

    Source: NormFace (arXiv 1704.06369), Eq. 11 and §5.1; happynear/NormFace.
    """

    name: str = "normface_triplet"
    heads: tuple = (serialized(AgentTripletHead, margin=0.8, hardest_negative_only=True, positive_pull=True),)
    multipliers: tuple = (("(^|/)triplet/kernel$", 1.0, 0.0), BIASES)

    sources = {  # noqa: RUF012
        **NormFaceFinetune.sources,
        "heads": Source(TRIPLET_FILE, "authors' code"),
        "head_weights": Source(TRIPLET_FILE, "authors' code"),
        "heads.0.config.margin": Source(f"NormFace, §4; {TRIPLET_FILE}", "paper"),
        "multipliers": Source(f"agents not decayed: {TRIPLET_FILE}; {CAFFE}", "not re-read"),
    }


@experiment("normface_joint")
class NormFaceJoint(NormFaceFinetune):
    """Normalised softmax and a hundredth of C-contrastive, each with class centres of its own, fine-tuning.

    Source: NormFace (arXiv 1704.06369), §5; happynear/NormFace.
    """

    name: str = "normface_joint"
    heads: tuple = (_normalised_softmax(4.0, 1e-6), CONTRASTIVE_HEAD)
    head_weights: tuple = (1.0, 0.01)

    sources = {  # noqa: RUF012
        **NormFaceFinetune.sources,
        "heads": Source(JOINT_FILE, "authors' code"),
        "head_weights": Source(JOINT_FILE, "authors' code"),
        "heads.0.config.scale.config.minimum": Source(f"{JOINT_FILE} has no floor; 1e-6 stands for that", "ours"),
        "multipliers": Source(f"class centres and scale are decayed: {JOINT_FILE}; {CAFFE}", "not re-read"),
    }


@experiment("l2_softmax")
class L2Softmax(NormFaceCasia):
    """Features on a sphere of radius α before an ordinary softmax with a bias, on CASIA-WebFace.

    The paper trains other networks on other data; network, data, batch, rates and steps are those of `normface_casia`,
    so that the two losses can be compared.

    Source: L2-softmax (arXiv 1703.09507), §3.
    """

    name: str = "l2_softmax"
    heads: tuple = (serialized(SoftmaxHead, scale=16.0, use_bias=True),)

    sources = {  # noqa: RUF012
        **NormFaceCasia.sources,
        "backbone": Source("that of normface_casia", "ours"),
        "embedding_dim": Source("that of normface_casia", "ours"),
        "dropout": Source("that of normface_casia", "ours"),
        "preprocessing": Source("that of normface_casia", "ours"),
        "augmentation": Source("mirror", "ours"),
        "heads": Source("features alone are normalised; the last layer has a bias", "not re-read"),
        "heads.0.config.scale": Source(
            "α fixed at 16; the least useful one is 11.5 for 10 572 classes and a probability of 0.9", "ours"
        ),
        "head_weights": Source("one loss", "ours"),
        "multipliers": Source("biases at twice the rate, not decayed, as Caffe's networks", "ours"),
        "excluded_identities": Source("the 17 that CASIA shares with LFW", "ours"),
    }


NETWORK_FILE = "prototxt/face_train_test.prototxt"
PLAIN_FILE = "prototxt/face_train_test_wo_fn.prototxt"
SOLVER = Source("prototxt/face_solver.prototxt", "authors' code")


@experiment("am_softmax_casia")
class AMSoftmaxCasia(Recipe):
    """AM-Softmax with s = 30 and m = 0.35 on SphereFace's net of 20 layers, on CASIA-WebFace.

    The authors' code overwrites the stored class centres with their normalised copy; the `kernel_constraint` `UnitNorm`
    does that, the default here differentiates through the normalisation. Their code also applies the margin only where
    the cosine lies above it; `heads.0.config.margin.config.only_above_margin` does that, the default is the paper's
    form.

    Source: AM-Softmax (arXiv 1801.05599); happynear/AMSoftmax.
    """

    name: str = "am_softmax_casia"
    backbone: str = "SphereFaceNet"
    backbone_options: dict = dataclasses.field(default_factory=lambda: {"depth": 20, "batch_norm": False})
    preprocessing: Preprocessing = PREPROCESSING["am_softmax"]
    heads: tuple = (
        serialized(MarginSoftmaxHead, feature_norm="hard", margin=serialized(AdditiveCosine, margin=0.35), scale=30.0),
    )
    milestones: tuple = (16000, 24000, 28000)
    multipliers: tuple = (("/bias$", 2.0, 0.0),)
    excluded_identities: tuple = tuple(sorted(CASIA_LFW_OVERLAP))

    sources = {  # noqa: RUF012
        "backbone": Source(NETWORK_FILE, "authors' code"),
        "backbone_options": Source(f"{NETWORK_FILE}: 20 layers, PReLU, no batch norm", "authors' code"),
        "embedding_dim": Source(NETWORK_FILE, "authors' code"),
        "dropout": Source(f"{NETWORK_FILE} has none", "authors' code"),
        "preprocessing": Source(f"{NETWORK_FILE}: 112×96, (pixel − 128) / 128", "authors' code"),
        "augmentation": Source(f"{NETWORK_FILE}: mirror", "authors' code"),
        "heads": Source(NETWORK_FILE, "authors' code"),
        "head_weights": Source(NETWORK_FILE, "authors' code"),
        "batch_size": Source(NETWORK_FILE, "authors' code"),
        "steps": SOLVER,
        "learning_rate": SOLVER,
        "milestones": SOLVER,
        "learning_rate_factor": SOLVER,
        "momentum": SOLVER,
        "weight_decay": SOLVER,
        "multipliers": Source(
            f"{NETWORK_FILE}: biases at twice the rate, not decayed; slopes and class centres as all else",
            "authors' code",
        ),
        "snapshots": Source("none", "ours"),
        "snapshot_share": Source("without snapshots it does nothing", "ours"),
        "excluded_identities": Source(
            "README: 59 identities, of which 17 overlap LFW; the 42 that overlap MegaFace are not listed there",
            "authors' code",
        ),
        "initial_weights_needed": Source("from scratch", "authors' code"),
    }


@experiment("am_softmax_no_feature_norm")
class AMSoftmaxNoFeatureNorm(AMSoftmaxCasia):
    """AM-Softmax on ‖x‖, which is differentiated; the margin is min(0.4, 5e-5 · step).

    Source: AM-Softmax (arXiv 1801.05599); happynear/AMSoftmax.
    """

    name: str = "am_softmax_no_feature_norm"
    heads: tuple = (
        serialized(
            MarginSoftmaxHead,
            feature_norm="none",
            margin=serialized(AdditiveCosine, margin=0.4),
            margin_schedule=serialized(
                PolynomialDecay, initial_learning_rate=0.0, decay_steps=8000, end_learning_rate=0.4
            ),
        ),
    )

    sources = {  # noqa: RUF012
        **AMSoftmaxCasia.sources,
        "heads": Source(PLAIN_FILE, "authors' code"),
        "heads.0.config.margin_schedule": Source(f"{PLAIN_FILE}: min(0.4, 5e-5 · step)", "authors' code"),
        "head_weights": Source(PLAIN_FILE, "authors' code"),
    }


CONFIG_FILE = "config/train/vggface2_sfnet20_spherefacer.yml"
HEAD_FILE = "model/head/spherefacer.py"
CONFIG = Source(CONFIG_FILE, "authors' code")
DEFAULTS = Source(f"{HEAD_FILE}, defaults", "authors' code")


def _head(variant, feature_norm, scale, margin, milestones):
    """SphereFace-R's head: without the hard norm the margin rises; λ/s weights the loss, 1 under "none"."""
    given = {"loss_weight": 1.0 if feature_norm == "none" else LOSS_FACTOR / scale, "norm_weight": 0.01}
    if feature_norm != "hard":
        boundaries = [milestone - 1 for milestone in milestones]  # Keras changes the value one step later
        values = [round(1.0 + 0.1 * rises, 9) for rises in range(len(milestones) + 1)]
        given["margin_schedule"] = serialized(PiecewiseConstantDecay, boundaries=boundaries, values=values)
    margin = serialized(MultiplicativeAngular, variant=variant, margin=margin, gradient="detached")
    return serialized(MarginSoftmaxHead, feature_norm=feature_norm, margin=margin, scale=scale, **given)


LOSS_FACTOR = 50.0
NUMBERS_V1 = (30.0, 1.5, (5000, 10000, 15000, 20000, 25000))
NUMBERS_V2 = (60.0, 1.4, (5000, 10000, 15000, 20000))


@experiment("sphereface_r_v2")
class SphereFaceRV2(Recipe):
    """SphereFace-R v2, the margin on the other classes, s = 60 and m = 1.4 under the hard norm, on VGGFace2.

    `sphereface_r_v2_hfn`, `_sfn` and `_nfn` have the hard feature norm (as published), the soft one and none. With the
    latter two the margin rises from 1 to m by steps, as in the authors' head, which asks to use the hard norm for now.
    The loss weight is λ/s with λ = 50, and 1 without feature norm: whoever changes s changes it too.

    The published configuration names a network that the authors call deprecated (ReLU before the sum of a unit);
    here it is their present one. The authors overwrite the stored class centres with their normalised copy; the
    `kernel_constraint` `UnitNorm` does that, the default here differentiates through the normalisation.

    Source: SphereFace-R (arXiv 2109.05565); ydwen/opensphere.
    """

    name: str = "sphereface_r_v2"
    backbone: str = "SphereFaceNet"
    backbone_options: dict = dataclasses.field(default_factory=lambda: {"depth": 20, "variant": "opensphere"})
    preprocessing: Preprocessing = PREPROCESSING["sphereface_r"]
    heads: tuple = (_head("v2", "hard", *NUMBERS_V2),)
    batch_size: int = 512
    steps: int = 70000
    milestones: tuple = (40000, 60000)

    sources = {  # noqa: RUF012
        "backbone": Source(f"{CONFIG_FILE}: 20 layers", "authors' code"),
        "backbone_options": Source(f"{CONFIG_FILE}: 20 layers; the present network of the authors", "ours"),
        "embedding_dim": CONFIG,
        "dropout": Source("model/backbone/sfnet.py has none", "authors' code"),
        "preprocessing": Source("dataset/utils.py: RGB, (pixel − 127.5) / 127.5", "authors' code"),
        "preprocessing.size": CONFIG,
        "preprocessing.template": Source("112×112 images of the usual alignment", "ours"),
        "augmentation": Source("dataset/utils.py: mirror", "authors' code"),
        "heads": Source(f"{CONFIG_FILE}, {HEAD_FILE}", "authors' code"),
        "heads.0.config.feature_norm": Source(f"{CONFIG_FILE}: hard; {HEAD_FILE} has all three", "authors' code"),
        "heads.0.config.loss_weight": Source(
            f"λ/s with λ = 50, 1 without feature norm: {CONFIG_FILE}, {HEAD_FILE}", "authors' code"
        ),
        "heads.0.config.norm_weight": DEFAULTS,
        "heads.0.config.margin_schedule": Source(
            f"{HEAD_FILE}: 0.1 more at each milestone, from 1, without norm; 1.5 for the soft norm is taken for a slip",
            "authors' code",
        ),
        "heads.0.config.margin_schedule.config.boundaries": Source(
            "they are in no file; so many that m is reached, at the step after each", "ours"
        ),
        "head_weights": Source(f"{CONFIG_FILE}, {HEAD_FILE}", "authors' code"),
        "batch_size": CONFIG,
        "steps": CONFIG,
        "learning_rate": CONFIG,
        "milestones": CONFIG,
        "learning_rate_factor": CONFIG,
        "momentum": CONFIG,
        "weight_decay": CONFIG,
        "multipliers": Source(
            "PyTorch's SGD decays all parameters alike, class centres and biases too", "authors' code"
        ),
        "snapshots": Source("none are averaged", "ours"),
        "snapshot_share": Source("without snapshots it does nothing", "ours"),
        "excluded_identities": Source("VGGFace2: none are named", "authors' code"),
        "initial_weights_needed": Source("from scratch", "authors' code"),
    }


@experiment("sphereface_r_v1")
class SphereFaceRV1(SphereFaceRV2):
    """SphereFace-R v1, the margin on the own class, with the code's defaults s = 30 and m = 1.5, on VGGFace2.

    There is no published configuration of v1; all else is that of `sphereface_r_v2`, where the norms are explained.

    Source: SphereFace-R (arXiv 2109.05565); ydwen/opensphere.
    """

    name: str = "sphereface_r_v1"
    heads: tuple = (_head("v1", "hard", *NUMBERS_V1),)

    sources = {  # noqa: RUF012
        **SphereFaceRV2.sources,
        "heads": DEFAULTS,
        "head_weights": DEFAULTS,
    }


for _class, _variant, _numbers in ((SphereFaceRV1, "v1", NUMBERS_V1), (SphereFaceRV2, "v2", NUMBERS_V2)):
    for _norm, _short in (("hard", "hfn"), ("soft", "sfn"), ("none", "nfn")):
        register(f"sphereface_r_{_variant}_{_short}", heads=(_head(_variant, _norm, *_numbers),))(_class)
