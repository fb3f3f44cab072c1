"""What a set-up says before it fetches anything, and what it has done."""

from __future__ import annotations

import pytest

from wdp_edge.commands import set_up as module
from wdp_edge.commands.set_up import set_up, words
from wdp_edge.devices.setup import Step
from wdp_edge.errors import InputError
from wdp_edge.progress import Silent


def test_every_step_is_named_with_its_size_before_the_first_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    diary: list[str] = []
    steps = [
        Step("Fetch qemu", ("qemu.deb",), 11_200_000, lambda: diary.append("fetched")),
        Step("Build the runner", (), None, lambda: diary.append("built")),
    ]
    monkeypatch.setattr(module, "qemu_steps", lambda: steps)
    monkeypatch.setattr(Silent, "say", lambda self, text: diary.append(text.replace("\u00a0", " ")))
    found = set_up("qemu")
    assert diary == ["Fetch qemu: qemu.deb (11.2 MB)", "Build the runner", "fetched", "built"]
    assert [(step.title, step.bytes) for step in found.steps] == [
        ("Fetch qemu", 11_200_000),
        ("Build the runner", None),
    ]


def test_a_size_that_nobody_tells_is_said() -> None:
    assert words(Step("Fetch", ("a", "b"), None, lambda: None)) == "Fetch: a, b (size not told)"


def test_other_kinds_of_device_have_no_set_up() -> None:
    with pytest.raises(InputError, match=r"nothing to set up for 'ssh'.*qemu"):
        set_up("ssh")
