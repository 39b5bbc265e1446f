"""Protocols as they are published: lists of pairs, trials and templates, read into what `evaluation` takes."""

from keras_normface.protocols.blufr import read_blufr
from keras_normface.protocols.cfp import read_cfp_pairs
from keras_normface.protocols.ijb import read_ijb, read_ijb_a
from keras_normface.protocols.images import FolderImages, PackedImages
from keras_normface.protocols.lfw import read_lfw_pairs
from keras_normface.protocols.make_pairs import make_pairs
from keras_normface.protocols.megaface import read_megaface
from keras_normface.protocols.megaface_features import (
    MegafaceFeatures,
    read_megaface_features,
    write_megaface_features,
)
from keras_normface.protocols.open_protocol import OpenedProtocol, open_protocol
from keras_normface.protocols.packed_pairs import read_packed_pairs
from keras_normface.protocols.pair_list import read_pair_list, write_pair_list
from keras_normface.protocols.text_lines import ProtocolFileError
from keras_normface.protocols.ytf import read_ytf

__all__ = [
    "FolderImages",
    "MegafaceFeatures",
    "OpenedProtocol",
    "PackedImages",
    "ProtocolFileError",
    "make_pairs",
    "open_protocol",
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
