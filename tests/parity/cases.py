"""The inputs and options that both lanes share: NumPy only, to run beside addons and beside Keras 3."""

import numpy as np

METRICS = ("L2", "squared-L2", "angular")
IDS = {
    "mixed": np.array([3, 5, 3, 7, 5, 3, 9, 7, 5, 7, 3, 5]),
    "one class": np.zeros(12, dtype="int64"),
    "all distinct": np.arange(12),
    "duplicates": np.array([3, 3, 3, 5, 5, 5, 7, 7, 7, 9, 9, 9]),
    "many": np.arange(96) % 11,
}
DUPLICATES = {4: 3, 7: 6, 1: 0}
"""In the case "duplicates", the rows that copy another one, and which."""


def embeddings(kind, seed):
    """Multiples of 1/64, whose squared distances are exact in float32: ties are ties in both lanes."""
    x = np.random.default_rng(seed).normal(size=(len(IDS[kind]), 6))
    x = np.clip(np.round(x * 64) / 64, -3, 3).astype("float32")
    if kind == "duplicates":
        for copy, original in DUPLICATES.items():
            x[copy] = x[original]
    return x


def loss_cases():
    """Each `(class name, constructor arguments)` on embeddings."""
    for metric in METRICS:
        for margin in (0.2, 1.0):
            yield "TripletSemiHardLoss", {"margin": margin, "distance_metric": metric}
            yield "TripletHardLoss", {"margin": margin, "distance_metric": metric}
        yield "TripletHardLoss", {"soft": True, "distance_metric": metric}
    yield "LiftedStructLoss", {}
    yield "LiftedStructLoss", {"margin": 0.3}


def all_cases():
    """Each `(key, class name, arguments, y_true, y_pred)`; y_pred is float32 or float16."""
    for number, (name, options) in enumerate(loss_cases()):
        for kind, ids in IDS.items():
            for dtype in ("float32", "float16"):
                x = embeddings(kind, number).astype(dtype)
                yield f"{name}/{number}/{kind}/{dtype}", name, options, ids, x
    rng = np.random.default_rng(0)
    for kind in ("mixed", "one class", "all distinct", "many"):
        ids = IDS[kind]
        similarities = (3 * rng.normal(size=(len(ids), len(ids)))).astype("float32")
        yield f"NpairsLoss/{kind}", "NpairsLoss", {}, ids, similarities
        rows = rng.integers(0, 2, size=(len(ids), 7))
        rows[:, 0] |= rows.sum(axis=1) == 0
        yield f"NpairsMultilabelLoss/{kind}", "NpairsMultilabelLoss", {}, rows, similarities
        unlabelled = rows.copy()
        unlabelled[1] = 0
        yield f"NpairsMultilabelLoss/{kind}/unlabelled", "NpairsMultilabelLoss", {}, unlabelled, similarities
    for margin in (0.5, 1.0, 2.0):
        pairs, distances = rng.integers(0, 2, size=64), rng.uniform(0, 3, size=64).astype("float32")
        yield f"ContrastiveLoss/{margin}", "ContrastiveLoss", {"margin": margin}, pairs, distances
