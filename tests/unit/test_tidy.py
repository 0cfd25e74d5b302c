"""The style, executed: what a person would otherwise have to remember about this repository."""

from __future__ import annotations

import ast
import re
import shutil
import stat
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Final, TypeAlias

import pytest

from sealstream.worker import metrics

ROOT: Final = Path(__file__).parents[2]
SOURCE_ROOTS: Final = ("schemas", "producers", "processors", "sinks", "deploy")
FOLDERS: Final = (*SOURCE_ROOTS, "tests", ".ci")
LINE_CHARACTERS_MAX: Final = 120
FUNCTION_LINES_MAX: Final = 70
FILE_BYTES_MAX: Final = 500_000
GIT_SECONDS: Final = 60.0
CODE_SUFFIXES: Final = frozenset({".py"})
PRAGMA: Final = re.compile(r"  # (noqa|type: ignore|pyright: ignore)\b.*")
"""What tells a linter about a line is not counted with the line."""

PRINTING: Final = ("deploy/sealstream/deploy/cli/", "deploy/sealstream/deploy/demo/")
"""The command line and its demo speak to a person; every other part logs."""

CHECKING: Final = re.compile(r"^_*(assert|check|verify|expect|must|fail$)")
"""Names of functions of whose call a test may expect that it fails by itself."""

Function: TypeAlias = ast.FunctionDef | ast.AsyncFunctionDef


def files(root: Path | None = None) -> list[Path]:
    """Return every file of the repository, without what is generated."""
    root = root or ROOT
    top = [path for path in root.iterdir() if path.is_file()]
    below = [path for folder in FOLDERS for path in (root / folder).rglob("*") if path.is_file()]
    generated = ignored(root)
    return sorted(path for path in (*top, *below) if "__pycache__" not in path.parts and path not in generated)


@cache
def ignored(root: Path) -> frozenset[Path]:
    """Return the files that git ignores: what somebody has built there; where there is no git, every file counts."""
    git = shutil.which("git")
    if git is None or not (root / ".git").exists():
        return frozenset()
    ask = [git, "ls-files", "-z", "--others", "--ignored", "--exclude-standard", "--", *FOLDERS, ":(glob)*"]
    done = subprocess.run(ask, cwd=root, capture_output=True, check=False, timeout=GIT_SECONDS)
    found = done.stdout.decode().split("\0") if done.returncode == 0 else []
    return frozenset(root / path for path in found if path)


def built_tree(root: Path) -> tuple[Path, Path]:
    """Make a small tree, and return a file of it and one that was built there and is ignored."""
    folder = root / "processors" / "native"
    folder.mkdir(parents=True)
    for path in (folder / "kept.py", folder / "built.c", root / ".coverage"):
        path.write_text("", encoding="utf-8")
    (root / ".gitignore").write_text("*.c\n.coverage\n", encoding="utf-8")
    return folder / "kept.py", folder / "built.c"


def sources() -> list[Path]:
    """Return the Python files of the product."""
    return [path for path in files() if path.suffix == ".py" and path.relative_to(ROOT).parts[1:2] == ("sealstream",)]


def suite() -> list[Path]:
    """Return the Python files of the tests."""
    return [path for path in files() if path.suffix == ".py" and path.relative_to(ROOT).parts[0] == "tests"]


def name(path: Path) -> str:
    """Return a file's path as a failure names it."""
    return path.relative_to(ROOT).as_posix()


@cache
def tree(path: Path) -> ast.Module:
    """Return a file's syntax tree."""
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


@cache
def text(path: Path) -> str:
    """Return a file's text; empty if it is none."""
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        return ""


def functions(path: Path) -> Iterator[Function]:
    """Yield every function of a file, methods and inner ones included."""
    return (node for node in ast.walk(tree(path)) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def module_of(path: Path) -> str:
    """Return the name under which a file of the product is imported."""
    parts = path.relative_to(ROOT).with_suffix("").parts[1:]
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def called(node: ast.AST) -> str:
    """Return the last name of what is called, such as ``raises`` of ``pytest.raises``; empty if nothing is."""
    if not isinstance(node, ast.Call):
        return ""
    function = node.func
    return (
        function.attr if isinstance(function, ast.Attribute) else function.id if isinstance(function, ast.Name) else ""
    )


def check_none(found: Iterable[str]) -> None:
    """Fail with every place that was found."""
    places = sorted(found)
    assert not places, "\n" + "\n".join(places)


class TestLayout:
    """Files and folders."""

    @pytest.mark.skipif(shutil.which("git") is None, reason="without git nobody knows what is ignored")
    def test_what_is_built_does_not_count(self, tmp_path: Path) -> None:
        """Who builds the native module in the tree breaks no rule by it."""
        subprocess.run(["git", "init", "--quiet", str(tmp_path)], check=True, timeout=GIT_SECONDS)
        kept, _built = built_tree(tmp_path)

        assert set(files(tmp_path)) == {kept, tmp_path / ".gitignore"}

    def test_without_git_everything_counts(self, tmp_path: Path) -> None:
        """A tree that was unpacked from an archive keeps to the same rules."""
        assert set(built_tree(tmp_path)) < set(files(tmp_path))

    def test_namespace_is_bare(self) -> None:
        """A file ``sealstream/__init__.py`` in one root would hide the others."""
        check_none([name(path) for path in files() if path.parts[-2:] == ("sealstream", "__init__.py")])

    def test_roots_hold_the_namespace_alone(self) -> None:
        """Below ``sealstream`` there are packages, and no module that stands beside them."""
        found = [name(path) for path in sources() if path.parent.name == "sealstream"]
        check_none(found)

    def test_packages_are_typed(self) -> None:
        """Each package of the product is one, and says that it is typed."""
        folders = {path.parent for path in sources()}
        check_none([name(folder) for folder in sorted(folders) if not (folder / "__init__.py").exists()])
        packages = {folder for root in SOURCE_ROOTS for folder in (ROOT / root / "sealstream").iterdir()}
        packages = {folder for folder in packages if folder.is_dir() and folder.name != "__pycache__"}
        check_none([name(folder) for folder in sorted(packages) if not (folder / "py.typed").exists()])

    def test_files_are_small(self) -> None:
        """No file is a blob."""
        large = [path for path in files() if path.stat().st_size > FILE_BYTES_MAX and path.name != "uv.lock"]
        check_none([name(path) for path in large])

    def test_modes(self) -> None:
        """What begins with ``#!`` can be executed, and nothing else; nobody else may write; nothing is a link."""
        wrong: list[str] = []
        for path in files():
            mode = path.lstat().st_mode
            script = path.read_bytes()[:2] == b"#!"
            executable = bool(mode & stat.S_IXUSR)
            if stat.S_ISLNK(mode) or executable != script or mode & stat.S_IWOTH:
                wrong.append(name(path))
        check_none(wrong)

    def test_names_are_portable(self) -> None:
        """No two files differ in case only, and none has a blank in its name."""
        names = [name(path) for path in files()]
        assert len({one.lower() for one in names}) == len(names)
        check_none([one for one in names if " " in one])


class TestText:
    """What stands in the files."""

    def test_lines(self) -> None:
        """Code can be read without scrolling."""
        long = [
            f"{name(path)}:{number}"
            for path in files()
            if path.suffix in CODE_SUFFIXES
            for number, line in enumerate(text(path).splitlines(), 1)
            if len(PRAGMA.sub("", line)) > LINE_CHARACTERS_MAX
        ]
        check_none(long)

    def test_nothing_is_left_for_later(self) -> None:
        """What is not done is in the tracker, not in a comment."""
        words = re.compile(r"\b(" + "|".join(["TO" + "DO", "FIX" + "ME", "XX" + "X"]) + r")\b")
        check_none([name(path) for path in files() if words.search(text(path))])

    def test_no_place_of_one_machine(self) -> None:
        """Nothing points into somebody's home or workplace, and no private key lies about."""
        words = re.compile(
            "|".join(
                [
                    "/ho" + "me/(?!somebody/|somebody\\b)",
                    "/ro" + "ot/",
                    "/Us" + "ers/",
                    "/wo" + "rk/",
                    "PRIVATE" + " KEY--",
                ]
            )
        )
        check_none([f"{name(path)}: {found[0]}" for path in files() if (found := words.search(text(path)))])

    def test_text_is_plain(self) -> None:
        """Text ends with a line break, has no trailing blanks, no tabs, and no carriage returns."""
        wrong = [
            name(path)
            for path in files()
            if path.suffix in {".py", ".md", ".sql", ".avsc", ".toml"}
            and (re.search(r"[ \t]$|\t|\r", text(path), re.MULTILINE) or (text(path) and not text(path).endswith("\n")))
        ]
        check_none(wrong)


class TestCode:
    """What the product's code does not do."""

    def test_functions_are_short(self) -> None:
        """A function fits on a page."""
        long = [
            f"{name(path)}:{function.lineno} {function.name}"
            for path in (*sources(), *suite())
            for function in functions(path)
            if function.end_lineno is not None and function.end_lineno - function.lineno >= FUNCTION_LINES_MAX
        ]
        check_none(long)

    def test_errors_are_not_swallowed(self) -> None:
        """No handler takes every error and goes on as if nothing had happened."""
        wrong = [
            f"{name(path)}:{node.lineno}"
            for path in (*sources(), *suite())
            for node in ast.walk(tree(path))
            if (isinstance(node, ast.ExceptHandler) and swallows(node))
            or (isinstance(node, ast.Call) and called(node) == "suppress" and any(map(takes_all, node.args)))
        ]
        check_none(wrong)

    def test_only_the_command_line_prints(self) -> None:
        """Workers and libraries log; standard output belongs to the command line."""
        wrong = [
            f"{name(path)}:{node.lineno}"
            for path in sources()
            if not name(path).startswith(PRINTING)
            for node in ast.walk(tree(path))
            if isinstance(node, ast.Call) and called(node) == "print" and isinstance(node.func, ast.Name)
        ]
        check_none(wrong)

    def test_public_names_are_described(self) -> None:
        """Each public module, class, function and method says what it is for."""
        check_none([line for path in sources() for line in undescribed(path)])

    def test_no_module_is_dead(self) -> None:
        """Each module is imported by another one or by an example, or is where a program begins."""
        modules = {module_of(path): path for path in sources()}
        used = {one for path in modules.values() for one in imported(path)}
        documents = "\n".join(text(path) for path in files() if path.suffix in {".md", ".toml"})
        dead = [
            module
            for module, path in modules.items()
            if module not in used and not begins(path) and not re.search(rf"\b{re.escape(module)}\b", documents)
        ]
        check_none(dead)

    @pytest.mark.parametrize(
        ("package", "allowed"),
        [
            # rfc3161_client is of extras, and imported only where a timestamp is verified
            ("sealstream.schemas", {"cryptography", "fastavro", "rfc3161_client", "sealstream.schemas"}),
            ("sealstream.kafka", {"confluent_kafka", "sealstream.schemas", "sealstream.kafka"}),
        ],
    )
    def test_what_applications_install_is_small(self, package: str, allowed: set[str]) -> None:
        """The vocabulary and what is shared about Kafka need no library but these."""
        foreign = {
            f"{name(path)}: {module}"
            for path in sources()
            if module_of(path).startswith(package)
            for module in imported(path)
            if not any(f"{module}.".startswith(f"{one}.") for one in allowed)
            and module.split(".")[0] not in sys.stdlib_module_names
        }
        check_none(foreign)

    def test_dependencies_have_a_reason(self) -> None:
        """Each dependency of the product says in a comment what it is for."""
        lines = text(ROOT / "pyproject.toml").splitlines()
        project = tomllib.loads("\n".join(lines))["project"]
        groups = [project["dependencies"], *project["optional-dependencies"].values()]
        wanted = [one for group in groups for one in group if not one.startswith("sealstream[")]
        silent = [one for one in wanted if not any(f'"{one}",' in line and "#" in line for line in lines)]
        check_none(silent)


class TestTests:
    """What every test has."""

    def test_tests_are_described(self) -> None:
        """Each test says in a sentence what a user may rely on."""
        silent = [
            f"{name(path)}:{function.lineno} {function.name}"
            for path in suite()
            for function in functions(path)
            if function.name.startswith("test_") and path.name.startswith("test_") and not ast.get_docstring(function)
        ]
        check_none(silent)

    def test_tests_can_fail(self) -> None:
        """Each test asserts something, itself or through a function that it calls."""
        support = {function.name for path in suite() if "support" in path.parts for function in asserting(path)}
        blind: list[str] = []
        for path in (path for path in suite() if path.name.startswith("test_")):
            known = support | {function.name for function in asserting(path, support)}
            tests = (function for function in functions(path) if function.name.startswith("test_"))
            blind += [f"{name(path)}:{test.lineno} {test.name}" for test in tests if not asserts(test, known)]
        check_none(blind)

    def test_skips_have_a_reason(self) -> None:
        """A test that is skipped says why."""
        wrong = [
            f"{name(path)}:{node.lineno}"
            for path in suite()
            for node in ast.walk(tree(path))
            if isinstance(node, ast.Call) and called(node) in {"skip", "skipif", "xfail", "importorskip"}
            if not node.args and not any(keyword.arg == "reason" for keyword in node.keywords)
        ]
        check_none(wrong)


class TestMetrics:
    """The catalogue of metrics."""

    def test_help(self) -> None:
        """Each metric says in a full sentence what it counts."""
        helps = {family.name: family.documentation for family in metrics.REGISTRY.collect()}
        assert helps
        check_none([one for one, words in helps.items() if not re.fullmatch(r"[A-Z].{10,}\.", words)])

    def test_names(self) -> None:
        """Names begin with the product and the role; what is measured ends with its unit."""
        families = list(metrics.REGISTRY.collect())
        roles = "sealstream_(processor|sink|verifier|notary|witness|outbox|gateway)_[a-z]"
        check_none(one.name for one in families if not re.match(roles, one.name))
        units = re.compile("_(seconds|bytes|records|offsets|partitions|tenants|chains|entries|ratio|connections|rows)$")
        check_none(one.name for one in families if one.type != "counter" and not units.search(one.name))

    def test_labels_are_bounded(self) -> None:
        """No label takes a tenant, an id or an offset: each value would be a time series of its own."""
        labels = {
            label for family in metrics.REGISTRY.collect() for sample in family.samples for label in sample.labels
        }
        assert labels <= {"kind", "origin", "partition", "type", "le", "reason", "role", "status"}


def begins(path: Path) -> bool:
    """Return whether a file is a package, or a program of its own."""
    return path.stem in {"__init__", "__main__"} or 'if __name__ == "__main__":' in text(path)


def swallows(handler: ast.ExceptHandler) -> bool:
    """Return whether a handler is bare, or takes every error and does nothing about it."""
    if handler.type is None:
        return True
    idle = all(
        isinstance(node, ast.Pass | ast.Continue)
        or (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant))
        for node in handler.body
    )
    return idle and takes_all(handler.type)


def takes_all(node: ast.expr) -> bool:
    """Return whether an expression names the base of all errors."""
    names = node.elts if isinstance(node, ast.Tuple) else [node]
    return any(isinstance(one, ast.Name) and one.id in {"Exception", "BaseException"} for one in names)


def undescribed(path: Path) -> Iterator[str]:
    """Yield the public names of a file that have no docstring."""
    if not ast.get_docstring(tree(path)) and text(path).strip():
        yield name(path)
    yield from undescribed_in(path, tree(path))


def undescribed_in(path: Path, node: ast.Module | ast.ClassDef) -> Iterator[str]:
    """Yield the public names in a module or a class that have no docstring."""
    described = any(isinstance(base, ast.Name) and base.id == "Protocol" for base in getattr(node, "bases", []))
    for child in node.body:
        if not isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) or child.name.startswith("_"):
            continue
        if isinstance(child, ast.ClassDef):
            yield from undescribed_in(path, child)
        # A protocol's class describes its methods; an overload is described by its implementation.
        exempt = described or any(
            called_name(one) in {"overload", "setter", "override"} for one in child.decorator_list
        )
        if not exempt and not ast.get_docstring(child):
            yield f"{name(path)}:{child.lineno} {child.name}"


def called_name(node: ast.expr) -> str:
    """Return the last name of a decorator."""
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else called(node)


def imported(path: Path) -> set[str]:
    """Return the modules that a file imports, by statement or by name."""
    found: set[str] = set()
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module)
            found.update(f"{node.module}.{alias.name}" for alias in node.names if node.module.startswith("sealstream"))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.startswith("sealstream."):
            found.add(node.value.partition(":")[0])
    return found


def asserts(function: Function, helpers: Iterable[str]) -> bool:
    """Return whether a function asserts something: itself, by a checking call, or by one of these helpers."""
    by_itself, calls = what_it_does(function)
    return by_itself or not (calls - {function.name}).isdisjoint(helpers)


@cache
def what_it_does(function: Function) -> tuple[bool, frozenset[str]]:
    """Return whether a function asserts something by itself or by a checking call, and the names of all that it calls.

    Each function is walked through once, however often it is asked about.
    """
    nodes = list(ast.walk(function))
    calls = frozenset(called(node) for node in nodes)
    by_itself = any(isinstance(node, ast.Assert) for node in nodes)
    return by_itself or any(one in {"raises", "warns"} or CHECKING.match(one) for one in calls), calls


def asserting(path: Path, helpers: Iterable[str] = ()) -> list[Function]:
    """Return the functions of a file that assert something, directly or through one another."""
    found: list[Function] = []
    names = set(helpers)
    rest = list(functions(path))
    while more := [function for function in rest if asserts(function, names)]:
        found += more
        names |= {function.name for function in more}
        rest = [function for function in rest if not asserts(function, names)]
    return found


WRONG_FILES: Final = {
    "schemas/sealstream/__init__.py": "",
    "schemas/sealstream/alone.py": '"""A module."""\n',
    "schemas/sealstream/wrong/__init__.py": '"""A package."""\n',
    "schemas/sealstream/wrong/dead.py": (
        "def public():\n    try:\n        print('x')\n    except Exception:\n        pass\n" + "    x = 1\n" * 80
    ),
    "schemas/sealstream/schemas/__init__.py": "import pydantic\n",
    "schemas/sealstream/schemas/long.py": f'"""{"x" * 130}"""\n# {"TO" + "DO"}: later\n# {"/ro" + "ot/x"}\t\n',
    "schemas/sealstream/schemas/big.avsc": "x" * 600_000,
    "schemas/sealstream/schemas/two words.md": "no line break",
    "tests/unit/test_wrong.py": "import pytest\n\n\ndef test_blind():\n    pytest.skip()\n",
    "pyproject.toml": '[project]\ndependencies = ["fastavro"]\noptional-dependencies = {}\n',
}


@pytest.mark.parametrize(
    "rule",
    [
        TestLayout.test_namespace_is_bare,
        TestLayout.test_roots_hold_the_namespace_alone,
        TestLayout.test_packages_are_typed,
        TestLayout.test_files_are_small,
        TestLayout.test_modes,
        TestLayout.test_names_are_portable,
        TestText.test_lines,
        TestText.test_nothing_is_left_for_later,
        TestText.test_no_place_of_one_machine,
        TestText.test_text_is_plain,
        TestCode.test_functions_are_short,
        TestCode.test_errors_are_not_swallowed,
        TestCode.test_only_the_command_line_prints,
        TestCode.test_public_names_are_described,
        TestCode.test_no_module_is_dead,
        TestCode.test_dependencies_have_a_reason,
        TestTests.test_tests_are_described,
        TestTests.test_tests_can_fail,
        TestTests.test_skips_have_a_reason,
    ],
)
def test_rule_sees_what_it_forbids(
    rule: Callable[[object], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each rule fails on a repository that breaks it, so that none of them passes by looking at nothing."""
    for root in FOLDERS:
        (tmp_path / root / "sealstream").mkdir(parents=True)
    for place, content in WRONG_FILES.items():
        path = tmp_path / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    (tmp_path / "pyproject.toml").chmod(0o755)
    monkeypatch.setitem(globals(), "ROOT", tmp_path)
    with pytest.raises(AssertionError):
        rule(None)
