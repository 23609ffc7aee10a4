"""Writes models of usual sizes with random weights, for both sides to time: what weights are changes nothing about the time.

    python make_models.py OUT

makes OUT/roberta-base, OUT/vit-small (timm, 197 rows an image) and OUT/mixer-s16 (timm).
"""

import argparse
import json
from pathlib import Path

import timm
import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import RobertaConfig, RobertaModel


def roberta(out: Path) -> None:
    """With a tokenizer of as many words as the model has embeddings."""
    config = RobertaConfig(vocab_size=50265, max_position_embeddings=514, type_vocab_size=1, layer_norm_eps=1e-5)
    RobertaModel(config, add_pooling_layer=False).save_pretrained(out)
    words = ["<s>", "<pad>", "</s>", "<unk>", *(f"w{index}" for index in range(4, config.vocab_size))]
    tokenizer = Tokenizer(models.WordLevel({word: index for index, word in enumerate(words)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.save(str(out / "tokenizer.json"))


def vision(out: Path, architecture: str) -> None:
    """As timm's models lie on the Hugging Face Hub."""
    out.mkdir(parents=True, exist_ok=True)
    model = timm.create_model(architecture, num_classes=2)
    save_file(model.state_dict(), out / "model.safetensors", {"format": "pt"})
    config = {"architecture": architecture, "num_classes": 2, "num_features": model.num_features}
    (out / "config.json").write_text(json.dumps(config, indent=1) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    out = parser.parse_args().out

    torch.manual_seed(0)
    roberta(out / "roberta-base")
    vision(out / "vit-small", "vit_small_patch16_224")
    vision(out / "mixer-s16", "mixer_s16_224")


if __name__ == "__main__":
    main()
