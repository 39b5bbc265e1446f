"""The papers' formulas in float64 NumPy, with plain loops, written apart from the package."""

import numpy as np

EPSILON = 1e-12


def unit(x):
    """Rows on the sphere."""
    x = np.asarray(x, dtype="float64")
    return np.stack([row / np.sqrt(np.dot(row, row) + EPSILON) for row in x])


def cosine_matrix(x, agents, normalize_inputs=True, normalize_agents=True):
    """Inner products, row by row."""
    x = unit(x) if normalize_inputs else np.asarray(x, dtype="float64")
    agents = unit(agents) if normalize_agents else np.asarray(agents, dtype="float64")
    return np.array([[float(np.dot(a, b)) for b in agents] for a in x])


def softmax_losses(logits, ids, label_smoothing=0.0):
    """Cross-entropy with the probabilities written out."""
    losses = []
    for row, label in zip(np.asarray(logits, dtype="float64"), ids, strict=True):
        shifted = row - row.max()
        log_probability = shifted - np.log(np.exp(shifted).sum())
        target = np.full(len(row), label_smoothing / len(row))
        target[label] += 1 - label_smoothing
        losses.append(-np.dot(target, log_probability))
    return np.array(losses)


def agent_contrastive_losses(
    cosines, ids, m_pos=0.0, m_neg=1.0, w_pos=1.0, w_neg=1.0, cap=4.0, hardest=False, exponential=False
):
    """NormFace Eq. 10."""
    losses = []
    for row, label in zip(np.asarray(cosines, dtype="float64"), ids, strict=True):
        pushes = [0.0]
        for j, cosine in enumerate(row):
            d = 2 - 2 * cosine
            if j == label:
                pull = min(cap, max(0.0, d - m_pos))
            elif d < m_neg:
                pushes.append(np.exp(-d) if exponential else m_neg - d)
        losses.append(w_pos * pull + w_neg * (max(pushes) if hardest else sum(pushes)))
    return np.array(losses)


def agent_triplet_losses(cosines, ids, margin=0.8, hardest=False, pull=False):
    """NormFace Eq. 11."""
    losses = []
    for row, label in zip(np.asarray(cosines, dtype="float64"), ids, strict=True):
        own = 2 - 2 * row[label]
        hinges = [max(0.0, margin + own - (2 - 2 * c)) for j, c in enumerate(row) if j != label]
        hinge = (max(hinges) if hardest else sum(hinges)) if hinges else 0.0
        losses.append(hinge + (own if pull else 0.0))
    return np.array(losses)


def psi(name, theta, m, m2=0.0, m3=0.0):
    """The target column of SphereFace-R's table, of one angle."""
    if name == "additive_cosine":
        return np.cos(theta) - m
    if name == "additive_angular":
        return np.cos(min(np.pi, theta + m))
    if name == "linear_tail":
        return np.cos(theta + m) if theta + m <= np.pi else np.cos(theta) - m * np.sin(m)
    if name == "v0":
        k = np.floor(m * theta / np.pi)
        return (-1) ** k * np.cos(m * theta) - 2 * k
    if name == "v1":
        return np.cos(min(m * theta, np.pi))
    if name == "combined":
        return np.cos(min(np.pi, m * theta + m2)) - m3
    return np.cos(theta)


def eta(name, theta, m):
    """The non-target column of SphereFace-R's table, of one angle."""
    return np.cos(theta / m) if name == "v2" else np.cos(theta)


def margin_matrix(name, cosines, ids, reach=1.0, **numbers):
    """ψ at the own class, η at the others; `reach` is how near to ±1 a cosine may come."""
    cosines = np.asarray(cosines, dtype="float64")
    matrix = np.zeros_like(cosines)
    for i, row in enumerate(cosines):
        for j, cosine in enumerate(row):
            theta = np.arccos(min(reach, max(-reach, cosine)))
            own = j == ids[i]
            matrix[i, j] = psi(name, theta, **numbers) if own else eta(name, theta, numbers.get("m"))
    return matrix


def cosine_distillation_losses(teacher, pupil):
    """One minus the cosine, row by row."""
    return np.array([1 - float(np.dot(t, x)) for t, x in zip(unit(teacher), unit(pupil), strict=True)])


def relational_distillation_losses(teacher, pupil):
    """For each row the mean squared difference of its cosines to the other rows, pupil against teacher."""
    ours, theirs = cosine_matrix(pupil, pupil), cosine_matrix(teacher, teacher)
    losses = []
    for i in range(len(ours)):
        squares = [(ours[i, j] - theirs[i, j]) ** 2 for j in range(len(ours)) if j != i]
        losses.append(sum(squares) / len(squares) if squares else 0.0)
    return np.array(losses)
