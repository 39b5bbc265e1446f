"""What a recipe is built from: schedules, heads, networks, and their form in JSON."""

import copy
import inspect

import keras

from keras_normface import _validation, backbones, heads, margins
from keras_normface.data import Augmentation
from keras_normface.layers import LearnableScale
from keras_normface.preprocessing import Preprocessing


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


def serialized(cls, **config):
    """Describe an object as Keras serialises it, by its class and the arguments that matter.

    Args:
        cls: A head or a part of one: a class that a recipe may hold, see `Recipe`.
        **config: Arguments of its constructor, for a head all but `units`; objects among them in serialised form.

    Returns:
        `{"class_name": ..., "config": ...}`, which JSON can hold. Arguments that are not given keep their defaults.

    Raises:
        ValueError: If a recipe may not hold the class.

    Example:
    >>> serialized(margins.AdditiveCosine, margin=0.35)
    {'class_name': 'AdditiveCosine', 'config': {'margin': 0.35}}
    """
    name = cls.__name__ if CLASSES.get(cls.__name__) is cls else keras.saving.get_registered_name(cls)
    _class_of("cls", name)
    return {"class_name": name, "config": config}


CLASSES = {
    cls.__name__: cls
    for cls in (
        *(heads.MarginSoftmaxHead, heads.SoftmaxHead, heads.SampledMarginSoftmaxHead),
        *(heads.AgentContrastiveHead, heads.AgentTripletHead),
        *(heads.DistillationHead, heads.FixedCentersHead),
        *(margins.NoMargin, margins.AdditiveCosine, margins.AdditiveAngular),
        *(margins.MultiplicativeAngular, margins.CombinedMargin),
        *(margins.AdaFace, margins.MagFace, margins.ElasticFace, margins.CurricularFace, margins.MVSoftmax),
        *(margins.InterClassFilter, margins.TVMF, margins.Circle),
        LearnableScale,
        *(keras.constraints.UnitNorm, keras.regularizers.L2),
        *(keras.optimizers.schedules.PiecewiseConstantDecay, keras.optimizers.schedules.PolynomialDecay),
    )
}
KINDS = (
    *(
        heads.Head,
        heads.DistillationHead,
        margins.Margin,
        LearnableScale,
        keras.optimizers.schedules.LearningRateSchedule,
    ),
    *(keras.constraints.Constraint, keras.initializers.Initializer, keras.regularizers.Regularizer),
)
HEAD_NAMES = {
    heads.MarginSoftmaxHead: "softmax",
    heads.SampledMarginSoftmaxHead: "softmax",
    heads.SoftmaxHead: "softmax",
    heads.AgentContrastiveHead: "contrastive",
    heads.AgentTripletHead: "triplet",
    heads.DistillationHead: "distillation",
    heads.FixedCentersHead: "fixed",
}


def _class_of(field, name):
    """A class of the list, or one that the program registered with Keras itself; nothing is imported by name."""
    found = CLASSES.get(name) if isinstance(name, str) else None
    if found is None and isinstance(name, str) and ">" in name:
        found = keras.saving.get_registered_object(name)
    if not inspect.isclass(found) or not issubclass(found, KINDS):
        raise ValueError(
            f"`{field}` must be one of {', '.join(CLASSES)}, or the registered name of a class of your own. "
            f"{_validation.received(field, name)}"
        )
    return found


def _parts(field, value):
    """Serialised object → its class and config."""
    if not isinstance(value, dict) or not {"class_name", "config"} <= set(value) <= KEYS:
        raise ValueError(
            f'`{field}` must be a number, a list, or an object serialised as {{"class_name": ..., "config": ...}}. '
            f"{_validation.received(field, value)}"
        )
    name = value["class_name"]
    registered = value.get("registered_name")
    cls = _class_of(f"{field}.class_name", name if isinstance(name, str) and name in CLASSES else registered or name)
    config = _validation.json_dictionary(f"{field}.config", value["config"])
    for name, parameter in inspect.signature(cls).parameters.items():
        if name in config and isinstance(parameter.default, bool) and name != "fused":
            _validation.boolean(f"{field}.config.{name}", config[name])
        elif name in config and isinstance(parameter.default, float) and isinstance(config[name], bool):
            _validation.number(f"{field}.config.{name}", config[name])
    return cls, config


KEYS = {"class_name", "config", "module", "registered_name", "build_config"}


def _made(field, value):
    """What is in a config → the same with objects in the place of their serialised form."""
    if isinstance(value, list):
        return [_made(f"{field}.{number}", item) for number, item in enumerate(value)]
    if not isinstance(value, dict):
        return value
    cls, config = _parts(field, value)
    arguments = {name: _made(f"{field}.config.{name}", item) for name, item in config.items()}
    if issubclass(cls, keras.layers.Layer):
        arguments.setdefault("name", field.rpartition(".")[2])
    return _instance(field, cls, arguments)


def _instance(field, cls, arguments):
    try:
        return cls.from_config(arguments)
    except (TypeError, AttributeError) as error:
        raise ValueError(f"`{field}.config` must fit {cls.__name__}. Received: {arguments}: {error}") from error


def head_layers(serialised, num_classes):
    """Serialised heads → the layers, named apart."""
    layers, names = [], []
    for number, value in enumerate(serialised):
        field = f"heads.{number}"
        cls, config = _parts(field, value)
        if not issubclass(cls, heads.Head | heads.DistillationHead) or "units" in config:
            raise ValueError(f"`{field}` must be a head without `units`. Received: {field}={str(value)[:200]}")
        arguments = {name: _made(f"{field}.config.{name}", item) for name, item in config.items()}
        name = arguments.get("name") or HEAD_NAMES.get(cls) or cls.__name__.lower()
        arguments["name"] = f"{name}{names.count(name) or ''}"
        names.append(name)
        arguments |= {"units": num_classes} if issubclass(cls, heads.Head) else {}
        layers.append(_instance(field, cls, arguments))
        if getattr(layers[-1], "margin_schedule", None) is not None and "margin" in config:
            _check_schedule(field, layers[-1])
    return layers


def _check_schedule(field, head):
    """The margin's own number must not be another one than that at which the schedule ends."""
    config = head.margin_schedule.get_config()
    last = config.get("end_learning_rate", config.get("values", [head.margin.value])[-1])
    if last != head.margin.value:
        raise ValueError(
            f"`{field}.config.margin_schedule` must end at the margin; change both. "
            f"Received: a margin of {head.margin.value:g}, and a schedule that ends at {last:g}"
        )


def checked_heads(value):
    """Return serialised heads as a tuple of dictionaries with `class_name` and `config`, after making each once."""
    if not isinstance(value, list | tuple) or not value:
        raise ValueError(f"`heads` must hold at least one serialised head. {_validation.received('heads', value)}")
    try:
        value = [_plain(f"heads.{number}", item) for number, item in enumerate(value)]
        head_layers(value, 2)  # what does not fit is better found now than after the data is open
    except RecursionError as error:
        raise ValueError("`heads` must not be nested so deeply. Received: objects in objects") from error
    return tuple(value)


def _plain(field, value):
    """Serialised object → the same, as JSON returns it, with `class_name` and `config` alone."""
    if isinstance(value, list | tuple):
        return [_plain(f"{field}.{number}", item) for number, item in enumerate(value)]
    if not isinstance(value, dict):
        return value
    if value.get("class_name") == "DTypePolicy" and isinstance(value.get("config"), dict):
        return value["config"].get("name")
    cls, config = _parts(field, value)
    return serialized(cls, **{name: _plain(f"{field}.config.{name}", item) for name, item in config.items()})


def checked_head_weights(value, heads):
    """Return a weight for each head as a tuple, or `None`."""
    if value is None:
        return None
    if not isinstance(value, list | tuple) or len(value) != len(heads):
        raise ValueError(f"`head_weights` must be None or {len(heads)} numbers. Received: head_weights={value!r}")
    return tuple(_validation.number(f"head_weights.{place}", weight, above=0) for place, weight in enumerate(value))


OURS = {
    "SphereFaceNet": backbones.SphereFaceNet,
    "ResNet27": backbones.ResNet27,
    "LightCNN": backbones.LightCNN,
    "IResNet": backbones.IResNet,
    "MobileFaceNet": backbones.MobileFaceNet,
    "DlibResNet": backbones.DlibResNet,
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


def jsonable(value):
    """Return dictionaries, lists and scalars in the place of this package's objects and of tuples."""
    if isinstance(value, Preprocessing):
        return value.to_dict()
    if isinstance(value, Augmentation):
        value = augmentation(value)
        return {name: getattr(value, name) for name in PLAIN_AUGMENTATION}
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
            raise ValueError(f"`changes` must name one of the fields {', '.join(fields)}. Received: {name!r}")
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
    raise ValueError(f"{name!r} must name a part of a recipe. Received: {part!r}, where there are {known}")
