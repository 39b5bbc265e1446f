"""What a head costs in training: bytes and operations, by arithmetic."""

from typing import NamedTuple

from keras_normface._validation import integer

ARRAYS = {
    (False, False): (1.0, 3.0),
    (False, True): (1.0, 3.0),
    ("buffer", False): (0.0, 2.25),
    ("buffer", True): (0.0, 2.5),
    ("stream", False): (0.0, 0.0),
    ("stream", True): (0.0, 0.0),
}
"""By mode and whether XLA compiles the step: how many arrays `classes × dim` and `batch × classes` there are at the
peak of forward and backward pass, beside kernel and gradient. Fitted to peaks of TensorFlow 2.21 on a CPU that
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
        kernel: Bytes of the kernel, the class centres.
        gradients: Bytes of their gradient.
        optimizer: Bytes of the optimizer's slots.
        activations: Bytes of all else at the peak of forward and backward pass.
        update: Bytes that the optimizer adds to the peak.
        program: Bytes of the traced and compiled step itself.
        total: Sum of these: the peak of a training step.
        flops: Floating-point operations of the matrix products of forward and backward pass.
    """

    mode: object
    kernel: int
    gradients: int
    optimizer: int
    activations: int
    update: int
    program: int
    total: int
    flops: int

    def __str__(self):
        """Return a table, a line each."""
        names = ("kernel", "gradients", "optimizer", "activations", "update", "program", "total")
        lines = [f"{name:<12}{readable(getattr(self, name)):>12}" for name in names]
        lines += [f"{'operations':<12}{self.flops / 1e9:>8.1f} GFLOP a step"]
        return "\n".join([f"{'mode':<12}{self.mode or 'plain':>12}", *lines])


def readable(size):
    """Bytes → "1.0 MiB", or "1.50 GiB" from one on."""
    return f"{size / 2**30:.2f} GiB" if size >= 2**30 else f"{size / 2**20:.1f} MiB"


def head_cost(classes, dim, batch_size, mode, *, optimizer_slots=1, jit_compile=True, itemsize=4):
    """Cost of a head on C classes, by arithmetic → `HeadCost`."""
    for name, value in {"classes": classes, "dim": dim, "batch_size": batch_size}.items():
        integer(name, value, 1)
    integer("optimizer_slots", optimizer_slots, 0)
    if (mode, bool(jit_compile)) not in ARRAYS:
        raise ValueError(f'`mode` must be False, "buffer" or "stream". Received: mode={mode!r}')
    kernel, products = itemsize * classes * dim, itemsize * batch_size * classes
    of_kernel, of_products = ARRAYS[mode, bool(jit_compile)]
    activations = of_kernel * kernel + of_products * products + 3 * itemsize * batch_size * dim
    if mode == "stream":
        activations += itemsize * min(BLOCK, classes) * (BLOCK_ARRAYS * batch_size + dim)
    update = 0 if jit_compile else round(UPDATE_ARRAYS * kernel)
    parts = kernel, kernel, optimizer_slots * kernel, round(activations), update, PROGRAM
    flops = (8 if mode == "stream" else 6) * batch_size * classes * dim
    return HeadCost(mode, *parts, sum(parts), flops)


def cost_of_sample(full, classes, drawn, batch_size, jit_compile=True):
    """`HeadCost` of all C classes → that of a step on `drawn` of them: rows and velocities come on top."""
    dim = full.flops // ((8 if full.mode == "stream" else 6) * batch_size * classes)
    itemsize = full.kernel // (classes * dim)
    step = head_cost(drawn, dim, batch_size, full.mode, jit_compile=jit_compile, itemsize=itemsize)
    # The rows that were read; then their velocities, and both anew.
    parts = full.kernel, step.gradients, full.kernel, step.activations + step.kernel, 3 * step.kernel, PROGRAM
    return HeadCost(full.mode, *parts, sum(parts), step.flops)
