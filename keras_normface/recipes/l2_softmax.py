"""L2-constrained softmax (arXiv 1703.09507)."""

from keras_normface.recipes.experiment import experiment
from keras_normface.recipes.head_description import HeadDescription
from keras_normface.recipes.normface import NormFaceCasia
from keras_normface.recipes.registry import Source


@experiment("l2_softmax")
class L2Softmax(NormFaceCasia):
    """Features on a sphere of radius α before an ordinary softmax with a bias, on CASIA-WebFace.

    The paper trains other networks on other data; network, data, batch, rates and steps are those of `normface_casia`,
    so that the two losses can be compared.

    Source: L2-softmax (arXiv 1703.09507), §3.
    """

    name: str = "l2_softmax"
    heads: tuple = (HeadDescription("softmax", {"scale": 16.0, "use_bias": True}),)

    sources = {  # noqa: RUF012
        **NormFaceCasia.sources,
        "backbone": Source("that of normface_casia", "ours"),
        "embedding_dim": Source("that of normface_casia", "ours"),
        "dropout": Source("that of normface_casia", "ours"),
        "preprocessing": Source("that of normface_casia", "ours"),
        "augmentation": Source("mirror", "ours"),
        "feature_norm": Source("the head normalises the features; this field does nothing here", "ours"),
        "heads": Source("features alone are normalised; the last layer has a bias", "not re-read"),
        "heads.0.options.scale": Source(
            "α fixed at 16; the least useful one is 11.5 for 10 572 classes and a probability of 0.9", "ours"
        ),
        "heads.0.weight": Source("one loss", "ours"),
        "multipliers": Source("biases at twice the rate, not decayed, as Caffe's networks", "ours"),
        "excluded_identities": Source("the 17 that CASIA shares with LFW", "ours"),
    }
