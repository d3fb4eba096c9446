"""`RunArguments`: what a training is about, beside what TRL's trainer is told; without torch."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from iapo.bounds import check_numbers
from iapo.data.synthetic.families import BAR_FAMILIES, find_family
from iapo.errors import InputError
from iapo.kinds import check_kinds
from iapo.rollout.template import find_prompt
from iapo.tools import offered_tools
from iapo.training.model_settings import StudentSettings


@dataclass
class RunArguments(StudentSettings):
    """What is trained on what, and how the result is measured; how the student is loaded, is `StudentSettings`.

    Args:
        model: The student: a packaged name, a folder or a hub id.
        families: Families of synthetic images (`iapo.data.synthetic.FAMILIES`), in equal shares.
        question_types: Question types; empty: all that each family has.
        picture_size: Longer side of the images in pixels.
        train_samples: Training charts.
        charts_seed: Charts seed of the training charts.
        data: Sources to train on instead of `families`, with commas between: a file, a folder, a hub id or what else
            docs/data.md names.
        data_split: Its split to train on.
        data_samples: Number of its samples, the first ones; 0 takes all.
        data_damage: Whether a damaged row ends the run (`strict`), or is listed in the run folder and left out
            (`quarantine`).
        eval_data: Sources that are evaluated on; `data` if not given.
        eval_split: Its split to evaluate on.
        eval_samples: Held-out charts, the same for every run of one `eval_seed`, or of `eval_data` the first ones; 0
            evaluates nothing.
        eval_seed: Eval seed of the held-out charts and of the sampling on them.
        eval_temperature: 0 is greedy.
        eval_greedy: Whether the policy is measured greedily, too, where the evaluation samples.
        eval_batch_size: Held-out rollouts generated at once.
        eval_traces: Number of held-out rollouts are kept before training, and of the same charts after it.
        eval_teacher: Teacher that the evaluation measures the divergence to; the training's if not given.
        case_study_steps: Make a point of the case study (docs/studies.md) every so many steps; 0 makes none, nor does
            a run that evaluates nothing (`eval_samples: 0`).
        case_study_samples: Number of clearly divisible held-out images it has.
        threads: Threads of torch; 0 leaves it to torch.
        resume: What a folder that holds a run of the same settings means: `auto` goes on with it, from its last whole
            checkpoint, or starts again where there is none; `never` refuses it.
        tools: Offered tools (docs/your-own.md): `FILE.py`, `FILE.py:NAME`, `package.module:NAME` or names of packaged
            ones, with commas between; the six standard ones if not given.
        tool_timeout: Longest call of a tool in seconds, in a process of its own; no limit, and in this process, if not
            given. The six standard ones have none.
        prompt: Prompt template (docs/prompts.md): `tools`, `tiny`, or a YAML file; the one that the student's
            checkpoint brings along, else `tools`, if not given.
    """

    model: str = field(default="tiny-student", metadata={"help": "The student: packaged name, folder or hub id."})
    families: list[str] = field(default_factory=lambda: list(BAR_FAMILIES), metadata={"help": "Families of images."})
    question_types: list[str] = field(default_factory=list, metadata={"help": "What is asked; empty: all."})
    picture_size: int = field(default=112, metadata={"help": "Longer side of the images in pixels."})
    train_samples: int = field(default=4096, metadata={"help": "Training charts."})
    charts_seed: int = field(default=0, metadata={"help": "Seed of the training charts."})
    data: str | None = field(default=None, metadata={"help": "Sources to train on (docs/data.md)."})
    data_split: str = field(default="train", metadata={"help": "Split of the data to train on."})
    data_samples: int = field(default=0, metadata={"help": "Samples of the data, the first ones; 0: all."})
    data_damage: Literal["strict", "quarantine"] = field(
        default="strict", metadata={"help": "A damaged row ends the run, or is listed and left out."}
    )
    eval_data: str | None = field(default=None, metadata={"help": "What is evaluated on; the training data's."})
    eval_split: str = field(default="test", metadata={"help": "Split of the data to evaluate on."})
    eval_samples: int = field(default=500, metadata={"help": "Held-out charts; 0: no evaluation."})
    eval_seed: int = field(default=0, metadata={"help": "Seed of the held-out charts and the sampling on them."})
    eval_temperature: float = field(default=1.0, metadata={"help": "0 is greedy."})
    eval_greedy: bool = field(default=False, metadata={"help": "Measure greedily, too, where the evaluation samples."})
    eval_batch_size: int = field(default=64, metadata={"help": "Held-out rollouts generated at once."})
    eval_traces: int = field(default=32, metadata={"help": "Held-out rollouts kept before and after training."})
    eval_teacher: str | None = field(default=None, metadata={"help": "Teacher of the measured divergence."})
    case_study_steps: int = field(default=0, metadata={"help": "Case study every so many steps; 0: none."})
    case_study_samples: int = field(default=256, metadata={"help": "Divisible images of the case study."})
    threads: int = field(default=0, metadata={"help": "Threads of torch; 0: torch's own choice."})
    resume: Literal["auto", "never"] = field(
        default="auto", metadata={"help": "Go on by itself with the run that the folder holds, or refuse it."}
    )
    tools: str | None = field(default=None, metadata={"help": "Offered tools, with commas; the six if not given."})
    tool_timeout: float | None = field(
        default=None, metadata={"help": "Longest call of a tool in seconds, in a process of its own; no limit."}
    )
    prompt: str | None = field(default=None, metadata={"help": "tools, tiny or a YAML file; the student's own."})

    def __post_init__(self) -> None:
        check_kinds(self)
        check_numbers(vars(self))
        self.check_student()
        if not self.families:
            raise InputError("families is empty; name at least one family of synthetic images")
        known = [one for family in self.families for one in find_family(family).question_types]
        for question in self.question_types:
            if question not in known:
                raise InputError(
                    f"question_types has {question!r}, which {', '.join(self.families)} do not know; "
                    f"use some of {', '.join(dict.fromkeys(known))}"
                )
        if self.data is None and self.data_samples:
            raise InputError(
                f"data_samples is {self.data_samples}, which counts rows of `data`, and none is given; set "
                "train_samples for synthetic images"
            )
        if not offered_tools(self.tools, self.tool_timeout):
            raise InputError("tools are none; a training needs one at least")
        if self.prompt is not None:
            find_prompt(self.prompt)
