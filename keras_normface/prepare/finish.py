"""The files that make a directory of shards complete."""

import json
import os

import numpy as np

from keras_normface.data.shard_format import write_index
from keras_normface.data.sidecar import FORMAT, VERSION, write_sidecar
from keras_normface.prepare.one_shard import shard_name
from keras_normface.prepare.plan import IN_SIDECAR, INVALID_NAME
from keras_normface.version import __version__
from keras_normface.written_beside import written_beside


def finish(reader, out, plan, entries, kept):
    """Write the index, `invalid.jsonl` if images were decoded, and last the sidecar.

    Args:
        reader: A `Reader`.
        out: Directory of the shards.
        plan: See `make_plan`.
        entries: List of the `Entry` of each shard.
        kept: Array of bool: which of the reader's identities have an image left.

    Returns:
        The sidecar.
    """
    rows = np.concatenate([entry.rows for entry in entries])
    rows["shard"] = np.repeat(np.arange(len(entries)), [len(entry.rows) for entry in entries])
    write_index(out, rows)
    skipped = sorted(pair for entry in entries for pair in entry.skipped)
    skipped = [[reader.name(index), reason] for index, reason in skipped]
    if plan["validate"]:
        _write_invalid(out, skipped)
    sidecar = _sidecar(reader, plan, entries, kept, skipped)
    write_sidecar(out, sidecar)
    return sidecar


def _write_invalid(out, skipped):
    with (
        written_beside(os.path.join(out, INVALID_NAME)) as beside,
        open(beside, "w", encoding="utf-8") as file,
    ):
        file.writelines(json.dumps({"name": name, "reason": reason}) + "\n" for name, reason in skipped)


def _sidecar(reader, plan, entries, kept, skipped):
    sizes = {tuple(size) for entry in entries for size in entry.sizes}
    size = reader.image_size if not plan["validate"] else sizes.pop() if len(sizes) == 1 else None
    return {
        "format": FORMAT,
        "version": VERSION,
        "samples": sum(len(entry.rows) for entry in entries),
        "num_identities": int(kept.sum()),
        "identities": [name for name, stays in zip(reader.identities, kept.tolist(), strict=True) if stays],
        "image_size": None if size is None else list(size),
        "preprocessing": plan["preprocessing"],
        "source": plan["source"],
        "excluded": plan["excluded"],
        "skipped": skipped,
        "shards": [
            {
                "name": shard_name(number, len(entries)),
                "samples": len(entry.rows),
                "bytes": entry.bytes,
                "sha256": entry.sha256,
            }
            for number, entry in enumerate(entries)
        ],
        "created_by": f"keras_normface {__version__}",
        "plan": {key: plan[key] for key in plan if key not in IN_SIDECAR},
    }
