"""Make files that other places can run from a finished run, each held against its model.

`onnx` is the bundle itself, `int8` a bundle of integers, `litert` a file for phones and
boards, `html` a page that needs nothing but a browser, `timm` a folder that timm loads.
"""

from sevenfold.exports.make import Asked, export

__all__ = ["Asked", "export"]
