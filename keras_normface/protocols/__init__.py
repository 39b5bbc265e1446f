"""Published benchmarks: definition, files and figures, one benchmark in one file.

A *protocol* is a frozen record of index lists into its image names, without images or embeddings: embed each image
once, in the order of `protocol.images`, and hand the (N, D) matrix to the protocol's `evaluate_` function, which
returns a `metrics.Result`. Readers take the files as their authors publish them, and refuse what does not fit
together, with file and line. All figures are exact, in bounded memory; intervals resample subjects.

The five that matter: `open_protocol` (reads any of them by name), `evaluate_pairs` (LFW, AgeDB-30, CALFW, CPLFW,
CFP-FP), `evaluate_blufr` (VR@FAR, DIR@FAR), `evaluate_ijb` (1:1 and 1:N of templates), and `compare_results` (two
models on the same bootstrap replicates). `evaluate_megaface` and `evaluate_video_pairs` (YouTube Faces) are of the same
form; `make_pairs` draws pairs from images of your own.

Order to read: `pairs` with `pair_files` (the simplest, from definition to figures), then any of `blufr`, `ytf`,
`megaface`, and `templates` with `ijb`; `compare`; `_files` (lines, tables and images of all of them), `_records`
(checks of the records), `_shares` (shares over trials and splits), `_open`.
"""

from keras_normface.protocols._files import FolderImages, PackedImages, ProtocolFileError, numbered_lines
from keras_normface.protocols._open import OpenedProtocol, open_protocol
from keras_normface.protocols.blufr import BlufrProtocol, BlufrTrial, evaluate_blufr, read_blufr
from keras_normface.protocols.compare import Comparison, Difference, compare_pairs, compare_results
from keras_normface.protocols.ijb import evaluate_ijb, read_ijb, read_ijb_a
from keras_normface.protocols.megaface import (
    MegafaceFeatures,
    MegaFaceProtocol,
    evaluate_megaface,
    read_megaface,
    read_megaface_features,
    write_megaface_features,
)
from keras_normface.protocols.pair_drawing import make_pairs
from keras_normface.protocols.pair_files import (
    read_cfp_pairs,
    read_lfw_pairs,
    read_packed_pairs,
    read_pair_list,
    write_pair_list,
)
from keras_normface.protocols.pairs import PairProtocol, evaluate_pairs
from keras_normface.protocols.templates import GallerySearch, TemplatePairs, TemplateProtocol, pool_templates
from keras_normface.protocols.ytf import VideoPairProtocol, evaluate_video_pairs, read_ytf

__all__ = [
    "BlufrProtocol",
    "BlufrTrial",
    "Comparison",
    "Difference",
    "FolderImages",
    "GallerySearch",
    "MegaFaceProtocol",
    "MegafaceFeatures",
    "OpenedProtocol",
    "PackedImages",
    "PairProtocol",
    "ProtocolFileError",
    "TemplatePairs",
    "TemplateProtocol",
    "VideoPairProtocol",
    "compare_pairs",
    "compare_results",
    "evaluate_blufr",
    "evaluate_ijb",
    "evaluate_megaface",
    "evaluate_pairs",
    "evaluate_video_pairs",
    "make_pairs",
    "numbered_lines",
    "open_protocol",
    "pool_templates",
    "read_blufr",
    "read_cfp_pairs",
    "read_ijb",
    "read_ijb_a",
    "read_lfw_pairs",
    "read_megaface",
    "read_megaface_features",
    "read_packed_pairs",
    "read_pair_list",
    "read_ytf",
    "write_megaface_features",
    "write_pair_list",
]
