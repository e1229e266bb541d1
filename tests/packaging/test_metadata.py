"""The metadata is true: every package and every dependency is named, and nothing else."""

from __future__ import annotations

import ast
import configparser
import re
import sys
from collections.abc import Iterable, Iterator
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement

import pico_twisted

ROOT = Path(__file__).resolve().parents[2]
OURS = {"pico_twisted", "tests", "tools", "benchmarks", "demo"}
OPENTELEMETRY = {
    "opentelemetry.exporter.otlp.proto.http": "opentelemetry-exporter-otlp-proto-http",
    "opentelemetry.proto": "opentelemetry-proto",
    "opentelemetry.sdk": "opentelemetry-sdk",
    "opentelemetry.trace": "opentelemetry-api",
}
"""Which distribution brings which part of a package that many share."""
PROVIDERS = metadata.packages_distributions()


def setup_cfg() -> configparser.ConfigParser:
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg", encoding="utf-8")
    return parser


def listed(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if line.strip()]


def distribution(name: str) -> str:
    """The form in which names of distributions are compared."""
    return re.sub(r"[-_.]+", "-", re.split(r"[\[ <>=~!]", name)[0]).lower()


OF_OTHER_ENVIRONMENTS = (
    *(ROOT / "tests" / "programs" / "grpc" / name for name in ("client.py", "load.py", "service.py")),
    ROOT / "tests" / "monitoring" / "run.py",
)
"""What is run by a Python that has more than the extra `test`."""


def imported(*directories: str) -> set[str]:
    """The distributions whose modules these directories import, their own and the standard library's left out."""
    paths = {path for directory in directories for path in (ROOT / directory).rglob("*.py")}
    return {name for path in paths.difference(OF_OTHER_ENVIRONMENTS) for name in _imports(path)}


def _imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names = [node.module]
        else:
            continue
        for name in names:
            top = name.partition(".")[0]
            if top == "opentelemetry":
                yield next(dist for prefix, dist in OPENTELEMETRY.items() if name.startswith(prefix))
            elif top == "zope":
                yield distribution(".".join(name.split(".")[:2]))
            elif top not in OURS and top not in sys.stdlib_module_names:
                yield from {distribution(found) for found in PROVIDERS.get(top, [top])} - {"pico-twisted"}


def declared(*texts: str) -> set[str]:
    """The distributions that these requirements name."""
    return {distribution(requirement) for text in texts for requirement in listed(text)}


def test_every_package_is_listed() -> None:
    """A package that is not listed is missing after an installation; the plugin directory comes last."""
    packages = listed(setup_cfg()["options"]["packages"])
    found = {str(path.parent.relative_to(ROOT)).replace("/", ".") for path in ROOT.glob("pico_twisted/**/__init__.py")}
    assert set(packages[:-1]) == found
    assert packages[-1] == "twisted.plugins"
    assert listed(setup_cfg()["options"]["package_dir"]) == ["=."]


def test_every_directory_of_modules_is_a_package() -> None:
    """A directory without `__init__.py` is left out in silence, but twistd's plugin directory must have none."""
    for path in (ROOT / "pico_twisted").rglob("*.py"):
        assert (path.parent / "__init__.py").is_file(), path
    assert not list((ROOT / "twisted").rglob("__init__.py"))


def test_the_dependencies_are_what_is_imported() -> None:
    """What comes along with another dependency may be gone with its next version, and what is not used goes."""
    options = setup_cfg()
    extras = options["options.extras_require"]
    wanted = declared(options["options"]["install_requires"], extras["asgi"], extras["http2"], extras["otlp"])
    assert imported("pico_twisted", "twisted") == wanted | {"pytest"}  # which loads our fixture itself


def test_the_tests_have_what_they_import() -> None:
    """The extra `test` and the dependencies are enough for everything that runs in a clone."""
    options = setup_cfg()
    enough = declared(options["options"]["install_requires"], options["options.extras_require"]["test"])
    assert imported("tests", "tools", "benchmarks", "demo") <= enough


def test_every_requirement_has_a_lower_bound() -> None:
    """An old version that happens to be installed is not taken for good. Type stubs follow what they describe."""
    sections = setup_cfg()
    for text in (sections["options"]["install_requires"], *sections["options.extras_require"].values()):
        for requirement in listed(text):
            assert ">=" in requirement or requirement.startswith("types-"), requirement


def requirements(name: str, extras: Iterable[str]) -> Iterator[tuple[str, Iterable[str]]]:
    """What an installed distribution requires here, with the extras of that."""
    for text in metadata.requires(name) or ():
        wanted = Requirement(text)
        if wanted.marker is None or any(wanted.marker.evaluate({"extra": extra}) for extra in ("", *extras)):
            yield distribution(wanted.name), wanted.extras


def test_everything_that_is_installed_is_constrained() -> None:
    """What make installs is what the suite last passed with, and not what is new on PyPI today."""
    lines = listed((ROOT / "constraints.txt").read_text(encoding="utf-8"))
    constrained = {distribution(line) for line in lines if not line.startswith("#")}
    found = set[str]()
    to_look_at: list[tuple[str, Iterable[str]]] = [("pico-twisted", ("test", "http2"))]
    while to_look_at:
        for name, extras in requirements(*to_look_at.pop()):
            if name not in found:
                found.add(name)
                to_look_at.append((name, extras))
    assert found - {"setuptools"} <= constrained


FOUND_PROGRAM = re.compile(r"""find_program\("([\w-]+)", "([\w-]+)"\)""")


def test_programs_that_the_suite_needs_are_installed_for_it() -> None:
    """`.ci/run` installs what a test asks for: it fails where that is missing, and does not skip."""
    recipe = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    for folder, files in (("tests", "test_*.py"), ("tools/stage", "*.py")):
        for path in (ROOT / folder).rglob(files):
            for program, package in FOUND_PROGRAM.findall(path.read_text(encoding="utf-8")):
                assert f"[{program}]={package}" in recipe, path


def test_there_is_one_version() -> None:
    """The metadata takes it from the package."""
    assert re.fullmatch(r"\d+\.\d+\.\d+(\.dev\d+|rc\d+)?", pico_twisted.__version__)
    assert setup_cfg()["metadata"]["version"] == "attr: pico_twisted.__version__"
    assert pico_twisted.__version__ in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
