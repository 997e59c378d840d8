"""What a model card says; `s4m export` is run elsewhere."""

import math

from huggingface_hub import ModelCard

from s4m_sb.pretrained.card import model_card


def test_a_model_for_one_voice_enhances():
    card = model_card("m", {"sample_rate": 8000, "num_spks": 1}, {}, {})
    assert "Frees one voice from noise at 8000 Hz." in card
    assert "speech-enhancement" in card
    assert "separation," not in card


def test_the_hub_reads_its_head():
    text = model_card(
        "my-model",
        {"sample_rate": 8000, "num_spks": 2, "num_parameters": 99},
        {"si-snr_i": 9.51234567, "pesq": 2.5, "epoch": 3, "dataset": "mine"},
        {"License": "mit"},
    )
    data = ModelCard(text).data
    assert data.license == "mit"
    assert data.model_name == "my-model"
    scores = {score.metric_type: score for score in data.eval_results}
    assert set(scores) == {"si-snr_i", "pesq"}
    assert math.isclose(scores["si-snr_i"].metric_value, 9.5123)
    assert scores["pesq"].dataset_name == "mine"
    assert data.to_dict()["num_parameters"] == 99
