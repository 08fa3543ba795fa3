# Python 3.11 or newer and make are all this needs; everything else goes into .venv.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
BOOK   := $(VENV)/.book
TEST   := $(VENV)/.test
PORT   ?= 8000
NBVAL  := -o filterwarnings=default --nbval-lax --nbval-current-env --nbval-sanitize-with tests/nbval.cfg

.DEFAULT_GOAL := help
.PHONY: help setup book serve test mutants lint format notebooks results bench robust course pdf colab-like address clean

help:  ## List the commands
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1|/' | awk -F'|' '{printf "  make %-10s %s\n", $$1, $$2}'

setup: $(TEST)  ## Create .venv with the exact versions of constraints.txt

# What the book needs, and on top of it what the tests need. The stamps keep their own time: files in the environment, newer than the two
# files that decide what is in it.
$(BOOK): pyproject.toml constraints.txt
	@$(PYTHON) book/_tools/environment.py book
	@touch $@

$(TEST): $(BOOK)
	@$(PYTHON) book/_tools/environment.py book,test
	@touch $@

book: $(BOOK)  ## Run the chapters and build the HTML; a second build takes seconds
	@$(BIN)/python book/_tools/build.py

serve: book  ## Build, then serve the book at http://localhost:8000 (PORT=...)
	@$(BIN)/python -m http.server $(PORT) --bind 127.0.0.1 --directory _build/html

# Two workers with one thread each; who has nothing left takes over from the other. Every chapter runs in the build of the book; those of the
# core course run once more by nbval as a reader opens them, the notebooks with their outputs.
test: $(TEST)  ## Run every test: package, notebooks, book, project
	@status=0; export OMP_NUM_THREADS=1; \
	$(BIN)/python -m pytest -q -n 2 --dist worksteal -m "not mutant" || status=1; \
	$(BIN)/python -m pytest -q -n 2 --dist loadfile $(NBVAL) book/core || status=1; \
	exit $$status

mutants: $(TEST)  ## Spoil each check of a theorem in turn: it must fail
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2 -m mutant

lint: $(TEST)  ## Check the code and the text of the book
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python book/_tools/lint.py

format: $(TEST)  ## Let ruff put the code in order
	$(BIN)/ruff check --fix --quiet .
	$(BIN)/ruff format .

notebooks: $(BOOK)  ## Bring every .ipynb in step with its .md, outputs included
	@$(BIN)/python book/_tools/notebooks.py

results: $(BOOK)  ## Run every experiment at full scale into localma/replication/results
	$(BIN)/python -m localma.replication all --scale full --out localma/replication/results

bench: $(BOOK)  ## Measure the engine: against a loop, beside rivals, start-up, memory
	$(BIN)/python tests/engine/bench.py

# Hours: it keeps what is done, and goes on there. ARGS="--chapters digits --shifts 5" and so on; --help lists them.
robust: $(BOOK)  ## Run the chapters under other arithmetic, other versions, other seeds
	@$(BIN)/python book/_tools/robust.py $(ARGS)

pdf: $(TEST)  ## Print the core course into _build/localma-core.pdf, with the Chromium that is at hand
	@$(BIN)/python book/_tools/pdf.py

course: $(BOOK)  ## Make the notebooks for students and teachers, as nbgrader expects them
	@$(BIN)/python book/_tools/course.py

# In an environment of its own, made on first use.
colab-like: $(BOOK)  ## Run every chapter under the versions that Colab ships
	@$(BIN)/python book/_tools/robust.py --arithmetic colab --shifts 0

address: $(BOOK)  ## Set the public repository everywhere: make address URL=https://github.com/x/y
	@$(BIN)/python book/_tools/address.py $(URL)

clean:  ## Remove everything that is made (the environment included)
	rm -rf $(VENV) _build build dist *.egg-info .pytest_cache .ruff_cache .mypy_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
