"""What `iapo sft` takes beside TRL's own settings."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from iapo.bounds import check_numbers
from iapo.errors import InputError
from iapo.kinds import check_kinds
from iapo.rollout.template import find_prompt
from iapo.training.model_settings import StudentSettings


@dataclass
class SupervisedArguments(StudentSettings):
    """Settings of a supervised run beside those of the student; all others are those of TRL's `SFTConfig`.

    Args:
        model: The student: a packaged name, a folder or a hub id.
        transcripts: Files or folders of transcripts (`iapo.data.transcripts`), with commas between.
        transcripts_split: Split of folders that have several.
        keep: Which are learnt: `correct`, those whose final answer is graded right, or `all`.
        damage: A row without a usable transcript ends the run (`strict`), or is listed and left out (`quarantine`).
        held_out: Number of transcripts that are not learnt; their loss is measured (`eval_strategy`).
        resume: What a folder that holds a run of the same settings means: `auto` goes on with it, from its last whole
            checkpoint, or starts again where there is none; `never` refuses it.
        tools: Offered tools, as in `iapo train`.
        tool_timeout: Longest call of a tool, as in `iapo train`.
        prompt: Prompt template, as in `iapo train`.
        max_turns: Most turns, as in the training that follows: with more than 2 the observations of shorter transcripts
            are others, too.
        threads: Threads of torch; 0 leaves it to torch.
    """

    model: str = field(default="tiny-student", metadata={"help": "The student: packaged name, folder or hub id."})
    transcripts: str | None = field(default=None, metadata={"help": "Files or folders of transcripts; needed."})
    transcripts_split: str | None = field(default=None, metadata={"help": "Split of folders that have several."})
    keep: Literal["correct", "all"] = field(
        default="correct", metadata={"help": "Learn transcripts with a right answer, or all."}
    )
    damage: Literal["strict", "quarantine"] = field(
        default="strict", metadata={"help": "A damaged transcript ends the run, or is listed and left out."}
    )
    held_out: int = field(default=0, metadata={"help": "Transcripts kept back to measure the loss on."})
    resume: Literal["auto", "never"] = field(
        default="auto", metadata={"help": "Go on by itself with the run that the folder holds, or refuse it."}
    )
    tools: str | None = field(default=None, metadata={"help": "Offered tools, with commas; the six if not given."})
    tool_timeout: float | None = field(
        default=None, metadata={"help": "Longest call of a tool in seconds, in a process of its own; no limit."}
    )
    prompt: str | None = field(default=None, metadata={"help": "tools, tiny or a YAML file; the student's own."})
    max_turns: int = field(default=2, metadata={"help": "Most turns of a rollout, 2 to 8."})
    threads: int = field(default=0, metadata={"help": "Threads of torch; 0: torch's own choice."})

    def __post_init__(self) -> None:
        check_kinds(self)
        check_numbers(vars(self))
        self.check_student()
        if not self.transcripts:
            raise InputError("transcripts is not given; name files or folders of transcripts (docs/real-models.md)")
        if self.prompt is not None:
            find_prompt(self.prompt)
