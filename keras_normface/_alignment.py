"""The record that `align` leaves beside the faces it wrote: by which template they were aligned."""

import os

from keras_normface._io import JsonFormat
from keras_normface.preprocessing import TEMPLATES

RECORDS = SETTINGS_NAME, LOG_NAME = "align.json", "align.jsonl"
FORMAT = JsonFormat("keras_normface.align", 1, indent=1)


def recorded_template(directory):
    """Name of the template in `align.json`; `None` if there is no such record, or the file is of other origin."""
    try:
        template = FORMAT.read(os.path.join(directory, SETTINGS_NAME)).get("template")
    except (FileNotFoundError, IsADirectoryError, ValueError):
        return None
    return template if isinstance(template, str) and template in TEMPLATES else None
