"""Fixtures of the configuration's tests; see `tests/configs.py`."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import configs


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with what configurations point at."""
    return configs.make_files(tmp_path_factory.mktemp("files"))


@pytest.fixture
def loaded(tmp_path: Path, files: Path) -> configs.Load:
    """Loads a text from a file beside which there is a directory `keys`."""
    return configs.loader(tmp_path, files)
