"""Time bundles on the machine that they are for, and write what predicts others. No torch.

`run` times whole graphs and writes the latency table; `layers` times the layers that the
table predicts by; `onnx_bytes` writes the files of single layers.
"""

from sevenfold.bench.run import bench, refuse, write

__all__ = ["bench", "refuse", "write"]
