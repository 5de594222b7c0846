"""Trace a network into a graph of plain operations, and run that graph."""

import copy
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import torch
from jaxtyping import Float
from torch import Tensor, fx, nn

from sevenfold.errors import UsageError

UNPRUNED: Final = (
    "leave the network unpruned (pruning.macs=0 in a training), or choose another backbone"
)
"""What to do about a network that cannot be pruned, by the command or in a training."""


@dataclass(frozen=True)
class Traced:
    """Hold a network's graph in evaluation mode, for pictures of one side.

    Args:
        graph: its nodes are ATen operations.
        tensors: for each placeholder that is a parameter or a buffer, the
            module that holds it and its name there.
        pixels: name of the placeholder of the pictures.
    """

    graph: fx.Graph
    tensors: Mapping[str, tuple[str, str]]
    pixels: str


def trace(network: nn.Module, side: int) -> Traced:
    """Trace a network with `torch.export`.

    Not by symbolic tracing: that stops at code that computes from the size of
    its input, such as the "same" padding of timm's tf_ models.

    Args:
        network: maps pictures to logits.
        side: of the pictures, in pixels; padding is settled for it.

    Raises:
        UsageError: the network cannot be traced.
    """
    from torch.export import Dim, export
    from torch.export.graph_signature import InputKind

    pixels = torch.zeros(2, 3, side, side)
    still = copy.deepcopy(network).cpu().float().eval()
    try:
        # The number of pictures stays open, so that the graph can be run on any.
        program = export(still, (pixels,), dynamic_shapes=({0: Dim.AUTO},), strict=False)
    except Exception as error:  # whatever the code of a foreign network raises
        raise UsageError(
            f"the network cannot be traced ({str(error).strip().partition(chr(10))[0]})",
            UNPRUNED,
        ) from error
    tensors, name = {}, ""
    for spec in program.graph_signature.input_specs:
        if spec.kind is InputKind.USER_INPUT:
            name = spec.arg.name
        elif spec.target is not None:
            module, _, own = spec.target.rpartition(".")
            tensors[spec.arg.name] = (module, own)
    return Traced(program.graph_module.graph, tensors, name)


def owner(node: fx.Node) -> str:
    """Return the name of the module whose code a node comes from; "" for the network's."""
    stack = node.meta.get("nn_module_stack") or {"": ("", None)}
    return str(list(stack.values())[-1][0])


def run(
    traced: Traced,
    network: nn.Module,
    pixels: Float[Tensor, "batch 3 side side"],
    watch: Callable[[str, Tensor], None],
) -> Float[Tensor, "batch classes"]:
    """Run the graph with a network's tensors and show each value that it computes.

    Args:
        traced: the network's graph.
        network: holds the tensors.
        pixels: pictures of the traced side, on the network's device.
        watch: is given the name and the value of each operation's result.
    """
    values: dict[str, Any] = {traced.pixels: pixels}
    for name, (module, own) in traced.tensors.items():
        values[name] = getattr(network.get_submodule(module), own)
    uses = Counter({node.name: len(node.users) for node in traced.graph.nodes})

    def taken(node: fx.Node) -> Any:
        return values[node.name]

    for node in traced.graph.nodes:
        if node.op == "output":
            outputs: Any = fx.node.map_arg(node.args[0], taken)
            logits: Tensor = outputs[0]
            return logits
        if node.op == "call_function":
            call: Any = node.target
            found = call(*fx.node.map_arg(node.args, taken), **fx.node.map_arg(node.kwargs, taken))
            values[node.name] = found
            if isinstance(found, Tensor):
                watch(node.name, found)
            for source in node.all_input_nodes:
                uses[source.name] -= 1
                if not uses[source.name]:
                    del values[source.name]
    raise AssertionError("a graph ends in its output")
