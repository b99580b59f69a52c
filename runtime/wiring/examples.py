"""Finds the example agents: beside the packages in a checkout, inside the package in an installation."""

import importlib.resources
from pathlib import Path


def find_examples() -> Path:
    """The folder that holds `hello` and `healthcare`.

    Raises:
        FileNotFoundError: The installation lacks it.
    """
    package = Path(str(importlib.resources.files("runtime")))
    for folder in (package / "_examples", package.parent / "examples"):
        if (folder / "healthcare").is_dir():
            return folder
    raise FileNotFoundError("the example agents are missing from this installation")
