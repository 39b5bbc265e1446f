r"""Train the class centres of a million identities on one machine, and print what a step costs.

    python examples/million_identities.py
    python examples/million_identities.py --sample-rate 0.1
    python examples/million_identities.py --identities 100000 --mode buffer --steps 20

The identities are points in space and their images noise around them, so nothing has to be downloaded and no backbone
takes time: what is measured is the head, its class centres, their gradient and their momentum. Memory is that of the
process.
"""

import argparse
import os
import resource
import time

# By default TensorFlow with oneDNN keeps what it once allocated: with gigabytes of class centres, twice what is needed.
os.environ.setdefault("TF_ONEDNN_USE_SYSTEM_ALLOCATOR", "1")

from keras_normface.startup import load_tensorflow

load_tensorflow()  # first, so that its notices about GPUs stay off the screen

import keras
import numpy as np

from keras_normface import CoupledSGD, EmbeddingModel, MarginSoftmaxHead, SampledMarginSoftmaxHead
from keras_normface.margins import AdditiveCosine


def arguments():
    """Options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--identities", type=int, default=1_048_576, help="number of classes (default: 1048576)")
    add("--dim", type=int, default=512, help="dimension of the embeddings (default: 512)")
    add("--batch-size", type=int, default=256, help="samples a step (default: 256)")
    add("--steps", type=int, default=10, help="training steps (default: 10)")
    add("--people", type=int, default=256, help="how many identities the batches show, so that few steps suffice")
    add("--mode", choices=["auto", "buffer", "stream", "plain"], default="auto", help="how the head computes")
    add("--sample-rate", type=float, help="look at this share of the classes in each step, 0.1 for example")
    add("--learning-rate", type=float, default=0.1)
    return parser.parse_args()


def head_of(args):
    """The head that the options ask for."""
    mode = False if args.mode == "plain" else args.mode
    if args.sample_rate is None:
        return MarginSoftmaxHead(args.identities, AdditiveCosine(0.35), scale=30.0, fused=mode)
    return SampledMarginSoftmaxHead(
        args.identities, AdditiveCosine(0.35), scale=30.0, fused=mode, sample_rate=args.sample_rate, seed=0
    )


def batches(args):
    """Samples and labels of all steps: noise around the points of some identities, spread over all of them."""
    rng = np.random.default_rng(0)
    people = rng.choice(args.identities, args.people, replace=False)
    points = rng.standard_normal((args.people, args.dim), dtype="float32")
    shown = rng.integers(0, args.people, args.steps * args.batch_size)
    return points[shown] + 0.3 * rng.standard_normal((len(shown), args.dim), dtype="float32"), people[shown]


class Steps(keras.callbacks.Callback):
    """Prints the loss and the seconds of each step."""

    def on_train_batch_begin(self, batch, logs=None):
        """Start the clock."""
        self.begun = time.perf_counter()

    def on_train_batch_end(self, batch, logs=None):
        """Print the step."""
        took = time.perf_counter() - self.begun
        print(f"step {batch + 1}: loss {logs['loss']:.3f} (mean so far), {took:.2f} s", flush=True)


def main():
    """Build, train, report."""
    args = arguments()
    keras.utils.set_random_seed(0)
    head = head_of(args)
    backbone = keras.Sequential([keras.Input((args.dim,)), keras.layers.Dense(args.dim)])
    model = EmbeddingModel(backbone, head)
    model.build((None, args.dim))  # if `fit` has to make the class centres, it holds one copy more
    model.compile(CoupledSGD(args.learning_rate, momentum=0.9, coupled_weight_decay=0.0), jit_compile=True)
    print(head.cost(args.batch_size, dim=args.dim))
    x, y = batches(args)
    model.fit(x, y, batch_size=args.batch_size, shuffle=False, verbose=0, callbacks=[Steps()])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"{args.identities} identities; most memory that this process held: {peak:.1f} GiB")


if __name__ == "__main__":
    main()
