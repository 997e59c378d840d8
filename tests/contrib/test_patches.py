"""Each fix for SpeechBrain has a test, which fails without it."""

import pytest
from plain_network import KIT
from speechbrain_checkout import needs_speechbrain

PATCHES = sorted(KIT.glob("patches/*.patch"))


def test_each_has_its_description():
    described = {path.stem for path in KIT.glob("patches/*.md")}
    assert {path.stem for path in PATCHES} == described
    assert len(PATCHES) == 5


@pytest.mark.parametrize("patch", PATCHES, ids=lambda path: path.stem)
def test_it_says_what_it_does(patch):
    head = patch.read_text(encoding="utf-8").split("\n---\n")[0]
    description = patch.with_suffix(".md").read_text(encoding="utf-8")
    title = description.removeprefix("<!-- ").split(" -->")[0]
    assert title in " ".join(head.replace("[PATCH] ", "").split())
    for part in ("## What does this PR do?", "Before submitting"):
        assert part in description


@needs_speechbrain
@pytest.mark.parametrize("patch", PATCHES, ids=lambda path: path.stem)
def test_its_test_fails_without_it(patch, checkout):
    checkout.git("am", "--quiet", str(patch))
    names = checkout.git("diff", "--name-only", "HEAD~1").split()
    tests = [name for name in names if name.startswith("tests/unittests/")]
    fixed = [name for name in names if name not in tests]
    assert len(tests) == 1 and fixed
    checkout.run("ruff", "check", *names)
    checkout.run("ruff", "format", "--check", *names)
    run = ["python", "-m", "pytest", "-q", "-p", "no:cacheprovider", *tests]
    passed = checkout.run(*run).stdout
    checkout.git("checkout", "--quiet", "HEAD~1", "--", *fixed)
    result = checkout.run(*run, check=False)
    assert result.returncode == 1, result.stdout  # tests have failed
    assert " passed" in passed and "failed" not in passed
