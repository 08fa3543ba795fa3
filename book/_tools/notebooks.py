"""Bring every .ipynb in step with the .md beside it, outputs included: `make notebooks`.

Its text is plain Markdown, which Colab and JupyterLab show (plain.py).

Only chapters whose code changed are run again; a change of prose, or of the layout of code, keeps the outputs.
`--force` runs all, which is due when the package changed what it computes. Names after the options select chapters:
`notebooks.py --force digits`. Each header card gets its study time. The landing page follows whatever was selected: its
table of chapters is made from their cards, and its figure is the README's picture. Metadata are normalised (no times,
no machine, no cell ids that change) so that a diff shows what a reader would see.
"""

import argparse
import ast
import base64
import re
import sys
import tempfile

import nbformat
from chapters import BOOK, INTRO, ROOT, cells, chapter_map, chapters, code, parts, read, with_minutes, with_paths
from nbclient import NotebookClient
from plain import FOLDED, readable

LANGUAGE = {"name": "python"}
KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}
MAP = re.compile(r"^\| Chapter \|.*\n(?:\|.*\n)+", re.M)
PICTURE = BOOK / "_static" / "readme.png"
# The address of an object differs between any two runs and says nothing.
ADDRESS = re.compile(r" at 0x[0-9a-f]+")
# So does the random name that pandas gives to each styled table.
TABLE = re.compile(r"\bT_[0-9a-f]{5}(?![0-9a-f])")


def executed(notebook):
    """Whether every code cell that has code also has a run without an error."""
    return all(
        cell.execution_count and all(out.output_type != "error" for out in cell.outputs)
        for cell in notebook.cells
        if cell.cell_type == "code" and cell.source.strip()
    )


def warnings_of(notebook):
    """What Python warned of while the notebook ran; a reader must not see it, and dropping it would hide a fault."""
    outputs = [out for cell in notebook.cells for out in cell.get("outputs", [])]
    text = "".join(out.text for out in outputs if out.output_type == "stream" and out.name == "stderr")
    return "\n".join(line for line in text.splitlines() if re.search(r"\w*Warning: ", line))


def normalise(notebook):
    notebook.metadata = nbformat.from_dict({"kernelspec": KERNEL, "language_info": LANGUAGE})
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    tables = {}
    for number, cell in enumerate(notebook.cells):
        cell.id = f"cell-{number}"
        # tags, what is folded, and what myst-nb reads (alt text, captions); the rest is the editor's
        kept = {"tags", "mystnb", *FOLDED}
        cell.metadata = nbformat.from_dict({k: value for k, value in cell.metadata.items() if k in kept})
        if "outputs" in cell:  # stderr is progress bars, whose text is another on every run
            cell.outputs = [out for out in cell.outputs if out.get("name") != "stderr"]
        for out in cell.get("outputs", []):
            out.pop("metadata", None)
            if out.output_type != "stream":
                out.metadata = {}
            if "text" in out:
                out.text = ADDRESS.sub("", out.text)
            for kind in ("text/plain", "text/html"):
                if kind in out.get("data", {}):
                    text = ADDRESS.sub("", out.data[kind])
                    out.data[kind] = TABLE.sub(lambda name: tables.setdefault(name[0], f"T_{len(tables)}"), text)
    return notebook


def program(source):
    """What a cell computes: its code without layout and comments."""
    try:
        return ast.dump(ast.parse(source))
    except SyntaxError:  # a line for IPython
        return source


def programs(notebook):
    return [program(source) for source in code(notebook)]


def refresh(path, force):
    """Write the pair of one chapter; say what was done."""
    target = path.with_suffix(".ipynb")
    new = readable(read(path), path)
    old = read(target) if target.exists() else None
    current = old is not None and programs(old) == programs(new) and executed(old)
    if current and not force:
        if cells(old) == cells(new):
            return "unchanged"
        runs = iter([cell for cell in old.cells if cell.cell_type == "code"])
        for cell in new.cells:
            if cell.cell_type == "code":
                run = next(runs)
                cell.outputs, cell.execution_count = run.outputs, run.execution_count
        done = "text brought in step, outputs kept"
    else:
        with tempfile.TemporaryDirectory() as empty:
            resources = {"metadata": {"path": empty}}
            NotebookClient(
                new, timeout=900, kernel_name="python3", record_timing=False, coalesce_streams=True, resources=resources
            ).execute()
        if warned := warnings_of(new):
            sys.exit(f"warnings are errors in chapters, too:\n{warned}")
        done = "run"
    nbformat.write(normalise(new), target)
    return done


def with_map(text):
    """The landing page's text with paths and the table of chapters as the chapters have it."""
    return MAP.sub(lambda _: chapter_map(parts()), with_paths(text))


def figure():
    """The first picture of the landing page, as PNG bytes, as it stands in the notebook."""
    outputs = (out for cell in read(INTRO.with_suffix(".ipynb")).cells for out in cell.get("outputs", []))
    return base64.b64decode(next(out.data["image/png"] for out in outputs if "image/png" in out.get("data", {})))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--force", action="store_true", help="run chapters whose code is unchanged, too")
    parser.add_argument("names", nargs="*", help="chapters by name, all by default")
    options = parser.parse_args()
    known = {path.stem: path for path in chapters()}
    if missing := set(options.names) - set(known):
        sys.exit(f"No such chapter: {', '.join(sorted(missing))}. There are: {', '.join(known)}")
    selected = [known[name] for name in options.names] or [*known.values()]
    for path in selected:
        path.write_text(with_minutes(path), encoding="utf-8")
    INTRO.write_text(with_map(INTRO.read_text(encoding="utf-8")), encoding="utf-8")
    for path in dict.fromkeys([*selected, INTRO]):
        print(f"{path.relative_to(ROOT)}: ", end="", flush=True)
        print(refresh(path, options.force and path in selected))
    PICTURE.write_bytes(figure())


if __name__ == "__main__":
    main()
