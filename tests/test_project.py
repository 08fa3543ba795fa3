"""What holds the project together: one version, one address, one direction of imports, a README that is true."""

import ast
import doctest
import graphlib
import importlib
import inspect
import re
import shutil
import subprocess
import sys
import tomllib

import address
import environment
import pytest
import yaml
from chapters import ROOT

import localma

with open(ROOT / "pyproject.toml", "rb") as file:
    PROJECT = tomllib.load(file)["project"]

MODULES = sorted(
    path.relative_to(ROOT).with_suffix("").as_posix().replace("/", ".").removesuffix(".__init__")
    for path in (ROOT / "localma").rglob("*.py")
)


def test_readme_example_runs(tmp_path):
    blocks = re.findall(r"^```python\n(.+?)^```$", (ROOT / "README.md").read_text(), re.M | re.S)
    assert len(blocks) == 1
    assert len(blocks[0].splitlines()) <= 12, "it is called a ten-line example"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", blocks[0]], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_readme_links_lead_somewhere():
    links = re.findall(r"\]\(([^)#]+)\)|src=\"([^\"]+)\"", (ROOT / "README.md").read_text())
    local = [link for link in map("".join, links) if not link.startswith("http")]
    assert local
    assert [link for link in local if not (ROOT / link).exists()] == []


def test_every_committed_result_has_its_terms_in_the_data_licences():
    """Whose data are in it, and what can be read from it; the wheel carries the page."""
    page = (ROOT / "DATA-LICENCES.md").read_text()
    named = set(re.findall(r"^\| (`.+?`) \|", page.split("## Files")[1], re.M))
    named = {name for cell in named for name in re.findall(r"`(.+?)`", cell)}
    results = {p.name if p.suffix == ".npz" else p.stem for p in (ROOT / "localma/replication/results").iterdir()}
    assert named == results
    assert "DATA-LICENCES.md" in PROJECT["license-files"]


def test_versions_agree():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == PROJECT["version"] == localma.__version__


def test_addresses_agree():
    assert address.disagreements() == []
    owner, repository = address.current()
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    config = yaml.safe_load((ROOT / "_config.yml").read_text())
    here = f"https://github.com/{owner}/{repository}"
    pages = f"https://{owner}.github.io/{repository}/"
    assert PROJECT["urls"]["Repository"] == citation["repository-code"] == config["repository"]["url"] == here
    assert PROJECT["urls"]["Homepage"] == citation["url"] == config["html"]["baseurl"] == pages
    assert config["sphinx"]["config"]["ogp_site_url"] == pages


def test_one_command_changes_the_address_everywhere(tmp_path):
    """There and back: nothing of the old address is left on the way, every byte is as before at the end."""
    texts = dict(address.tracked_texts())
    for path, text in texts.items():
        copy = tmp_path / path.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(text.encode())
    for command in (["git", "init", "-q"], ["git", "add", "-A", "-f"]):
        subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    old = address.current()
    changed = address.change("someone", "averages", tmp_path)
    assert {"pyproject.toml", "README.md", "CITATION.cff", "_config.yml", "book/core/two_companies.md"} <= set(changed)
    assert "book/core/two_companies.ipynb" in changed
    assert address.current(tmp_path) == ("someone", "averages")
    assert address.disagreements(tmp_path) == []
    assert [path for path, text in address.tracked_texts(tmp_path) if list(address.addresses(text, {"localma"}))] == []
    address.change(*old, tmp_path)
    assert {path.relative_to(tmp_path): text for path, text in address.tracked_texts(tmp_path)} == {
        path.relative_to(ROOT): text for path, text in texts.items()
    }


def test_a_stray_address_is_found(tmp_path):
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    (tmp_path / "page.md").write_text("see https://github.com/" + "elsewhere/localma/issues\n")
    for command in (["git", "init", "-q"], ["git", "add", "-A", "-f"]):
        subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    assert address.disagreements(tmp_path) == [("page.md", "elsewhere", "localma")]


def test_environment_for_conda_has_every_need():
    """environment.yml repeats pyproject's needs with the same lower bounds, under conda's names."""
    renamed = {"torch": "pytorch-cpu", "matplotlib": "matplotlib-base", "seaborn": "seaborn-base"}
    listed = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    for need in PROJECT["dependencies"] + PROJECT["optional-dependencies"]["plots"]:
        name = re.match(r"[\w-]+", need)[0]
        assert need.replace(name, renamed.get(name, name), 1) in listed


def test_an_environment_that_was_left_half_made_is_made_anew(tmp_path):
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv"], check=True)
    (tmp_path / "venv" / "rest").touch()
    python = environment.python_of(tmp_path / "venv")
    assert subprocess.run([python, "-m", "pip", "--version"], capture_output=True).returncode == 0
    assert not (tmp_path / "venv" / "rest").exists()
    (tmp_path / "venv" / "kept").touch()
    environment.python_of(tmp_path / "venv")
    assert (tmp_path / "venv" / "kept").exists()


def test_constraints_are_exact_and_complete():
    lines = (ROOT / "constraints.txt").read_text().split()
    assert all(re.fullmatch(r"[\w.-]+==[\w.]+", line) for line in lines), "exact, no local builds, no files"
    pinned = {re.sub(r"[-_.]+", "-", line.split("==")[0]).lower() for line in lines}
    # the networks of the full runs are not part of the environment that `make` builds
    extras = [need for name, needs in PROJECT["optional-dependencies"].items() if name != "models" for need in needs]
    named = {re.match(r"[\w-]+", need)[0].lower() for need in PROJECT["dependencies"] + extras} - {"localma"}
    assert named - pinned == set()


def test_tracked_files_are_small_and_name_no_machine():
    names = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    paths = [ROOT / name for name in names.split("\0") if name and (ROOT / name).is_file()]
    # of which averages can be computed again
    stored = [path for path in paths if path.name.endswith("-predictions.npz")]
    assert sum(path.stat().st_size for path in stored) < 10_000_000
    assert [path.name for path in paths if path.stat().st_size > 1_000_000 and path not in stored] == []
    # Spelled in pieces, so that this file does not find itself.
    roots = "|".join(["work", "tmp", "root", "home", "Users"])
    machine = re.compile(rf"(?<![\w.])/(?:{roots})/|" + r"\.\./" + "shared")
    colour = re.compile(r"\\u001b\[[\d;]*m")  # in a notebook's output it would stick to the path
    found = [(path.name, machine.search(colour.sub(" ", text))) for path, text in address.tracked_texts()]
    found = [(name, match[0]) for name, match in found if match]
    assert found == []


def imported(path):
    """Yield the full name of everything that a module of the package imports, wherever it does so."""
    package = path.relative_to(ROOT).parent.as_posix().replace("/", ".").split(".")
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            start = ".".join(base + ([node.module] if node.module else []))
            yield from (f"{start}.{name.name}" for name in node.names)


#: From the ground up. A module may import from its own floor and from those below; "" is `localma`, the users' door.
FLOORS = (
    ("checks", "files", "losses", "progress"),
    ("engine",),
    ("averages",),
    ("",),
    ("datasets", "plots", "relatives", "theory"),
    ("replication.lab",),
    ("replication",),
)


def place(module):
    """The file of a module."""
    path = ROOT / (module.replace(".", "/") + ".py")
    return path if path.exists() else ROOT / module.replace(".", "/") / "__init__.py"


def needs(module):
    """The package's modules that a module imports, wherever it does so."""
    for name in imported(place(module)):
        while name and name not in MODULES:
            name = name.rpartition(".")[0]
        if name:
            yield name


def floor(module):
    path = module.removeprefix("localma").strip(".")
    return next(
        level
        for level, parts in enumerate(FLOORS)
        if any(path == part or path.startswith(f"{part}.") for part in parts)
    )


@pytest.mark.parametrize("module", MODULES)
def test_imports_point_downwards(module):
    """experiments -> lab -> relatives, theory -> averages -> engine -> losses; no module knows the book."""
    top = {name.split(".")[0] for name in imported(place(module))}
    assert top & {"book", "tests", "pytest", "jupytext", "sphinx"} == set()
    assert [name for name in needs(module) if floor(name) > floor(module)] == []


def test_what_the_package_imports_is_declared():
    """The core and its relatives with the needs of a plain install; data sets, pictures and experiments with extras."""
    renamed = {"sklearn": "scikit-learn", "PIL": "pillow"}  # they import under other names
    plain, extras = PROJECT["dependencies"], PROJECT["optional-dependencies"]
    core = [name for name in MODULES if floor(name) <= floor("localma") or ".relatives" in name]
    for modules, needs in (
        (core, plain),
        (MODULES, plain + extras["plots"] + extras["models"] + extras["dask"] + extras["test"]),
    ):
        declared = {re.match(r"[\w-]+", need)[0] for need in needs}
        names = {name.split(".")[0] for module in modules for name in imported(place(module))}
        third = names - {"localma", *sys.stdlib_module_names}
        assert {renamed.get(name, name.replace("_", "-")) for name in third} - declared == set()


def test_no_module_imports_itself_in_a_circle():
    """Imports inside functions count, too."""
    graphlib.TopologicalSorter({module: set(needs(module)) - {module} for module in MODULES}).prepare()


def test_package_imports_without_the_extras(tmp_path):
    """`import localma` must work where nothing but its needs is installed, as in a plain install; what needs an extra
    names it.
    """
    extras = "'matplotlib', 'seaborn', 'statsmodels'"
    block = f"import sys\nfor name in ({extras}): sys.modules[name] = None\nimport localma\nprint('here')\nimport localma.plots"
    done = subprocess.run([sys.executable, "-c", block], cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout == "here\n", done.stderr
    assert "localma.plots needs matplotlib" in done.stderr
    assert done.stderr.strip().endswith("the extra plots: pip install 'localma[plots]'")


@pytest.mark.parametrize("module", [name for name in MODULES if not name.endswith("__main__")])
def test_examples_in_docstrings_are_true(module):
    assert doctest.testmod(importlib.import_module(module)).failed == 0


def test_every_module_says_what_it_is_for():
    modules = [importlib.import_module(name) for name in MODULES if not name.endswith("__main__")]
    assert [module.__name__ for module in modules if not inspect.getdoc(module)] == []


@pytest.mark.parametrize("module", MODULES)
def test_a_room_is_seen_at_one_glance(module):
    """No module above 400 lines, no function above 80 (its docstring aside); ruff holds lines to 120 characters."""
    text = place(module).read_text(encoding="utf-8")
    assert text.count("\n") <= 400
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            first = node.body[1] if ast.get_docstring(node) and len(node.body) > 1 else node
            assert node.end_lineno - first.lineno < 80, f"{node.name} is too long to be read at one glance"


def test_a_row_of_a_table_of_cases_still_fits_a_screen():
    lines = [line for path in (ROOT / "tests").rglob("*.py") for line in path.read_text(encoding="utf-8").splitlines()]
    assert max(map(len, lines)) <= 160
