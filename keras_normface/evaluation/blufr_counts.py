"""How many impostors BLUFR's trials have, which says what rates they resolve."""

from __future__ import annotations

import numpy as np

from keras_normface.evaluation.all_pairs import num_impostor_pairs
from keras_normface.evaluation.blufr import BlufrProtocol


def num_impostors(protocol: BlufrProtocol) -> tuple[list[int], list[int]]:
    """Impostor pairs of each trial's test set, and each trial's impostor probes.

    Args:
        protocol: a `BlufrProtocol`.

    Returns:
        Two lists, a number for each trial.

    Raises:
        ValueError: a trial lacks pairs or probes of a kind.

    Example:
        >>> from keras_normface.evaluation.blufr import BlufrTrial
        >>> trial = BlufrTrial(train=[0], test=[1, 2, 3], gallery=[1], probes=[2, 3])
        >>> num_impostors(BlufrProtocol("toy", ("a", "b", "c", "d"), [0, 1, 1, 2], (trial, trial)))
        ([2, 2], [1, 1])
    """
    pairs, probes = [], []
    for number, trial in enumerate(protocol.trials):
        subjects = protocol.subjects[trial.test]
        strangers = ~np.isin(protocol.subjects[trial.probes], protocol.subjects[trial.gallery])
        pairs.append(num_impostor_pairs(subjects))
        probes.append(int(np.count_nonzero(strangers)))
        counts = {
            "genuine pairs": subjects.size * (subjects.size - 1) // 2 - pairs[-1],
            "impostor pairs": pairs[-1],
            "genuine probes": strangers.size - probes[-1],
            "impostor probes": probes[-1],
        }
        missing = [name for name, count in counts.items() if not count]
        if missing:
            raise ValueError(
                f"trials must have pairs and probes of both kinds. Received: trials[{number}] without {missing[0]}"
            )
    return pairs, probes
