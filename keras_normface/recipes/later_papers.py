"""The margins of later papers on one network and one schedule, each number with its source."""

import dataclasses

from keras_normface.heads import MarginSoftmaxHead
from keras_normface.margins import AdaFace, CurricularFace, MagFace
from keras_normface.preprocessing import PREPROCESSING, Preprocessing
from keras_normface.recipes._components import serialized
from keras_normface.recipes._registry import Source, experiment
from keras_normface.recipes.papers import AMSoftmaxCasia

USUAL = Source("that of am_softmax_casia", "ours")
AS_USUAL = dict.fromkeys(AMSoftmaxCasia.sources, USUAL) | {
    "embedding_dim": Source("512, as in all their networks", "authors' code"),
    "preprocessing": Source("RGB, 112×112, (pixel − 127.5) / 127.5", "ours"),
    "augmentation": Source("mirror alone", "ours"),
    "heads.0.config.margin.config.gradient": Source("the code differentiates the angle", "authors' code"),
    "multipliers": Source("biases and class centres are decayed like all else", "ours"),
}


@experiment("adaface_casia")
class AdaFaceCasia(AMSoftmaxCasia):
    """AdaFace with its code's numbers on IResNet-50, on CASIA-WebFace.

    Margin, scale and network are the authors'. Their training augments by low quality, and has steps and rates of its
    own, which were not read: those here are AM-Softmax's.

    Source: AdaFace (arXiv 2204.00964); mk-minchul/AdaFace, `head.py`.
    """

    name: str = "adaface_casia"
    backbone: str = "IResNet"
    backbone_options: dict = dataclasses.field(default_factory=lambda: {"depth": 50, "variant": "adaface"})
    dropout: float = 0.4
    preprocessing: Preprocessing = PREPROCESSING["sphereface_r"]
    heads: tuple = (
        serialized(
            MarginSoftmaxHead,
            feature_norm="hard",
            margin=serialized(AdaFace, margin=0.4, concentration=0.333, rate=0.01, gradient="exact"),
            scale=64.0,
        ),
    )
    multipliers: tuple = ()

    sources = {  # noqa: RUF012
        **AS_USUAL,
        "backbone": Source("net.py: an improved ResNet; 50 layers are one of its sizes", "authors' code"),
        "backbone_options": Source("net.py", "authors' code"),
        "dropout": Source("net.py", "authors' code"),
        "heads": Source("head.py", "authors' code"),
        "heads.0.config.margin.config.rate": Source("head.py has 0.01 or 1", "authors' code"),
        "heads.0.config.margin.config.gradient": Source(
            "head.py differentiates the angle, with cosines clipped to ±(1 − 1e-3); here to ±(1 − 1e-6)",
            "authors' code",
        ),
        "head_weights": Source("head.py: one loss", "authors' code"),
    }


@experiment("magface_casia")
class MagFaceCasia(AdaFaceCasia):
    """MagFace with its code's numbers on IResNet-50, on CASIA-WebFace.

    Margins, bounds of the norm, λ, scale and network are the authors', who apply the margin only where the cosine is
    positive. Steps and rates are AM-Softmax's; theirs were not read. The bounds fit norms of a network that ends with a
    batch normalisation: on another one, look at the norms first.

    Source: MagFace (arXiv 2103.06627); IrvingMeng/MagFace.
    """

    name: str = "magface_casia"
    backbone_options: dict = dataclasses.field(default_factory=lambda: {"depth": 50, "variant": "magface"})
    heads: tuple = (
        serialized(
            MarginSoftmaxHead,
            feature_norm="hard",
            margin=serialized(
                MagFace,
                margin=0.8,
                least_margin=0.45,
                norms=[10.0, 110.0],
                norm_weight=35.0,
                only_positive_cosines=True,
                gradient="exact",
            ),
            scale=64.0,
        ),
    )

    sources = {  # noqa: RUF012
        **AS_USUAL,
        "backbone": Source("models/iresnet.py; 50 layers are one of its sizes", "authors' code"),
        "backbone_options": Source("models/iresnet.py", "authors' code"),
        "dropout": Source("models/iresnet.py, which drops whole channels", "authors' code"),
        "heads": Source("models/magface.py and run/trainer.py", "authors' code"),
        "head_weights": Source("models/magface.py: one loss", "authors' code"),
    }


@experiment("curricularface_casia")
class CurricularFaceCasia(AdaFaceCasia):
    """CurricularFace with its code's numbers on IResNet-50, on CASIA-WebFace.

    The head is the authors'; network, steps and rates are not.

    Source: CurricularFace (arXiv 2004.00288); HuangYG123/CurricularFace, `head/metrics.py`.
    """

    name: str = "curricularface_casia"
    backbone_options: dict = dataclasses.field(default_factory=lambda: {"depth": 50, "variant": "insightface"})
    heads: tuple = (
        serialized(
            MarginSoftmaxHead,
            feature_norm="hard",
            margin=serialized(CurricularFace, margin=0.5, rate=0.01, gradient="exact"),
            scale=64.0,
        ),
    )

    sources = {  # noqa: RUF012
        **AS_USUAL,
        "backbone": Source("that of adaface_casia", "ours"),
        "backbone_options": Source("InsightFace's variant", "ours"),
        "dropout": Source("that of adaface_casia", "ours"),
        "embedding_dim": Source("512", "ours"),
        "heads": Source("head/metrics.py", "authors' code"),
        "head_weights": Source("head/metrics.py: one loss", "authors' code"),
    }
