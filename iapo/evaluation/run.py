"""What `iapo evaluate` does: a policy on test sets, resumable, with intervals and a table."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from tqdm.auto import tqdm

from iapo.display.quiet import quiet_libraries
from iapo.endpoints.address import hide_credentials
from iapo.endpoints.chat import ChatEndpoint
from iapo.estimates import average
from iapo.evaluation.identity import check_folder, template_of
from iapo.evaluation.local import check_fit
from iapo.evaluation.measures import summarize_repeats, verdicts
from iapo.evaluation.plan import EvaluationPlan
from iapo.evaluation.progress import Batch, Done, has_rollouts
from iapo.evaluation.sets import ReadSet, keep_losses, read_sets
from iapo.evaluation.shortfalls import refuse_silence
from iapo.evaluation.solvers import Solver, endpoint_solver, local_solver
from iapo.evaluation.vllm_solver import vllm_solver
from iapo.kinds import checks_kinds
from iapo.locks import hold_folder
from iapo.records import Sample, Trace
from iapo.results import MANIFEST, SetMeasures, SetsEvaluation, defaults_left
from iapo.rollout.policy import load_policy
from iapo.runs import RunFolder, data_hash
from iapo.stopping import stoppable
from iapo.tools import offered_tools
from iapo.tools.failing import Failing
from iapo.tools.judges import check_judges


@checks_kinds
def evaluate_with_progress(plan: EvaluationPlan, out: Path) -> SetsEvaluation:
    """Runs `run_evaluation` with a progress bar on standard error, where that is a terminal."""
    # The size of a whole source is not known before it is read.
    with tqdm(total=len(plan.sets) * plan.source.count * plan.repeats or None, desc="rollouts", disable=None) as bar:
        return run_evaluation(plan, out, progress=bar.update)


@checks_kinds
def run_evaluation(
    plan: EvaluationPlan,
    out: Path,
    *,
    solver: Solver | None = None,
    progress: Callable[[int], None] = lambda done: None,
) -> SetsEvaluation:
    """Evaluates, or goes on with an evaluation that was stopped, and writes the run folder.

    The folder holds `manifest.json` (the plan and the whole prompt template), `traces.jsonl` (appended as rollouts
    end) and `evaluation.json`.
    A stopped evaluation that is run again ends with the same result as one that was never stopped.

    Args:
        plan: Plan of the evaluation.
        out: The run folder.
        solver: Gives the traces; made from the plan if None.
        progress: Callback, called with the number of new rollouts, also of those that were there already.

    Returns:
        What `evaluation.json` holds.

    Raises:
        InputError: If the folder holds something else, or another evaluation, or is in use; or if a rollout on a sample
            may not fit into what the model takes; or if every call of a tool fails (`iapo.tools.failing`).
        iapo.endpoints.chat.EndpointError: If the endpoint fails; the finished rollouts are kept. Or if all its answers
            are empty, which are not.
        iapo.stopping.Stopped: If the process was asked to stop; the finished rollouts are kept.
    """
    with stoppable(), hold_folder(out):
        return _run(plan, out, solver, progress)


def _run(plan: EvaluationPlan, out: Path, solver: Solver | None, progress: Callable[[int], None]) -> SetsEvaluation:
    sets = read_sets(plan.sets, plan.source, plan.data_damage)
    samples = {name: one.samples for name, one in sets.items()}
    hashes = {name: data_hash(some) for name, some in samples.items()}
    config, settings = check_folder(plan, hashes, out)
    solver = solver or _solver(plan, [sample for some in samples.values() for sample in some])
    folder = RunFolder(out)
    if not has_rollouts(out):
        seeds = {"data": plan.source.seed, "sampling": plan.generation.seed}
        left, again = {"evaluation": defaults_left(plan)}, (out / MANIFEST).exists()
        folder.write_manifest(config, seeds, hashes, defaults=left, again=again)
    keep_losses(folder, sets)
    batches = _batches(plan, samples)
    # Only an endpoint's batch can be half there; a local one is sampled as a whole.
    done = Done(folder, batches, settings, together=plan.endpoint is None)
    progress(len(done.traces))
    if plan.endpoint is not None:
        solver = refuse_silence(solver, plan.endpoint.name, done.traces.values())
    failing = Failing()
    for batch in batches:
        if not (missing := done.missing(batch)):
            continue
        # Copies, so that each is an object of its own: a trace tells by it which place it is for.
        rest = {place: dataclasses.replace(batch.samples[place - batch.start]) for place in missing}
        places = {id(sample): place for place, sample in rest.items()}
        for trace in solver(list(rest.values()), batch.seed):
            place = places.pop(id(trace.sample))
            done.add(place, trace)
            done.traces[place] = trace.without_edits()
            progress(1)
        assert not places, "a solver left samples out"
        # A batch counts as a step.
        failing.step(done.traces[place].result for place in missing)
    evaluation = _evaluation(plan, sets, hashes, done.finish())
    folder.write_evaluation(evaluation.to_json())
    return evaluation


def _batches(plan: EvaluationPlan, samples: Mapping[str, Sequence[Sample]]) -> list[Batch]:
    """Returns all rollouts in order: set by set, repeat by repeat; each batch has a seed of its own.

    A set's seeds do not depend on the other sets, so that sets can be evaluated together or apart.
    """
    size, start, batches = plan.generation.batch_size, 0, []
    for name, some in samples.items():
        for repeat in range(plan.repeats):
            for first in range(0, len(some), size):
                part = some[first : first + size]
                seed = np.random.SeedSequence([plan.generation.seed, repeat, first]).generate_state(1)[0]
                batches.append(Batch(start, part, int(seed), name, repeat))
                start += len(part)
    return batches


def _solver(plan: EvaluationPlan, samples: Sequence[Sample]) -> Solver:
    tools = offered_tools(plan.tools, plan.tool_timeout)
    check_judges(samples)
    if plan.endpoint is not None:
        turns = plan.generation.max_turns
        return endpoint_solver(ChatEndpoint(plan.endpoint), plan.concurrency, tools, template_of(plan), turns)
    if plan.vllm_memory is not None:
        with quiet_libraries():
            return vllm_solver(plan, samples, tools)
    with quiet_libraries():
        policy = load_policy(plan.model, plan.loading, prompt=plan.prompt)
    check_fit(policy, samples, plan.generation, tools)
    return local_solver(policy, plan.generation, tools)


def _evaluation(
    plan: EvaluationPlan, read: Mapping[str, ReadSet], hashes: Mapping[str, str], traces: Sequence[Trace]
) -> SetsEvaluation:
    sets: dict[str, SetMeasures] = {}
    start = 0
    for name, one in read.items():
        some, rows = one.samples, one.intake.to_json()
        repeats = [traces[start + index * len(some) :][: len(some)] for index in range(plan.repeats)]
        start += plan.repeats * len(some)
        outcomes = [[trace.scores["outcome"].value for trace in part] for part in repeats]
        measured = summarize_repeats(repeats)
        sets[name] = SetMeasures(len(some), hashes[name], measured, outcomes, rows, verdicts(repeats))
    settings = hide_credentials(dataclasses.asdict(plan))
    return SetsEvaluation(plan.model, settings, sets, average([one.outcomes for one in sets.values()]))
