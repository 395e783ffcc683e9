"""`sickbay demo` in a browser, as a newcomer uses it: from the alert to Approve to resolved; and Ctrl-C ends all of it."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.parts.chromium import Chromium
from tests.parts.programs import wait_until

pytestmark = pytest.mark.timeout(180)
PICTURE = os.environ.get("SICKBAY_PICTURE")
"""Where to put the README's picture, when it is to be taken anew."""


@contextmanager
def demo(log: Path) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """Run the demo as a child; gives it and its address."""
    with log.open("wb") as out:
        child = subprocess.Popen([sys.executable, "-m", "bot", "demo"], stdout=out, stderr=out)
    try:
        found: list[str] = []

        def told() -> bool:
            assert child.poll() is None, log.read_text()
            found.extend(re.findall(r"http://127\.0\.0\.1:\d+/\?token=\S+", log.read_text()))
            return bool(found)

        wait_until(told, "the demo to tell its address", seconds=15)
        yield child, found[0]
    finally:
        child.kill()
        child.wait()


def listening(group: set[int]) -> set[str]:
    """Return the local addresses (hex) on which these processes listen."""
    links = [
        str(link.readlink())
        for pid in group
        for link in Path(f"/proc/{pid}/fd").glob("*")
        if link.is_symlink()
    ]
    inodes = {link[8:-1] for link in links if link.startswith("socket:[")}
    rows = [
        line.split()
        for table in ("tcp", "tcp6")
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]
    ]
    return {row[1].split(":")[0] for row in rows if row[3] == "0A" and row[9] in inodes}


def family(pid: int) -> set[int]:
    """Return a process and all that descend from it."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return {pid}.union(*(family(int(child)) for child in children)) if children else {pid}


def say(page: Page, text: str) -> None:
    """Type a message into the channel and send it."""
    box = page.locator("#channel-composer [data-test=composer]")
    box.fill(text)
    box.press("Enter")


def test_a_newcomer_sees_the_incident_approves_and_watches_it_end_resolved(
    chromium: Chromium, tmp_path: Path
) -> None:
    with demo(tmp_path / "demo.log") as (child, url):
        page = chromium.page(url)
        root = page.locator("[data-test=message]", has_text="VLLMStalled").first
        expect(root).to_contain_text("gpu-03", timeout=15_000)
        for address in listening(family(child.pid)):
            assert address.endswith("7F"), f"listens beyond loopback: {address}"

        root.locator("[data-test=replies]").click(timeout=15_000)
        thread = page.locator("[data-test=thread]")
        approve = thread.locator("[data-action-id=approve]")
        expect(approve).to_be_visible(timeout=40_000)
        expect(thread).to_contain_text("no token in 10 s")
        expect(thread).to_contain_text("8 × H100 80GB HBM3, all healthy")
        expect(thread).to_contain_text("set server be_vllm/gpu-03 state drain")
        expect(thread.locator("[data-action-id=deny]")).to_be_visible()
        if PICTURE:
            page.mouse.move(700, 5)
            page.wait_for_timeout(4_000)
            page.screenshot(path=PICTURE)

        page.locator("[data-test=be-mallory]").click()
        approve.click()
        page.locator("[data-test=confirm-yes]").click()
        expect(page.locator("[data-test=ephemeral]").last).to_contain_text("mallory", timeout=10_000)
        page.locator("[data-test=be-alice]").click()
        approve.click()
        page.locator("[data-test=confirm-yes]").click()
        expect(thread).to_contain_text("Approved by alice", timeout=15_000)
        expect(approve).to_have_count(0)
        expect(root).to_contain_text("RESOLVED", timeout=60_000)
        expect(thread).to_contain_text("Back into traffic")
        page.screenshot(path=str(tmp_path / "resolved.png"))
        assert (tmp_path / "resolved.png").stat().st_size > 20_000

        say(page, "/sickbay help")
        expect(page.locator("[data-test=ephemeral]").last).to_contain_text("check HOSTS", timeout=10_000)
        say(page, "/sickbay hosts")
        expect(page.locator("[data-test=ephemeral]").last).to_contain_text("127.0.1.8", timeout=10_000)
        say(page, "/sickbay check gpu-03")
        checked = page.locator("[data-test=message]", has_text=re.compile("healthy.*gpu-check.*gpu-03"))
        expect(checked.first).to_be_visible(timeout=30_000)
        say(page, "/sickbay run gpu-check @serving")
        fleet = page.locator("[data-test=message]", has_text=re.compile(r"healthy.*gpu-check.*gpu-\[01-08\]"))
        expect(fleet.first).to_be_visible(timeout=30_000)

        processes = family(child.pid)
        child.send_signal(signal.SIGINT)
        assert child.wait(15) == 0
        deadline = time.monotonic() + 5
        while left := {pid for pid in processes if Path(f"/proc/{pid}").exists()}:
            assert time.monotonic() < deadline, f"Ctrl-C left processes behind: {left}"
            time.sleep(0.05)
    assert not chromium.refused, "the page asked another machine for something"
