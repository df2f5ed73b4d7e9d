"""The report page: it is complete, it loads nothing from the network, and a browser reports no error."""

import json
import re
import shutil
import subprocess
from html.parser import HTMLParser

import numpy as np
import pytest

from memsuite.__main__ import main
from memsuite.analysis.report import uneven_sizes
from memsuite.analysis.results import read_results

from .made import result, write_runs

FIGURES = {"solved", "curves", "aggregate", "profiles", "retention", "cost", "horizons"}


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """A report of 2 tasks, 3 models, 3 seeds, one model at three horizons, with curves, retention and a baseline."""
    tmp_path = tmp_path_factory.mktemp("page")
    random = np.random.default_rng(0)
    runs = [
        result(model, seed, float(random.uniform(0.3, 1)), task=task)
        for task in ("delayed_cue", "n_back")
        for model in ("gru", "lru", "pseudo_mamba")
        for seed in range(3)
    ]
    for horizon in (200, 1000):
        runs += [result("lru", seed, 1.0, horizon=horizon, steps_to_target=16 * horizon) for seed in range(3)]
    runs[-1]["steps_to_target"] = None
    runs[3]["command"] = "memsuite fit --out 'a <b> & c'"
    write_runs(tmp_path / "runs", runs)
    for folder in (tmp_path / "runs").rglob("run*"):
        rows = [{"horizon": h, "success": 1 - h / 1e6, "retention": 0.5} for h in (50, 1000, 100000)]
        (folder / "retention.json").write_text(json.dumps({"rows": rows}))
    write_runs(tmp_path / "base", [result("gru", seed, 1.0) for seed in range(3)])
    line = ["report", "--results", str(tmp_path / "runs"), "--baseline", str(tmp_path / "base")]
    assert main([*line, "--out", str(tmp_path / "report")]) == 0
    return tmp_path / "report" / "index.html"


class Reader(HTMLParser):
    """Collects the references and the content of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str] = []
        self.ids: list[str] = []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        for name, value in attrs:
            if name in ("src", "href", "xlink:href"):
                self.links.append(value)
            if name == "id":
                self.ids.append(value)


def test_everything_is_on_the_page_and_nothing_is_fetched(page):
    text = page.read_text()
    reader = Reader()
    reader.feed(text)
    assert reader.tags.count("svg") == len(FIGURES)
    assert set(reader.ids) >= FIGURES
    assert all(link.startswith(("#", "data:")) for link in reader.links)
    assert not re.search(r"(@import|url\((?!#))", text)
    assert len(reader.ids) == len(set(reader.ids)), "two pictures share an identifier"
    assert "a &lt;b&gt; &amp; c" in text or "&lt;b&gt;" in text
    assert {link[1:] for link in reader.links if link.startswith("#")} <= set(reader.ids)


def test_figures_and_tables_lie_beside_it(page):
    import pandas

    files = {path.name for path in (page.parent / "figures").iterdir()}
    assert files == {f"{name}.{kind}" for name in FIGURES for kind in ("svg", "png")}
    csv, parquet = pandas.read_csv(page.parent / "results.csv"), pandas.read_parquet(page.parent / "results.parquet")
    assert len(csv) == len(parquet) == 24
    assert parquet["success"].tolist() == read_results(page.parent.parent / "runs")["success"].tolist()


def test_it_is_the_same_again(page):
    before, tmp_path = page.read_text(), page.parents[1]
    line = ["report", "--results", str(tmp_path / "runs"), "--baseline", str(tmp_path / "base"), "--overwrite"]
    assert main([*line, "--out", str(tmp_path / "report")]) == 0
    assert page.read_text() == before


def test_the_page_says_where_models_differ_in_size():
    table = read_results("reference_v2")
    table = table[(table["task"] == "n_back") & (table["difficulty"] == "easy")]
    said = uneven_sizes(table)
    assert re.match(r"unequal: parameters from [\d,]+ \(\w+\) to [\d,]+ \(\w+\) in one cell; state from", said), said
    assert said.endswith("Models of one size: --match (docs/controllers.md)")
    assert uneven_sizes(table.assign(parameters=1000 * (1 + table["controller"].eq("gru")), state_floats=64)) == ""
    alone = table.assign(parameters=table["parameters"] * table["controller"].eq("gru"), state_floats=0)
    assert uneven_sizes(alone) == ""


def test_all_results_are_collected_into_one_file(tmp_path):
    folder = write_runs(tmp_path / "runs", [result(seed=seed) for seed in range(3)])
    line = ["report", "--results", str(folder), "--out", str(tmp_path / "r"), "--collect", str(tmp_path / "all.jsonl")]
    assert main(line) == 0
    collected = read_results(tmp_path / "all.jsonl").drop(columns="curve")
    assert collected.equals(read_results(folder).drop(columns="folder"))


def test_what_was_not_measured_is_left_out(tmp_path):
    write_runs(tmp_path / "runs", [result()], curve=False)
    assert main(["report", "--results", str(tmp_path / "runs"), "--out", str(tmp_path / "r")]) == 0
    text = (tmp_path / "r" / "index.html").read_text()
    assert 'id="curves"' not in text
    assert 'id="retention"' not in text
    assert "Against the baseline" not in text


CHECK = """
<script>
const heads = [...document.querySelectorAll("th button")];
heads.forEach(head => { head.click(); head.click(); });
const first = document.querySelector("table.sortable");
const column = [...first.querySelectorAll("th")].findIndex(th => th.textContent.trim() === "success");
document.title = JSON.stringify({
  wide: document.documentElement.scrollWidth <= document.documentElement.clientWidth,
  figures: [...document.querySelectorAll(".scroll > svg")].every(svg => svg.getBoundingClientRect().height > 40),
  sorted: [...document.querySelectorAll("th[aria-sort=descending]")].length > 0,
});
</script>
"""


@pytest.mark.slow
@pytest.mark.parametrize("width", [1280, 400])
def test_a_browser_has_no_complaint(page, width, tmp_path):
    browser = shutil.which("chromium") or shutil.which("google-chrome") or shutil.which("chromium-browser")
    if browser is None:
        pytest.skip("no Chromium here")
    tried = tmp_path / "tried.html"
    tried.write_text(page.read_text().replace("</body>", CHECK + "</body>"))
    line = [
        browser,
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        f"--window-size={width},900",
        "--enable-logging=stderr",
    ]
    line += [f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom", f"file://{tried}"]
    out = subprocess.run(line, capture_output=True, text=True, timeout=120, check=True)
    complaints = [text for text in out.stderr.splitlines() if "CONSOLE" in text]
    assert complaints == []
    found = json.loads(re.search(r"<title>(.*?)</title>", out.stdout)[1].replace("&quot;", '"'))
    assert found == {"wide": True, "figures": True, "sorted": True}
