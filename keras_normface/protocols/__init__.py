"""Protocols as they are published: lists of pairs, trials and templates, read into what `evaluation` takes."""

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
