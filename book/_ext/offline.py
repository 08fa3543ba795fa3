"""Make the pages load nothing from the network: a copied folder of the book reads offline."""

import shutil
from importlib.util import find_spec
from pathlib import Path

MATHJAX = ["tex-chtml-full.js", "output/chtml/fonts"]


def use_own_mathjax(app, config):
    config.mathjax_path = "mathjax/tex-chtml-full.js"


def copy_mathjax(app):
    if app.builder.format != "html":
        return
    # Straight into the output: from a source `_static` folder Jupyter Book adds every script to every page.
    source = Path(find_spec("mathjax").origin).parent / "static" / "mathjax" / "es5"
    target = Path(app.outdir) / "_static" / "mathjax"
    for name in MATHJAX:
        if (source / name).is_dir():
            shutil.copytree(source / name, target / name, dirs_exist_ok=True)
        else:
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source / name, target / name)


def drop_thebe(app, pagename, templatename, context, doctree):
    """Live code on the page needs a server, which the book does without (Colab and Binder run it).

    Jupyter Book adds its scripts all the same, and twice, which every page reports as an error in the console.
    """

    def is_thebe(script):
        body = getattr(script, "attributes", {}).get("body") or ""
        return "thebe" in str(getattr(script, "filename", "") or "") or "THEBE_JS_URL" in body

    for kind in ("script_files", "css_files"):
        context[kind] = [script for script in context[kind] if not is_thebe(script)]


def setup(app):
    app.connect("config-inited", use_own_mathjax)
    app.connect("builder-inited", copy_mathjax)
    app.connect("html-page-context", drop_thebe)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
