"""`IAPOConfig`: TRL's `GRPOConfig` and what IAPO adds to it."""

from __future__ import annotations

import importlib.util
import warnings
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from trl import GRPOConfig

from iapo.attribution.forms import check_form, form_values, usual_form
from iapo.attribution.methods import chosen_method
from iapo.attribution.settings import alignment_settings
from iapo.bounds import check_numbers
from iapo.display.quiet import RENAMED
from iapo.endpoints.address import check_asked, hide_credentials
from iapo.errors import InputError
from iapo.kinds import check_kinds
from iapo.results import defaults_left
from iapo.rewards.alignment import OWN_CALL
from iapo.rewards.presets import check_verifier, find_reward
from iapo.training.model_settings import FrozenModelSettings
from iapo.training.precision import check_precision, usual_bf16
from iapo.training.rehearsal import refused_values
from iapo.training.trl_settings import check_trl

TRACKERS = frozenset({"tensorboard", "wandb", "trackio"})
"""What `iapo.training.trackers` can report to; each is also the name of its package."""


@dataclass
class IAPOConfig(GRPOConfig, FrozenModelSettings):
    """Settings of `IAPOTrainer`; everything that is named neither here nor in `FrozenModelSettings` is TRL's.

    Args:
        reward: Reward by name, or `FILE.py:NAME` or `package.module:NAME` of your own; docs/rewards.md has the table.
            `penalty_weight` is 0 for rewards without the penalty.
        component_weights: Weights of components by name (`outcome` among them), instead of the preset's.
        distill_weight: First weight of the teacher's mean log-probability in `distill` and `iapo+distill`; it decays as
            the penalty does.
        token_distill_weight: First weight of the teacher in each written token's advantage, `w (log p_teacher - log
            p_student)`: on-policy distillation by token, whatever the reward is; it decays as the penalty does, and 0
            asks nobody. docs/rewards.md.
        verifier: Model that scores calls for `trm`: a packaged name, a folder or a hub id, or with `verifier_url` the
            name of an endpoint's model, or `rules` (`iapo.rewards.rule_verifier`), which needs no model.
        verifier_url: Base URL of the verifier's OpenAI-compatible endpoint.
        judge_model: Model that is asked about answers that the rules call wrong; None asks nobody. docs/grading.md.
        judge_url: Base URL of the judge's OpenAI-compatible endpoint; None is OpenAI's.
        judge_key: Environment variable that holds the key of judge and verifier.
        judge_on_error: Reaction when judge or verifier do not answer: `wait`, `stop`, or for the judge `rules`.
        judge_timeout: Seconds for one request.
        judge_retries: Number of times a failed request is sent again.
        judge_concurrency: Requests at a time.
        judge_cache: File that keeps verdicts and scores; None keeps them in memory.
        judge_served_as: Name by which the judge's answers call the model, where that is not `judge_model`.
        verifier_served_as: The same of the verifier at `verifier_url`.
        teacher: Checkpoint of the frozen teacher: a packaged name, a folder or a hub id. None is plain GRPO.
        teacher_reference: Call the teacher explains: the student's own (`student_call`), or the teacher's own greedy
            call to the same prompt (`own_call`), which does not depend on the student; `both` is the mean of the two
            divergences. None is the form's.
        teacher_table: File that `iapo teacher attribute` wrote, with the teacher's own calls to the training samples;
            then no teacher is loaded, and `teacher_reference` is `own_call`.
        teacher_shards: Whether each of several processes keeps a part of a live teacher alone, and all of it only while
            calls are attributed.
        penalty_weight: `lambda_0`, the first weight of the divergence in the reward; 0 is plain GRPO.
        penalty_decay: Decay of the weight per optimiser step, `lambda_k = lambda_0 exp(-decay k)`.
        penalty_scope: Scope of the teacher's components: they count in the advantage of all tokens (`rollout`), of
            those of the first turn and further ones that call (`turn_1`), or of the calls' (`call`).
        attribution_form: Bundle of the settings from here to `attribution_blocks`, and of `teacher_reference`, by name
            (docs/forms.md); each of them that is given wins over it. None is `name_odds`, or the paper's where one of
            them is given, or the student's own call has to be explained.
        attribution_target: Explain the program's tokens (`call`), the whole turn (`turn`), or the tokens that
            name the called tools (`name`). None is the form's.
        attribution_score: Score of a token that is explained: `log_prob`, `logit` (minus the mean logit), `log_odds`,
            or `contrast` (against the other offered tools' names, where they part). None is the form's.
        attribution_normalization: Rule by which block scores become shares: `magnitude`, `softmax`, `floored`, or
            `signed`, whose divergence is half an L1 distance. None is the form's.
        attribution_temperature: Divisor of the scores under `softmax`. None is the form's.
        attribution_floor: Addend of each block's magnitude under `floored`. None is the form's.
        attribution_blocks: Blocks that are compared, the others left out: `all`, `tools`, `tools+image` or
            `tools+image+question`. None is the form's.
        attribution_image_cells: Number of cells along each side of an image, each a block of its own, so that it
            counts where in it a call looks; 1 is the whole image. None is the form's.
        alignment_control: Control experiment (docs/forms.md): what takes the place of the student's explanation
            (`student_uniform`, `student_named`, `student_same_tools`, `student_shuffled`), of the teacher's
            (`teacher_shuffled`), of the teacher (`teacher_random`), or of the divergence (`entropy` of the teacher's).
        alignment_control_seed: Seed of what it draws; None is the run's.
        attribution_eps: Weight of the uniform distribution in it.
        attribution_method: Method of the attribution: `gradient` (x embedding), `integrated` (along a path) or
            `occlusion`, `attention`, or `FILE.py:NAME` of your own; None is the gradient, or with several steps the
            integrated path.
        attribution_steps: Points of the integrated path; 1 is no path.
        no_call_divergence: Divergence of a rollout without an attribution; None is the worst value, `log m`.
        attribution_batch_size: Most calls that are attributed together.
        attribution_tokens: Most tokens of prompts and calls in one graph of the attribution; a longer sequence runs
            alone. None is half of what the device's free memory holds. It changes no result.
        always_measure: Measure the divergence also where its weight is 0, to log it; it changes nothing else.
        share_prefix: Run each prompt, call, edited image and answer that rows of a batch share once in generation,
            log-probabilities and loss; same gradient. Where model or set-up do not allow it, TRL's pass runs.
        max_turns: Most turns of a rollout, 2 (the paper's) to 8; all but the last may call tools. More than 2 need a
            prompt that is worded for it (`tools-turns`, `free`), and a teacher that explains the student's calls.
        max_turn_tokens: Longest turn in tokens; None leaves it to `max_completion_length`, the most that the model
            writes over all turns. The observations between them count towards neither.
        max_sequence_length: Longest sequence in tokens: prompt, turns, and the observations with the edited images;
            None is what the model takes. A rollout whose observation does not fit is left out of the loss.
        max_prompt_length: Longest prompt in tokens, the image's among them; None sets no limit of its own.
        long_prompts: Reaction to a training sample whose prompt is longer, or whose rollout may not fit into a
            sequence: `refuse` the data, or `drop` the sample, which is counted and said.
        dynamic_sampling: Draw groups of rollouts whose rewards are all equal anew, with other prompts, at most so many
            times a batch; 0 never does (docs/groups.md).
        dynamic_sampling_by: What is equal: the whole `reward`, or the `outcome`, without the preset's components.
        logging_steps: Log numbers, and print a line, every n-th step, as means over the steps between; TRL has 10.
        bf16: Whether steps compute in bfloat16; yes on accelerators if not given.
        trace_every: Save the rollouts of every n-th step to the run folder; 0 saves none.
        traces_per_step: Number of them.
        on_nonfinite: Reaction to a loss, reward, log-probability, attribution or gradient that is NaN or infinite:
            `stop` the training before the step is taken, or `skip` the step. Both keep the evidence in `nonfinite/`
            (docs/resuming.md).
        report_traces: Number of the same steps' rollouts are shown, images and all, in the trackers of `report_to`; 0
            shows none. docs/logging.md.
    """

    _VALID_DICT_FIELDS: ClassVar[list[str]] = [*GRPOConfig._VALID_DICT_FIELDS, "component_weights"]

    reward: str = field(default="iapo", metadata={"help": "Reward by name, or FILE.py:NAME of your own."})
    component_weights: dict[str, Any] | str | None = field(
        default=None, metadata={"help": "Weights of reward components by name."}
    )
    distill_weight: float = field(default=0.1, metadata={"help": "Weight of the teacher's log-probability."})
    token_distill_weight: float = field(
        default=0.0, metadata={"help": "Weight of the teacher's view of each written token; 0: none."}
    )
    verifier: str | None = field(
        default=None, metadata={"help": "Model that scores calls for the reward trm, or rules."}
    )
    verifier_url: str | None = field(default=None, metadata={"help": "Endpoint of the verifier; None: a local model."})
    judge_model: str | None = field(default=None, metadata={"help": "Asked about answers that rules call wrong."})
    judge_url: str | None = field(default=None, metadata={"help": "Endpoint of the judge; None: OpenAI's."})
    judge_key: str = field(default="OPENAI_API_KEY", metadata={"help": "Variable that holds the endpoint's key."})
    judge_on_error: Literal["wait", "stop", "rules"] = field(
        default="stop", metadata={"help": "When the endpoint does not answer: wait, stop, or trust the rules."}
    )
    judge_timeout: float = field(default=60.0, metadata={"help": "Seconds for one request."})
    judge_retries: int = field(default=4, metadata={"help": "How often a failed request is sent again."})
    judge_concurrency: int = field(default=8, metadata={"help": "Requests at a time."})
    judge_cache: str | None = field(default=None, metadata={"help": "File that keeps verdicts and scores."})
    judge_served_as: str | None = field(
        default=None, metadata={"help": "Model that the judge's answers name; None: judge_model."}
    )
    verifier_served_as: str | None = field(
        default=None, metadata={"help": "Model that the verifier's answers name; None: verifier."}
    )
    teacher: str | None = field(default=None, metadata={"help": "Frozen teacher: packaged name, folder or hub id."})
    teacher_reference: Literal["student_call", "own_call", "both"] | None = field(
        default=None, metadata={"help": "Which call the teacher explains: the student's, or its own; None: the form's."}
    )
    teacher_table: str | None = field(
        default=None, metadata={"help": "Stored own calls of the teacher, instead of loading it."}
    )
    teacher_shards: bool = field(
        default=False, metadata={"help": "Keep a part of the teacher in each process, whole in attributions."}
    )
    penalty_weight: float = field(default=0.1, metadata={"help": "lambda_0, the divergence's weight; 0 is GRPO."})
    penalty_decay: float = field(default=0.01, metadata={"help": "Decay of the weight per optimiser step."})
    penalty_scope: Literal["rollout", "turn_1", "call"] = field(
        default="rollout", metadata={"help": "Tokens that the teacher's components speak of."}
    )
    attribution_form: Literal["paper", "softmax", "logit_floor", "name_odds", "name_signed", "name_contrast"] | None = (
        field(default=None, metadata={"help": "Bundle of the settings that follow; None: name_odds where it can be."})
    )
    attribution_target: Literal["call", "turn", "name"] | None = field(
        default=None, metadata={"help": "What is explained; None: the form's."}
    )
    attribution_score: Literal["log_prob", "logit", "log_odds", "contrast"] | None = field(
        default=None, metadata={"help": "Which score of it; None: the form's."}
    )
    attribution_normalization: Literal["magnitude", "softmax", "floored", "signed"] | None = field(
        default=None, metadata={"help": "How block scores become shares; None: the form's."}
    )
    attribution_temperature: float | None = field(
        default=None, metadata={"help": "Divisor of the scores under softmax; None: the form's."}
    )
    attribution_floor: float | None = field(
        default=None, metadata={"help": "Addend of each magnitude under floored; None: the form's."}
    )
    attribution_blocks: Literal["all", "tools", "tools+image", "tools+image+question"] | None = field(
        default=None, metadata={"help": "Which blocks are compared; None: the form's."}
    )
    attribution_image_cells: int | None = field(
        default=None, metadata={"help": "Cells along each side of an image, a block each; None: the form's."}
    )
    attribution_eps: float = field(default=0.01, metadata={"help": "Weight of the uniform distribution."})
    attribution_method: str | None = field(
        default=None,
        metadata={"help": "gradient, integrated, occlusion, attention or FILE.py:NAME; None: by the steps."},
    )
    attribution_steps: int = field(default=1, metadata={"help": "Points of the integrated path; 1: gradient only."})
    alignment_control: Literal[
        "none",
        "student_uniform",
        "student_named",
        "student_same_tools",
        "student_shuffled",
        "teacher_shuffled",
        "teacher_random",
        "entropy",
    ] = field(default="none", metadata={"help": "Control experiment on the divergence."})
    alignment_control_seed: int | None = field(
        default=None, metadata={"help": "Seed of what the control draws; None: the run's."}
    )
    no_call_divergence: float | None = field(default=None, metadata={"help": "Without an attribution; None: log m."})
    attribution_batch_size: int = field(default=32, metadata={"help": "Most calls attributed together."})
    attribution_tokens: int | None = field(
        default=None, metadata={"help": "Most tokens in one graph of the attribution; None: by the free memory."}
    )
    always_measure: bool = field(default=False, metadata={"help": "Log the divergence also at weight 0."})
    share_prefix: bool = field(default=True, metadata={"help": "Run what rows share once; same gradient."})
    max_turns: int = field(default=2, metadata={"help": "Most turns of a rollout, 2 to 8; 2 is the paper's."})
    max_turn_tokens: int | None = field(default=None, metadata={"help": "Longest turn in tokens."})
    max_sequence_length: int | None = field(
        default=None, metadata={"help": "Longest sequence in tokens, images and all; None: what the model takes."}
    )
    max_prompt_length: int | None = field(default=None, metadata={"help": "Longest prompt in tokens, image and all."})
    long_prompts: Literal["refuse", "drop"] = field(
        default="refuse", metadata={"help": "Training samples that are too long: refuse the data, or drop them."}
    )
    dynamic_sampling: int = field(
        default=0, metadata={"help": "Draw groups with equal rewards anew, at most so many times; 0: never."}
    )
    dynamic_sampling_by: Literal["reward", "outcome"] = field(
        default="reward", metadata={"help": "What is equal then: the whole reward, or the outcome."}
    )
    logging_steps: float = field(default=1, metadata={"help": "Log numbers every n-th step, as means."})
    bf16: bool | None = field(default=None, metadata={"help": "Compute in bfloat16; None: on accelerators."})
    trace_every: int = field(default=10, metadata={"help": "Save rollouts of every n-th step; 0: none."})
    traces_per_step: int = field(default=16, metadata={"help": "How many rollouts are saved then."})
    on_nonfinite: Literal["stop", "skip"] = field(
        default="stop", metadata={"help": "When a number is NaN or infinite: stop, or skip the step."}
    )
    report_traces: int = field(default=4, metadata={"help": "How many of them trackers show with images; 0: none."})

    def __post_init__(self) -> None:
        check_kinds(self)
        # Before anything is completed or derived; no field, so that it is no setting itself.
        self.defaults_left = defaults_left(self)
        check_numbers(vars(self))
        find_reward(self.reward)
        check_trl(vars(self))
        self.check_frozen()
        self.bf16 = usual_bf16(self.bf16, self.fp16, self.use_cpu)
        check_precision(self.bf16, self.fp16)
        with warnings.catch_warnings(), refused_values():
            warnings.filterwarnings("ignore", RENAMED, FutureWarning)
            super().__post_init__()
        for tracker in TRACKERS.intersection(self.report_to or ()):
            if importlib.util.find_spec(tracker) is None:
                raise InputError(
                    f"report_to is {tracker!r}, which is not installed; `pip install {tracker}`, or all trackers by "
                    "`pip install iapo[logging]`"
                )
        check_asked(vars(self))
        if self.attribution_form is None:
            student_call = self.distills or self.token_distill_weight > 0 or self.max_turns > 2
            self.attribution_form = usual_form(vars(self), explains_student=student_call)  # type: ignore[assignment]
        check_form(vars(self))
        for name, value in form_values(vars(self)).items():
            setattr(self, name, value)
        if self.teacher_table is not None:
            # A table cannot know the calls that the student will make.
            self.teacher_reference = "own_call"
        uses = find_reward(self.reward).uses
        if "divergences" not in uses:
            self.penalty_weight = 0.0
        check_verifier(self)
        chosen_method(alignment_settings(self))
        if (self.distills or self.token_distill_weight) and self.teacher_reference == "own_call":
            asking = f"reward {self.reward!r}" if self.distills else "token_distill_weight"
            raise InputError(
                f"{asking} needs the teacher's view of the student's own call; "
                "set teacher_reference to student_call and no teacher_table"
            )
        if self.teacher_shards and self.token_distill_weight > 0:
            raise InputError(
                "teacher_shards is true and token_distill_weight above 0, which asks the teacher in the loss, too; "
                "leave out one of them"
            )
        if self.teacher_shards and (self.teacher_load_in_4bit or self.teacher_load_in_8bit or self.teacher_device_map):
            raise InputError(
                "teacher_shards is true, but the teacher is quantised or placed by teacher_device_map, and stays where "
                "it is; leave out one of them"
            )
        if not isinstance(self.component_weights, dict | None):
            raise InputError(f"component_weights is {self.component_weights!r}; it takes a mapping, name: weight")
        for component, weight in (self.component_weights or {}).items():
            if isinstance(weight, bool) or not isinstance(weight, int | float):
                raise InputError(f"component_weights has {weight!r} for {component!r}; it takes a number")
        if self.max_turns > 2 and self.teacher_reference != "student_call" and (self.measures or self.distills):
            raise InputError(OWN_CALL)

    def to_dict(self) -> dict[str, Any]:
        """Returns the settings as they are written and sent to trackers, without the passwords in addresses."""
        found: dict[str, Any] = hide_credentials(super().to_dict())
        return found

    def traces_at(self, step: int) -> int:
        """Returns how many of an optimiser step's rollouts are saved, the first ones; steps count from 1."""
        return self.traces_per_step if self.trace_every and (step - 1) % self.trace_every == 0 else 0

    @property
    def measures(self) -> bool:
        """Whether training measures the divergence, in the reward or for the log alone."""
        return self.penalty_weight > 0 or self.always_measure

    @property
    def asks_teacher(self) -> bool:
        """Whether training needs a teacher."""
        return self.measures or self.distills or self.token_distill_weight > 0

    @property
    def distills(self) -> bool:
        """Whether the teacher's log-probability of the call is rewarded."""
        return "log_probs" in find_reward(self.reward).uses
