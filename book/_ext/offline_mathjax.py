"""Serve MathJax from the book itself, so that a copied folder of pages reads offline."""

import shutil
from importlib.util import find_spec
from pathlib import Path

FILES = ["tex-chtml-full.js", "output/chtml/fonts"]


def _point_to_local_copy(app, config):
    config.mathjax_path = "mathjax/tex-chtml-full.js"


def _copy(app):
    if app.builder.format != "html":
        return
    # Straight into the output: in a source `_static` folder Jupyter Book would add the script to every page.
    source = Path(find_spec("mathjax").origin).parent / "static" / "mathjax" / "es5"
    target = Path(app.outdir) / "_static" / "mathjax"
    for name in FILES:
        if (source / name).is_dir():
            shutil.copytree(source / name, target / name, dirs_exist_ok=True)
        else:
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source / name, target / name)


def setup(app):
    app.connect("config-inited", _point_to_local_copy)
    app.connect("builder-inited", _copy)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
