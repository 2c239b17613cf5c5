"""Choosing a plan by what is measured on the training images: what is linear in the base, and what one block gains."""

import dataclasses
import json

import numpy as np

from recipes.bases import HEADS
from recipes.data.batches import predict_split
from recipes.data.loading import pick
from recipes.probing.classifiers import fitted_linear, linear_answers, stratified
from recipes.probing.features import PooledFeatures
from recipes.probing.fitting import fit_head
from recipes.training.frozen_prefix import Caching
from recipes.training.journal import Journal
from recipes.training.pausing import pausing
from recipes.training.stages import changing_variables, frozen_parts, train_stages
from recipes.values import Stage

CHOSEN = "chosen"  # what a Choice is noted down under
_FOLDS = 5
_BLOCKS = 8  # whose features are tried
_MOST = 2500  # images that are looked at
_TRIED = 1000  # that the trial trains on
_LEAST = 10  # images of the smallest class, below which blocks do not train
_HELD = 20  # images that a trial is judged by, at least
_SHARE = 0.7  # of what the last block tells
_TEMPERATURES = np.geomspace(0.5, 8, 25)
_MANY = 100  # images of the smallest class
_STEPS, _LEAST_EPOCHS, _MOST_EPOCHS = 150, 3, 15  # of the trial


@dataclasses.dataclass(frozen=True)
class Measured:
    """What a choice goes by; JSON-able.

    Args:
        images: of the smallest class, in training.
        blocks: names of the blocks whose features were tried, from input to output.
        linear: accuracy of logistic regression on the features of each block, 0–1, in folds of the training images.
        best: number of the block with the highest; of equal ones the last.
        early: number of the best block of the first half.
        excess: by how much the accuracy of that one, above chance, exceeds seven tenths of the last block's.
        excess_error: standard error of this, over the same images.
        wrong: images that the last block's classifier tells wrong.
        before: cross-entropy, in nats at the best temperature, of the best linear classifier on held-out training
            images; None without a trial.
        after: that of the network on these images after a few epochs in which its last block trains.
        gain_error: standard error of the difference.
    """

    images: int
    blocks: tuple[str, ...]
    linear: tuple[float, ...]
    best: int
    early: int
    excess: float
    excess_error: float
    wrong: int
    before: float | None = None
    after: float | None = None
    gain_error: float | None = None

    @property
    def is_alike(self):
        """Whether the images are like those that the base was trained on: its second half tells the classes apart,
        which the first half could not. Of others the first half tells as much, and the second lets go of it again.
        Where the last block tells all of them, or all but one, nothing is left to gain either.
        """
        return self.excess <= self.excess_error or self.wrong <= 1

    @property
    def is_much(self):
        """Whether there are images enough to train blocks. Of images that are alike: training one gains on held-out
        ones by more than chance, or with many images of a class does not lose by more, for what one block cannot yet
        show, several can.
        """
        if not self.is_alike:
            return self.images >= _LEAST
        if self.before is None:
            return False
        return self.before - self.after > (-1 if self.images >= _MANY else 1) * self.gain_error


@dataclasses.dataclass(frozen=True)
class Choice:
    """A plan as `finetune` takes it, and why it was chosen; JSON-able.

    Args:
        plan: name of the plan.
        features: name of the block that the head stands on, None for the last.
        head_start: as in `finetune`.
        reason: one sentence.
        measured: fields of Measured; empty where nothing was.
    """

    plan: str
    features: str | None
    head_start: str
    reason: str
    measured: dict = dataclasses.field(default_factory=dict)

    @property
    def line(self):
        """The choice as one would pass it, and the reason."""
        words = [f"plan={self.plan!r}"]
        words += [] if self.features is None else [f"features={self.features!r}"]
        words += [] if self.head_start == "random" else [f"head_start={self.head_start!r}"]
        return f'plan="auto" chose {", ".join(words)}: {self.reason}'


def noted_choice(checkpoints):
    """The Choice that a run noted down in its Checkpoints; None where there is none yet."""
    found = checkpoints.load() if checkpoints is not None else None
    noted = None if found is None else found[0]["decided"].get(CHOSEN)
    return None if noted is None else Choice(**noted)


def planned(network, head, make, data, training, stages_of, noted=None):
    """What `plan="auto"` comes to: `(Network, its stages, Choice)`.

    Args:
        network: Network, as it is before the choice.
        head: its head, as `finetune` takes it.
        make: function of `network_for` that gives such a Network, of other `head`, `embedding` or `features`.
        data: Data.
        training: Training.
        stages_of: the stages of a plan, from a Setup.
        noted: Choice of the run that goes on; None measures.
    """
    is_linear = head in HEADS and training.loss is None
    linear = network if is_linear else make(head="linear", embedding=None)
    rate = stages_of(pretrained=network.pretrained)[0].learning_rate
    chosen = noted or choose_plan(linear, data, training, rate)
    if not is_linear:
        chosen = dataclasses.replace(chosen, head_start="random")
    if chosen.features is not None:
        network = make(features=chosen.features)
    return network, stages_of(pretrained=network.pretrained, plan=chosen.plan), chosen


def choose_plan(network, data, training, learning_rate):
    """The Choice for a Network with a linear head, whose weights are the same again afterwards.

    1. Take about 2,500 training images, each class its share. Nothing else is looked at.
    2. Measure logistic regression on the features of up to eight blocks, in five folds.
    3. Where the images are like those of the base, hold one fold out; fit the head to the others, and then train it
       with the last block for a few epochs.
    4. Decide by `decide`.

    Args:
        network: Network.
        data: Data.
        training: Training.
        learning_rate: of the trial.
    """
    training = dataclasses.replace(training, loss=None)  # the trial is by a softmax
    if not network.pretrained:
        return Choice("all", None, "random", "the base has no pretrained weights.")
    split = pick(data.train, _sample(data.train.labels, _MOST, training.seed))
    smallest = int(np.bincount(data.train.labels)[np.unique(data.train.labels)].min())
    if smallest < 2:
        return Choice("head", None, "fitted", "a class has one training image, so nothing can be held out.")
    parts = stratified(split.labels, min(_FOLDS, smallest), training.seed)
    places = np.unique(np.linspace(0, len(network.blocks) - 1, _BLOCKS).round().astype(int))
    features = PooledFeatures(
        network, places, data, accelerate=training.is_accelerated, is_kept=training.caching.mode is not False
    )
    features.prepare(split)
    answers = [
        linear_answers(features.rows(split, number), split.labels, parts, seed=training.seed)
        for number in range(len(places))
    ]
    measured = _compared(answers, [network.blocks[place].name for place in places], split.labels, smallest)
    fitted, held = parts[0]
    if measured.is_alike and smallest >= _LEAST and len(held) >= _HELD:
        fitted = fitted[_sample(split.labels[fitted], _TRIED, training.seed)]
        rows, truth = features.rows(split, measured.best), split.labels[held]
        kernel, bias = fitted_linear(rows[fitted], split.labels[fitted], training.seed)
        after = _trial(network, data, pick(split, fitted), pick(split, held), training, learning_rate)
        losses = [
            _calibrated(logits, truth) for logits in (rows[held] @ kernel + bias, np.log(np.maximum(after, 1e-7)))
        ]
        measured = dataclasses.replace(
            measured,
            before=float(losses[0].mean()),
            after=float(losses[1].mean()),
            gain_error=_error(losses[0] - losses[1]),
        )
    return decide(measured)


def decide(measured):
    """The Choice for what was Measured.

    Little and alike: a linear classifier on top. Little and unlike: a linear classifier on the features of the best
    block. Much and alike: the last blocks train too. Much and unlike: all blocks train, from a random head, because the
    gradients of one that was fitted to features which must change upset the rest.
    """
    amount = f"{measured.images} images a class"
    early, last = (f"{measured.linear[place]:.3f}" for place in (measured.early, -1))
    half = f"a linear classifier is right at {measured.blocks[measured.early]} in {early}, at the last block in {last}"
    if not measured.is_alike:
        reason = f"{half}, so the images are unlike those of the base; and {amount} are "
        reason += "enough to train all blocks" if measured.is_much else "too few to train blocks"
        plan, features = ("all", None) if measured.is_much else ("head", measured.blocks[measured.best])
        features = None if measured.best == len(measured.blocks) - 1 else features
    else:
        reason = f"{half}, so the images are like those of the base; and with {amount} "
        plan, features = "default" if measured.is_much else "head", None
        if measured.before is None:
            reason += "too few can be held out to try whether training blocks gains"
        else:
            gain = measured.before - measured.after
            gains = "gains" if gain > 0 else "loses"
            gains += "" if abs(gain) > measured.gain_error else ", no more than by chance,"
            change = f"(loss {measured.before:.3f} → {measured.after:.3f} ± {measured.gain_error:.3f})"
            reason += f"training the last block {gains} on held-out ones {change}"
            reason += ", where several may gain" if measured.is_much and gain <= measured.gain_error else ""
    start = "fitted" if plan == "head" else "random"
    noted = json.loads(json.dumps(dataclasses.asdict(measured)))  # as a checkpoint and a report bring it back
    return Choice(plan, features, start, f"{reason}.", noted)


def _compared(answers, names, labels, smallest):
    right = np.array([answer.predicted == labels[answer.images] for answer in answers], float)
    linear = right.mean(axis=1)
    best = len(linear) - 1 - int(np.argmax(linear[::-1]))
    early = int(np.argmax(linear[: (len(linear) + 1) // 2]))
    chance = np.bincount(labels).max() / len(labels)
    share = _SHARE if len(linear) > 1 else 1.0  # a base of one block has no first half
    excess = (right[early] - chance) - share * (right[-1] - chance)
    numbers = tuple(float(accuracy) for accuracy in linear)
    error = float(np.std(excess) / np.sqrt(len(excess)))
    wrong = int((right[-1] == 0).sum())
    return Measured(smallest, tuple(names), numbers, best, early, float(excess.mean()), error, wrong)


def _error(differences):
    """Standard error of the mean of differences, about nought."""
    return float(np.sqrt(np.mean(differences**2) / len(differences)))


def _trial(network, data, fitted, held, training, learning_rate):
    """Probabilities of the held-out images after a fitted head and the last block were trained on `fitted`."""
    model = network.model
    kept = [variable.numpy() for variable in model.variables]
    data = dataclasses.replace(data, train=fitted, valid=pick(held, np.zeros(0, np.int64)), test=held)
    is_kept = training.caching.mode is not False
    caching = Caching(mode=is_kept, memory_budget=training.caching.memory_budget)
    training = dataclasses.replace(
        training, augment=None, augmentation=None, schedule="cosine", verbose=False, caching=caching
    )
    steps = -(-len(fitted) // training.batch_size)
    epochs = int(np.clip(-(-_STEPS // steps), _LEAST_EPOCHS, _MOST_EPOCHS))
    stages = [Stage("trial", epochs, learning_rate, 1.0, 1.0, top_blocks=1)]
    try:
        fit_head(network, data, seed=training.seed, accelerate=training.is_accelerated, is_kept=is_kept)
        with pausing(None):
            journal = Journal(None, changing_variables(network, stages, training))
            parts = frozen_parts(network, data, stages, training)
            train_stages(network, data, stages, training, parts, journal, {})
        probabilities = parts.predict("test", training.batch_size)
        if probabilities is None:
            probabilities = predict_split(model, held, training.batch_size)
    finally:
        for variable, value in zip(model.variables, kept, strict=True):
            variable.assign(value)
    return probabilities


def _calibrated(logits, labels):
    """Cross-entropy of each image at the temperature that makes their sum least: what a classifier tells apart counts,
    and not how sure it is (Guo et al. 2017).
    """
    losses = []
    for temperature in _TEMPERATURES:
        logs = logits / temperature
        logs = logs - np.logaddexp.reduce(logs, axis=1, keepdims=True)
        losses.append(-logs[np.arange(len(labels)), labels])
    return min(losses, key=np.sum)


def _sample(labels, most, seed):
    """Positions of about `most` images, each class its share and five images at least, in their order."""
    if len(labels) <= most:
        return np.arange(len(labels))
    random = np.random.default_rng(seed)
    chosen = []
    for label in np.unique(labels):
        members = random.permutation(np.flatnonzero(labels == label))
        chosen.append(members[: max(_FOLDS, round(most * len(members) / len(labels)))])
    return np.sort(np.concatenate(chosen))
