"""What ships is found by its folder, and described by its card."""

import pytest

from s4m_sb.model_card import model_card
from s4m_sb.shipped_models import describe_model, shipped_names


def write_card(folder, text):
    folder.mkdir()
    (folder / "README.md").write_text(text, encoding="utf-8")
    return folder


def test_whatever_folder_lies_there_ships(tmp_path):
    for name in ("b-8k", "a-16k", ".hidden", "__pycache__"):
        (tmp_path / name).mkdir()
    (tmp_path / "README.md").touch()
    assert shipped_names(tmp_path) == ["a-16k", "b-8k"]
    assert shipped_names(tmp_path / "missing") == []


def test_what_a_written_card_says_is_read(tmp_path):
    numbers = {"sample_rate": 8000, "num_spks": 3, "num_parameters": 1234}
    results = {"si-snr_i": 9.514, "sdr_i": 9.9, "dataset": "wham"}
    facts = {"License": "apache-2.0"}
    text = model_card("mine", numbers, results, facts)
    model = describe_model(write_card(tmp_path / "mine", text))
    assert model.summary == "Separates 3 voices at 8000 Hz."
    assert (model.sample_rate, model.num_spks) == (8000, 3)
    assert (model.num_parameters, model.si_snr_i_db) == (1234, 9.514)
    assert model.license == "apache-2.0"
    assert model.num_bytes == len(text.encode())


@pytest.mark.parametrize(
    "text",
    [
        "",
        "# Mine\n",
        "---\n[\n---\n# Mine\n",
        "---\nmodel-index: []\nmetrics:\n---\n",
        "---\nmodel-index:\n- results:\n  - metrics:\n    - {}\n---\n",
        "---\nno end",
    ],
)
def test_a_card_may_say_nothing(tmp_path, text):
    model = describe_model(write_card(tmp_path / "mine", text))
    assert (model.name, model.sample_rate) == ("mine", None)
    assert model.si_snr_i_db is None


def test_there_may_be_no_card(tmp_path):
    model = describe_model(tmp_path)
    assert (model.summary, model.num_bytes) == ("", 0)


def test_the_summary_is_a_sentence(tmp_path):
    text = "# Mine\n\n![](a.png)\n\nFrees 0.5 voices\nfrom noise. It is big.\n"
    model = describe_model(write_card(tmp_path / "mine", text))
    assert model.summary == "Frees 0.5 voices from noise."
