"""A clone of SpeechBrain for the tests that need one."""

import pytest
from speechbrain_checkout import Checkout


@pytest.fixture(scope="session")
def environment(tmp_path_factory):
    """One clone, with its environment, for a session."""
    return Checkout(tmp_path_factory.mktemp("upstream"))


@pytest.fixture
def checkout(environment):
    """It, as it was cloned."""
    environment.git(
        "checkout", "--quiet", "--force", "-B", "base", "origin/HEAD"
    )
    environment.git("clean", "-fdxq")
    for branch in environment.git(
        "branch", "--format=%(refname:short)"
    ).split():
        if branch != "base":
            environment.git("branch", "--quiet", "-D", branch)
    return environment
