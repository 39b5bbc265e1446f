"""What a recipe says about a head, as JSON can hold it, and the head that comes of it."""

import dataclasses

import keras

from keras_normface import margins
from keras_normface.heads import AgentContrastiveHead, AgentTripletHead, MarginSoftmaxHead, SoftmaxHead
from keras_normface.layers import LearnableScale
from keras_normface.recipes import checks
from keras_normface.recipes.schedules import margin_schedule

MARGINS = {
    "none": margins.NoMargin,
    "additive_cosine": margins.AdditiveCosine,
    "additive_angular": margins.AdditiveAngular,
    "multiplicative_angular": margins.MultiplicativeAngular,
    "combined": margins.CombinedMargin,
}
SCHEDULED = {"additive_angular": "margin_radians", "combined": "m3"}  # the number that a schedule replaces
KINDS = {
    "margin_softmax": ("softmax", MarginSoftmaxHead),
    "softmax": ("softmax", SoftmaxHead),
    "agent_contrastive": ("contrastive", AgentContrastiveHead),
    "agent_triplet": ("triplet", AgentTripletHead),
}
DEFAULT_SCALE = 30.0
NESTED = ("margin", "scale", "margin_schedule")
SWITCHES = ("projected", "use_bias", "hardest_negative_only", "exponential_negatives", "positive_pull")


@dataclasses.dataclass(frozen=True)
class HeadDescription:
    """One head of a recipe.

    Args:
        kind: "margin_softmax", "softmax" (ordinary weights and a bias), "agent_contrastive" or "agent_triplet".
        options: Arguments of the head's class, in words: `margin` is `{"kind": "additive_cosine", "margin": 0.35}`
            (kinds: "none", "additive_cosine", "additive_angular", "multiplicative_angular", "combined"), `scale` a
            number or `{"initial": 10.0, "minimum": 0.01}` for a learnable one. And beyond those:
            `loss_factor`: SphereFace-R's λ; under "hard" and "soft" the loss is weighted with λ/s, under "none" with 1.
            `margin_schedule`: how the margin changes; see `margin_schedule`.
            `projected`: whether the stored agents are overwritten with their normalised copy after each update.
        weight: Weight of its loss.

    Raises:
        ValueError: If a field does not fit.

    Example:
    >>> HeadDescription("margin_softmax", {"scale": 20.0}).build(5, "hard").current_scale
    20.0
    """

    kind: str
    options: dict = dataclasses.field(default_factory=dict)
    weight: float = 1.0

    def __post_init__(self):
        checks.choice("kind", self.kind, KINDS)
        object.__setattr__(self, "options", checks.options("options", self.options))
        checks.switches("options", self.options, SWITCHES)
        nested = [key for key, value in self.options.items() if isinstance(value, dict) and key not in NESTED]
        if nested:  # Keras would make any object of its own of them
            raise ValueError(f"`options` may hold dictionaries as {', '.join(NESTED)} alone. Received: {nested}")
        object.__setattr__(self, "weight", checks.number("weight", self.weight, above=True))
        self.build(2, "hard")  # what does not fit is better found now than after the data is open

    def build(self, num_classes, feature_norm, name=None):
        """Make the head.

        Args:
            num_classes: Number of agents.
            feature_norm: "hard", "soft" or "none", for a margin softmax.
            name: Name of the layer; `None` means "softmax", "contrastive" or "triplet".

        Returns:
            A `Head`.

        Raises:
            ValueError: If an option is not known or does not fit.
        """
        own_name, head_class = KINDS[self.kind]
        arguments = dict(self.options)
        if arguments.pop("projected", False):
            arguments["kernel_constraint"] = keras.constraints.UnitNorm(axis=1)
        if "scale" in arguments:
            arguments["scale"] = _scale(arguments["scale"])
        try:
            if self.kind == "margin_softmax":
                arguments = _margin_softmax(arguments, feature_norm)
            return head_class(num_classes, name=name or own_name, **arguments)
        except TypeError as error:
            raise ValueError(f"`options` must fit {head_class.__name__}. Received: {self.options}: {error}") from error


def _scale(scale):
    if not isinstance(scale, dict):
        return checks.number("scale", scale, above=True)
    unknown = set(scale) - {"initial", "minimum"}
    if unknown or "initial" not in scale:
        raise ValueError(f'`scale` must be a number or have the keys "initial", "minimum". Received: scale={scale}')
    initial, minimum = (checks.number(key, scale.get(key, 0.01), above=True) for key in ("initial", "minimum"))
    return LearnableScale(initial, minimum=minimum, name="scale")


def _margin_softmax(arguments, feature_norm):
    margin = checks.options("margin", arguments.pop("margin", {"kind": "none"}))
    kind = checks.choice("margin kind", margin.pop("kind", None), MARGINS)
    checks.switches("margin", margin, ["only_above_margin"])
    schedule, factor = arguments.pop("margin_schedule", None), arguments.pop("loss_factor", None)
    made = {**arguments, "margin": MARGINS[kind](**margin), "feature_norm": feature_norm}
    if schedule is not None:
        made["margin_schedule"] = margin_schedule(schedule, feature_norm, margin.get(SCHEDULED.get(kind, "margin")))
    if factor is not None and feature_norm != "none":
        if isinstance(made.get("scale"), LearnableScale):
            raise ValueError("`loss_factor` needs a fixed `scale`. Received: a learnable one")
        made["loss_weight"] = checks.number("loss_factor", factor, above=True) / made.get("scale", DEFAULT_SCALE)
    return made
