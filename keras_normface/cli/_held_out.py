"""What people who are held out of a fine-tuning say: whether it was worth it, and the threshold of the result."""

import numpy as np

from keras_normface.cli._console import say
from keras_normface.metrics import calibrate_threshold, tar_at_far

FARS = (0.001, 0.01)  # the lowest that the impostor pairs resolve


def summary(best, kept):
    """Looks of a `BestWeights`, and the `HeldOutResult` that was kept → lines for people."""
    begun = best.results[0]
    lines = [f"{len(best.labels):,} images of {len(np.unique(best.labels)):,} people who were held out:"]
    lines += [f"  after {one.step:,} steps: EER {one.eer:.4f}" for one in best.results]
    if kept.step == 0:
        lines.append(
            "No step made it better on them: the network is kept as it was. More people, or harder photos, would show "
            "more; --held-out 0 trains all steps whatever they bring"
        )
    else:
        lines.append(
            f"Kept: step {kept.step:,}, EER {kept.eer:.4f} ({begun.eer:.4f} before). They have chosen it, so "
            "this figure is too good: report one of other people"
        )
    return "\n".join(lines)


def threshold(best, model):
    """The `CalibratedThreshold` on all pairs of the people held out, or `None` where they are too few."""
    scores, same = best.evaluate(model)
    impostors = int((~same).sum())
    far = next((far for far in FARS if far * impostors >= 1), None)
    if far is None:
        say(
            f"No threshold is stored: {impostors:,} impostor pairs do not resolve a false accept rate of {FARS[-1]:.0%}"
        )
        return None
    left, right = np.triu_indices(len(best.labels), 1)
    people = len(np.unique(best.labels))
    calibrated = calibrate_threshold(
        scores,
        same,
        far,
        left_subjects=best.labels[left],
        right_subjects=best.labels[right],
        protocol=f"{people} people held out of fine-tuning, who chose its step, all pairs of {len(best.labels)} images",
    )
    say(f"{tar_at_far(scores, same, far)}\nThreshold of the exported model: {calibrated}")
    return calibrated
