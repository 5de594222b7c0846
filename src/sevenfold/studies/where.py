"""Say where the trainings of a study run: here, in processes of this machine, or on Ray."""

import secrets
from dataclasses import dataclass
from typing import Any

from sevenfold import trial
from sevenfold.cores import usable_cores
from sevenfold.data import Split
from sevenfold.engines import Engine, Function, Inline, Json, Local, threads_each
from sevenfold.engines.cluster import OnRay, connected
from sevenfold.errors import DataError, ResourceError, UsageError
from sevenfold.features import store
from sevenfold.place import Place
from sevenfold.progress import Progress
from sevenfold.studies import pictures
from sevenfold.studies.pictures import Reading


@dataclass(frozen=True)
class Where:
    """Say where trainings run.

    Args:
        engine: `local` or `ray`.
        address: of the Ray cluster; "" is the one that this machine belongs to.
        gpus: that each training takes on Ray, 0 or more.
        threads: of each training, the same for all; 0 is one for every eight cores.
        workers: trainings at a time; 0 is as many as there is room for.
        device: `auto`, `cpu`, `cuda` or `mps`.
        cores: of this machine that may be used; 0 is all.
    """

    engine: str = "local"
    address: str = ""
    gpus: float = 0.0
    threads: int = 0
    workers: int = 0
    device: str = "auto"
    cores: int = 0


def check(where: Where) -> None:
    """Refuse what makes no sense, before any work.

    Raises:
        UsageError: an option speaks to an engine that is not asked for.
    """
    for name, given in (("--address", where.address), ("--gpus-per-trial", where.gpus)):
        if given and where.engine != "ray":
            raise UsageError(
                f"{name} {given} would do nothing with --engine {where.engine}",
                "leave it out, or add --engine ray",
            )
    if where.engine == "ray" and where.device not in ("auto", "cpu"):
        raise UsageError(
            f"--device {where.device} would do nothing with --engine ray",
            "leave it out, and say --gpus-per-trial 1, or less where trials share one",
        )


def workers_of(threads: int, workers: int = 0, cores: int = 0) -> tuple[int, int]:
    """Return processes and the threads of each, on this machine.

    Args:
        threads: of each; 0 is one for every eight cores.
        workers: processes; 0 is as many as the cores have room for.
        cores: that may be used; 0 is all.
    """
    cores = cores or usable_cores()
    each = threads or threads_each(cores)
    return workers or max(1, cores // each), each


@dataclass(frozen=True)
class Site:
    """Hold where trainings run, opened.

    Args:
        place: of each training, where it runs on this machine.
        workers: trainings at a time on this machine.
        cluster: that they run on instead, or None.
        gpus: that each takes there.
    """

    place: Place
    workers: int
    cluster: OnRay | None
    gpus: float

    @property
    def device(self) -> str:
        """Return on what a training runs, wherever it is."""
        return "cuda" if self.cluster and self.gpus else self.place.device

    def trained(self, ground: Json) -> Place:
        """Return the place of a training, wherever it is: a part of its name.

        Args:
            ground: from `read`.
        """
        return pictures.trained_at(self.place, {**ground, "device": self.device})

    def read(
        self, reading: Reading, side: int, progress: Progress, **more: Any
    ) -> tuple[Split, dict[str, Any]]:
        """Read the pictures here, and refuse nodes that see others. Fills the store of pixels.

        Args:
            reading: which pictures.
            side: that a training sees, in pixels.
            progress: is told the reading.
            more: of the ground of all calls.

        Returns:
            The data's own roles, and the ground of all calls.

        Raises:
            DataError: they cannot be read, or a node sees others.
            ResourceError: nodes differ in what they compute with.
        """
        ground = pictures.ground_of(reading, side, self.place) | more
        readers = {"readers": self.workers * self.place.threads}
        split, _ = pictures.read(ground | readers, progress)
        ground |= {
            "device": self.device,
            "digest": pictures.digest(split.dataset, split),
        }
        if self.cluster:
            ground |= alike(self.cluster, ground)
        return split, ground

    def engine(self, functions: dict[str, Function], *, apart: bool = False) -> Engine:
        """Return what makes calls.

        Args:
            functions: that stand for those of their names where calls are made here.
            apart: whether a single worker is a process of its own, too, so that one that is
                killed loses nothing.
        """
        if self.cluster:
            return self.cluster
        if self.workers == 1 and not apart:
            return Inline(functions)
        return Local(self.workers, self.place.threads)


def opened(where: Where) -> Site:
    """Fix device and threads for this process, and connect to the cluster if one is asked for.

    Raises:
        ResourceError: there is no such device, or no such cluster.
        UsageError: several trainings at a time are asked for on one GPU.
    """
    workers, threads = workers_of(where.threads, where.workers, where.cores)
    if where.engine == "ray":
        cluster = connected(where.address, threads, where.gpus, where.workers)
        return Site(trial.place("cpu", threads), workers, cluster, where.gpus)
    place = trial.place(where.device, threads)
    if where.workers > 1 and place.device != "cpu":
        raise UsageError(
            f"--workers {where.workers}: on {place.device} one training runs at a time",
            "leave it out, or let several share a GPU: --engine ray --gpus-per-trial 0.5",
        )
    return Site(place, workers if place.device == "cpu" else 1, None, 0.0)


def alike(cluster: OnRay, ground: Json) -> Json:
    """Refuse nodes that cannot read the pictures, or that are not of one kind.

    Leaves a file in the stores for as long, by which nodes tell whether they share them.

    Returns:
        The `kind` of the nodes, and whether all share the stores of this machine.

    Raises:
        DataError: a node cannot read them, or sees others.
        ResourceError: nodes differ in what they compute with.
    """
    token = store.home() / f"shared-{secrets.token_hex(8)}"
    token.parent.mkdir(parents=True, exist_ok=True)
    token.write_bytes(b"")
    try:
        answers = cluster.everywhere({"ground": ground, "token": token.name}, pictures.CHECK)
    except DataError as error:
        raise DataError(
            error.problem,
            "share one folder of pictures among the nodes, or copy it to the same path on each",
        ) from error
    finally:
        token.unlink(missing_ok=True)
    kinds = sorted({str(one["kind"]) for one in answers})
    if len(kinds) > 1:
        raise ResourceError(
            f"the nodes of the Ray cluster differ ({'; '.join(kinds)}), and all trainings that "
            "are compared must run on one kind",
            "give the cluster nodes of one kind, or start one of them alone",
        )
    here = pictures.software()
    if others := sorted({str(one["software"]) for one in answers} - {here}):
        raise ResourceError(
            f"a node of the Ray cluster has {others[0]}, and this machine {here}",
            "install the same versions on every node",
        )
    return {"kind": kinds[0], "shared": all(one["shared"] for one in answers)}
