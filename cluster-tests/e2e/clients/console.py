"""The console in a headless Chromium, by clicks and keys, against a real node.

Usage: console.py HTTP PG GRPC SHOTS. Exits with 0 when everything is as it should be. Writes a
picture of each page into the folder SHOTS.
"""

import http.client
import json
import pathlib
import re
import shutil
import sys
import threading
import urllib.request

import adbc_driver_flightsql.dbapi as flight
import psycopg
from playwright.sync_api import expect, sync_playwright

HTTP, PG, GRPC, SHOTS = sys.argv[1:5]
BASE = f"http://{HTTP}"
WAIT_MS = 30_000

SEGMENTS = ["Alpe", "Galibier", "Stelvio", "Ventoux", "<img src=x onerror=alert(1)>"]
# Runs for hours unless it is stopped.
LONG = "SELECT count(*) FROM generate_series(1, 1000000000000) AS a(x) WHERE x % 7 = 3"


def section(name):
    print(f"-- {name}", flush=True)


def events(first, count):
    """Rides whose best times are known: the first of each segment is its fastest."""
    for place in range(first, first + count):
        yield {
            "ride_id": place,
            "segment": SEGMENTS[place % len(SEGMENTS)],
            "rider": f"rider {place % 7}",
            "elapsed_s": 1000 + 100 * (place % len(SEGMENTS)) + place,
            "started_at": f"2026-05-01T{place // 60 % 24:02}:{place % 60:02}:00Z",
        }


def ingest(first, count):
    body = "\n".join(json.dumps(event) for event in events(first, count)).encode()
    headers = {"content-type": "application/x-ndjson"}
    request = urllib.request.Request(f"{BASE}/v1/streams/rides/events", body, headers)
    with urllib.request.urlopen(request) as response:
        return json.loads(response.read())["frontier"]


def reflects(text, frontier):
    """Whether an answer says these offsets of these partitions."""
    found = re.search(r"as of\s+rides=(\S+)", text)
    return found and set(found[1].split(",")) >= {f"{p}:{end}" for p, end in frontier.items()}


def beginning(text):
    return re.compile("^" + re.escape(text))


class Console:
    """One page of a browser, with everything it complained of and asked for."""

    def __init__(self, context):
        self.page = context.new_page()
        self.page.set_default_timeout(WAIT_MS)
        self.complaints = []
        self.foreign = []
        self.page.on("console", self.said)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", self.asked)
        self.refusals = 0

    def said(self, message):
        if message.type in ("error", "warning"):
            # Chromium says of each answer that is no 2xx that it is an error.
            is_refusal = message.text.startswith("Failed to load resource")
            if is_refusal and message.location.get("url", "").startswith(f"{BASE}/v1/"):
                self.refusals += 1
            else:
                self.complaints.append(message.text)

    def asked(self, request):
        if not request.url.startswith(f"{BASE}/"):
            self.foreign.append(request.url)

    def open(self, name):
        self.page.click(f"#nav-{name}")
        expect(self.page.locator(f"#nav-{name}")).to_have_attribute("aria-current", "page")

    def type(self, sql):
        """Types into the editor, in place of what was there."""
        self.page.locator("#sql").focus()
        self.page.keyboard.press("ControlOrMeta+a")
        self.page.keyboard.press("Delete")
        self.page.keyboard.type(sql)

    def run(self, sql, done):
        self.type(sql)
        self.page.keyboard.press("ControlOrMeta+Enter")
        expect(self.page.locator("#outcome")).to_contain_text(done, timeout=WAIT_MS)

    def cells(self, label):
        rows = self.page.locator(f'[aria-label="{label}"] tbody tr')
        return [row.locator("td").all_inner_texts() for row in rows.all()]

    def shot(self, name):
        self.page.screenshot(path=pathlib.Path(SHOTS) / f"{name}.png", full_page=True)


def status_of(method, path, headers, body=None):
    conn = http.client.HTTPConnection(HTTP)
    conn.request(method, path, body, headers)
    return conn.getresponse().status


def strangers():
    section("pages of other sites")
    json_type = {"content-type": "application/json"}
    text = {"content-type": "text/plain"}
    body = json.dumps({"sql": "SELECT 1"})
    for headers, expected in [
        (json_type, 200),
        ({**json_type, "origin": BASE}, 200),
        ({**json_type, "origin": "http://evil.example"}, 403),
        ({**json_type, "origin": "null"}, 403),
        ({**json_type, "sec-fetch-site": "cross-site"}, 403),
        ({**json_type, "host": "evil.example"}, 421),
    ]:
        assert status_of("POST", "/v1/sql", headers, body) == expected, headers
    # Programs say what they like; pages say what browsers ask about first.
    assert status_of("POST", "/v1/sql", text, "SELECT 1") == 200
    assert status_of("POST", "/v1/sql", {**text, "origin": BASE}, "SELECT 1") == 415
    assert status_of("GET", "/console/", {"host": "evil.example"}) == 421
    assert status_of("GET", "/console/nothing.js", {}) == 404
    with urllib.request.urlopen(f"{BASE}/console/") as response:
        policy = response.headers["content-security-policy"]
    assert "default-src 'none'" in policy and "unsafe" not in policy, policy


def empty_pages(console):
    section("empty pages say what to do")
    page = console.page
    page.goto(f"{BASE}/")
    assert page.url.startswith(f"{BASE}/console/"), page.url
    expect(page.get_by_text("There is no stream yet")).to_be_visible()
    console.open("tail")
    expect(page.get_by_text("There is no view to watch yet")).to_be_visible()
    console.open("queries")
    expect(page.get_by_text("Nothing runs now")).to_be_visible()
    console.open("tables")
    expect(page.get_by_text("There is no view yet")).to_be_visible()
    console.shot("empty")
    # By keys alone: past the link over the frame and the name, to the first page.
    page.reload()
    for _ in range(3):
        page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.locator("#nav-cluster")).to_have_attribute("aria-current", "page")


def create(console):
    section("a stream and a view are made in the editor")
    page = console.page
    page.get_by_role("button", name="Open in the editor").click()
    expect(page.locator("#sql")).to_have_value(beginning("CREATE STREAM rides"))
    page.get_by_role("button", name="Run").click()
    expect(page.get_by_text("Done: CREATE STREAM")).to_be_visible()
    console.run(
        "CREATE MATERIALIZED VIEW best AS SELECT segment, count(*) AS rides, "
        "min(elapsed_s) AS best_s FROM rides GROUP BY segment",
        "CREATE MATERIALIZED VIEW",
    )


def query(console):
    section("rows, frontier and chart of an answer")
    page = console.page
    ingest(0, 300)
    frontier = ingest(300, 100)
    sql = (
        "SELECT segment, count(*) AS rides, min(elapsed_s) AS best_s FROM rides "
        "GROUP BY segment ORDER BY best_s"
    )
    console.run(f"{sql}; SELECT 1", "SELECT in")
    # The cursor stands behind the second statement: that one was run.
    assert console.cells("Rows of the answer") == [["1"]]
    console.run(sql, "SELECT in")
    expected = [[name, "80", f"{1000 + 101 * place}"] for place, name in enumerate(SEGMENTS)]
    cells = console.cells("Rows of the answer")
    assert [[name, rides, f"{float(best):g}"] for name, rides, best in cells] == expected, cells
    facts = page.locator("#facts").inner_text()
    assert "5 rows" in facts, facts
    assert reflects(facts, frontier), (facts, frontier)
    assert page.locator("main img").count() == 0, "data became HTML"
    console.shot("sql")
    page.get_by_role("tab", name="Chart").click()
    bars = page.locator("rect.bar.series-1")
    expect(bars).to_have_count(5)
    heights = [float(bar.get_attribute("height")) for bar in bars.all()]
    for height, (_, _, best) in zip(heights, expected):
        assert abs(height / heights[0] - float(best) / 1000) < 0.01, heights
    page.get_by_label("Draw").select_option("line")
    expect(page.locator("path.line")).to_have_count(2)
    page.get_by_label("Draw").select_option("bar")
    console.shot("chart")


def wrong(console):
    section("an error is shown at its place")
    page = console.page
    console.run("SELECT segment\nFROM rides\nWHERE ridr = 'é'", "Failed after")
    expect(page.locator(".colours .wrong")).to_have_text("ridr")
    expect(page.get_by_text('did you mean "rider"?')).to_be_visible()
    expect(page.get_by_text("SQLSTATE 42703")).to_be_visible()
    page.get_by_role("button", name="Line 3, column 7").click()
    field = "document.getElementById('sql')"
    chosen = page.evaluate(f"{field}.value.slice({field}.selectionStart, {field}.selectionEnd)")
    assert chosen == "ridr", chosen
    console.shot("error")
    assert console.refusals == 1, "one statement was refused"


def history(console):
    section("statements are kept in the browser")
    page = console.page
    page.reload()
    past = page.locator(".past")
    expect(past.first).to_contain_text("WHERE ridr")
    assert past.count() == 5, past.all_inner_texts()
    past.nth(4).click()
    expect(page.locator("#sql")).to_have_value(beginning("CREATE STREAM rides"))


def tables(console):
    section("streams and views with rates")
    page = console.page
    console.open("tables")
    rides = page.locator('[aria-label="Streams"] tr', has_text="rides")
    expect(rides.locator('[data-name="Events"]')).to_have_text("400")
    expect(rides.locator('[data-name="Comes in"]')).to_contain_text("0 /s")
    ingest(400, 1000)
    expect(rides.locator('[data-name="Events"]')).to_have_text("1,400")
    seen = page.locator('[aria-label="Streams"] [data-name="Comes in"]')
    expect(seen).not_to_have_text(beginning("0 /s"))
    best = page.locator('[aria-label="Views"] tr', has_text="best")
    expect(best.locator('[data-name="Groups"]')).to_have_text("5")
    expect(best.locator('[data-name="Behind"]')).to_have_text("none")
    console.shot("tables")
    console.open("cluster")
    expect(page.locator('[aria-label="Each partition"] tbody tr')).to_have_count(4)
    expect(page.locator(".chip.owner").first).to_be_visible()
    console.shot("cluster")


def tail(console):
    section("a view is watched while events come in")
    page = console.page
    console.open("tables")
    page.get_by_role("link", name="Watch").click()
    alpe = page.locator('[aria-label="Groups"] tr', has_text="Alpe")
    expect(alpe.locator('[data-name="rides"]')).to_have_text("280")
    for first in range(1400, 1450, 10):
        frontier = ingest(first, 10)
    expect(alpe.locator('[data-name="rides"]')).to_have_text("290")
    status = page.locator("#tail-status")
    assert reflects(status.inner_text(), frontier), (status.inner_text(), frontier)
    expect(page.locator("#tail-status")).to_contain_text("live")
    console.shot("tail")
    page.get_by_role("button", name="Stop").click()
    page.fill("#where", "rides > 1000000")
    page.keyboard.press("Enter")
    expect(page.get_by_text("No group fulfils the condition now")).to_be_visible()
    page.get_by_role("button", name="Stop").click()
    page.fill("#where", "rdes > 1")
    page.keyboard.press("Enter")
    expect(page.locator(".trouble")).to_contain_text('"rdes" does not exist')
    console.refusals -= 1


def run_elsewhere(name, ask, seen):
    """Asks in a thread; what it was told is kept."""

    def work():
        try:
            ask()
            seen[name] = None
        except Exception as error:  # What it is, the caller looks at.
            seen[name] = error

    thread = threading.Thread(target=work)
    thread.start()
    return thread


def ask_postgres():
    host, port = PG.rsplit(":", 1)
    with psycopg.connect(host=host, port=port, user="me", dbname="alluvium") as conn:
        conn.execute(LONG).fetchall()


def ask_flight():
    with flight.connect(f"grpc://{GRPC}") as conn, conn.cursor() as cur:
        cur.execute(LONG)
        cur.fetchall()


def queries(console, other):
    section("queries of every door are listed and cancelled")
    console.open("sql")
    console.type(LONG)
    console.page.keyboard.press("ControlOrMeta+Enter")
    page = other.page
    page.goto(f"{BASE}/console/#queries")
    running = page.locator('[aria-label="Running queries"] tbody tr')
    seen = {}
    threads = [
        run_elsewhere("PostgreSQL", ask_postgres, seen),
        run_elsewhere("Flight SQL", ask_flight, seen),
    ]
    expect(running).to_have_count(3)
    other.shot("queries")
    for door in ["HTTP", "PostgreSQL", "Flight SQL"]:
        row = running.filter(has=page.locator(f'[data-name="Door"]:text-is("{door}")'))
        expect(row.locator('[data-name="From"]')).to_contain_text("127.0.0.1:")
        row.get_by_role("button", name="Cancel").click()
        expect(row).to_have_count(0)
    expect(page.get_by_text("Nothing runs now")).to_be_visible()
    for thread in threads:
        thread.join(WAIT_MS / 1000)
    assert isinstance(seen["PostgreSQL"], psycopg.errors.QueryCanceled), seen
    assert "CANCELLED" in str(seen["Flight SQL"]).upper(), seen
    expect(console.page.get_by_text("SQLSTATE 57014")).to_be_visible()
    console.refusals -= 1
    section("a client that stops its own query")
    console.page.keyboard.press("ControlOrMeta+Enter")
    expect(running).to_have_count(1)
    console.page.get_by_role("button", name="Stop").click()
    expect(console.page.locator("#outcome")).to_contain_text("Stopped after")
    expect(page.get_by_text("Nothing runs now")).to_be_visible()


def phone(browser):
    section("on a phone, and in the dark")
    look = {"viewport": {"width": 390, "height": 844}, "color_scheme": "dark", "locale": "en-US"}
    console = Console(browser.new_context(**look))
    console.page.goto(f"{BASE}/console/")
    for name in ["cluster", "tables", "sql", "queries", "tail"]:
        console.open(name)
        expect(console.page.locator(".wait")).to_have_count(0)
        wide = console.page.evaluate("document.documentElement.scrollWidth - innerWidth")
        assert wide <= 0, f"{name} is {wide} pixels wider than a phone"
        console.shot(f"phone-{name}")
    return console


def main():
    pathlib.Path(SHOTS).mkdir(parents=True, exist_ok=True)
    expect.set_options(timeout=WAIT_MS)
    strangers()
    with sync_playwright() as playwright:
        program = shutil.which("chromium")
        # Root has no sandbox; the pages are the node's own.
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        context = browser.new_context(viewport={"width": 1280, "height": 800}, locale="en-US")
        console, other = Console(context), Console(context)
        empty_pages(console)
        create(console)
        query(console)
        wrong(console)
        history(console)
        tables(console)
        tail(console)
        queries(console, other)
        consoles = [console, other, phone(browser)]
        section("nothing was complained of, nothing was asked of others")
        for one in consoles:
            assert one.complaints == [], one.complaints
            assert one.foreign == [], one.foreign
        assert [one.refusals for one in consoles] == [1, 0, 0], "other refusals than expected"
        browser.close()


main()
