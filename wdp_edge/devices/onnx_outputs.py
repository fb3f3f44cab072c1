"""`python -m wdp_edge.devices.onnx_outputs FILE INPUTS OUTPUTS`: what ONNX Runtime computes, without torch.

Under an emulator, importing torch would take minutes. INPUTS: .npy, [n, ...] of the file's input type. OUTPUTS: where
.npy, [n, K] float32, is written.
"""

from __future__ import annotations

import sys


def main(model: str, inputs: str, outputs: str) -> None:
    import numpy as np
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    images = np.load(inputs, allow_pickle=False)
    found = [session.run(None, {name: images[i : i + 1]})[0] for i in range(len(images))]
    np.save(outputs, np.concatenate(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
