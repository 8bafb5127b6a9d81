"use strict";
(() => {
  const all = (selector, within = document) => [...within.querySelectorAll(selector)];
  const one = (id) => document.getElementById(id);
  const svgNode = (tag, attributes, parent) => {
    const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
    return parent.appendChild(node);
  };

  // Light or dark: the reader's system decides until the button is pressed.
  one("theme").addEventListener("click", () => {
    const system = matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
    const now = document.documentElement.dataset.theme || system;
    document.documentElement.dataset.theme = now === "dark" ? "light" : "dark";
  });

  // Filters: no status chosen means all of them.
  const filters = document.querySelector(".filters");
  const checks = all(".check");
  const chips = all(".chip", filters);
  const words = new Map(checks.map((check) => [check, check.textContent.toLowerCase()]));
  filters.hidden = checks.length === 0;

  function applyFilters() {
    const statuses = chips.filter((chip) => chip.getAttribute("aria-pressed") === "true").map((chip) => chip.dataset.status);
    const stage = one("stage").value;
    const sought = one("search").value.trim().toLowerCase();
    let shown = 0;
    for (const section of all(".stage")) {
      let any = false;
      for (const check of all(".check", section)) {
        const fits = (!statuses.length || statuses.includes(check.dataset.status)) && (!stage || section.dataset.stage === stage) && words.get(check).includes(sought);
        check.hidden = !fits;
        any ||= fits;
        shown += fits;
      }
      section.hidden = !any;
    }
    one("shown").textContent = `${shown} of ${checks.length} shown`;
  }
  for (const chip of chips) {
    chip.addEventListener("click", () => {
      chip.setAttribute("aria-pressed", String(chip.getAttribute("aria-pressed") !== "true"));
      applyFilters();
    });
  }
  one("stage").addEventListener("change", applyFilters);
  one("search").addEventListener("input", applyFilters);
  const openAll = (open) => all("details.check").forEach((check) => { check.open = open; });
  one("open").addEventListener("click", () => openAll(true));
  one("close").addEventListener("click", () => openAll(false));
  applyFilters();

  // A link into the page shows and opens what it leads to.
  function reveal() {
    const target = location.hash.startsWith("#check-") && one(location.hash.slice(1));
    if (!target) return;
    if (target.hidden) {
      chips.forEach((chip) => chip.setAttribute("aria-pressed", "false"));
      one("stage").value = one("search").value = "";
      applyFilters();
    }
    target.open = true;
    target.scrollIntoView();
  }
  addEventListener("hashchange", reveal);
  reveal();

  addEventListener("keydown", (event) => {
    if (event.key === "/" && !event.target.closest("input, select, textarea")) {
      event.preventDefault();
      one("search").focus();
    } else if (event.key === "Escape") {
      if (event.target.id === "search") { event.target.value = ""; applyFilters(); }
      hideTip();
    }
  });

  // Printing shows everything that is not filtered out.
  let closed = [];
  addEventListener("beforeprint", () => { closed = all("details:not([open])"); closed.forEach((part) => { part.open = true; }); });
  addEventListener("afterprint", () => { closed.forEach((part) => { part.open = false; }); closed = []; });

  // One tooltip for all charts. Text only: nothing from the report is read as markup.
  const tip = one("tip");
  function showTip(head, rows, left, top) {
    tip.replaceChildren();
    tip.appendChild(document.createElement("b")).textContent = head;
    for (const [name, value] of rows) {
      const row = tip.appendChild(document.createElement("div"));
      row.appendChild(document.createElement("span")).textContent = name;
      row.appendChild(document.createElement("span")).textContent = value;
    }
    tip.hidden = false;
    const box = tip.getBoundingClientRect();
    tip.style.left = `${Math.max(6, left + 16 + box.width > innerWidth ? left - box.width - 12 : left + 16)}px`;
    tip.style.top = `${Math.max(6, Math.min(top + 14, innerHeight - box.height - 6))}px`;
  }
  function hideTip() {
    tip.hidden = true;
    all(".reading").forEach((mark) => mark.remove());
  }
  addEventListener("scroll", hideTip, { passive: true });

  const toScreen = (svg, x, y) => new DOMPoint(x, y).matrixTransform(svg.getScreenCTM());
  const fromScreen = (svg, event) => new DOMPoint(event.clientX, event.clientY).matrixTransform(svg.getScreenCTM().inverse());

  function readable(svg, locate, show, move) {
    let at = null;
    const go = (next) => { hideTip(); at = next; if (at !== null) show(at); };
    svg.addEventListener("pointermove", (event) => go(locate(fromScreen(svg, event))));
    svg.addEventListener("pointerleave", hideTip);
    svg.addEventListener("blur", hideTip);
    svg.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
      const next = step && move(at, step);
      if (!next && next !== 0) return;
      event.preventDefault();
      go(next);
    });
  }

  function readLines(plot, svg, data) {
    const toggles = new Map(all("[data-toggle]", plot.parentElement).map((button) => [Number(button.dataset.toggle), button]));
    const seen = (i) => toggles.get(i)?.getAttribute("aria-pressed") !== "false";
    const last = data.x.length - 1;
    const nearest = (point) => data.x.reduce((best, x, i) => (Math.abs(x - point.x) < Math.abs(data.x[best] - point.x) ? i : best), 0);
    const show = (i) => {
      const group = svgNode("g", { class: "reading" }, svg);
      svgNode("line", { class: "cursor", x1: data.x[i], x2: data.x[i], y1: data.top, y2: data.bottom }, group);
      const rows = [];
      let top = data.top;
      data.lines.forEach((line, s) => {
        if (!seen(s)) return;
        rows.push([line.name, line.text[i]]);
        if (data.y[s][i] === null) return;
        svgNode("circle", { class: `dot c${s % 6}`, cx: data.x[i], cy: data.y[s][i], r: 4 }, group);
        top = data.y[s][i];
      });
      const place = toScreen(svg, data.x[i], top);
      showTip(data.head[i], rows, place.x, place.y);
    };
    readable(svg, nearest, show, (at, [dx]) => (dx ? Math.min(last, Math.max(0, (at ?? -1) + dx)) : null));
    for (const [i, button] of toggles) {
      button.addEventListener("click", () => {
        const on = button.getAttribute("aria-pressed") !== "true";
        button.setAttribute("aria-pressed", String(on));
        svg.querySelector(`[data-series="${i}"]`).style.display = on ? "" : "none";
      });
    }
  }

  function readCells(svg, data) {
    const rows = data.values.length, columns = data.values[0].length;
    const locate = (point) => {
      const column = Math.floor((point.x - data.left) / data.width), row = Math.floor((point.y - data.top) / data.height);
      return row >= 0 && row < rows && column >= 0 && column < columns ? [row, column] : null;
    };
    const show = ([row, column]) => {
      const x = data.left + column * data.width, y = data.top + row * data.height;
      svgNode("rect", { class: "reading cursor-cell", x, y, width: data.width, height: data.height }, svg);
      const place = toScreen(svg, x + data.width, y + data.height);
      showTip(String(data.values[row][column]), [[data.label[0], data.rows[row]], [data.label[1], data.columns[column]]], place.x, place.y);
    };
    const within = (value, size) => Math.min(size - 1, Math.max(0, value));
    readable(svg, locate, show, (at, [dx, dy]) => (at ? [within(at[0] + dy, rows), within(at[1] + dx, columns)] : [0, 0]));
  }

  for (const plot of all(".plot")) {
    const svg = plot.querySelector("svg"), data = JSON.parse(plot.querySelector("script").textContent);
    if (plot.dataset.plot === "lines") readLines(plot, svg, data);
    else readCells(svg, data);
  }

  // A traceback says what happened at its end.
  all(".crashed pre").forEach((text) => { text.scrollTop = text.scrollHeight; });

  // Tables: numbers sort as numbers, what is no number (NaN, an empty cell) goes last either way.
  for (const figure of all("figure.table")) {
    const body = figure.querySelector("tbody");
    if (!body) continue;
    const rows = [...body.rows];
    const value = (row, column) => {
      const cell = row.cells[column];
      if (!cell) return null;
      const exact = cell.dataset.value;
      if (exact === undefined) return cell.textContent.toLowerCase();
      const parsed = Number(exact.replace("inf", "Infinity"));
      return Number.isNaN(parsed) ? null : parsed;
    };
    const compare = (a, b) => (typeof a === typeof b ? (a < b ? -1 : a > b ? 1 : 0) : typeof a === "number" ? -1 : 1);
    const headings = all("th", figure);
    headings.forEach((heading, column) => heading.querySelector("button").addEventListener("click", () => {
      const up = heading.getAttribute("aria-sort") !== "ascending";
      headings.forEach((other) => other.setAttribute("aria-sort", other === heading ? (up ? "ascending" : "descending") : "none"));
      const keyed = rows.map((row) => [value(row, column), row]);
      keyed.sort(([a], [b]) => (a === null || b === null ? (a === null) - (b === null) : up ? compare(a, b) : compare(b, a)));
      body.append(...keyed.map(([, row]) => row));
    }));
    figure.querySelector('input[type="search"]')?.addEventListener("input", (event) => {
      const sought = event.target.value.trim().toLowerCase();
      for (const row of rows) row.hidden = !row.textContent.toLowerCase().includes(sought);
    });
  }
})();
