"""Makes an adapter and a head with plain `peft`, and the logits that they must give.

Writes a PEFT folder and, in it, `expected.jsonl`. Values are random, and no factor is zero: an adapter that did nothing
could not be told from one that was not loaded.
"""

import argparse
import json
import sys
from pathlib import Path

import torch
from peft import LoraConfig, VeraConfig, get_peft_model
from pooled import HEAD_BIAS, HEAD_WEIGHT, WEIGHTS, Logits, load_base, read_lines
from safetensors.torch import load_file, save_file

RANK, ALPHA = 8, 16
KINDS = {
    "lora": {}, "rslora": {"use_rslora": True}, "dora": {"use_dora": True}, "olora": {"init_lora_weights": "olora"},
    "gaussian": {"init_lora_weights": "gaussian"}, "orthogonal": {"init_lora_weights": "orthogonal"},
}


def adapter_config(kind: str, pooling: str, targets: list[str], base: torch.nn.Module) -> LoraConfig | VeraConfig:
    common = {"r": RANK, "target_modules": targets, "task_type": "FEATURE_EXTRACTION"}
    if pooling == "pooler":
        # `peft` saves what is called a classifier by itself, and DistilBERT's other layer where it is asked to.
        saved = ["pre_classifier"] if hasattr(base, "pre_classifier") else None
        common |= {"task_type": "SEQ_CLS", "modules_to_save": saved}
    if kind == "vera":
        return VeraConfig(**common, save_projection=True)
    return LoraConfig(**common, lora_alpha=ALPHA, **KINDS[kind])


def randomise(model: torch.nn.Module) -> None:
    """Gives every trained tensor values, those that start at zero included."""
    for name, parameter in model.named_parameters():
        if parameter.requires_grad and "magnitude" in name:
            parameter.data *= 0.5 + torch.rand_like(parameter)
        elif parameter.requires_grad and "lora_A" not in name:
            torch.nn.init.normal_(parameter, std=0.5 if "classifier" in name else 0.1)


def save(model: torch.nn.Module, out: Path, labels: int, width: int) -> dict[str, torch.Tensor]:
    """Saves the adapter; a bare encoder's head is added to its file, under the names that a classifier would use."""
    model.save_pretrained(out)
    tensors = load_file(out / WEIGHTS)
    if not any("classifier" in name for name in tensors):
        tensors[HEAD_WEIGHT] = torch.randn(labels, width) * 0.5
        tensors[HEAD_BIAS] = torch.randn(labels) * 0.5
        save_file(tensors, out / WEIGHTS, metadata={"format": "pt"})
    return tensors


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path, help="Hugging Face folder of the base model")
    parser.add_argument("out", type=Path, help="PEFT folder to write")
    parser.add_argument(
        "--texts", type=Path, default=Path(__file__).with_name("texts.jsonl"), help="JSON lines with text"
    )
    parser.add_argument("--kind", choices=[*KINDS, "vera"], default="lora")
    parser.add_argument("--targets", nargs="+", default=["query", "value"], help="q_lin v_lin for DistilBERT")
    parser.add_argument("--pooling", choices=["mean", "cls", "pooler"], default="mean")
    parser.add_argument("--labels", type=int, default=3)
    parser.add_argument("--max-length", type=int, default=128)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()

    torch.manual_seed(args.seed)
    base = load_base(args.model, args.pooling, args.labels)
    model = get_peft_model(base, adapter_config(args.kind, args.pooling, args.targets, base)).eval()
    randomise(model)
    head = save(model, args.out, args.labels, base.config.hidden_size)
    logits = Logits(args.model, model, head, args.pooling)
    rows, moves = [], []
    for line in read_lines(args.texts):
        adapted = logits.of(line["text"], args.max_length)
        rows.append(json.dumps({"text": line["text"], "logits": adapted}, ensure_ascii=False))
        with model.disable_adapter():
            plain = logits.of(line["text"], args.max_length)
        moves.append(max(abs(here - there) for here, there in zip(adapted, plain, strict=True)))
    (args.out / "expected.jsonl").write_text("\n".join(rows) + "\n", encoding="utf-8")
    print(f"{len(rows)} texts; the adapter moves each one's logits by {min(moves):.3f} or more", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
