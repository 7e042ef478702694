"""The update rules that scale each number's step by the gradients it has seen: Adagrad to Adam's descendants, and Lion.

As in `updates.py` every rule stands here twice, for NumPy and as the text of a CUDA kernel. Most divide by the root of
a mean of squares, and whether epsilon is added inside or outside of that root is where papers, lectures and libraries
differ: `ROOTS` has both, and a rule that knows both is a function of the choice. After this file you know what each of
these methods computes, number by number.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

from .updates import Rule


def _eps_outside(xp, d, v, eps):
    """d <- sqrt(v) + eps; d and v may be one array."""
    xp.sqrt(v, out=d)
    d += eps


def _eps_inside(xp, d, v, eps):
    """d <- sqrt(v + eps)."""
    xp.add(v, eps, out=d)
    xp.sqrt(d, out=d)


ROOTS: dict[bool, tuple[str, Callable[..., None], str]] = {
    False: ("", _eps_outside, "(sqrt({}) + eps)"),
    True: ("_eps_inside", _eps_inside, "sqrt({} + eps)"),
}
"""By whether epsilon is inside: a part of the rule's name, the root for arrays, the root as CUDA."""


# --- Adagrad and Adadelta ---


@cache
def adagrad(eps_inside: bool) -> Rule:
    name, root, text = ROOTS[eps_inside]

    def body(xp, d, g, lr, eps, total):
        xp.multiply(g, g, out=d)
        total += d
        root(xp, d, total, eps)
        xp.divide(g, d, out=d)
        d *= lr

    return Rule(f"adagrad{name}", ("sum",), ("lr", "eps"), body, f"sum += g * g; p -= lr * g / {text.format('sum')};")


def adadelta(xp, d, g, lr, rho, gain, eps, v, moved, spare):
    _mean_of_squares(xp, d, g, rho, gain, v)
    xp.add(v, eps, out=spare)
    xp.add(moved, eps, out=d)
    d /= spare
    xp.sqrt(d, out=d)
    d *= g
    _mean_of_squares(xp, spare, d, rho, gain, moved)
    d *= lr


def _mean_of_squares(xp, d, g, rho, gain, v):
    """v <- rho v + gain g^2, with d as scratch."""
    xp.multiply(g, g, out=d)
    d *= gain
    v *= rho
    v += d


ADADELTA = Rule(
    "adadelta",
    ("square_avg", "acc_delta"),
    ("lr", "rho", "gain", "eps"),
    adadelta,
    """
    square_avg = rho * square_avg + gain * g * g;
    T delta = sqrt((acc_delta + eps) / (square_avg + eps)) * g;
    acc_delta = rho * acc_delta + gain * delta * delta;
    p -= lr * delta;
    """,
    spare=1,
)


# --- RMSprop ---


@cache
def rmsprop(centered: bool, eps_inside: bool, momentum: str) -> Rule:
    """`momentum`: "", "momentum" or "nesterov". Centred, what rounding leaves of a variance below 0 counts as 0."""
    inside, root, text = ROOTS[eps_inside]
    numbers: tuple[str, ...] = ("lr", "alpha", "gain", "eps")
    buffers: tuple[str, ...] = ("square_avg",)
    kernel = "square_avg = alpha * square_avg + gain * g * g; T spread = square_avg;"
    if centered:
        buffers += ("grad_avg",)
        kernel += "grad_avg += gain * (g - grad_avg); spread -= grad_avg * grad_avg; spread = spread < 0 ? 0 : spread;"
    kernel += f"T scaled = g / {text.format('spread')};"
    if momentum:
        numbers += ("mu", "share")
        buffers += ("momentum_buffer",)
        kernel += "momentum_buffer = mu * momentum_buffer + share * scaled;"
    kernel += {
        "": "p -= lr * scaled;",
        "momentum": "p -= lr * momentum_buffer;",
        "nesterov": "p -= lr * (share * scaled + mu * momentum_buffer);",
    }[momentum]

    def body(xp, d, g, *rest):
        (lr, alpha, gain, eps, *coefficients), (v, *more) = rest[: len(numbers)], rest[len(numbers) :]
        _mean_of_squares(xp, d, g, alpha, gain, v)
        if centered:
            mean = more[0]
            xp.subtract(g, mean, out=d)
            d *= gain
            mean += d
            xp.multiply(mean, mean, out=d)
            xp.subtract(v, d, out=d)
            xp.maximum(d, 0, out=d)
            root(xp, d, d, eps)
        else:
            root(xp, d, v, eps)
        xp.divide(g, d, out=d)
        if momentum:
            _coast(xp, d, lr, *coefficients, momentum == "nesterov", more[-1])
        else:
            d *= lr

    name = "_".join(filter(None, ["rmsprop", "centered" if centered else "", momentum])) + inside
    return Rule(name, buffers, numbers, body, kernel)


def _coast(xp, d, lr, mu, share, nesterov, buffer):
    """buffer <- mu buffer + share d, and d <- lr buffer, or, with Nesterov, lr (share d + mu buffer)."""
    if share is not None:
        d *= share
    buffer *= mu
    buffer += d
    if nesterov:  # in this order it takes no second scratch array
        d /= mu
        d += buffer
        d *= mu
        d *= lr
    else:
        xp.multiply(buffer, lr, out=d)


# --- Adam and its descendants ---

ADAMS_NUMBERS = ("lr", "beta2", "gain1", "gain2", "eps")


@cache
def adam(amsgrad: bool, eps_inside: bool) -> Rule:
    inside, root, text = ROOTS[eps_inside]

    def plain(xp, d, g, lr, beta2, gain1, gain2, eps, m, v):
        _moments(xp, d, g, beta2, gain1, gain2, m, v)
        root(xp, d, v, eps)
        xp.divide(m, d, out=d)
        d *= lr

    def by_the_highest(xp, d, g, lr, beta2, gain1, gain2, eps, m, v, highest):
        _moments(xp, d, g, beta2, gain1, gain2, m, v)
        xp.maximum(highest, v, out=highest)
        root(xp, d, highest, eps)
        xp.divide(m, d, out=d)
        d *= lr

    buffers: tuple[str, ...] = ("exp_avg", "exp_avg_sq")
    if not amsgrad:
        kernel = f"{MOMENTS} p -= lr * exp_avg / {text.format('exp_avg_sq')};"
        return Rule(f"adam{inside}", buffers, ADAMS_NUMBERS, plain, kernel)
    kernel = f"""{MOMENTS}
    max_exp_avg_sq = max(max_exp_avg_sq, exp_avg_sq);
    p -= lr * exp_avg / {text.format("max_exp_avg_sq")};
    """
    return Rule(f"amsgrad{inside}", (*buffers, "max_exp_avg_sq"), ADAMS_NUMBERS, by_the_highest, kernel)


MOMENTS = "exp_avg += gain1 * (g - exp_avg); exp_avg_sq = beta2 * exp_avg_sq + gain2 * g * g;"


def _moments(xp, d, g, beta2, gain1, gain2, m, v):
    """m <- m + (1 - beta1) (g - m) and v <- beta2 v + (1 - beta2) g^2."""
    xp.subtract(g, m, out=d)
    d *= gain1
    m += d
    _mean_of_squares(xp, d, g, beta2, gain2, v)


def adamax(xp, d, g, lr, beta2, gain1, eps, m, largest):
    xp.subtract(g, m, out=d)
    d *= gain1
    m += d
    xp.absolute(g, out=d)
    d += eps
    largest *= beta2
    xp.maximum(largest, d, out=largest)
    xp.divide(m, largest, out=d)
    d *= lr


ADAMAX = Rule(
    "adamax",
    ("exp_avg", "exp_inf"),
    ("lr", "beta2", "gain1", "eps"),
    adamax,
    """
    exp_avg += gain1 * (g - exp_avg);
    exp_inf = max(beta2 * exp_inf, fabs(g) + eps);
    p -= lr * exp_avg / exp_inf;
    """,
)


def nadam(xp, d, g, lr, ratio, beta2, gain1, gain2, eps, m, v, spare):
    """ratio: how much of m goes with one g."""
    _moments(xp, d, g, beta2, gain1, gain2, m, v)
    _eps_outside(xp, d, v, eps)
    xp.multiply(m, ratio, out=spare)
    spare += g
    xp.divide(spare, d, out=d)
    d *= lr


NADAM = Rule(
    "nadam",
    ("exp_avg", "exp_avg_sq"),
    ("lr", "ratio", *ADAMS_NUMBERS[1:]),
    nadam,
    f"{MOMENTS} p -= lr * (g + ratio * exp_avg) / (sqrt(exp_avg_sq) + eps);",
    spare=1,
)


def radam(xp, d, g, lr, beta2, gain1, gain2, eps, unscaled, m, v):
    """`unscaled` is 0, or None (1) while too few gradients were seen to tell their variance."""
    _moments(xp, d, g, beta2, gain1, gain2, m, v)
    if unscaled is None:
        xp.multiply(m, lr, out=d)
        return
    _eps_outside(xp, d, v, eps)
    xp.divide(m, d, out=d)
    d *= lr


RADAM = Rule(
    "radam",
    ("exp_avg", "exp_avg_sq"),
    (*ADAMS_NUMBERS, "unscaled"),
    radam,
    f"{MOMENTS} p -= lr * exp_avg / (unscaled != 0 ? (T)1 : sqrt(exp_avg_sq) + eps);",
)


# --- Lion ---


def lion(xp, d, g, lr, ratio, beta2, m, spare):
    """ratio: beta1 / (1 - beta1), for the sign of m * ratio + g is that of beta1 m + (1 - beta1) g."""
    xp.multiply(m, ratio, out=d)
    d += g
    xp.sign(d, out=spare)  # in place it takes NumPy twelve times as long (16,640 random numbers, 75 us instead of 6)
    xp.multiply(spare, lr, out=d)
    m -= g
    m *= beta2
    m += g


LION = Rule(
    "lion",
    ("exp_avg",),
    ("lr", "ratio", "beta2"),
    lion,
    """
    T c = ratio * exp_avg + g;
    exp_avg = g + beta2 * (exp_avg - g);
    p -= lr * (c > 0 ? (T)1 : c < 0 ? (T)-1 : c);
    """,
    spare=1,
)


def all_rules() -> list[Rule]:
    """Every rule of this file, for those who check them."""
    both = (False, True)
    return [
        *(adagrad(inside) for inside in both),
        ADADELTA,
        *(rmsprop(c, inside, m) for c in both for inside in both for m in ("", "momentum", "nesterov")),
        *(adam(amsgrad, inside) for amsgrad in both for inside in both),
        ADAMAX,
        NADAM,
        RADAM,
        LION,
    ]
