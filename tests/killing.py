"""Commands killed, or out of space, at each of their file-system events; then the same command again.

`python tests/killing.py refine --kills 20` prints a table of what was tried (`make kills`: of all commands),
and ends with an error at the first fault. The processes are forked from one that has imported everything.

Events are what Python reports of changes (sys.addaudithook) and the writes of rasterio, in the scratch
folder. A process is killed just before an event; what lies between events, such as the writes of torch, is
met by kills at random moments.
"""

import argparse
import contextlib
import errno
import hashlib
import http.server
import io
import os
import random
import re
import shutil
import signal
import sys
import tarfile
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import rasterio.io

import resdepth.download
import resdepth.refinement.blocks
import resdepth.report.page
import resdepth.report.pictures
import resdepth.workflows.compare
import resdepth.workflows.evaluate
import resdepth.workflows.prepare
import resdepth.workflows.refine
import resdepth.workflows.simulate
import resdepth.workflows.test
import resdepth.workflows.train
from conftest import make_model, make_scene, write_published_run
from resdepth.cli import main
from resdepth.models.model import save_model

SEED = 0
AT_RANDOM = 0.25  # of all kills, at least: events are few
RASTER = "rasterio"
PATHS = {  # positions of path and dir_fd among the arguments of audit events
    "os.remove": (0, 1), "os.rmdir": (0, 1), "os.mkdir": (0, 2), "os.rename": (1, 3), "os.chmod": (0, 2),
    "os.truncate": (0, None), "os.symlink": (1, 2), "os.link": (1, 3), RASTER: (0, None),
}  # fmt: skip
TAKES_SPACE = {"open", "os.mkdir", "os.symlink", "os.link", RASTER}
Fault = Literal["kill", "full"]


@dataclass(frozen=True)
class Command:
    """What is run.

    Attributes:
        arguments: of the command line, given the folder of inputs and that of outputs.
        again: likewise of the command that a person gives after a kill; by default the same.
        timed: files, by a pattern, whose content or number depends on the clock: that they are there is all.
        renamed: a pattern of what depends on the clock in names.
    """

    arguments: Callable[[Path, Path], Sequence[Any]]
    again: Callable[[Path, Path], Sequence[Any]] | None = None
    timed: str = r"(?!)"
    renamed: str = r"(?!)"


def _resumed(inputs: Path, outputs: Path) -> Sequence[Any]:
    runs = [path for path in (outputs / "logs").glob("*") if not path.name.startswith(".")]
    return ["train", "--resume", runs[0]] if runs else ["train", inputs / "train.json"]


COMMANDS = {
    "refine": Command(
        lambda i, o: [
            "refine", i / "initial.tif", i / "ortho1.tif", i / "ortho2.tif", "-m", i / "model.safetensors",
            "-o", o / "refined.tif", "--force",
        ]
    ),
    "train": Command(
        lambda i, _: ["train", i / "train.json"],
        _resumed,
        timed=r"events\.out\.tfevents|run\.log",  # a resumed run adds to them
        renamed=r"\d{4}-\d\d-\d\d_\d\d-\d\d(_\d+)?|events\.out\.tfevents.*",
    ),
    "test": Command(lambda i, _: ["test", i / "test.json"]),
    "evaluate": Command(
        lambda i, o: [
            "evaluate", i / "ortho1.tif", "--initial", i / "initial.tif", "--reference", i / "reference.tif",
            "-o", o / "evaluated",
        ]
    ),
    "compare": Command(lambda i, o: ["compare", i / "a", i / "b", "-o", o / "compared.html"]),
    "simulate": Command(
        lambda i, o: [
            "simulate", "town", "-o", o / "scene", "--config", i / "simulate.json", "--workers", "0"
        ]
    ),
    "prepare": Command(
        lambda i, o: [
            "prepare", "--dsm", i / "initial.tif", "--image", i / "ortho1.tif", "--image", i / "ortho2.tif",
            "--reference", i / "reference.tif", "-o", o / "prepared", "--workers", "0",
        ]
    ),
    "download": Command(lambda _, o: ["download", "demo", "--to", o / "demo"]),
    "convert-model": Command(lambda i, o: ["convert-model", i / "run", "-o", o / "converted.safetensors"]),
}  # fmt: skip


@dataclass
class Counts:
    """What was tried of a command."""

    events: int = 0
    kills: int = 0
    at_random: int = 0
    full: int = 0
    seconds: float = 0.0

    def row(self, name: str) -> str:
        """As a row of the table."""
        cells = [name, self.events, self.kills, self.at_random, self.full, f"{self.seconds:.0f}"]
        return "| " + " | ".join(map(str, cells)) + " |"


HEAD = (
    "| command | events | killed at one | killed at random | disk full at one | seconds |\n"
    "| --- | --- | --- | --- | --- | --- |"
)


class FaultError(Exception):
    """A command did not do what is promised."""


@dataclass
class Place:
    """The folders of a trial, always of the same names: outputs may hold those of inputs."""

    root: Path
    found: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Make the inputs of all commands."""
        self.inputs, self.outputs = self.root / "inputs", self.root / "outputs"
        self.temporary, self.said = self.root / "tmp", self.root / "said.txt"
        for folder in (self.inputs, self.outputs, self.temporary):
            folder.mkdir()
        tempfile.tempdir = str(self.temporary)
        made = make_scene(self.inputs, 64, 160)
        model = make_model()
        save_model(model, self.inputs / "model.safetensors")
        write_published_run(self.inputs / "run", model)
        output = {"output_directory": f"{self.outputs}/logs", "tboard_log_dir": f"{self.outputs}/events"}
        made.write(made.train_config(output=output), "train.json")
        config = made.test_config(
            {"path": f"{self.inputs}/model.safetensors"}, output={"directory": f"{self.outputs}/results"}
        )
        made.write(config, "test.json")
        made.write({"town": {"size_px": 128}, "matching": {"pairs": 1}}, "simulate.json")

    def last_words(self) -> str:
        """What the last process said, in the end."""
        return self.said.read_text()[-2000:]

    def cleared(self) -> None:
        """Remove all outputs."""
        for folder in (self.outputs, self.temporary):
            shutil.rmtree(folder)
            folder.mkdir()

    def holds(self, command: Command) -> dict[str, str]:
        """The checksums of all files of outputs, and folders, by their names."""
        found = {}
        for folder in (self.outputs, self.temporary):
            for path in sorted(folder.rglob("*")):
                name = re.sub(command.renamed, "TIME", str(path.relative_to(self.root)))
                timed = path.is_dir() or re.search(command.timed, path.name)
                found[name] = "" if timed else _checksum(path)
        return found


def _checksum(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _checksums(folder: Path) -> dict[str, str]:
    return {str(path): _checksum(path) for path in sorted(folder.rglob("*")) if path.is_file()}


class Watch:
    """Counts file-system events in a folder; at one of them the process is killed, or the disk is full."""

    def __init__(self, root: Path, at: int = 0, fault: Fault = "kill") -> None:
        """Watch from now on; `at` is the number of the event, from 1."""
        self.root, self.at, self.fault, self.count = str(root), at, fault, 0
        self.lock = threading.RLock()
        sys.addaudithook(self)
        for name in ("write", "close", "build_overviews"):
            _announce(rasterio.io.DatasetWriter, name)

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        """As sys.addaudithook has it."""
        path = _changed_path(event, arguments)
        if path is None or not path.startswith(self.root):
            return
        with self.lock:
            self.count += 1
            if not self.at or self.count < self.at:
                return
            if self.fault == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            elif event in TAKES_SPACE:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)


def _changed_path(event: str, arguments: tuple[Any, ...]) -> str | None:
    """The path that an event changes; None if it changes none."""
    if event == "open":
        path, mode, flags = arguments
        changes = set("wax+") & set(mode or "") or (flags or 0) & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        return os.fsdecode(path) if changes and isinstance(path, str | bytes | os.PathLike) else None
    if event not in PATHS or not isinstance(arguments[PATHS[event][0]], str | bytes | os.PathLike):
        return None
    position, within = PATHS[event]
    path = os.fsdecode(arguments[position])
    if within is not None and arguments[within] >= 0:
        path = os.path.join(os.readlink(f"/proc/self/fd/{arguments[within]}"), path)  # noqa: PTH115, PTH118
    return path


def _announce(kind: type, name: str) -> None:
    method = getattr(kind, name)

    def announced(dataset: Any, *args: Any, **kwargs: Any) -> Any:
        path = dataset.name
        sys.audit(RASTER, path)
        done = method(dataset, *args, **kwargs)
        sys.audit(RASTER, path)
        return done

    setattr(kind, name, announced)


def run(
    place: Place,
    arguments: Sequence[Any],
    *,
    at: int = 0,
    fault: Fault = "kill",
    after: float | None = None,
) -> tuple[int, int]:
    """Run a command in a process of its own, which is killed `after` seconds if it still runs.

    Returns:
        Its exit code, negative if it was killed, and the number of events of a process that ended.
    """
    counted = place.root / "count"
    child = os.fork()
    if not child:
        code = 1
        try:
            said = os.open(place.said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(said, 1)
            os.dup2(said, 2)
            watch = Watch(place.root, at, fault)
            main.main(args=[str(one) for one in arguments], prog_name="resdepth")
        except SystemExit as stop:
            code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
            counted.write_text(str(watch.count))
        except BaseException:  # noqa: BLE001 - of whatever kind
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    if after is not None:
        time.sleep(after)
        os.kill(child, signal.SIGKILL)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return code, int(counted.read_text()) if code >= 0 else 0


@dataclass
class Trial:
    """A command, tried again and again; what is not as promised raises FaultError."""

    place: Place
    name: str

    def __post_init__(self) -> None:
        """Run it undisturbed."""
        self.command, self.began, self.counts = COMMANDS[self.name], time.monotonic(), Counts()
        self.arguments = self.command.arguments(self.place.inputs, self.place.outputs)
        self.place.cleared()
        self.inputs = _checksums(self.place.inputs)
        code, self.counts.events = run(self.place, self.arguments)
        self.undisturbed_s = time.monotonic() - self.began
        if code:
            raise FaultError(f"{self.name}: undisturbed, exit code {code}: {self.place.last_words()}")
        self.expected = self.place.holds(self.command)

    def kill(self, what: str, **when: Any) -> int:
        """Kill it, and give it again; 0 if it ended before, or all but ended."""
        self.place.cleared()
        if run(self.place, self.arguments, **when)[0] != -signal.SIGKILL:
            return 0
        if self.place.holds(self.command) == self.expected:
            return 0  # it had done all; whether it may be given again is a matter of overwriting
        self._repeat(f"{self.name}, killed {what}")
        return 1

    def fill(self, event: int) -> int:
        """Let the disk be full from an event on, and give it again with space."""
        self.place.cleared()
        code, _ = run(self.place, self.arguments, at=event, fault="full")
        what, said = f"{self.name}, disk full at event {event}", self.place.said.read_text()
        named = str(self.place.root) in said and os.strerror(errno.ENOSPC) in said
        said_by_us = said.partition("Exception in thread")[0]  # TensorBoard has a thread that shows its own
        if code not in {0, 2} or "Traceback" in said_by_us or (code == 2 and not named):
            raise FaultError(f"{what}: exit code {code}: {self.place.last_words()}")
        for path in self.place.outputs.rglob("*.tif"):
            if not any(part.startswith(".") for part in path.relative_to(self.place.root).parts):
                with rasterio.open(path) as raster:
                    raster.read()
        if code:
            self._repeat(what)
        else:
            self._compare(what, complete=False)  # training does without TensorBoard's events
        return 1

    def _repeat(self, what: str) -> None:
        again = self.command.again or self.command.arguments
        code, _ = run(self.place, again(self.place.inputs, self.place.outputs))
        if code:
            raise FaultError(f"{what}; again: exit code {code}: {self.place.last_words()}")
        self._compare(what)

    def _compare(self, what: str, *, complete: bool = True) -> None:
        expected, found = self.expected, self.place.holds(self.command)
        left, missing = sorted(found.keys() - expected), sorted(expected.keys() - found)
        other = [name for name in found if name in expected and found[name] != expected[name]]
        if left or other or (missing and complete):
            raise FaultError(f"{what}; after it: left {left}, missing {missing}, other content {other}")
        if _checksums(self.place.inputs) != self.inputs:
            raise FaultError(f"{what}: an input has changed")


def tried(place: Place, name: str, kills: int, full: int) -> Counts:
    """Try a command with so many kills and full disks, spread evenly over its events.

    Raises:
        FaultError: the first thing that is not as promised.
    """
    trial, chance = Trial(place, name), random.Random(SEED)
    counts = trial.counts
    for event in spread(counts.events, kills - int(kills * AT_RANDOM)):
        counts.kills += trial.kill(f"at event {event} of {counts.events}", at=event)
    for _ in range(4 * kills):  # a command may end before its moment: that counts for nothing
        if counts.kills + counts.at_random >= kills:
            break
        moment = chance.uniform(0, trial.undisturbed_s)
        counts.at_random += trial.kill(f"after {moment:.3f} s", after=moment)
    for event in spread(counts.events, full):
        counts.full += trial.fill(event)
    counts.seconds = time.monotonic() - trial.began
    return counts


def spread(events: int, count: int) -> list[int]:
    """So many numbers from 1 to `events`, evenly; all if there are no more."""
    return sorted({1 + int((index + 0.5) * events / count) for index in range(count)})


@contextlib.contextmanager
def archive_served() -> Iterator[None]:
    """A server on this computer from which `download` fetches."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for number in range(6):
            entry = tarfile.TarInfo(f"demo/file{number}")
            entry.size = 100_000
            tar.addfile(entry, io.BytesIO(bytes(entry.size)))

    class Handler(http.server.BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(packed.getvalue())))
            self.send_header("ETag", '"one"')
            self.end_headers()
            with contextlib.suppress(OSError):  # the other side may be dead
                self.wfile.write(packed.getvalue())

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    defaults = resdepth.download.download.__kwdefaults__
    defaults["base_url"] = f"http://127.0.0.1:{server.server_port}/"
    yield
    server.shutdown()


def try_all(wanted: dict[str, tuple[int, int]]) -> None:
    """Try commands with so many kills and full disks, and print the table."""
    resdepth.refinement.blocks._block_area = lambda refiner: 64**2
    with tempfile.TemporaryDirectory() as root, archive_served():
        place = Place(Path(root))
        if "compare" in wanted:
            for name in ("a", "b"):
                evaluated = [
                    "evaluate",
                    place.inputs / "initial.tif",
                    "--reference",
                    place.inputs / "reference.tif",
                ]
                code, _ = run(place, [*evaluated, "-o", place.inputs / name])
                assert code == 0, place.said.read_text()
        print(HEAD, flush=True)
        for name, (kills, full) in wanted.items():
            print(tried(place, name, kills, full).row(name), flush=True)


def _asked() -> dict[str, tuple[int, int]]:
    parser = argparse.ArgumentParser(description="Kill commands, and fill the disk, at file-system events.")
    parser.add_argument(
        "commands", nargs="*", metavar="COMMAND", help=f"of {', '.join(COMMANDS)}; default: all"
    )
    parser.add_argument("--kills", type=int, help="default: 200 of train and refine, 40 of others")
    parser.add_argument("--full", type=int, default=40, help="full disks, of each command; default: 40")
    asked = parser.parse_args()
    usual = {name: 200 if name in {"train", "refine"} else 40 for name in COMMANDS}
    return {
        name: (usual[name] if asked.kills is None else asked.kills, asked.full)
        for name in asked.commands or COMMANDS
    }


if __name__ == "__main__":
    os.environ.setdefault("SOURCE_DATE_EPOCH", "1700000000")  # pages state the day, and midnight may come
    try:
        try_all(_asked())
    except FaultError as fault:
        sys.exit(f"FAULT: {fault}")
