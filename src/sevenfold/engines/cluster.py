"""Run calls on a Ray cluster: the same functions, JSON in and JSON out."""

import json
import socket
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final

from sevenfold.engines.local import TRIES, Heard, Json, answered, named, result_of
from sevenfold.errors import ResourceError, SevenfoldError, installing

_PATIENCE_SECONDS: Final = 10.0


@dataclass(frozen=True)
class OnRay:
    """Make calls on the nodes of a Ray cluster.

    Args:
        threads: processor cores that each call takes.
        gpus: that each call takes; below 1 several share one.
        workers: calls at a time that the cluster has room for, or fewer.
        most: calls that are handed to it at a time; 0 is all, so that it can grow by them.
    """

    threads: int
    gpus: float
    workers: int
    most: int = 0

    def run(
        self, calls: Sequence[Json], function: str, heard: Heard | None = None
    ) -> Iterator[tuple[int, Json]]:
        """Make calls on the cluster; see `local.Engine`. Ray makes a lost one again.

        How far a call is cannot be heard from there.
        """
        ray = _ray()
        task = ray.remote(_called).options(
            num_cpus=self.threads, num_gpus=self.gpus, max_retries=TRIES - 1
        )
        waiting = enumerate(calls)

        def handed(count: int) -> dict[Any, int]:
            some = islice(waiting, count)
            return {task.remote(function, json.dumps(call)): at for at, call in some}

        tasks = handed(self.most or len(calls))
        try:
            while tasks:
                (done,), _ = ray.wait(list(tasks), num_returns=1)
                number = tasks.pop(done)
                tasks |= handed(1)
                yield number, result_of(json.loads(_got(ray, done)))
        finally:
            for one in tasks:
                ray.cancel(one, force=True)

    def everywhere(self, call: Json, function: str) -> list[Json]:
        """Make one call on every node of the cluster that has room for it.

        Raises:
            SevenfoldError: as a node raised it.
        """
        ray = _ray()
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy as On

        nodes = [node for node, _ in _roomy(ray, self.threads, self.gpus)]
        tasks = [
            ray.remote(_called)
            .options(
                num_cpus=self.threads,
                num_gpus=self.gpus,  # without them Ray hides the node's GPUs
                scheduling_strategy=On(node["NodeID"], soft=False),
            )
            .remote(function, json.dumps(call))
            for node in nodes
        ]
        found = []
        for node, one in zip(nodes, tasks, strict=True):
            try:
                found.append(result_of(json.loads(_got(ray, one))))
            except SevenfoldError as error:
                name = node.get("NodeManagerHostname") or node["NodeID"]
                raise type(error)(f"node {name}: {error.problem}", error.cure) from error
        return found


def connected(address: str, threads: int, gpus: float, most: int = 0) -> OnRay:
    """Connect to a cluster and count what it has room for.

    Args:
        address: such as `auto` or `ray://head:10001`; `local` starts one here;
            "" is `auto`.
        threads: cores that each call takes, 1 or more.
        gpus: that each call takes, 0 or more.
        most: calls at a time; 0 is as many as there is room for.

    Raises:
        ResourceError: Ray is not installed, no cluster answers, or a call needs more than
            any node has.
    """
    ray = _ray()
    where = address or "auto"
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    try:
        if not ray.is_initialized():
            _knock(where)
            ray.init(address=where, **options)
    except Exception as error:  # Ray has no common class for them
        told = str(error).strip().splitlines() or [type(error).__name__]
        raise ResourceError(
            f"--address {where}: no Ray cluster answers ({told[0]})",
            "start one with `ray start --head`, name its address, or use --engine local",
        ) from error
    room = sum(calls for _, calls in _roomy(ray, threads, gpus))
    if not room:
        raise ResourceError(
            f"no node of the Ray cluster {where} has {threads} cores and {gpus:g} GPUs for a trial",
            "give fewer --threads or --gpus-per-trial, or add nodes",
        )
    return OnRay(threads, gpus, min(room, most or room), most)


def _knock(address: str) -> None:
    """Reach the port of an address that names one: Ray ends the whole process where it cannot.

    Raises:
        OSError: nobody answers there.
    """
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if colon and port.isdecimal():
        socket.create_connection((host.strip("[]"), int(port)), _PATIENCE_SECONDS).close()


def _ray() -> Any:
    try:
        import ray
    except ModuleNotFoundError as error:
        raise ResourceError(
            "--engine ray: the package ray is not installed",
            f"{installing('ray')}, on every node; or use --engine local",
        ) from error
    return ray


def _roomy(ray: Any, threads: int, gpus: float) -> list[tuple[Any, int]]:
    """List the living nodes that have room for a call, each with how many it has room for."""
    found = []
    for node in ray.nodes():
        has = node["Resources"]
        calls = int(has.get("CPU", 0) // threads) if node["Alive"] else 0
        if gpus:
            calls = min(calls, int(has.get("GPU", 0) // gpus))
        if calls:
            found.append((node, calls))
    return found


def _got(ray: Any, task: Any) -> str:
    """Fetch an answer."""
    try:
        return str(ray.get(task))
    except ray.exceptions.RayError as error:
        told = str(error).strip().splitlines()
        raise ResourceError(
            f"a node of the Ray cluster failed: {told[-1] if told else type(error).__name__}",
            "look at the node's log; the same command goes on from what is there",
        ) from error


def _called(function: str, text: str) -> str:
    return json.dumps(answered(named(function), json.loads(text)))
