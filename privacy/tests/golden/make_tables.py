"""Writes the tables that the accountants are checked against. The tests read the tables, not this.

    python -m venv venv && venv/bin/pip install -r requirements.txt   (opacus with --no-deps)
    venv/bin/python make_tables.py [table ...]

`rdp_divergence` and `gaussian` come from their definitions in mpmath at 50 digits, so they are the truth. `rdp_epsilon` and
the RDP rows of `calibration` come from Opacus, at its own orders. Everything by privacy loss distributions comes from
dp_accounting at its default interval, 1e-4. `audit_p_value` and `audit_bound` follow arXiv 2305.08846, theorem 5.2, with the
binomial distribution and the root finder of SciPy.
"""

import csv
import importlib.util
import itertools
import pathlib
import sys
import warnings

import dp_accounting
import mpmath
import numpy
import scipy.optimize
import scipy.stats
from dp_accounting import pld

HERE = pathlib.Path(__file__).parent
warnings.filterwarnings("ignore", message="Optimal order")


def opacus_rdp():
    """Opacus' module for RDP alone: the package itself imports PyTorch."""
    root = importlib.util.find_spec("opacus").submodule_search_locations[0]
    path = pathlib.Path(root) / "accountants" / "analysis" / "rdp.py"
    spec = importlib.util.spec_from_file_location("opacus_rdp", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


OPACUS = opacus_rdp()
OPACUS_ORDERS = [1 + x / 10.0 for x in range(1, 100)] + list(range(12, 64))


def write(name, header, rows):
    with open(HERE / f"{name}.csv", "w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)


def divergence(sigma, q, order):
    """ln E[((1-q) + q exp((2z-1)/(2 sigma^2)))^order] / (order-1) over z ~ N(0, sigma^2)."""
    mpmath.mp.dps = 50
    sigma, q, order = mpmath.mpf(sigma), mpmath.mpf(q), mpmath.mpf(order)
    if q == 1:
        return order / (2 * sigma**2)
    if order == int(order):
        n = int(order)
        moment = sum(
            mpmath.binomial(n, k) * (1 - q) ** (n - k) * q**k * mpmath.exp(k * (k - 1) / (2 * sigma**2))
            for k in range(n + 1)
        )
    else:
        # The trapezoidal rule: see the accountant. A step of min(sigma, 1)/8 leaves an error below 1e-60 here.
        step = min(sigma, mpmath.mpf(1)) / 8
        first = int(-18 / step)
        last = int((max(order, 2) / sigma + 18) / step)
        moment = step * sum(
            mpmath.npdf(k * step) * (1 - q + q * mpmath.exp((2 * k * step * sigma - 1) / (2 * sigma**2))) ** order
            for k in range(first, last + 1)
        )
    return mpmath.log(moment) / (order - 1)


def rdp_divergence():
    sigmas = [0.3, 0.5, 0.8, 1, 2, 4, 10, 100]
    rates = [1e-4, 1e-3, 0.01, 0.1, 0.5, 0.99, 1]
    orders = [1.1, 1.5, 2, 2.5, 3, 5.3, 8, 10.9, 32, 63, 256, 4096]
    rows = (
        (s, q, a, mpmath.nstr(divergence(s, q, a), 17, min_fixed=0, max_fixed=0))
        for s, q, a in itertools.product(sigmas, rates, orders)
        if a < 4096 or q in (1e-4, 0.01, 0.5)
    )
    write("rdp_divergence", ("sigma", "q", "order", "divergence"), rows)


def opacus_epsilon(sigma, q, steps, delta):
    rdp = OPACUS.compute_rdp(q=q, noise_multiplier=sigma, steps=steps, orders=OPACUS_ORDERS)
    return float(max(0.0, OPACUS.get_privacy_spent(orders=OPACUS_ORDERS, rdp=rdp, delta=delta)[0]))


def rdp_epsilon():
    rows = (
        (s, q, t, d, repr(opacus_epsilon(s, q, t, d)))
        for s, q, t, d in itertools.product(
            [0.4, 0.6, 0.8, 1, 1.5, 2, 4, 10],
            [1e-4, 1e-3, 0.01, 0.1, 0.5, 1],
            [1, 100, 10000],
            [1e-3, 1e-5, 1e-8],
        )
    )
    write("rdp_epsilon", ("sigma", "q", "steps", "delta", "epsilon"), rows)


def gaussian_epsilon(mu, delta):
    """Balle and Wang, arXiv 1805.06530, theorem 8: delta = Phi(mu/2 - e/mu) - exp(e) Phi(-mu/2 - e/mu), solved for e."""
    mpmath.mp.dps = 50
    mu, delta = mpmath.mpf(mu), mpmath.mpf(delta)

    def excess(e):
        return mpmath.ncdf(mu / 2 - e / mu) - mpmath.exp(e) * mpmath.ncdf(-mu / 2 - e / mu) - delta

    if excess(mpmath.mpf(0)) <= 0:
        return mpmath.mpf(0)
    low, high = mpmath.mpf(0), mpmath.mpf(1)
    while excess(high) > 0:
        high *= 2
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if excess(middle) > 0 else (low, middle)
    return high


def gaussian():
    rows = (
        (s, t, d, mpmath.nstr(gaussian_epsilon(mpmath.sqrt(t) / mpmath.mpf(s), d), 17, min_fixed=0, max_fixed=0))
        for s, t, d in itertools.product(
            [0.3, 0.5, 1, 2, 4, 10, 100, 10000], [1, 10, 1000, 100000], [1e-2, 1e-5, 1e-10]
        )
    )
    write("gaussian", ("sigma", "steps", "delta", "epsilon"), rows)


def pld_accountant(history):
    accountant = pld.PLDAccountant()
    for sigma, q, steps in history:
        event = dp_accounting.PoissonSampledDpEvent(q, dp_accounting.GaussianDpEvent(sigma))
        accountant.compose(event, steps)
    return accountant


def pld_rows(histories, deltas):
    for history in histories:
        accountant = pld_accountant(history)
        name = " ".join(f"{s}:{q}:{t}" for s, q, t in history)
        for delta in deltas:
            yield name, delta, repr(float(accountant.get_epsilon(delta)))


HISTORY = ("history", "delta", "epsilon")


def pld_epsilon():
    histories = [
        [(s, q, t)]
        for s, q, t in itertools.product(
            [0.6, 1, 2, 4], [1e-4, 1e-3, 0.01, 0.1, 0.5], [1, 30, 1000, 10000]
        )
        # Where epsilon is in the hundreds the reference takes minutes.
        if q * t**0.5 / s < 30
    ]
    write("pld_epsilon", HISTORY, pld_rows(histories, [1e-3, 1e-5, 1e-8]))


def pld_heterogeneous():
    histories = [
        [(1, 0.01, 1000), (2, 0.01, 1000)],
        [(0.7, 0.001, 500), (1.5, 0.05, 200)],
        [(0.6, 0.001, 1), (4, 0.5, 100)],
        [(1, 0.01, 100), (1, 0.02, 100), (1, 0.03, 100), (1, 0.04, 100)],
        [(5, 1, 10), (1, 0.01, 1000)],
        [(8, 1, 1), (8, 0.1, 1), (0.9, 0.0001, 10000)],
        [(0.5 + 0.1 * k, 0.002 * k, 50) for k in range(1, 11)],
        [(2 - 0.05 * k, 0.01, 10) for k in range(20)],
    ]
    write("pld_heterogeneous", HISTORY, pld_rows(histories, [1e-3, 1e-5, 1e-8]))


def bisect(epsilon_at, target, low, high, tolerance):
    while high - low > tolerance:
        middle = (low + high) / 2
        low, high = (low, middle) if epsilon_at(middle) <= target else (middle, high)
    return high


def most_steps(epsilon_at, target):
    within, beyond = 0, 1
    while epsilon_at(beyond) <= target:
        within, beyond = beyond, beyond * 2
    while beyond - within > 1:
        middle = (within + beyond) // 2
        within, beyond = (middle, beyond) if epsilon_at(middle) <= target else (within, middle)
    return within


CALIBRATION = ("target", "delta", "q", "steps", "sigma")


def rdp_calibration():
    rows = []
    for e, q, t, d in itertools.product([0.5, 1, 2, 8], [0.001, 0.01, 0.2, 1], [1, 100, 5000], [1e-5, 1e-6]):
        sigma = bisect(lambda s: opacus_epsilon(s, q, t, d), e, 0.2, 4096, 1e-11)
        rows.append((e, d, q, t, repr(sigma)))
    write("rdp_calibration", CALIBRATION, rows)


def rdp_steps():
    rows = []
    for e, q, s, d in itertools.product([0.5, 1, 2, 8], [0.001, 0.01, 0.2], [0.7, 1, 2], [1e-5]):
        rows.append((e, d, q, most_steps(lambda t: opacus_epsilon(s, q, t, d), e), s))
    write("rdp_steps", CALIBRATION, rows)


def pld_calibration():
    rows = []
    for e, q, t, d in itertools.product([1, 4], [0.001, 0.01, 0.1], [500], [1e-5]):
        sigma = bisect(lambda s: pld_accountant([(s, q, t)]).get_epsilon(d), e, 0.4, 12, 1e-4)
        rows.append((e, d, q, t, repr(sigma)))
    write("pld_calibration", CALIBRATION, rows)


def audit_p(canaries, guesses, correct, epsilon, delta):
    """P[W >= v] + 2 m delta max_i P[v > W >= v - i] / i for W ~ Binomial(r, e^epsilon / (1 + e^epsilon))."""
    heads = scipy.stats.binom(guesses, 1 / (1 + numpy.exp(-epsilon)))
    i = numpy.arange(1, correct + 1)
    between = heads.cdf(correct - 1) - numpy.where(i < correct, heads.cdf(correct - 1 - i), 0)
    steepest = (between / i).max(initial=0)
    return min(1.0, heads.sf(correct - 1) + 2 * canaries * delta * steepest)


AUDITS = [
    (1000, 100, 75),
    (1000, 200, 141),
    (1000, 200, 160),
    (1000, 200, 199),
    (1000, 1000, 600),
    (1000, 1000, 990),
    (1000, 10, 10),
    (1000, 40, 22),
    (50, 50, 40),
    (5000, 3000, 2400),
    (100000, 1500, 1450),
]


def audit_p_value():
    rows = (
        (*audit, e, d, repr(float(audit_p(*audit, e, d))))
        for audit, e, d in itertools.product(AUDITS, [0, 0.3, 1, 2, 4], [0, 1e-6, 1e-4])
    )
    write("audit_p_value", ("canaries", "guesses", "correct", "epsilon", "delta", "p_value"), rows)


def audit_bound():
    rows = []
    for audit, d, confidence in itertools.product(AUDITS, [0, 1e-6, 1e-5, 1e-4], [0.95, 0.99]):
        excess = lambda e: audit_p(*audit, e, d) - (1 - confidence)
        bound = 0.0 if excess(0) >= 0 else scipy.optimize.brentq(excess, 0, 30, xtol=1e-12)
        rows.append((*audit, d, confidence, repr(float(bound))))
    write("audit_bound", ("canaries", "guesses", "correct", "delta", "confidence", "epsilon"), rows)


TABLES = [
    rdp_divergence,
    rdp_epsilon,
    rdp_calibration,
    rdp_steps,
    gaussian,
    pld_epsilon,
    pld_heterogeneous,
    pld_calibration,
    audit_p_value,
    audit_bound,
]

if __name__ == "__main__":
    names = sys.argv[1:] or [table.__name__ for table in TABLES]
    for table in TABLES:
        if table.__name__ in names:
            table()
            print(table.__name__, flush=True)
