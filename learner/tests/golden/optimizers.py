"""Golden values for the optimisers: five steps of PyTorch's SGD and AdamW at changing learning rates.

Run: python optimizers.py > optimizers.json   (made with PyTorch 2; any version of it gives the same updates)
"""

import json
import random

import torch

random.seed(20260101)
RATES = [0.1, 0.05, 0.025, 0.0125, 0.2]
SIZE = 6


def numbers(scale):
    return [torch.tensor(random.uniform(-scale, scale), dtype=torch.float32).item() for _ in range(SIZE)]


def trajectory(config, build):
    start = numbers(1.0)
    parameter = torch.nn.Parameter(torch.tensor(start))
    optimizer = build(parameter)
    gradients, parameters = [], []
    for rate in RATES:
        for group in optimizer.param_groups:
            group["lr"] = rate
        gradients.append(numbers(0.5))
        parameter.grad = torch.tensor(gradients[-1])
        optimizer.step()
        parameters.append(parameter.detach().tolist())
    return {"optimizer": config, "rates": RATES, "start": start, "gradients": gradients, "parameters": parameters}


def sgd(momentum, weight_decay):
    config = {"kind": "sgd", "momentum": momentum, "weight_decay": weight_decay}
    return trajectory(config, lambda p: torch.optim.SGD([p], lr=0.1, momentum=momentum, weight_decay=weight_decay))


def adamw(beta_1, beta_2, epsilon, weight_decay):
    config = {"kind": "adamw", "beta_1": beta_1, "beta_2": beta_2, "epsilon": epsilon, "weight_decay": weight_decay}
    build = lambda p: torch.optim.AdamW([p], lr=0.1, betas=(beta_1, beta_2), eps=epsilon, weight_decay=weight_decay)
    return trajectory(config, build)


cases = [sgd(0.0, 0.0), sgd(0.9, 0.0), sgd(0.9, 0.1), adamw(0.9, 0.999, 1e-8, 0.0), adamw(0.8, 0.95, 1e-6, 0.1)]
print(json.dumps(cases))
