"""``s4m export``: a training becomes a model that separates."""

from command_line import run
from small_model import train


def test_export_then_separate(mixture, tmp_path, capsys):
    train(tmp_path / "run")
    capsys.readouterr()
    folder = tmp_path / "model"
    arguments = ["--data", "speech", "--license", "mit", "--command", "make"]
    assert run("export", tmp_path / "run", folder, *arguments) == 0
    assert str(folder) in capsys.readouterr().out
    card = (folder / "README.md").read_text()
    assert "- Data: speech" in card
    assert "- Command: make" in card
    assert "license: mit" in card
    assert run("export", tmp_path / "run", folder) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"s4m: error: {folder}: exists")
    assert run("export", tmp_path / "run", folder, "--force") == 0
    output = tmp_path / "out"
    assert run("separate", mixture, "--output", output, "--model", folder) == 0
