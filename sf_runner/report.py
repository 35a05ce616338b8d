"""`python -m sf_runner.report RUN...`: results per configuration over seeds, as tables, learning curves and a page."""

from __future__ import annotations

import os
import shlex
import sys
import tempfile
import time
from argparse import Namespace
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from sf_runner.basics.errors import StorageError, UsageError, did_you_mean
from sf_runner.basics.paths import RunPaths, find_run
from sf_runner.cli.errors import run_command
from sf_runner.cli.parser import Parser, whole
from sf_runner.describe.naming import safe_name

if TYPE_CHECKING:
    from sf_runner.describe.thresholds import Threshold
    from sf_runner.results.analysis import Analysis, AnalysisOptions
    from sf_runner.results.experiments import Experiment

FORMATS = ("md", "csv", "parquet", "png", "pdf", "html")
_DEFAULT_FORMATS = ("md", "csv", "parquet", "png", "html")
_TELL_AFTER_S = 2.0


def main(argv: Sequence[str] | None = None) -> int:
    """The command; `argv` without the program's name, by default the process's. Returns the exit code."""
    return run_command(_report, argv)


def _parser() -> Parser:
    what = "Results of runs per configuration, over seeds: a table, learning curves and a page."
    parser = Parser("sf_runner.report", "RUN...", what)
    parser.add_argument("runs", metavar="RUN", nargs="+", help="name or folder of a run; several are compared")
    parser.add_argument("--train_dir", default="./train_dir", help="where runs are (default: ./train_dir)")
    parser.add_argument(
        "--metric", action="append", default=[], metavar="NAME[,NAME]",
        help="what to report, e.g. reward or train/kl (default: the true reward, or what comes closest)",
    )  # fmt: skip
    parser.add_argument(
        "--group_by", metavar="NAME[,NAME]",
        help="parameters, or run, experiment; all others are averaged over (default: everything but the seed)",
    )  # fmt: skip
    parser.add_argument(
        "--value", default="last", choices=("last", "tail", "best", "mean"),
        help="of an experiment: its last value (default), the mean of its last tenth, its best, its mean",
    )  # fmt: skip
    parser.add_argument(
        "--include", default="finished", choices=("finished", "all"),
        help="count experiments that succeeded (default; others where none has), or all that have values",
    )  # fmt: skip
    parser.add_argument(
        "--threshold", action="append", default=[], metavar="[NAME[@METRIC]=]VALUE",
        help="what counts as learned, e.g. 475, cartpole*=475 or battle@kills=10: tells how many reach it, and when "
        "(default: what the run description says)",
    )  # fmt: skip
    parser.add_argument("--x", default="step", choices=("step", "time"), help="of learning curves (default: step)")
    parser.flag(parser, "--policy", whole(0), "of several policies (default: the best)", metavar="N")
    direction = parser.add_mutually_exclusive_group()
    direction.add_argument("--minimize", action="store_true", help="less is better (default: by the metric's name)")
    direction.add_argument("--maximize", action="store_true", help="more is better")
    parser.flag(parser, "--seed", whole(0), "of the bootstrap (default: 0)", default=0, metavar="N")
    parser.add_argument("--out", metavar="DIR", help="where files go (default: the run's folder, in report/)")
    parser.add_argument(
        "--format", metavar="LIST", help=f"of {', '.join(FORMATS)} (default: {', '.join(_DEFAULT_FORMATS)})"
    )
    parser.switch(parser, "--print_only", "print the tables, write no files")
    return parser


def _report(argv: Sequence[str]) -> int:
    options = _parser().parse_strictly(argv)
    formats = _formats(options.format)
    # Numpy and the like cost a tenth of a second: not before the arguments are known to be good.
    from sf_runner.results.markdown import markdown

    analysis = make_report(
        options.runs,
        Path(options.train_dir),
        metrics=[name.strip() for text in options.metric for name in text.split(",") if name.strip()],
        minimize=True if options.minimize else (False if options.maximize else None),
        options=_analysis_options(options),
        progress=_progress_on_terminal(),
    )
    print(markdown(analysis), end="", flush=True)
    if not options.print_only:
        out = Path(options.out) if options.out else _default_folder(options.runs, Path(options.train_dir))
        made = f"Made on {time.strftime('%Y-%m-%d %H:%M')} with: python -m sf_runner.report {shlex.join(argv)}"
        written, left_out = write_files(analysis, out, formats, made=made, strict=options.format is not None)
        print(f"\nwritten to {out}: {', '.join(written)}")
        for line in left_out:
            print(f"note: {line}", file=sys.stderr)
    return 0


def _formats(text: str | None) -> tuple[str, ...]:
    formats = tuple(part.strip() for part in text.split(",") if part.strip()) if text is not None else _DEFAULT_FORMATS
    unknown = [name for name in formats if name not in FORMATS]
    if unknown or not formats:
        name = unknown[0] if unknown else ""
        raise UsageError(f"--format={name} is unknown.{did_you_mean(name, FORMATS)}")
    return formats


def _analysis_options(options: Namespace) -> AnalysisOptions:
    from sf_runner.results.analysis import AnalysisOptions
    from sf_runner.results.thresholds import parse_threshold

    group_by = None
    if options.group_by is not None:
        group_by = tuple(name.strip().removeprefix("--") for name in options.group_by.split(",") if name.strip())
    return AnalysisOptions(
        group_by=group_by,
        value=options.value,
        include=options.include,
        x=options.x,
        policy=options.policy,
        seed=options.seed,
        thresholds=tuple(parse_threshold(text) for text in options.threshold),
    )


def make_report(
    runs: Sequence[str],
    train_dir: Path,
    *,
    metrics: Sequence[str] = (),
    minimize: bool | None = None,
    options: AnalysisOptions | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Analysis:
    """Read runs and aggregate their results.

    metrics: names as people say them; empty: the main one, and those that thresholds name. minimize: whether less is
        better; None: as names suggest.
    progress: called with how much of the reading is done, and how much there is.

    Raises UsageError: no such run, metric or parameter; StorageError: a journal that cannot be read.
    """
    from sf_runner.results.analysis import AnalysisOptions, analyse
    from sf_runner.results.metrics import choose_with
    from sf_runner.results.population import populations_of
    from sf_runner.results.sources import available_names, read
    from sf_runner.results.thresholds import check_thresholds, metrics_of
    from sf_runner.results.told_tables import told_tables

    options = options or AnalysisOptions()
    read_runs = [_experiments(run, train_dir) for run in dict.fromkeys(runs)]
    experiments = [experiment for found, _ in read_runs for experiment in found]
    check_thresholds(options.thresholds, experiments)
    thresholds = (*(threshold for _, described in read_runs for threshold in described), *options.thresholds)
    named = () if metrics else metrics_of(thresholds)
    started = [experiment for experiment in experiments if experiment.attempts]
    total = 2 * len(started)
    available = available_names(
        [experiment.paths for experiment in started], [*metrics, *named], progress=lambda done: progress(done, total)
    )
    chosen = choose_with(metrics, named, available, minimize=minimize)
    recorded = {}
    for number, experiment in enumerate(started, 1):
        recorded[experiment.run, experiment.job_id] = read(experiment.paths, chosen, available)
        progress(len(started) + number, total)
    title = " + ".join(dict.fromkeys(experiment.run for experiment in experiments))
    analysis = analyse(title, experiments, chosen, recorded, replace(options, thresholds=thresholds))
    tables = tuple(told_tables(started, options.policy))
    return replace(analysis, populations=tuple(populations_of(started)), tables=tables)


def _experiments(run: str, train_dir: Path) -> tuple[list[Experiment], list[Threshold]]:
    """Of one run, with the thresholds of its description."""
    from sf_runner.describe.thresholds import thresholds_of
    from sf_runner.engine.snapshot import read_run
    from sf_runner.results.experiments import experiments_of
    from sf_runner.results.folders import experiments_in

    try:
        paths = find_run(run, train_dir)
    except UsageError:
        folder = next((place for place in (train_dir / run, Path(run)) if run and place.is_dir()), None)
        found = experiments_in(folder, folder.resolve().name) if folder is not None else []
        if not found:
            raise
        return found, []
    snapshot = read_run(paths)
    now = time.time() if snapshot.live else snapshot.state.last_event_at
    experiments = experiments_of(snapshot.state, paths, now=now)
    if not experiments:
        raise UsageError(f"run '{paths.run_name}' has no experiments yet")
    opened = snapshot.state.opened
    return experiments, thresholds_of(dict(opened.thresholds)) if opened is not None else []


def _default_folder(runs: Sequence[str], train_dir: Path) -> Path:
    """A run's own folder; for several runs one beside them."""
    if len(set(runs)) > 1:
        return train_dir / "report"
    try:
        return find_run(runs[0], train_dir).report_dir
    except UsageError:  # a folder that no runner made
        folder = train_dir / runs[0] if (train_dir / runs[0]).is_dir() else Path(runs[0])
        return RunPaths(train_dir=folder.parent, run_name=folder.name).report_dir


# ---- files ---------------------------------------------------------------------------------------------------


def write_files(
    analysis: Analysis, out: Path, formats: Sequence[str], *, made: str, strict: bool
) -> tuple[list[str], list[str]]:
    """Write the report into the folder `out`, all of it or nothing. What was written, and what was left out and why.

    strict: a format whose library is missing is an error instead of left out.
    Raises UsageError (such a format) and StorageError.
    """
    left_out = []
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".new_", dir=out) as folder:
            for wanted in formats:
                try:
                    _write(analysis, Path(folder), wanted, made)
                except UsageError as exc:
                    if strict:
                        raise
                    left_out.append(str(exc).replace("--format=", ""))
            written = sorted(entry.name for entry in Path(folder).iterdir())
            for name in written:
                os.replace(Path(folder, name), out / name)  # noqa: PTH105
    except OSError as exc:
        raise StorageError(f"cannot write the report to {out}: {exc.strerror or exc}; choose another --out") from exc
    return written, left_out


def _write(analysis: Analysis, folder: Path, wanted: str, made: str) -> None:
    from sf_runner.results import tables
    from sf_runner.results.markdown import markdown
    from sf_runner.results.page import page

    if wanted == "md":
        (folder / "report.md").write_text(markdown(analysis), encoding="utf-8", errors="backslashreplace")
    elif wanted == "html":
        (folder / "report.html").write_text(page(analysis, made=made), encoding="utf-8", errors="backslashreplace")
    elif wanted in ("csv", "parquet"):
        write = tables.write_csv if wanted == "csv" else tables.write_parquet
        for name, records in tables.all_tables(analysis):
            write(folder / f"{name}.{wanted}", records)
    else:
        _write_images(analysis, folder, wanted)


def _write_images(analysis: Analysis, folder: Path, wanted: str) -> None:
    from sf_runner.results.images import write_image
    from sf_runner.results.plot_data import arrival_plots_of, plots_of
    from sf_runner.results.population_image import write_population_image
    from sf_runner.results.population_plot import picture_of

    for metric in analysis.metrics:
        name = f"{safe_name(metric.metric.name.replace('/', '.'))}.{wanted}"
        for kind, plots in (("curves", plots_of(metric, analysis)), ("reached", arrival_plots_of(metric, analysis))):
            if plots:
                write_image(folder / f"{kind}_{name}", plots)
    several = len({population.experiment.run for population in analysis.populations}) > 1
    for population in analysis.populations:
        experiment = population.experiment
        name = safe_name(f"{experiment.run}.{experiment.name}" if several else experiment.name)
        write_population_image(folder / f"population_{name}.{wanted}", picture_of(population))


def _progress_on_terminal() -> Callable[[int, int], None]:
    """Shows on a terminal how far reading is, once it takes long."""
    begin = time.monotonic()

    def tell(done: int, total: int) -> None:
        if sys.stderr.isatty() and time.monotonic() - begin > _TELL_AFTER_S:
            end = "\n" if done == total else "\r"
            print(f"reading: {100 * done // max(total, 1)} %", end=end, file=sys.stderr, flush=True)

    return tell


if __name__ == "__main__":
    sys.exit(main())
