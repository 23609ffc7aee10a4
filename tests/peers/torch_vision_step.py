"""Times one LoRA training step (forward, backward, AdamW) of a timm model on images. Prints one JSON object."""

import argparse
import json
from pathlib import Path

import timm
import torch
from lora_model import summary, timed
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file


def load(model_dir: Path) -> torch.nn.Module:
    """A directory of make_models.py, or of timm from the Hugging Face Hub, with a new head of two labels."""
    config = json.loads((model_dir / "config.json").read_text())
    model = timm.create_model(config["architecture"], num_classes=2, **config.get("model_args", {}))
    weights = {name: t for name, t in load_file(model_dir / "model.safetensors").items() if not name.startswith("head.")}
    missing, unexpected = model.load_state_dict(weights, strict=False)
    assert set(missing) == {"head.weight", "head.bias"} and not unexpected, (missing, unexpected)
    # Queries, keys and values together, or all linear layers of a mixer: as the bench of the other side.
    targets = ["qkv"] if any(name.endswith(".qkv") for name, _ in model.named_modules()) else ["fc1", "fc2"]
    lora = LoraConfig(r=8, lora_alpha=16, lora_dropout=0.0, target_modules=targets, modules_to_save=["head"])
    return get_peft_model(model, lora).train()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path, help="timm model in a folder: config.json and model.safetensors")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--warmup", type=int, default=3)
    parser.add_argument("--steps", type=int, default=15)
    args = parser.parse_args()

    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    model = load(args.model)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-3)
    images = torch.rand(args.batch, *model.base_model.model.default_cfg["input_size"]) - 0.5
    labels = torch.arange(args.batch) % 2

    def step() -> float:
        loss = torch.nn.functional.cross_entropy(model(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.item()

    losses = []
    times = [timed(lambda: losses.append(step())) for _ in range(args.warmup + args.steps)]
    shape = {"threads": args.threads, "batch": args.batch, "steps": args.steps}
    ends = {"first_loss": losses[0], "last_loss": losses[-1]}
    print(json.dumps({"torch": torch.__version__, "timm": timm.__version__, **shape, **summary(times[args.warmup :]), **ends}))


if __name__ == "__main__":
    main()
