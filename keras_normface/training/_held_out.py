"""People who are held out of training say which weights are best, and when to stop."""

import dataclasses
import os
from pathlib import Path

import numpy as np

from keras_normface import _validation
from keras_normface._io import JsonFormat
from keras_normface.distribute import is_chief, same_everywhere
from keras_normface.metrics.verification import equal_error_rate, pair_scores
from keras_normface.training import _checkpoint
from keras_normface.training._callbacks import AtSteps
from keras_normface.training._pair_evaluation import PairImages

FILE = JsonFormat("keras_normface.held_out", 1)
RECORD, SNAPSHOT = "held_out.json", "best.snapshot"


@dataclasses.dataclass(frozen=True)
class HeldOutResult:
    """How well people who are held out are told apart after a step, by all pairs of their images.

    Attributes:
        step: Training steps before it; 0 for the weights that training began with.
        eer: Equal error rate.

    Example:
    >>> HeldOutResult(20, 0.01).eer
    0.01
    """

    step: int
    eer: float


class BestWeights(AtSteps):
    """Look at people who are held out of training, keep the weights that tell them apart best, stop in time.

    All pairs of their images are scored by the cosine, before the first step and after every `every_steps`. Training
    ends when `patience` looks in a row have brought nothing better; `restore` then gives the model the best weights,
    those that it began with included: of equal ones the first, so that people who are told apart without an error
    before any step leave a network as it is. What has been seen is on the disk, and a resumed training knows it. Never
    give it the people that a result is then reported on: the weights are chosen on them.

    Adds `val_held_out_eer`, the equal error rate, to the logs.

    Args:
        images: Encoded images (bytes) of people who are not trained on, or an array `(N, height, width, channels)`.
        labels: `(N,)` integers: who is on each. There must be a genuine and an impostor pair.
        directory: For `held_out.json` and `best.snapshot`; made if it does not exist.
        every_steps: Steps between two looks.
        patience: After how many looks without a better one training ends.
        preprocessing: See `PairEvaluation`.
        flip: See `PairEvaluation`.
        center_crop: See `PairEvaluation`.
        batch_size: See `PairEvaluation`.

    Attributes:
        results: List of `HeldOutResult`, in order, those of an earlier call included.
        best: The best of them, `None` before the first.

    Raises:
        ValueError: If an argument does not fit, or `held_out.json` is not one.

    Source: early stopping is old; that the weights at the start count as well is ours.

    Example:
    >>> import keras, tempfile
    >>> from keras_normface.heads import MarginSoftmaxHead
    >>> from keras_normface.models import EmbeddingModel
    >>> x, people = np.random.default_rng(0).normal(size=(12, 2, 2, 3)).astype("float32"), np.arange(12) % 3
    >>> net = keras.Sequential([keras.Input((2, 2, 3)), keras.layers.Flatten(), keras.layers.Dense(4)])
    >>> model = EmbeddingModel(net, MarginSoftmaxHead(3))
    >>> model.compile("sgd")
    >>> best = BestWeights(x, people, tempfile.mkdtemp(), every_steps=2, patience=1)
    >>> history = model.fit(x, people, batch_size=2, verbose=0, callbacks=[best])
    >>> best.restore(model) == min(best.results, key=lambda result: result.eer)
    True
    """

    def __init__(
        self, images, labels, directory, *, every_steps, patience, preprocessing=None, flip="sum", center_crop=False,
        batch_size=128,
    ):  # fmt: skip
        super().__init__()
        self.every_steps = _validation.integer("every_steps", every_steps, 1)
        self.patience = _validation.integer("patience", patience, 1)
        self.images = PairImages(images, preprocessing, center_crop, flip, batch_size)
        self.labels = np.asarray(labels)
        if self.labels.shape != (len(self.images),) or self.labels.dtype.kind not in "iu":
            raise ValueError(
                f"`labels` must be {len(self.images)} integers, one an image. "
                f"Received: {self.labels.dtype} of shape {self.labels.shape}"
            )
        counts = np.unique(self.labels, return_counts=True)[1]
        if len(counts) < 2 or counts.max() < 2:
            raise ValueError(
                "`labels` must make a genuine and an impostor pair. "
                f"Received: {len(counts)} people, at most {counts.max()} images of one"
            )
        self.directory, self._begun = Path(directory), False
        self.directory.mkdir(parents=True, exist_ok=True)
        self.results = self._recorded()
        self.monitor_modes = {"held_out_eer": "min"}

    @property
    def best(self):
        """The best `HeldOutResult`, `None` before the first look."""
        return min(self.results, key=lambda result: result.eer, default=None)

    def on_train_batch_begin(self, batch, logs=None):
        """Note the position; look at the weights that training begins with."""
        super().on_train_batch_begin(batch, logs)
        if not self._begun:
            self._begun = True
            self.results = [result for result in self.results if result.step <= self.now] if self.now else []
            if not self.results:
                self._look(self.now)

    def is_due(self, before, now):
        """Whether a multiple of `every_steps` was passed."""
        return now // self.every_steps > before // self.every_steps

    def act(self, before, now, logs):
        """Look, and stop if it has been in vain for too long."""
        self._look(now)
        logs["val_held_out_eer"] = self.results[-1].eer
        since = len(self.results) - 1 - self.results.index(self.best)
        if since >= self.patience:
            self.model.stop_training = True

    def evaluate(self, model):
        """Score all pairs of the held-out people's images.

        Args:
            model: A `keras.Model` from images to embeddings.

        Returns:
            Pair of cosines `(P,)` and bool `(P,)`, whether a pair shows the same person.
        """
        return pair_scores(self.images.embeddings(model), self.labels)

    def restore(self, model):
        """Give a model the best weights.

        Args:
            model: That which was trained, or one of the same structure.

        Returns:
            The `HeldOutResult` of these weights.

        Raises:
            FileNotFoundError: If there was no look.
            ValueError: If the file is corrupt, or of another model.
        """
        header, arrays = _checkpoint.read_checkpoint(self.directory / SNAPSHOT)
        _checkpoint.restore_state(model, ("model",), header["entries"], arrays)
        return _result(header.get("result"))

    def _look(self, step):
        result = HeldOutResult(step, equal_error_rate(*self.evaluate(self.model)))
        better = self.best is None or result.eer < self.best.eer
        self.results.append(result)
        strategy = self.model.distribute_strategy
        if is_chief(strategy):
            if better:  # first the weights: a record without them would be believed
                entries, arrays = _checkpoint.read_state(self.model, ("model",))
                header = {"entries": entries, "result": dataclasses.asdict(result)}
                _checkpoint.write_checkpoint(self.directory / SNAPSHOT, header, arrays)
            results = [dataclasses.asdict(result) for result in self.results]
            FILE.write(self.directory / RECORD, {"results": results})
        same_everywhere(strategy, [step])  # no worker goes on before the files are there

    def _recorded(self):
        path = self.directory / RECORD
        if not os.path.exists(path):
            return []
        results = FILE.read(path).get("results")
        try:
            if not isinstance(results, list):
                raise ValueError(f"`results` must be a list. {_validation.received('results', results)}")
            return [_result(result) for result in results]
        except ValueError as error:
            raise ValueError(f"{path} is not a record of looks: {error}") from error


def _result(fields):
    """What was read → `HeldOutResult`."""
    if not isinstance(fields, dict) or set(fields) != {"step", "eer"}:
        raise ValueError(f"`results` must hold step and eer. {_validation.received('results', fields)}")
    step = _validation.integer("step", fields["step"], 0)
    return HeldOutResult(step, _validation.number("eer", fields["eer"], at_least=0, at_most=1))
