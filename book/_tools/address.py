"""The public repository's address: one place, one command, one check.

pyproject.toml's project URLs hold it. `make address URL=https://github.com/x/y` writes a new one there and into every
other tracked file that names it: the README, the citation file, the book's configuration, the chapters' install cells.
"""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FORM = re.compile(r"https://github\.com/([A-Za-z0-9][\w-]*)/([\w.-]+?)(?:\.git)?/?")


def current(root=ROOT):
    """(owner, repository) as pyproject.toml has them."""
    with open(root / "pyproject.toml", "rb") as file:
        urls = tomllib.load(file)["project"]["urls"]
    return FORM.fullmatch(urls["Repository"]).groups()


def tracked_texts(root=ROOT):
    """Yield (path, text) of every tracked text file, line ends as they are."""
    names = subprocess.run(["git", "ls-files", "-z"], cwd=root, check=True, capture_output=True, text=True).stdout
    for name in filter(None, names.split("\0")):
        path = root / name
        if not path.is_file():  # deleted, not committed yet
            continue
        try:
            yield path, path.read_bytes().decode("utf-8")
        except UnicodeDecodeError:
            continue


def addresses(text, names):
    """Yield every (owner, repository) that the text names, for repositories with one of these names.

    The forms are those of GitHub itself, of Colab and Binder links, and of the pages.
    """
    repository = "|".join(re.escape(name) for name in names)
    for form in (
        rf"(?:github\.com/|/github/|/gh/)([\w-]+)/({repository})(?![\w-])",
        rf"https://([\w-]+)\.github\.io/({repository})(?![\w-])",
    ):
        for match in re.finditer(form, text):
            yield match.groups()


def disagreements(root=ROOT):
    """Every place that names another address than pyproject.toml: (file, owner, repository)."""
    here = current(root)
    return [
        (path.relative_to(root).as_posix(), *found)
        for path, text in tracked_texts(root)
        for found in addresses(text, {here[1], "localma"})
        if found != here
    ]


def change(owner, repository, root=ROOT):
    """Write the new address into every tracked file; return the files that changed."""
    old = current(root)
    forms = ("github.com/{}/{}", "/github/{}/{}", "/gh/{}/{}", "https://{}.github.io/{}")
    pairs = [(form.format(*old), form.format(owner, repository)) for form in forms]
    changed = []
    for path, text in tracked_texts(root):
        new = text
        for before, after in pairs:
            new = re.sub(re.escape(before) + r"(?![\w-])", after, new)
        if new != text:
            path.write_bytes(new.encode("utf-8"))
            changed.append(path.relative_to(root).as_posix())
    return changed


def main():
    match = FORM.fullmatch(sys.argv[1]) if len(sys.argv) == 2 else None
    if not match:
        owner, repository = current()
        here = f"https://github.com/{owner}/{repository}"
        sys.exit(f"The address is {here}. To change it: make address URL=https://github.com/x/y")
    changed = change(*match.groups())
    print("\n".join(changed) if changed else "Nothing to change.")
    if wrong := disagreements():
        sys.exit("Still another address:\n" + "\n".join(map(str, wrong)))


if __name__ == "__main__":
    main()
