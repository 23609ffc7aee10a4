"""The work that both sides do: a frozen MiniLM-type encoder, LoRA on query and value, mean pooling, a linear head."""

import time
import warnings
from collections.abc import Callable
from pathlib import Path
from statistics import median

import torch
import transformers
from peft import LoraConfig, get_peft_model
from transformers import AutoConfig, AutoModel

transformers.utils.logging.set_verbosity_error()
transformers.utils.logging.disable_progress_bar()
warnings.filterwarnings("ignore", category=FutureWarning)

Batch = tuple[torch.Tensor, torch.Tensor, torch.Tensor]
"""Token ids and mask, `[examples, tokens]`, and labels, `[examples]`."""


class Classifier(torch.nn.Module):
    """Only the factors of LoRA and the head are trained."""

    def __init__(self, model_dir: Path, labels: int, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        # No dropout in the frozen model, as on our side: it is work that the other side does not do.
        config = AutoConfig.from_pretrained(model_dir, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
        encoder = AutoModel.from_pretrained(
            model_dir, config=config, dtype=torch.float32, attn_implementation="sdpa", add_pooling_layer=False
        )
        lora = LoraConfig(r=8, lora_alpha=16, lora_dropout=0.0, target_modules=["query", "value"])
        self.encoder = get_peft_model(encoder, lora)
        self.head = torch.nn.Linear(config.hidden_size, labels)

    def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        states = self.encoder(input_ids=ids, attention_mask=mask).last_hidden_state
        weights = mask.unsqueeze(-1).to(states.dtype)
        return self.head((states * weights).sum(dim=1) / weights.sum(dim=1))


class Trainer:
    """AdamW on whatever the model trains."""

    def __init__(self, model: Classifier, learning_rate: float = 1e-3) -> None:
        self.model = model.train()
        trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self.optimizer = torch.optim.AdamW(trained, lr=learning_rate)

    def step(self, batch: Batch) -> float:
        """One step; the loss before it."""
        ids, mask, labels = batch
        loss = torch.nn.functional.cross_entropy(self.model(ids, mask), labels)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return loss.item()


def timed(work: Callable[[], object]) -> tuple[float, float]:
    """Wall and CPU milliseconds of some work; the latter suffers less from other programs."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return 1e3 * (time.perf_counter() - wall), 1e3 * (time.process_time() - cpu)


def summary(times: list[tuple[float, float]]) -> dict[str, float]:
    """Median and least wall time, and median CPU time, of several runs."""
    wall, cpu = zip(*times, strict=True)
    values = {"median_ms": median(wall), "min_ms": min(wall), "cpu_median_ms": median(cpu)}
    return {name: round(value, 1) for name, value in values.items()}
