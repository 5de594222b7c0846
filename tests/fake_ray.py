"""Stand for a Ray cluster where none is installed."""

from typing import Any


class FakeRay:
    """Stand for Ray: the same calls, made at once in this process."""

    def __init__(self, nodes: int = 2, cores: int = 2) -> None:
        self.cluster = [
            {"NodeID": f"{at}", "Alive": True, "Resources": {"CPU": float(cores)}}
            for at in range(nodes)
        ]
        self.options_seen: list[dict[str, Any]] = []

    class exceptions:
        class RayError(Exception):
            pass

    def is_initialized(self) -> bool:
        return False

    def init(self, address: str, **_options: Any) -> None:
        if address == "nowhere":
            raise ConnectionError("nobody there\nand more")

    def nodes(self) -> list[Any]:
        return self.cluster

    def remote(self, function: Any) -> Any:
        outer = self

        class Task:
            def options(self, **seen: Any) -> "Task":
                outer.options_seen.append(seen)
                return self

            def remote(self, *given: Any) -> tuple[str, ...]:
                return (function(*given),)

        return Task()

    def wait(self, tasks: list[Any], num_returns: int) -> tuple[list[Any], list[Any]]:
        return [tasks[-1]], tasks[:-1]  # the last first: order must not matter

    def get(self, task: tuple[str, ...]) -> str:
        return task[0]

    def cancel(self, task: Any, force: bool) -> None:
        pass
