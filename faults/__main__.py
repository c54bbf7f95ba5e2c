"""``python -m faults``: load, faults, healing, the final log, the verdict. See ``--help`` and docs/reliability.md."""

from __future__ import annotations

import argparse
import asyncio
import random
import shlex
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import msgspec
import structlog

from a2a_events.errors import LogError
from a2a_events.services import event_loop, logs
from faults import sabotage
from faults.counters import counters
from faults.log_dump import dump
from faults.nemesis import schedule, swizzle
from faults.scenarios import SCENARIOS
from faults.site import Site

REST_SECONDS = 60.0
"""How long tasks get to come to rest after the last fault."""
NOTIFIED_SECONDS = 90.0
"""How long webhooks get after that. Waiting for a silent notifier's records, and for the last attempts, is in it."""

logger = structlog.get_logger(__name__)


def arguments() -> argparse.ArgumentParser:
    """What can be asked for."""
    parser = argparse.ArgumentParser(prog="python -m faults", description=__doc__, allow_abbrev=False)
    parser.add_argument("--seed", default="", help="of everything that is random here; default: a new one")
    parser.add_argument("--minutes", type=float, default=0.0, help="longest time for the load; 0: until all is done")
    parser.add_argument("--tasks", type=int, default=300)
    parser.add_argument("--clients", type=int, default=24, help="that do one task after the other")
    parser.add_argument("--subscribers", type=int, default=3, help="of each task")
    parser.add_argument(
        "--scenario", action="append", default=[], metavar="NAME[,NAME…]",
        help="faults, one after the other, in place of random ones; 'none' for no faults; --list names all",
    )  # fmt: skip
    parser.add_argument(
        "--times", type=int, default=0, help="to go through the scenarios, then end; 0: until the load ends"
    )
    parser.add_argument("--pause", type=float, default=3.0, help="seconds between two of them")
    parser.add_argument("--pace", type=float, default=1.0, help="random faults: times as long between two")
    parser.add_argument("--without", action="append", default=[], metavar="NAME", help="random faults: not this one")
    parser.add_argument("--servers", type=int, choices=(1, 3), default=3)
    parser.add_argument("--gateways", type=int, default=3)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--notifiers", type=int, default=2)
    parser.add_argument("--webhooks", type=float, default=0.2, help="share of tasks that have one")
    parser.add_argument("--ack-wait", type=float, default=5.0, help="seconds after which a silent turn is taken over")
    parser.add_argument(
        "--disks", action="store_true", help="a disk of its own for each server (root): fill, cut power"
    )
    parser.add_argument("--idempotent", action="store_true", help="repeat sends of unknown fate under the same key")
    parser.add_argument("--sabotage", choices=("", *sabotage.KINDS), default="", help="switch a safety off")
    parser.add_argument("--folder", type=Path, default=None, help="for what the run leaves; default: a temporary one")
    parser.add_argument("--keep", action="store_true", help="keep a temporary folder even if nothing was found")
    parser.add_argument("--list", action="store_true", help="list the scenarios and end")
    return parser


def names(asked: list[str]) -> list[str]:
    """The scenarios that were asked for.

    Raises:
        SystemExit: there is no such one.
    """
    found = [name for one in asked for name in one.split(",") if name and name != "none"]
    for name in found:
        if name not in SCENARIOS:
            raise SystemExit(f"no scenario {name!r}; --list shows all")
    return found


async def break_things(site: Site, options: argparse.Namespace) -> None:
    """Faults until the load has begun its last task, or the time is over."""
    stop = asyncio.Event()
    ending = asyncio.get_running_loop().create_task(_ends(site, options, stop))
    try:
        if options.scenario:
            asked = names(options.scenario)
            if asked:
                await schedule(site, asked, stop, pause_seconds=options.pause, times=options.times)
                if options.times:
                    return
        else:
            chosen = [n for n, s in SCENARIOS.items() if s.at_random and n not in options.without]
            await swizzle(site, chosen, stop, pace=options.pace)
        await ending
    finally:
        ending.cancel()


async def _ends(site: Site, options: argparse.Namespace, stop: asyncio.Event) -> None:
    deadline = time.monotonic() + options.minutes * 60 if options.minutes else float("inf")
    reported = time.monotonic()
    while time.monotonic() < deadline and site.progress.get("begun", 0) < options.tasks:
        assert site.load is not None
        if site.load.poll() is not None:
            raise RuntimeError(f"the load ended: see {site.folder / 'load.log'}")
        await asyncio.sleep(0.2)
        if time.monotonic() - reported > 15:
            reported = time.monotonic()
            logger.info("under way", tasks=site.progress.get("ended", 0), faults=sum(site.bitten.values()))
    stop.set()


async def judge(folder: Path) -> tuple[int, dict[str, Any]]:
    """The checker's verdict, from a process of its own: its memory goes with it."""
    command = [sys.executable, "-m", "faults.checker", str(folder)]
    process = await asyncio.create_subprocess_exec(*command)
    code = await process.wait()
    result = folder / "result.json"
    return code, msgspec.json.decode(result.read_bytes()) if result.exists() else {}


async def go(options: argparse.Namespace, folder: Path) -> int:
    """One run; the exit code."""
    began = time.monotonic()
    facts = {"commit": _commit(), "command": command(options), "sabotage": options.sabotage}
    site = Site(
        folder,
        options.seed,
        servers=options.servers,
        gateways=options.gateways,
        workers=options.workers,
        notifiers=options.notifiers,
        ack_wait_seconds=options.ack_wait,
        broken=options.sabotage,
        own_disks=options.disks,
        facts=facts,
    )
    async with site:
        logger.info("all up", seconds=round(time.monotonic() - began, 1), disks=site.no_disks or "one a server")
        before = await site.resources()
        await site.start_load(
            tasks=options.tasks,
            clients=options.clients,
            subscribers=options.subscribers,
            idempotent=options.idempotent,
            webhooks=options.webhooks,
        )
        await break_things(site, options)
        logger.info("faults over", begun=site.progress.get("begun"), faults=sum(site.bitten.values()))
        healed = await site.heal()
        stopped = await site.order("stop", "stopped")
        rested = await site.order("rest", "rested", seconds=REST_SECONDS)
        notified = await site.notified(NOTIFIED_SECONDS)
        logger.info("at rest", healed_seconds=round(healed, 1), unfinished=len(rested["left"]), notified=notified)
        final = await site.order("final", "final")
        await site.order("end")
        assert site.load is not None
        await asyncio.to_thread(site.load.wait)
        try:
            await dump(await site.cluster.connection(), site.names, "main", 1, folder)
        except LogError as error:
            logger.error("the final log cannot be read", error=str(error))
        await site.rested(before)
        site.busy.update(service.name for service in site.services)
        codes = {service.name: await service.stop() for service in site.services}
    logger.info("stopped", codes=codes, seconds=round(time.monotonic() - began, 1))
    code, verdict = await judge(folder)
    report(site, options, folder, {**stopped, "final": final["counts"]}, rested["left"], verdict, notified=notified)
    return code


def report(  # noqa: PLR0917 -- one caller
    site: Site,
    options: argparse.Namespace,
    folder: Path,
    told: dict[str, Any],
    left: list[str],
    verdict: dict[str, Any],
    *,
    notified: bool,
) -> None:
    """Print what happened."""
    seen = counters(folder)
    print(f"\nseed {options.seed}: {told['tasks']} tasks known, {told['ended']} lives")
    print("load: " + _counted(told["counts"]))
    if told["final"] != told["counts"]:
        print("final: " + _counted(Counter(told["final"]) - Counter(told["counts"])))
    print("seen: " + _counted({**seen, **site.counts}))
    print(f"faults: {sum(site.bitten.values())} of {len(site.bitten)} kinds bit")
    for name, number in sorted(site.bitten.items()):
        missed = f", {site.missed[name]} did not bite" if site.missed[name] else ""
        print(f"  {SCENARIOS[name].number} {name}: {number}{missed}")
    for name, number in sorted(site.missed.items()):
        if name not in site.bitten:
            print(f"  {SCENARIOS[name].number} {name}: {number} did not bite")
    for name, why in sorted(site.skipped.items()):
        if name not in site.bitten:
            print(f"  {SCENARIOS[name].number} {name}: skipped: {why}")
    print(f"in use: {', '.join(f'{who} {number}' for who, number in sorted(site.in_use.items()))}")
    for error in site.late:
        print(f"  late: {error}")
    if left:
        print(f"not at rest {REST_SECONDS:g} s after healing: {' '.join(left[:10])}")
    if not notified:
        print(f"webhooks are not at rest {NOTIFIED_SECONDS:g} s after the tasks")
    print(f"violations: {len(verdict.get('violations', ()))}" if verdict else "no verdict")
    print(f"again: {command(options)}")
    print(f"all of it is in {folder}")


def command(options: argparse.Namespace) -> str:
    """The command that does the same again."""
    parser = arguments()
    words = ["python", "-m", "faults"]
    for action in parser._actions:  # noqa: SLF001 -- there is no other way to ask
        if action.dest in {"help", "list", "folder", "keep"}:
            continue
        value = getattr(options, action.dest)
        if value == action.default:
            continue
        for one in value if isinstance(value, list) else [value]:
            words += [action.option_strings[-1]] if value is True else [action.option_strings[-1], str(one)]
    return shlex.join(words)


def _counted(counts: dict[str, int] | Counter[str]) -> str:
    return ", ".join(f"{name} {number}" for name, number in sorted(counts.items())) or "nothing"


def _commit() -> str:
    command = ["git", "rev-parse", "--short", "HEAD"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip()


def main(given: list[str] | None = None) -> int:
    """Entry point."""
    options = arguments().parse_args(given)
    if options.list:
        for name, one in SCENARIOS.items():
            print(f"{one.number}  {name:24} {one.says}")
        return 0
    logs.configure("info")
    options.seed = options.seed or f"{random.getrandbits(32):08x}"
    folder = options.folder or Path(tempfile.mkdtemp(prefix="a2a-events-faults-"))
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        print(f"{folder} is not empty: a run needs a folder of its own", file=sys.stderr)
        return 2
    codes: list[int] = []

    async def work() -> None:
        codes.append(await go(options, folder))

    event_loop.run(work())
    return codes[0] if codes else 1


if __name__ == "__main__":
    sys.exit(main())
