"""What all recipes share: fields that are checked at once, and what is built from them."""

import dataclasses
import math

from keras_normface import _validation
from keras_normface.data import Augmentation, ImageBatches
from keras_normface.heads import MarginSoftmaxHead
from keras_normface.models import EmbeddingModel
from keras_normface.optimizers import CoupledSGD
from keras_normface.preprocessing import Preprocessing
from keras_normface.recipes import _components, _registry
from keras_normface.recipes._components import (
    build_backbone,
    head_layers,
    known_backbones,
    multistep,
    scales_pixels,
    serialized,
)

INITIAL_CENTERS = ("random", "class_means")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recipe:
    """An experiment: network, heads, data and training, each of it a field that can be written as JSON.

    The recipes of the papers are subclasses; `recipes.get(name)` gives one. `replace` changes it.

    Args:
        name: Name under which it is registered.
        backbone: "SphereFaceNet", "ResNet27", "LightCNN", "IResNet", "MobileFaceNet", "DlibResNet", or the name of a
            function of `keras.applications`.
        backbone_options: Arguments of that function, such as `{"depth": 20}`.
        embedding_dim: Numbers in an embedding.
        dropout: Fraction dropped before the last dense layer.
        preprocessing: A `Preprocessing`, or its dictionary; its size is the input of the network.
        augmentation: An `Augmentation`, its dictionary, or `None`.
        heads: Heads as Keras serialises them, `{"class_name": "MarginSoftmaxHead", "config": {"scale": 30.0}}`, without
            `units`, which `build` fills in where a head has classes; `serialized` makes such a dictionary. Margins,
            `LearnableScale`, schedules and constraints in a config have that form too. Classes are those of this
            package and a few of Keras, or a head, margin, schedule, constraint, initializer or regularizer that the
            program registered with Keras, by its registered name ("package>Name"). Nothing is imported by its name.
        head_weights: Weight of each head's loss; `None` means 1 each.
        batch_size: Images in a step, of all replicas together.
        steps: Steps in all.
        learning_rate: The first one.
        milestones: Steps, from 0, at which the learning rate drops.
        learning_rate_factor: What it is multiplied by there.
        momentum: Of the SGD.
        weight_decay: The coupled one, `wd·w` in the gradient; see `CoupledSGD`.
        multipliers: Of learning rate and decay by variable; see `CoupledSGD`.
        snapshots: How many weights are averaged in the end; 0 for the last ones as they are.
        snapshot_share: Over which last part of the steps the snapshots are spread evenly, above 0, up to 1.
        excluded_identities: Names of identities that are not trained on.
        initial_weights_needed: Whether training begins with the weights of a trained network.
        initial_centers: Where the class centres begin: "random", as the heads draw them, or "class_means", at the mean
            embedding of each class.
        frozen_steps: Steps before all others in which only the heads are trained, on the embeddings of the network as
            it is; see `training.fit_heads`.
        frozen_learning_rate: The learning rate of these steps.
        evaluation_steps: Steps between two looks at held-out people, if there are any; see `training.BestWeights`.
        patience: After how many looks without a better one training ends.

    Raises:
        ValueError: If a field does not fit, when the recipe is made.
    """

    name: str = "recipe"
    backbone: str = "SphereFaceNet"
    backbone_options: dict = dataclasses.field(default_factory=dict)
    embedding_dim: int = 512
    dropout: float = 0.0
    preprocessing: Preprocessing = dataclasses.field(default_factory=Preprocessing)
    augmentation: Augmentation | None = dataclasses.field(default_factory=Augmentation)
    heads: tuple = (serialized(MarginSoftmaxHead),)
    head_weights: tuple | None = None
    batch_size: int = 256
    steps: int = 30000
    learning_rate: float = 0.1
    milestones: tuple = ()
    learning_rate_factor: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 5e-4
    multipliers: tuple = ()
    snapshots: int = 0
    snapshot_share: float = 0.5
    excluded_identities: tuple = ()
    initial_weights_needed: bool = False
    initial_centers: str = "random"
    frozen_steps: int = 0
    frozen_learning_rate: float = 0.1
    evaluation_steps: int = 1000
    patience: int = 5

    # No field: from a field, or the beginning of its dotted name, to its Source. These stand where a recipe has no own.
    sources = {  # noqa: RUF012
        "initial_centers": _registry.Source("the author of NormFace, in issues 1 and 4 of its code", "authors' code"),
        "frozen_steps": _registry.Source("no source freezes the network", "ours"),
        "frozen_learning_rate": _registry.Source("without frozen steps it does nothing", "ours"),
        "evaluation_steps": _registry.Source("no source looks at held-out people", "ours"),
        "patience": _registry.Source("no source ends training early", "ours"),
    }

    def __post_init__(self):
        checked = {
            "backbone": _validation.choice("backbone", self.backbone, known_backbones()),
            "backbone_options": _validation.json_dictionary("backbone_options", self.backbone_options),
            "embedding_dim": _validation.integer("embedding_dim", self.embedding_dim, 1),
            "dropout": _validation.number("dropout", self.dropout, at_least=0, below=1),
            "preprocessing": _components.preprocessing(self.preprocessing),
            "augmentation": _components.augmentation(self.augmentation),
            "heads": _components.checked_heads(self.heads),
            "head_weights": _components.checked_head_weights(self.head_weights, self.heads),
            "batch_size": _validation.integer("batch_size", self.batch_size, 1),
            "steps": _validation.integer("steps", self.steps, 1),
            "learning_rate": _validation.number("learning_rate", self.learning_rate, above=0),
            "milestones": _validation.increasing_integers("milestones", self.milestones),
            "learning_rate_factor": _validation.number("learning_rate_factor", self.learning_rate_factor, above=0),
            "momentum": _validation.number("momentum", self.momentum, at_least=0, at_most=1),
            "weight_decay": _validation.number("weight_decay", self.weight_decay, at_least=0),
            "multipliers": _validation.multipliers(self.multipliers),
            "snapshots": _validation.integer("snapshots", self.snapshots, 0),
            "snapshot_share": _validation.number("snapshot_share", self.snapshot_share, above=0, at_most=1),
            "excluded_identities": _validation.strings("excluded_identities", self.excluded_identities),
            "initial_weights_needed": _validation.boolean("initial_weights_needed", self.initial_weights_needed),
            "initial_centers": _validation.choice("initial_centers", self.initial_centers, INITIAL_CENTERS),
            "frozen_steps": _validation.integer("frozen_steps", self.frozen_steps, 0),
            "frozen_learning_rate": _validation.number("frozen_learning_rate", self.frozen_learning_rate, above=0),
            "evaluation_steps": _validation.integer("evaluation_steps", self.evaluation_steps, 1),
            "patience": _validation.integer("patience", self.patience, 1),
        }
        for field, value in checked.items():
            object.__setattr__(self, field, value)
        if len(set(self.snapshot_steps)) < self.snapshots or 0 in self.snapshot_steps:
            raise ValueError(
                "`steps` must have room for the snapshots. "
                f"Received: steps={self.steps}, snapshots={self.snapshots}, snapshot_share={self.snapshot_share}"
            )

    @property
    def snapshot_steps(self):
        """After how many steps each snapshot is taken, in increasing order; the last one is `steps`."""
        apart = self.steps * self.snapshot_share / max(self.snapshots, 1)
        return tuple(self.steps - round(apart * left) for left in reversed(range(self.snapshots)))

    def replace(self, **changes):
        """Return a copy in which fields are changed.

        A value takes the place of the whole field. A part of a field is named with dots:
        `replace(steps=100, **{"backbone_options.depth": 4, "heads.0.config.scale": 20.0})`.

        Args:
            **changes: New values by name.

        Raises:
            ValueError: If a name is not known, with those that are, or a value does not fit.
        """
        return self.from_fields(_components.changed(self.to_fields(), changes))

    def build(self, num_classes):
        """Build backbone and heads, with their weights.

        Args:
            num_classes: Number of identities.

        Returns:
            An `EmbeddingModel` that is not compiled. It takes preprocessed images, as `data` gives them.

        Raises:
            ValueError: If the network cannot be built so.
        """
        _validation.integer("num_classes", num_classes, 2)
        shape = self.preprocessing.output_shape
        backbone = build_backbone(self.backbone, shape, self.embedding_dim, self.dropout, self.backbone_options)
        if scales_pixels(backbone) and self.preprocessing.scales_pixels:
            raise ValueError(
                f"`preprocessing` must have scale 1 and offset 0 for {self.backbone}, which scales pixels itself. "
                f"Received: scale={self.preprocessing.scale}, offset={self.preprocessing.offset}; scaled twice"
            )
        heads = head_layers(self.heads, num_classes)
        model = EmbeddingModel(backbone, heads, head_weights=self.head_weights, name=self.name)
        model.build((None, *shape))
        return model

    def learning_rate_schedule(self):
        """Return the learning rate as a Keras schedule, or as a number if it does not change."""
        return multistep(self.learning_rate, self.milestones, self.learning_rate_factor)

    def optimizer(self):
        """Return the `CoupledSGD` of this recipe."""
        return CoupledSGD(
            self.learning_rate_schedule(),
            momentum=self.momentum,
            coupled_weight_decay=self.weight_decay,
            multipliers=self.multipliers,
        )

    def compile(self, model, jit_compile="auto", **options):
        """Compile a model with the optimizer of this recipe.

        Args:
            model: From `build`, or an `EmbeddingModel` of your own.
            jit_compile: Whether XLA compiles, as in `keras.Model.compile`.
            **options: Other arguments of `compile`.

        Returns:
            The model.
        """
        model.compile(self.optimizer(), jit_compile=jit_compile, **options)
        return model

    def build_compiled(self, num_classes, jit_compile="auto", **options):
        """`build`, then `compile`; under a strategy, call it in its scope.

        Args:
            num_classes: Number of identities.
            jit_compile: As in `compile`.
            **options: Other arguments of `keras.Model.compile`.

        Returns:
            A compiled `EmbeddingModel`.
        """
        return self.compile(self.build(num_classes), jit_compile, **options)

    def data(self, reader, seed=0, **options):
        """Return the training batches.

        Args:
            reader: A `Reader`, opened with `exclude=recipe.excluded_identities` if there are any.
            seed: Of order and augmentation.
            **options: Other arguments of `ImageBatches`, such as `resize=True`.

        Returns:
            `ImageBatches`.

        Raises:
            ValueError: If the reader brings another preprocessing, naming the difference.
        """
        given = {"augmentation": self.augmentation, **options}
        return ImageBatches(reader, self.batch_size, self.preprocessing, seed, **given)

    def epochs(self, data):
        """Return how many epochs hold `steps` steps; the last one may be cut short.

        Args:
            data: From `data`, or anything with `steps_per_epoch`.
        """
        return math.ceil(self.steps / data.steps_per_epoch)

    def describe(self):
        """Return rows of `field`, `value`, `source` and `certainty`, for every number; `recipes.table` prints them."""
        return _registry.rows(self.to_fields(), _registry.get(self.name).to_fields(), self.sources)

    def to_fields(self):
        """Return all fields but the name as a dictionary that JSON can hold."""
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return _components.jsonable({name: value for name, value in fields.items() if name != "name"})

    def from_fields(self, fields):
        """Return a recipe of the same kind and name with other fields.

        Args:
            fields: Dictionary as `to_fields` returns it, all keys there.

        Raises:
            ValueError: If a key is missing or not known, or a value does not fit.
        """
        return _registry.made(type(self), self.name, fields)

    def save(self, directory):
        """Write `recipe.json` into a directory, which is created if needed.

        Args:
            directory: Such as that of the checkpoints.

        Returns:
            The path of the file.

        Raises:
            ValueError: If it could not be read back: no recipe of this name and class is registered.
        """
        if self.name not in _registry.all_names() or _registry.known(self.name)[0] is not type(self):
            raise ValueError(
                "a recipe that is saved must be of a registered class, under its name; see `recipes.experiment`. "
                f"Received: a {type(self).__name__} called {self.name!r}"
            )
        return _registry.write(directory, self.name, self.to_fields())

    @staticmethod
    def load(directory):
        """Read the recipe that `save` wrote.

        Args:
            directory: The directory.

        Returns:
            A `Recipe` of the class that was saved.

        Raises:
            FileNotFoundError: If there is no `recipe.json`.
            ValueError: If it is not what `save` writes, or of another version of this format.
        """
        return _registry.load(directory)
