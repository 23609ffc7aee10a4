"""Writes tiny_distilbert/more_kinds.json: LoRA-XS, in the layers of peft's LoRA, and peft's LoRA with ranks and alphas of
single modules, on the DistilBERT of tiny_encoders.py; and tiny_distilbert/eva.json: EVA's first factors, as peft finds
them with the dense decomposition that its `IncrementalPCA` offers beside its randomised one, and by a dense decomposition
in double precision of what goes into the same layers.

    pip install torch==2.15.0 transformers==5.24.0 peft==0.21.2 tokenizers==0.23.3 safetensors==0.8.0
    python more_kinds.py

peft has no LoRA-XS. Its LoRA is one whose `lora_B` is the product of a constant and a trained matrix, so that is what stands
in the place of `lora_B` here, and autograd does the rest. Tensors have the values of tiny_bert.py's formula, in the order
of their names in our files, those of the constants included.
"""

import json

import torch
from peft import EvaConfig, LoraConfig, get_peft_model, initialize_lora_eva_weights
from peft.tuners.lora import Linear, eva
from tiny_bert import numbers, wave
from tiny_encoders import HERE, LABELS, TEXTS, batch, classification, distilbert, make, plain

OUT = HERE / "tiny_distilbert" / "more_kinds.json"
EVA = HERE / "tiny_distilbert" / "eva.json"
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


def eva_of_peft(made, inputs):
    """One batch, which peft sees until its directions stay: those of the batch."""
    incremental = eva.IncrementalPCA
    eva.IncrementalPCA = lambda **given: incremental(**(given | {"lowrank": False, "lowrank_seed": None}))
    config = LoraConfig(r=2, lora_alpha=6, target_modules=TARGETS, init_lora_weights="eva", eva_config=EvaConfig(rho=1.0))
    wrapped = get_peft_model(made, config, low_cpu_mem_usage=True)
    initialize_lora_eva_weights(wrapped, [inputs], show_progress_bar=False)
    layers = {name: layer for name, layer in wrapped.named_modules() if isinstance(layer, Linear)}
    return {f"{name}.lora_A.weight": numbers(layer.lora_A["default"].weight) for name, layer in layers.items()}


@torch.no_grad()
def dense_eva(made, inputs):
    """The first two right singular vectors of the centred inputs, the largest entry of each positive."""
    found, mask = {}, inputs["attention_mask"].bool()

    def directions(name):
        def hook(_, args, __):
            x = args[0][mask].double()
            v = torch.linalg.svd(x - x.mean(0), full_matrices=False).Vh[:2]
            largest = v.gather(1, v.abs().argmax(1, keepdim=True))
            found[f"base_model.model.{name}.lora_A.weight"] = numbers(v * largest.sign())
        return hook

    for name, layer in made.named_modules():
        if name.split(".")[-1] in TARGETS:
            layer.register_forward_hook(directions(name))
    made(**inputs)
    return found


def main():
    tokenizer, model_class, config, _, _, saved, padding = distilbert()
    inputs = batch(tokenizer.encode_batch(TEXTS), padding)
    reference = {
        "lora-xs": lora_xs(make(model_class, config), inputs, saved),
        "patterns": classification(make(model_class, config), inputs, TARGETS, saved, **PATTERNS),
    }
    OUT.write_text(json.dumps(reference) + "\n")
    first = {"peft": eva_of_peft(make(model_class, config), inputs), "dense": dense_eva(make(model_class, config), inputs)}
    EVA.write_text(json.dumps(first) + "\n")


if __name__ == "__main__":
    main()
