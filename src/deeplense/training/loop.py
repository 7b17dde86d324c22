"""The training loop: one for every task, on one device or many."""

from __future__ import annotations

import io
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from jaxtyping import Float32, Int64
from safetensors.torch import save
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from deeplense.core.console import note
from deeplense.core.errors import CorruptFile, Diverged
from deeplense.core.files import atomic
from deeplense.core.optimizers import OptimizerName, ScheduleName, build_optimizer, learning_rate_factor
from deeplense.core.run_folder import RunFolder
from deeplense.core.seeding import stable_key
from deeplense.data.loader import Batch, Loader
from deeplense.data.transforms import Augmentation, Images, Normalisation, Symmetry, symmetric_copies, turned_back
from deeplense.models.network import load_weights
from deeplense.tasks.task import LearntTask, Task
from deeplense.training.contest import Contest

Record = dict[str, float]
DECAY = 0.999  # of the running mean of weights, per step
TOLERATED = 2.0  # by so much an opponent may lower the primary metric: of PSNR, in dB
FALLS = 4  # so often a network may fall farther


@dataclass(frozen=True)
class Plan:
    """How to learn.

    Parameters
    ----------
    epochs, batch_size
        Passes over the training images; images per step, over all processes.
    optimizer, lr, weight_decay, schedule
        The optimiser, its peak learning rate and how that changes.
    patience
        Stop after this many epochs without a better primary metric; None never stops early.
    seed
        Order of images, augmentation, dropout.
    log_interval
        Steps between two lines of progress; 0 for one line per epoch.
    average_symmetry
        Whether an answer is the mean over all copies of the image that the augmentation's symmetry allows.
    average_weights
        Whether the network that is judged and kept is a running mean of the one that learns.
    patch
        Side of the random squares of coarse pixels that are learnt from; None for whole images.
    """

    epochs: int
    batch_size: int
    optimizer: OptimizerName
    lr: float
    weight_decay: float
    schedule: ScheduleName
    patience: int | None
    seed: int
    log_interval: int
    average_symmetry: bool
    average_weights: bool
    patch: int | None = None


@dataclass
class State:
    """How far training has come; with the weights and the optimiser this is all that a resume needs."""

    epoch: int = 0
    best: float = -math.inf
    best_epoch: int = 0
    falls: int = 0
    history: list[Record] = field(default_factory=list)


@dataclass
class Trainer:
    """A task, its network and its data, ready to learn.

    Parameters
    ----------
    task, network
        What is learnt.
    train, validation
        Images.
    normalisation, augmentation
        What happens to an image before the network sees it.
    plan
        How to learn.
    run
        Where the record goes.
    accelerator
        Where the work is done.
    on_epoch
        Called with each epoch's record and the validation answers: trackers.
    contest
        An opponent to learn against.
    """

    task: LearntTask
    network: nn.Module
    train: Loader
    validation: Loader
    normalisation: Normalisation
    augmentation: Augmentation
    plan: Plan
    run: RunFolder
    accelerator: Accelerator
    on_epoch: Callable[[Record, Float32[np.ndarray, "N K"]], None] = lambda record, answers: None
    contest: Contest | None = None
    mean: AveragedModel | None = field(default=None, init=False)

    def fit(self) -> State:
        """Train to the end, from the start or from where an interrupted run stopped; return the final state."""
        optimizer = build_optimizer(self.plan.optimizer, self.network, self.plan.lr, self.plan.weight_decay)
        if self.accelerator.device.type == "cuda" and self.accelerator.num_processes > 1:
            self.network = nn.SyncBatchNorm.convert_sync_batchnorm(self.network)  # type: ignore[no-untyped-call]
        self.network.to(memory_format=torch.channels_last)  # convolutions are faster so, on the CPU and on GPUs
        if self.plan.average_weights:
            self.mean = AveragedModel(self.network, avg_fn=_towards, use_buffers=True)
        wrapped, optimizer = self.accelerator.prepare(self.network, optimizer)
        state = self._load(optimizer)
        if self.contest is not None:
            self.contest.to(self.accelerator.device)
            if state.epoch == 0:  # what the network could do before there was an opponent is where it may fall back to
                state.best = self._validate(wrapped)[2][self.task.primary_metric]
                self._save_best()
        while state.epoch < self.plan.epochs and not self._is_stale(state):
            begin = time.monotonic()
            record: Record = {"epoch": state.epoch + 1}
            record |= self._epoch(wrapped, optimizer, state)
            record["images_per_second"] = len(self.train) / (time.monotonic() - begin)
            if not all(bool(value.isfinite().all()) for value in self._judged(wrapped).state_dict().values()):
                self._fall_back(state, "weights that are no numbers", optimizer)
                continue  # the epoch is learnt again, more slowly
            answers, loss, marks = self._validate(wrapped)
            record |= {"validation_loss": loss} | {f"validation_{name}": value for name, value in marks.items()}
            record["seconds"] = time.monotonic() - begin
            if odd := [name for name, value in record.items() if not math.isfinite(value)]:
                self._fall_back(state, f"{odd[0]} {record[odd[0]]}", optimizer)
                continue
            state.epoch += 1
            state.history.append(record)
            self._keep(state, marks[self.task.primary_metric], optimizer)
            self._save(state, optimizer)
            self._report(record, state, answers)
        if self.accelerator.is_main_process:
            if self.task.finishes:
                self._finish()
            self.run.resume_state.unlink(missing_ok=True)
        self.accelerator.wait_for_everyone()
        return state

    def _validate(self, wrapped: nn.Module) -> tuple[Float32[np.ndarray, "N K"], float, dict[str, float]]:
        """Return answers, mean loss and marks on the validation images."""
        network, symmetry, size = self._judged(wrapped), self._averaged_symmetry(), self.plan.batch_size
        answers, loss = predict_all(
            self.task, network, self.validation, self.normalisation, size, self.accelerator, symmetry
        )
        return answers, loss, self.task.marks(answers, self.validation.targets.numpy())

    def _keep(self, state: State, mark: float, optimizer: Any) -> None:
        """Keep the network if it is the best so far; against an opponent, keep it unless it has fallen too far.

        An opponent makes the mark worse, a little, and that is its purpose.
        """
        if self.contest is None and mark > state.best:
            state.best, state.best_epoch = mark, state.epoch
            self._save_best()
        elif self.contest is not None and mark >= state.best - TOLERATED:
            state.best, state.best_epoch = max(state.best, mark), state.epoch
            self._save_best()
        elif self.contest is not None:
            self._fall_back(state, f"validation {self.task.primary_metric} {mark:.2f}", optimizer)

    def _fall_back(self, state: State, why: str, optimizer: Any) -> None:
        """Give up a network that has fallen: the last one that was kept goes on, more slowly, against a new opponent.

        Raises
        ------
        Diverged
            When that has happened too often, or there is no opponent to blame.
        """
        if self.contest is None:
            raise Diverged(f"{why} in epoch {state.epoch + 1}", "finite numbers", "lower --lr, or use --precision fp32")
        state.falls += 1
        if state.falls > FALLS:
            raise Diverged(
                f"{why} by epoch {state.epoch}, fallen for the {state.falls}th time by {TOLERATED:g} or more",
                "an opponent that leaves the network most of what it knew",
                "lower --adversary or --lr",
            )
        self._note(f"fallen to {why}: back to the network of epoch {state.best_epoch}")
        load_weights(self.network, self.run.weights)
        if self.mean is not None:
            self.mean.module.load_state_dict(self.network.state_dict())
        optimizer.state.clear()
        self.contest.begin()
        self.contest.to(self.accelerator.device)

    @torch.inference_mode()
    def _finish(self) -> None:
        """Let the task take from the best network's outputs on validation what gradients do not give."""
        load_weights(self.network, self.run.weights)
        self.network.eval()
        self.task.finish(self.network, self._validated())
        self._save_weights(self.network)

    def _validated(self) -> Iterator[tuple[Tensor, Batch]]:
        """Yield the network's outputs on the validation images."""
        for batch in self.validation.in_order(self.plan.batch_size):
            on_device = batch.to(self.accelerator.device)
            inputs = (self.normalisation(on_device.image), *on_device.inputs[1:])
            yield averaged(self.task, self.network, inputs, self._averaged_symmetry()), on_device

    def _averaged_symmetry(self) -> Symmetry:
        """Return the symmetry over whose copies an answer is averaged."""
        return self.augmentation.symmetry if self.plan.average_symmetry else "none"

    def _judged(self, wrapped: nn.Module) -> nn.Module:
        """Return the network that is judged and kept: the mean of its weights over the last steps, if so planned."""
        return wrapped if self.mean is None else self.mean

    def _epoch(self, wrapped: nn.Module, optimizer: Any, state: State) -> Record:
        """Learn from every training image once."""
        wrapped.train()
        epoch = state.epoch
        self.train.begin_epoch(epoch)
        # dropout draws from the global stream: tied to the epoch, a resumed run sees the same
        torch.manual_seed(stable_key(self.plan.seed, "epoch", epoch, self.accelerator.process_index) % 2**63)
        total = torch.zeros((), device=self.accelerator.device)
        n_steps = self._steps_per_epoch()
        lr = 0.0
        for step, batch in enumerate(self._training_batches(epoch)):
            progress = (epoch * n_steps + step) / (self.plan.epochs * n_steps)
            lr = self.plan.lr * learning_rate_factor(self.plan.schedule, progress) / 2**state.falls
            for group in optimizer.param_groups:
                group["lr"] = lr
            optimizer.zero_grad(set_to_none=True)
            with self.accelerator.autocast():
                output = wrapped(*batch.inputs)
            losses = self.task.loss(output, batch)
            if self.contest is not None:
                losses = losses + self._contested(output, batch)
            self.accelerator.backward(losses.mean())
            optimizer.step()
            if self.mean is not None:
                self.mean.update_parameters(self.network)
            total += losses.detach().sum()
            if self.plan.log_interval and (step + 1) % self.plan.log_interval == 0:
                loss = float(losses.detach().mean())
                self._note(f"epoch {epoch + 1}, step {step + 1} of {n_steps}: loss {loss:.4f}, lr {lr:.2e}")
        seen = n_steps * self._batch_size()
        loss = float(self.accelerator.reduce(total)) / seen
        if not math.isfinite(loss) and self.contest is None:
            raise Diverged(
                f"the training loss of epoch {epoch + 1} is {loss}",
                "a finite loss",
                "lower --lr, or use --precision fp32",
            )
        return {"lr": lr, "train_loss": loss}

    def _contested(self, output: Tensor, batch: Batch) -> Tensor:
        """Let the opponent learn from a batch; return what the network loses to it."""
        assert self.contest is not None  # asked for by those who know
        made, real = self.task.contested(output, batch)
        self.contest.learn(made, real)
        return self.contest.lost(made, real)

    def _training_batches(self, epoch: int) -> Iterator[Batch]:
        """Yield this process's share of every batch; each process draws order and augmentation of the whole batch."""
        generator = torch.Generator().manual_seed(stable_key(self.plan.seed, "order", epoch) % 2**63)
        order = self.train.order(generator)
        size, share = self._batch_size(), self._batch_size() // self.accelerator.num_processes
        mine = slice(share * self.accelerator.process_index, share * (self.accelerator.process_index + 1))
        positions = [order[i * size : (i + 1) * size][mine] for i in range(self._steps_per_epoch())]
        for batch in self.train.batches(positions):
            numbers = self.augmentation.draw(size, generator)[mine].to(self.accelerator.device)
            if self.plan.patch is not None:
                batch = batch.cut(self.plan.patch, torch.rand(size, 2, generator=generator)[mine])
            yield batch.to(self.accelerator.device).changed(partial(self._seen, numbers=numbers))

    def _seen(self, images: Images, numbers: Tensor) -> Images:
        """Return images as the network sees them in training."""
        return self.augmentation.apply(self.normalisation(images), numbers)

    def _batch_size(self) -> int:
        """Return the images per step: as asked for, less where the set is smaller, a multiple of the processes."""
        n = int(self.accelerator.num_processes)
        return max(1, min(self.plan.batch_size, len(self.train)) // n) * n

    def _steps_per_epoch(self) -> int:
        """Return the whole batches in an epoch; the remainder, a different one each time, sits out."""
        return max(1, len(self.train) // self._batch_size())

    def _is_stale(self, state: State) -> bool:
        return self.plan.patience is not None and state.epoch - state.best_epoch >= self.plan.patience

    def _save_best(self) -> None:
        if self.accelerator.is_main_process:
            self._save_weights(self.network if self.mean is None else self.mean.module)

    def _save_weights(self, network: nn.Module) -> None:
        weights = {key: value.contiguous().cpu() for key, value in network.state_dict().items()}
        with atomic(self.run.weights) as temporary:
            temporary.write_bytes(save(weights))

    def _save(self, state: State, optimizer: Any) -> None:
        if self.accelerator.is_main_process:
            content = {"network": self.network.state_dict(), "optimizer": optimizer.state_dict(), "state": vars(state)}
            if self.mean is not None:
                content["mean"] = self.mean.state_dict()
            if self.contest is not None:
                content["contest"] = self.contest.state_dict()
            if self.accelerator.scaler is not None:  # of fp16: without it other steps would be skipped
                content["scaler"] = self.accelerator.scaler.state_dict()
            serialised = io.BytesIO()  # torch reports a full disk as a RuntimeError; Python as what it is
            torch.save(content, serialised)
            with atomic(self.run.resume_state) as temporary:
                temporary.write_bytes(serialised.getbuffer())
            self.run.write_history(state.history)

    def _load(self, optimizer: Any) -> State:
        path = self.run.resume_state
        if not path.is_file():
            return State()
        try:
            content = torch.load(path, map_location="cpu", weights_only=True)
            self.network.load_state_dict(content["network"])
            optimizer.load_state_dict(content["optimizer"])
            if self.mean is not None:
                self.mean.load_state_dict(content["mean"])
            if self.contest is not None:
                self.contest.load_state_dict(content["contest"])
            if self.accelerator.scaler is not None:
                self.accelerator.scaler.load_state_dict(content["scaler"])
            state = State(**content["state"])
        except Exception as error:  # torch.load raises nearly anything on a damaged file
            raise CorruptFile(
                path,
                f"not a resume state of this run ({type(error).__name__})",
                "the state that training saved",
                "remove it: the run then starts from its first epoch",
            ) from error
        self._note(f"resuming after epoch {state.epoch} of {self.plan.epochs}")
        return state

    def _report(self, record: Record, state: State, answers: Float32[np.ndarray, "N K"]) -> None:
        if not self.accelerator.is_main_process:
            return
        primary = self.task.primary_metric
        marker = " (best so far)" if state.best_epoch == state.epoch else ""
        note(
            f"epoch {state.epoch:>3}/{self.plan.epochs}  loss {record['train_loss']:.4f}  "
            f"validation {primary} {record[f'validation_{primary}']:.4f}  {record['seconds']:.1f} s{marker}"
        )
        self.on_epoch(record, answers)

    def _note(self, message: str) -> None:
        if self.accelerator.is_main_process:
            note(message)


def _towards(mean: Tensor, new: Tensor, n_averaged: Tensor | int) -> Tensor:
    """Return the running mean after one more step: over all steps at first, then over about the last thousand."""
    weight = max(1 / (1 + int(n_averaged)), 1 - DECAY)
    return mean + weight * (new - mean) if mean.is_floating_point() else new


def averaged(task: Task, network: nn.Module, inputs: tuple[Tensor, ...], symmetry: Symmetry) -> Tensor:
    """Return the mean of the network's outputs over all copies of each image that the symmetry allows.

    Where an output is an image, each is turned back first.

    Parameters
    ----------
    task, network
        What is asked of whom.
    inputs
        What the network is called with: images first, then what has no symmetry.
    symmetry
        Of the images.
    """
    images, *others = inputs
    outputs = [network(copy, *others) for copy in symmetric_copies(images, symmetry)]
    if task.pairs:
        outputs = turned_back(outputs, symmetry)
    mean: Tensor = sum(outputs) / len(outputs)
    return mean


@torch.inference_mode()
def predict_all(
    task: Task,
    network: nn.Module,
    images: Loader,
    normalisation: Normalisation,
    batch_size: int,
    accelerator: Accelerator,
    symmetry: Symmetry = "none",
) -> tuple[Float32[np.ndarray, "N K"], float]:
    """Return the answers for every image in the loader's order, and the mean loss (NaN without labels or a loss).

    With a symmetry, the network's output is the mean over all copies of an image that it allows.
    Several processes share the images; each returns all answers.
    """
    network.eval()
    parts: list[tuple[Int64[np.ndarray, " B"], Float32[np.ndarray, "B K"], float]] = []
    for batch in images.in_order(batch_size, (accelerator.process_index, accelerator.num_processes)):
        on_device = batch.to(accelerator.device)
        with accelerator.autocast():
            inputs = (normalisation(on_device.image), *on_device.inputs[1:])
            output = averaged(task, network, inputs, symmetry)
        loss = math.nan
        if isinstance(task, LearntTask) and (bool((batch.target >= 0).all()) or not task.needs_labels):
            loss = float(task.loss(output, on_device).sum())
        parts.append((batch.index.numpy(), task.answers(output, on_device).cpu().numpy(), loss))
    if accelerator.num_processes > 1:
        parts = gather_object(parts)
    index = np.concatenate([part[0] for part in parts])
    answers = np.concatenate([part[1] for part in parts])
    ordered = np.empty_like(answers)
    ordered[index] = answers
    return ordered, sum(part[2] for part in parts) / len(index)
