"""Train an image classifier: `python examples/train_cnn.py` does LeNet-5 on handwritten digits, in half a minute.

    python examples/train_cnn.py --dataset cifar10 --model cnn --device cuda --epochs 20 --out runs/cifar
    python examples/train_cnn.py --dataset cifar10 --model cnn --device cuda --epochs 20 --out runs/cifar --resume

On a GPU the data set lies there, and is augmented there where the transforms can be; steps are captured and replayed
(--no-capture switches that off), in the precision that --precision says.

The folder given with --out gets the weights (last.safetensors, best.safetensors), metrics.csv, the curves as curves.png
and the graph as graph.dot and graph.svg (the extra `examples` brings a program that draws it). After this file you know
how data, a model, an optimizer with its schedule, and `fit` make a script, and what each data set asks for.

The test images choose nothing: the settings below were found on a part cut from the training images, the weights
tested are the last ones, and the test images are looked at once, at the end. With --validate that part is cut off
again and shown after each epoch.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import minigrad as mg
from minigrad import amp, data, nn, optim
from minigrad.data import Compose, DataLoader, Subset, stratified_split
from minigrad.graph import DrawingError, draw
from minigrad.nn.functional import cross_entropy
from minigrad.serialization import CheckpointError
from minigrad.training import History, TrainingError, evaluate, fit

TRANSFORMS = {
    "none": None,
    "affine": data.random_affine(10, shift=1.5, scale=0.1),  # digits: a little turned, moved and resized
    "shift": data.random_shift(2),
    "flip": Compose([data.random_shift(4), data.random_horizontal_flip()]),  # photographs: He et al. 2016, section 4.2
}
"""Augmentation by name; "none" for none."""

ON_A_GPU = ("none", "shift", "flip")
"""Those that run on a GPU; with the others the data set stays on the host."""

PRECISIONS = ("float32", "tf32", "float16")
"""In what products and convolutions compute on a GPU; the parameters are float32 always."""


@dataclass(frozen=True)
class Recipe:
    """What a data set is, and what trains well on it."""

    load: Callable[..., data.ArrayDataset]
    channels: int
    size: int
    model: str
    epochs: int
    batch_size: int
    lr: float
    augment: str
    smoothing: float  # of labels: how much of each is shared out among all classes (Szegedy et al. 2016, section 7)


RECIPES = {
    "digits": Recipe(partial(data.digits, size=28), 1, 28, "lenet5", 15, 64, 5e-3, "affine", 0.1),
    "mnist": Recipe(data.mnist, 1, 28, "lenet5", 10, 128, 5e-3, "shift", 0.1),
    "mnist-t10k": Recipe(data.mnist_t10k, 1, 28, "lenet5", 10, 64, 5e-3, "affine", 0.1),
    "fashion_mnist": Recipe(data.fashion_mnist, 1, 28, "cnn", 10, 128, 5e-3, "none", 0.0),
    "cifar10": Recipe(data.cifar10, 3, 32, "cnn", 20, 128, 5e-3, "flip", 0.0),
}

MODELS: dict[str, Callable[[Recipe], nn.Module]] = {
    "mlp": lambda recipe: nn.mlp(recipe.channels * recipe.size**2, 10),
    "lenet5": lambda recipe: nn.lenet5(recipe.channels, 10, image_size=recipe.size, batch_norm=True),
    "cnn": lambda recipe: nn.cnn(recipe.channels, 10),
}


def main(arguments: Sequence[str] | None = None) -> float:
    """Train as the command line says; returns the test accuracy. What the user can mend ends it with a line of text."""
    options = parse(arguments)
    try:
        return train(options)
    except (CheckpointError, TrainingError) as error:
        raise SystemExit(f"{error}") from None
    except OSError as error:
        raise SystemExit(
            f"{error}\nWith more room, or a folder that can be written to as --out, it can be begun again, or gone on "
            "with by --resume: files of finished epochs are whole."
        ) from None


def train(options: argparse.Namespace) -> float:
    """Load, train, save and test; returns the test accuracy."""
    recipe = RECIPES[options.dataset]
    mg.manual_seed(options.seed)

    training, validation, test = load(recipe, options)
    model = MODELS[options.model](recipe).to(options.device)
    say(options, f"{training.dataset if isinstance(training, Subset) else training}, model {options.model}:")
    say(options, f"{sum(p.size for p in model.parameters()):,} parameters on {options.device}, seed {options.seed}")

    on_gpu = options.device.startswith("cuda")
    loaders = {"device": options.device, "seed": options.seed, "cache": on_gpu}
    train_loader = DataLoader(
        training, options.batch_size, shuffle=True, transform=TRANSFORMS[options.augment],
        **{**loaders, "cache": on_gpu and options.augment in ON_A_GPU},
    )  # fmt: skip
    if options.precision == "tf32":
        mg.cuda.set_tf32(True)
    half = {"autocast": amp.autocast("cuda"), "scaler": amp.GradScaler()} if options.precision == "float16" else {}
    optimizer = optim.AdamW(model.parameters(), lr=options.lr)
    scheduler = optim.OneCycleLR(optimizer, options.lr, epochs=options.epochs, steps_per_epoch=len(train_loader))
    out = None if options.out is None else Path(options.out)
    if out:
        save_graph(model, train_loader, out)

    began = time.perf_counter()
    history = fit(
        model, partial(cross_entropy, label_smoothing=recipe.smoothing), optimizer, train_loader,
        epochs=options.epochs, scheduler=scheduler,
        validation=validation and DataLoader(validation, 500, **loaders),
        out=out, resume=options.resume, progress=not options.quiet,
        capture=options.capture, **half,
    )  # fmt: skip
    say(options, f"trained for {time.perf_counter() - began:.1f} s")
    if out and history.rows:
        save_curves(history, out)
    if history.interrupted:
        say(options, "stopped early" + ("; go on with the same command and --resume" if out else ""))
    if out:
        say(options, f"weights, metrics, curves and the model's graph are in {out}")
    test_loss, accuracy = evaluate(model, DataLoader(test, 500, **loaders), cross_entropy)
    print(f"test accuracy {accuracy:.2%}, test loss {test_loss:.4f}, on {len(test)} images ({test.note or test.name})")
    return accuracy


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line, with the recipe's values where nothing was said."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", choices=RECIPES, default="digits", help="default: digits, which needs no download")
    parser.add_argument("--model", choices=MODELS, help="default: the data set's")
    parser.add_argument("--device", default="cpu", help="cpu (default), cuda, cuda:1 ...")
    parser.add_argument("--precision", choices=PRECISIONS, default="float32", help="on a GPU; default: float32")
    parser.add_argument(
        "--no-capture",
        dest="capture",
        action="store_const",
        const=False,
        help="on a GPU: launch every kernel by itself",
    )
    parser.add_argument("--epochs", type=whole_number)
    parser.add_argument("--batch-size", type=whole_number)
    parser.add_argument("--lr", type=positive_number, help="the highest learning rate of the cycle")
    parser.add_argument("--seed", type=int, default=0, help="same seed, same machine: same result")
    parser.add_argument("--augment", choices=TRANSFORMS, help="changes to the training images; default: the data set's")
    parser.add_argument("--validate", action="store_true", help="validate on a fifth of the training images, cut off")
    parser.add_argument(
        "--out", type=folder, help="folder for checkpoints, metrics, curves and graph; default: write nothing"
    )
    parser.add_argument("--resume", action="store_true", help="go on with the run in --out")
    parser.add_argument("--quiet", action="store_true", help="print the test accuracy only")
    options = parser.parse_args(arguments)
    if options.resume and not options.out:
        parser.error("--resume needs --out, the folder of the run to go on with")
    if options.device.startswith("cuda") and not mg.cuda_is_available():
        parser.error(f"--device {options.device}: no GPU, or CuPy is not installed; use --device cpu")
    if options.precision != "float32" and not options.device.startswith("cuda"):
        parser.error(f"--precision {options.precision} is for a GPU: --device cuda")
    recipe = RECIPES[options.dataset]
    for name in ("model", "epochs", "batch_size", "lr", "augment"):
        if getattr(options, name) is None:
            setattr(options, name, getattr(recipe, name))
    return options


def folder(text: str) -> str:
    """A command line's folder, which need not be there yet."""
    if not text.strip():
        raise argparse.ArgumentTypeError("is empty; give the name of a folder, as in --out runs/digits")
    taken = next((path for path in (Path(text), *Path(text).parents) if path.exists()), None)
    if taken is not None and not taken.is_dir():
        raise argparse.ArgumentTypeError(f"{taken} is a file; give the name of a folder, as in --out runs/digits")
    return text


def whole_number(text: str) -> int:
    """A command line's whole number, 1 or more."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is not 1 or more")
    return number


def positive_number(text: str) -> float:
    """A command line's number above 0."""
    number = float(text)
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not a number above 0")
    return number


def load(recipe: Recipe, options: argparse.Namespace) -> tuple:
    """The training images, those cut off them for validation (or None), and the test images."""
    try:
        training, test = recipe.load(train=True), recipe.load(train=False)
    except data.DataError as error:
        raise SystemExit(str(error)) from None
    if not options.validate:
        return training, None, test
    kept, cut_off = stratified_split(training.labels, 0.2, seed=0)
    return Subset(training, kept), Subset(training, cut_off), test


def save_graph(model: nn.Module, loader: DataLoader, out: Path) -> None:
    """The graph of the loss of two images, as DOT text, and as a picture if something is installed that draws it."""
    images, labels = (mg.tensor(field[:2], device=loader.device) for field in loader.dataset[:2])
    model.eval()  # looking at it changes no running statistics and draws no random numbers
    drawing = draw(cross_entropy(model(images), labels), params=model)
    model.train()
    out.mkdir(parents=True, exist_ok=True)
    drawing.save_as(out / "graph.dot")
    try:
        drawing.save_as(out / "graph.svg")
    except DrawingError as error:
        print(f"graph.svg is left out, graph.dot is there: {error}")


def save_curves(history: History, out: Path) -> None:
    """Loss and accuracy by epoch as a picture."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        print('curves.png is left out (the metrics are in metrics.csv); it takes `pip install "minigrad[examples]"`.')
        return
    figure = Figure(figsize=(9, 3.5), layout="constrained")
    FigureCanvasAgg(figure)
    for axes, figure_name in zip(figure.subplots(1, 2), ("loss", "accuracy"), strict=True):
        for part, label in (("train", "training"), ("val", "validation")):
            values = history[f"{part}_{figure_name}"]
            if None not in values:
                axes.plot(history["epoch"], values, marker=".", label=label)
        axes.set(xlabel="epoch", ylabel=figure_name, title=figure_name.capitalize())
        axes.grid(alpha=0.3)
        axes.legend()
    figure.savefig(out / "curves.png", dpi=120)


def say(options: argparse.Namespace, text: str) -> None:
    """Print, unless asked to be quiet."""
    if not options.quiet:
        print(text, flush=True)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        raise SystemExit(
            "\nInterrupted. With --out, the run can be gone on with by the same command and --resume."
        ) from None
