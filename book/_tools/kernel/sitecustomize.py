"""What runs first in the Pythons that `robust.py` starts, in their children, too: seeds move, failures are noted.

With LOCALMA_SHIFT=k every integer that seeds a generator of numpy, scikit-learn, torch or Python means another stream,
the same one wherever it is used: what agrees because it has one seed still agrees, and each k is a new draw of the
whole chapter.
"""

import ast
import json
import os
import random

SHIFT = int(os.environ.get("LOCALMA_SHIFT", "0"))


def moved(seed, least=2**32):
    """Another seed of the same kind; what is no seed, such as None or a generator, stays."""
    if isinstance(seed, (list, tuple)):
        return [*seed, SHIFT]
    if hasattr(seed, "__index__"):
        return (int(seed) + 1_000_003 * SHIFT) % least
    return seed


def move_seeds():
    import numpy as np
    import torch

    sequence, new_rng, generator, seed_all, seed_python = (
        np.random.SeedSequence, np.random.default_rng, torch.Generator, torch.manual_seed, random.seed
    )  # fmt: skip

    class SeedSequence(sequence):
        def __init__(self, entropy=None, **more):
            super().__init__(moved(entropy, 2**128), **more)

    class RandomState(np.random.RandomState):
        def __init__(self, seed=None):
            super().__init__(moved(seed))

    class Generator(generator):
        def manual_seed(self, seed):
            return super().manual_seed(moved(seed, 2**63))

    np.random.SeedSequence, np.random.RandomState, torch.Generator = SeedSequence, RandomState, Generator
    np.random.default_rng = lambda seed=None: new_rng(moved(seed, 2**128))
    np.random.seed = lambda seed=None, old=np.random.seed: old(moved(seed))
    torch.manual_seed = torch.random.manual_seed = lambda seed: seed_all(moved(seed, 2**63))
    random.seed = lambda a=None, version=2: seed_python(moved(a), version)


if SHIFT:
    move_seeds()


def compared(test):
    """The expressions that a condition compares: in ``a < b``, ``a < b and c < d``, ``(a < b).all()``."""
    if isinstance(test, ast.Compare):
        return [test.left, *test.comparators]
    if isinstance(test, ast.BoolOp):
        return [side for value in test.values for side in compared(value)]
    if isinstance(test, ast.UnaryOp):
        return compared(test.operand)
    if isinstance(test, ast.Call) and isinstance(test.func, ast.Attribute):
        return compared(test.func.value)
    return []


def watch(shell, path):
    """Note in a file every assert that fails, with both sides, and go on behind it; other errors end their cell."""
    running = []

    def note(line, text):
        with open(path, "a", encoding="utf-8") as file:
            file.write(json.dumps({"cell": running[-1], "line": line, "text": text}) + "\n")

    def failed(line, text, message, sides):
        def show(value):
            text = repr(value.item() if getattr(value, "size", 0) == 1 and hasattr(value, "item") else value)
            return " ".join(text.split())[:120]

        try:
            values = [show(value) for value in sides()]
        except Exception as error:  # a side with an effect of its own cannot be asked twice
            values = [repr(error)]
        note(line, ": ".join(filter(None, [text, str(message), "; ".join(values)])))

    class Asserts(ast.NodeTransformer):
        def visit_Assert(self, node):
            sides = [side for side in compared(node.test) if not isinstance(side, ast.Constant)]
            handler = "except AssertionError as __error__: __failed__(0, '', __error__, lambda: ())"
            guard = ast.parse(f"try: pass\n{handler}").body[0]
            guard.body, call = [node], guard.handlers[0].body[0].value
            call.args[0], call.args[1] = ast.Constant(node.lineno), ast.Constant(ast.unparse(ast.Assert(node.test)))
            call.args[3].body = ast.Tuple(sides, ast.Load())
            return ast.fix_missing_locations(ast.copy_location(guard, node))

    def after(result):
        if (error := result.error_before_exec or result.error_in_exec) is not None:
            line, trace = 1, error.__traceback__
            while trace is not None:
                if "ipykernel" in trace.tb_frame.f_code.co_filename and trace.tb_frame.f_code.co_name == "<module>":
                    line = trace.tb_lineno
                trace = trace.tb_next
            note(line, f"{type(error).__name__}: {' '.join(str(error).split())[:300]}")

    open(path, "w").close()  # the sign that this function ran
    shell.user_ns["__failed__"] = failed
    shell.ast_transformers.append(Asserts())
    shell.events.register("pre_run_cell", lambda info: running.append(info.raw_cell))
    shell.events.register("post_run_cell", after)
