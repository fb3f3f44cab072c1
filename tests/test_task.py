"""task.py: names, and what is known of a task without torch."""

from __future__ import annotations

import subprocess
import sys

import pytest

from wdp_edge.errors import InputError
from wdp_edge.task import TASKS, Labels, Output, facts_of, get_task, task_names


@pytest.mark.parametrize("name", task_names())
def test_every_name_leads_to_its_task(name: str) -> None:
    task = get_task(name)
    assert task.facts is TASKS[name] is facts_of(name)
    assert task.facts.name == name


def test_tasks_without_labels_have_no_logits() -> None:
    assert [f.name for f in TASKS.values() if f.labels is Labels.NONE] == ["features"]
    assert all(f.named_classes for f in TASKS.values() if f.output is Output.LOGITS)
    assert not TASKS["segment"].named_classes and TASKS["segment"].output.of_classes


def test_an_unknown_task_names_the_nearest() -> None:
    with pytest.raises(InputError, match="Did you mean retrieve"):
        get_task("retreive")
    with pytest.raises(InputError, match="classify, features, retrieve"):
        facts_of("xyz")


def test_facts_need_no_torch() -> None:
    code = "import sys, wdp_edge.task as t; t.facts_of('retrieve'); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
