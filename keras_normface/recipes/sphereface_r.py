"""SphereFace-R (arXiv 2109.05565), v1 and v2, under hard, soft and no feature normalisation."""

import dataclasses

from keras_normface.preprocessing import PREPROCESSING, Preprocessing
from keras_normface.recipes.experiment import experiment
from keras_normface.recipes.head_description import HeadDescription
from keras_normface.recipes.recipe import Recipe
from keras_normface.recipes.registry import Source, register

CONFIG_FILE = "config/train/vggface2_sfnet20_spherefacer.yml"
HEAD_FILE = "model/head/spherefacer.py"
CONFIG = Source(CONFIG_FILE, "authors' code")
DEFAULTS = Source(f"{HEAD_FILE}, defaults", "authors' code")


def head(variant, scale, margin, milestones):
    """Return the head of v1 or v2: fixed margin under "hard", a rising one under "soft" and "none".

    Args:
        variant: "v1" or "v2".
        scale: s.
        margin: m in the end.
        milestones: Steps at which it rises by 0.1, from 1.

    Example:
    >>> head("v1", 30.0, 1.5, [10]).options["scale"]
    30.0
    """
    rise = {"kind": "steps", "first": 1.0, "step": 0.1, "milestones": milestones, "feature_norms": ["soft", "none"]}
    options = {
        "margin": {"kind": "multiplicative_angular", "variant": variant, "margin": margin, "gradient": "detached"},
        "scale": scale,
        "loss_factor": 50.0,
        "norm_weight": 0.01,
        "margin_schedule": rise,
    }
    return HeadDescription("margin_softmax", options)


@experiment("sphereface_r_v2")
class SphereFaceRV2(Recipe):
    """SphereFace-R v2, the margin on the other classes, s = 60 and m = 1.4 under the hard norm, on VGGFace2.

    `feature_norm` chooses between "hard" (HFN, as published), "soft" (SFN) and "none" (NFN). With the latter two the
    margin rises from 1 to m by steps, as in the authors' head, which asks to use the hard norm for now. λ/s weights the
    loss, and 1 under "none".

    The published configuration names a network that the authors call deprecated (ReLU before the sum of a unit);
    here it is their present one. The authors overwrite the stored agents with their normalised copy;
    `heads.0.options.projected` does that, the default here differentiates through the normalisation.

    Source: SphereFace-R (arXiv 2109.05565); ydwen/opensphere.
    """

    name: str = "sphereface_r_v2"
    backbone: str = "SphereFaceNet"
    backbone_options: dict = dataclasses.field(default_factory=lambda: {"depth": 20, "variant": "opensphere"})
    preprocessing: Preprocessing = PREPROCESSING["sphereface_r"]
    heads: tuple = (head("v2", 60.0, 1.4, [5000, 10000, 15000, 20000]),)
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
        "heads.0.options.norm_weight": DEFAULTS,
        "heads.0.options.margin_schedule": Source(
            f"{HEAD_FILE}: 0.1 more at each milestone, from 1, without norm; 1.5 for the soft norm is taken for a slip",
            "authors' code",
        ),
        "heads.0.options.margin_schedule.milestones": Source("they are in no file; so many that m is reached", "ours"),
        "feature_norm": Source(f"{CONFIG_FILE} for the hard one; {HEAD_FILE} has all three", "authors' code"),
        "batch_size": CONFIG,
        "steps": CONFIG,
        "learning_rate": CONFIG,
        "milestones": CONFIG,
        "learning_rate_factor": CONFIG,
        "momentum": CONFIG,
        "weight_decay": CONFIG,
        "multipliers": Source("PyTorch's SGD decays all parameters alike, agents and biases too", "authors' code"),
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
    heads: tuple = (head("v1", 30.0, 1.5, [5000, 10000, 15000, 20000, 25000]),)

    sources = {  # noqa: RUF012
        **SphereFaceRV2.sources,
        "heads": DEFAULTS,
    }


for _class, _name in ((SphereFaceRV1, "sphereface_r_v1"), (SphereFaceRV2, "sphereface_r_v2")):
    for _norm, _short in (("hard", "hfn"), ("soft", "sfn"), ("none", "nfn")):
        register(f"{_name}_{_short}", feature_norm=_norm)(_class)
