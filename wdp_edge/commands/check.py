"""A run held against every [[budget]] of its project: what is missing is exported, everything is measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from wdp_edge import progress
from wdp_edge.artifacts.export_job import Exporter
from wdp_edge.artifacts.proof import artifact_path
from wdp_edge.artifacts.sidecar import read_sidecar
from wdp_edge.commands.evaluate import outputs_of
from wdp_edge.commands.export import make
from wdp_edge.commands.from_sweep import choose_run
from wdp_edge.commands.source import Source
from wdp_edge.config.recipe import BudgetRecipe
from wdp_edge.config.values import check_accepted, parse_budget, parse_bytes
from wdp_edge.devices.remote import check_memory
from wdp_edge.errors import InputError, SetupError, WdpError
from wdp_edge.io.files import remove, write_json
from wdp_edge.models.files import save
from wdp_edge.protocols.device import Device, check_pair, get_device, ratio
from wdp_edge.protocols.precision import Precision
from wdp_edge.protocols.target import Artifact, get_target, parse_precision
from wdp_edge.protocols.task import defined
from wdp_edge.pruning.dense_outputs import dense_outputs
from wdp_edge.pruning.toolkit import timing_plan
from wdp_edge.runs.drops import FEW_IMAGES, Drops, hardest, listed, short
from wdp_edge.runs.figures import ModelFigures
from wdp_edge.runs.places import read_result, run_recipe
from wdp_edge.runs.results import CheckedBudget, CheckResult, Limit, PruneResult, UnjudgedFile
from wdp_edge.runs.run import Run
from wdp_edge.runs.stages import RESULT
from wdp_edge.runs.sweeps import SWEEP, read_sweep

CHECK = "check.json"
_ANY_DROP = 100.0


@dataclass(frozen=True)
class Asked:
    """A [[budget]] whose words have been found to mean something."""

    budget: BudgetRecipe
    precision: Precision
    device: Device

    @classmethod
    def of(cls, budget: BudgetRecipe) -> Asked:
        """Raises InputError for a precision that the target lacks, a device that is unknown or runs no such files,
        times that may not pass, or memory that nothing tells.
        """
        precision = parse_precision(budget.precision, get_target(budget.target))
        device = get_device(budget.device)
        check_pair(device, budget.target)
        if budget.latency:
            check_accepted(budget.device, device.kind, budget.accept)
        if budget.peak_memory:
            check_memory(budget.device, device.kind, budget.target)
        return cls(budget, precision, device)


def check(run: Path, budgets: Sequence[BudgetRecipe] = ()) -> CheckResult:
    """Holds the run's model against the budgets: latency, size, accuracy on the validation images, memory.

    run: or the folder of several budgets, from which each [[budget]] takes the run that serves it (`choose_run`).
    budgets: those of the run's recipe when empty. Each result is in the run's check.json as soon as it is known. A
    file that cannot be made, or a device which vanishes, takes nothing along: see `unjudged` of the result.
    Raises InputError when there are no budgets, for an unfinished run and for words that mean nothing; where there is
    one budget, also what kept it from being judged.
    """
    return check_sweep(run, budgets) if (run / SWEEP).exists() else check_run(run, budgets)


def check_sweep(folder: Path, budgets: Sequence[BudgetRecipe]) -> CheckResult:
    """Each budget held against the run of a sweep that serves it. check.json is in each of these runs, and all of it in
    the sweep's folder."""
    sweep = read_sweep(folder)
    budgets = budgets or next((run_recipe(result.run).budget for result in sweep.results), ())
    check_asked(budgets)
    chosen: dict[Path, list[BudgetRecipe]] = {}
    unjudged: list[UnjudgedFile] = []
    for budget in budgets:
        try:
            chosen.setdefault(choose_run(sweep, budget).run, []).append(budget)
        except WdpError as error:
            if len(budgets) == 1:
                raise
            unjudged.append(UnjudgedFile.of(error, None, budget.target, budget.precision, budget.device))
    results = [check_run(run, own, len(budgets) == 1) for run, own in chosen.items()]
    checked = [budget for result in results for budget in result.budgets]
    unjudged += [file for result in results for file in result.unjudged]
    met = not unjudged and all(budget.met for budget in checked)
    whole = CheckResult(folder, checked, met, sweep.results[0].metric if sweep.results else "accuracy", unjudged)
    write_json(folder / CHECK, whole)
    return whole


def check_run(run: Path, budgets: Sequence[BudgetRecipe], alone: bool | None = None) -> CheckResult:
    """`check` of one run. alone: whether what is wrong with its only budget is raised; None: where there is one."""
    source = Source.of(run)
    wanted = budgets or source.recipe.budget
    check_asked(wanted)
    alone = len(wanted) == 1 if alone is None else alone
    asked, unjudged = understood(wanted, alone)
    with Run(run, source.recipe) as held:
        try:
            files, lost = artifacts(source, held, asked, alone)
            unjudged += lost
            checked: list[CheckedBudget] = []
            result = noted(source, checked, unjudged)
            for one in asked:
                path, verified = files.get((one.budget.target, one.precision), (None, False))
                if path is None:
                    continue
                try:
                    checked.append(judge(source, one, path, verified))
                except WdpError as error:
                    if alone:
                        raise
                    kind = one.budget.target, one.precision, one.budget.device
                    unjudged.append(UnjudgedFile.of(error, path, *kind))
                result = noted(source, checked, unjudged)
        finally:
            remove(run / "scratch")
    return result


def check_asked(budgets: Sequence[BudgetRecipe]) -> None:
    """Raises InputError where there is no budget."""
    if not budgets:
        raise InputError(
            "There is no [[budget]] to hold the run against.",
            'Add one to wdp-edge.toml: a line [[budget]], then lines such as latency = "20ms" and accuracy_drop = 1.0.',
        )


def noted(source: Source, checked: Sequence[CheckedBudget], unjudged: Sequence[UnjudgedFile]) -> CheckResult:
    """What is known so far, in the run's check.json too."""
    met = not unjudged and all(budget.met for budget in checked)
    result = CheckResult(source.run, list(checked), met, source.data.final_task.facts.metric, list(unjudged))
    write_json(source.run / CHECK, result)
    return result


def understood(budgets: Sequence[BudgetRecipe], alone: bool) -> tuple[list[Asked], list[UnjudgedFile]]:
    """The budgets, and those of targets or devices that this machine lacks something for.

    Raises InputError like `Asked.of`, and its SetupError for the only budget.
    """
    asked, lost = [], []
    for budget in budgets:
        try:
            asked.append(Asked.of(budget))
        except SetupError as error:
            if alone:
                raise
            lost.append(UnjudgedFile.of(error, None, budget.target, budget.precision, budget.device))
    return asked, lost


Files = dict[tuple[str, str], tuple[Path, bool]]


def artifacts(source: Source, run: Run, asked: Sequence[Asked], alone: bool) -> tuple[Files, list[UnjudgedFile]]:
    """The file of every target and precision that is asked for, and whether it is close enough to the model; and those
    that could not be made or run.

    alone: a single budget asks. Then what is wrong with its file is raised.
    """
    found: Files = {}
    lost: dict[tuple[str, str], UnjudgedFile] = {}
    plans: dict[str, list[str]] = {}
    for one in asked:
        key = one.budget.target, one.precision
        path = existing(source, *key)
        if path is None:
            wanted = plans.setdefault(one.budget.target, [])
            wanted += [] if one.precision in wanted else [one.precision]
        elif key not in found and key not in lost:
            try:
                artifact = Artifact.of(path, *key)
                found[key] = path, source.judge(artifact, read_sidecar(path).pixels).verified
            except WdpError as error:
                if alone:
                    raise
                lost[key] = UnjudgedFile.of(error, path, key[0], key[1])
    figures, unmade = make(source, run, plans, pixels=False, alone=alone) if plans else ([], [])
    for made in figures:
        found[made.target, made.precision] = made.path, made.verified
    return found, [*lost.values(), *unmade]


def existing(source: Source, target: str, precision: str) -> Path | None:
    """The run's shipped file where it is of this target and precision, or one that was exported before."""
    own = pruned(source)
    if own and (own.target, own.precision) == (target, precision):
        return file_of(own.shipped)
    path = artifact_path(source.run, get_target(target).suffix, precision, pixels=False)
    return path if path.exists() else None


def pruned(source: Source) -> PruneResult | None:
    """The result of the run; None for one whose model was not pruned."""
    return read_result(source.run) if (source.run / RESULT).exists() else None


def file_of(figures: ModelFigures) -> Path:
    """The figures' artifact in the run folder."""
    assert figures.path is not None, "a finished run has artifacts"
    return figures.path


def judge(source: Source, asked: Asked, path: Path, verified: bool) -> CheckedBudget:
    """One budget's limits, measured."""
    budget = asked.budget
    limits: list[Limit] = []
    if budget.latency:
        limits.append(latency(source, asked, path))
    if budget.peak_memory:
        limits.append(memory(asked, path))
    if budget.size:
        size, most = Artifact.of(path, budget.target, asked.precision).bytes, parse_bytes(budget.size)
        limits.append(Limit("size", most, size, "bytes", size <= most))
    drops = None
    if min(budget.accuracy_drop, budget.max_class_drop) < _ANY_DROP:
        found, drops = lost(source, budget, path)
        limits += found
    return CheckedBudget(
        target=budget.target,
        precision=asked.precision,
        device=budget.device,
        threads=budget.threads,
        path=path,
        limits=limits,
        verified=verified,
        met=verified and all(limit.met for limit in limits),
        drops=drops,
    )


def latency(source: Source, asked: Asked, path: Path) -> Limit:
    """A share of the dense latency is judged by the interleaved ratio, as in a run."""
    budget = asked.budget
    wanted = parse_budget(budget.latency)
    files = [path, dense_file(source, asked)] if wanted.share else [path]
    own = source.recipe.prune
    plan = replace(timing_plan(own), rounds=2 * own.table.rounds, threads=budget.threads)
    with progress.task(f"time {path.name} on {budget.device}", plan.rounds) as advance:
        timings = asked.device.time(budget.target, files, plan, lambda done, total: advance(1))
    limit = wanted.resolve(timings[-1].latency.p50)
    used = ratio(timings[0], timings[1]) * timings[1].latency.p50 if wanted.share else timings[0].latency.p50
    conditions = timings[0].latency.conditions
    return Limit("latency", limit, used, "ms", used <= limit, asked.device.kind, conditions)


def memory(asked: Asked, path: Path) -> Limit:
    """Of a process with this file alone: one that holds two tells nothing of either."""
    budget = asked.budget
    with progress.task(f"memory of {path.name} on {budget.device}", 1) as advance:
        used = asked.device.peak_memory(budget.target, path, budget.threads)
        advance(1)
    most = parse_bytes(budget.peak_memory)
    return Limit("peak_memory", most, used, "bytes", used <= most)


def dense_file(source: Source, asked: Asked) -> Path:
    """The dense model as a file of the same target and precision; made when it is not there."""
    own = pruned(source)
    if own and (own.target, own.precision) == (asked.budget.target, asked.precision):
        return file_of(own.dense)
    path = source.run / "artifacts" / f"dense-{asked.precision}{get_target(asked.budget.target).suffix}"
    if not path.exists():
        folder = source.run / "scratch" / "dense"
        save(source.inputs.model.module, source.inputs.model.spec, folder)
        with Exporter(asked.budget.target, folder) as exporter:
            exporter.export(source.job(path, asked.precision))
    return path


def lost(source: Source, budget: BudgetRecipe, path: Path) -> tuple[list[Limit], Drops | None]:
    """Limits on what the file loses against the dense model on the validation images, over all and by class.

    The dense model's figure over all is the run's own where it has one, unless its outputs are needed anyway.
    """
    data, own = source.data, pruned(source)
    task, by_class = data.final_task, budget.max_class_drop < _ANY_DROP
    name = task.facts.metric
    before = own.dense.accuracy if own and not task.facts.relative else None
    dense, limits = None, []
    if by_class or before is None:
        dense, labels = dense_outputs(source.inputs.model, data)
        before = task.metrics(dense, labels, dense)[name]
    outputs, labels = outputs_of(path, data.val)
    if budget.accuracy_drop < _ANY_DROP:
        after = defined(task.metrics(outputs, labels, dense)[name], name, str(data.val.root))
        drop = 100 * (before - after)
        limits.append(Limit("accuracy_drop", budget.accuracy_drop, drop, "points", drop <= budget.accuracy_drop))
    if dense is None or not by_class:
        return limits, None
    drops = task.drops(dense, outputs, labels, data.names_of_parts)
    return [*limits, class_limit(drops, budget.max_class_drop)], drops


def class_limit(drops: Drops, most: float) -> Limit:
    """No class loses more than `most` points.

    A class with FEW_IMAGES or more is judged by the points that it lost, one with fewer by the low end of their
    interval: a single image would decide otherwise. Both kinds, and classes without images, are named.
    Raises InputError where no class has images.
    """
    worst = hardest(drops)
    measured = worst.judged or 0.0
    images = f", {worst.images} images" if drops.unit == "class" else ""
    said = [f"{drops.unit} '{short(worst.name)}'{images}, the worst of {drops.count}"]
    if worst.low is not None and worst.high is not None:
        said.append(f"95 % interval of its loss {worst.low:.1f} to {worst.high:.1f} points")
    if few := drops.few:
        said.append(f"fewer than {FEW_IMAGES} images, so judged by the low end of the interval: {listed(few)}")
    if empty := drops.empty:
        said.append(f"no images, so not judged: {listed(empty)}")
    return Limit("max_class_drop", most, measured, "points", measured <= most, note="; ".join(said))
