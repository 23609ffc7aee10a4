"""Writes tiny_roberta/ and tiny_distilbert/: what transformers and peft compute with encoders of two layers.

    pip install torch==2.15.0 transformers==5.24.0 peft==0.21.2 tokenizers==0.23.3 safetensors==0.8.0
    python tiny_encoders.py

As tiny_bert.py, from which the formula of the factors comes: random weights that mean nothing, embeddings of words in
F16. Features are those of the bare encoders. Logits and gradients are those of the families' own classes for the
classification of sequences, with LoRA on every linear layer of the encoder and the head saved whole.
"""

import json
import pathlib
import re

import torch
from peft import LoraConfig, get_peft_model
from peft.tuners.tuners_utils import check_target_module_exists
from safetensors.torch import save_file
from tiny_bert import VOCAB, numbers, wave
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import (
    DistilBertConfig, DistilBertForSequenceClassification, RobertaConfig, RobertaForSequenceClassification,
)

HERE = pathlib.Path(__file__).parent
TEXTS = ["The cat sat on the mat.", "a very good film!", "dogs <pad> ran", "not Good, not bad?", "zebra É 猫"]
PAIR = ["the cat", "a dog ran far away"]
LABELS = [0, 1, 2, 0, 1]
MERGES = ["t h", "th e", "Ġ c", "a t", "Ġ the", "o o", "g oo", "goo d", "Ġ good", "Ġc at"]
SELECTIONS = [
    {"target_modules": ["query", "value"]},
    {"target_modules": ["output.dense"]},
    {"target_modules": ["roberta.encoder.layer.1.output.dense", "key"]},
    {"target_modules": r".*\.layer\.1\..*(query|key)"},
    {"target_modules": r"roberta\.encoder\.layer\.\d+\.output\.dense|.*value"},
    {"target_modules": ["query", "dense"], "exclude_modules": ["attention.output.dense"]},
    {"target_modules": r".*dense", "exclude_modules": r".*\.0\..*"},
    {"target_modules": ["query", "value"], "layers_to_transform": 1},
    {"target_modules": ["query", "value"], "layers_to_transform": [0, 7], "layers_pattern": "layer"},
    {"target_modules": ["query"], "layers_to_transform": [0], "layers_pattern": ["blocks", "l[a-z]*r"]},
    {"target_modules": ["roberta.encoder.layer.0.output.dense", "query"], "layers_to_transform": [1]},
    {"target_modules": ["query"], "layers_to_transform": []},
]
SPECIAL = ["<s>", "<pad>", "</s>", "<unk>"]


def byte_level_bpe():
    pieces = [*SPECIAL, *sorted(pre_tokenizers.ByteLevel.alphabet()), *[merge.replace(" ", "") for merge in MERGES]]
    vocab = {piece: index for index, piece in enumerate(pieces)}
    made = Tokenizer(models.BPE(vocab, [tuple(merge.split(" ")) for merge in MERGES]))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), trim_offsets=True, add_prefix_space=False)
    made.add_special_tokens(SPECIAL)
    return made


def unigram():
    """A tokenizer of XLM-R's kind: its file, and what it makes of the texts."""
    words = ["▁the", "▁cat", "▁", "t", "h", "e", "a", "c", "▁good", "▁film", "s", "o", "n", "d", "g", "!", ".", "▁ran"]
    pieces = [(piece, 0.0) for piece in SPECIAL] + [(word, -2.0 - 0.5 * index) for index, word in enumerate(words)]
    made = Tokenizer(models.Unigram(pieces, unk_id=3))
    made.normalizer = normalizers.NFKC()
    made.pre_tokenizer = pre_tokenizers.Metaspace()
    made.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    made.add_special_tokens(SPECIAL)
    return made


def word_piece():
    made = Tokenizer(models.WordPiece({word: index for index, word in enumerate(VOCAB)}, unk_token="[UNK]"))
    made.normalizer = normalizers.BertNormalizer(strip_accents=False)
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return made


def roberta():
    config = RobertaConfig(
        vocab_size=270, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=24,
        max_position_embeddings=40, type_vocab_size=1, layer_norm_eps=1e-5, initializer_range=0.3, num_labels=3,
        hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
    )
    keys = ["vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size",
            "max_position_embeddings", "type_vocab_size", "layer_norm_eps", "hidden_act", "pad_token_id", "model_type"]
    targets = ["query", "key", "value", "attention.output.dense", "intermediate.dense", "output.dense"]
    return byte_level_bpe(), RobertaForSequenceClassification, config, keys, targets, ["classifier"], 1


def distilbert():
    config = DistilBertConfig(
        vocab_size=len(VOCAB), dim=16, n_layers=2, n_heads=2, hidden_dim=24, max_position_embeddings=40,
        initializer_range=0.3, num_labels=3, dropout=0.0, attention_dropout=0.0, seq_classif_dropout=0.0,
    )
    keys = ["vocab_size", "dim", "n_layers", "n_heads", "hidden_dim", "max_position_embeddings", "activation", "model_type"]
    targets = ["q_lin", "k_lin", "v_lin", "out_lin", "lin1", "lin2"]
    saved = ["classifier", "pre_classifier"]
    return word_piece(), DistilBertForSequenceClassification, config, keys, targets, saved, 0


def make(model_class, config):
    """The classifier with weights that its file can hold."""
    torch.manual_seed(17)
    made = model_class(config).eval()
    for name, tensor in made.state_dict().items():
        if "norm" in name.lower() or name.endswith("bias"):
            tensor += 0.1 * torch.randn_like(tensor)
        if "word_embeddings" in name:
            tensor.copy_(tensor.half().float())
    return made


def save(made, config, keys, out):
    stored = {
        name: (tensor.half() if "word_embeddings" in name else tensor).clone().contiguous()
        for name, tensor in made.base_model.state_dict().items()
        if "position_ids" not in name and "token_type_ids" not in name
    }
    save_file(stored, out / "model.safetensors", {"format": "pt"})
    kept = {key: value for key, value in config.to_dict().items() if key in keys}
    (out / "config.json").write_text(json.dumps(kept, indent=1, sort_keys=True) + "\n")


def batch(encodings, padding):
    width = max(len(e.ids) for e in encodings)
    return dict(
        input_ids=torch.tensor([e.ids + [padding] * (width - len(e.ids)) for e in encodings]),
        attention_mask=torch.tensor([[1] * len(e.ids) + [0] * (width - len(e.ids)) for e in encodings]),
    )


@torch.no_grad()
def features(encoder, inputs):
    states, mask = encoder(**inputs).last_hidden_state, inputs["attention_mask"].unsqueeze(-1)
    return {"mean": numbers((states * mask).sum(1) / mask.sum(1)), "cls": numbers(states[:, 0])}


def plain(name):
    """The name in files of a parameter in memory."""
    name = name.replace("lora_magnitude_vector.default.weight", "lora_magnitude_vector")
    return name.replace(".modules_to_save.default", "").replace(".default.", ".")


def classification(made, inputs, targets, saved, **kind):
    config = LoraConfig(r=2, lora_alpha=6, target_modules=targets, task_type="SEQ_CLS", modules_to_save=saved, **kind)
    wrapped = get_peft_model(made, config)
    trained = {plain(name): p for name, p in wrapped.named_parameters() if p.requires_grad}
    for index, (name, p) in enumerate(sorted(trained.items())):
        p.data.copy_(wave(p.shape, 0.37 + 0.05 * index, index) + (1.0 if "magnitude" in name else 0.0))
    logits = wrapped(**inputs).logits
    torch.nn.functional.cross_entropy(logits, torch.tensor(LABELS)).backward()
    return {"logits": numbers(logits), "gradients": {name: numbers(p.grad) for name, p in trained.items()}}


def selections(made):
    """Selections of modules, and the linear layers of the encoder that peft finds under them."""
    linear = [name for name, m in made.named_modules() if isinstance(m, torch.nn.Linear) and "classifier" not in name]
    found = []
    for words in SELECTIONS:
        config = LoraConfig(**words)
        verdicts = {name: check_target_module_exists(config, name) for name in linear}
        modules = [name for name, verdict in verdicts.items() if verdict is True or isinstance(verdict, re.Match)]
        found.append(words | {"modules": sorted(modules)})
    return found


def write(family, out):
    out.mkdir(exist_ok=True)
    tokenizer, model_class, config, keys, targets, saved, padding = family
    tokenizer.save(str(out / "tokenizer.json"))
    made = make(model_class, config)
    save(made, config, keys, out)
    texts, pair = tokenizer.encode_batch(TEXTS), tokenizer.encode(*PAIR)
    inputs = batch(texts, padding)
    reference = {
        "texts": TEXTS, "labels": LABELS, "ids": [e.ids for e in texts], "features": features(made.base_model, inputs),
        "pair": PAIR, "pair_ids": pair.ids, "pair_features": features(made.base_model, batch([pair], padding)),
        "classification": classification(made, inputs, targets, saved),
    }
    if padding:
        made = unigram()
        made.save(str(out / "unigram.json"))
        reference["unigram_ids"] = [e.ids for e in made.encode_batch(TEXTS)]
        reference["selections"] = selections(model_class(config))
    else:
        kinds = {"dora": {"use_dora": True}, "olora": {"init_lora_weights": "olora"}}
        reference["kinds"] = {
            name: classification(make(model_class, config), inputs, ["q_lin", "lin1"], saved, **kind)
            for name, kind in kinds.items()
        }
    (out / "reference.json").write_text(json.dumps(reference, ensure_ascii=False) + "\n")


def main():
    write(roberta(), HERE / "tiny_roberta")
    write(distilbert(), HERE / "tiny_distilbert")


if __name__ == "__main__":
    main()
