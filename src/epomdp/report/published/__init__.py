"""Figures that others have published, as small tables; each says where it is from in its first lines."""

import csv
from importlib.resources import files


def read(name: str) -> list[dict[str, str]]:
    """The rows of one table by its file's name, without its comment."""
    lines = (files(__name__) / name).read_text(encoding="utf-8").splitlines()
    return list(csv.DictReader(line for line in lines if not line.startswith("#")))
