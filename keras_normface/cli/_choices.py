"""The values that options take, written out here so that `--help` imports nothing that computes."""

from enum import Enum

FORMATS = ("folder", "list", "recordio", "shards")
PHOTO_FORMATS = ("folder", "list")
TEMPLATES = ("sphereface_112x96", "arcface_112x112")
ENCODINGS = ("jpeg", "png")
NO_FACE = ("skip", "center")
FLIPS = ("none", "sum", "concatenate", "maximum")
IMAGES_PER_SHARD = 16384
METADATA_NAME = "dataset.json"
REPEATS = 1000


def choice(name, values):
    """Values of an option → the enumeration that typer takes."""
    return Enum(name, {value: value for value in values})
