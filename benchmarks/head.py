"""Forward and backward of the margin softmax head: plain keras.ops, plain under XLA, fused, and PyTorch.

`--head` takes an agent-based head in its place, in float32 and without PyTorch.
Every line is a process of its own; rounds are taken in turns, so that other jobs on the machine disturb all lines
alike. "extra MiB" is the peak beyond embeddings, kernel and their gradients, from one more process in which TensorFlow
gives memory back to the system (TF_ONEDNN_USE_SYSTEM_ALLOCATOR); times are taken without that. "of peak" is the rate,
at 6·B·C·D operations a step, as a share of the rate of a matrix product measured in the same processes; streaming is
also shown at its own 8·B·C·D. "to plain" is the time over that of the faster plain head. PyTorch is measured where it
is installed.

`--margins` compares the heads of all margins with NormFace's instead: whole heads in training, what they keep included,
in one process a form, in which they take turns step by step. The time is that of the processor over all threads, which
other jobs on the machine hardly change; the median ratio to NormFace's counts.

Examples:
    python benchmarks/head.py --classes 98304 --batch 128
    python benchmarks/head.py --classes 10572 98304 --precision float32 --steps 5 --rounds 3
    python benchmarks/head.py --head triplet --classes 98304 --batch 256
    python benchmarks/head.py --margins --classes 98304 --batch 128 --steps 11
"""

import argparse
import ctypes
import gc
import importlib.util
import json
import os
import statistics
import time

import numpy as np
from child_process import run_child

CLASSES, BATCHES, DIM = (10_572, 98_304, 1_048_576), (128, 512), 512
PRECISIONS = ("float32", "bfloat16")
SCALE, MARGIN, WARM_UP_STEPS, WARM_UP_CLASSES = 30.0, 0.35, 2, 8192
LINES = ("plain", "plain, XLA", "buffer", "buffer, XLA", "stream", "stream, XLA", "PyTorch", "PyTorch CosFaceLoss")
PLAIN = LINES[:2]
MARGINS = {
    "NormFace": ("NoMargin", {}),
    "AM-Softmax": ("AdditiveCosine", {}),
    "ArcFace": ("AdditiveAngular", {}),
    "SphereFace-R v1": ("MultiplicativeAngular", {"variant": "v1"}),
    "SphereFace-R v2": ("MultiplicativeAngular", {"variant": "v2"}),
    "AdaFace": ("AdaFace", {}),
    "MagFace": ("MagFace", {}),
    "ElasticFace": ("ElasticFace", {}),
    "ElasticFace+": ("ElasticFace", {"by_rank": True}),
    "CurricularFace": ("CurricularFace", {}),
    "MV-Softmax": ("MVSoftmax", {}),
    "inter-class filter": ("InterClassFilter", {}),
    "t-vMF": ("TVMF", {}),
    "Circle": ("Circle", {}),
}
HEADS = {
    "margin-softmax": {},
    "contrastive": {},
    "contrastive-hardest": {"hardest_negative_only": True},
    "triplet": {},
    "triplet-hardest": {"hardest_negative_only": True},
}


def arrays(classes, batch, seed=0):
    """Embeddings, kernel and class ids."""
    rng = np.random.default_rng(seed)
    kernel = rng.standard_normal((classes, DIM), dtype="float32")
    return rng.standard_normal((batch, DIM), dtype="float32"), kernel, rng.integers(0, classes, batch).astype("int32")


def agent_losses(head, kind):
    """Function of embeddings, kernel and ids to the losses of an agent-based head."""
    from keras_normface import AgentContrastiveLoss, AgentTripletLoss
    from keras_normface import sphere as sphere
    from keras_normface.fused import fused_agent_contrastive, fused_agent_triplet

    contrastive = head.startswith("contrastive")
    if kind == "plain":
        loss = (AgentContrastiveLoss if contrastive else AgentTripletLoss)(reduction=None, **HEADS[head])
        return lambda x, kernel, ids: loss.loss_of_ids(ids, sphere.cosines(x, kernel))
    fused = fused_agent_contrastive if contrastive else fused_agent_triplet
    return lambda x, kernel, ids: fused(x, kernel, ids, mode=kind, **HEADS[head]).loss


def softmax_losses(kind, half):
    """Function of embeddings, kernel and ids to the losses of the margin softmax."""
    import tensorflow as tf

    from keras_normface import sphere as sphere
    from keras_normface.fused import fused_margin_softmax
    from keras_normface.losses import margin_cosines, softmax_loss
    from keras_normface.margins import AdditiveCosine

    margin = AdditiveCosine(MARGIN)

    def losses(x, kernel, ids):
        if kind != "plain":
            return fused_margin_softmax(x, kernel, ids, margin, SCALE, mode=kind, half_gradients=half).loss
        if half:
            x, kernel = tf.cast(x, "bfloat16"), tf.cast(kernel, "bfloat16")
        cosines = tf.cast(sphere.cosines(x, kernel), "float32")
        return softmax_loss(SCALE * margin_cosines(cosines, ids, margin), ids)

    return losses


def keras_step(name, half, head):
    """Loss and gradients by embeddings and kernel, as one function on arrays; and how tensors are made."""
    import tensorflow as tf

    kind, _, xla = name.partition(", ")
    losses = softmax_losses(kind, half) if head == "margin-softmax" else agent_losses(head, kind)

    @tf.function(jit_compile=bool(xla), autograph=False)
    def step(x, kernel, ids):
        with tf.GradientTape() as tape:
            tape.watch([x, kernel])
            loss = tf.reduce_mean(losses(x, kernel, ids))
        return loss, *tape.gradient(loss, [x, kernel])

    return lambda *tensors: [tensor.numpy() for tensor in step(*tensors)[:1]], tf.constant


def margin_step(name, line, classes):
    """Loss and gradients of a margin's head in training, as one function on tensors."""
    import keras
    import tensorflow as tf

    from keras_normface import MarginSoftmaxHead, margins

    kind, _, xla = line.partition(", ")
    margin_class, options = MARGINS[name]
    margin = getattr(margins, margin_class)(**options)
    form = False if kind == "plain" else kind
    head = MarginSoftmaxHead(classes, margin, scale=64.0, fused=form, kernel_initializer="zeros")
    head.build((None, DIM))

    @tf.function(jit_compile=bool(xla), autograph=False)
    def step(x, kernel, ids):
        with tf.GradientTape() as tape, keras.StatelessScope(state_mapping=[(head.kernel, kernel)]):
            tape.watch([x, kernel])
            loss = tf.reduce_mean(head.statistics(ids, x, training=True).loss)
        return loss, *tape.gradient(loss, [x, kernel])

    return lambda *tensors: step(*tensors)[0].numpy()


def measure_margins(options):
    """Seconds of each margin's steps, which take turns in this process."""
    import tensorflow as tf

    tensors = [tf.constant(array) for array in arrays(options["classes"], options["batch"])]
    steps = {name: margin_step(name, options["line"], options["classes"]) for name in options["margins"]}
    seconds = {name: [] for name in steps}
    for _ in range(options["steps"] + WARM_UP_STEPS):
        for name, step in steps.items():
            begun = time.process_time()
            step(*tensors)
            seconds[name].append(time.process_time() - begun)
    return {name: times[WARM_UP_STEPS:] for name, times in seconds.items()}


def print_margins(classes, batch, arguments):
    """Measure the margins in each form, and print the table of ratios to NormFace's time."""
    lines = [line for line in arguments.lines if not line.startswith("PyTorch")]
    columns = {}
    for line in lines:
        options = {"line": line, "classes": classes, "batch": batch, "steps": arguments.steps}
        columns[line] = run_child(__file__, {**options, "margins": list(MARGINS)})
    print(f"\n{classes} classes, batch {batch}, float32, load {os.getloadavg()[0]:.1f}\n")
    print(f"| margin | {' | '.join(lines)} |\n|---|{'--:|' * len(lines)}")
    for name in MARGINS:
        cells = []
        for seconds in columns.values():
            ratio = statistics.median(a / b for a, b in zip(seconds[name], seconds["NormFace"], strict=True))
            first = f"{statistics.median(seconds[name]) * 1e3:.0f} ms"
            cells.append(first if name == "NormFace" else f"{ratio:.2f}")
        print(f"| {name} | {' | '.join(cells)} |")


def torch_step(name, half, _head):
    """The same in PyTorch: plain ops, or pytorch-metric-learning's CosFaceLoss."""
    import torch

    def losses(x, kernel, ids):
        unit = torch.nn.functional.normalize
        cosines = unit(x) @ unit(kernel).T
        hot = torch.nn.functional.one_hot(ids.long(), len(kernel))
        return torch.nn.functional.cross_entropy(SCALE * (cosines.float() - MARGIN * hot), ids.long())

    def cos_face(x, kernel, ids):
        from pytorch_metric_learning.losses import CosFaceLoss

        loss = CosFaceLoss(len(kernel), DIM, margin=MARGIN, scale=SCALE)
        loss.W = torch.nn.Parameter(kernel.detach().T)
        return loss(x, ids.long())

    def step(x, kernel, ids):
        x, kernel = x.requires_grad_(), kernel.requires_grad_()
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            loss = (losses if name == "PyTorch" else cos_face)(x, kernel, ids)
        loss.backward()
        x.grad = kernel.grad = None
        return [loss.item()]

    torch.set_num_threads(os.cpu_count())
    return step, torch.from_numpy


def resident_mib(key):
    """`VmRSS` or `VmHWM` of this process, in MiB."""
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith(key)) / 1024


def product_rate():
    """GFLOP/s of a float32 matrix product in NumPy's or TensorFlow's library, whichever runs here."""
    import tensorflow as tf

    a = tf.ones((3072, 3072))
    times = []
    for _ in range(5):
        begun = time.perf_counter()
        tf.matmul(a, a).numpy()
        times.append(time.perf_counter() - begun)
    return 2 * 3072**3 / min(times[1:]) / 1e9


def measure(options):
    """Run one line in this process."""
    half = options["precision"] == "bfloat16"
    make = torch_step if options["line"].startswith("PyTorch") else keras_step
    step, tensor = make(options["line"], half, options["head"])
    rate = product_rate() if options["rate"] else None
    step(*(tensor(array) for array in arrays(WARM_UP_CLASSES, options["batch"])))
    tensors = [tensor(array) for array in arrays(options["classes"], options["batch"])]
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    before = resident_mib("VmRSS")
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")  # the peak begins anew
    times = []
    for _ in range(options["steps"] + WARM_UP_STEPS):
        begun = time.perf_counter()
        step(*tensors)
        times.append(time.perf_counter() - begun)
    gradients = 4 * DIM * (options["classes"] + options["batch"]) / 2**20
    extra = resident_mib("VmHWM") - before - gradients
    return {"seconds": statistics.median(times[WARM_UP_STEPS:]), "extra": extra, "rate": rate, "options": options}


def print_table(classes, batch, precision, arguments):
    """Measure the lines in turns, and print their table."""
    lines = [line for line in arguments.lines if not line.startswith("PyTorch") or importlib.util.find_spec("torch")]
    if arguments.head != "margin-softmax":
        lines = [line for line in lines if not line.startswith("PyTorch")]
    if not importlib.util.find_spec("pytorch_metric_learning"):
        lines = [line for line in lines if "CosFace" not in line]
    results = {line: [] for line in lines}
    for _ in range(arguments.rounds):
        for line in lines:
            options = {"line": line, "classes": classes, "batch": batch, "precision": precision}
            options["head"] = arguments.head
            options |= {"steps": arguments.steps, "rate": not line.startswith("PyTorch")}
            results[line].append(run_child(__file__, options))
    os.environ["TF_ONEDNN_USE_SYSTEM_ALLOCATOR"] = "1"
    extra = {line: run_child(__file__, results[line][0]["options"] | {"steps": 1})["extra"] for line in lines}
    del os.environ["TF_ONEDNN_USE_SYSTEM_ALLOCATOR"]
    seconds = {line: statistics.median(r["seconds"] for r in rounds) for line, rounds in results.items()}
    rates = [r["rate"] for rounds in results.values() for r in rounds if r["rate"]]
    peak = statistics.median(rates) if rates else float("nan")
    plain = min((seconds[line] for line in PLAIN if line in seconds), default=None)
    print(f"\n{classes} classes, batch {batch}, {precision}; float32 matrix product {peak:.0f} GFLOP/s")
    print(f"{arguments.head}, load {os.getloadavg()[0]:.1f}\n")
    print("| head | ms | to plain | extra MiB | GFLOP/s | of peak |\n|---|---|---|---|---|---|")
    for line in lines:
        rate = 6e-9 * batch * classes * DIM / seconds[line]
        own = f" ({rate * 8 / 6 / peak:.2f} at 8BCD)" if line.startswith("stream") else ""
        ratio = f"{seconds[line] / plain:.2f}" if plain else ""
        share = f"{rate:.0f} | {rate / peak:.2f}{own}"
        print(f"| {line} | {seconds[line] * 1e3:.0f} | {ratio} | {extra[line]:.0f} | {share} |")


def main():
    """Measure every size, or those that were asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--classes", type=int, nargs="+", default=CLASSES, help="default: 10572 98304 1048576")
    parser.add_argument("--batch", type=int, nargs="+", default=BATCHES, help="batch sizes (default: 128 and 512)")
    parser.add_argument("--precision", nargs="+", choices=PRECISIONS, default=PRECISIONS, help="default: both")
    parser.add_argument(
        "--lines", nargs="+", choices=LINES, default=LINES, metavar="LINE", help=f"of {', '.join(LINES)}"
    )
    parser.add_argument(
        "--head",
        choices=HEADS,
        default="margin-softmax",
        help="the agent-based heads in float32, without PyTorch (default: margin-softmax)",
    )
    parser.add_argument("--margins", action="store_true", help="all margins against NormFace, in float32")
    parser.add_argument("--steps", type=int, default=5, help="timed steps of a process (default: 5)")
    parser.add_argument("--rounds", type=int, default=3, help="processes a line; the median counts (default: 3)")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        options = json.loads(arguments.child)
        print(json.dumps((measure_margins if "margins" in options else measure)(options)))
        return
    if arguments.margins:
        for classes in arguments.classes:
            for batch in arguments.batch:
                print_margins(classes, batch, arguments)
        return
    if arguments.head != "margin-softmax":
        arguments.precision = ("float32",)
    for classes in arguments.classes:
        for batch in arguments.batch:
            for precision in arguments.precision:
                print_table(classes, batch, precision, arguments)


if __name__ == "__main__":
    main()
