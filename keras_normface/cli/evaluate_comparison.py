"""A second model on the same protocol."""

from keras_normface.cli.evaluate_distractors import distractor_features
from keras_normface.cli.evaluate_features import open_features
from keras_normface.cli.evaluate_figures import figures
from keras_normface.evaluation.compare import compare_results


def compared(request, opened, result, name):
    """Evaluate the second model and compare it with the first, on the same draws of subjects.

    Args:
        request: A `Request`.
        opened: An `OpenedProtocol`.
        result: The `Result` of the first model.
        name: Name of the first model.

    Returns:
        A `Comparison`.

    Raises:
        ValueError: If the second model's features do not fit the protocol.
        OSError: If something cannot be read.
    """
    second = open_features(request.compare, request)
    rows = second.of(opened.protocol.images, opened.images)
    distractors = None
    if request.family == "megaface":
        distractors = distractor_features(request, opened.protocol, second)
    other = figures(request, opened.protocol, rows, second.settings, distractors)
    return compare_results(result, other, (name, second.name))
