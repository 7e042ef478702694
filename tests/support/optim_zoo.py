"""Every optimizer with the options that its tests try, and its formula from the paper in a few lines of NumPy.

A formula is `f(p, g, s, t, o)`: the new p, from the parameter, its gradient, a dict that keeps what it likes from step
to step, the step counted from 1, and the options. Weight decay and `maximize` are the same for all and stand in
`by_formula`. Nothing here knows how the optimizers do it.
"""

import itertools

import numpy as np
import pytest

BOTH = [False, True]
AROUND = {"weight_decay": [0, 0.1], "maximize": BOTH}


def root(v, o):
    return np.sqrt(v + o["eps"]) if o.get("eps_inside_sqrt") else np.sqrt(v) + o["eps"]


def sgd(p, g, s, t, o):  # Sutskever et al. 2013, equations 1 to 4, with the rate inside or outside of the velocity
    lr, mu = o["lr"], o["momentum"]
    inner, outer = (lr, 1) if o["lr_in_velocity"] else (1, lr)
    v = s["v"] = mu * s["v"] + inner * (1 - o["dampening"]) * g if "v" in s else inner * g
    return p - outer * (inner * g + mu * v if o["nesterov"] else v)


def heavy_ball(p, g, s, t, o):  # Polyak 1964
    before = s.get("before", p)
    s["before"] = p
    return p + o["momentum"] * (p - before) - o["lr"] * g


def accelerated(momentum):
    def formula(x, g, s, t, o):  # Su, Boyd & Candes 2016, equation 1, with y_0 = x_0
        y_before = s.get("y", x)
        y = s["y"] = x - o["lr"] * g
        return y + momentum(t - 1, o) * (y - y_before)

    return formula


def strongly_convex(k, o):  # Shi et al. 2022, equation 1.3
    r = np.sqrt(o["strong_convexity"] * o["lr"])
    return (1 - r) / (1 + r)


def adagrad(p, g, s, t, o):  # Duchi et al. 2011, with the diagonal
    s["sum"] = s.get("sum", o["initial_accumulator_value"]) + g * g
    return p - o["lr"] / (1 + (t - 1) * o["lr_decay"]) * g / root(s["sum"], o)


def adadelta(p, g, s, t, o):  # Zeiler 2012, algorithm 1
    rho, eps = o["rho"], o["eps"]
    s["g2"] = rho * s.get("g2", 0) + (1 - rho) * g**2
    step = -np.sqrt(s.get("x2", 0) + eps) / np.sqrt(s["g2"] + eps) * g
    s["x2"] = rho * s.get("x2", 0) + (1 - rho) * step**2
    return p + o["lr"] * step


def rmsprop(p, g, s, t, o):  # Tieleman & Hinton 2012; centred, Graves 2013, equations 38 to 41
    alpha, mu, lr = o["alpha"], o["momentum"], o["lr"]
    s["n"] = alpha * s.get("n", 0) + (1 - alpha) * g**2
    s["g"] = alpha * s.get("g", 0) + (1 - alpha) * g
    r = g / root(s["n"] - s["g"] ** 2 if o["centered"] else s["n"], o)
    inner, outer = (lr, 1) if o["lr_in_velocity"] else (1, lr)
    b = s["b"] = mu * s.get("b", 0) + inner * r
    return p - outer * (inner * r + mu * b if o["nesterov"] else b)


def moments(g, s, o):
    beta1, beta2 = o["betas"]
    m = s["m"] = beta1 * s.get("m", 0) + (1 - beta1) * g
    v = s["v"] = beta2 * s.get("v", 0) + (1 - beta2) * g**2
    return m, v


def adam(p, g, s, t, o):  # Kingma & Ba 2015, algorithm 1
    m, v = moments(g, s, o)
    if o["amsgrad"]:
        v = s["highest"] = np.maximum(s.get("highest", 0), v)
    if o["bias_correction"]:
        m, v = (moment / (1 - beta**t) for moment, beta in zip((m, v), o["betas"], strict=True))
    return p - o["lr"] * m / root(v, o)


def adamax(p, g, s, t, o):  # Kingma & Ba 2015, algorithm 2; |g| + eps as in PyTorch
    beta1, beta2 = o["betas"]
    m, _ = moments(g, s, o)
    u = s["u"] = np.maximum(beta2 * s.get("u", 0), np.abs(g) + o["eps"])
    return p - o["lr"] / (1 - beta1**t) * m / u


def nadam(p, g, s, t, o):  # Dozat 2016, algorithm 2
    m, v = moments(g, s, o)
    mus = [o["betas"][0] * (1 - 0.5 * 0.96 ** (i * o["momentum_decay"])) for i in range(1, t + 2)]
    m_hat = mus[t] * m / (1 - np.prod(mus)) + (1 - mus[t - 1]) * g / (1 - np.prod(mus[:t]))
    return p - o["lr"] * m_hat / (np.sqrt(v / (1 - o["betas"][1] ** t)) + o["eps"])


def radam(p, g, s, t, o):  # Liu et al. 2020, algorithm 2; threshold and epsilon as in PyTorch
    beta1, beta2 = o["betas"]
    m, v = moments(g, s, o)
    m_hat = m / (1 - beta1**t)
    most = 2 / (1 - beta2) - 1
    rho = most - 2 * t * beta2**t / (1 - beta2**t)
    if rho <= 5:
        return p - o["lr"] * m_hat
    r = np.sqrt((rho - 4) * (rho - 2) * most / ((most - 4) * (most - 2) * rho))
    return p - o["lr"] * r * m_hat * np.sqrt(1 - beta2**t) / (np.sqrt(v) + o["eps"])


def lion(p, g, s, t, o):  # Chen et al. 2023, algorithm 2
    beta1, beta2 = o["betas"]
    m = s.get("m", np.zeros_like(g))
    s["m"] = beta2 * m + (1 - beta2) * g
    return p - o["lr"] * np.sign(beta1 * m + (1 - beta1) * g)


def muon(p, g, s, t, o):  # Jordan et al. 2024, on the singular values themselves
    mu, (x, x3, x5) = o["momentum"], o["ns_coefficients"]
    b = s["b"] = mu * s.get("b", 0) + (1 - mu) * g
    u, values, vh = np.linalg.svd(mu * b + (1 - mu) * g if o["nesterov"] else b, full_matrices=False)
    values = values / np.sqrt((values**2).sum())
    for _ in range(o["ns_steps"]):
        values = np.polyval([x5, 0, x3, 0, x, 0], values)
    rows, columns = g.shape
    like_adamw = o["adjust_lr_fn"] == "match_rms_adamw"
    scale = 0.2 * np.sqrt(max(rows, columns)) if like_adamw else np.sqrt(max(1, rows / columns))
    return p - o["lr"] * scale * (u * values) @ vh


ADAM = {"betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0, "amsgrad": False, "maximize": False}
ADAM |= {"decoupled_weight_decay": False, "bias_correction": True, "eps_inside_sqrt": False}
# None that forgets within 10 steps: where the network saturates, Adamax with betas (0.5, 0.9) amplifies what is rounded
# differently; PyTorch's own runs from starts that differ in the last bit are 3e-4 apart after 200 steps.
BETAS = [(0.9, 0.999), (0.8, 0.99)]

# name: (formula, defaults as documented, options tried)
ZOO = {
    "SGD": (
        sgd,
        {"lr": 1e-3, "momentum": 0, "dampening": 0, "weight_decay": 0, "nesterov": False, "maximize": False}
        | {"lr_in_velocity": False},
        {"momentum": [0.9], "nesterov": BOTH, "lr_in_velocity": BOTH, **AROUND},
    ),
    "HeavyBall": (
        heavy_ball,
        {"lr": 1e-3, "momentum": 0.9, "weight_decay": 0, "maximize": False},
        {"momentum": [0, 0.8], **AROUND},
    ),
    "Nesterov": (
        accelerated(lambda k, o: o["momentum"]),
        {"lr": 1e-3, "momentum": 0.9, "weight_decay": 0, "maximize": False, "look_ahead": False},
        {"momentum": [0, 0.8], **AROUND},
    ),
    "NAGC": (
        accelerated(lambda k, o: k / (k + 3)),
        {"lr": 1e-3, "weight_decay": 0, "maximize": False, "look_ahead": False},
        AROUND,
    ),
    "NAGSC": (
        accelerated(strongly_convex),
        {"lr": 1e-3, "strong_convexity": 1.0, "weight_decay": 0, "maximize": False, "look_ahead": False},
        {"strong_convexity": [1.0, 3.0], **AROUND},
    ),
    "Adagrad": (
        adagrad,
        {"lr": 1e-2, "lr_decay": 0, "weight_decay": 0, "initial_accumulator_value": 0, "eps": 1e-10, "maximize": False}
        | {"eps_inside_sqrt": False},
        {"lr_decay": [0, 0.1], "initial_accumulator_value": [0, 0.5], "eps_inside_sqrt": BOTH, **AROUND},
    ),
    "Adadelta": (
        adadelta,
        {"lr": 1.0, "rho": 0.9, "eps": 1e-6, "weight_decay": 0, "maximize": False},
        {"rho": [0.9, 0.95], **AROUND},
    ),
    "RMSprop": (
        rmsprop,
        {"lr": 1e-2, "alpha": 0.99, "eps": 1e-8, "weight_decay": 0, "momentum": 0, "centered": False}
        | {"maximize": False, "nesterov": False, "eps_inside_sqrt": False, "lr_in_velocity": False},
        {"momentum": [0, 0.9], "centered": BOTH, "nesterov": BOTH, "eps_inside_sqrt": BOTH, "lr_in_velocity": BOTH}
        | AROUND,
    ),
    "Adam": (
        adam,
        {"lr": 1e-3, **ADAM},
        {"amsgrad": BOTH, "bias_correction": BOTH, "eps_inside_sqrt": BOTH, "decoupled_weight_decay": BOTH, **AROUND},
    ),
    "AdamW": (
        adam,
        {"lr": 1e-3, **ADAM, "weight_decay": 0.01, "decoupled_weight_decay": True},
        {"bias_correction": BOTH, "eps_inside_sqrt": BOTH, **AROUND},
    ),
    "Adamax": (
        adamax,
        {"lr": 2e-3, "betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0, "maximize": False},
        {"betas": BETAS, **AROUND},
    ),
    "NAdam": (
        nadam,
        {"lr": 2e-3, "betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0, "momentum_decay": 4e-3}
        | {"decoupled_weight_decay": False, "maximize": False},
        {"betas": BETAS, "momentum_decay": [4e-3, 0.1], "decoupled_weight_decay": BOTH, **AROUND},
    ),
    "RAdam": (
        radam,
        {"lr": 1e-3, "betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0, "decoupled_weight_decay": False}
        | {"maximize": False},
        {"betas": [*BETAS, (0.5, 0.4)], "decoupled_weight_decay": BOTH, **AROUND},
    ),
    "Lion": (
        lion,
        {"lr": 1e-4, "betas": (0.9, 0.99), "weight_decay": 0, "maximize": False},
        {"betas": [(0.9, 0.99), (0, 0.5)], **AROUND},
    ),
    "Muon": (
        muon,
        {"lr": 1e-3, "weight_decay": 0.1, "momentum": 0.95, "nesterov": True, "ns_steps": 5, "eps": 1e-7}
        | {"ns_coefficients": (3.4445, -4.7750, 2.0315), "adjust_lr_fn": None, "maximize": False},
        {"nesterov": BOTH, "ns_steps": [5, 2], "adjust_lr_fn": [None, "original", "match_rms_adamw"], **AROUND},
    ),
}


def combinations(name):
    """The options tried, in all combinations that are allowed and say something new."""
    grid = ZOO[name][2]
    for values in itertools.product(*grid.values()):
        options = dict(zip(grid, values, strict=True))
        idle = not options.get("momentum", 1) and (options.get("nesterov") or options.get("lr_in_velocity"))
        if not idle and not (options.get("decoupled_weight_decay") and not options["weight_decay"]):
            yield options


def in_pytorch(name, options):
    """Whether PyTorch's optimizer of this name has what these options ask for."""
    others = ["lr_in_velocity", "eps_inside_sqrt", *(["nesterov"] if name == "RMSprop" else [])]
    return options.get("bias_correction", True) and not any(options.get(option) for option in others)


CASES = [pytest.param(n, options, id=f"{n} {options}") for n in ZOO for options in combinations(n)]
ELEMENTWISE = [name for name in ZOO if name != "Muon"]


def shapes_for(name, *shapes):
    """Those of the shapes that the optimizer takes."""
    return [shape for shape in shapes if name != "Muon" or len(shape) == 2]


def by_formula(name, options, start, gradients):
    """Each parameter by itself, with new arrays at every step; a parameter without a gradient stands still."""
    formula, defaults, _ = ZOO[name]
    o = {**defaults, **options}
    decoupled = o.get("decoupled_weight_decay", name in ("Lion", "Muon"))
    result = []
    for column, p in enumerate(start):
        state = {}
        present = [row[column] for row in gradients if row[column] is not None]
        for t, g in enumerate(present, 1):
            g = -g if o["maximize"] else g
            if decoupled:
                shrunk = p * o["lr"] * o["weight_decay"]
                p = formula(p, g, state, t, o) - shrunk
            else:
                p = formula(p, g + o["weight_decay"] * p, state, t, o)
        result.append(p)
    return result
