"""An export as it is handed to another process, and the process that does it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from wdp_edge.data.preprocess import Preprocessing
from wdp_edge.errors import WdpError
from wdp_edge.io.files import to_plain
from wdp_edge.io.plain import from_plain
from wdp_edge.protocols.target import Artifact, Observer, imports_of
from wdp_edge.workers.process import WorkerProcess

WORKER = "wdp_edge.artifacts.export_worker"
# A large model on a busy machine exports for many minutes without a word.
_SILENCE_SECONDS = 3600.0


@dataclass(frozen=True)
class ExportJob:
    """One artifact to make.

    calibration: a .safetensors with `images`, [n, 3, H, W] uint8. sublayers: of a `Prefix`; None for the whole model.
    """

    path: Path
    precision: str
    preprocessing: Preprocessing
    calibration: Path
    observer: Observer | None = None
    keep_float: list[str] = field(default_factory=list)
    metadata: dict[str, str] = field(default_factory=dict)
    pixels: bool = False
    sublayers: int | None = None


class Exporter:
    """Exports of one saved model for one target, in a process of its own. A context manager.

    Raises what the target raises, and SetupError when the process crashes or hangs.
    """

    def __init__(self, target: str, model: Path) -> None:
        self._request = {"target": target, "model": str(model), "what": f"exporting for {target}"}
        self._worker: WorkerProcess | None = None

    def export(self, job: ExportJob) -> Artifact:
        """The job's artifact. After an error the next job gets a new process."""
        if self._worker is None:
            imports = imports_of(self._request["target"])
            self._worker = WorkerProcess(WORKER, self._request, silence_seconds=_SILENCE_SECONDS, imports=imports)
        try:
            self._worker.send(to_plain(job))
            return from_plain(Artifact, self._worker.receive()[0]["artifact"])
        except WdpError:
            self.close()
            raise

    def close(self) -> None:
        """Ends the process, if there is one."""
        if self._worker is not None:
            self._worker.close()
            self._worker = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
