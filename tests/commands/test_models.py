"""What of one model can be pruned; all families together are tests/cli/test_models.py."""

from __future__ import annotations

import re
from fnmatch import fnmatch
from pathlib import Path

import pytest
import timm

from wdp_edge.commands.models import describe_model, known_models
from wdp_edge.errors import InputError
from wdp_edge.models.families import FAMILIES

DOCS = Path(__file__).parents[2] / "docs/reference/models.md"


def test_a_model_is_described_without_its_weights() -> None:
    args = {"img_size": 16, "patch_size": 4, "embed_dim": 32, "depth": 3, "num_heads": 4}
    found = describe_model("vit_tiny_patch16_224", args, 5)
    assert (found.family, found.size, found.tokens, found.num_classes) == ("VisionTransformer", (16, 16), 17, 5)
    widths = {d.name: d.widths for d in found.dimensions}
    assert widths["heads"] == [4, 4, 4] and widths["hidden units"] == [128, 128, 128] and widths["blocks"] == [3]
    assert not any(d.fixed for d in found.dimensions if d.name in ("heads", "hidden units", "blocks"))


def test_what_is_tied_is_said_with_the_reason() -> None:
    fixed = {d.name: d.fixed for d in describe_model("swin_tiny_patch4_window7_224").dimensions}
    assert "windows" in fixed["channels of a head"] and fixed["sub-layers"] == "blocks keep both"


def test_a_model_that_timm_does_not_have_is_refused() -> None:
    with pytest.raises(InputError, match="vit_tyni"):
        describe_model("vit_tyni_patch16_224")


def documented() -> dict[str, str]:
    """Names that docs/reference/models.md says are refused, as patterns, with the beginning of the reason."""
    table = DOCS.read_text().partition("| refused | because |")[2].partition("\n\n")[0]
    rows = [line.strip("|").split(" | ") for line in table.splitlines() if "`" in line]
    return {
        pattern: reason.strip().split(" of another")[0].split(":")[0]
        for names, reason in rows
        for pattern in re.findall(r"`([^`]+)`", names.split(" (")[0] + "," + names.partition("),")[2])
    }


@pytest.mark.slow
def test_every_name_is_described_or_refused_for_a_reason_that_is_documented(tmp_path: Path) -> None:
    """All of timm's names in the families' modules, each in full; their weights are never made."""
    every = {name for family in FAMILIES for module in family.modules for name in timm.list_models(module=module)}
    listed = {name for family in known_models(tmp_path).families for name in family.names}
    assert len(every) >= 265 and len(listed) >= 214 and listed <= every
    reasons = documented()
    for name in sorted(every):
        if name in listed:
            assert describe_model(name).parameters > 0
            continue
        with pytest.raises(InputError) as caught:
            describe_model(name)
        said = [reason for pattern, reason in reasons.items() if fnmatch(name, pattern)]
        assert any(reason in caught.value.message for reason in said), (name, caught.value.message, said)
