"""The shipped weights in SpeechBrain's own interface, without the package."""

import pytest
import torch
from hyperpyyaml import load_hyperpyyaml
from plain_network import plain_modules
from speechbrain.inference.separation import SepformerSeparation

from s4m_sb.network.separate import separate
from s4m_sb.pretrained.shipped import model_folder

MODELS = ("s4m-8k", "s4m-8k-noisy")
