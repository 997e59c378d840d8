"""SpeechBrain's repository, for the tests of what is made for it.

They need a clone of it, named in SPEECHBRAIN_REPO, and a network to install
SpeechBrain's linters; without the clone they are skipped.
"""

import os
import subprocess
import sysconfig
import venv

import pytest

REPO = os.environ.get("SPEECHBRAIN_REPO")
# As its pyproject.toml and .pre-commit-config.yaml pin them; mir_eval is what
# the evaluation of its separation recipes imports.
TOOLS = ("ruff==0.12.4", "yamllint==1.35.1", "codespell==2.3.0", "mir_eval")
AUTHOR = {
    f"GIT_{who}_{what}": "tests"
    for who in ("AUTHOR", "COMMITTER")
    for what in ("NAME", "EMAIL")
}

needs_speechbrain = pytest.mark.skipif(
    REPO is None, reason="SPEECHBRAIN_REPO names no clone of SpeechBrain"
)


class Checkout:
    """A clone in a folder of its own, and an environment that imports it.

    Arguments
    ---------
    folder : Path
        Where to put both.
    """

    def __init__(self, folder):
        self.path = folder / "speechbrain"
        git(folder, "clone", "--quiet", REPO, str(self.path))
        environment = folder / "environment"
        venv.create(environment, with_pip=True)
        (site,) = environment.glob("lib/python*/site-packages")
        # What is installed here comes after the checkout.
        (site / "a_checkout.pth").write_text(f"{self.path}\n")
        (site / "b_installed.pth").write_text(sysconfig.get_path("purelib"))
        self.bin = environment / "bin"
        self.run("python", "-m", "pip", "install", "--quiet", *TOOLS)

    def run(self, *words, check=True):
        """Runs a command there, as a contributor would."""
        result = subprocess.run(
            [str(self.bin / words[0]), *words[1:]],
            cwd=self.path,
            env=self.variables(),
            capture_output=True,
            text=True,
        )
        if check:
            assert result.returncode == 0, result.stdout + result.stderr
        return result

    def variables(self):
        path = f"{self.bin}{os.pathsep}{os.environ['PATH']}"
        env = {**os.environ, **AUTHOR, "PATH": path, "CUDA_VISIBLE_DEVICES": ""}
        env.pop("PYTHONPATH", None)
        return env

    def git(self, *words):
        """What Git says there."""
        return git(self.path, *words)


def git(folder, *words):
    """What Git says in a folder."""
    return subprocess.run(
        ["git", *words],
        cwd=folder,
        env={**os.environ, **AUTHOR},
        check=True,
        capture_output=True,
        text=True,
    ).stdout
