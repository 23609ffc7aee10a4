"""Loads an adapter of ours for a language model with Hugging Face `peft`, and compares logits and greedy continuations.

Exits with 1 if a logit of the token behind a text differs by more than the tolerance, or a continuation by a token.
"""

import argparse
import json
import sys
import warnings
from pathlib import Path

import torch
from peft import PeftModel, get_peft_model_state_dict
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

warnings.filterwarnings("ignore", category=FutureWarning)


def load(model_dir: Path, adapter_dir: Path) -> PeftModel:
    """The model with the adapter in it, of which every tensor was taken."""
    base = AutoModelForCausalLM.from_pretrained(model_dir, dtype=torch.float32)
    model = PeftModel.from_pretrained(base, adapter_dir).eval()
    held, tensors = get_peft_model_state_dict(model), load_file(adapter_dir / "adapter_model.safetensors")
    if held.keys() != tensors.keys():
        raise SystemExit(f"not on both sides: {sorted(held.keys() ^ tensors.keys())}")
    if different := [name for name, tensor in tensors.items() if not torch.equal(held[name], tensor)]:
        raise SystemExit(f"peft did not load {different[0]}")
    return model


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path, help="Hugging Face folder of the base model")
    parser.add_argument("adapter", type=Path, help="PEFT folder of the adapter")
    parser.add_argument("lines", type=Path, help="what the example `next_token` printed")
    parser.add_argument("--tolerance", type=float, default=1e-4, help="largest difference of a logit allowed")
    args = parser.parse_args()

    model, tokenizer = load(args.model, args.adapter), AutoTokenizer.from_pretrained(args.model)
    differences, moves, other = [], [], 0
    for line in map(json.loads, args.lines.read_text(encoding="utf-8").splitlines()):
        prompt = tokenizer(line["text"], return_tensors="pt")
        inputs = {name: prompt[name] for name in ("input_ids", "attention_mask")}
        with torch.no_grad():
            logits = model(**inputs).logits[0, -1]
            with model.disable_adapter():
                moves.append((model(**inputs).logits[0, -1] - logits).abs().max().item())
            count = len(line["continuation"])
            written = model.generate(**inputs, max_new_tokens=max(count, 1), do_sample=False, pad_token_id=0)
        differences.append((logits - torch.tensor(line["logits"])).abs().max().item())
        other += written[0, inputs["input_ids"].shape[1] :].tolist() != line["continuation"]
    print(f"{len(differences)} texts, largest difference of a logit {max(differences):.2e}, {other} other continuations;")
    print(f"the adapter moves each text's logits by {min(moves):.3f} or more")
    return 0 if other == 0 and all(value <= args.tolerance for value in differences) else 1


if __name__ == "__main__":
    sys.exit(main())
