"""A Hugging Face encoder with a PEFT adapter and a linear head: logits, one text at a time."""

import json
import warnings
from pathlib import Path

import torch
import transformers
from peft import PeftModel, get_peft_model_state_dict
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModel, AutoModelForSequenceClassification, AutoTokenizer

# The libraries warn about each other and about the head, which a bare encoder does not have and which is applied here.
transformers.utils.logging.set_verbosity_error()
transformers.utils.logging.disable_progress_bar()
warnings.filterwarnings("ignore", category=FutureWarning)

WEIGHTS = "adapter_model.safetensors"
HEAD_WEIGHT = "base_model.model.classifier.weight"
HEAD_BIAS = "base_model.model.classifier.bias"
ROBERTA_BIAS = "base_model.model.classifier.out_proj.bias"


def load_base(model_dir: Path, pooling: str, labels: int) -> torch.nn.Module:
    """The base model in 32-bit floats; with `pooler`, the class that has its own classifier."""
    config = AutoConfig.from_pretrained(model_dir)
    if pooling == "pooler":
        config.num_labels = labels
        model = AutoModelForSequenceClassification.from_pretrained(model_dir, config=config, dtype=torch.float32)
    else:
        model = AutoModel.from_pretrained(model_dir, config=config, dtype=torch.float32)
    return model.eval()


def load_adapted(model_dir: Path, adapter_dir: Path, pooling: str) -> tuple[PeftModel, dict[str, torch.Tensor]]:
    """The base model with the adapter in it, and the tensors of the adapter's file."""
    tensors = load_file(adapter_dir / WEIGHTS)
    base = load_base(model_dir, pooling, labels=len(tensors.get(ROBERTA_BIAS, tensors.get(HEAD_BIAS))))
    model = PeftModel.from_pretrained(base, adapter_dir).eval()
    check_loaded(model, tensors)
    return model, tensors


def check_loaded(model: PeftModel, tensors: dict[str, torch.Tensor]) -> None:
    """`peft` skips tensors that it has no place for, so compare what it holds with what the file has."""
    held = get_peft_model_state_dict(model)
    for name, tensor in tensors.items():
        if name not in held and name in (HEAD_WEIGHT, HEAD_BIAS):
            continue
        if name not in held or not torch.equal(held[name].float(), tensor.float()):
            raise SystemExit(f"peft did not load {name}")
    missing = sorted(set(held) - set(tensors))
    if missing:
        raise SystemExit(f"peft expects {missing[0]}, which the adapter does not have")


def pool(states: torch.Tensor, mask: torch.Tensor, pooling: str) -> torch.Tensor:
    """One row of features for each text, from `[texts, tokens, width]`."""
    if pooling == "cls":
        return states[:, 0]
    weights = mask.unsqueeze(-1).to(states.dtype)
    return (states * weights).sum(dim=1) / weights.sum(dim=1)


class Logits:
    """Computes logits of texts."""

    def __init__(self, model_dir: Path, model: torch.nn.Module, head: dict[str, torch.Tensor], pooling: str) -> None:
        self.tokenizer = AutoTokenizer.from_pretrained(model_dir)
        self.model, self.head, self.pooling = model, head, pooling

    @torch.no_grad()
    def of(self, text: str, max_length: int) -> list[float]:
        tokens = self.tokenizer(text, truncation=True, max_length=max_length, return_tensors="pt")
        if self.pooling == "pooler":
            return self.model(**tokens).logits[0].tolist()
        states = self.model(**tokens).last_hidden_state
        features = pool(states, tokens["attention_mask"], self.pooling)
        return torch.nn.functional.linear(features, self.head[HEAD_WEIGHT], self.head[HEAD_BIAS])[0].tolist()


def read_lines(path: Path) -> list[dict]:
    """The objects of a file of JSON lines."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
