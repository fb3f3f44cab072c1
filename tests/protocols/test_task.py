"""wdp_edge/protocols/task.py: what is known of a task without torch, and tasks of other packages."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from fake_clock_run import fake_clock, recipe_of
from installed import install, use
from tiny_project import SMALLER, small_project

from wdp_edge.commands.evaluate import evaluate
from wdp_edge.commands.export import export
from wdp_edge.commands.inspect import inspect
from wdp_edge.commands.verify import verify
from wdp_edge.config.file import load_recipe
from wdp_edge.errors import InputError, SetupError
from wdp_edge.protocols.task import GROUP, Labels, Output, facts_of, get_task, task_names
from wdp_edge.pruning.prune import prune
from wdp_edge.report import report
from wdp_edge.runs.results import PruneResult

OURS = ["classify", "classify-unlabelled", "features", "multilabel", "retrieve", "segment"]
FACTS = """
from wdp_edge.protocols.task import Facts, Labels, Output

FACTS = Facts("top2", "top-2", "Accuracy (top-2)", "same top-1", Output.LOGITS, Labels.ONE, False,
              "wdp_edge_top2:TASK")

def __getattr__(name):
    from wdp_edge.tasks.classify import Classify

    class Top2(Classify):
        facts = FACTS

        def metrics(self, outputs, labels, dense):
            found = outputs.topk(2, dim=1).indices == labels[:, None]
            return {"top-2": float(found.any(1).float().mean())}

    if name == "TASK":
        return Top2()
    raise AttributeError(name)
"""


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    use(tmp_path / "site", monkeypatch)
    return tmp_path / "site"


@pytest.mark.parametrize("name", OURS)
def test_every_name_leads_to_its_task(name: str) -> None:
    task = get_task(name)
    assert task.facts is facts_of(name)
    assert task.facts.name == name and name in task_names()


def test_tasks_without_labels_compare_with_the_dense_model() -> None:
    every = [facts_of(name) for name in OURS]
    assert [f.name for f in every if f.labels is Labels.NONE] == ["classify-unlabelled", "features"]
    assert all(f.relative == (f.labels is Labels.NONE) for f in every)
    assert all(f.named_classes != f.relative for f in every if f.output is Output.LOGITS)
    assert not facts_of("segment").named_classes and facts_of("segment").output.of_classes


def test_an_unknown_task_names_the_nearest() -> None:
    with pytest.raises(InputError, match="Did you mean retrieve"):
        get_task("retreive")
    with pytest.raises(InputError, match="classify, classify-unlabelled, features, multilabel"):
        facts_of("xyz")


def test_facts_need_no_torch() -> None:
    code = "import sys, wdp_edge.protocols.task as t; t.facts_of('retrieve'); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_a_task_that_cannot_be_used_names_its_package(site: Path) -> None:
    install(site, "wdp_edge_broken", "import nothing_of_this_name\n", GROUP, "broken = wdp_edge_broken:FACTS")
    with pytest.raises(SetupError, match=r"'broken' cannot be imported: .*nothing_of_this_name.*wdp_edge_broken needs"):
        facts_of("broken")
    install(site, "wdp_edge_top2", FACTS, GROUP, "top3 = wdp_edge_top2:FACTS")
    with pytest.raises(SetupError, match=r"'top3' calls itself 'top2'.*wdp_edge_top2"):
        facts_of("top3")
    assert task_names() == sorted([*OURS, "broken", "top3"]), "others are there beside them"


@pytest.fixture(scope="module")
def pruned(tmp_path_factory: pytest.TempPathFactory, tables: Path) -> Iterator[PruneResult]:
    """A run of a task of another package, on a FAKE clock."""
    site, folder = tmp_path_factory.mktemp("site"), tmp_path_factory.mktemp("project")
    install(site, "wdp_edge_top2", FACTS, GROUP, "top2 = wdp_edge_top2:FACTS")
    recipe = recipe_of(small_project(folder, **SMALLER), "60%", images=0, target="onnx")
    model = replace(recipe.model, task="top2", args={**recipe.model.args, **SMALLER})
    select = replace(recipe.prune.select, tilt=0.0, drop_sublayers=False, narrow_heads=False, rounds=1)
    with pytest.MonkeyPatch.context() as patch, fake_clock(tables):
        use(site, patch)
        yield prune(replace(recipe, model=model, prune=replace(recipe.prune, select=select)))


def test_a_task_of_another_package_goes_through_everything(pruned: PruneResult, tmp_path: Path) -> None:
    assert (pruned.task, pruned.metric) == ("top2", "top-2") and pruned.verified and pruned.budget.met
    assert pruned.shipped.path is not None and pruned.shipped.accuracy is not None
    assert evaluate(pruned.shipped.path).accuracy == pruned.shipped.accuracy
    assert evaluate(pruned.shipped.path).metric == "top-2"
    assert any("no better than chance" in said for said in pruned.warnings), "as of a classifier: it was not trained"
    made = export(pruned.run, precisions=["int8-dynamic"]).artifacts[0]
    assert inspect(made.path).about["task"] == "top2"
    assert verify(pruned.run).metric == "top-2"
    page = report(pruned.run).path.read_text()
    assert "Accuracy (top-2)" in page and "Accuracy (top-1)" not in page
    (tmp_path / "wdp-edge.toml").write_text("[model]\ntask = 'top2'\n")
    assert load_recipe(tmp_path / "wdp-edge.toml").model.task == "top2"
