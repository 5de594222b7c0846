"""Answer with a trained model from Python: `python examples/classify.py RUN PHOTO…`."""

import sys
from pathlib import Path

from sevenfold import predict
from sevenfold.answers import Failure


def main(arguments: list[str]) -> None:
    """Print the label and its probability for each picture; needs no torch."""
    run, *photos = arguments
    predictor = predict.load(Path(run))
    for found in predict.predict(predictor, predict.sources(photos)):
        if isinstance(found, Failure):
            print(f"{found.path}\tno answer: {found.reason}", file=sys.stderr)
        else:
            print(f"{found.path}\t{found.label}\t{found.probability:.3f}")


if __name__ == "__main__":
    main(sys.argv[1:])
