"""A second model on the same protocol."""

from keras_normface.cli.evaluate_distractors import distractor_features
from keras_normface.cli.evaluate_features import open_features
from keras_normface.cli.evaluate_figures import figures
from keras_normface.evaluation.compare import compare_pairs
from keras_normface.evaluation.figure import shown


def compared(request, opened, result, first):
    """Evaluate the second model and compare it with the first.

    Pairs are compared by a paired bootstrap. For other protocols only the differences are given.

    Args:
        request: A `Request`.
        opened: An `OpenedProtocol`.
        result: The `Result` of the first model.
        first: Pair of its name and its features.

    Returns:
        Pair of a dictionary for JSON and a text.

    Raises:
        ValueError: If the second model's features do not fit the protocol.
        OSError: If something cannot be read.
    """
    second = open_features(request.compare, request)
    rows = second.of(opened.protocol.images, opened.images)
    if request.family == "pairs" and request.repeats:
        comparison = compare_pairs(
            opened.protocol,
            first[1],
            rows,
            models=(first[0], second.name),
            center=request.center,
            pca=request.pca,
            fars=request.far or None,
            repeats=request.repeats,
            seed=request.seed,
        )
        return comparison.to_dict(), str(comparison)
    distractors = None
    if request.family == "megaface":
        distractors = distractor_features(request, opened.protocol, second)
    other = figures(request, opened.protocol, rows, second.settings, distractors)
    return _differences(result, other, (first[0], second.name))


def _differences(result, other, models):
    pairs = [(figure, other[figure.name]) for figure in result.figures]
    lines = [f"{result.protocol}, {models[0]} against {models[1]}, without intervals of the differences"]
    lines += [
        f"{a.name} {shown(a.value, a.unit)} and {shown(b.value, b.unit)}, difference {100 * (b.value - a.value):+.2f} %"
        for a, b in pairs
    ]
    content = {
        "protocol": result.protocol,
        "models": models,
        "differences": [{"name": a.name, "a": a.value, "b": b.value} for a, b in pairs],
    }
    return content, "\n".join(lines)
