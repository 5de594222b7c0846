"""Make calls in this process, in others of this machine, or on a Ray cluster.

An engine knows nothing of what it runs. A call is a JSON object, a function is named
`module:function` and takes and returns one; what it returns must depend on the call alone,
so that a call whose process was killed is simply made again. `local` runs them on this
machine, `cluster` on Ray.
"""

from sevenfold.engines.local import (
    Engine,
    Function,
    Heard,
    Inline,
    Json,
    Local,
    answered,
    named,
    result_of,
    threads_each,
)

__all__ = [
    "Engine",
    "Function",
    "Heard",
    "Inline",
    "Json",
    "Local",
    "answered",
    "named",
    "result_of",
    "threads_each",
]
