"""How the grader judges answers about real images, and what the box finder and OCR find in them.

    python benchmarks/real_data.py --data DIR [--pairs 1000] [--seed 0] [--show 20] [--only boxes names] [--json FILE]

DIR holds what was fetched from the data sets' own sources; a figure whose files are missing is left out, and said so:

    DIR/grading/refocus_train_gpt4o_dev200.jsonl   final turns that ReFocus kept as right: id, question, gold, text
    DIR/grading/tablevqa_disagreements.json        lists of set, the benchmark's verdict, ..., question, gold, answer
    DIR/chartqa/ChartQA Dataset/test/*.json        ChartQA as in its repository
    DIR/tablevqa/data/*.parquet                    TableVQA-Bench as on the hub
    DIR/tabfact_rendered/questions.json            TabFact: gt is 0 or 1
    DIR/wtq_rendered/questions.json, *.cells.json  WikiTableQuestions: questions with gt, and the cells of tables
    DIR/{wtq,tabfact}_rendered/*.png, *.cells.json rendered tables beside their cells
    DIR/chartqa/ChartQA Dataset/test/png           ChartQA's pictures; their counts are in real_boxes.json
    DIR/refocus_small/chartqa_vcot/test.jsonl      ReFocus' annotations of charts beside its pictures: names of bars
    DIR/tablevqa/pictures                          pictures of tables; their counts are in real_boxes.json

A *false wrong* is a right answer that gets 0, a *false right* a wrong one that gets 1; what is right is said by the
people or the evaluator behind the data, or follows from how a pair of gold answer and answer was made.
"""

from __future__ import annotations

import argparse
import functools
import json
import random
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

# The file beside this one.
from real_boxes import Boxes, Names, find_charts, find_tables, read_names, table_of_boxes, table_of_names
from rich.console import Console
from rich.table import Table

from iapo.grading.extraction import extract_answer
from iapo.grading.outcome import grade


@dataclass
class Figure:
    """What the grader says of pairs of gold answers and answers.

    Attributes:
        name: The data set.
        rights: Number of pairs that are right.
        wrongs: Number of pairs that are wrong.
        false_wrongs: Right pairs that get 0.
        false_rights: Wrong pairs that get 1.
    """

    name: str
    rights: int = 0
    wrongs: int = 0
    false_wrongs: list[str] = field(default_factory=list)
    false_rights: list[str] = field(default_factory=list)

    def add(self, gold: list[str], text: str, grading: str, *, right: bool) -> None:
        """Grades one final turn."""
        score = grade(text, gold, grading)
        said = f"{' || '.join(gold)} / {score.answer}"
        if right:
            self.rights += 1
            self.false_wrongs += [said] if score.value == 0 else []
        else:
            self.wrongs += 1
            self.false_rights += [said] if score.value == 1 else []


def turn(answer: str) -> str:
    """Returns a final turn with an answer."""
    return f"FINAL ANSWER: {answer}. TERMINATE"


def number(text: str) -> float | None:
    """Returns a plain number, or None."""
    try:
        return float(text.replace(",", ""))
    except ValueError:
        return None


def differ(one: str, other: str) -> bool:
    """Tells whether two gold answers surely differ: also by more than a scale or a tenth, where they are numbers."""
    first, second = number(one), number(other)
    if first is None or second is None:
        return one.casefold() != other.casefold()
    if not (first and second):
        return first != second
    return all(abs(first / second / 10.0**power - 1) > 0.1 for power in range(-12, 13))


def refocus(data: Path, pairs: int, rng: random.Random) -> Iterator[Figure]:
    """Answers that were kept as right, and the same with the gold answers of other questions."""
    rows = [json.loads(line) for line in (data / "grading/refocus_train_gpt4o_dev200.jsonl").read_text().splitlines()]
    figure = Figure("ReFocus charts, GPT-4o")
    for row in rows:
        figure.add([row["gold"]], row["text"], "chart", right=True)
    for _ in range(pairs):
        row, other = rng.sample(rows, 2)
        if differ(row["gold"], other["gold"]):
            figure.add([other["gold"]], row["text"], "chart", right=False)
    yield figure


def chartqa(data: Path, pairs: int, rng: random.Random) -> Iterator[Figure]:
    """ChartQA's gold numbers with the scale and the unit of an axis, or with another number."""
    golds = [
        str(row["label"])
        for path in sorted((data / "chartqa/ChartQA Dataset/test").glob("test_*.json"))
        for row in json.loads(path.read_text())
    ]
    figure = Figure("ChartQA numbers, made")
    numbers = [gold for gold in golds if number(gold) is not None]
    for gold in numbers:
        for behind in ("", "%", " million", " billion U.S. dollars", " thousand metric tons"):
            figure.add([gold], turn(gold + behind), "chart", right=True)
            value = number(gold) or 0.0
            for wrong in (value * 1.2 + 1, -value - 1, value * 0.8 - 1, value * 2 + 3):
                figure.add([gold], turn(f"{wrong:.4f}".rstrip("0").rstrip(".") + behind), "chart", right=False)
    yield figure


def claims(data: Path, pairs: int, rng: random.Random) -> Iterator[Figure]:
    """Claims with True and False: as TableVQA-Bench's evaluator, the word must be in the answer, and the other not."""
    golds = [str(row["gt"]) for row in json.loads((data / "tabfact_rendered/questions.json").read_text())]
    for path in (data / "tablevqa/data").glob("vtabfact*.parquet"):
        golds += [str(gold) for gold in pq.read_table(path, columns=["gt"])["gt"].to_pylist()]
    figure = Figure("TabFact claims, made")
    for gold in golds:
        for said in ("True", "False"):
            right = (said == "True") == (gold == "1")
            for answer in (said, said.lower(), f"{said}, as the table shows", f"The statement is {said.lower()}"):
                figure.add([gold], turn(answer), "claim", right=right)
        figure.add([gold], turn("True or False"), "claim", right=False)
    yield figure


def tablevqa(data: Path, pairs: int, rng: random.Random) -> Iterator[Figure]:
    """Answers of GPT-4V with the verdict of TableVQA-Bench's evaluator, where an earlier grader differed."""
    gradings = {"vwtq": "exact", "vwtq_syn": "exact", "vtabfact": "claim", "fintabnetqa": "finance"}
    figures = {name: Figure(f"TableVQA-Bench {name}, disputed") for name in gradings}
    for name, verdict, _, _, gold, answer, *_ in json.loads((data / "grading/tablevqa_disagreements.json").read_text()):
        figures[name].add([str(gold)], turn(answer), gradings[name], right=bool(verdict))
    yield from figures.values()


def wtq(data: Path, pairs: int, rng: random.Random) -> Iterator[Figure]:
    """Cells and answers of WikiTableQuestions, changed as models change them, judged by `wtq_accepts`."""
    folder = data / "wtq_rendered"
    golds = [row["gt"].split("|") for row in json.loads((folder / "questions.json").read_text())]
    for path in sorted(folder.glob("*.cells.json")):
        cells = [cell[8].strip() for cell in json.loads(path.read_text())["cells"]]
        # A cell with nothing but a reference is no answer.
        golds += [[cell] for cell in cells if re.fullmatch(r"[^|\n\[][^|\n]{0,79}", cell)]
    golds += [rng.choice(golds) + rng.choice(golds) for _ in range(len(golds) // 4)]
    figure = Figure("WikiTableQuestions, made")
    while figure.rights + figure.wrongs < pairs:
        gold, other = rng.choice(golds), rng.choice(golds)
        text = f"FINAL ANSWER: {'||'.join(rng.choice(CHANGES)(gold, other, rng))} TERMINATE"
        # The evaluator is given what is found in the turn, without the sentence's full stop.
        figure.add(gold, text, "exact", right=wtq_accepts(gold, (extract_answer(text) or "").split("||")))
    yield figure


def each(change: Callable[[str], str]) -> Callable[[list[str], list[str], random.Random], list[str]]:
    """Returns a change of every item of a list."""
    return lambda gold, other, rng: [change(item) for item in gold]


def next_number(text: str) -> str:
    """Adds one to the first number of a text."""
    return re.sub(r"\d+", lambda found: str(int(found[0]) + 1), text, count=1) if re.search(r"\d", text) else text + "s"


CHANGES: list[Callable[[list[str], list[str], random.Random], list[str]]] = [
    each(str),
    each(str.lower),
    each(str.upper),
    each(lambda text: text + "."),
    each(lambda text: text + "[1]"),
    each(lambda text: text + "\u2020"),
    each(lambda text: f'"{text}"'),
    each(lambda text: text + " (note)"),
    each(lambda text: "".join(one for one in unicodedata.normalize("NFKD", text) if not unicodedata.combining(one))),
    each(lambda text: re.sub(r" \([^()]*\)$", "", text)),
    each(lambda text: text.replace("-", "\u2013")),
    each(lambda text: f"{text}.0" if text.isdigit() else text),
    each(lambda text: text.replace(" ", "  ")),
    each(next_number),
    each(lambda text: text.split()[0]),
    each(lambda text: text + " again"),
    each(lambda text: text[:-1] or "x"),
    lambda gold, other, rng: rng.sample(gold, len(gold)),
    lambda gold, other, rng: gold[:-1] or other,
    lambda gold, other, rng: gold + other,
    lambda gold, other, rng: gold + gold[:1],
    lambda gold, other, rng: other,
]


def wtq_accepts(gold: Iterable[str], answer: Iterable[str]) -> bool:
    """Judges as the evaluator of WikiTableQuestions does: two sets of one size, each gold item with an equal one.

    Items are equal as numbers, or as texts in lower case without diacritics, closing marks, citations, notes in
    brackets and quotation marks.
    """
    golds, answers = {wtq_item(item) for item in gold}, {wtq_item(item) for item in answer}
    return len(golds) == len(answers) and all(
        any(one[0] == other[0] or (one[1] is not None and one[1] == other[1]) for other in answers) for one in golds
    )


def wtq_item(text: str) -> tuple[str, float | None]:
    """Returns an item's spelling and its number."""
    read = number(re.sub(r"^\$|\b(\d{1,3}),(?=\d{3}\b)", r"\1", text))
    spelt = "".join(one for one in unicodedata.normalize("NFKD", text) if unicodedata.category(one) != "Mn")
    spelt = spelt.translate({**dict.fromkeys(map(ord, "\u2010\u2011\u2012\u2013\u2014\u2212"), "-"), 0x2019: "'"})
    before = ""
    while before != spelt:
        before = spelt
        spelt = re.sub(r"(?<=.)(\[[^\]]*\]|[\u2022\u2666\u2020\u2021*#+])$", "", spelt.strip())
        spelt = re.sub(r"(?<=.) \([^)]*\)$", "", spelt.strip())
        spelt = re.sub(r'^"([^"]*)"$', r"\1", spelt.strip())
    return " ".join(spelt.removesuffix(".").lower().split()), read


def boxes(data: Path, pairs: int, rng: random.Random) -> Iterator[Boxes]:
    """Boxes found in charts and tables."""
    yield from find_charts(data)
    yield from find_tables(data)


def names(data: Path, pairs: int, rng: random.Random) -> Iterator[Names]:
    """Names read at found boxes."""
    yield from read_names(data)


FIGURES: list[Callable[[Path, int, random.Random], Iterator[Figure | Boxes | Names]]] = [
    refocus,
    chartqa,
    claims,
    tablevqa,
    wtq,
    boxes,
    names,
]


def show(every: list[Figure | Boxes | Names], examples: int) -> None:
    """Prints the figures, and examples below."""
    console = Console(width=140)
    table = Table("pairs", "right", "false wrong", "wrong", "false right")
    figures = [one for one in every if isinstance(one, Figure)]
    for one in figures:
        missed, taken = len(one.false_wrongs), len(one.false_rights)
        share = functools.partial("{:.1%}".format)
        table.add_row(
            one.name,
            str(one.rights),
            f"{missed} ({share(missed / max(1, one.rights))})",
            str(one.wrongs),
            f"{taken} ({share(taken / max(1, one.wrongs))})",
        )
    said = [(one.name, "false wrong", one.false_wrongs) for one in figures]
    said += [(one.name, "false right", one.false_rights) for one in figures]
    if figures:
        console.print(table)
    found = [one for one in every if isinstance(one, Boxes)]
    if found:
        console.print(table_of_boxes(found))
        said += [(one.name, "in doubt", one.doubts) for one in found]
        said += [(one.name, "silently short", one.short) for one in found]
    read = [one for one in every if isinstance(one, Names)]
    if read:
        console.print(table_of_names(read))
        said += [(one.name, "read / written", one.wrong) for one in read]
    for name, what, texts in said:
        for text in texts[:examples]:
            console.print(f"{name}, {what}: {text}", markup=False, highlight=False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--pairs", type=int, default=1000, help="pairs that are made, where they are drawn")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--show", type=int, default=20, help="examples a figure and a kind of error")
    parser.add_argument("--only", nargs="+", choices=[make.__name__ for make in FIGURES], help="some figures alone")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    figures: list[Figure | Boxes | Names] = []
    for make in FIGURES:
        if arguments.only and make.__name__ not in arguments.only:
            continue
        try:
            figures += make(arguments.data, arguments.pairs, random.Random(arguments.seed))
        except FileNotFoundError as error:
            print(f"{make.__name__} is left out: {error.strerror}: {error.filename}")
    show(figures, arguments.show)
    if arguments.json is not None:
        written: dict[str, Any] = {one.name: vars(one) for one in figures}
        arguments.json.write_text(json.dumps(written, ensure_ascii=False, indent=1) + "\n")


if __name__ == "__main__":
    main()
