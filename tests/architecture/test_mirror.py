"""A test file a module, in the same place; and a module a test file."""

from source import PACKAGE, REPOSITORY, modules

TESTS = REPOSITORY / "tests"
# What tests mirror besides the package: they run it as a whole.
BESIDES = {"architecture", "contrib", "helpers", "recipes"}
ALONE = {"test_readme.py"}


def expected():
    """The place of each module's test, below ``tests/``."""
    return {
        str(path.relative_to(PACKAGE).with_name(f"test_{path.name}"))
        for path in modules().values()
        if not path.stem.startswith("__")
    }


def present():
    """The places of the tests of modules."""
    found = {
        str(path.relative_to(TESTS))
        for path in TESTS.rglob("test_*.py")
        if path.relative_to(TESTS).parts[0] not in BESIDES
    }
    return found - ALONE


def others():
    """The places of tests of scripts in ``benchmarks/``, and of folders.

    A folder's own test is one of its ``__init__.py``, or of data in it.
    """
    scripts = (REPOSITORY / "benchmarks").glob("*.py")
    found = {f"benchmarks/test_{path.name}" for path in scripts}
    for folder in (path for path in PACKAGE.rglob("*") if path.is_dir()):
        place = folder.relative_to(PACKAGE).parent
        found.add(str(place / f"test_{folder.name}.py"))
    return found


def test_every_module_has_its_test_file():
    assert sorted(expected() - present()) == []


def test_every_test_file_has_its_module():
    assert sorted(present() - expected() - others()) == []
