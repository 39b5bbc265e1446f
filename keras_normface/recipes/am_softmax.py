"""AM-Softmax (arXiv 1801.05599) on CASIA-WebFace, with and without feature normalisation."""

import dataclasses

from keras_normface.data import CASIA_LFW_OVERLAP
from keras_normface.preprocessing import PREPROCESSING, Preprocessing
from keras_normface.recipes.experiment import experiment
from keras_normface.recipes.head_description import HeadDescription
from keras_normface.recipes.recipe import Recipe
from keras_normface.recipes.registry import Source

NETWORK_FILE = "prototxt/face_train_test.prototxt"
PLAIN_FILE = "prototxt/face_train_test_wo_fn.prototxt"
SOLVER = Source("prototxt/face_solver.prototxt", "authors' code")


@experiment("am_softmax_casia")
class AMSoftmaxCasia(Recipe):
    """AM-Softmax with s = 30 and m = 0.35 on SphereFace's net of 20 layers, on CASIA-WebFace.

    The authors' code overwrites the stored agents with their normalised copy; `heads.0.options.projected` does that,
    the default here differentiates through the normalisation. Their code also applies the margin only where the cosine
    lies above it; `heads.0.options.margin.only_above_margin` does that, the default is the paper's form.

    Source: AM-Softmax (arXiv 1801.05599); happynear/AMSoftmax.
    """

    name: str = "am_softmax_casia"
    backbone: str = "SphereFaceNet"
    backbone_options: dict = dataclasses.field(default_factory=lambda: {"depth": 20, "batch_norm": False})
    preprocessing: Preprocessing = PREPROCESSING["am_softmax"]
    heads: tuple = (
        HeadDescription("margin_softmax", {"margin": {"kind": "additive_cosine", "margin": 0.35}, "scale": 30.0}),
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
        "feature_norm": Source(NETWORK_FILE, "authors' code"),
        "batch_size": Source(NETWORK_FILE, "authors' code"),
        "steps": SOLVER,
        "learning_rate": SOLVER,
        "milestones": SOLVER,
        "learning_rate_factor": SOLVER,
        "momentum": SOLVER,
        "weight_decay": SOLVER,
        "multipliers": Source(
            f"{NETWORK_FILE}: biases at twice the rate, not decayed; slopes and agents as all else", "authors' code"
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
        HeadDescription(
            "margin_softmax",
            {
                "margin": {"kind": "additive_cosine", "margin": 0.4},
                "margin_schedule": {"kind": "ramp", "slope": 5e-5, "last": 0.4},
            },
        ),
    )
    feature_norm: str = "none"

    sources = {  # noqa: RUF012
        **AMSoftmaxCasia.sources,
        "heads": Source(PLAIN_FILE, "authors' code"),
        "feature_norm": Source(PLAIN_FILE, "authors' code"),
    }
