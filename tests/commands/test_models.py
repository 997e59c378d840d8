"""``s4m models``: what ships, for people and for programs."""

import json
import re
from pathlib import Path

import pytest
from command_line import run

from s4m_sb.pretrained.shipped import DEFAULT_MODEL, shipped_names


def test_models_lists_what_ships(capsys):
    assert run("models") == 0
    text = capsys.readouterr().out
    assert run("models", "--json") == 0
    models = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [model["name"] for model in models] == shipped_names()
    (default,) = [model["name"] for model in models if model["default"]]
    assert default == DEFAULT_MODEL
    with pytest.raises(SystemExit):
        run("models", "--help")
    described = capsys.readouterr().out
    for model in models:
        assert model["name"] in text and model["summary"] in text
        assert Path(model["card"]).is_file()
        for key in model:
            assert re.search(rf"(?m)^  {key} ", described), key
