"""Hold what runs a model in a browser: onnxruntime-web, named by its hashes.

The files lie in `vendor/`, so that nothing is fetched when a page is made; `vendor/README.md`
says where they come from.
"""

import gzip
import hashlib
import re
from importlib.resources import files
from typing import Final, NamedTuple, final

from sevenfold.errors import ModelError

VERSION: Final = "1.30.0"
SCRIPT: Final = "ort.wasm.bundle.min.mjs"
BINARY: Final = "ort-wasm-simd-threaded.wasm.gz"
SHA256: Final = {
    SCRIPT: "11e64bd8ffe11bd1a2a2f0d6275fdfbbba7262f0b76b99b53d228a8a22ef3d90",
    BINARY: "3398c10d07d229bd91b364548e130e0e51a8e5704b88c7c083ebbeb78842dee2",
}
"""Of each file's content, the binary's after it is unpacked."""

_EXPORTS: Final = re.compile(r"export\{([^{}]+)\};\s*(//# sourceMappingURL=\S*\s*)?$")


@final
class Runtime(NamedTuple):
    """Hold the runtime in the forms that a page wants.

    Args:
        script: of a module; defines `ort` and exports nothing.
        binary: WebAssembly, gzipped.
        licence: of both.
    """

    script: str
    binary: bytes
    licence: str


def runtime() -> Runtime:
    """Read the runtime.

    Raises:
        ModelError: a file is not the one that is named by its hash.
    """
    place = files("sevenfold.exports") / "vendor"
    script, binary = (place / SCRIPT).read_bytes(), (place / BINARY).read_bytes()
    for name, content in ((SCRIPT, script), (BINARY, gzip.decompress(binary))):
        if hashlib.sha256(content).hexdigest() != SHA256[name]:
            raise ModelError(f"{name} of this installation is damaged", "reinstall sevenfold")
    licence = (place / "LICENSE").read_text("utf-8")
    return Runtime(in_one_script(script.decode("utf-8")), binary, licence)


def in_one_script(module: str) -> str:
    """Turn what a module exports into an object `ort`, so that its user can stand behind it.

    A page opened from a disk may not import a second module.

    Example:
        >>> in_one_script("let a=1;export{a as Tensor};")
        'let a=1;const ort={Tensor:a};'
    """
    found = _EXPORTS.search(module)
    if not found:
        raise ModelError("the browser's runtime has no list of exports", "reinstall sevenfold")
    pairs = (pair.split(" as ") for pair in found[1].split(","))
    names = ",".join(f"{there}:{here}" for here, there in pairs)
    return f"{module[: found.start()]}const ort={{{names}}};"
