"""The page in a real browser, answered by the bundled models."""

from __future__ import annotations

import asyncio
import shutil
import time

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from deepen_llm import Ensemble
from tests.server.serving import serving

BROWSER, DRIVER = shutil.which("chromium") or shutil.which("google-chrome"), shutil.which("chromedriver")
pytestmark = [
    pytest.mark.skipif(not (BROWSER and DRIVER), reason="needs Chromium and its driver"),
    pytest.mark.lengthy,
]
FLAGS = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync", "--disable-quic", "--disable-dev-shm-usage"),
)
KEY = "a-key-of-this-test"
WIDE, PHONE = (1280, 900), (390, 844)


@pytest.fixture(scope="module")
def ensemble():
    with Ensemble.starter() as ensemble:
        yield ensemble


@pytest.fixture(scope="module")
def server(ensemble):
    with serving(ensemble, api_keys=(KEY,)) as server:
        yield server


@pytest.fixture(scope="module")
def address(server):
    return f"{server.address}/"


@pytest.fixture(scope="module")
def driver():
    options = webdriver.ChromeOptions()
    options.binary_location = BROWSER
    for flag in FLAGS:
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(DRIVER))
    yield driver
    driver.quit()


class Page:
    """The page as somebody uses it."""

    def __init__(self, driver, address, size=WIDE):
        self.driver = driver
        driver.execute_cdp_cmd(
            "Emulation.setDeviceMetricsOverride",
            {"width": size[0], "height": size[1], "deviceScaleFactor": 1, "mobile": size == PHONE},
        )
        driver.get(address)
        self.wait_for(".key")
        self.one(".key").send_keys(KEY, Keys.TAB)
        self.wait_for(".member")

    def wait_for(self, selector, seconds=10.0):
        end = time.monotonic() + seconds
        while not any(one.is_displayed() for one in self.all(selector)) and time.monotonic() < end:
            time.sleep(0.02)
        assert self.all(selector)

    def all(self, selector):
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def one(self, selector):
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def ask(self, text):
        self.one(".question").send_keys(text, Keys.ENTER)
        self.wait()

    def wait(self, seconds=30.0):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if self.all(".reply footer small") and not self.all(".reply.running"):
                return
            time.sleep(0.05)
        raise AssertionError("no answer came")

    def answers(self):
        texts = [reply.find_elements(By.CSS_SELECTOR, ".token") for reply in self.all(".reply")]
        return ["".join(self.text_of(token) for token in tokens).strip() for tokens in texts]

    def text_of(self, token):
        """What stands in a token, without its panel and signs."""
        script = "return [...arguments[0].childNodes].filter((n) => n.nodeType === 3).map((n) => n.data).join('')"
        return self.driver.execute_script(script, token)

    def panels(self):
        return [panel for panel in self.all(".panel") if panel.is_displayed()]


@pytest.fixture
def page(driver, address):
    page = Page(driver, address)
    yield page
    errors = [entry["message"] for entry in driver.get_log("browser") if entry["level"] == "SEVERE"]
    assert [message for message in errors if "401" not in message and "400" not in message] == []


def test_an_answer_comes_token_by_token_in_the_colours_of_who_decided(page, ensemble):
    page.ask("What is the capital of Peru?")
    expected = ensemble.chat([{"role": "user", "content": "What is the capital of Peru?"}]).text
    assert page.answers() == [expected.strip()]
    looks = {name for token in page.all(".token") for name in token.get_attribute("class").split()}
    assert looks & {"one", "agreed", "overruled", "fusion"}


def test_the_servers_metrics_count_what_the_page_asks(page, server):
    page.ask("What is the capital of Peru?")
    told = asyncio.run(server.service.metrics.write()).decode()
    assert 'deepen_request_success_total{finished_reason="stop",model_name="deepen"}' in told


def test_pointing_at_a_token_shows_what_each_member_said(page, ensemble):
    page.ask("What is the capital of Peru?")
    webdriver.ActionChains(page.driver).move_to_element(page.all(".token")[0]).perform()
    (panel,) = page.panels()
    assert all(name in panel.text for name in ensemble.member_names)
    assert "%" in panel.text and "weight" in panel.text


def test_arrow_keys_walk_the_tokens_and_escape_lets_go(page):
    page.ask("What is the capital of Peru?")
    page.driver.execute_script("document.querySelector('.token').focus()")
    webdriver.ActionChains(page.driver).send_keys(Keys.ARROW_RIGHT).perform()
    first, second = page.all(".token")[:2]
    assert page.driver.switch_to.active_element == second != first
    assert len(page.panels()) >= 1
    webdriver.ActionChains(page.driver).send_keys(Keys.ESCAPE).perform()
    assert page.driver.switch_to.active_element != second


def test_a_member_is_switched_off_and_asked_again_side_by_side(page, ensemble):
    page.ask("What is the capital of Peru?")
    page.all(".member .on")[1].click()
    page.one(".again").click()
    page.wait()
    first, second = page.all(".reply")
    assert abs(first.location["y"] - second.location["y"]) < 2 and first.location["x"] < second.location["x"]
    assert f"{ensemble.member_names[1]} 0" in second.text
    webdriver.ActionChains(page.driver).move_to_element(second.find_element(By.CSS_SELECTOR, ".token")).perform()
    assert "was not asked" in page.panels()[-1].text


def test_without_the_key_the_page_tells_of_nobody(driver, address, ensemble):
    driver.get(address)
    time.sleep(0.5)
    assert not any(name in driver.page_source for name in ensemble.member_names)
    assert "API key" in driver.find_element(By.CSS_SELECTOR, ".who").text


def test_somebody_always_answers(page):
    for switch in page.all(".member .on"):
        switch.click()
    assert [switch.is_selected() for switch in page.all(".member .on")].count(True) == 1


def test_a_chat_goes_on_and_begins_anew(page):
    page.ask("What is the capital of Peru?")
    page.ask("And of Chile?")
    assert len(page.all(".turn")) == 2
    page.one(".new").click()
    assert page.all(".turn") == []


def test_stopping_ends_the_work(page, ensemble):
    page.one(".max-tokens").clear()
    page.one(".max-tokens").send_keys("500")
    page.one(".temperature").clear()
    page.one(".temperature").send_keys("5")
    page.one(".question").send_keys("Once upon a time", Keys.ENTER)
    end = time.monotonic() + 20
    while not page.all(".token") and time.monotonic() < end:
        time.sleep(0.01)
    page.one(".stop").click()
    page.wait()
    assert "stopped" in page.one(".reply footer").text
    while ensemble.num_running and time.monotonic() < end:
        time.sleep(0.01)
    assert ensemble.num_running == 0


def test_what_is_asked_and_answered_never_becomes_markup(page):
    page.ask("<img src=x onerror=alert(1)><script>alert(2)</script> What is the capital of Peru?")
    assert page.all(".conversation img") == page.all(".conversation script") == []
    assert "<img src=x" in page.one(".user").text


def test_an_error_is_told_where_the_answer_would_be(page):
    page.one(".question").send_keys("a")
    page.driver.execute_script("document.querySelector('.question').value = 'word '.repeat(5000)")
    page.one(".send").click()
    page.wait()
    assert "context holds" in page.one(".reply .error").text


def test_dark_and_light_change_places(page):
    ground = "return getComputedStyle(document.body).backgroundColor"
    before = page.driver.execute_script(ground)
    page.one(".theme").click()
    assert page.driver.execute_script(ground) != before


def test_nothing_runs_over_the_edge_of_a_narrow_phone(driver, address):
    page = Page(driver, address, PHONE)
    page.ask("What is the capital of Peru?")
    page.all(".token")[0].click()
    assert page.panels()
    wider = "return document.documentElement.scrollWidth - document.documentElement.clientWidth"
    assert driver.execute_script(wider) <= 0
