"""Somebody logs in from Swagger UI, in a real browser and at a real provider."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from subprocess import DEVNULL, PIPE, Popen
from typing import Any

import pytest

from litestar.security.jwt import OpenIDProvider
from tests.examples.test_security.test_jwt.internet import load
from tests.unit.test_security.test_jwt.node_packages import installed_package, listening, program, serving

webdriver = pytest.importorskip("selenium.webdriver")
WebDriverWait = pytest.importorskip("selenium.webdriver.support.ui").WebDriverWait

FOLDER = Path(__file__).parent


@pytest.fixture
def browser() -> Iterator[Any]:
    options = webdriver.ChromeOptions()
    options.binary_location = program("chromium")
    for argument in ("--headless=new", "--no-sandbox", "--window-size=1280,1000"):
        options.add_argument(argument)
    with webdriver.Chrome(options, webdriver.ChromeService(program("chromedriver"))) as browser:
        browser.implicitly_wait(100)
        yield browser


@pytest.fixture
def url(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The URL of the application, whose provider and whose Swagger UI are on this machine."""
    folder = installed_package(FOLDER / "login", FOLDER.parents[3])
    with listening() as (listener, url):
        command = [program("node"), str(folder / "provider.js"), f"{url}/schema/oauth2-redirect.html"]
        with Popen(command, stdin=PIPE, stdout=PIPE, stderr=DEVNULL, text=True) as process:  # ends with its input
            assert process.stdout is not None
            issuer = process.stdout.readline().strip()
            monkeypatch.setattr("litestar.security.jwt.OpenIDProvider", lambda _: OpenIDProvider(issuer))
            example = load("swagger_login")
            for name, file in (
                ("js", "-bundle.js"),
                ("standalone_preset_js", "-standalone-preset.js"),
                ("css", ".css"),
            ):
                setattr(example.swagger, f"{name}_url", f"{issuer}/assets/swagger-ui{file}")
            with serving(example.app, listener):
                yield url


def click(browser: Any, selector: str, *, text: str = "") -> None:
    element = next(e for e in browser.find_elements("css selector", selector) if text in e.text)
    browser.execute_script("arguments[0].click()", element)


@pytest.mark.xdist_group("processes")
def test_login_from_swagger_ui(browser: Any, url: str) -> None:
    wait = WebDriverWait(browser, 100)
    browser.get(f"{url}/schema/swagger")
    click(browser, "button.authorize")
    container = next(e for e in browser.find_elements("css selector", ".auth-container") if "_code" in e.text)
    browser.execute_script("arguments[0].click()", container.find_element("css selector", "button.authorize"))
    page = browser.current_window_handle
    wait.until(lambda browser: len(browser.window_handles) == 2)
    browser.switch_to.window(next(handle for handle in browser.window_handles if handle != page))
    browser.find_element("name", "login").send_keys("alice")
    browser.find_element("name", "password").send_keys("any")
    browser.find_element("css selector", "button[type=submit]").click()
    browser.find_element("css selector", "input[value=consent]")
    click(browser, "button[type=submit]")
    wait.until(lambda browser: browser.window_handles == [page])
    browser.switch_to.window(page)
    buttons = ("css selector", ".auth-container button")
    wait.until(lambda _: "Logout" in [button.text for button in browser.find_elements(*buttons)])  # has a token
    click(browser, "button.close-modal")
    click(browser, ".opblock-summary-control")
    click(browser, ".try-out__btn")
    click(browser, "button.execute")
    response = browser.find_element("css selector", ".live-responses-table tbody").text
    assert "200" in response and "alice" in response
