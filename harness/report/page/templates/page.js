"use strict";
// The table (Tabulator) and the chart (plotly.js), from the numbers in the page; what is shown is kept in the address.
const form = document.getElementById("filters");
const narrow = matchMedia("(max-width: 600px)");
const dark = matchMedia("(prefers-color-scheme: dark)");
const sections = Array.from(document.querySelectorAll("section[data-data]"));
const views = [];
const state = { sort: "", order: "", columns: null }; // order: asc or desc; columns: titles, null where those at first
const CARD = ["Rsum", "ms per query"]; // beside the name where there is little room; all else stands below it

const fields = () => Array.from(form.elements).filter((field) => field.name);
const sliders = () => Array.from(document.querySelectorAll("form.wish input[type=range]")); // of the choice

function readAddress() {
  const asked = new URLSearchParams(location.hash.includes("=") ? location.hash.slice(1) : "");
  for (const field of fields()) field.value = asked.get(field.name) ?? "";
  for (const field of fields()) if (field.selectedIndex === -1) field.value = "";
  state.sort = asked.get("sort") ?? "Rsum";
  state.order = asked.get("order") === "asc" ? "asc" : "desc";
  state.columns = asked.has("column") ? asked.getAll("column") : null;
  for (const slider of sliders()) {
    const place = asked.get(slider.id) ?? "";
    slider.value = /^\d+$/.test(place) && Number(place) <= Number(slider.max) ? place : slider.defaultValue;
    slider.dispatchEvent(new Event("input", { bubbles: true })); // the choice is made anew
  }
}

function writeAddress() {
  const said = new URLSearchParams();
  for (const field of fields()) if (field.value) said.set(field.name, field.value);
  if (state.sort !== "Rsum" || state.order !== "desc") (said.set("sort", state.sort), said.set("order", state.order));
  for (const title of state.columns ?? []) said.append("column", title);
  for (const slider of sliders()) if (slider.value !== slider.defaultValue) said.set(slider.id, slider.value);
  const kept = said.size ? `#${said}` : location.pathname + location.search;
  if (said.size || location.hash.includes("=")) history.replaceState(null, "", kept);
}

function fits(row) {
  const { name, family, aligned, seeds } = form.elements;
  return row.name.toLowerCase().includes(name.value.trim().toLowerCase())
    && (family.value === "" || row.family === family.value)
    && (!aligned || aligned.value === "" || String(row.aligned) === aligned.value)
    && row.seeds >= Number(seeds.value);
}

function front(marks) {
  // single models that no other beats, from fast to slow
  let best = -Infinity;
  const sorted = marks.filter((mark) => mark.meta.kind === "one model").sort((a, b) => a.x[0] - b.x[0] || b.y[0] - a.y[0]);
  return sorted.filter((mark) => mark.y[0] > best && ((best = mark.y[0]), true));
}

class View {
  // The table of one section.
  constructor(section) {
    this.section = section;
    this.element = section.querySelector(".table");
    const { columns, rows } = JSON.parse(document.getElementById(this.element.dataset.table).textContent);
    this.columns = columns;
    this.rows = rows;
    this.kinds = Array.from(new Set(rows.map((row) => row.kind)));
    this.choices();
    this.build();
    section.querySelector(".csv").addEventListener("click", () => this.save());
  }

  chosen() {
    const wanted = (column, at) => at === 0 || (state.columns ? state.columns.includes(column.title) : column.first);
    return this.columns.map((column, at) => ({ ...column, at })).filter((column) => wanted(column, column.at));
  }

  build() {
    this.table?.destroy();
    this.built = false;
    const shown = this.chosen();
    const beside = shown.filter((column) => column.at === 0 || !narrow.matches || CARD.includes(column.title));
    const below = shown.filter((column) => !beside.includes(column));
    const data = this.rows.map((row) => ({
      row, kind: row.kind,
      ...Object.fromEntries(this.columns.map((column, at) => [`c${at}`, column.number ? row.cells[at].sort : row.cells[at].text])),
    }));
    const sorted = beside.find((column) => column.title === state.sort);
    this.table = new Tabulator(this.element, {
      data,
      columns: beside.map((column) => this.definition(column, below)),
      layout: narrow.matches ? "fitColumns" : "fitDataFill",
      renderVertical: "basic",
      columnHeaderVertAlign: "bottom",
      placeholder: "No row of this table fits the filters.",
      initialSort: sorted ? [{ column: `c${sorted.at}`, dir: state.order }] : [],
      rowFormatter: (row) => row.getElement().classList.add(row.getData().row?.state ?? ""),
      ...(this.kinds.length > 1 && {
        groupBy: "kind", groupValues: [this.kinds.sort()], groupToggleElement: false,
        groupHeader: (kind, count) => this.heading(`${kind}: ${count} row${count === 1 ? "" : "s"}`),
      }),
    });
    this.table.on("tableBuilt", () => ((this.built = true), this.element.classList.add("built"), this.filter()));
    this.table.on("renderComplete", () => this.reachable());
    this.table.on("dataSorted", (sorters) => {
      if (!this.built || !sorters.length) return;
      [state.sort, state.order] = [this.columns[Number(sorters[0].field.slice(1))].title, sorters[0].dir];
      writeAddress();
    });
  }

  definition(column, below) {
    const words = column.at === 0;
    return {
      title: column.title,
      field: `c${column.at}`,
      frozen: words && !narrow.matches,
      hozAlign: column.number ? "right" : "left",
      headerHozAlign: column.number ? "right" : "left",
      headerTooltip: column.about || false,
      headerWordWrap: true,
      sorter: column.number ? "number" : "string",
      sorterParams: { alignEmptyValues: "bottom" },
      headerSortStartingDir: column.number && column.better !== "lower" ? "desc" : "asc",
      formatter: (cell) => this.content(cell.getData().row, column.at, words ? below : []),
      ...(narrow.matches ? { variableHeight: true, ...(words ? {} : { width: column.title === CARD[0] ? 105 : 75 }) } : { maxWidth: 340 }),
    };
  }

  heading(words) {
    const cell = Object.assign(document.createElement("span"), { textContent: words });
    cell.setAttribute("role", "gridcell");
    return cell;
  }

  reachable() {
    // by keyboard and by screen readers: headings sort, the body scrolls, a heading of a group is a row of the grid
    for (const header of this.element.querySelectorAll(".tabulator-col.tabulator-sortable:not([tabindex])")) {
      header.tabIndex = 0;
      header.addEventListener("keydown", (event) => {
        if (event.key !== "Enter" && event.key !== " ") return;
        event.preventDefault();
        header.click();
      });
    }
    for (const group of this.element.querySelectorAll(".tabulator-group")) group.setAttribute("role", "row");
    this.element.querySelector(".tabulator-tableholder").removeAttribute("tabindex");
    this.element.querySelector(".tabulator-tableholder [role=gridcell]")?.setAttribute("tabindex", "0");
  }

  content(row, at, below) {
    const { text, look, claims } = row.cells[at];
    const cell = document.createElement("span");
    cell.className = look;
    cell.append(text);
    for (const claim of claims ?? []) {
      if (claim === claims[0]) cell.textContent = "";
      const source = Object.assign(document.createElement("a"), { href: `#source-${claim.source}`, textContent: `[${claim.source}]` });
      const line = Object.assign(document.createElement("span"), { className: "small", textContent: `${claim.value} ${claim.words} ` });
      line.append(source);
      cell.append(line);
    }
    const more = below.map((column) => `${column.title} ${row.cells[column.at].text}`).join(" · ");
    for (const words of at === 0 ? [row.words, more].filter(Boolean) : []) {
      cell.append(Object.assign(document.createElement("span"), { className: "small", textContent: words }));
    }
    return cell;
  }

  choices() {
    const box = this.section.querySelector(".columns fieldset");
    const chosen = this.chosen().map((column) => column.at);
    for (const [at, column] of this.columns.entries()) {
      const mark = Object.assign(document.createElement("input"), { type: "checkbox", value: column.title, checked: chosen.includes(at), disabled: at === 0 });
      const label = document.createElement("label");
      label.append(mark, ` ${column.title}`);
      box.append(label);
    }
    box.addEventListener("change", () => {
      state.columns = Array.from(box.querySelectorAll("input:checked"), (mark) => mark.value);
      for (const view of views) view.build();
      writeAddress();
    });
  }

  filter() {
    if (!this.built) return;
    this.table.setFilter((data) => fits(data.row));
    if (this.hidden && !this.section.hidden) this.table.redraw(true); // widths are not known while it is hidden
    this.hidden = this.section.hidden;
  }

  point(name) {
    for (const row of this.table.getRows("active")) row.getElement().classList.toggle("pointed", row.getData().row.name === name);
  }

  save() {
    // what is shown, in its order: a number a cell, standard deviations in columns of their own
    const quoted = (value) => (/[",\n]/.test(String(value)) ? `"${String(value).replaceAll('"', '""')}"` : String(value));
    const shown = this.chosen();
    const withSd = (column) => this.rows.some((row) => row.cells[column.at].sd !== undefined);
    const rows = this.table.getRows("active").map((row) => row.getData().row).sort((a, b) => this.kinds.indexOf(a.kind) - this.kinds.indexOf(b.kind));
    const value = (column, cell) => (column.number && !cell.claims ? cell.sort : cell.text) ?? "";
    const lines = [
      [...shown.flatMap((column) => [column.title, ...(withSd(column) ? [`${column.title} sd`] : [])]), "kind"],
      ...rows.map((row) => [
        ...shown.flatMap((column) => [value(column, row.cells[column.at]), ...(withSd(column) ? [row.cells[column.at].sd ?? ""] : [])]),
        row.kind,
      ]),
    ];
    const text = lines.map((line) => line.map(quoted).join(",")).join("\n") + "\n";
    const link = Object.assign(document.createElement("a"), {
      href: URL.createObjectURL(new Blob([text], { type: "text/csv" })), download: `${this.element.dataset.name}.csv`,
    });
    link.click();
  }
}

function colours() {
  const of = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const line = { gridcolor: of("--grid"), zerolinecolor: of("--grid"), linecolor: of("--line") };
  return { "font.color": of("--ink"), "hoverlabel.bgcolor": of("--paper"),
    ...Object.fromEntries(["xaxis", "yaxis"].flatMap((axis) => Object.entries(line).map(([key, value]) => [`${axis}.${key}`, value]))) };
}

async function draw(section) {
  const chart = section.querySelector(".chart");
  if (!chart || window.Plotly === undefined) return;
  const figure = JSON.parse(document.getElementById(chart.dataset.chart).textContent);
  const config = { responsive: true, displaylogo: false, modeBarButtonsToRemove: ["lasso2d", "select2d"] };
  chart.classList.add("drawn");
  await Plotly.newPlot(chart, figure.data, figure.layout, config);
  await Plotly.relayout(chart, colours());
  const view = views.find((other) => other.section === section);
  chart.on("plotly_hover", (event) => view?.point(event.points[0].data.meta?.name));
  chart.on("plotly_unhover", () => view?.point(null));
}

function filterChart(chart) {
  const marks = chart.data.filter((trace) => trace.meta && fits(trace.meta));
  const line = front(marks);
  Plotly.restyle(chart, { visible: chart.data.map((trace) => trace.meta === undefined || marks.includes(trace)) });
  Plotly.restyle(chart, { x: [line.map((mark) => mark.x[0])], y: [line.map((mark) => mark.y[0])] }, [0]);
  if (chart.offsetParent) Plotly.Plots.resize(chart);
}

function filter() {
  const data = form.elements.data?.value ?? "";
  for (const part of document.querySelectorAll("[data-data]")) part.hidden = data !== "" && part.dataset.data !== data;
  for (const view of views) view.filter();
  for (const chart of document.querySelectorAll(".chart.drawn")) filterChart(chart);
  const all = views.flatMap((view) => view.rows);
  const shown = views.filter((view) => !view.section.hidden).flatMap((view) => view.rows.filter(fits));
  document.getElementById("shown").textContent = `${shown.length} of ${all.length} shown`;
}

function rebuild() {
  for (const view of views) view.build();
}

form.addEventListener("input", () => (filter(), writeAddress()));
for (const wish of document.querySelectorAll("form.wish")) wish.addEventListener("change", writeAddress);
form.addEventListener("submit", (event) => event.preventDefault());
addEventListener("hashchange", () => location.hash.includes("=") && (readAddress(), rebuild(), filter()));
document.querySelector("nav").addEventListener("click", (event) => {
  // to a heading, without taking what is shown out of the address
  const target = event.target.hash && document.getElementById(event.target.hash.slice(1));
  if (!target) return;
  event.preventDefault();
  target.tabIndex = -1;
  target.focus();
  target.scrollIntoView();
});
addEventListener("beforeprint", () => document.querySelectorAll("details").forEach((box) => (box.open = true)));
if (narrow.matches) document.getElementById("filter-box").open = false;
document.addEventListener("DOMContentLoaded", async () => {
  readAddress();
  document.documentElement.classList.add("scripted");
  if (window.Tabulator !== undefined) views.push(...sections.map((section) => new View(section)));
  for (const section of sections) await draw(section);
  filter();
  narrow.addEventListener("change", rebuild);
  dark.addEventListener("change", () => document.querySelectorAll(".chart.drawn").forEach((chart) => Plotly.relayout(chart, colours())));
});
