"""Stochastic gradient descent with the weight decay that the papers mean."""

import re

import keras
from keras import ops

from keras_normface import _validation


@keras.saving.register_keras_serializable(package="keras_normface")
class CoupledSGD(keras.optimizers.SGD):
    """SGD whose weight decay goes through the momentum: `g + decay·wd·w` takes the place of the gradient g.

    That is the decay of Caffe and of PyTorch's SGD, and the one in the papers' recipes. Keras's `weight_decay` is
    decoupled: it takes `lr·wd·w` off the weight beside the momentum, which holds weights less.

    The update is `v ← momentum·v − rate·lr·(g + decay·wd·w)`, `w ← w + v`, with the multipliers `rate` and `decay` of
    the variable. As in Caffe, the learning rate is inside v; PyTorch multiplies v by it, so that the two differ for
    some steps after the rate has changed. Clipping acts before the decay is added, as in both. With gradient
    accumulation the decay is added once an update.

    Args:
        learning_rate: A number or a `keras.optimizers.schedules.LearningRateSchedule`.
        momentum: In [0, 1].
        nesterov: Whether the momentum is Nesterov's.
        coupled_weight_decay: wd, a number of at least 0.
        multipliers: Sequence of `(pattern, rate, decay)`: a regular expression that is searched in the path of a
            variable (`"stage1_conv/bias"`), and factors of at least 0 on its learning rate and its decay; Caffe's
            `lr_mult` and `decay_mult`. The first that is found counts, (1, 1) if none is.
        **kwargs: Other arguments of `keras.optimizers.SGD`.

    Raises:
        ValueError: If an argument is out of its range, or Keras's decoupled `weight_decay` is given.

    Source: Caffe's `SGDSolver`, which the authors of NormFace (arXiv 1704.06369) and AM-Softmax (arXiv 1801.05599)
    trained with.

    Example:
    >>> import keras
    >>> optimizer = CoupledSGD(0.5, momentum=0.0, coupled_weight_decay=0.1)
    >>> weight = keras.Variable([2.0])
    >>> optimizer.apply([keras.ops.array([1.0])], [weight])
    >>> round(float(weight[0]), 4)  # 2 − 0.5 · (1 + 0.1 · 2)
    1.4
    """

    def __init__(
        self,
        learning_rate=0.1,
        momentum=0.9,
        *,
        nesterov=False,
        coupled_weight_decay=5e-4,
        multipliers=(),
        **kwargs,
    ):
        if kwargs.get("weight_decay") is not None:
            raise ValueError(
                "`weight_decay` is Keras's decoupled one; use `coupled_weight_decay` here, or "
                f"`keras.optimizers.SGD(weight_decay=...)`. Received: weight_decay={kwargs['weight_decay']!r}"
            )
        coupled_weight_decay = _validation.number("coupled_weight_decay", coupled_weight_decay, at_least=0)
        super().__init__(learning_rate, momentum=float(momentum), nesterov=nesterov, **kwargs)
        self.coupled_weight_decay = coupled_weight_decay
        self.multipliers = _validation.multipliers(multipliers)
        self._table = _Table()

    def build(self, variables):
        """Create the momenta, and look up each variable's multipliers.

        Args:
            variables: List of the model's trainable variables.
        """
        super().build(variables)
        for variable in variables:
            self._table.add(variable, multipliers_of(path_of(variable), self.multipliers))

    def exclude_from_weight_decay(self, var_list=None, var_names=None):
        """Refused: `multipliers` say what is not decayed, and come back with the config.

        Args:
            var_list: Not used.
            var_names: Not used.

        Raises:
            ValueError: Always.
        """
        raise ValueError("give `multipliers` to CoupledSGD, such as [('/bias$', 1.0, 0.0)], for what is not decayed")

    def update_step(self, gradient, variable, learning_rate):
        """Change one variable.

        Args:
            gradient: Tensor of the variable's shape, clipped if clipping is on.
            variable: One that the optimizer was built with.
            learning_rate: Scalar.
        """
        rate, decay = self._table.find(variable)
        if decay * self.coupled_weight_decay:
            gradient = ops.cast(gradient, variable.dtype)
            factor = ops.cast(decay * self.coupled_weight_decay, variable.dtype)
            gradient = ops.add(gradient, ops.multiply(variable, factor))
        super().update_step(gradient, variable, learning_rate * rate if rate != 1 else learning_rate)

    def get_config(self):
        """Return the arguments of the constructor."""
        return {
            **super().get_config(),
            "coupled_weight_decay": self.coupled_weight_decay,
            "multipliers": [list(rule) for rule in self.multipliers],
        }


def multipliers_of(path, multipliers):
    """Return `(rate, decay)` of the first rule whose pattern occurs in `path`, or (1, 1).

    Args:
        path: Path of a variable.
        multipliers: From `_validation.multipliers`.

    Example:
    >>> multipliers_of("stage1_conv/bias", (("/bias$", 2.0, 0.0),))
    (2.0, 0.0)
    """
    return next(((rate, decay) for pattern, rate, decay in multipliers if re.search(pattern, path)), (1.0, 1.0))


def path_of(variable):
    """Return the path of a Keras variable, or the name of another one.

    Args:
        variable: A `keras.Variable`, or a variable of the backend.

    Example:
    >>> path_of(keras.Variable(1.0, name="slope"))
    'slope'
    """
    return getattr(variable, "path", variable.name)


class _Table:
    """Multipliers by variable."""

    # TensorFlow hands `update_step` its own variable, under a strategy that of one replica, and neither knows the path.
    # An object of its own, since Keras would track a dictionary and then could not save it: its keys are not strings.

    def __init__(self):
        self._rows = {}

    def add(self, variable, multipliers):
        native = getattr(variable, "value", variable)
        replicas = getattr(native, "values", ())
        for known in (variable, native, *(() if callable(replicas) else replicas)):
            self._rows[id(known)] = (known, multipliers)

    def find(self, variable):
        return self._rows[id(variable)][1]
