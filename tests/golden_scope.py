"""Models of the golden data that come later, with "Every layer, every format": refused until then."""

from __future__ import annotations

#: Name of the file, and a word of the sentence that refuses it.
LATER = {
    "slimmable_wavenet.nam": "slimmable",
    "wavenet_a2_max.nam": "condition_dsp",
    "wavenet_condition_dsp.nam": "condition_dsp",
    "wn_film_grouped_gated.nam": "condition_dsp",
    "wn_cond_dsp.nam": "condition_dsp",
    "cn_bn_relu.nam": "ConvNet",
    "lin_33.nam": "Linear",
    "gru.json": "gru",
    "ax_gru8_skip_gains.json": "AIDA-X",
    "gml_lstm20_skip.json": "GuitarML",
}
#: The same for layer stacks in several files, by the case's format.
LATER_FORMATS = {"torch_state_dict_multi": "batchnorm"}
