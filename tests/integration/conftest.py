from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def stores(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("stores")


@pytest.fixture
def few_pictures(stores):
    """Let few pictures have val, and keep a module's stores in one place."""
    import finished

    with finished.few_pictures(stores):
        yield
