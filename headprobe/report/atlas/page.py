"""The atlas as one self-contained HTML file.

The page loads nothing: style, script and data are inside, and its Content-Security-Policy allows
only the script and the style whose hashes it names. The data is JSON in which ``<`` is escaped; the
script puts text into the page as text, never as markup.
"""

import base64
import hashlib
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from headprobe.report.atlas.data import Json, json_text
from headprobe.report.colours import style_rules

_FOLDER = Path(__file__).parent

_ESCAPES = {
    "<": "\\u003c",
    ">": "\\u003e",
    "&": "\\u0026",
    "\u2028": "\\u2028",
    "\u2029": "\\u2029",
}


def draw_atlas(data: Json) -> str:
    """Return the HTML page that shows the data of ``atlas.data``."""
    script, style = (
        (_FOLDER / name).read_text(encoding="utf-8") for name in ("atlas.js", "atlas.css")
    )
    style = f"{style}{style_rules()}\n"
    environment = Environment(
        loader=FileSystemLoader(_FOLDER), autoescape=True, undefined=StrictUndefined
    )
    return environment.get_template("atlas.html").render(
        data=Markup(json_for_html(data)),  # noqa: S704 - escaped by json_for_html
        model=data["model"],
        version=data["version"],
        script=Markup(script),  # noqa: S704 - our own file
        style=Markup(style),  # noqa: S704 - our own file
        script_hash=_hash(script),
        style_hash=_hash(style),
    )


def json_for_html(value: object) -> str:
    """Return JSON that can stand in a script element: it cannot end the element."""
    text = json_text(value)
    for character, escape in _ESCAPES.items():
        text = text.replace(character, escape)
    return text


def _hash(text: str) -> str:
    """The source expression of an inline script or style in a Content-Security-Policy."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
