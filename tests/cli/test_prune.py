"""What `wdp-edge prune` prints and returns. The library's functions are fakes here: every outcome can be had."""

import ctypes
import os
from dataclasses import replace

import pytest
from fake_verbs import DENSE, MISSED, PRUNED, SHIPPED, Fake
from tiny_project import Cli

from wdp_edge.config.recipe import PruneRecipe, Recipe
from wdp_edge.config.values import Quantity
from wdp_edge.io.files import to_plain
from wdp_edge.progress import Bars, task
from wdp_edge.runs.drops import Drop, Drops
from wdp_edge.runs.figures import BudgetFigures, CountFigures
from wdp_edge.runs.results import PruneResult


def test_prune_prints_one_json_object(cli: Cli, fake: Fake) -> None:
    fake("prune", PRUNED)
    said = cli("prune", "--latency-budget", "4.1ms", "--json")
    assert said.code == 0
    assert next(iter(said.json)) == "version"
    assert said.json == {
        "version": 1,
        "run": "runs/r",
        "target": "executorch",
        "precision": "int8-dynamic",
        "device": "local",
        "budget": {
            "latency_ms": 4.1,
            "measured_ms": 3.9,
            "ratio": 0.951,
            "met": True,
            "kind": "measured",
            "basis": "p50",
        },
        "dense": {
            "accuracy": 0.917,
            "latency_ms": {"p50": 8.2, "p90": 8.4, "min": 8.1, "kind": "measured"},
            "macs": 370_000_000,
            "parameters": 21_600_000,
            "bytes": 22_800_000,
            "exit": 12,
        },
        "shipped": {
            "accuracy": 0.906,
            "latency_ms": {"p50": 3.9, "p90": 4.0, "min": 3.8, "kind": "measured"},
            "macs": 150_000_000,
            "parameters": 9_700_000,
            "bytes": 10_100_000,
            "path": "runs/r/artifacts/model.pte",
            "exit": 10,
            "agreement": 0.98,
        },
        "verified": True,
        "task": "classify",
        "metric": "accuracy",
        "warnings": [],
        "pruned": True,
    }


def test_prune_names_the_task_s_figures(cli: Cli, fake: Fake) -> None:
    also = {"Recall@5": 0.95, "mAP": 0.7}
    shipped = replace(SHIPPED, also={"Recall@5": 0.94, "mAP": 0.65})
    retrieved = replace(PRUNED, task="retrieve", metric="Recall@1", dense=replace(DENSE, also=also), shipped=shipped)
    fake("prune", retrieved)
    lines = [" ".join(line.split()) for line in cli("prune", "--latency-budget", "4.1ms").out.splitlines()]
    assert "Recall@1 91.70 % 90.60 % −1.10 points" in lines
    assert "mAP 70.00 % 65.00 % −5.00 points" in lines
    assert "same neighbour – 98.00 %" in lines
    assert not any("accuracy" in line or "top-1" in line for line in lines)


def test_prune_says_who_pays(cli: Cli, fake: Fake) -> None:
    worst, unseen = Drop("cat\x1b[2J", 40, 0.9, 0.8, 10.0, 1.0, 25.5), Drop("dog", 0)
    overall = Drop("all", 1000, 0.917, 0.906, 1.1, -0.2, 2.4)
    drops = Drops("class", "accuracy", "exact", overall, [unseen, worst], 1)
    fake("prune", replace(PRUNED, drops=drops))
    lines = cli("prune", "--latency-budget", "4.1ms").out.replace("\u00a0", " ").splitlines()
    assert "Difference over all: −1.10 points (95 % interval −2.4 to +0.2, 1,000 images)." in lines
    assert "Worst of 1 class: cat\\x1b[2J, −10.00 points (95 % interval −25.5 to −1.0, 40 images)." in lines
    assert "No validation images: dog." in lines
    said = cli("prune", "--latency-budget", "4.1ms", "--json").json["drops"]
    assert said["parts"] == [{"name": "dog", "images": 0}, to_plain(worst)] and said["count"] == 1
    fake("prune", PRUNED)
    assert "What each class loses is not recorded in this run." in cli("prune", "--latency-budget", "4.1ms").out


def test_warnings_are_in_the_result_and_on_standard_error(cli: Cli, fake: Fake) -> None:
    fake("prune", replace(PRUNED, warnings=["no better than chance"]))
    said = cli("prune", "--latency-budget", "4.1ms")
    assert "warning: no better than chance\n" in said.err and "chance" not in said.out
    said = cli("prune", "--latency-budget", "4.1ms", "--json")
    assert said.json["warnings"] == ["no better than chance"] and "warning: no better than chance\n" in said.err


def test_noise_of_libraries_does_not_reach_standard_output(
    cli: Cli, fake: Fake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Bars, "WAITED", 0.0)

    def noisy() -> PruneResult:
        print("from Python")
        os.write(1, b"from a descriptor\n")
        ctypes.CDLL(None).printf(b"from C\n")
        with task("Work", 2) as advance:
            advance(2)
        return PRUNED

    fake("prune", noisy)
    said = cli("prune", "--latency-budget", "50%", "--json")
    assert said.json["version"] == 1
    for text in ("from Python", "from a descriptor", "from C", "Work: done"):
        assert text in said.err
    print("to standard output again")
    os.write(1, b"and the descriptor\n")


def test_prune_prints_a_table_with_units(cli: Cli, fake: Fake) -> None:
    fake("prune", PRUNED)
    said = cli("prune", "--latency-budget", "4.1ms")
    lines = [" ".join(line.split()) for line in said.out.splitlines()]
    assert "int8-dynamic executorch file, latency measured on local" in lines
    assert "accuracy 91.70 % 90.60 % −1.10 points" in lines
    assert "latency p50 8.20 ms 3.90 ms −52.4 %" in lines
    assert "MACs 370 M 150 M −59.5 %" in lines
    assert "parameters 21.6 M 9.70 M −55.1 %" in lines
    assert "file size 22.8 MB 10.1 MB −55.7 %" in lines
    assert "Inside the budget: 3.90 ms of 4.10 ms (95.1 %)." in lines
    assert "Shipped file: runs/r/artifacts/model.pte" in lines
    assert said.code == 0


@pytest.mark.parametrize("words", [(), ("--json",)])
def test_a_missed_budget_exits_with_1_and_the_figures(cli: Cli, fake: Fake, words: tuple[str, ...]) -> None:
    fake("prune", MISSED)
    said = cli("prune", "--latency-budget", "3ms", *words)
    assert said.code == 1
    if words:
        assert said.json["budget"]["met"] is False
    else:
        assert "Over the budget by 0.900 ms: 3.90 ms of 3.00 ms (130.0 %)." in said.out.replace("\u00a0", " ")


def test_options_win_over_the_file_and_the_file_over_defaults(cli: Cli, fake: Fake) -> None:
    calls = fake("prune", PRUNED)
    words = ("prune", "--latency-budget", "50%", "--seed", "9", "--model-arg", "img_size=56", "--out", "here")
    assert cli(*words).code == 0
    (recipe, command) = calls[0]
    assert isinstance(recipe, Recipe)
    assert (recipe.prune.seed, recipe.prune.threads, recipe.prune.device) == (9, 2, "local")
    assert recipe.prune.latency_budget == "50%"
    assert recipe.prune.out == "here"
    assert recipe.prune.epochs == 2.0
    assert recipe.model.args == {"img_size": 56}
    assert tuple(command) == ("wdp-edge", *words)


@pytest.mark.parametrize(
    ("words", "epochs", "images"),
    [(("--images", "0"), 0.0, 0), (("--epochs", "0"), 0.0, 0), (("--epochs", "1.5"), 1.5, PruneRecipe().images)],
)
def test_the_last_word_on_training_is_on_the_command_line(
    cli: Cli, fake: Fake, words: tuple[str, ...], epochs: float, images: int
) -> None:
    calls = fake("prune", PRUNED)
    assert cli("prune", "--latency-budget", "50%", *words).code == 0
    assert (calls[0][0].prune.epochs, calls[0][0].prune.images) == (epochs, images)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("56", 56),
        ("-1", -1),
        ("1e-5", 1e-5),
        ("true", True),
        ("False", False),
        ("[56, 64]", [56, 64]),
        ("avg", "avg"),
        ("", ""),
        ("a=b", "a=b"),
        ("NaN", "NaN"),
        ("null", "null"),
    ],
)
def test_model_arguments_have_types(cli: Cli, fake: Fake, text: str, value: object) -> None:
    calls = fake("prune", PRUNED)
    assert cli("prune", "--latency-budget", "50%", "--model-arg", f"key={text}").code == 0
    assert calls[0][0].model.args == {"key": value}
    assert type(calls[0][0].model.args["key"]) is type(value)


@pytest.mark.parametrize(
    ("words", "budget"),
    [
        (("--macs-budget", "50%"), ("", "50%", "")),
        (("--keep", "0.7"), ("", "", "0.7")),
        (("--latency-budget", "20ms"), ("20ms", "", "")),
    ],
)
def test_a_budget_on_the_command_line_replaces_one_of_another_kind(
    cli: Cli, fake: Fake, words: tuple[str, ...], budget: tuple[str, str, str]
) -> None:
    calls = fake("prune", PRUNED)
    assert cli("prune", *words, "--exit", 2).code == 0
    own = calls[0][0].prune
    assert (own.latency_budget, own.macs_budget, own.keep) == budget and own.select.exit == 2


def test_budgets_of_two_kinds_are_refused(cli: Cli, fake: Fake) -> None:
    fake("prune", PRUNED)
    said = cli("prune", "--macs-budget", "50%", "--keep", "0.7")
    assert said.code == 2 and "--macs-budget and --keep are budgets" in said.err


def test_a_counted_budget_is_printed_with_what_it_counts(cli: Cli, fake: Fake) -> None:
    counted = CountFigures(Quantity.MACS, 160_000_000, 150_000_000)
    budget = BudgetFigures(None, None, 0.9375, True, basis="count", counted=counted)
    fake("prune", replace(PRUNED, budget=budget))
    lines = cli("prune", "--macs-budget", "160M").out.replace("\u00a0", " ").splitlines()
    assert "Inside the budget: 150 M MACs of 160 M MACs (93.8 %)." in lines
    assert not any("share, so what counts" in line for line in lines)
    said = cli("prune", "--macs-budget", "160M", "--json").json["budget"]
    assert said["counted"] == {"quantity": "macs", "limit": 160_000_000, "count": 150_000_000}
    assert not {"latency_ms", "measured_ms"} & said.keys()
    missed = replace(budget, ratio=1.0625, met=False, counted=replace(counted, count=170_000_000))
    fake("prune", replace(PRUNED, budget=missed))
    said_missed = cli("prune", "--macs-budget", "160M")
    assert said_missed.code == 1
    assert "Over the budget by 10.0 M MACs: 170 M MACs of 160 M MACs" in said_missed.out.replace("\u00a0", " ")
