"""A recipe: everything that decides a run, as frozen dataclasses with one documented field per setting."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from wdp_edge.config.setting import setting
from wdp_edge.config.values import (
    parse_blocks,
    parse_budget,
    parse_budgets,
    parse_bytes,
    parse_cpus,
    parse_keeps,
    parse_macs_budgets,
    split_list,
)
from wdp_edge.data.preprocess import parse_settings
from wdp_edge.protocols.device import DeviceKind, Kind, kind_of
from wdp_edge.protocols.target import precision_names, target_names
from wdp_edge.protocols.task import ALPHABETICAL, NATURAL, task_names


def precision_choices() -> list[str]:
    return ["default", *precision_names()]


def kind_names() -> list[str]:
    return [kind.value for kind in Kind]


def kinds_of(devices: str) -> list[DeviceKind]:
    """Of each device in a list. Raises InputError as `kind_of` does."""
    return [kind_of(device) for device in split_list(devices)]


@dataclass(frozen=True)
class ModelRecipe:
    """[model]: the trained model."""

    name: str = setting("name of the model in timm; init proposes one for the weights", "", "--model=NAME")
    args: Mapping[str, Any] = setting(
        "further arguments of timm.create_model, such as img_size", {}, "--model-arg=KEY=VALUE"
    )
    num_classes: int = setting(
        "classes of the trained head; 0: embeddings, or for init as many as labels name", 0, "--num-classes=N"
    )
    checkpoint: str = setting(
        "trained weights: .safetensors, .pt, .pth or .bin, an index of several, or a Hugging Face folder; by the names "
        "of timm, transformers, torchvision, open_clip or Meta",
        "",
        "--checkpoint=FILE",
        path=True,
    )
    task: str = setting(
        "what it is for: classify, classify-unlabelled (images without labels), multilabel, segment, features "
        "(embeddings, no labels) or retrieve",
        "classify",
        "--task=NAME",
        choices=task_names,
    )
    head_channels: int = setting("channels of a convolutional head for segment; 0: its head is linear", 0)
    head_blocks: str = setting(
        "blocks that the head of segment reads, such as 9,10,11,12; empty: the last one", "", form=parse_blocks
    )
    checkpoint_key: str = setting(
        "entry of the checkpoint with the weights, such as model or model_ema; empty: averaged ones if any",
        "",
        "--checkpoint-key=NAME",
    )
    checkpoint_prefix: str = setting(
        "beginning of the weights' names where a checkpoint holds several models, such as teacher or backbone",
        "",
        "--prefix=NAME",
    )


@dataclass(frozen=True)
class DataRecipe:
    """[data]: real images, in folders or lists; only labels that the task needs are read."""

    train: str = setting(
        "folder with one subfolder of training images per class, or a .csv or .parquet file with the columns path and "
        "label (for multilabel names separated by ;); without labels a folder of any images, or a .txt file with one "
        "path per line; for segment a folder with images/ and masks/",
        "",
        "--train=FOLDER",
        path=True,
    )
    val: str = setting(
        "validation images, in the same form; used once, for the final figures", "", "--val=FOLDER", path=True
    )
    class_order: str = setting(
        "order of class names in the model: alphabetical (torchvision), natural (timm: 2 before 10, case ignored) or a "
        "text file with one name per line; whole numbers in lists are class numbers",
        "alphabetical",
        "--class-order=ORDER",
        path=True,
        words=(ALPHABETICAL, NATURAL),
    )
    preprocess: Mapping[str, Any] = setting(
        "how the model takes images where it differs from timm's default for its name: mean and std (of "
        "values from 0 to 1), interpolation, crop_pct, crop_mode, channels",
        {},
        "--preprocess=KEY=VALUE",
        form=parse_settings,
    )
    holdout_images: int = setting("training images held back for choices; never trained on", 2000, ge=1)
    calibration_images: int = setting("training images for saliency, candidates and static quantization", 2048, ge=1)
    flip: bool = setting("mirror every other training image; switch off where left and right matter", True)
    min_crop: float = setting("smallest share of a training image that a random crop keeps; 1 for all", 0.6, gt=0, le=1)
    max_unreadable: int = setting(
        "images that may be left out because they cannot be decoded; 0 looks at none first", 0
    )
    workers: int = setting("processes that decode images; 0 decodes in the main process", 2)


@dataclass(frozen=True)
class LearnRecipe:
    """[prune.learn]: search for widths with learnable scores and thresholds."""

    share: float = setting("share of prune.images spent on learning; the rest goes to recovery", 0.1, le=1)
    batch_size: int = setting("images per step, at most; fewer where steps would be too few", 64, ge=1)
    scores_lr: float = setting("learning rate of the scores", 0.005, gt=0)
    thresholds_lr: float = setting("learning rate of the thresholds", 0.02, gt=0)
    weights_lr: float = setting("learning rate of proj and fc2 while learning", 3e-5, gt=0)
    exits_lr: float = setting("learning rate of the exits", 1e-3, gt=0)
    features: float = setting("weight of the dense model's block outputs while learning", 0.0)
    exits: int = setting("how many of the last blocks may carry an exit besides the last one", 2)
    checkpoint_seconds: float = setting("time between checkpoints", 30.0)


@dataclass(frozen=True)
class SelectRecipe:
    """[prune.select]: choice of the structure."""

    calibration_images: int = setting(
        "images for compensating each candidate, at most; fewer where they have many tokens", 512, ge=1
    )
    tilt: float = setting("how much less losses of early blocks may count; half of it is tried too; 0 tries none", 0.7)
    exit: int = setting("end after this many blocks, the head fitted there; 0: where it costs least", 0, "--exit=N")
    drop_sublayers: bool = setting("also try structures in which whole attention or MLP sub-layers are gone", True)
    narrow_heads: bool = setting("also try structures whose attention heads have fewer channels", True)
    margin: float = setting("aim at this share of the budget, so that a noisy timing still passes", 0.975, gt=0, le=1)
    floor: float = setting("look for a larger structure while the measured time is below this share", 0.95, le=1)
    rounds: int = setting(
        "structures that are exported and timed, at most, until one is that near to the budget", 6, ge=1
    )


@dataclass(frozen=True)
class CompensateRecipe:
    """[prune.compensate]: the closed-form refit of the shrunk model, without labels."""

    images: int = setting("training images that it looks at, at most; a better fit for more time", 8192, ge=1)
    scratch_gb: float = setting(
        "disk for their activations while it runs; fewer images where they need more", 4.0, gt=0
    )


@dataclass(frozen=True)
class RecoverRecipe:
    """[prune.recover]: fine-tuning of the shrunk model, with the dense one as teacher."""

    batch_size: int = setting("images per step", 128, ge=1)
    lr: float = setting("peak learning rate; a model near the dense one gets less of it", 1e-4, gt=0)
    weight_decay: float = setting("decoupled weight decay of matrices", 0.02)
    warmup: float = setting("share of the steps with rising learning rate", 0.05, le=1)
    distillation: float = setting("weight of the dense model's outputs against the labels, 0 to 1", 0.7, le=1)
    temperature: float = setting("softening of the logits in distillation", 2.0, gt=0)
    features: float = setting("weight of the dense model's block outputs", 100.0)
    feature_depths: int = setting("after how many blocks, spread evenly, outputs are compared", 6)
    rounding: bool = setting(
        "simulate an 8-bit precision's rounding in every step, so that the weights learn to be right after it", False
    )
    ema: float = setting("decay of the averaged weights that are shipped; 0 ships the last ones", 0.998, lt=1)
    checkpoint_seconds: float = setting("time between checkpoints", 30.0)


@dataclass(frozen=True)
class ComputeRecipe:
    """[prune.compute]: what learning and recovery run on; the file itself runs on prune.device."""

    device: str = setting(
        "auto (a GPU where PyTorch finds one), cpu or cuda", "auto", choices=lambda: ("auto", "cpu", "cuda")
    )
    mixed_precision: str = setting(
        "bfloat16 matrix products: auto (where they are faster) or off", "auto", choices=lambda: ("auto", "off")
    )
    micro_batch_size: int = setting(
        "images per forward pass, whose gradients add up to those of a batch; 0: the whole batch at once", 0
    )
    grad_checkpointing: bool = setting(
        "run blocks again in the backward pass instead of keeping their activations: less memory, more time", False
    )


@dataclass(frozen=True)
class TableRecipe:
    """[prune.table]: measurement of the latency table."""

    points: int = setting("MLP widths that are timed", 6, ge=2)
    chain: int = setting("equal sub-layers in one timed file", 4, ge=1)
    rounds: int = setting("interleaved timing rounds", 20, ge=1)
    runs: int = setting("timed runs per round", 6, ge=1)


@dataclass(frozen=True)
class TimingRecipe:
    """[prune.timing]: how the device runs what it times; rounds and runs are in [prune.table]."""

    warmup: int = setting("untimed runs before the timed ones of every round", 3)
    seconds: float = setting(
        "shortest time for timing a file in turn with the dense one; twice that in the end", 4.0, le=3600
    )
    cpus: str = setting("cores that the runtime may use, such as 4,5; empty: any", "", form=parse_cpus)
    cooldown_seconds: float = setting("rest between rounds, for a device that gets hot", 0.0)
    runner: str = setting(
        "your own benchmark_model or executor_runner for an ssh: or adb: device; empty: wdp-edge's",
        "",
        "--runner=FILE",
        path=True,
    )


@dataclass(frozen=True)
class PruneRecipe:
    """[prune]: the budget, where it holds, and how long to learn."""

    latency_budget: str = setting(
        "20ms, or 50% of the dense model",
        "",
        "--latency-budget=TIME",
        form=parse_budgets,
        several="30%,50%,70%",
    )
    macs_budget: str = setting(
        "50% of the dense model's multiply-accumulates for one image, or 1.2G of them; in place of latency_budget",
        "",
        "--macs-budget=COUNT",
        form=parse_macs_budgets,
        several="30%,50%,70%",
    )
    keep: str = setting(
        "share of the parameters that stay, such as 0.7; in place of latency_budget",
        "",
        "--keep=SHARE",
        form=parse_keeps,
        several="0.3,0.5,0.7",
    )
    target: str = setting(
        "file format: executorch, tflite, onnx, or coreml on macOS",
        "executorch",
        "--target=NAME",
        choices=target_names,
        several="onnx,tflite",
    )
    precision: str = setting(
        "number format of the shipped file; default lets the target choose",
        "default",
        "--precision=NAME",
        choices=precision_choices,
    )
    device: str = setting(
        "where the file is timed: local, ssh:user@host, adb:SERIAL, qemu:CPU or apple",
        "local",
        "--device=NAME",
        form=kinds_of,
        several="local,qemu:cortex-a76",
    )
    accept: str = setting(
        "times that may pass a budget: measured, or also virtual or estimated ones",
        "measured",
        "--accept=KIND",
        choices=kind_names,
    )
    threads: int = setting("threads of the runtime on the device", 1, "--threads=N", ge=1)
    seed: int = setting("seed of everything random", 0, "--seed=N", lt=2**32)
    out: str = setting(
        "the run's own folder; empty: one in runs/, named after the settings", "", "--out=FOLDER", path=True
    )
    images: int = setting("training images seen by learning and recovery together; 0 skips both", 90_000, "--images=N")
    force: bool = setting("prune also where the dense file is inside the budget as it is", False, "--force")
    epochs: float = setting(
        "passes over the training images, in place of images; 0 leaves it to images", 0.0, "--epochs=N"
    )
    learn: LearnRecipe = field(default_factory=LearnRecipe)
    select: SelectRecipe = field(default_factory=SelectRecipe)
    compensate: CompensateRecipe = field(default_factory=CompensateRecipe)
    recover: RecoverRecipe = field(default_factory=RecoverRecipe)
    compute: ComputeRecipe = field(default_factory=ComputeRecipe)
    table: TableRecipe = field(default_factory=TableRecipe)
    timing: TimingRecipe = field(default_factory=TimingRecipe)


@dataclass(frozen=True)
class BudgetRecipe:
    """[[budget]]: a file that the project has to deliver, and what it may cost; `wdp-edge check` tells."""

    target: str = setting("file format", "executorch", choices=target_names)
    precision: str = setting("number format; default lets the target choose", "default", choices=precision_choices)
    device: str = setting(
        "where the file is timed: local, ssh:user@host, adb:SERIAL, qemu:CPU or apple", "local", form=kind_of
    )
    threads: int = setting("threads of the runtime on the device", 1, ge=1)
    accept: str = setting(
        "times that may pass: measured, or also virtual or estimated ones", "measured", choices=kind_names
    )
    latency: str = setting("at most: 20ms, or 50% of the dense model; empty: any", "", form=parse_budget)
    size: str = setting("largest file, such as 6MB; empty: any", "", form=parse_bytes)
    accuracy_drop: float = setting(
        "points of accuracy, or of the task's metric, that may be lost against the dense model; 100: any", 100.0, le=100
    )
    max_class_drop: float = setting(
        "points of accuracy, or of the task's metric, that the class which loses most may lose; 100: any", 100.0, le=100
    )
    peak_memory: str = setting(
        "most memory of the process that runs the file, such as 60MB; empty: any", "", form=parse_bytes
    )


@dataclass(frozen=True)
class Tolerance:
    """How close an artifact must stay to the model it was made from: constants, for any model."""

    agreement: float = setting(
        "smallest share of images with the same top-1 class, or what the task has instead", 0.99, le=1
    )
    cosine: float = setting("smallest centred cosine of the outputs on any image", 0.999, le=1)


@dataclass(frozen=True)
class ExactTolerance(Tolerance):
    """How close an artifact of the same arithmetic must stay; agreement counts where the model is clear."""

    agreement: float = setting("smallest share of images treated alike, of those where the model is clear", 1.0, le=1)
    error: float = setting(
        "largest error of any output, as a share of the largest output; an image counts for agreement where the "
        "model's two best outputs differ by more",
        1e-4,
        le=1,
    )


@dataclass(frozen=True)
class SimulatedTolerance(Tolerance):
    """How close an artifact of a simulated scheme must stay: as close as the scheme lets it, and within constants."""

    agreement: float = setting(
        "smallest share of images with the same top-1 class, or what the task has instead", 0.95, le=1
    )
    cosine: float = setting("smallest centred cosine of the outputs on any image", 0.9, le=1)
    factor: float = setting(
        "largest error of int8-dynamic, int8-static and int8-weight files, in errors of their scheme simulated in "
        "PyTorch on the model itself",
        3.0,
        gt=0,
    )


@dataclass(frozen=True)
class VerifyRecipe:
    """[verify]: when an artifact counts as the same model. int8: all 8-bit precisions; low_bit: below 8 bits.

    fp16 and low_bit are constants for any model; so is int8 for w8a8 and palette8, which are not simulated.
    """

    images: int = setting("held-back training images on which artifacts are compared with the model", 256, ge=1)
    fp32: ExactTolerance = field(default_factory=ExactTolerance)
    fp16: Tolerance = field(default_factory=lambda: Tolerance(0.98, 0.99))
    int8: SimulatedTolerance = field(default_factory=SimulatedTolerance)
    low_bit: Tolerance = field(default_factory=lambda: Tolerance(0.8, 0.5))


@dataclass(frozen=True)
class Recipe:
    """A whole wdp-edge.toml."""

    model: ModelRecipe = field(default_factory=ModelRecipe)
    data: DataRecipe = field(default_factory=DataRecipe)
    prune: PruneRecipe = field(default_factory=PruneRecipe)
    verify: VerifyRecipe = field(default_factory=VerifyRecipe)
    budget: tuple[BudgetRecipe, ...] = ()
