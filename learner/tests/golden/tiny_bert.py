"""Writes tiny_bert/: a BERT of two layers with its tokenizer, and what transformers and peft compute with it.

    pip install torch==2.15.0 transformers==5.24.0 peft==0.21.2 tokenizers==0.23.3 safetensors==0.8.0
    python tiny_bert.py

The weights are random and mean nothing. They lie in three shards, one each in F16, BF16 and F32; the reference is
computed in F32 from the rounded values. Adapter factors follow a formula, so that no random generator is shared.
"""

import json
import pathlib

import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import BertConfig, BertModel

OUT = pathlib.Path(__file__).parent / "tiny_bert"
WORDS = "the cat sat on mat a dog ran far away good bad film very not ##s ##ing ##ed ! ? . , é".split()
VOCAB = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *WORDS]
TEXTS = ["The cat sat on the mat.", "a very good film!", "dogs ran", "not Good, not bad?", "zebra É"]
PAIRS = [["the cat", "a dog ran far away"], ["good film", "bad"]]
LABELS = [0, 1, 1, 0, 1]


def tokenizer():
    made = Tokenizer(models.WordPiece({word: index for index, word in enumerate(VOCAB)}, unk_token="[UNK]"))
    made.normalizer = normalizers.BertNormalizer(strip_accents=False)
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    made.enable_padding(pad_id=0)
    made.enable_truncation(6)  # readers must not take this from the file
    made.save(str(OUT / "tokenizer.json"))
    made.no_padding()
    made.no_truncation()
    return made


def model():
    torch.manual_seed(11)
    config = BertConfig(
        vocab_size=len(VOCAB), hidden_size=24, num_hidden_layers=2, num_attention_heads=3, intermediate_size=40,
        max_position_embeddings=16, initializer_range=0.3, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
    )
    made = BertModel(config).eval()
    for name, tensor in made.state_dict().items():
        if "LayerNorm" in name or name.endswith("bias"):
            tensor += 0.1 * torch.randn_like(tensor)
    files = {"embeddings": torch.float16, "encoder.layer.0": torch.bfloat16, "": torch.float32}
    shards, places = [{}, {}, {}], {}
    for name, tensor in made.state_dict().items():
        place = next(index for index, start in enumerate(files) if name.startswith(start))
        rounded = tensor.to(list(files.values())[place])
        shards[place][name] = rounded.clone().contiguous()
        places[name] = f"model-{place + 1:05}-of-00003.safetensors"
        tensor.copy_(rounded.float())
    for index, shard in enumerate(shards):
        save_file(shard, OUT / f"model-{index + 1:05}-of-00003.safetensors", {"format": "pt"})
    (OUT / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}, indent=1, sort_keys=True))
    kept = {key: value for key, value in config.to_dict().items() if key in (
        "vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size",
        "max_position_embeddings", "type_vocab_size", "layer_norm_eps", "hidden_act", "model_type")}
    (OUT / "config.json").write_text(json.dumps(kept, indent=1, sort_keys=True) + "\n")
    return made


def batch(encodings):
    width = max(len(e.ids) for e in encodings)
    pad = lambda values: torch.tensor([v + [0] * (width - len(v)) for v in values])
    return dict(
        input_ids=pad([e.ids for e in encodings]), token_type_ids=pad([e.type_ids for e in encodings]),
        attention_mask=pad([[1] * len(e.ids) for e in encodings]),
    )


def features(bert, inputs):
    out = bert(**inputs)
    mask = inputs["attention_mask"].unsqueeze(-1)
    mean = (out.last_hidden_state * mask).sum(1) / mask.sum(1)
    return {"mean": mean, "cls": out.last_hidden_state[:, 0], "pooler": out.pooler_output}


def wave(shape, step, shift):
    k = torch.arange(shape.numel(), dtype=torch.float64).reshape(shape)
    return (0.3 * torch.sin(step * k + shift)).float()


def lora(bert, use_rslora):
    wrapped = get_peft_model(
        bert, LoraConfig(r=2, lora_alpha=6, target_modules=["query", "value"], use_rslora=use_rslora)
    )
    factors = {name: p for name, p in wrapped.named_parameters() if p.requires_grad}
    for index, (name, p) in enumerate(sorted(factors.items())):
        p.data.copy_(wave(p.shape, 0.37 + 0.05 * index, index))
    return wrapped, factors


def numbers(tensor):
    return [float(f"{x:.8g}") for x in tensor.detach().double().flatten().tolist()]


def training(bert, inputs, use_rslora, steps):
    wrapped, factors = lora(bert, use_rslora)
    weight = wave(torch.Size([2, 24]), 0.21, 0.4).requires_grad_()
    bias = torch.tensor([0.1, -0.1], requires_grad=True)
    optimizer = torch.optim.AdamW([*factors.values(), weight, bias], lr=0.01, weight_decay=0.1)
    record = {"use_rslora": use_rslora, "losses": []}
    for step in range(steps):
        logits = features(wrapped, inputs)["mean"] @ weight.T + bias
        loss = torch.nn.functional.cross_entropy(logits, torch.tensor(LABELS))
        optimizer.zero_grad()
        loss.backward()
        if step == 0:
            record["logits"] = numbers(logits)
            grads = {name: numbers(p.grad) for name, p in factors.items()}
            record["gradients"] = grads | {
                "base_model.model.classifier.weight": numbers(weight.grad),
                "base_model.model.classifier.bias": numbers(bias.grad),
            }
        optimizer.step()
        record["losses"].append(float(f"{loss.item():.8g}"))
    record["trained"] = {name: numbers(p) for name, p in factors.items()} | {
        "base_model.model.classifier.weight": numbers(weight), "base_model.model.classifier.bias": numbers(bias)}
    return rename(record)


def rename(record):
    """PEFT's names in memory carry the adapter's own name; those in files do not."""
    plain = lambda tensors: {name.replace(".default.", "."): values for name, values in tensors.items()}
    return record | {key: plain(record[key]) for key in ("gradients", "trained")}


def main():
    OUT.mkdir(exist_ok=True)
    made, bert = tokenizer(), model()
    single, pairs = made.encode_batch(TEXTS), made.encode_batch([tuple(pair) for pair in PAIRS])
    with torch.no_grad():
        shapes = {name: numbers(value) for name, value in features(bert, batch(single)).items()}
        paired = {name: numbers(value) for name, value in features(bert, batch(pairs)).items()}
    made.enable_truncation(5)
    reference = {
        "texts": TEXTS, "labels": LABELS, "ids": [e.ids for e in single], "features": shapes,
        "pairs": PAIRS, "pair_ids": [e.ids for e in pairs], "pair_segments": [e.type_ids for e in pairs],
        "pair_features": paired, "ids_of_5": [e.ids for e in made.encode_batch(TEXTS)],
        "training": [training(model(), batch(single), use_rslora, 6) for use_rslora in (False, True)],
    }
    (OUT / "reference.json").write_text(json.dumps(reference, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
