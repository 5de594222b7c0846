"""Answer a stream of pictures in order, in constant memory."""

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from sevenfold import drift, image
from sevenfold.answers import Answer, Failure, Source
from sevenfold.bundles import open_session
from sevenfold.cores import usable_cores
from sevenfold.errors import ModelError, ResourceError, SevenfoldError
from sevenfold.predict.predictor import Predictor, check_maps


def predict(
    predictor: Predictor,
    pictures: Iterable[Source],
    *,
    threads: int = 0,
    explain: Path | None = None,
    tally: drift.Tally | None = None,
) -> Iterator[Answer | Failure]:
    """Answer a stream of pictures in order; one that fails gives a `Failure`.

    A few pictures for each thread are in memory at a time, however many come.

    Args:
        predictor: from `load`.
        pictures: from `sources`, or pairs of a path and a function that reads the bytes.
        threads: pictures at a time; 0 is one for each core.
        explain: folder for pictures with the map of the evidence over them; it must exist.
        tally: counts the answers, where there is one.

    Raises:
        UsageError: maps are asked for, and the model has none.
        ResourceError: a map cannot be written.
    """
    if explain:
        check_maps(predictor)
    workers = threads or usable_cores()
    if workers > 1 and predictor.threads != 1:
        # Pictures side by side use all cores already.
        session = open_session(predictor.bundle, 1)
        predictor = replace(predictor, threads=1, session=session)
    window: deque[Future[Answer | Failure]] = deque()
    pool = ThreadPoolExecutor(workers)
    try:
        for source in pictures:
            window.append(pool.submit(_outcome, predictor, source, explain))
            if len(window) > 2 * workers:
                yield _counted(window.popleft().result(), tally)
        while window:
            yield _counted(window.popleft().result(), tally)
    finally:
        pool.shutdown(cancel_futures=True)


def _counted(outcome: Answer | Failure, tally: drift.Tally | None) -> Answer | Failure:
    if tally is not None and isinstance(outcome, Answer):
        tally.add(outcome.label, outcome.distance, outcome.unlike, outcome.path)
    return outcome


def _outcome(predictor: Predictor, source: Source, explain: Path | None) -> Answer | Failure:
    path, read = source
    try:
        if explain:
            return predictor.explain(read(), path, explain)
        return predictor.answer(read(), path)
    except ResourceError:  # no other picture could be written either
        raise
    except Exception as error:  # one picture must not cost the answers of all others
        return failed(path, error)


def failed(path: str, error: Exception) -> Failure:
    """Say in one line why a picture has no answer."""
    if isinstance(error, SevenfoldError):
        reason = error.problem.removeprefix(f"{image.shown(path)}: ")
        return Failure(path, reason, of_model=isinstance(error, ModelError))
    if isinstance(error, OSError):
        return Failure(path, error.strerror or str(error))
    return Failure(path, f"{type(error).__name__}: {error}")
