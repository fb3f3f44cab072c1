"""The tasks that wdp-edge brings, in words. They are entry points; a package of others' adds its own in the same way.

Nothing of their arithmetic is imported before a task is worked with.
"""

from __future__ import annotations

from wdp_edge.protocols.task import Facts, Labels, Output

CLASSIFY = Facts(
    name="classify",
    metric="accuracy",
    title="Accuracy (top-1)",
    agreement="same top-1",
    output=Output.LOGITS,
    labels=Labels.ONE,
    relative=False,
    home="wdp_edge.tasks.classify:TASK",
    without_labels="classify-unlabelled",
)
CLASSIFY_UNLABELLED = Facts(
    name="classify-unlabelled",
    metric="agreement",
    title="Agreement with the dense model (top-1)",
    agreement="same top-1",
    output=Output.LOGITS,
    labels=Labels.NONE,
    relative=True,
    home="wdp_edge.tasks.classify_unlabelled:TASK",
    note="Agreement is the share of images with the dense model's top-1 class. It is not accuracy, which needs labels: "
    "images of which the dense model is wrong count as well.",
)
FEATURES = Facts(
    name="features",
    metric="mean cosine",
    title="Mean cosine",
    agreement="same neighbour",
    output=Output.EMBEDDING,
    labels=Labels.NONE,
    relative=True,
    home="wdp_edge.tasks.features:TASK",
)
RETRIEVE = Facts(
    name="retrieve",
    metric="Recall@1",
    title="Recall@1",
    agreement="same neighbour",
    output=Output.UNIT,
    labels=Labels.ONE,
    relative=False,
    home="wdp_edge.tasks.retrieve:TASK",
)
MULTILABEL = Facts(
    name="multilabel",
    metric="mAP",
    title="mAP over classes",
    agreement="same classes",
    output=Output.LOGITS,
    labels=Labels.MANY,
    relative=False,
    home="wdp_edge.tasks.multilabel:TASK",
)
SEGMENT = Facts(
    name="segment",
    metric="mIoU",
    title="mIoU",
    agreement="same class per patch",
    output=Output.MAP,
    labels=Labels.MASK,
    relative=False,
    home="wdp_edge.tasks.segment:TASK",
)
