"""Start with Adam and go on with SGD: one optimizer, whatever the schedule."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, cast, final, overload

import torch
from torch import Tensor

from sevenfold.errors import UsageError

CRITERIA: Final = ("ratio", "paper")
_TOLERANCE: Final = 0.1  # largest relative change of the ratio over a window
_PAPER_EPSILON: Final = 1e-9  # Keskar & Socher 2017, algorithm 1
# At most every 16th step: benchmarks/switch_overhead.py.
_SPARSEST: Final = 16
_MEASURES: Final = 8  # in each window, where it has so many steps


@dataclass(frozen=True)
class Decision:
    """Say whether and when SGD took over.

    Args:
        step: the last one of Adam, counted from 1; None: it did not switch.
        ratios: of SGD's rate to Adam's, one for each group; while it has not
            switched, as measured so far; 0 where nothing was measured.
    """

    step: int | None
    ratios: tuple[float, ...]


def decision(optimizer: torch.optim.Optimizer) -> Decision | None:
    """Tell what a switch has decided; None for any other optimizer.

    Example:
        >>> weight = torch.nn.Parameter(torch.ones(2))
        >>> decision(Switch([weight], window=10))
        Decision(step=None, ratios=(0.0,))
    """
    if not isinstance(optimizer, Switch):
        return None
    return Decision(optimizer.switched_at, optimizer.ratios)


@final
class Switch(torch.optim.Optimizer):
    r"""Move weights by Adam, then by SGD at the rate that Adam's steps suggest.

    With the rate $\alpha_t$ of any schedule, Adam's direction at a rate of one $u_t$
    and the gradient $g_t$, the first phase is Adam with decoupled decay $d$ and keeps
    for each group the ratio

    $$\rho = \frac{\mathrm{EMA}(u \cdot u)}{\mathrm{EMA}(u \cdot g)}, \quad
    u_t = \frac{\hat m_t}{\sqrt{\hat v_t} + \epsilon}$$

    over the steps after the warm-up. After each `window` of steps the same ratio of all
    groups together is compared with the one before; where both are positive and less
    than 10 % apart, all groups go over to

    $$v \leftarrow \beta_1 v + g, \quad
    w \leftarrow (1 - \alpha_t d)\,w - (1 - \beta_1)\,\rho\,\alpha_t\,v$$

    with $v = 0$ at first. Since $\rho$ is free of $\alpha$, the schedule stays in charge
    of both phases and decay does not jump. All groups together decide because their
    ratio is the one with the least noise: a few biases cannot hold the others back, nor
    take them along. Each group has its own ratio because rates and gradients differ from
    group to group; one that saw no gradient, or went against it, takes the common one.

    The averages forget over a window: with those of Adam's second moment, a thousand
    steps, a short run would be compared with itself and always be found at rest. Their
    dot products are taken eight times in a window, but not more often than each step nor
    less often than each 16th.

    The method is Keskar & Socher's (2017, arXiv 1712.07628). They average
    $\gamma = \alpha\,(u \cdot u)/(u \cdot g)$, a ratio of single steps that follows the
    schedule, and switch when it is within $10^{-9}$ of its average; SGD then has a
    constant rate. `criterion="paper"` is that test, at each step from the second on,
    over all parameters as one vector; we differ in that a negative or infinite estimate
    never switches and that the schedule goes on from the estimate.

    Args:
        params: tensors or groups of them; real numbers, dense gradients.
        lr: $\alpha$, 0 or more.
        betas: of the two moments, 0 to below 1; the first is SGD's momentum.
        eps: $\epsilon$, 0 or more.
        weight_decay: $d$, decoupled in both phases, 0 or more.
        nesterov: whether SGD looks ahead: $g + \beta_1 v$ instead of $v$.
        window: steps of an epoch; 0 never switches. A state that is loaded brings its own, and
            its own warm-up and criterion.
        warmup: steps that are not looked at.
        criterion: one of `CRITERIA`.

    Raises:
        UsageError: a value is out of range; in `step`: a gradient is sparse or complex.
    """

    def __init__(
        self,
        params: Any,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        *,
        nesterov: bool = False,
        window: int = 0,
        warmup: int = 0,
        criterion: str = "ratio",
    ) -> None:
        for name, value in {"lr": lr, "eps": eps, "weight_decay": weight_decay}.items():
            _refuse(not 0 <= value < math.inf, name, value, "0 or more")
        for beta in betas:
            _refuse(not 0 <= beta < 1, "betas", betas, "two numbers of 0 to below 1")
        _refuse(nesterov and betas[0] == 0, "nesterov", nesterov, "a first beta above 0")
        for name, value in {"window": window, "warmup": warmup}.items():
            _refuse(value < 0, name, value, "0 or more steps")
        _refuse(criterion not in CRITERIA, "criterion", criterion, " or ".join(CRITERIA))
        defaults = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay}
        defaults |= {"nesterov": nesterov, "square": 0.0, "along": 0.0, "ratio": 0.0}
        super().__init__(params, defaults)
        run = {"step": 0, "switched": 0, "last": 0.0, "mean": 0.0, "ratio": 0.0}
        self._run = run | {"window": window, "warmup": warmup, "criterion": criterion}

    @property
    def _run(self) -> dict[str, Any]:
        """How it decides, and what is known of all groups; part of the state, so it is saved."""
        return cast(dict[str, Any], cast(dict[Any, Any], self.state)["switch"])

    @_run.setter
    def _run(self, run: dict[str, Any]) -> None:
        cast(dict[Any, Any], self.state)["switch"] = run

    @property
    def switched_at(self) -> int | None:
        """The last step of Adam; None before the switch."""
        return self._run["switched"] or None

    @property
    def ratios(self) -> tuple[float, ...]:
        """The ratio of each group: decided, or as measured so far (0: unknown)."""
        if self.switched_at is None:
            return tuple(_ratio(group["square"], group["along"]) for group in self.param_groups)
        return tuple(group["ratio"] or self._run["ratio"] for group in self.param_groups)

    @property
    def effective_rates(self) -> tuple[float, ...]:
        r"""The rate of each group's next step: $\alpha$ of Adam, $\rho\,\alpha$ of SGD."""
        rates = [float(group["lr"]) for group in self.param_groups]
        if self.switched_at is None:
            return tuple(rates)
        return tuple(ratio * rate for ratio, rate in zip(self.ratios, rates, strict=True))

    @overload
    def step(self, closure: None = None) -> None: ...

    @overload
    def step(self, closure: Callable[[], float]) -> float: ...

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Take one step, and decide after it whether the next one is of SGD.

        Args:
            closure: computes the loss and its gradients anew.

        Returns:
            What the closure returned.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        run = {**self._run, "step": self._run["step"] + 1}
        if run["switched"]:
            for group, rate in zip(self.param_groups, self.effective_rates, strict=True):
                self._descend(group, rate)
        else:
            looks = self._looks(run["step"])
            dots = [self._adapt(group, looks) for group in self.param_groups]
            if looks:
                ratios = self._judge(run, dots)
                for group, ratio in zip(self.param_groups, ratios, strict=False):
                    group["ratio"] = ratio
        self._run = run
        return loss

    def _looks(self, step: int) -> bool:
        """Tell whether dot products are taken at a step."""
        window: int = self._run["window"]
        if not window or self._run["criterion"] == "paper":
            return bool(window)
        after: int = step - self._run["warmup"]
        # The end of a window is always looked at: there it decides.
        return after > 0 and after % window % _stride(window) == 0

    def _adapt(self, group: dict[str, Any], looks: bool) -> tuple[float, float]:
        """Take Adam's step, in torch's order of operations; return u·u and u·g."""
        weights, gradients = _moving(group)
        if not weights:
            return 0.0, 0.0
        states = [self.state[weight] for weight in weights]
        for weight, state in zip(weights, states, strict=True):
            if not state:
                state |= {"step": 0, "exp_avg": _zeros(weight), "exp_avg_sq": _zeros(weight)}
            state["step"] += 1
        means = [state["exp_avg"] for state in states]
        squares = [state["exp_avg_sq"] for state in states]
        first, second = group["betas"]
        rate = float(group["lr"])
        if group["weight_decay"]:
            torch._foreach_mul_(weights, 1 - rate * group["weight_decay"])
        torch._foreach_lerp_(means, gradients, 1 - first)
        torch._foreach_mul_(squares, second)
        torch._foreach_addcmul_(squares, gradients, gradients, 1 - second)
        scales = torch._foreach_sqrt(squares)
        torch._foreach_div_(scales, [(1 - second ** state["step"]) ** 0.5 for state in states])
        torch._foreach_add_(scales, group["eps"])
        shares = [1 - first ** state["step"] for state in states]
        torch._foreach_addcdiv_(weights, means, scales, [-(rate / share) for share in shares])
        return _dots(means, scales, gradients, shares) if looks else (0.0, 0.0)

    def _descend(self, group: dict[str, Any], rate: float) -> None:
        """Take SGD's step, in torch's order of operations."""
        weights, gradients = _moving(group)
        if not weights:
            return
        for weight in weights:
            if "momentum_buffer" not in self.state[weight]:
                self.state[weight] = {"momentum_buffer": _zeros(weight)}
        buffers = [self.state[weight]["momentum_buffer"] for weight in weights]
        momentum = group["betas"][0]
        if group["weight_decay"]:
            torch._foreach_mul_(weights, 1 - float(group["lr"]) * group["weight_decay"])
        torch._foreach_mul_(buffers, momentum)
        torch._foreach_add_(buffers, gradients)
        moves: list[Tensor] | tuple[Tensor, ...] = buffers
        if group["nesterov"]:
            moves = torch._foreach_add(gradients, buffers, alpha=momentum)
        torch._foreach_add_(weights, moves, alpha=-(1 - momentum) * rate)

    def _judge(self, run: dict[str, Any], dots: Sequence[tuple[float, float]]) -> list[float]:
        """Take in a measurement; return each group's ratio if SGD takes over, or nothing."""
        by_paper = run["criterion"] == "paper"
        ratios = self._by_paper(run, dots) if by_paper else self._by_ratio(run, dots)
        if ratios:
            run["switched"] = run["step"]
        return ratios

    def _by_ratio(self, run: dict[str, Any], dots: Sequence[tuple[float, float]]) -> list[float]:
        window = run["window"]
        # The factor of what is new cancels in the ratio.
        forget = (1 - 1 / window) ** _stride(window)
        for group, (square, along) in zip(self.param_groups, dots, strict=True):
            group["square"] = forget * group["square"] + square
            group["along"] = forget * group["along"] + along
        if (run["step"] - run["warmup"]) % window:
            return []
        squares = [group["square"] for group in self.param_groups]
        alongs = [group["along"] for group in self.param_groups]
        last, run["last"] = run["last"], _ratio(sum(squares), sum(alongs))
        if not last or not abs(run["last"] - last) < _TOLERANCE * last:
            return []
        run["ratio"] = run["last"]
        return [
            _ratio(square, along) or run["ratio"]
            for square, along in zip(squares, alongs, strict=True)
        ]

    def _by_paper(self, run: dict[str, Any], dots: Sequence[tuple[float, float]]) -> list[float]:
        rates = [float(group["lr"]) for group in self.param_groups]
        square = sum(rate**2 * pair[0] for rate, pair in zip(rates, dots, strict=True))
        along = sum(rate * pair[1] for rate, pair in zip(rates, dots, strict=True))
        if along == 0:
            return []
        forget = self.param_groups[0]["betas"][1]
        run["mean"] = forget * run["mean"] + (1 - forget) * square / along
        estimate = run["mean"] / (1 - forget ** run["step"])
        close = abs(estimate - square / along) < _PAPER_EPSILON
        if run["step"] == 1 or not close or not estimate > 0 or not all(rates):
            return []
        run["ratio"] = estimate / max(rates)
        return [estimate / rate for rate in rates]


def _stride(window: int) -> int:
    """Return after how many steps dot products are taken again."""
    return max(1, min(_SPARSEST, window // _MEASURES))


def _ratio(square: float, along: float) -> float:
    """Divide; 0 where the result would not be positive and finite."""
    ratio = square / along if along > 0 else 0.0
    return ratio if math.isfinite(ratio) else 0.0


def _moving(group: dict[str, Any]) -> tuple[list[Tensor], list[Tensor]]:
    """Return the weights that have a gradient, and the gradients."""
    weights = [weight for weight in group["params"] if weight.grad is not None]
    return weights, [weight.grad for weight in weights]


def _zeros(weight: Tensor) -> Tensor:
    """Begin a weight's state, or refuse a weight that has none here."""
    gradient = cast(Tensor, weight.grad)
    if weight.is_complex() or gradient.is_sparse:
        kind = "complex" if weight.is_complex() else "sparse"
        raise UsageError(
            f"the switch has been given a {kind} gradient of shape {tuple(weight.shape)}",
            "choose optimization.name=sgd for such weights",
        )
    return torch.zeros_like(weight)


def _dots(
    means: Sequence[Tensor],
    scales: Sequence[Tensor],
    gradients: Sequence[Tensor],
    shares: Sequence[float],
) -> tuple[float, float]:
    """Return u·u and u·g of a group; overwrites the scales."""
    dots = []
    for mean, scale, gradient in zip(means, scales, gradients, strict=True):
        direction = _flat(torch.div(mean, scale, out=scale))
        dots += [direction.dot(direction), direction.dot(_flat(gradient))]
    # One wait for the device, not one for each tensor.
    found = torch.stack(dots).tolist()
    square = sum(dot / share**2 for dot, share in zip(found[::2], shares, strict=True))
    along = sum(dot / share for dot, share in zip(found[1::2], shares, strict=True))
    return float(square), float(along)


def _flat(tensor: Tensor) -> Tensor:
    """Lay out as a vector that is precise enough for sums."""
    return tensor.reshape(-1).to(torch.promote_types(tensor.dtype, torch.float32))


def _refuse(wrong: bool, name: str, value: object, wanted: str) -> None:
    if wrong:
        raise UsageError(f"{name} = {value!r} makes no sense for the switch", f"give {wanted}")
