"""Checkpoints of several files: a sharded index, and a folder that Hugging Face transformers wrote."""

from __future__ import annotations

from pathlib import Path

from wdp_edge.errors import InputError
from wdp_edge.io.files import read_json
from wdp_edge.models.weight_files import check_file

INDEXES = ("model.safetensors.index.json", "pytorch_model.bin.index.json")
# In the order in which transformers and open_clip look for them.
_SINGLE = ("model.safetensors", "open_clip_model.safetensors", "pytorch_model.bin", "open_clip_pytorch_model.bin")


def weight_files(path: Path) -> list[Path]:
    """The files with the weights of a checkpoint: `path` itself, those that an index names, or those of a folder.

    Raises InputError for a folder without any, an index that is none or names a file elsewhere, and missing files.
    """
    if path.is_dir():
        found = next(
            (path / name for name in (*_SINGLE[:1], INDEXES[0], *_SINGLE[1:], INDEXES[1]) if (path / name).is_file()),
            None,
        )
        if found is not None:
            return weight_files(found)
    if path.name.endswith(".index.json") and path.is_file():
        return _shards(path)
    check_file(path)
    return [path]


def _shards(index: Path) -> list[Path]:
    data = read_json(index)
    names = data.get("weight_map") if isinstance(data, dict) else None
    if not isinstance(names, dict) or not names or not all(isinstance(name, str) for name in names.values()):
        raise InputError(f"{index} is not an index of weights.", "Name the weights file itself.")
    files = sorted(set(names.values()))
    for name in files:
        if Path(name).name != name or name == "..":
            raise InputError(f"{index} names a file outside of its folder: {name!r}.", "Download the index again.")
        if not (index.parent / name).is_file():
            raise InputError(
                f"{index} names {name}, which is not beside it.", f"Download all {len(files)} parts of the checkpoint."
            )
    return [index.parent / name for name in files]
