"""Average a network's weights over its last steps."""

import torch
from torch import nn


class Average:
    r"""Keep an exponential moving average of a network's weights and statistics.

    $$a \leftarrow d\,a + (1 - d)\,w, \quad
    d = \min\left(\frac{1 + t}{10 + t}, 1 - \frac{1}{h}\right)$$

    with $t$ the steps so far and the horizon $h$ a share of all steps, so that
    short and long trainings forget their start alike.

    Args:
        module: what is averaged.
        horizon: $h$ in steps; 1 keeps the weights themselves.
    """

    def __init__(self, module: nn.Module, horizon: float) -> None:
        self.tensors = {name: value.clone() for name, value in module.state_dict().items()}
        self.steps = 0
        self._horizon = max(1.0, horizon)

    @torch.no_grad()
    def update(self, module: nn.Module) -> None:
        """Take in the weights after a step."""
        self.steps += 1
        decay = min((1 + self.steps) / (10 + self.steps), 1 - 1 / self._horizon)
        for name, value in module.state_dict().items():
            if value.is_floating_point():
                self.tensors[name].lerp_(value, 1 - decay)
            else:
                self.tensors[name].copy_(value)
