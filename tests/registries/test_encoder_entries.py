"""What `--audio_encoder` names."""

import pytest

from light_sernet_kd.registries.encoders import AUDIO_ENCODERS, audio_encoder


@pytest.mark.parametrize(
    ("spec", "encoder", "argument"),
    [
        (None, "vggish", ""),
        ("vggish=random=3", "vggish", "random=3"),
        ("torchvggish=here", "torchvggish", "here"),
        ("yamnet", "yamnet", ""),
        ("models/wavlm", "speech_model", "models/wavlm"),
        ("speech_model", "speech_model", "speech_model"),
    ],
)
def test_an_audio_encoder_is_one_by_name_or_a_speech_model(spec, encoder, argument):
    assert audio_encoder(spec) == (AUDIO_ENCODERS[encoder], argument)


def test_vggish_alone_has_a_front_end_of_the_package():
    through_front_end = [name for name, entry in AUDIO_ENCODERS.items() if entry.front_end == "vggish"]
    assert through_front_end == ["vggish", "torchvggish"]
