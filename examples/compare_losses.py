"""The same network, data and steps under every loss: `keras-normface compare-losses` as a script.

    python examples/compare_losses.py --data shards/ --held-out 500 --out runs/losses
    python examples/compare_losses.py --data faces/ --held-out 10 --losses softmax NormFace --seeds 3 --steps 500

OUT then has losses.md, a table on people that none of the networks has seen, and roc.png. The same command again
resumes where it ended.
"""

import sys

from keras_normface.cli.main import run

if __name__ == "__main__":
    sys.argv[:1] = ["keras-normface", "compare-losses"]
    run()
