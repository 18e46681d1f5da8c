"""From a template to one file: autoescaping, inlined style and scripts, data URIs, an atomic write."""

import base64
import hashlib
import io
import json
import os
import tempfile
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
from markupsafe import Markup
from numpy.typing import ArrayLike
from PIL import Image

from epomdp.errors import BadInput, RunFailed
from epomdp.report import text

TEMPLATES = "templates"


def render_template(name: str, *scripts: str, **values: Any) -> str:
    """One HTML page from a template of this package, with the style sheet and `scripts` (file names) inside it.

    The page may load nothing from anywhere: its content security policy allows inline style, data images and its
    own script, by its hash, so that text which slipped through escaping could still not run.
    """
    source = "\n".join(map(_read, scripts))
    digest = base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()
    allowed = f"'sha256-{digest}'" if scripts else "'none'"
    policy = (
        f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src {allowed}; "
        "base-uri 'none'; form-action 'none'"
    )
    inline = {"style": Markup(_read("style.css")), "script": Markup(source), "policy": policy}
    return _environment().get_template(name).render(**inline, **values)


def _read(name: str) -> str:
    return files("epomdp.report").joinpath(TEMPLATES, name).read_text(encoding="utf-8")


@lru_cache(maxsize=1)
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("epomdp.report", TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=lambda value: value if isinstance(value, Markup) else text.clean(value),
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "number": text.number,
        "interval": text.interval,
        "percent": text.percent,
        "count": text.count,
        "plural": text.plural,
        "shorten": text.shorten,
        "script_json": script_json,
        "data_uri": data_uri,
    }
    return environment


def script_json(value: Any) -> Markup:
    """JSON for a `<script type="application/json">`: nothing in it can end the element or open another.

    Raises ValueError for NaN and infinities, which JSON does not have.
    """
    written = json.dumps(value, allow_nan=False, separators=(",", ":"))
    return Markup(written.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e"))


def data_uri(image: ArrayLike) -> str:
    """A PNG data URI of an image: (H, W), (H, W, 1) or (H, W, 3), uint8, or floats in [0, 1]."""
    pixels = np.asarray(image)
    if pixels.ndim == 3 and pixels.shape[2] == 1:
        pixels = pixels[:, :, 0]
    if pixels.ndim not in (2, 3) or 0 in pixels.shape or (pixels.ndim == 3 and pixels.shape[2] != 3):
        raise BadInput(f"an image has shape {pixels.shape}: give (height, width) or (height, width, 3)")
    if pixels.dtype.kind in "iu" and pixels.dtype != np.uint8:
        raise BadInput(f"an image has dtype {pixels.dtype}: give uint8, or floats in [0, 1]")
    if pixels.dtype != np.uint8:
        pixels = np.round(255 * np.clip(pixels.astype(float), 0, 1)).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(buffer, format="PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def write_page(page: str, path: str | os.PathLike[str]) -> Path:
    """Write a page under a temporary name beside `path` and rename it: a reader sees the old one or the whole new one.

    Raises BadInput where the place cannot be written to, RunFailed where the disk is full or fails.
    """
    target = Path(path)
    if target.is_dir():
        raise BadInput(f"{target} is a directory: name a file for the page, such as {target / 'report.html'}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.", suffix=".tmp")
    except OSError as error:
        raise BadInput(
            f"cannot write the page to {target}: {error.strerror}; choose another place"
        ) from error
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="\n") as file:
            file.write(page)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, target)
    except OSError as error:
        raise RunFailed(
            f"the page could not be written to {target}: {error.strerror}; free some space"
        ) from error
    finally:
        Path(temporary).unlink(missing_ok=True)
    return target
