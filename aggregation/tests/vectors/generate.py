"""Golden vectors for the aggregation crate, by dense formulas.

Written for numpy 2.4.6; run `python generate.py` in this folder. Nothing here is shared with the Rust code: products
are formed densely, FedSVD and FlexLoRA are dense SVDs, the ridge is a stacked least-squares problem, the cosine is
minimised by long gradient descent on dense matrices, PiSSA is a dense SVD; medians are numpy's, the geometric median is
the fixed point of the unsmoothed iteration from the mean, Krum's distances are those of dense products. All widths
differ from each other and from the rank.
"""

import json
from pathlib import Path

import numpy as np

D_OUT, D_IN, RANK = 7, 5, 3
WEIGHTS = [3.0, 1.0, 2.0, 4.0]
FOLDER = Path(__file__).parent


def f32(array):
    """Values that f32 holds exactly, as f64."""
    return np.asarray(array, dtype=np.float32).astype(np.float64)


def fix_signs(a, b=None):
    """The entry of largest magnitude of each row of `a` becomes positive; columns of `b` follow."""
    largest = np.argmax(np.abs(a), axis=1)
    signs = np.where(a[np.arange(len(a)), largest] < 0, -1.0, 1.0)
    return a * signs[:, None], None if b is None else b * signs[None, :]


def inputs():
    rng = np.random.default_rng(20240229)
    previous = {"a": f32(rng.normal(size=(RANK, D_IN))), "b": f32(rng.normal(size=(D_OUT, RANK)))}
    clients = [
        {
            "weight": weight,
            "a": f32(previous["a"] + 0.4 * rng.normal(size=(RANK, D_IN))),
            "b": f32(previous["b"] + 0.6 * rng.normal(size=(D_OUT, RANK))),
        }
        for weight in WEIGHTS
    ]
    return previous, clients


def robust_inputs():
    """Seven clients, of which two have gone far away, in different ways."""
    rng = np.random.default_rng(20180305)
    previous = {"a": f32(rng.normal(size=(RANK, D_IN))), "b": f32(rng.normal(size=(D_OUT, RANK)))}
    clients = [
        {
            "weight": weight,
            "a": f32(previous["a"] + 0.3 * rng.normal(size=(RANK, D_IN))),
            "b": f32(previous["b"] + 0.2 * rng.normal(size=(D_OUT, RANK))),
        }
        for weight in [3.0, 1.0, 2.0, 50.0, 1.0, 4.0, 2.0]
    ]
    clients[1]["b"] = f32(-30 * clients[1]["b"])
    clients[3] = {"weight": 50.0, "a": f32(clients[3]["a"] / 9), "b": f32(clients[3]["b"] * 9)}
    return previous, clients


def coordinate_median(clients, key):
    return np.median([c[key] for c in clients], axis=0)


def trimmed_mean(clients, key, trimmed):
    ordered = np.sort([c[key] for c in clients], axis=0)
    return np.mean(ordered[trimmed : len(clients) - trimmed], axis=0)


def weiszfeld(clients, key, start, steps):
    points, point = np.array([c[key] for c in clients]), start
    for _ in range(steps):
        inverse = 1 / np.linalg.norm(points - point, axis=(1, 2))
        point = np.tensordot(inverse / inverse.sum(), points, axes=1)
    return point


def krum(clients, malicious, selected, scale, with_loss):
    """The clients with the lowest scores, lowest first."""

    def distance(x, y):
        products = np.sum((x["b"] @ x["a"] - y["b"] @ y["a"]) ** 2)
        loss = np.sum(((x["b"] - y["b"]) @ (x["a"] - y["a"])) ** 2)
        return scale**2 * (products + loss if with_loss else products)

    neighbours = len(clients) - malicious - 2
    distances = [[distance(x, y) for j, y in enumerate(clients) if j != i] for i, x in enumerate(clients)]
    scores = [sum(sorted(row)[:neighbours]) for row in distances]
    return np.argsort(scores, kind="stable")[:selected]


def means(clients):
    shares = np.array(WEIGHTS) / sum(WEIGHTS)
    mean_a = sum(p * c["a"] for p, c in zip(shares, clients))
    mean_b = sum(p * c["b"] for p, c in zip(shares, clients))
    ideal = sum(p * c["b"] @ c["a"] for p, c in zip(shares, clients))
    return mean_a, mean_b, ideal


def relative(found, ideal):
    return float(np.linalg.norm(found - ideal) / np.linalg.norm(ideal))


def fedsvd(previous, mean_b, root):
    u, s, vt = np.linalg.svd(mean_b @ previous["a"], full_matrices=False)
    a, b = fix_signs(vt[:RANK], u[:, :RANK] * s[:RANK])
    if root:
        a, b = a * np.sqrt(s[:RANK])[:, None], b / np.sqrt(s[:RANK])[None, :]
    return a, b


def flexlora(ideal):
    u, s, vt = np.linalg.svd(ideal, full_matrices=False)
    return fix_signs(vt[:RANK], u[:, :RANK] * s[:RANK])


def ridge(mean_a, mean_b, ideal, lam):
    mu = lam * np.trace(mean_a @ mean_a.T) / RANK
    system = np.vstack([mean_a.T, np.sqrt(mu) * np.eye(RANK)])
    right = np.vstack([(ideal - mean_b @ mean_a).T, np.zeros((RANK, D_OUT))])
    return mean_b + np.linalg.lstsq(system, right, rcond=None)[0].T


def cosine(mean_a, mean_b, ideal, lam):
    delta = np.zeros_like(mean_b)
    for _ in range(400_000):
        product = (mean_b + delta) @ mean_a
        length, ideal_length = np.linalg.norm(product), np.linalg.norm(ideal)
        cos = np.sum(product * ideal) / (length * ideal_length)
        slope = -(ideal / (length * ideal_length) - cos * product / length**2) @ mean_a.T + 2 * lam * delta
        delta -= 0.5 * slope
    return mean_b + delta


def write(name, method, parameters, previous, clients, a, b, residual=None):
    case = {
        "method": method,
        "parameters": parameters,
        "previous": {key: value.tolist() for key, value in previous.items()},
        "clients": [{"weight": c["weight"], "a": c["a"].tolist(), "b": c["b"].tolist()} for c in clients],
        "expected": {"a": a.tolist(), "b": b.tolist(), "residual": residual},
    }
    (FOLDER / f"{name}.json").write_text(json.dumps(case, indent=1) + "\n")


def robust():
    previous, clients = robust_inputs()

    def write_both(name, method, parameters, of):
        write(name, method, parameters, previous, clients, of("a"), of("b"))

    write_both("coordinate-median", "coordinate-median", "", lambda key: coordinate_median(clients, key))
    write_both("trimmed-mean", "trimmed-mean", "", lambda key: trimmed_mean(clients, key, 1))
    write_both("trimmed-mean-0.3", "trimmed-mean", "beta = 0.3", lambda key: trimmed_mean(clients, key, 2))
    write_both(
        "geometric-median",
        "geometric-median",
        "",
        lambda key: weiszfeld(clients, key, coordinate_median(clients, key), 4),
    )
    write_both(
        "geometric-median-converged",
        "geometric-median",
        "iterations = 500",
        lambda key: weiszfeld(clients, key, np.mean([c[key] for c in clients], axis=0), 10_000),
    )
    # The scale is alpha / r, with an alpha of 1.
    for name, parameters, arguments in [
        ("krum", "num-malicious-nodes = 2", (2, 1, 1 / RANK, False)),
        ("multi-krum", "num-malicious-nodes = 2", (2, 5, 1 / RANK, True)),
        ("multi-krum-3", "num-malicious-nodes = 2\nnum-nodes-to-select = 3", (2, 3, 1 / RANK, True)),
    ]:
        chosen = krum(clients, *arguments)
        method = name.removesuffix("-3")
        write_both(name, method, parameters, lambda key: np.mean([clients[k][key] for k in chosen], axis=0))


def main():
    previous, clients = inputs()
    mean_a, mean_b, ideal = means(clients)
    common = (previous, clients)
    write("fedavg", "fedavg", "", *common, mean_a, mean_b, relative(mean_b @ mean_a, ideal))
    write("ffa-lora", "ffa-lora", "", *common, previous["a"], mean_b)
    write("fedsa-lora", "fedsa-lora", "", *common, mean_a, previous["b"])
    write("fedsvd", "fedsvd", "", *common, *fedsvd(previous, mean_b, root=False))
    write("fedsvd-sqrt", "fedsvd", 'split = "sqrt"', *common, *fedsvd(previous, mean_b, root=True))
    a, b = flexlora(ideal)
    write("flexlora", "flexlora", "", *common, a, b, relative(b @ a, ideal))
    write("rolora", "rolora", "", *common, previous["a"], mean_b)
    for lam in (0.0, 0.01, 1.0):
        b = ridge(mean_a, mean_b, ideal, lam)
        write(f"lora-fair-ridge-{lam}", "lora-fair", f"lambda = {lam}", *common, mean_a, b, relative(b @ mean_a, ideal))
    b = cosine(mean_a, mean_b, ideal, 0.01)
    parameters = 'mode = "cosine"\nlambda = 0.01'
    write("lora-fair-cosine", "lora-fair", parameters, *common, mean_a, b, relative(b @ mean_a, ideal))
    robust()
    weight = f32(np.random.default_rng(7).normal(size=(9, 6)))
    _, s, vt = np.linalg.svd(weight)
    a, _ = fix_signs(vt[:2])
    case = {"weight": weight.tolist(), "a": (a * np.sqrt(s[:2])[:, None]).tolist()}
    (FOLDER / "pissa.json").write_text(json.dumps(case, indent=1) + "\n")


if __name__ == "__main__":
    main()
