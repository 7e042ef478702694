"""The examples on ensembles and transfer: each in its quick form, and what each says it does.

The numbers themselves stand in docs/ensembles.md; here is what must hold in any run.
"""

import importlib
import re
import sys
from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest

import minigrad as mg
from minigrad import data, nn
from minigrad.nn.functional import cross_entropy

EXAMPLES = Path(__file__).parents[2] / "examples"
NAMES = ("average_models", "bagging", "snapshot_ensemble", "fine_tuning", "two_heads")


@pytest.fixture(scope="module", autouse=True)
def examples_can_be_imported():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(EXAMPLES))
        yield
        for name in (*NAMES, "digits_recipe"):
            sys.modules.pop(name, None)


@pytest.fixture
def example(request):
    """An example and the digits' recipe, as modules, and the example's quick options."""
    module, recipe = importlib.import_module(request.param), importlib.import_module("digits_recipe")
    return module, recipe, recipe.parse("", ["--quick"], module.FULL, module.QUICK)


def of(name):
    return pytest.mark.parametrize("example", [name], indirect=True, ids=[name])


def states_differ(model, other):
    theirs = other.state_dict()
    return {name for name, tensor in model.state_dict().items() if not np.array_equal(tensor, theirs[name])}


# --- all of them ---


@pytest.mark.parametrize("example", NAMES, indirect=True)
def test_a_quick_run_beats_chance_by_far_prints_its_table_and_depends_on_the_seed_only(example, capsys):
    module, _, options = example
    table = module.main(["--quick"])
    printed = capsys.readouterr().out
    for row, scores in table.items():
        assert len(scores) == options.repeats
        assert re.search(rf"^{re.escape(row)} +\d", printed, re.MULTILINE), row
        if row not in ("mean of their weights", "frozen features, new head"):  # the one is there to fail
            assert np.mean(scores[0][0]) > 0.5, row  # ten classes, or five
    for pair in module.PAIRS:
        assert "{} against {}:".format(*pair) in printed
    second = module.once(1, options)
    for row, scores in table.items():
        np.testing.assert_array_equal(second[row], scores[1], err_msg=row)
        assert second[row].shape != scores[0].shape or not np.allclose(second[row], scores[0]), row


@pytest.mark.parametrize("example", ["bagging"], indirect=True)
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--epochs", "0"], "--epochs 0: expected 1 or more"),
        (["--seed", "-1"], "--seed -1: expected 0 or more"),
        (["--wrong", "-1"], "--wrong -1: expected 0 or more"),
        (["--repeats", "1"], "--repeats 1: expected 2 to 20"),
        (["--images", "1438"], "--images 1438: expected 1 to 1437"),
    ],
)
def test_numbers_out_of_range_are_explained(example, arguments, words, capsys):
    with pytest.raises(SystemExit) as stopped:
        example[0].main(["--quick", *arguments])
    assert words in f"{stopped.value} {capsys.readouterr().err}"


# --- the recipe: scores, intervals, the split ---


@of("average_models")
def test_a_score_is_the_share_of_right_answers_and_the_mean_of_minus_log_p(example):
    _, recipe, _ = example
    logits = np.random.default_rng(0).standard_normal((3, 40, 10))
    labels = np.random.default_rng(1).integers(10, size=40)
    predicted = np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)
    each = [recipe.score(member, labels) for member in predicted]
    for member, found in zip(logits, each, strict=True):
        assert found[0].tolist() == [row.argmax() == label for row, label in zip(member, labels, strict=True)]
        losses = cross_entropy(mg.tensor(member), mg.tensor(labels), reduction="none")
        np.testing.assert_allclose(found[1], losses.numpy(), rtol=1e-12)
    np.testing.assert_allclose(recipe.score(predicted, labels), np.mean(each, axis=0), rtol=1e-12)
    # -log is convex (Jensen): the mean of probabilities never has a larger log loss than the members' mean.
    assert (recipe.score(predicted.mean(axis=0), labels)[1] < recipe.score(predicted, labels)[1]).all()


@of("average_models")
def test_where_only_seeds_matter_a_gain_has_the_interval_of_a_paired_t_test(example):
    stats = pytest.importorskip("scipy.stats")
    _, recipe, _ = example
    for count, quantile in recipe.T_95.items():
        assert quantile == pytest.approx(stats.t.ppf(0.975, count - 1), abs=5e-4)
    ours, theirs = np.random.default_rng(0).random((2, 8, 2))
    found = recipe.gain(*(np.repeat(part[:, :, None], 30, axis=2) for part in (ours, theirs)))
    for column, sign in ((0, 100), (1, -1)):
        low, high = stats.ttest_rel(ours[:, column], theirs[:, column]).confidence_interval(0.95)
        expected = sorted((sign * low, sign * high))
        np.testing.assert_allclose(found[column, 0] + found[column, 1] * np.array([-1, 1]), expected, rtol=1e-3)
    assert [recipe.word(*pair) for pair in ((1, 2), (-2, 1), (2, 1))] == ["within the noise", "worse", "better"]


@of("average_models")
@pytest.mark.parametrize(("by_seed", "by_image"), [(1, 0), (0, 5), (1, 5)])
def test_the_interval_of_a_gain_holds_the_truth_as_often_as_it_says(example, by_seed, by_image):
    _, recipe, _ = example
    rng = np.random.default_rng(0)
    held = []
    for _ in range(1000):
        effects = by_seed * rng.standard_normal((5, 2, 1)) + by_image * rng.standard_normal((1, 2, 40))
        mean, width = recipe.gain(0.3 + effects + rng.standard_normal((5, 2, 40)), np.zeros((5, 2, 40)))[0]
        held.append(abs(mean - 30) <= width)
    assert np.mean(held) > 0.93  # 95 %, less 3 standard errors of a thousand trials


@of("average_models")
def test_the_test_images_are_the_packages_own_and_validation_never_sees_them(example):
    _, recipe, _ = example
    everything = sorted(image.tobytes() for image in data.digits(train=True).images)
    training, test = recipe.split(3, 500)
    np.testing.assert_array_equal(test.images, data.digits(train=False).images)
    again, others = recipe.split(3, 500, validate=True)
    np.testing.assert_array_equal(training.images, again.images)
    assert sorted(image.tobytes() for part in (training, others) for image in part.images) == everything
    assert not np.array_equal(training.images, recipe.split(4, 500)[0].images)


# --- averages ---


@of("average_models")
def test_the_ensemble_is_the_mean_of_the_members_probabilities(example):
    module, recipe, options = example
    training, test = recipe.split(0, options.images)
    models = module.train_members(training, 0, options)
    with mg.no_grad():
        scores = [model.eval()(mg.tensor(test.images)).numpy().astype(np.float64) for model in models]
    mean = np.mean([np.exp(s) / np.exp(s).sum(axis=1, keepdims=True) for s in scores], axis=0)
    expected = recipe.score(mean, test.labels)
    np.testing.assert_allclose(module.once(0, options)["mean of the predictions"], expected, rtol=1e-4, atol=1e-5)


@of("average_models")
def test_the_mean_of_weights_is_their_mean_with_statistics_of_its_own(example):
    module, recipe, options = example
    training, _ = recipe.split(0, options.images)
    models = module.train_members(training, 0, options)
    averaged = module.mean_of_weights(models, training).module
    for i, parameter in enumerate(averaged.parameters()):
        mean = np.mean([list(model.parameters())[i].numpy() for model in models], axis=0)
        np.testing.assert_allclose(parameter.numpy(), mean, rtol=1e-4, atol=1e-6)
    pixels = training.images.reshape(len(training), -1)
    hidden = pixels @ averaged[1].weight.numpy().T + averaged[1].bias.numpy()
    # Means over batches, of which the last is smaller: near the mean over all, not equal to it.
    np.testing.assert_allclose(averaged[2].running_mean.numpy(), hidden.mean(axis=0), atol=0.1 * hidden.std())


@of("average_models")
def test_averages_along_a_run_are_of_the_weights_that_it_went_through(example):
    module, recipe, options = example
    training, _ = recipe.split(0, options.images)
    options.epochs = 2  # the even mean begins with the second: it is of one model, the last
    run, even, lately = module.train_with_averages(training, 0, options).values()
    parameters = {name for name, _ in run.named_parameters()}
    assert not states_differ(run, even.module) & parameters
    assert states_differ(run, lately.module) >= parameters
    steps = 2 * -(-options.images // recipe.BATCH)
    assert (even.n_averaged.item(), lately.n_averaged.item()) == (1, steps)


# --- bagging ---


@of("bagging")
def test_a_bootstrap_sample_leaves_about_one_image_in_e_out(example):
    samples = example[0].bootstrap(2000, 20, seed=0)
    assert samples.shape == (20, 2000) and samples.min() >= 0 and samples.max() < 2000
    left_out = [1 - len(np.unique(sample)) / 2000 for sample in samples]
    assert np.mean(left_out) == pytest.approx((1 - 1 / 2000) ** 2000, abs=0.005)  # 3 standard errors: 0.0045


@of("bagging")
def test_out_of_bag_asks_only_the_models_that_have_not_seen_the_image(example):
    samples = np.array([[0, 0, 1, 1], [1, 2, 1, 0], [1, 1, 2, 0]])
    members = np.random.default_rng(0).random((3, 4, 10))
    estimate, judged = example[0].out_of_bag(members, samples)
    assert judged.tolist() == [False, False, True, True]
    np.testing.assert_allclose(estimate[2], members[0, 2])
    np.testing.assert_allclose(estimate[3], members[:, 3].mean(axis=0))


@of("bagging")
def test_wrong_labels_are_as_many_as_were_asked_for_and_none_by_default(example):
    module, recipe, _ = example
    training, _ = recipe.split(0, 1000)
    np.testing.assert_array_equal(module.with_wrong_labels(training, 0, 0).labels, training.labels)
    changed = module.with_wrong_labels(training, 50, 0).labels != training.labels
    assert 400 <= changed.sum() <= 500  # a tenth of the labels drawn is right by chance: 450 on average, 6.7 deviation


# --- snapshots ---


@of("snapshot_ensemble")
def test_a_snapshot_is_taken_at_the_end_of_each_cycle_and_the_first_cycle_is_a_run_of_its_own(example):
    module, recipe, options = example
    training, _ = recipe.split(0, options.images)
    three = module.snapshots(training, 5, epochs=6, cycles=3)
    assert len(three) == 3
    (alone,) = module.snapshots(training, 5, epochs=2, cycles=1)
    assert not states_differ(three[0], alone)
    assert states_differ(three[0], three[1]) and states_differ(three[1], three[2])


@of("snapshot_ensemble")
def test_the_rate_has_come_down_where_a_snapshot_is_taken(example, monkeypatch):
    module, recipe, options = example
    training, _ = recipe.split(0, options.images)
    rates = []

    class Recorded(module.optim.AdamW):
        def step(self, *arguments):
            rates.append(self.param_groups[0]["lr"])
            return super().step(*arguments)

    monkeypatch.setattr(module.optim, "AdamW", Recorded)
    module.snapshots(training, 0, epochs=6, cycles=3)
    length = len(rates) // 3
    assert len(rates) == 6 * -(-options.images // recipe.BATCH)
    assert rates[:length] == rates[length : 2 * length] == rates[2 * length :]
    assert rates[0] == max(rates) == 2 * recipe.RATE and rates[length - 1] == min(rates) < 0.03 * rates[0]


@of("snapshot_ensemble")
def test_more_cycles_than_epochs_are_refused(example):
    with pytest.raises(SystemExit, match="--epochs 2: too few for 3 cycles"):
        example[0].main(["--quick", "--epochs", "2"])


# --- fine-tuning ---


@of("fine_tuning")
def test_frozen_weights_do_not_change_and_freed_ones_do(example):
    module, _, options = example
    few, _ = module.few_of_each(0, 2, validate=False)
    pretrained = module.pretrain(0, 1)
    model = module.new_head(pretrained, 0)
    head = {"head.weight", "head.bias"}
    assert states_differ(model, pretrained) == head
    before = deepcopy(model)
    module.train_head(model, few, 0, 2)
    assert states_differ(model, before) == head
    assert all(p.grad is None for p in model[:-1].parameters())
    frozen = deepcopy(model)
    module.train_all(model, few, 0, 2, options.fraction)
    assert states_differ(model, frozen) == set(model.state_dict())


@of("fine_tuning")
def test_a_fraction_of_zero_leaves_the_freed_features_where_they_were(example):
    module, *_ = example
    few, _ = module.few_of_each(0, 2, validate=False)
    model = module.network(0)
    before = deepcopy(model)
    module.train_all(model, few, 0, 2, fraction=0.0)
    assert states_differ(model, before) == {"head.weight", "head.bias"}


@of("fine_tuning")
def test_the_few_images_are_of_the_new_digits_only_so_many_of_each_and_never_scored_on(example):
    module, *_ = example
    few, test = module.few_of_each(0, 3, validate=True)
    assert np.bincount(few.labels).tolist() == [3] * 5
    training = data.digits(train=True)
    assert len(few) + len(test) == (training.labels >= 5).sum()
    assert len(module.only(range(5), train=True)) == (training.labels < 5).sum()
    _, test = module.few_of_each(0, 3, validate=False)
    labels = data.digits(train=False).labels
    np.testing.assert_array_equal(test.labels, labels[labels >= 5] - 5)
    assert test.images.shape[1:] == (1, 12, 12)


# --- two heads ---


@of("two_heads")
def test_the_trunk_gets_the_weighted_sum_of_what_both_heads_send_back(example):
    module, *_ = example
    model = module.TwoHeads(0)
    images, digits, angles = (mg.tensor(field[:20]) for field in module.turned(data.digits(), 0).arrays)

    def gradients(first, second):
        model.zero_grad()
        digit, angle = model(images)
        (first * cross_entropy(digit, digits) + second * cross_entropy(angle, angles)).backward()
        return np.concatenate([p.grad.numpy().ravel() for p in model.trunk.parameters()])

    expected = gradients(1.0, 0.0) + 0.3 * gradients(0.0, 1.0)
    np.testing.assert_allclose(gradients(1.0, 0.3), expected, rtol=1e-3, atol=1e-6)


@of("two_heads")
def test_with_a_weight_of_zero_the_second_head_learns_nothing(example):
    module, recipe, options = example
    training = module.turned(recipe.split(0, options.images)[0], 0)
    options.weight, options.epochs = 0.0, 10
    model = module.train_both(module.TwoHeads(0), training, 0, options)
    found = [
        recipe.score(recipe.probabilities(nn.Sequential(model.trunk, head), training.images), labels)[0].mean()
        for head, labels in zip((model.digit, model.angle), training.arrays[1:], strict=True)
    ]
    assert found[0] > 0.8 and found[1] < 0.5


@of("two_heads")
def test_images_are_turned_by_the_angle_that_their_label_says(example):
    module, *_ = example
    images = data.digits()
    turned = module.turned(images, 0)
    straight = turned.arrays[2] == module.ANGLES.index(0)
    np.testing.assert_allclose(turned.images[straight], images.images[straight], atol=1e-6)
    ndimage = pytest.importorskip("scipy.ndimage")
    for number, angle in enumerate(module.ANGLES):
        row = int(np.flatnonzero(turned.arrays[2] == number)[0])
        expected = ndimage.rotate(images.images[row, 0], angle, reshape=False, order=1, mode="grid-constant")
        np.testing.assert_allclose(turned.images[row, 0], expected, atol=1e-5)
