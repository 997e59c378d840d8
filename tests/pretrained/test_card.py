"""What a model card says, written and read; `s4m export` is run elsewhere."""

import math

import pytest
from huggingface_hub import ModelCard

from s4m_sb.pretrained.card import describe_model, model_card


def test_a_model_for_one_voice_enhances():
    card = model_card("m", {"sample_rate": 8000, "num_spks": 1}, {}, {}, {})
    assert "Frees one voice from noise at 8000 Hz." in card
    assert "speech-enhancement" in card
    assert "separation," not in card


def test_the_hub_reads_its_head():
    text = model_card(
        "my-model",
        {"sample_rate": 8000, "num_spks": 2, "num_parameters": 99},
        {"si-snr_i": 9.51234567, "pesq": 2.5, "epoch": 3, "dataset": "mine"},
        {"License": "mit"},
        {"si-snr_i": "SI-SNRi (dB)", "sdr_i": "SDRi (dB)", "pesq": "PESQ"},
    )
    data = ModelCard(text).data
    assert data.license == "mit"
    assert data.model_name == "my-model"
    scores = {score.metric_type: score for score in data.eval_results}
    assert set(scores) == {"si-snr_i", "pesq"}
    assert scores["si-snr_i"].metric_name == "SI-SNRi (dB)"
    assert math.isclose(scores["si-snr_i"].metric_value, 9.5123)
    assert scores["pesq"].dataset_name == "mine"
    assert data.to_dict()["num_parameters"] == 99


def write_card(folder, text):
    folder.mkdir()
    text = text if isinstance(text, bytes) else text.encode()
    (folder / "README.md").write_bytes(text)
    return folder


def score(value):
    """A head whose score is this YAML."""
    metric = f"{{type: si-snr_i, value: {value}}}"
    return f"model-index:\n- results:\n  - metrics:\n    - {metric}\n"


def test_what_a_written_card_says_is_read(tmp_path):
    numbers = {"sample_rate": 8000, "num_spks": 3, "num_parameters": 1234}
    results = {"si-snr_i": 9.514, "sdr_i": 9.9, "dataset": "wham"}
    facts = {"License": "apache-2.0"}
    text = model_card(
        "mine", numbers, results, facts, {"si-snr_i": "SI-SNRi (dB)"}
    )
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
        "---\nmodel-index: 3\n---\n",
        "---\nmodel-index: [1]\n---\n",
        "---\nmodel-index: [{results: {metrics: 1}}]\n---\n",
        f"---\n{score('high')}---\n",
        f"---\n{score('!!float high')}---\n",
        f"---\n{score('[9.5]')}---\n",
        "---\nx: 2001-99-99\n---\n",
        "---\nx: !!bool maybe\n---\n",
        "---\nx: " + "[" * 9999 + "\n---\n",
        "---\nx: &a [*a]\nmodel-index: *a\n---\n",
        "---\nsample_rate: [8000]\nlicense: 2001-01-01\n---\n",
        b"---\nsample_rate: 8000\nlicense: \xff\n---\n",
    ],
)
def test_a_card_may_say_nothing(tmp_path, text):
    model = describe_model(write_card(tmp_path / "mine", text))
    assert (model.name, model.sample_rate) == ("mine", None)
    assert model.si_snr_i_db is model.license is None


def test_a_score_that_is_a_number_is_found_behind_others(tmp_path):
    text = f"---\n{score('high')}    - {{type: si-snr_i, value: 9}}\n---\n"
    model = describe_model(write_card(tmp_path / "mine", text))
    assert model.si_snr_i_db == 9


def test_a_card_that_lies_elsewhere_is_none(tmp_path):
    (tmp_path / "secret.txt").write_text("A secret.")
    (tmp_path / "mine").mkdir()
    card = tmp_path / "mine" / "README.md"
    card.symlink_to("../secret.txt")
    assert describe_model(tmp_path / "mine").summary == ""
    card.unlink()
    blob = tmp_path / "models--a--b" / "blobs" / ("0123456789abcdef" * 4)
    blob.parent.mkdir(parents=True)
    blob.write_text("Of the Hub.")
    card.symlink_to(blob)
    assert describe_model(tmp_path / "mine").summary == "Of the Hub."


def test_there_may_be_no_card(tmp_path):
    model = describe_model(tmp_path)
    assert (model.summary, model.num_bytes) == ("", 0)


def test_the_summary_is_a_sentence(tmp_path):
    text = "# Mine\n\n![](a.png)\n\nFrees 0.5 voices\nfrom noise. It is big.\n"
    model = describe_model(write_card(tmp_path / "mine", text))
    assert model.summary == "Frees 0.5 voices from noise."


def test_a_card_larger_than_memory_is_read_in_part(tmp_path):
    write_card(tmp_path / "mine", "# Mine\n\nA voice. It is long.\n")
    with open(tmp_path / "mine" / "README.md", "r+b") as card:
        card.truncate(2**40)  # a hole in the file
    model = describe_model(tmp_path / "mine")
    assert model.summary == "A voice."
    assert model.num_bytes == 2**40
