"""Campaigns of experiments: what is run, each in a process of its own, and that nothing is run twice or lost."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path

import pytest

from emnesy_gpu.cli import main
from emnesy_gpu.reproduce import records, worker
from emnesy_gpu.reproduce.campaign import Campaign, Children
from emnesy_gpu.reproduce.methods import METHODS
from emnesy_gpu.reproduce.protocol import Experiment, estimate, protocol
from emnesy_gpu.tasks.commands import train
from emnesy_gpu.tasks.files.errors import DivergedError
from emnesy_gpu.tasks.files.run_directory import RunDirectory
from emnesy_gpu.tasks.files.settings import RunSettings
from emnesy_gpu.tasks.registry import TASKS

RESULTS = Path(__file__).parent.parent / "profiling/results/cpu-2026-11-28/results.jsonl"

ONE_DIGIT = Experiment("training", "addition", 1, "exact", epochs=1, augment=False, data="digits")


def of(experiments: list[Experiment], out, minutes: float = 5.0, **others) -> Campaign:
    return Campaign(experiments, out, minutes, **others)


def only(experiment: Experiment, out, **others) -> dict:
    """The record of a campaign of one experiment with one record."""
    ((_, (record,)),) = of([experiment], out, **others).run()
    return record


@pytest.mark.parametrize("quick", [True, False])
@pytest.mark.parametrize("task", TASKS)
def test_every_experiment_of_the_protocol_is_a_train_command_that_parses(task, quick):
    experiments = protocol(task, quick)
    assert len({experiment.key for experiment in experiments}) == len(experiments)
    for experiment in experiments:
        assert estimate(experiment) > 0
        if experiment.kind == "training":
            assert experiment.method in METHODS
            name, *arguments = experiment.arguments()
            options = train.commands[name].make_context(name, arguments).params
            assert options[TASKS[task].size_option] == experiment.size


def test_several_m_steps_take_as_many_gradient_steps_as_one():
    for k in (2, 5, 10):
        arguments = Experiment("training", "addition", 4, f"multi-m-{k}").arguments()
        options = train.commands["addition"].make_context("addition", arguments[1:]).params
        whole = Experiment("training", "addition", 4, "exact").recipe["epochs"]
        assert options["m_steps"] == k
        assert whole <= k * options["epochs"] < whole + k


@pytest.mark.parametrize("task", TASKS)
def test_recipes_of_publications_are_plain_and_train_what_ours_train(task):
    plan = TASKS[task].protocol
    for (method, size), recipe in plan.published.items():
        experiment = Experiment("training", task, size, method, published=True)
        options = train.commands[task].make_context(task, experiment.arguments()[1:]).params
        chosen = {name: options[name] for name in ("epochs", "batch", "lr", "plain")}
        assert chosen == {"epochs": recipe.epochs, "batch": recipe.batch, "lr": recipe.lr, "plain": True}
        assert Experiment("training", task, size, method).key != experiment.key


def test_long_experiments_have_two_seeds():
    for experiment in protocol("addition") + protocol("sudoku"):
        of_others = experiment.published or (experiment.kind == "training" and METHODS[experiment.method].rival)
        limit = 1 if of_others else 20
        assert experiment.kind == "e_step" or experiment.seed < 2 or estimate(experiment) <= limit
    assert any(one.seed == 4 and METHODS[one.method].rival for one in protocol("sudoku") if one.kind == "training")


def test_the_whole_protocol_takes_at_most_twelve_hours_of_one_core():
    assert sum(estimate(experiment) for task in TASKS for experiment in protocol(task)) <= 12 * 60


def test_the_committed_experiments_took_about_what_the_protocol_says():
    """Minutes by method and size: a machine that others use takes up to twice as long, seldom more."""
    recorded = {record["key"]: record for record in records.read(RESULTS, complete=True) if record["status"] == "done"}
    shares = [
        recorded[experiment.key]["cpu_minutes"] / estimate(experiment)
        for task in TASKS
        for experiment in protocol(task)
        if experiment.kind == "training" and experiment.key in recorded
    ]
    assert len(shares) > 400
    assert sum(0.5 < share < 2.2 for share in shares) > 0.97 * len(shares)


def test_the_whole_protocol_is_committed():
    whole = of([experiment for task in TASKS for experiment in protocol(task)], RESULTS.parent)
    assert [experiment.key for experiment in whole.remaining()] == []


def test_an_experiment_is_run_once_and_its_record_holds_accuracy_time_and_memory(tmp_path):
    record = only(ONE_DIGIT, tmp_path)
    assert record["status"] == "done", record
    assert record["key"] == ONE_DIGIT.key
    assert 0 <= record["figures"]["accuracy"] == record["figures"]["sum_accuracy"] <= 1
    assert record["epochs"] == record["epochs_planned"] == len(record["history"]) == 1
    assert record["minutes"] > 0
    assert record["seconds_m_per_epoch"] > record["seconds_e_per_epoch"] > 0
    assert record["peak_process_bytes"] > 0
    assert record["command"].startswith("python -m emnesy_gpu train addition")
    assert of([ONE_DIGIT], tmp_path).records() == [record]
    assert of([ONE_DIGIT], tmp_path).remaining() == []
    assert list(of([ONE_DIGIT], tmp_path).run()) == []


def test_e_steps_are_measured_side_by_side(tmp_path):
    ((_, records),) = of([Experiment("e_step", "addition", 2, batch=8)], tmp_path).run()
    assert [record["method"] for record in records] == ["exact", "torch", "bp-std"]
    for record in records:
        assert record["status"] == "done"
        assert record["seconds"] > 0
        assert record["deviation"] < 1e-4


def test_an_interrupted_run_continues_to_the_same_result(tmp_path):
    experiment = Experiment("training", "addition", 1, "exact", epochs=3, augment=False, data="digits")
    directory = RunDirectory(tmp_path / "two" / "runs" / experiment.key / "run", RunSettings)
    whole = only(experiment, tmp_path / "one")

    class Interrupting(Children):
        def run(self, *arguments):
            threading.Thread(target=self.interrupt, daemon=True).start()
            return super().run(*arguments)

        def interrupt(self):
            while not directory.metrics.exists():
                time.sleep(0.01)
            for child in list(self.alive):
                child.kill()

    killed = only(experiment, tmp_path / "two", children=Interrupting)
    assert killed["status"] == "out_of_memory"  # killed, and not by the campaign
    (tmp_path / "two" / "results.jsonl").unlink()
    epochs = len(directory.load_checkpoint()["history"])  # the kill may have come before the line of its last epoch
    record = only(experiment, tmp_path / "two")
    assert epochs > 0
    assert f"after {epochs} of 3 epochs" in (directory.path.parent / "log.txt").read_text()
    assert record["figures"] == whole["figures"]
    assert [point["loss"] for point in record["history"]] == [point["loss"] for point in whole["history"]]


def test_an_experiment_that_takes_too_long_is_a_time_out_and_not_run_again(tmp_path):
    record = only(ONE_DIGIT, tmp_path, minutes=0.01)
    assert record["status"] == "timeout"
    assert record["limit_minutes"] == 0.01
    assert of([ONE_DIGIT], tmp_path).remaining() == []


def test_a_failure_names_its_cause_and_is_run_again(tmp_path):
    experiment = Experiment("training", "addition", 100_000, "exact", epochs=1, data="digits")
    record = only(experiment, tmp_path)
    assert record["status"] == "failed"
    assert "needs 200000 images" in record["error"]
    assert of([experiment], tmp_path).remaining() == [experiment]


def test_a_net_that_diverged_is_a_result(tmp_path, monkeypatch):
    def diverge(experiment, job):
        raise DivergedError("diverged: in epoch 3")

    monkeypatch.setattr(worker, "train", diverge)
    (record,) = worker.run({"experiment": ONE_DIGIT.to_dict()})
    assert record == {"status": "diverged", "error": "diverged: in epoch 3"}
    campaign = of([ONE_DIGIT], tmp_path)
    records.append(campaign.results, [{**record, "key": ONE_DIGIT.key}])
    assert campaign.remaining() == []


def test_a_line_that_a_crash_cut_off_is_run_again(tmp_path):
    record = {"key": ONE_DIGIT.key, "status": "done"}
    campaign = of([ONE_DIGIT], tmp_path)
    campaign.results.write_text(json.dumps(record)[:-3])
    assert campaign.remaining() == [ONE_DIGIT]
    records.append(campaign.results, [record])
    assert campaign.records() == [record]
    assert campaign.remaining() == []


def test_the_dry_run_lists_experiments_and_runs_none(tmp_path, capsys):
    assert main(["reproduce", "addition", "--dry-run", "--out", str(tmp_path / "new")]) == 0
    text = capsys.readouterr().out
    assert "training-addition-100-bp-std-seed0" in text
    assert f"{len(protocol('addition'))} experiments left, 0 done" in text
    assert not (tmp_path / "new").exists()


def test_the_command_refuses_what_the_protocol_does_not_hold(capsys):
    assert main(["reproduce", "sudoku", "--size", "7"]) == 2
    assert "no experiment of the protocol" in capsys.readouterr().err
