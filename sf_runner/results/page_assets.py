"""Style and script of the report's page."""

STYLE = """\
:root { color-scheme: light dark; --fg: #1c2128; --dim: #626b76; --bg: #ffffff; --rule: #dde1e6; --soft: #f4f6f8; }
@media (prefers-color-scheme: dark) {
  :root { --fg: #e3e7ec; --dim: #98a2ae; --bg: #14181d; --rule: #323a44; --soft: #1c2229; }
}
* { box-sizing: border-box; }
body { margin: 2rem auto; padding: 0 1.25rem; max-width: 68rem; color: var(--fg); background: var(--bg);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
h1 { font-size: 1.6rem; margin: 0 0 .25rem; } h2 { font-size: 1.15rem; margin: 2.25rem 0 .6rem; }
h3 { font-size: 1rem; margin: 1.4rem 0 -.4rem; }
p { margin: .4rem 0; } .dim, footer { color: var(--dim); font-size: .85rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .9rem; }
th, td { padding: .32rem .7rem; border-bottom: 1px solid var(--rule); text-align: right; white-space: nowrap; }
th { color: var(--dim); font-weight: 600; cursor: pointer; user-select: none; }
th:hover { color: var(--fg); }
th[aria-sort=ascending]::after { content: " \\2191"; } th[aria-sort=descending]::after { content: " \\2193"; }
th.text, td.text { text-align: left; } tbody tr:hover { background: var(--soft); }
td.best { font-weight: 700; } td.long { white-space: normal; min-width: 16rem; }
.swatch { display: inline-block; width: 1.4em; height: 0; border-top: .22em solid var(--c); vertical-align: middle;
  margin-right: .5em; } .swatch.dashed { border-top-style: dashed; }
.plot { width: 100%; height: auto; display: block; margin-top: 1rem; }
.plot .grid { stroke: var(--rule); stroke-width: 1; } .plot .axis { stroke: var(--dim); }
.plot text { fill: var(--dim); font-size: 12px; } .plot .band { fill: var(--c); opacity: .17; }
.plot .mean { fill: none; stroke: var(--c); stroke-width: 2; stroke-linejoin: round; }
.plot .seed { fill: none; stroke: var(--c); stroke-width: .7; opacity: .35; }
.plot .level { stroke: var(--c); stroke-dasharray: 1 4; opacity: .8; } .plot .mark { stroke: var(--c); }
.plot .guide { stroke: var(--dim); stroke-dasharray: 3 3; }
.curve { transition: opacity .12s; } .curve.off { display: none; } .focus .curve:not(.on) { opacity: .12; }
.legend { display: flex; flex-wrap: wrap; gap: .15rem .3rem; margin: .2rem 0 .6rem; }
.legend button { font: inherit; font-size: .85rem; color: inherit; background: none; border: 0; border-radius: .3rem;
  padding: .15rem .5rem; cursor: pointer; } .legend button:hover { background: var(--soft); }
.legend button[aria-pressed=false] { opacity: .4; text-decoration: line-through; }
.readout { font-size: .85rem; font-variant-numeric: tabular-nums; white-space: pre-wrap;
  color: var(--dim); }
ul { padding-left: 1.2rem; } li { margin: .15rem 0; }
details { margin-top: 2rem; } summary { cursor: pointer; font-weight: 600; }
@media print { body { margin: 0; max-width: none; } .legend button[aria-pressed=false], .readout { display: none; } }
"""

SCRIPT = """\
"use strict";
for (const figure of document.querySelectorAll("figure")) {
  const data = JSON.parse(figure.querySelector("script").textContent);
  const svg = figure.querySelector("svg"), guide = svg.querySelector(".guide");
  const readout = figure.querySelector(".readout"), hint = readout.textContent;
  const curves = [...svg.querySelectorAll(".curve")], buttons = [...figure.querySelectorAll("button")];
  buttons.forEach((button, i) => {
    button.addEventListener("click", () => {
      const off = curves[i].classList.toggle("off");
      button.setAttribute("aria-pressed", String(!off));
    });
    button.addEventListener("pointerenter", () => { svg.classList.add("focus"); curves[i].classList.add("on"); });
    button.addEventListener("pointerleave", () => { svg.classList.remove("focus"); curves[i].classList.remove("on"); });
  });
  svg.addEventListener("pointermove", event => {
    const box = svg.getBoundingClientRect(), x = (event.clientX - box.left) / box.width * data.width;
    let at = null;
    const lines = [];
    data.lines.forEach((line, i) => {
      if (curves[i].classList.contains("off") || x < line.x[0] - 5 || x > line.x[line.x.length - 1] + 5) return;
      let k = line.x.findIndex(value => value >= x);
      if (k < 0) k = line.x.length - 1;
      if (at === null) { at = line.at[k]; guide.setAttribute("x1", line.x[k]); guide.setAttribute("x2", line.x[k]); }
      lines.push(buttons[i].textContent.trim() + ":  " + line.text[k]);
    });
    guide.setAttribute("visibility", at === null ? "hidden" : "visible");
    readout.textContent = at === null ? hint : "at " + at + "\\n" + lines.join("\\n");
  });
}
for (const table of document.querySelectorAll("table")) {
  const body = table.tBodies[0], heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => head.addEventListener("click", () => {
    const down = head.getAttribute("aria-sort") === "ascending" ? -1 : 1;
    heads.forEach(other => other.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", down > 0 ? "ascending" : "descending");
    const key = row => row.cells[column].dataset.key ?? row.cells[column].textContent;
    const rows = [...body.rows].sort((a, b) => {
      const [p, q] = [key(a), key(b)], [m, n] = [parseFloat(p), parseFloat(q)];
      if (isNaN(m) !== isNaN(n)) return isNaN(m) ? 1 : -1;
      return down * (isNaN(m) ? p.localeCompare(q) : m - n);
    });
    body.append(...rows);
  }));
}
"""
