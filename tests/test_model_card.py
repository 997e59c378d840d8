"""What a model card says; `s4m export` is run elsewhere."""

from s4m_sb.model_card import model_card


def test_a_model_for_one_voice_enhances():
    card = model_card("m", {"sample_rate": 8000, "num_spks": 1}, {}, {})
    assert "Frees one voice from noise at 8000 Hz." in card
    assert "speech-enhancement" in card
    assert "separation," not in card
