"""The values that options take, written out here so that `--help` imports nothing that computes."""

from enum import Enum

FORMATS = ("folder", "list", "recordio", "shards")
PHOTO_FORMATS = ("folder", "list")
TEMPLATES = ("sphereface_112x96", "arcface_112x112", "dlib_150x150")
ENCODINGS = ("jpeg", "png")
NO_FACE = ("skip", "center")
FLIPS = ("none", "sum", "concatenate", "maximum")
RECIPES = (
    *("adaface_casia", "am_softmax_casia", "am_softmax_no_feature_norm", "curricularface_casia", "l2_softmax"),
    *("magface_casia", "mobilefacenet_distilled"),
    *("normface_casia", "normface_contrastive", "normface_finetune", "normface_finetune_lightcnn", "normface_joint"),
    *("normface_ready", "normface_triplet"),
    *("sphereface_r_v1", "sphereface_r_v1_hfn", "sphereface_r_v1_nfn", "sphereface_r_v1_sfn"),
    *("sphereface_r_v2", "sphereface_r_v2_hfn", "sphereface_r_v2_nfn", "sphereface_r_v2_sfn"),
)
STRATEGIES = ("one", "mirrored", "multi-worker")
PRECISIONS = ("float32", "mixed_bfloat16", "mixed_float16")
LOSSES = (
    *("softmax", "NormFace", "L2-softmax", "AM-Softmax", "ArcFace", "SphereFace-R v1", "SphereFace-R v2"),
    *("AdaFace", "MagFace", "ElasticFace", "ElasticFace+", "CurricularFace", "MV-Softmax", "t-vMF", "Circle"),
    *("C-contrastive", "C-triplet", "NormFace + C-contrastive"),
)
IMAGES_PER_SHARD = 16384
METADATA_NAME, CARD_FILE = "dataset.json", "model.json"
REPEATS = 1000
EXPORT_FORMATS = ("saved_model", "onnx", "litert")
QUANTIZATIONS = ("none", "float16", "dynamic", "int8")
READY_NETWORKS = ("dlib",)
FPIR_METHODS = ("measured", "independent")


def choice(name, values):
    """Values of an option → the enumeration that typer takes."""
    return Enum(name, {value: value for value in values})
