"""Fine-tune a trained network under one of NormFace's losses: `keras-normface finetune` as a script.

    python examples/finetune_normface.py --from runs/casia --data shards/ --pairs lfw.bin --out runs/normface
    python examples/finetune_normface.py --recipe normface_contrastive --from runs/casia --data shards/ --out runs/c

--from is the OUT of train_casia_webface.py: network, embedding and preprocessing are its; all else is the recipe's.
--weights takes a file of Keras weights of the recipe's own network instead. The class centres start anew, the last
snapshots are averaged, and pairs are verified before and after. The same command again resumes where it ended.
"""

import sys

from keras_normface.cli.main import run

if __name__ == "__main__":
    sys.argv[:1] = ["keras-normface", "finetune"]
    run()
