"""models/strange_folders.py: a folder that is no checkpoint is called what it is."""

from __future__ import annotations

from pathlib import Path

import pytest

from wdp_edge.errors import InputError
from wdp_edge.models.weight_folders import weight_files

FOLDERS: dict[str, tuple[list[str], str]] = {
    "empty": ([], "no weights files in it"),
    "one file": (["weights.pth"], r"Name the file in it: .*weights\.pth\."),
    "several": (["a.pth", "b.pth", "c.pth", "d.pth"], r"a\.pth or .*b\.pth or .*c\.pth …"),
    "parts without an index": (["model-00001-of-00002.safetensors"], "index of its parts is missing"),
    "adapters": (["adapter_config.json", "adapter_model.safetensors"], "adapters .*merge_and_unload"),
    "DeepSpeed": (["latest", "zero_to_fp32.py", "global_step9/mp_rank_00_model_states.pt"], "DeepSpeed.*zero_to_fp32"),
    "a step of DeepSpeed": (["mp_rank_00_model_states.pt", "zero_pp_rank_0_mp_rank_00_optim_states.pt"], "DeepSpeed"),
    "torch.distributed": ([".metadata", "__0_0.distcp"], "FSDP.*dcp_to_torch"),
    "TensorFlow": (["config.json", "tf_model.h5"], "TensorFlow or Flax"),
    "a saved model": (["saved_model.pb", "variables/variables.index"], "exported model"),
    "Core ML": (["Manifest.json", "Data/com.apple.CoreML/weights/weight.bin"], "exported model"),
    "a trainer's": (
        ["trainer_state.json", "checkpoint-5/model.safetensors", "checkpoint-5/optimizer.pt", "checkpoint-9/model.bin"],
        r"folders below it.*checkpoint-5 or \S*checkpoint-9\.",
    ),
    "the cache of a hub": (["refs/main", "snapshots/0a1b/model.safetensors"], "Name one: .*snapshots/0a1b"),
    "optimizer state": (["optimizer.bin", "training_args.bin"], "no weights files in it"),
}


@pytest.mark.parametrize("what", FOLDERS)
def test_a_folder_is_called_what_it_is(what: str, tmp_path: Path) -> None:
    names, said = FOLDERS[what]
    folder = tmp_path / "given"
    folder.mkdir()
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    with pytest.raises(InputError, match=said) as caught:
        weight_files(folder)
    assert str(folder) in caught.value.message
