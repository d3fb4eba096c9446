"""Has a teacher explain its own call to every sample of a training, once: what `iapo teacher attribute` stores."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from iapo.attribution.settings import AttributionSettings
from iapo.records import Sample
from iapo.rollout.budget import Budget, check_lengths, context_length
from iapo.rollout.policy import Policy
from iapo.rollout.template import PromptTemplate
from iapo.samples import sample_list
from iapo.teachers.fingerprint import fingerprint
from iapo.teachers.journal import Journal
from iapo.teachers.references import OwnCall
from iapo.teachers.table import TeacherRow, TeacherTable, view_of
from iapo.tools import TOOLS, ToolDefinition


def attribute_samples(
    teacher: Policy,
    samples: Iterable[Sample],
    settings: AttributionSettings,
    tools: Mapping[str, ToolDefinition] = TOOLS,
    progress: Callable[[int], None] = lambda done: None,
    template: PromptTemplate | None = None,
    out: Path | None = None,
) -> TeacherTable:
    """Has a teacher explain its own call to every sample.

    Args:
        teacher: The teacher.
        samples: The samples.
        settings: Settings of the attribution, and the limit of the teacher's turn.
        tools: The offered tools.
        progress: Callback, called with the number of new samples done.
        template: Template of the prompts, that of the student that is to be trained; the teacher's own if None.
        out: File that the table is written to; asking that was stopped goes on from the journal beside it. Nothing is
            written if None.

    Raises:
        InputError: If two different samples have one source and id, a prompt and the turn may be longer than what the
            teacher takes, or the journal is of something else.
    """
    samples = sample_list(samples)
    own = OwnCall(teacher, settings, tools, template=template)
    context = context_length(teacher.model.config)
    limits = Budget(settings.max_turn_tokens, sequence=context)
    check_lengths(samples, own.encoder, limits, context, tools, first=True)
    asked = {"name": own.template.name, "digest": own.template.digest}
    made_by, view = fingerprint(teacher.model, teacher.processor), view_of(teacher.processor)
    journal = None
    if out is not None:
        sizes = {"batch_size": settings.batch_size, "max_turn_tokens": settings.max_turn_tokens}
        alike = TeacherTable.of([], made_by, settings, asked, view).settings
        journal = Journal(out, {"teacher": made_by, "settings": alike, "limits": sizes})
    rows: list[TeacherRow] = []
    for start in range(0, len(samples), settings.batch_size):
        some = samples[start : start + settings.batch_size]
        known = None if journal is None else journal.take(own.names(some))
        if known is not None:
            own.remember(known)
        else:
            known = own.explain(some)
            if journal is not None:
                journal.add(known)
        rows += known
        progress(len(some))
    table = TeacherTable.of(rows, made_by, settings, asked, view)
    if out is not None and journal is not None:
        table.write(out)
        journal.close()
    return table
