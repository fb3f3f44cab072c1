"""Every command: its options, what it calls, and what it prints."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import wdp_edge
from wdp_edge.cli import _heads, _print, _sweep
from wdp_edge.cli._options import Given, Run, Unit, argument, command, option
from wdp_edge.cli._print import near, print_line
from wdp_edge.config.file import HEAD_FILE
from wdp_edge.runs.look import BY_HEART

if TYPE_CHECKING:
    from wdp_edge.commands.doctor import DoctorResult
    from wdp_edge.commands.fit_head import FitHeadResult
    from wdp_edge.commands.import_dataset import ImportResult
    from wdp_edge.commands.init import InitResult
    from wdp_edge.commands.models import KnownModels, ModelDescription
    from wdp_edge.config.recipe import ModelRecipe
    from wdp_edge.cost.table import LatencyTable
    from wdp_edge.demo.run import DemoResult
    from wdp_edge.runs.results import (
        CheckResult,
        EvaluateResult,
        ExportResult,
        InspectResult,
        ProfileResult,
        PruneResult,
        ReportResult,
        SetupResult,
        VerifyResult,
    )
    from wdp_edge.runs.sweeps import SweepResult

_MODEL = ("model.name", "model.args", "model.num_classes", "model.checkpoint")
_READ = ("model.task", "model.checkpoint_key", "model.checkpoint_prefix", "data.class_order", "data.preprocess")
_DATA = "Folder with train/ and val/ (or test/) inside."
_ANY_DATA = f"{_DATA[:-1]}; without labels also one folder, a list or 'photos/*.jpg'."
_NEEDS = ("model.name", "data.train", "data.val", "model.checkpoint")
_BUDGETS = ("prune.latency_budget", "prune.macs_budget", "prune.keep")
_WHERE = ("prune.target", "prune.precision", "prune.device", "prune.threads")

devices = typer.Typer()


def _show_init(result: InitResult) -> None:
    from wdp_edge.data.walk import counted
    from wdp_edge.protocols.task import facts_of

    output = f"{result.num_classes} classes" if result.num_classes else "embeddings"
    print_line(
        f"Wrote {near(result.path)}: {result.model}, {output}, "
        f"{result.train_images} training and {result.val_images} validation images."
    )
    _heads.recognised(result)
    if result.head:
        print_line(f"Wrote {near(result.path.with_name(HEAD_FILE))}: the model with a new head; the recipe names it.")
        _heads.show_head(result.head)
    for note in result.notes:
        print_line(note)
    for part, files in result.left_out.items():
        print_line(f"Left out of {part}: {counted(Counter(files))}.")
    if result.order_metric:
        metric = facts_of(result.task).metric
        figures = " and ".join(f"{value:.1%} with the {order} one" for order, value in result.order_metric.items())
        print_line(
            f"Class names have another order alphabetically than naturally: {metric} of the model is {figures}, on "
            f"{result.order_images} images. class_order is {result.class_order}."
        )
    if result.first_look:
        print_line(f"First look: {result.first_look.line}.")
        if result.first_look.memorised:
            print_line(BY_HEART)
            print_line("Images that it was not trained on, with labels or without, are better to prune with.")
    if result.weights:
        print_line(f"From the checkpoint it {result.weights}. Choose with checkpoint_key in [model].")
    if found := result.checked:
        print_line(
            f"Checked against {found.original} on {found.images} training images of {found.pixels} pixels: outputs "
            f"({found.output}) differ by at most {found.difference:.2g} of the largest; {found.tolerance:g} is allowed."
        )
    if result.head_blocks:
        print_line(f"The head is taken to read blocks {result.head_blocks}: set head_blocks if it reads others.")
    print_line("Next: wdp-edge prune --latency-budget 50%")


@command(
    _show_init,
    *_MODEL,
    *_READ,
)
def init(
    given: Given,
    data: Annotated[Path, option("--data=FOLDER", _ANY_DATA)],
    force: Annotated[bool, option("--force", "Overwrite wdp-edge.toml and what init writes beside it.")] = False,
    check_against: Annotated[
        str, option("--check-against=hf", "Compare outputs with the original, run by Hugging Face transformers.")
    ] = "",
    from_python: Annotated[
        str,
        option(
            "--from-python=MODULE:FUNCTION",
            "Instead of --checkpoint: run this function of yours, which returns a timm model. Runs your code.",
        ),
    ] = "",
    fit_head: Annotated[
        bool, option("--fit-head", "For a backbone: fit a head to the images first, as fit-head does.")
    ] = False,
) -> InitResult:
    """Write wdp-edge.toml for a trained model and its images."""
    from wdp_edge.commands.init import Origin

    model, more = _brought(given)
    return wdp_edge.init(model, data, force=force, **more, origin=Origin(check_against, from_python, fit_head))


def _brought(given: Given) -> tuple[ModelRecipe, dict[str, Any]]:
    """The model, and how its images are taken: `class_order` and `preprocess`."""
    from wdp_edge.config.recipe import ModelRecipe

    own = {key.removeprefix("model."): v for key, v in given.settings.items() if key.count(".") == 1}
    order = own.pop("data.class_order", "")
    model = ModelRecipe(args=given.arguments("model.args"), **own)
    return model, {"class_order": order, "preprocess": given.arguments("data.preprocess")}


@command(_heads.show_fit_head, *_MODEL, *_READ)
def fit_head(
    given: Given,
    data: Annotated[Path, option("--data=FOLDER", _DATA)],
    out: Annotated[Path, option("--out=FILE", "The checkpoint to write.")] = Path(HEAD_FILE),
    force: Annotated[bool, option("--force", "Overwrite that file.")] = False,
) -> FitHeadResult:
    """Fit a linear head to labelled images for a backbone without one.

    The model's own weights stay as they are. How strongly the head is regularised is chosen on training images held
    back; it is then fitted to all of them. Validation images give its accuracy at the end. A run that was interrupted
    goes on when the same command is given again.
    """
    model, more = _brought(given)
    return wdp_edge.fit_head(model, data, out, force, **more)


def _show_import(result: ImportResult) -> None:
    for part in result.splits:
        print_line(f"Wrote {near(part.list)}: {part.images} images.")
    print_line("Next: wdp-edge init --data FOLDER, with lists called train and val or test.")


@command(_show_import)
def import_(
    name: Annotated[str, argument("NAME", "As timm takes it: torch/cifar10, hfds/user/name, wds/ …")],
    split: Annotated[list[str], option("--split=SPLIT", "Such as train; one list each, so repeat it.")],
    out: Annotated[Path, option("--out=FOLDER", "Where lists and images go.")],
    data: Annotated[Path | None, option("--data=FOLDER", "Where the dataset is, or is downloaded to.")] = None,
    download: Annotated[bool, option("--download", "Fetch the dataset where timm can.")] = False,
) -> ImportResult:
    """Turn a dataset of timm into images and lists that `init` takes."""
    return wdp_edge.import_dataset(name, split, out, data, download)


def _show_models(result: KnownModels | ModelDescription) -> None:
    show: Any = _print.show_model if hasattr(result, "model") else _print.show_known_models
    show(result)


@command(_show_models, "model.args", "model.num_classes")
def models(
    given: Given, name: Annotated[str | None, argument("[NAME]", "timm model name; default: list all.")] = None
) -> KnownModels | ModelDescription:
    """List the models that can be pruned, or show one's dimensions."""

    if name is None:
        return wdp_edge.known_models()
    classes = {key.removeprefix("model."): v for key, v in given.settings.items() if key == "model.num_classes"}
    return wdp_edge.describe_model(name, given.arguments("model.args"), **classes)


@command(
    _sweep.show_pruned,
    *(*_BUDGETS, "prune.select.exit", *_MODEL, "data.train", "data.val", "prune.out", "prune.epochs", "prune.images"),
    *(*_WHERE, "prune.accept", "prune.seed", "prune.force"),
    lists=True,
)
def prune(
    given: Given,
    context: typer.Context,
    data: Annotated[Path | None, option("--data=FOLDER", _DATA)] = None,
    unit: Unit = None,
) -> PruneResult | SweepResult:
    """Prune a model until its measured file is inside the budget.

    The budget is a time on the device, or a number of multiply-accumulates (--macs-budget) or parameters (--keep).

    Settings come from the options, then from wdp-edge.toml in this folder, then from defaults. A run that was
    interrupted goes on when the same command is given again. A model whose file is inside the budget before anything
    is pruned ships as it is, at once.

    Several budgets, such as 30%,50%,70%, get a run each, and so do several targets and devices. They share what none of
    them decides: what is computed of the dense model, and on one target and device the latency table. Further ones can
    be added later.
    """
    from wdp_edge.commands.init import BUDGET, budget_settings, length_settings, project_recipe
    from wdp_edge.commands.units import with_unit
    from wdp_edge.data.folder import resolve_data
    from wdp_edge.runs.sweeps import names_several

    own = given.settings
    if data is not None and not {"data.train", "data.val"} <= own.keys():
        others = ", name the two with --train and --val, or let `wdp-edge init` divide images without labels"
        found = resolve_data(data, otherwise=others)
        own = {"data.train": str(found[0]), "data.val": str(found[1]), **own}
    own |= budget_settings(own)
    own = own | length_settings(own.pop("prune.epochs", None), own.pop("prune.images", None))
    recipe = with_unit(project_recipe(Path(), own, given.names, (*_NEEDS, BUDGET)), unit)
    several = names_several(recipe.prune) is not None
    return wdp_edge.sweep(recipe, context.obj) if several else wdp_edge.prune(recipe, context.obj)


@command(_print.show_export)
def export(
    run: Run = None,
    target: Annotated[
        list[str] | None, option("--target=NAME", "executorch, coreml, tflite, onnx or all; repeatable.")
    ] = None,
    precision: Annotated[
        list[str] | None, option("--precision=NAME", "fp32, int8-dynamic …, default or auto; repeatable.")
    ] = None,
    accuracy_drop: Annotated[
        float | None, option("--accuracy-drop=POINTS", "With --precision auto: what may be lost, such as 0.5.")
    ] = None,
    dense: Annotated[bool, option("--dense", "Export wdp-edge.toml's model as it is, not a run's.")] = False,
    fold: Annotated[
        bool, option("--fold-normalization", "Files take uint8 pixels: normalisation is part of them.")
    ] = False,
    unit: Unit = None,
) -> ExportResult:
    """Export to files for devices, each proven on real images."""
    from wdp_edge.commands.init import find_run, project_recipe

    folder = wdp_edge.dense_run(project_recipe(Path(), {}, {}, _NEEDS)) if dense else find_run(Path(), run)
    return wdp_edge.export(folder, target or (), precision or ("default",), fold, accuracy_drop, unit)


@command(_print.show_verify)
def verify(
    run: Run = None,
    processor: Annotated[
        list[str] | None,
        option(
            "--processor=NAME",
            "Prove int8 files on it too: haswell, cortex-a53, cortex-a76 (emulated); repeatable.",
        ),
    ] = None,
) -> VerifyResult:
    """Hold every file of a run against its model."""
    from wdp_edge.commands.init import find_run

    return wdp_edge.verify(find_run(Path(), run), processor or ())


@command(_print.show_inspect)
def inspect(path: Annotated[Path, argument("FILE", "An exported file.")], unit: Unit = None) -> InspectResult:
    """Show operators, weights and origin of a file."""
    return wdp_edge.inspect(path, None, unit)


@command(
    _print.show_profile, "prune.device", "prune.threads", "prune.latency_budget", "prune.accept", "prune.timing.runner"
)
def profile(
    given: Given,
    path: Annotated[
        Path | None, argument("[FILE_OR_RUN]", "An exported file or a run; default: the latest run.")
    ] = None,
    per_op: Annotated[bool, option("--per-op", "Also time every operator.")] = False,
) -> ProfileResult:
    """Time an exported file on a device."""
    from wdp_edge.commands.init import find_run

    device, threads, budget, accept, runner = (given.settings.get(key) for key in given.names)
    program = None if runner is None else Path(runner)
    return wdp_edge.profile(find_run(Path(), path), device, threads, budget, accept, per_op, program)


@command(_print.show_evaluate)
def evaluate(
    path: Annotated[Path, argument("FILE", "An exported file of a run.")],
    val: Annotated[Path | None, option("--val=FOLDER", "Images in class folders; default: the run's.")] = None,
) -> EvaluateResult:
    """Measure an exported file's accuracy in its own runtime."""
    return wdp_edge.evaluate(path, val)


@command(_print.show_check)
def check(
    run: Run = None,
    junit: Annotated[Path | None, option("--junit=FILE", "Also write the result as JUnit XML.")] = None,
) -> CheckResult:
    """Hold a run against every [[budget]] of wdp-edge.toml."""
    from wdp_edge.commands.init import find_run, project_budgets
    from wdp_edge.report.junit import write_junit

    result = wdp_edge.check(find_run(Path(), run), project_budgets(Path()))
    if junit is not None:
        write_junit(result, junit)
    return result


@command(_print.show_table, *_WHERE)
def table(given: Given) -> LatencyTable:
    """Measure what each part of the model costs on the device."""
    from wdp_edge.commands.init import project_recipe

    return wdp_edge.table(project_recipe(Path(), given.settings, given.names, ("model.name",)))


@command(_print.show_report)
def report(run: Run = None) -> ReportResult:
    """Write a run's figures and pictures into one HTML file."""
    from wdp_edge.commands.init import find_run

    return wdp_edge.report(find_run(Path(), run))


def _show_demo(result: DemoResult) -> None:
    print_line("")
    _print.show_prune(result)
    print_line(f"Report: {near(result.report)}")
    print_line(f"The demo took {result.seconds / 60:.1f} minutes.")


@command(_show_demo)
def demo(
    out: Annotated[Path, option("--out=FOLDER", "Where the demo works.")] = Path("demo"),
    short: Annotated[bool, option("--short", "Train less: a few minutes, lower figures.")] = False,
) -> DemoResult:
    """Run the whole loop on handwritten digits.

    Trains a small model, prunes it to a budget, exports, measures and reports; no download is needed.
    """
    from wdp_edge.demo.run import demo as run

    return run(out, short)


@command(_print.show_doctor)
def doctor() -> DoctorResult:
    """Say what is installed and how to get what is not."""
    return wdp_edge.doctor()


@devices.callback(invoke_without_command=True)
def _group(context: typer.Context) -> None:
    """Make kinds of devices ready."""
    if context.invoked_subcommand is None:
        print(context.get_help())


@devices.command()
@command(_print.show_setup)
def setup(
    name: Annotated[
        str, argument("NAME", "qemu: emulated Arm cores that count instructions; gpu: a driver for --unit gpu.")
    ],
) -> SetupResult:
    """Fetch and build what a kind of device needs, without root, and say what that was."""
    return wdp_edge.set_up(name)
