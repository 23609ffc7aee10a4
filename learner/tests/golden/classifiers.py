"""Writes classifiers/: four decoders of two layers that predict labels, and what transformers and peft compute with them.

    pip install torch==2.15.0 transformers==5.24.0 peft==0.21.2 tokenizers==0.23.3 safetensors==0.8.0
    python classifiers.py

The weights are random and mean nothing. References are computed in F32 from the values as they are stored. Adapter factors
and the head follow a formula, so that no random generator is shared.
"""

import json
import pathlib

import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, MistralConfig, Qwen2Config, Qwen3Config
from transformers import LlamaForSequenceClassification, MistralForSequenceClassification
from transformers import Qwen2ForSequenceClassification, Qwen3ForSequenceClassification

OUT = pathlib.Path(__file__).parent / "classifiers"
PAD = 0
SIZES = dict(
    vocab_size=64, hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=4,
    num_key_value_heads=2, max_position_embeddings=64, initializer_range=0.3, bos_token_id=1, pad_token_id=PAD,
    num_labels=3,
)
MODELS = [
    ("llama", LlamaForSequenceClassification, LlamaConfig, {}),
    ("mistral", MistralForSequenceClassification, MistralConfig, dict(sliding_window=4)),
    ("qwen2", Qwen2ForSequenceClassification, Qwen2Config, {}),
    ("qwen3", Qwen3ForSequenceClassification, Qwen3Config, dict(head_dim=8)),
]
# The second one ends with the padding token by itself, which then is no last token.
SEQUENCES = [[1, 17, 23, 5, 60, 41, 8, 33, 2], [1, 9, 9, 50, PAD], [1, 30, 12, 44, 7, 26, 58, 19, 37, 11, 62, 4]]
LABELS = [2, 0, 1]


def build(kind, config):
    torch.manual_seed(17)
    made = kind(config).eval()
    for name, tensor in made.state_dict().items():
        if "norm" in name or name.endswith("bias"):
            tensor += 0.2 * torch.randn_like(tensor)
        tensor.copy_(tensor.to(torch.bfloat16).float())
    return made


def save(directory, made):
    directory.mkdir(parents=True, exist_ok=True)
    tensors = {name: t.to(torch.bfloat16).clone().contiguous() for name, t in made.state_dict().items()}
    save_file(tensors, directory / "model.safetensors", {"format": "pt"})
    kept = {key: value for key, value in made.config.to_dict().items()
            if key in {*SIZES, "model_type", "head_dim", "hidden_act", "rms_norm_eps", "tie_word_embeddings",
                       "rope_parameters", "sliding_window", "use_sliding_window", "max_window_layers", "layer_types"}}
    # What save_pretrained writes.
    kept["architectures"] = [type(made).__name__]
    (directory / "config.json").write_text(json.dumps(kept, indent=1, sort_keys=True) + "\n")
    words = ["<pad>", "<s>", "</s>", "<unk>", *(f"w{index}" for index in range(4, SIZES["vocab_size"]))]
    tokenizer = Tokenizer(models.WordLevel({word: index for index, word in enumerate(words)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.save(str(directory / "tokenizer.json"))


def batch():
    width = max(map(len, SEQUENCES))
    pad = lambda values, fill: torch.tensor([v + [fill] * (width - len(v)) for v in values])
    return dict(input_ids=pad(SEQUENCES, PAD), attention_mask=pad([[1] * len(ids) for ids in SEQUENCES], 0))


def wave(shape, step, shift):
    k = torch.arange(shape.numel(), dtype=torch.float64).reshape(shape)
    return (0.2 * torch.sin(step * k + shift)).float()


def main():
    for name, kind, config, own in MODELS:
        made = build(kind, config(**SIZES | own))
        save(OUT / name, made)
        lora = LoraConfig(r=4, lora_alpha=8, target_modules="all-linear", task_type="SEQ_CLS")
        wrapped = get_peft_model(made, lora).eval()
        trained = {name: p for name, p in wrapped.named_parameters() if p.requires_grad}
        factors = sorted(name for name in trained if "lora_" in name)
        for index, factor in enumerate(factors):
            trained[factor].data.copy_(wave(trained[factor].shape, 0.37 + 0.05 * index, index))
        (head,) = (name for name in trained if "lora_" not in name)
        trained[head].data.copy_(wave(trained[head].shape, 0.21, 0.4))
        logits = wrapped(**batch()).logits
        loss = torch.nn.functional.cross_entropy(logits, torch.tensor(LABELS))
        loss.backward()
        plain = lambda name: name.replace(".default.", ".").replace(".modules_to_save.", ".")
        tensors = {plain(name): p.grad for name, p in trained.items()} | {"logits": logits.detach()}
        save_file({n: t.clone().contiguous() for n, t in tensors.items()}, OUT / name / "reference.safetensors")
        reference = {"sequences": SEQUENCES, "labels": LABELS, "loss": loss.item()}
        (OUT / name / "reference.json").write_text(json.dumps(reference) + "\n")


main()
