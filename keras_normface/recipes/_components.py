"""What a recipe is built from: schedules, heads, networks, and their form in JSON."""

import copy
import dataclasses
import inspect

import keras

from keras_normface import _validation, backbones, margins
from keras_normface.data import Augmentation
from keras_normface.heads import AgentContrastiveHead, AgentTripletHead, MarginSoftmaxHead, SoftmaxHead
from keras_normface.layers import LearnableScale
from keras_normface.preprocessing import Preprocessing

FEATURE_NORMS = ("hard", "soft", "none")


def steps_at(milestones, values):
    """A schedule whose value changes AT each milestone, steps counted from 0, as Caffe and PyTorch do it."""
    return keras.optimizers.schedules.PiecewiseConstantDecay(
        [milestone - 1 for milestone in milestones], [float(value) for value in values]
    )


def multistep(first, milestones, factor):
    """Caffe's "multistep": the value is multiplied by `factor` at each milestone."""
    if not milestones:
        return first
    return steps_at(milestones, [first * factor**drops for drops in range(len(milestones) + 1)])


def margin_schedule(description, feature_norm, margin=None):
    """Make the schedule of a margin from its description."""
    known = {"ramp": {"slope", "last"}, "steps": {"first", "step", "milestones"}}
    if not isinstance(description, dict):
        raise ValueError(f"`margin_schedule` must be a dictionary. Received: margin_schedule={description!r}")
    description = dict(description)
    norms = description.pop("feature_norms", list(FEATURE_NORMS))
    if not isinstance(norms, list | tuple) or not norms or any(norm not in FEATURE_NORMS for norm in norms):
        raise ValueError(f"`feature_norms` must be a list of some of {list(FEATURE_NORMS)}. Received: {norms!r}")
    kind = _validation.choice("margin_schedule kind", description.pop("kind", None), known)
    if set(description) != known[kind]:
        raise ValueError(f"`margin_schedule` of kind {kind!r} must have {sorted(known[kind])}. Received: {description}")
    schedule, last = (_ramp if kind == "ramp" else _rises)(**description)
    if feature_norm not in norms:
        return None
    if margin is not None and last != margin:
        raise ValueError(
            "`margin_schedule` must end at the margin; change both. "
            f"Received: a margin of {margin:g}, and a schedule that ends at {last:g}"
        )
    return schedule


def _ramp(slope, last):
    last, slope = _validation.number("last", last, above=0), _validation.number("slope", slope, above=0)
    return keras.optimizers.schedules.PolynomialDecay(0.0, last / slope, last), last


def _rises(first, step, milestones):
    milestones = _validation.increasing_integers("milestones", milestones)
    if not milestones:
        raise ValueError("`milestones` must hold at least one step. Received: milestones=[]")
    first, step = (_validation.number(name, value, at_least=0) for name, value in (("first", first), ("step", step)))
    values = [round(first + rises * step, 9) for rises in range(len(milestones) + 1)]
    return steps_at(milestones, values), values[-1]


MARGINS = {
    "none": margins.NoMargin,
    "additive_cosine": margins.AdditiveCosine,
    "additive_angular": margins.AdditiveAngular,
    "multiplicative_angular": margins.MultiplicativeAngular,
    "combined": margins.CombinedMargin,
}
SCHEDULED = {"additive_angular": "margin", "combined": "m3"}  # the number that a schedule replaces
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
            `margin_schedule`: `{"kind": "ramp", "slope": a, "last": b}`, the margin min(b, a·step); or
            `{"kind": "steps", "first": a, "step": b, "milestones": [...]}`, a and then b more at each milestone. With
            `"feature_norms"`, a list, it holds under those alone. Where a `margin` is given too, the schedule
            must end at it.
            `projected`: whether the stored class centres are overwritten with their normalised copy after each update.
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
        _validation.choice("kind", self.kind, KINDS)
        object.__setattr__(self, "options", _validation.json_dictionary("options", self.options))
        _validation.booleans("options", self.options, SWITCHES)
        nested = [key for key, value in self.options.items() if isinstance(value, dict) and key not in NESTED]
        if nested:  # Keras would make any object of its own of them
            raise ValueError(f"`options` may hold dictionaries as {', '.join(NESTED)} alone. Received: {nested}")
        object.__setattr__(self, "weight", _validation.number("weight", self.weight, above=0))
        self.build(2, "hard")  # what does not fit is better found now than after the data is open

    def build(self, num_classes, feature_norm, name=None):
        """Make the head.

        Args:
            num_classes: Number of classes.
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
        return _validation.number("scale", scale, above=0)
    unknown = set(scale) - {"initial", "minimum"}
    if unknown or "initial" not in scale:
        raise ValueError(f'`scale` must be a number or have the keys "initial", "minimum". Received: scale={scale}')
    initial, minimum = (_validation.number(key, scale.get(key, 0.01), above=0) for key in ("initial", "minimum"))
    return LearnableScale(initial, minimum=minimum, name="scale")


def _margin_softmax(arguments, feature_norm):
    margin = _validation.json_dictionary("margin", arguments.pop("margin", {"kind": "none"}))
    kind = _validation.choice("margin kind", margin.pop("kind", None), MARGINS)
    _validation.booleans("margin", margin, ["only_above_margin"])
    schedule, factor = arguments.pop("margin_schedule", None), arguments.pop("loss_factor", None)
    made = {**arguments, "margin": MARGINS[kind](**margin), "feature_norm": feature_norm}
    if schedule is not None:
        made["margin_schedule"] = margin_schedule(schedule, feature_norm, margin.get(SCHEDULED.get(kind, "margin")))
    if factor is not None and feature_norm != "none":
        if isinstance(made.get("scale"), LearnableScale):
            raise ValueError("`loss_factor` needs a fixed `scale`. Received: a learnable one")
        made["loss_weight"] = _validation.number("loss_factor", factor, above=0) / made.get("scale", DEFAULT_SCALE)
    return made


OURS = {
    "SphereFaceNet": backbones.SphereFaceNet,
    "ResNet27": backbones.ResNet27,
    "LightCNN": backbones.LightCNN,
    "IResNet": backbones.IResNet,
}


def known_backbones():
    """Return the names of all backbones: those of this package, and the functions of `keras.applications`."""
    theirs = [name for name in dir(keras.applications) if name[0].isupper()]
    return (*OURS, *theirs)


def build_backbone(name, input_shape, embedding_dim, dropout, options):
    """Build a network from images to embeddings."""
    function = OURS.get(name) or getattr(keras.applications, name)
    try:
        if name in OURS:
            return function(input_shape=input_shape, embedding_dim=embedding_dim, dropout=dropout, **options)
        arguments = {"weights": None, "pooling": "avg", **options}
        if "include_preprocessing" in inspect.signature(function).parameters:
            arguments.setdefault("include_preprocessing", False)
        base = function(include_top=False, input_shape=input_shape, **arguments)
    except TypeError as error:
        raise ValueError(f"`backbone_options` must be arguments of {name}. Received: {options!r}: {error}") from error
    return _with_embedding(base, embedding_dim, dropout)


def scales_pixels(model):
    """Whether a network scales pixels itself, as `EfficientNetB0` of `keras.applications` always does."""
    return any(isinstance(layer, keras.layers.Rescaling | keras.layers.Normalization) for layer in model.layers)


def _with_embedding(base, embedding_dim, dropout):
    tensor = base.output
    if dropout:
        tensor = keras.layers.Dropout(dropout, name="dropout_before_embedding")(tensor)
    full_precision = keras.config.dtype_policy().variable_dtype
    tensor = keras.layers.Dense(embedding_dim, dtype=full_precision, name="embedding")(tensor)
    return keras.Model(base.input, tensor, name=base.name)


PLAIN_AUGMENTATION = ("mirror", "crop", "brightness", "contrast")


def preprocessing(value):
    """Return a `Preprocessing`, which may come as its dictionary."""
    return value if isinstance(value, Preprocessing) else Preprocessing.from_dict(value)


def augmentation(value):
    """Return an `Augmentation` or `None`; the former may come as a dictionary."""
    if isinstance(value, dict):
        unknown = sorted(set(value) - set(PLAIN_AUGMENTATION))
        if unknown:
            raise ValueError(f"`augmentation` must have keys of {PLAIN_AUGMENTATION}. Received: {unknown}")
        value = Augmentation(**value)
    if value is not None and (not isinstance(value, Augmentation) or value.image is not None):
        raise ValueError(
            "`augmentation` must be an Augmentation without a function, or None; give a function to `data`. "
            f"Received: augmentation={value!r}"
        )
    return value


def heads(value):
    """Return a tuple of `HeadDescription`, which may come as dictionaries."""
    if not isinstance(value, list | tuple) or not value:
        raise ValueError(f"`heads` must hold at least one HeadDescription. Received: heads={value!r}")
    return tuple(_head(one) for one in value)


def _head(value):
    if isinstance(value, HeadDescription):
        return value
    known = [field.name for field in dataclasses.fields(HeadDescription)]
    if not isinstance(value, dict) or not set(value) <= set(known) or "kind" not in value:
        raise ValueError(f"`heads` must hold HeadDescriptions or dictionaries of {known}. Received: {value!r}")
    return HeadDescription(**value)


def jsonable(value):
    """Return dictionaries, lists and scalars in the place of this package's objects and of tuples."""
    if isinstance(value, Preprocessing):
        return value.to_dict()
    if isinstance(value, Augmentation):
        value = augmentation(value)
        return {name: getattr(value, name) for name in PLAIN_AUGMENTATION}
    if isinstance(value, HeadDescription):
        return jsonable(dataclasses.asdict(value))
    if isinstance(value, dict):
        return {key: jsonable(item) for key, item in value.items()}
    return [jsonable(item) for item in value] if isinstance(value, tuple | list | set | frozenset) else value


def changed(fields, changes):
    """Return a copy of `fields` with some values changed."""
    fields = copy.deepcopy(fields)
    for name, value in changes.items():
        place = fields
        *outer, last = name.split(".")
        if name.split(".")[0] not in fields:
            raise ValueError(f"a recipe has the fields {', '.join(fields)}. Received: {name!r}")
        for part in outer:
            place = place[_key(name, place, part)]
        place[last if isinstance(place, dict) else _key(name, place, last)] = jsonable(value)
    return fields


def _key(name, place, part):
    if isinstance(place, dict) and part in place:
        return part
    if isinstance(place, list) and part.isdecimal() and int(part) < len(place):
        return int(part)
    known = list(place) if isinstance(place, dict) else f"{len(place)} parts" if isinstance(place, list) else "no parts"
    raise ValueError(f"{name!r} must name a part of a recipe: {part!r} is none, there are {known}")
