"""Looks at the page of a real daemon in a real browser, as an operator would.

It is called with the path of Chromium, and prints a line for each thing that it has seen. It is a
process of its own because Playwright has its own event loop.
"""

from __future__ import annotations

import re
import socket
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import trustme
from playwright.sync_api import Page, expect, sync_playwright

from tests.net.child import CHECKOUT
from tests.net.servers import free_port
from tests.rigs.patience import PATIENCE

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
RUN = "from twisted.scripts.twistd import run; run()"


def serve(listening: socket.socket) -> None:
    while True:
        connection, _ = listening.accept()
        threading.Thread(target=echo, args=(connection,), daemon=True).start()


def echo(connection: socket.socket) -> None:
    with connection, suppress(ConnectionResetError):
        while data := connection.recv(4096):
            time.sleep(0.005)
            connection.sendall(data)


def load(port: int) -> None:
    while True:
        try:
            with socket.create_connection(("127.0.0.1", port), 5) as client:
                client.settimeout(5)
                client.sendall(b"x")
                client.recv(1)
        except OSError:
            time.sleep(0.1)


def start(config: Path, admin: int) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", RUN, "-n", "--pidfile=", "kolus", "--config", str(config)]
    with Path(f"{config}.log").open("ab") as log:
        child = subprocess.Popen(command, cwd=CHECKOUT, stdout=log, stderr=log)
    for _ in range(int(20 * PATIENCE)):
        try:
            socket.create_connection(("127.0.0.1", admin), 1).close()
        except OSError:
            assert child.poll() is None, Path(f"{config}.log").read_text()
            time.sleep(0.05)
        else:
            return child
    raise AssertionError("the daemon does not listen")


def look(page: Page, front: int, good: str, other: str, bad: str, restart: Any) -> None:
    def button(what: str, name: str) -> Any:
        return page.get_by_role("button", name=f"{what} {name}", exact=True)

    def row(name: str) -> Any:
        return page.locator("#groups tbody tr", has=page.get_by_role("rowheader", name=name))

    link, outcome = page.locator("#link"), page.locator("#outcome")
    expect(link).to_have_attribute("data-state", "live")
    expect(row(good).locator(".state")).to_have_text("open")
    expect(row(bad).locator(".state")).to_have_text("ejected")
    expect(page.locator("#events .ejected").first).to_contain_text(bad)
    expect(row(good).locator("td.number").nth(1)).to_have_text(re.compile(r"[1-9]"))
    expect(page.get_by_role("figure")).to_have_count(3)
    print("rows, rates, plots and events are live")

    expiring = page.locator("#certificates li")
    expect(expiring).to_have_text(
        re.compile(r"listener secure: the certificate in \S+/shop\.pem expires in 5\.\d days")
    )
    print("a certificate that is about to expire is told")

    button("eject", other).click()
    expect(outcome).to_contain_text("a token is needed")
    page.get_by_label("Token").fill("wrong")
    button("eject", other).click()
    expect(outcome).to_contain_text("not the token")
    page.get_by_label("Token").fill("right token")
    button("eject", other).click()
    expect(outcome).to_contain_text(f"{other}: ejected")
    expect(row(other).locator(".state")).to_have_text("ejected")
    expect(button("eject", other)).to_be_disabled()
    print("a backend is ejected with the token, and not without")

    button("admit", other).focus()
    page.keyboard.press("Enter")
    expect(row(other).locator(".state")).to_have_text("open")
    button("resize", good).focus()
    page.keyboard.press("Space")
    page.get_by_label("Most connections").fill("3")
    page.keyboard.press("Enter")
    expect(row(good).locator(".told")).to_contain_text("limit 3")
    bar = row(good).get_by_role("img").first
    expect(bar).to_have_attribute("aria-label", re.compile("leased.*idle.*limit 3"))
    print("the keyboard admits and resizes, and a bar says what it shows")

    staying = socket.create_connection(("127.0.0.1", front), PATIENCE)
    host, port = staying.getsockname()
    staying.sendall(b"x")
    assert staying.recv(1) == b"x"
    button("show clients of", "carts").focus()
    page.keyboard.press("Enter")
    dialog = page.get_by_role("dialog", name="Clients of carts")
    client = dialog.locator("tbody tr", has_text=f"{host}:{port}")
    expect(client).to_contain_text("served")
    client.get_by_role("button", name="close client").focus()
    page.keyboard.press("Enter")
    expect(dialog.get_by_role("status")).to_have_text(re.compile(r"client \d+ is closed"))
    with staying, suppress(ConnectionResetError):
        assert staying.recv(1) == b""
    expect(client).to_have_count(0)
    page.keyboard.press("Enter")
    expect(dialog).to_be_hidden()
    print("the keyboard closes one client, and the outcome is told")

    button("show clients of", "secure").click()
    dialog = page.get_by_role("dialog", name="Clients of secure")
    expect(dialog).to_contain_text("0 connected")
    for _ in range(25):
        assert dialog.locator("tbody tr").count() == 0
        page.wait_for_timeout(100)
    dialog.get_by_role("button", name="Done").click()
    print("the clients of a listener are not mixed with those that were shown before")

    page.set_viewport_size({"width": 360, "height": 740})
    deadline = time.monotonic() + PATIENCE
    while page.evaluate("document.documentElement.scrollWidth") > 360:
        assert time.monotonic() < deadline, "the page is wider than the phone"
        time.sleep(0.1)
    print("a phone shows it without scrolling sideways")

    grounds = set()
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        grounds.add(page.evaluate("getComputedStyle(document.body).backgroundColor"))
    assert len(grounds) == 2, f"light and dark are both {grounds}"
    print("it is dark for those who want it so")

    restart()
    expect(link).to_have_attribute("data-state", "live")
    expect(row(good).locator(".told")).to_contain_text("limit 8")
    print("it is true again after the daemon was restarted")


def main(chromium: str) -> None:
    listening = [socket.create_server(("127.0.0.1", 0), backlog=512) for _ in range(2)]
    for each in listening:
        threading.Thread(target=serve, args=(each,), daemon=True).start()
    ports = [each.getsockname()[1] for each in listening] + [free_port()]
    front, admin = free_port(), free_port()
    folder = Path(tempfile.mkdtemp())
    (folder / "token").write_text("right token\n")
    expires = datetime.now(UTC) + timedelta(days=5.1)
    certificate = trustme.CA().issue_cert("shop.test", not_after=expires)
    certificate.private_key_and_cert_chain_pem.write_to_path(folder / "shop.pem")
    names = [f"tcp:127.0.0.1:{port}" for port in ports]
    config = folder / "kolus.toml"
    config.write_text(
        f"""[groups.carts]
        backends = {names}
        limit = 8
        balance = "round_robin"
        [listeners.carts]
        listen = "tcp:{front}:interface=127.0.0.1"
        [listeners.secure]
        listen = "tcp:0:interface=127.0.0.1"
        tls = {{ certificates = "{folder}/shop.pem" }}
        [admin]
        listen = "tcp:{admin}:interface=127.0.0.1"
        token_file = "{folder}/token"
        """
    )
    child = start(config, admin)
    for _ in range(6):
        threading.Thread(target=load, args=(front,), daemon=True).start()

    def restart() -> None:
        nonlocal child
        child.kill()
        child.wait()
        expect(page.locator("#link")).to_have_attribute("data-state", "lost")
        child = start(config, admin)

    try:
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
            page = browser.new_page()
            said: list[str] = []
            page.on("pageerror", lambda error: said.append(str(error)))
            expect.set_options(timeout=PATIENCE * 1000)
            page.goto(f"http://127.0.0.1:{admin}/")
            look(page, front, *names, restart)
            assert said == [], said
            browser.close()
    finally:
        child.kill()
        child.wait()


if __name__ == "__main__":
    main(sys.argv[1])
