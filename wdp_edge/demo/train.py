"""Trains the demo's dense model from scratch: about the geometry of DeiT-tiny, at 32 pixels with patches of 4."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor, nn

from wdp_edge import progress
from wdp_edge.data.folder import ImageFolder
from wdp_edge.data.loading import eval_batches
from wdp_edge.data.preprocess import normalise, preprocessing_of
from wdp_edge.data.stream import Augmentation, StreamOptions, TrainStream
from wdp_edge.io.files import write_bytes
from wdp_edge.learn.compute import autocast, bf16_pays
from wdp_edge.models.spec import ModelSpec, create
from wdp_edge.models.vit import fused_attention_pays, set_fused_attention, tokens_of
from wdp_edge.protocols.task import Task, get_task

SPEC = ModelSpec("vit_tiny_patch16_224", 10, {"img_size": 32, "patch_size": 4})


@dataclass(frozen=True)
class TrainOptions:
    """How the dense model is trained.

    warmup: share of the steps with rising rate. smoothing: of the labels. clip: largest norm of the gradient.
    weights_std, position_std: spread of the first weights and position embeddings. With timm's 0.02 for both, the
    model needs ten times as many images before it can tell one place in the image from another.
    """

    steps: int = 300
    batch_size: int = 32
    lr: float = 5e-4
    weight_decay: float = 0.05
    warmup: float = 0.1
    clip: float = 1.0
    weights_std: float = 0.1
    position_std: float = 0.5
    smoothing: float = 0.1
    min_crop: float = 0.7
    seed: int = 0


@dataclass(frozen=True)
class Trained:
    """accuracy: the task's metric on the validation images. seconds: of training alone."""

    checkpoint: Path
    accuracy: float
    seconds: float
    images: int


def train_dense(
    train: ImageFolder,
    val: ImageFolder,
    checkpoint: Path,
    spec: ModelSpec = SPEC,
    options: TrainOptions = TrainOptions(),
    task: str = "classify",
) -> Trained:
    """Trains a model of `spec` for a task, writes its weights to `checkpoint` (.safetensors) and measures it."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(options.seed)
        model = _fresh(spec, options)
    start = time.monotonic()
    _fit(model, train, options, loss_of(task, options))
    seconds = time.monotonic() - start
    write_bytes(checkpoint, save({k: v.contiguous() for k, v in model.state_dict().items()}))
    return Trained(checkpoint, accuracy(model, val, task), seconds, options.steps * options.batch_size)


def accuracy(model: nn.Module, folder: ImageFolder, task: str = "classify") -> float:
    """The task's metric on all images, top-1 share for `classify`, in float32."""
    model.eval()
    preprocessing = preprocessing_of(model)
    outputs, known = [], []
    with torch.inference_mode():
        for images, labels in eval_batches(folder, range(len(folder)), preprocessing, title="Evaluating"):
            outputs.append(model(normalise(images, preprocessing)))
            known.append(labels)
    judge: Task = get_task(task)
    return judge.metrics(torch.cat(outputs), torch.cat(known), None)[judge.facts.metric]


def loss_of(task: str, options: TrainOptions) -> Callable[[Tensor, Tensor], Tensor]:
    """(outputs, labels) -> loss: cross-entropy with smoothed labels, or the task's loss without a teacher."""
    if task == "classify":
        return nn.CrossEntropyLoss(label_smoothing=options.smoothing)
    judge = get_task(task)
    return lambda outputs, labels: judge.loss(outputs, outputs.detach(), labels, 0.0, 1.0)[0]


def _fresh(spec: ModelSpec, options: TrainOptions) -> nn.Module:
    """The model with first weights that learn fast from few images."""
    model: Any = create(spec)
    for linear in [m for m in model.blocks.modules() if isinstance(m, nn.Linear)]:
        nn.init.trunc_normal_(linear.weight, std=options.weights_std, a=-1, b=1)
    nn.init.trunc_normal_(model.pos_embed, std=options.position_std, a=-2, b=2)
    return model


def _fit(
    model: nn.Module, folder: ImageFolder, options: TrainOptions, loss: Callable[[Tensor, Tensor], Tensor]
) -> None:
    """AdamW with warm-up and cosine decay, bfloat16 where that is faster."""
    bf16 = bf16_pays(model)
    set_fused_attention(model, fused_attention_pays(tokens_of(model)))
    optimiser = torch.optim.AdamW(_groups(model, options.weight_decay), lr=options.lr, fused=True)
    model.train()
    with progress.task("Training the dense model", options.steps) as advance:
        for step, (images, labels) in enumerate(_batches(model, folder, options)):
            for group in optimiser.param_groups:
                group["lr"] = options.lr * rate(step, options.steps, options.warmup)
            with autocast(bf16):
                logits = model(images)
            optimiser.zero_grad()
            loss(logits.float(), labels).backward()
            nn.utils.clip_grad_norm_(model.parameters(), options.clip)
            optimiser.step()
            advance(1)


def _batches(model: nn.Module, folder: ImageFolder, options: TrainOptions) -> Iterator[tuple[Tensor, Tensor]]:
    """Digits are cropped a little at random and never mirrored."""
    augmentation = Augmentation(flip=False, min_crop=options.min_crop)
    stream_options = StreamOptions(options.batch_size, options.seed, workers=1, augmentation=augmentation)
    stream = TrainStream(folder, range(len(folder)), preprocessing_of(model), stream_options)
    return stream.batches(0, options.steps)


def _groups(model: nn.Module, weight_decay: float) -> list[dict[str, object]]:
    """Matrices decay; norms, biases and embeddings do not."""
    named = list(model.named_parameters())
    matrices = [p for name, p in named if p.ndim > 1 and name not in ("pos_embed", "cls_token")]
    chosen = {id(p) for p in matrices}
    others = [p for _, p in named if id(p) not in chosen]
    return [{"params": matrices, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]


def rate(step: int, steps: int, warmup: float) -> float:
    """Share of the peak learning rate: rises linearly, then falls along a cosine to zero."""
    rising = max(1, round(steps * warmup))
    if step < rising:
        return (step + 1) / rising
    return 0.5 * (1 + math.cos(math.pi * (step - rising) / max(1, steps - rising)))
