"""The image of the main comparison."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from epomdp.report import contents as c
from epomdp.report.figures import save_returns


def test_an_image_is_saved_with_marks_of_both_kinds(page: c.Page, tmp_path: Path) -> None:
    save_returns(page, tmp_path / "returns.png")
    with Image.open(tmp_path / "returns.png") as image:
        pixels = np.asarray(image.convert("RGB"))
    for colour in ((0x00, 0x72, 0xB2), (0x5B, 0x65, 0x70)):
        assert (pixels == colour).all(axis=2).sum() > 50


@pytest.mark.parametrize("name", ["$x^{", "</text>"])
def test_names_are_not_mathematics(name: str, tmp_path: Path) -> None:
    page = c.Page(
        "t", "v", policies=[c.PolicyRow("a", name, test=c.Score(1.0))], references=[c.Reference("r", name, 2)]
    )
    save_returns(page, tmp_path / "returns.svg")
    assert (tmp_path / "returns.svg").stat().st_size > 0
