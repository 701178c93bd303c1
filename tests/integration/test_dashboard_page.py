"""The page of `kubectl embedding dashboard` in a real browser, and its refusals."""

import contextlib
import gc
import itertools
import json
import socket
import threading
import time
from urllib.parse import urlsplit

import httpx2
import pytest

from embedding_operator import errors
from embedding_operator.console import overview, server, usage
from tests.parts import browser, paged

pytestmark = pytest.mark.integration

CROWD = 300
HOSTILE = [
    "<img src=x onerror=alert(1)>",
    "</script><script>document.title='owned'</script>",
    '"><svg onload=alert(1)>',
    "javascript:alert(1)",
    "\u202ereversed &amp; &lt;b&gt;",
]


@pytest.fixture(scope="module")
def chromium():
    with browser.chromium() as started:
        yield started


@pytest.fixture
def views():
    ready = paged.condition("Ready", "True", "Ready", "Everything is in force.")
    pods = {"matching": 2, "covered": 1, "missing": ["search-1"]}
    missing = paged.condition("PodsCovered", "False", "PodsMissing", "Without it: search-1.")
    quota = {"used": 900, "limit": 1000, "resetAt": "2026-11-30T00:00:00Z"}
    counted = {"namespace": "shop", "policy": "search"}
    samples = [
        usage.Sample(
            name="aos_embedding_cache_hits_total", labels={**counted, "layer": "memory"}, value=3
        ),
        usage.Sample(name="aos_embedding_cache_misses_total", labels=counted, value=1),
    ]
    return paged.Views(
        paged.policy("search", conditions=[ready, missing], pods=pods, quota=quota),
        paged.policy("catalog", conditions=[ready]),
        seen=overview.Seen(samples=samples, source="sidecars", period="a while"),
    )


@pytest.fixture
def url(views):
    with paged.served(views) as address:
        yield address


@pytest.fixture
def open_page(chromium, url):
    """Opens the page, and fails on anything that the browser complains of."""
    contexts, complaints = [], []

    def opened(**options):
        context = chromium.new_context(**options)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda it: complaints.append(it.text))
        page.on("pageerror", lambda it: complaints.append(str(it)))
        page.on("dialog", lambda it: complaints.append(f"dialog {it.message}"))
        page.goto(url)
        page.wait_for_selector("#tasks li")
        return page

    yield opened
    for context in contexts:
        context.close()
    assert complaints == []


def luminance(colour):
    """Of `rgb(r, g, b)`, by WCAG 2.1."""
    parts = [float(it) / 255 for it in colour.partition("(")[2].rstrip(")").split(",")[:3]]
    red, green, blue = (
        it / 12.92 if it <= 0.04045 else ((it + 0.055) / 1.055) ** 2.4 for it in parts
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one, other):
    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


# --- what it shows


def test_policies_quota_hits_and_what_to_do_are_shown(open_page):
    page = open_page()
    assert page.locator("article").count() == 2
    row = page.locator("article", has_text="shop/search")
    assert "900 of 1,000 calls" in row.inner_text()
    assert "75 % from the cache" in row.inner_text()
    assert "1/2" in row.inner_text()
    meter = row.get_by_role("meter")
    assert meter.get_attribute("aria-valuenow") == "900"
    assert meter.get_attribute("data-level") == "near"
    bar = meter.locator("b").bounding_box()
    assert bar["width"] / meter.bounding_box()["width"] == pytest.approx(0.9, abs=0.02)
    tasks = page.locator("#tasks li").all_inner_texts()
    assert "Delete the named pods" in tasks[0]
    assert "Raise spec.quota.daily.requests" in tasks[1]


def test_new_look_moves_bar_and_keeps_what_is_open(open_page, views):
    page = open_page()
    row = page.locator("article", has_text="shop/search")
    row.locator("button").click()
    views.policies[0]["status"]["quota"]["used"] = 1000
    page.wait_for_selector('[data-level="full"]')
    assert row.locator(".more").is_visible()
    assert page.evaluate("document.activeElement.className") == "open"


def test_plots_are_drawn_and_say_where_there_is_no_data(open_page, views):
    points = [[1_800_000_000 + 60 * at, at % 7] for at in range(50)]
    views.drawn = [
        {"title": "Calls", "unit": "/s", "series": [{"name": "ok", "points": points}]},
        {"title": "Tokens", "unit": "/s", "series": []},
    ]
    page = open_page()
    page.locator("article button").first.click()
    figures = page.locator("figure")
    figures.first.wait_for()
    assert figures.nth(0).locator("polyline").get_attribute("points").count(",") == 50
    assert "ok 0/s" in figures.nth(0).inner_text()
    assert "No data yet." in figures.nth(1).inner_text()


def test_page_without_prometheus_says_how_to_give_one(open_page):
    page = open_page()
    page.locator("article button").first.click()
    assert "--prometheus" in page.locator(".plots .aside").inner_text()


def test_cluster_that_cannot_be_read_is_said_and_heals(chromium, url, views):
    # Not `open_page`: of an answer 502 a browser complains by itself.
    page = chromium.new_page()
    page.goto(url)
    page.wait_for_selector("article")
    views.error = errors.Unavailable("the API server does not answer (ConnectError)")
    page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    page.wait_for_selector("#trouble:not([hidden])")
    assert "does not answer" in page.locator("#trouble").inner_text()
    assert page.locator("article").count() == 2
    views.error = None
    page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    page.wait_for_selector("#trouble", state="hidden")
    page.close()


def test_no_policy_is_said(open_page, views):
    views.policies = []
    page = open_page()
    assert "There is no EmbeddingPolicy here" in page.locator("#policies").inner_text()


# --- light and dark, by keyboard


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_contrast_of_wcag_aa_in_both_colours(open_page, scheme):
    page = open_page(color_scheme=scheme)
    page.locator("article button").first.click()
    pairs = page.evaluate(
        """() => [...document.querySelectorAll("h1, p, dt, dd, small, span, a, strong, kbd")]
        .filter((it) => it.textContent.trim() && it.offsetParent)
        .map((it) => {
          let behind = it;
          while (getComputedStyle(behind).backgroundColor === "rgba(0, 0, 0, 0)") {
            behind = behind.parentElement;
          }
          const style = getComputedStyle(it);
          const ground = getComputedStyle(behind).backgroundColor;
          return [style.color, ground, it.className, it.textContent];
        })"""
    )
    assert len(pairs) > 40
    assert [it for it in pairs if contrast(it[0], it[1]) < 4.5] == []


def test_page_follows_system_until_theme_is_chosen_and_remembers_it(open_page):
    ground = "getComputedStyle(document.body).backgroundColor"
    page = open_page(color_scheme="dark")
    dark = page.evaluate(ground)
    page.emulate_media(color_scheme="light")
    light = page.evaluate(ground)
    assert luminance(dark) < 0.1
    assert luminance(light) > 0.8
    page.locator("#theme").click()
    page.locator("#theme").click()
    assert page.locator("#theme").inner_text() == "Theme: dark"
    assert page.evaluate(ground) == dark
    page.reload()
    page.wait_for_selector("#tasks li")
    assert page.evaluate(ground) == dark


def test_everything_is_reached_by_keyboard(open_page):
    page = open_page()
    reached = []
    for _ in itertools.repeat(None, 9):
        page.keyboard.press("Tab")
        reached.append(
            page.evaluate("document.activeElement.id || document.activeElement.className")
        )
    assert reached[:3] == ["skip", "filter", "theme"]
    assert reached.count("open") == 2
    page.keyboard.press("Escape")
    page.keyboard.press("j")
    assert page.evaluate("document.activeElement.className") == "open"
    page.keyboard.press("Enter")
    assert page.locator('[aria-expanded="true"]').count() == 1
    page.keyboard.press("k")
    page.keyboard.press("/")
    page.keyboard.type("search")
    assert page.locator("article:visible").count() == 1
    page.keyboard.press("Escape")
    assert page.locator("article:visible").count() == 2
    outline = page.evaluate(
        "document.querySelector('.open').focus(),"
        " getComputedStyle(document.querySelector('.open')).outlineStyle"
    )
    assert outline == "solid"


def test_narrow_window_needs_no_scrolling_sideways(open_page):
    page = open_page(viewport={"width": 380, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= 380


# --- tenants' words


@pytest.mark.parametrize("words", HOSTILE)
def test_tenants_words_are_text(open_page, views, words):
    hostile = paged.policy(words, namespace=words)
    hostile["spec"]["providers"][0] |= {"name": words, "model": words}
    hostile["status"] = {
        "conditions": [
            paged.condition("Ready", "False", words, words),
            paged.condition(words, "False", words, words),
        ],
        "pods": {"matching": 1, "covered": 0, "missing": [words]},
    }
    views.policies.append(hostile)
    views.seen = overview.Seen(source=words, period=words, notes=(words,))
    views.drawn = [
        {"title": words, "unit": words, "series": [{"name": words, "points": [[1, 1], [2, 2]]}]}
    ]
    page = open_page()
    row = page.locator("article", has=page.locator("button", has_text=words)).last
    row.locator("button").click()
    page.locator("figure").first.wait_for()
    assert words in row.inner_text()
    assert words in page.locator("#tasks").inner_text()
    assert words in page.locator("#notes").inner_text()
    assert page.locator("main img, main script, main iframe, svg[onload]").count() == 0
    assert page.title() == "Embedding policies"


def test_markup_that_gets_in_anyway_runs_nothing(chromium, url):
    context = chromium.new_context()
    page = context.new_page()
    page.goto(url)
    page.wait_for_selector("#tasks li")
    refused = page.evaluate(
        """() => {
          try {
            document.body.innerHTML = "<img src=x onerror=alert(1)>";
          } catch (error) {
            return error.name;
          }
        }"""
    )
    context.close()
    assert refused == "TypeError"


# --- who may ask


@pytest.fixture
def ask(url):
    with httpx2.Client(trust_env=False) as client:

        def answer(path=None, *, token=None, method="GET", **headers):
            parts = urlsplit(url)
            own = parts.path.strip("/") if token is None else token
            target = f"{parts.scheme}://{parts.netloc}/{own}/{path or ''}"
            return client.request(method, target, headers=headers)

        yield answer


def test_path_with_token_is_answered_and_may_not_be_kept_or_framed(ask):
    for path in ("", "style.css", "page.js", "plots.js", "theme.js", "icon.svg", "state.json"):
        answer = ask(path)
        assert answer.status_code == 200
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert "frame-ancestors 'none'" in policy
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert answer.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("token", ["", "wrong", "a" * 43, "%2e%2e", "\u00fc"])
def test_wrong_token_is_refused(ask, token):
    answer = ask("state.json", token=token)
    assert answer.status_code in {403, 404}
    assert "policies" not in answer.text
    assert "content-security-policy" in answer.headers


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1", "127.0.0.1:1", "localhost.evil:80"])
def test_another_host_is_refused_as_when_name_is_rebound(ask, host):
    assert ask("state.json", host=host).status_code == 403


@pytest.mark.parametrize(
    "origin", ["https://evil.example", "null", "http://127.0.0.1:1", "file://"]
)
def test_another_origin_is_refused(ask, origin):
    assert ask("state.json", origin=origin).status_code == 403


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_request_that_another_site_sends_is_refused(ask, site):
    assert ask("state.json", **{"sec-fetch-site": site}).status_code == 403


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"])
def test_page_refuses_each_method_that_writes(ask, method):
    assert ask("state.json", method=method).status_code in {403, 405}


def test_path_that_climbs_finds_nothing(ask):
    for path in ("../../etc/passwd", "%2e%2e/command.py", "web/page.js", "page.py"):
        assert ask(path).status_code in {403, 404}


def test_only_loopback_listens(url):
    port = urlsplit(url).port
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_route:
        any_route.connect(("192.0.2.1", 9))  # sends nothing (udp(7))
        own_address = any_route.getsockname()[0]
    with pytest.raises(OSError, match="refused"):
        socket.create_connection((own_address, port), timeout=2)
    socket.create_connection(("127.0.0.1", port), timeout=2).close()


def test_each_start_has_another_token(views):
    with paged.served(views) as one, paged.served(views) as other:
        tokens = {urlsplit(it).path.strip("/") for it in (one, other)}
    assert len(tokens) == 2
    assert all(len(it) >= 43 for it in tokens)


def test_page_that_stops_closes_connections_that_are_being_opened(views):
    """As browsers open them in advance: none is waited for, none is left open."""
    opened: list[socket.socket] = []

    def crowd(port):
        with contextlib.suppress(OSError):
            while len(opened) < CROWD:
                opened.append(socket.create_connection((server.HOST, port), timeout=1))

    with paged.served(views) as url:
        thread = threading.Thread(target=crowd, args=[urlsplit(url).port])
        thread.start()
        while not opened:
            time.sleep(0.001)
    thread.join()
    for it in opened:
        it.close()
    # A connection left open is told by pytest as an unraisable ResourceWarning.
    gc.collect()
    assert opened


def test_state_is_json_page_cannot_read_as_script(ask):
    answer = ask("state.json")
    assert answer.headers["content-type"].startswith("application/json")
    assert json.loads(answer.text)["summary"]["policies"] == 2
    assert answer.headers["cross-origin-resource-policy"] == "same-origin"
