"""Writes tiny_distilbert/more_kinds.json: LoRA-XS, in the layers of peft's LoRA, and peft's LoRA with ranks and alphas of
single modules, on the DistilBERT of tiny_encoders.py.

    pip install torch==2.15.0 transformers==5.24.0 peft==0.21.2 tokenizers==0.23.3 safetensors==0.8.0
    python more_kinds.py

peft has no LoRA-XS. Its LoRA is one whose `lora_B` is the product of a constant and a trained matrix, so that is what stands
in the place of `lora_B` here, and autograd does the rest. Tensors have the values of tiny_bert.py's formula, in the order
of their names in our files, those of the constants included.
"""

import json

import torch
from peft import LoraConfig, get_peft_model
from peft.tuners.lora import Linear
from tiny_bert import numbers, wave
from tiny_encoders import HERE, LABELS, TEXTS, batch, classification, distilbert, make, plain

OUT = HERE / "tiny_distilbert" / "more_kinds.json"
TARGETS = ["q_lin", "lin1"]
PATTERNS = {
    "rank_pattern": {r"layer\.1\..*": 3, "0.attention.q_lin": 1, "lin1": 4}, "alpha_pattern": {"lin1": 5, "q_lin|x": 2.5},
}


class Middle(torch.nn.Module):
    """`x Rᵀ Lᵀ`, with gradients for `R`."""

    def __init__(self, d_out, rank):
        super().__init__()
        self.right = torch.nn.Parameter(torch.zeros(rank, rank))
        self.left = torch.zeros(d_out, rank)

    def forward(self, x):
        return x @ self.right.T @ self.left.T


def fill(tensors):
    for index, (_, tensor) in enumerate(sorted(tensors.items())):
        tensor.data.copy_(wave(tensor.shape, 0.37 + 0.05 * index, index))


def classified(wrapped, inputs, trained):
    logits = wrapped(**inputs).logits
    torch.nn.functional.cross_entropy(logits, torch.tensor(LABELS)).backward()
    return {"logits": numbers(logits), "gradients": {name: numbers(p.grad) for name, p in trained.items()}}


def lora_xs(made, inputs, saved):
    config = LoraConfig(r=2, lora_alpha=6, target_modules=TARGETS, task_type="SEQ_CLS", modules_to_save=saved)
    wrapped = get_peft_model(made, config)
    trained, constants = {}, {}
    for name, layer in wrapped.named_modules():
        if isinstance(layer, Linear):
            middle = Middle(layer.out_features, 2)
            layer.lora_B["default"] = middle
            trained[f"{name}.lora_R.weight"] = middle.right
            constants[f"{name}.lora_A.weight"] = layer.lora_A["default"].weight
            constants[f"{name}.lora_B.weight"] = middle.left
    trained |= {plain(name): p for name, p in wrapped.named_parameters() if "modules_to_save" in name}
    fill(trained | constants)
    return classified(wrapped, inputs, trained)


def main():
    tokenizer, model_class, config, _, _, saved, padding = distilbert()
    inputs = batch(tokenizer.encode_batch(TEXTS), padding)
    reference = {
        "lora-xs": lora_xs(make(model_class, config), inputs, saved),
        "patterns": classification(make(model_class, config), inputs, TARGETS, saved, **PATTERNS),
    }
    OUT.write_text(json.dumps(reference) + "\n")


if __name__ == "__main__":
    main()
