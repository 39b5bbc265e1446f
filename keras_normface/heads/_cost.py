"""What a head costs in training: bytes and operations, by arithmetic."""

from typing import NamedTuple

ARRAYS = {
    (False, False): (1.0, 3.0),
    (False, True): (1.0, 3.0),
    ("buffer", False): (0.0, 2.25),
    ("buffer", True): (0.0, 2.5),
    ("stream", False): (0.0, 0.0),
    ("stream", True): (0.0, 0.0),
}
"""By mode and whether XLA compiles the step: how many arrays `classes × dim` and `batch × classes` there are at the
peak of forward and backward pass, beside agents and their gradient. Fitted to peaks of TensorFlow 2.21 on a CPU that
gives memory back (TF_ONEDNN_USE_SYSTEM_ALLOCATOR=1)."""

UPDATE_ARRAYS = 1.0
"""Arrays `classes × dim` that SGD with momentum adds to the peak where XLA does not compile it; measured as well."""

PROGRAM = 2**26
"""Bytes of a traced and compiled step itself."""

BLOCK, BLOCK_ARRAYS = 8192, 4
"""Classes of a streamed block, and how many arrays `batch × block` there are; one of `block × dim` too."""


class HeadCost(NamedTuple):
    """Bytes that a head holds on one device, and operations of a step; `str` makes a table of it.

    Attributes:
        mode: `False` (plain), `"buffer"` or `"stream"`.
        agents: Bytes of the agents.
        gradients: Bytes of their gradient.
        optimizer: Bytes of the optimizer's slots.
        activations: Bytes of all else at the peak of forward and backward pass.
        update: Bytes that the optimizer adds to the peak.
        program: Bytes of the traced and compiled step itself.
        total: Sum of these: the peak of a training step.
        flops: Floating-point operations of the matrix products of forward and backward pass.
    """

    mode: object
    agents: int
    gradients: int
    optimizer: int
    activations: int
    update: int
    program: int
    total: int
    flops: int

    def __str__(self):
        """Return a table, a line each."""
        names = ("agents", "gradients", "optimizer", "activations", "update", "program", "total")
        lines = [f"{name:<12}{readable(getattr(self, name)):>12}" for name in names]
        lines += [f"{'operations':<12}{self.flops / 1e9:>8.1f} GFLOP a step"]
        return "\n".join([f"{'mode':<12}{self.mode or 'plain':>12}", *lines])


def readable(size):
    """Return bytes in MiB, or in GiB from one on.

    Example:
    >>> readable(3 * 2**29), readable(2**20)
    ('1.50 GiB', '1.0 MiB')
    """
    return f"{size / 2**30:.2f} GiB" if size >= 2**30 else f"{size / 2**20:.1f} MiB"


def head_cost(classes, dim, batch_size, mode, *, optimizer_slots=1, jit_compile=True, itemsize=4):
    """Estimate what a head on `classes` agents costs.

    Args:
        classes: Agents on the device.
        dim: Of the embeddings.
        batch_size: Samples of a batch on the device.
        mode: `False` (plain), `"buffer"` or `"stream"`.
        optimizer_slots: Arrays of the agents' shape that the optimizer keeps: SGD 0, with momentum 1, Adam 2.
        jit_compile: Whether XLA compiles the whole step.
        itemsize: Bytes of a number.

    Returns:
        `HeadCost`.

    Raises:
        ValueError: If an argument is out of its range.

    Example:
    >>> cost = head_cost(1_000_000, 512, 256, "stream")
    >>> cost.agents, cost.flops  # 4·C·D bytes, 8·B·C·D operations
    (2048000000, 1048576000000)
    """
    numbers = {"classes": classes, "dim": dim, "batch_size": batch_size, "optimizer_slots": optimizer_slots}
    for name, number in numbers.items():
        least = 0 if name == "optimizer_slots" else 1
        if not isinstance(number, int) or isinstance(number, bool) or number < least:
            raise ValueError(f"`{name}` must be an integer of at least {least}. Received: {name}={number!r}")
    if (mode, bool(jit_compile)) not in ARRAYS:
        raise ValueError(f'`mode` must be False, "buffer" or "stream". Received: mode={mode!r}')
    agents, products = itemsize * classes * dim, itemsize * batch_size * classes
    of_agents, of_products = ARRAYS[mode, bool(jit_compile)]
    activations = of_agents * agents + of_products * products + 3 * itemsize * batch_size * dim
    if mode == "stream":
        activations += itemsize * min(BLOCK, classes) * (BLOCK_ARRAYS * batch_size + dim)
    update = 0 if jit_compile else round(UPDATE_ARRAYS * agents)
    parts = agents, agents, optimizer_slots * agents, round(activations), update, PROGRAM
    flops = (8 if mode == "stream" else 6) * batch_size * classes * dim
    return HeadCost(mode, *parts, sum(parts), flops)


def cost_of_sample(whole, classes, drawn, batch_size, jit_compile=True):
    """Estimate what a step on a sample of the agents costs: gathered rows and their velocities come on top.

    Args:
        whole: `HeadCost` of a step on all agents, float32 or float64, in the sample's mode.
        classes: Number of all agents.
        drawn: Agents in the sample.
        batch_size: Samples of a batch.
        jit_compile: Whether XLA compiles forward and backward pass.

    Returns:
        `HeadCost`; its optimizer is one velocity for each agent.

    Example:
    >>> cost = cost_of_sample(head_cost(1000, 8, 4, False), 1000, 100, 4)
    >>> cost.agents, cost.gradients, cost.optimizer, cost.flops
    (32000, 3200, 32000, 19200)
    """
    dim = whole.flops // ((8 if whole.mode == "stream" else 6) * batch_size * classes)
    itemsize = whole.agents // (classes * dim)
    step = head_cost(drawn, dim, batch_size, whole.mode, jit_compile=jit_compile, itemsize=itemsize)
    # The rows that were read; then their velocities, and both anew.
    parts = whole.agents, step.gradients, whole.agents, step.activations + step.agents, 3 * step.agents, PROGRAM
    return HeadCost(whole.mode, *parts, sum(parts), step.flops)
