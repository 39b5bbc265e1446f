r"""Train a paper's experiment on CASIA-WebFace, or on any aligned faces: `keras-normface train` as a script.

    python examples/train_casia_webface.py --list
    python examples/train_casia_webface.py --recipe am_softmax_casia --data shards/
    python examples/train_casia_webface.py --recipe am_softmax_casia --data faces_webface_112x112 --center-crop \
        --no-exclude-lfw-overlap --strategy mirrored --xla --pairs faces_webface_112x112/lfw.bin --out runs/am

The same command again resumes where it ended. OUT then has the checkpoints, recipe.json with every number, run.json,
backbone.weights.h5, and embedding/, a SavedModel from images to unit embeddings. docs/casia.md is the whole way.
"""

import sys

from keras_normface.cli.main import run

if __name__ == "__main__":
    sys.argv[:1] = ["keras-normface", "train"]
    run()
