"use strict";
// Draws the atlas from the JSON in the page. Text enters the page as text nodes only. Numbers are
// whole hundredths that were rounded when the page was written; nothing is computed from them.

const data = JSON.parse(document.getElementById("data").textContent);
const named = (fields) => (values) => Object.fromEntries(fields.map((field, place) => [field, values[place]]));
for (const head of data.heads) {
  head.relations = head.relations.map(named(data.fields.relations));
  head.sentences = head.sentences?.map(named(data.fields.sentences));
  head.ablation = head.ablation?.map(named(data.fields.ablation));
}
const byName = new Map(data.heads.map((head, number) => [head.name, number]));
const SVG = "http://www.w3.org/2000/svg";
const CELL = data.columns > 40 ? 16 : 20;
const MARGIN = 34;
const NUMBERS = [
  ["sink", "attention to the start of the text"],
  ["self", "attention to the word itself"],
  ["previous", "attention to the previous word"],
  ["entropy", "entropy of attention (nats)"],
  ["distance", "mean distance of attention (words)"],
  ["marks", "share of attention on punctuation"],
  ["output", "size of the output (layer's median head = 1)"],
  ["residual share", "size of the output against the residual stream"],
  ["positional", "share of rows that distance alone explains"],
  ["duplicate", "attention to earlier copies of a token (top1)"],
  ["induction", "attention to the token after an earlier copy (top1)"],
];

let shown = []; // numbers of the heads shown, at most two
let focused = 0; // the head that the keyboard is at
let order = data.heads.map((_, number) => number); // the rows of the table, sorted
let matching = new Set(order);
let sorting = { column: 0, down: false };

// --- building blocks

function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key === "class") made.className = value;
    else if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else if (value !== null && value !== undefined) made.setAttribute(key, value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

function shape(name, attributes = {}, ...children) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

/** Hundredths as the tables print them: .62, 1.00; a dash for a number that was not computed. */
function fraction(value) {
  if (value === null || value === undefined) return "–";
  const digits = String(Math.abs(value)).padStart(3, "0");
  const whole = digits.slice(0, -2).replace(/^0+/, "");
  return `${value < 0 ? "-" : ""}${whole}.${digits.slice(-2)}`;
}

/** A gain: +.41, -.03. */
function signed(value) {
  return value === null || value === undefined || value < 0 ? fraction(value) : `+${fraction(value)}`;
}

/** Thousandths as the tables print effects: +0.123; a dash for one that was not computed. */
function effect(value) {
  if (value === null || value === undefined) return "–";
  const digits = String(Math.abs(value)).padStart(4, "0");
  return `${value < 0 ? "-" : "+"}${digits.slice(0, -3)}.${digits.slice(-3)}`;
}

/** An interval: +.35 +.45, or the text that says why there is none. */
function span(row) {
  if (typeof row.low === "string") return row.low;
  return row.low === null || row.high === null ? "–" : `${signed(row.low)} ${signed(row.high)}`;
}

function kindOf(head) {
  return data.kinds[head.kind];
}

/** The view by which the grid is coloured: roles of another run or step; null for other colours. */
function viewOf(chosen) {
  return chosen.startsWith("view:") ? data.views[Number(chosen.slice(5))] : null;
}

function chip(kind) {
  return element("span", { class: `chip ${kind.style}` }, element("i", {}, kind.letter), kind.name);
}

// --- the grid

/** Hundredths of each head for a colour scale, and how to print one. */
function scale(name) {
  const [what, index] = name.split(":");
  if (what === "gain") {
    return { values: data.gains[index], print: signed, label: `gain: ${data.relations[index].words}` };
  }
  if (what === "effect") {
    const { outcome, values, harm } = data.effects[index];
    return { values: harm, shown: values, print: effect, label: `harm of the head's ablation: ${outcome}` };
  }
  return { values: data.heads.map((head) => head.numbers[index]), print: fraction, label: NUMBERS[index][1] };
}

function drawGrid() {
  const chosen = document.getElementById("colour").value;
  const grid = document.getElementById("grid");
  const gap = 5;
  const groups = data.heads.slice(0, data.columns).map((head) => head.group);
  const many = new Set(groups).size < data.columns ? gap : 0;
  const x = (head) => MARGIN + head.head * CELL + head.group * many;
  const y = (head) => MARGIN / 2 + head.layer * CELL;
  const width = MARGIN + data.columns * CELL + (groups.at(-1) + 1) * many;
  const height = MARGIN / 2 + data.layers * CELL + 4;
  grid.setAttribute("viewBox", `0 0 ${width} ${height}`);
  grid.setAttribute("width", width);
  grid.setAttribute("height", height);
  const parts = [];
  const every = data.columns > 40 ? 8 : data.columns > 20 ? 4 : 1;
  for (const head of data.heads.slice(0, data.columns)) {
    if (head.head % every === 0) {
      parts.push(shape("text", { class: "axis", x: x(head) + CELL / 2, y: 8 }, String(head.head)));
    }
  }
  const view = viewOf(chosen);
  const scaled = chosen === "role" || view ? null : scale(chosen);
  const largest = scaled ? Math.max(1, ...scaled.values) : 1;
  data.heads.forEach((head, number) => {
    if (head.head === 0 && (data.layers <= 48 || head.layer % 4 === 0)) {
      parts.push(shape("text", { class: "axis", x: MARGIN - 14, y: y(head) + CELL / 2 }, `L${head.layer}`));
    }
    const kind = view ? view.kinds[view.heads[number]] : kindOf(head);
    const value = scaled ? scaled.values[number] : null;
    const text = scaled ? scaled.print((scaled.shown ?? scaled.values)[number]) : view ? kind.name : head.roles.join(", ") || kind.name;
    const label = `${head.name}: ${text}`;
    const cell = shape("g", {
      class: `cell ${scaled ? "value" : kind.style}${matching.has(number) ? "" : " faded"}${shown.includes(number) ? " shown" : ""}`,
      role: "button", tabindex: number === focused ? 0 : -1, "aria-label": label, "data-head": number,
    });
    cell.append(shape("title", {}, label));
    const box = shape("rect", { x: x(head), y: y(head), width: CELL - 1, height: CELL - 1, rx: 2 });
    if (scaled) box.setAttribute("fill-opacity", value === null ? 0 : Math.max(0.04, value / largest).toFixed(3));
    cell.append(box);
    if (!scaled) {
      const second = view ? null : head.roles.find((role) => role !== kind.name && role !== "redundant");
      const letter = second ? data.kinds.find((each) => each.name === second) : null;
      cell.append(shape("text", { x: x(head) + CELL / 2 - 0.5, y: y(head) + CELL / 2 }, kind.letter + (letter ? letter.letter.toLowerCase() : "")));
      if (letter) cell.classList.add("second");
    }
    parts.push(cell);
  });
  grid.replaceChildren(...parts);
  drawLegend(scaled, largest, view);
}

function drawLegend(scaled, largest, view) {
  const legend = document.getElementById("legend");
  const hint = document.getElementById("hint");
  const search = document.getElementById("search");
  if (scaled) {
    const steps = [0, 0.25, 0.5, 0.75, 1].map((step) => {
      const bar = shape("svg", { width: 26, height: 14, "aria-hidden": "true" },
        shape("rect", { width: 26, height: 14, "fill-opacity": Math.max(0.04, step) }));
      return element("li", { class: "step" }, bar);
    });
    legend.replaceChildren(element("li", {}, "0"), ...steps, element("li", {}, scaled.print(largest)));
    hint.textContent = `Darker is larger. ${scaled.label}.`;
    return;
  }
  if (view) {
    legend.replaceChildren(...view.kinds.map((kind) =>
      element("li", {}, chip(kind), element("span", { class: "note" }, ` ${kind.heads}`))));
    hint.textContent = `${view.label}.`;
    return;
  }
  legend.replaceChildren(...data.kinds.map((kind) => {
    const count = kind.heads === kind.strongest ? `${kind.heads}` : `${kind.heads} (${kind.strongest} strongest)`;
    const pressed = search.value === kind.name;
    const button = element("button", {
      type: "button", "aria-pressed": String(pressed), title: `Show only ${kind.name}`,
      onclick: () => { search.value = pressed ? "" : kind.name; filter(); },
    }, chip(kind), element("span", { class: "note" }, ` ${count}`));
    return element("li", {}, button);
  }));
  hint.textContent = data.kinds.some((kind) => kind.heads !== kind.strongest)
    ? "Capital letter: strongest role. The small letter after it: another role of the same head."
    : "";
}

function moveFocus(rows, columns) {
  const head = data.heads[focused];
  const layer = Math.min(Math.max(head.layer + rows, 0), data.layers - 1);
  const column = Math.min(Math.max(head.head + columns, 0), data.columns - 1);
  focusCell(layer * data.columns + column);
}

function focusCell(number) {
  const grid = document.getElementById("grid");
  grid.querySelector('[tabindex="0"]')?.setAttribute("tabindex", "-1");
  focused = number;
  const cell = grid.querySelector(`[data-head="${number}"]`);
  cell.setAttribute("tabindex", "0");
  cell.focus({ preventScroll: false });
}

// --- one head

function numberLine(head) {
  return element("p", { class: "facts-line" }, ...NUMBERS.map(([name, meaning], index) =>
    head.numbers[index] === null ? null : element("span", { title: meaning }, `${name} `, element("b", {}, fraction(head.numbers[index])))));
}

function interval(row) {
  if (row.high === null) return "";
  const at = (value) => 60 + Math.max(-100, Math.min(100, value)) * 0.58;
  return shape("svg", { class: "interval", width: 120, height: 14, "aria-hidden": "true" },
    shape("line", { x1: 60, x2: 60, y1: 0, y2: 14 }),
    shape("line", { class: "range", x1: at(row.low), x2: at(row.high), y1: 7, y2: 7 }),
    shape("circle", { cx: at(row.gain), cy: 7, r: 3 }));
}

function tableOf(headings, rows) {
  const head = element("tr", {}, ...headings.map(([name, kind]) => element("th", { class: kind, scope: "col" }, name)));
  return element("div", { class: "scroll" }, element("table", {}, element("thead", {}, head), element("tbody", {}, ...rows)));
}

function cell(text, kind = "") {
  return element("td", { class: kind }, text);
}

function relationTable(head) {
  const headings = [["looks for", ""], ["n", "number"], ["top1", "number"], ["baseline", ""], ["gain", "number"],
    ["95 %", ""], ["", "hide-print"], ["held out", "number"], ["category", "number"], ["q", "number"]];
  const rows = head.relations.map((row) => element("tr", { class: row.role ? "earned" : "" },
    element("td", { class: "wrap" }, data.relations[row.relation].words, row.role ? element("div", { class: "note" }, `earns ${row.role}${row.beats === "category" ? ", beats category" : ""}`) : null),
    cell(data.relations[row.relation].n.toLocaleString("en"), "number"),
    cell(fraction(row.top1), "number"),
    cell(`${fraction(row.over)} ${data.baselines[row.baseline] ?? ""}`),
    cell(signed(row.gain), "number"),
    cell(span(row)),
    element("td", { class: "hide-print" }, interval(row)),
    cell(signed(row.out), "number"),
    cell(fraction(row.category), "number"),
    cell(row.q, "number")));
  return tableOf(headings, rows);
}

function baselineLines(head) {
  return head.relations.filter((row) => row.all).map((row) => element("p", { class: "facts-line" },
    element("span", {}, `${data.relations[row.relation].words}: head `, element("b", {}, fraction(row.top1)), ", rules "),
    ...Object.entries(row.all).sort((a, b) => b[1] - a[1]).map(([name, value]) =>
      element("span", {}, `${name} `, element("b", {}, fraction(value))))));
}

function profile(head) {
  const widest = Math.max(1, ...head.profile.map(([, share]) => share));
  const bars = head.profile.flatMap(([distance, share], row) => [
    shape("text", { x: 44, y: row * 16 + 12, "text-anchor": "end", class: "soft" }, distance),
    shape("rect", { x: 50, y: row * 16 + 3, width: (share / widest) * 240, height: 11 }),
    shape("text", { x: 56 + (share / widest) * 240, y: row * 16 + 12 }, fraction(share)),
  ]);
  return shape("svg", { class: "bars", viewBox: `0 0 340 ${head.profile.length * 16 + 4}`, width: 340, role: "img",
    "aria-label": "Share of attention by distance in words" }, ...bars);
}

function domainTable(head) {
  const headings = [["looks for", ""], ["domain", ""], ["n", "number"], ["top1", "number"], ["baseline", "number"], ["gain", "number"]];
  return tableOf(headings, head.domains.map((row) => element("tr", {},
    cell(data.relations[row.relation].words), cell(row.domain), cell(row.n.toLocaleString("en"), "number"),
    cell(fraction(row.top1), "number"), cell(fraction(row.over), "number"), cell(signed(row.gain), "number"))));
}

const OUTCOMES = {
  hit: "looks most at a target",
  miss: "looks most at another word",
  same_form: "looks most at an antecedent of the same form, which does not count",
};

function sentence(example) {
  const [words, gluedPlaces, gapPlaces, passage] = data.texts[example.text];
  const glued = new Set(gluedPlaces);
  const gaps = new Set(gapPlaces);
  const weights = new Map(example.attended);
  const line = element("div", { class: `sentence ${example.outcome}`, title: OUTCOMES[example.outcome] });
  words.forEach((word, place) => {
    if (gaps.has(place)) line.append(place ? " … " : "… ");
    else if (place && !glued.has(place)) line.append(" ");
    const weight = weights.get(place);
    const classes = ["word"];
    if (place === example.query) classes.push("query");
    if (example.targets.includes(place) && (weight || place === example.missed[0])) classes.push("target");
    if (example.missed.includes(place)) classes.push("missed");
    const made = element("span", { class: classes.join(" "), "data-place": place });
    if (weight) {
      const shade = element("span", { class: "shade" });
      shade.style.opacity = Math.min(0.55, 0.12 + weight / 160);
      made.append(shade);
    }
    made.append(word);
    if (weight) made.append(element("sub", {}, fraction(weight)));
    line.append(made);
  });
  if (gaps.has(words.length)) line.append(" …");
  line.append(element("span", { class: "passage" }, passage));
  line.arcs = () => drawArcs(line, example);
  return line;
}

/** Arcs from the word that looks to the words it looks at; wider where it looks more. */
function drawArcs(line, example) {
  line.querySelector("svg")?.remove();
  const frame = line.getBoundingClientRect();
  const middle = (place) => {
    const box = line.querySelector(`[data-place="${place}"]`)?.getClientRects()[0];
    return box && { x: box.left + box.width / 2 - frame.left, y: box.top - frame.top + 2 };
  };
  const from = middle(example.query);
  if (!from) return;
  const arcs = shape("svg", { "aria-hidden": "true" });
  for (const [place, weight] of example.attended) {
    const to = middle(place);
    if (!to || place === example.query) continue;
    const lift = from.y === to.y ? Math.min(16, 6 + Math.abs(from.x - to.x) / 30) : 14;
    arcs.append(shape("path", {
      class: example.targets.includes(place) ? "target" : "",
      d: `M${from.x} ${from.y} C${from.x} ${from.y - lift} ${to.x} ${to.y - lift} ${to.x} ${to.y}`,
      "stroke-width": (0.8 + weight / 35).toFixed(2), "stroke-opacity": (0.35 + weight / 200).toFixed(2),
    }));
  }
  line.append(arcs);
}

function sentences(head) {
  if (!head.sentences) {
    return data.omitted && head.relations.length
      ? [element("p", { class: "note" }, `Its sentences are left out to keep the page small: headprobe show-head ${head.name}`)]
      : [];
  }
  const subjects = [...new Set(head.sentences.map((each) => each.about))];
  return subjects.flatMap((about) => [
    element("h3", {}, data.subjects[about]),
    ...["hit", "same_form", "miss"].flatMap((outcome) => {
      const found = head.sentences.filter((each) => each.about === about && each.outcome === outcome);
      return found.length ? [element("p", { class: "note" }, OUTCOMES[outcome]), ...found.map(sentence)] : [];
    }),
  ]);
}

function similar(head) {
  const found = data.pairs.filter((pair) => pair.a === head.name || pair.b === head.name);
  if (!found.length) return [];
  return [element("h3", {}, "Similar heads"), ...found.map((pair) => {
    const other = pair.a === head.name ? pair.b : pair.a;
    return element("p", {}, element("button", { type: "button", class: "compare", onclick: () => show([byName.get(head.name), byName.get(other)]) }, other),
      ` ${pair.relation === "opposes" ? "writes the opposite" : "attends and writes alike"}: affinity ${fraction(pair.affinity)}, output cosine ${fraction(pair.cosine)}`);
  })];
}

/** What the model loses without the head, and which heads take over. */
function importance(head) {
  const parts = [];
  if (head.ablation) {
    const headings = [["ablated", ""], ["outcome", ""], ["effect", "number"], ["95 %", ""], ["q", "number"], ["recovery by its label", ""]];
    parts.push(element("h3", {}, "Without this head"), tableOf(headings, head.ablation.map((row) => element("tr", { class: row.important ? "earned" : "" },
      cell(row.set, "wrap"), cell(row.outcome), cell(effect(row.effect), "number"),
      cell(row.low === null ? "–" : `${effect(row.low)} ${effect(row.high)}`), cell(row.q, "number"), cell(row.recovery)))));
  }
  if (head.takeover) {
    parts.push(element("h3", {}, "Takeover"), ...head.takeover.map((line) => element("p", { class: "note" }, line)));
  }
  return parts;
}

function card(number) {
  const head = data.heads[number];
  const kind = kindOf(head);
  const others = head.roles.filter((role) => role !== kind.name && role !== "redundant");
  return element("article", { "aria-label": head.name },
    element("h2", {}, head.name, chip(kind),
      element("span", { class: "note" }, `KV group ${head.group}${head.strength === null ? "" : `, strength ${fraction(head.strength)}`}${others.length ? `, also ${others.join(", ")}` : ""}${head.repeats ? `, repeats ${head.repeats}` : ""}`),
      element("button", { type: "button", class: "close", "aria-label": `Close ${head.name}`, onclick: () => show(shown.filter((each) => each !== number)) }, "Close")),
    element("p", { class: "reason" }, head.reason),
    numberLine(head),
    element("h3", {}, "Relations"), relationTable(head), ...baselineLines(head),
    ...importance(head),
    ...sentences(head),
    element("h3", {}, "How far back it looks"), element("p", { class: "note" }, "share of attention by distance in words"), profile(head),
    ...(head.domains.length ? [element("h3", {}, "By domain"), domainTable(head)] : []),
    ...similar(head));
}

function show(numbers, keepHash = false) {
  shown = numbers.filter((number) => number !== undefined).slice(-2);
  document.querySelector("main").classList.toggle("open", shown.length > 0);
  document.getElementById("heads-shown").replaceChildren(...shown.map(card));
  const hash = shown.map((number) => data.heads[number].name).join("+");
  if (!keepHash) history.replaceState(null, "", hash ? `#${hash}` : location.pathname + location.search);
  drawGrid();
  redrawArcs();
  if (shown.length) document.getElementById("heads-shown").scrollIntoView({ block: "nearest" });
}

function redrawArcs() {
  for (const line of document.querySelectorAll(".sentence")) line.arcs();
}

// --- the table of heads

const COLUMNS = [
  ["head", "", (head) => head.name, (head) => head.layer * data.columns + head.head],
  ["role", "", (head) => kindOf(head).name],
  ["also", "", (head) => head.roles.filter((role) => role !== kindOf(head).name && role !== "redundant").join(", ")],
  ["strength", "number", (head) => fraction(head.strength), (head) => head.strength],
  ["looks for", "", (head) => (head.relations[0] ? data.relations[head.relations[0].relation].words : "")],
  ["top1", "number", (head) => fraction(head.relations[0]?.top1), (head) => head.relations[0]?.top1],
  ["baseline", "", (head) => (head.relations[0] ? `${fraction(head.relations[0].over)} ${data.baselines[head.relations[0].baseline] ?? ""}` : ""), (head) => head.relations[0]?.over],
  ["gain", "number", (head) => signed(head.relations[0]?.gain), (head) => head.relations[0]?.gain],
  ["95 %", "", (head) => (head.relations[0] ? span(head.relations[0]) : ""), (head) => (head.relations[0]?.high === null ? null : head.relations[0]?.low)],
  ...[0, 3, 6].map((index) => [NUMBERS[index][0], "number", (head) => fraction(head.numbers[index]), (head) => head.numbers[index]]),
];

function drawTable() {
  const head = element("tr", {}, ...COLUMNS.map(([name, kind], column) =>
    element("th", { class: kind, scope: "col", "aria-sort": sorting.column === column ? (sorting.down ? "descending" : "ascending") : "none" },
      element("button", { type: "button", onclick: () => sortBy(column) }, name + (sorting.column === column ? (sorting.down ? " ▼" : " ▲") : "")))));
  const rows = order.filter((number) => matching.has(number)).map((number) =>
    element("tr", { class: "link", "data-head": number, onclick: (event) => open(number, event.shiftKey) },
      ...COLUMNS.map(([, kind, text], column) => column === 0
        ? element("td", {}, element("a", { href: `#${data.heads[number].name}` }, text(data.heads[number])))
        : cell(text(data.heads[number]), kind))));
  const table = document.getElementById("table");
  table.tHead.replaceChildren(head);
  table.tBodies[0].replaceChildren(...rows);
  document.getElementById("count").textContent = matching.size === data.heads.length
    ? `${data.heads.length} heads` : `${matching.size} of ${data.heads.length} heads`;
}

function sortBy(column) {
  const [, kind, text, value = text] = COLUMNS[column];
  sorting = { column, down: sorting.column === column ? !sorting.down : kind === "number" };
  const sign = sorting.down ? -1 : 1;
  order.sort((one, two) => {
    const [a, b] = [value(data.heads[one]), value(data.heads[two])];
    const [noA, noB] = [a === null || a === undefined || a === "", b === null || b === undefined || b === ""];
    if (noA || noB) return noA - noB || one - two; // what has no value comes last in both directions
    return (a < b ? -sign : a > b ? sign : 0) || one - two;
  });
  drawTable();
}

function filter() {
  const words = document.getElementById("search").value.toLowerCase().split(/\s+/).filter(Boolean);
  const kinds = new Set(data.kinds.map((kind) => kind.name));
  matching = new Set();
  data.heads.forEach((head, number) => {
    const roles = [kindOf(head).name, ...head.roles];
    const about = head.relations.filter((row) => row.role).map((row) => data.relations[row.relation].words);
    // the reason of a head without a role is of the relation that it misses
    const text = [head.name, ...roles, head.roles.length ? head.reason : "", ...about].join(" ").toLowerCase();
    const matches = (word) => (kinds.has(word) ? roles.includes(word) : /^l\d+h\d+$/.test(word) ? head.name.toLowerCase() === word : text.includes(word));
    if (words.every(matches)) matching.add(number);
  });
  drawTable();
  drawGrid();
}

function open(number, beside) {
  focused = number;
  show(beside && shown.length ? [shown[0], number] : [number]);
}

function step(by) {
  const rows = order.filter((number) => matching.has(number));
  if (!rows.length) return;
  const place = rows.indexOf(shown[0]);
  open(rows[(place < 0 ? (by > 0 ? 0 : rows.length - 1) : place + by + rows.length) % rows.length], false);
}

// --- the rest of the page

function drawRelations() {
  const headings = [["relation", ""], ["n", "number"], ["smallest detectable gain", "number"], ["largest gain", "number"], ["head", ""]];
  const table = document.getElementById("relations");
  table.tHead.replaceChildren(element("tr", {}, ...headings.map(([name, kind]) => element("th", { class: kind, scope: "col" }, name))));
  table.tBodies[0].replaceChildren(...data.relations.map((relation, index) => {
    const gains = data.gains[index];
    let best = -1;
    gains.forEach((gain, number) => { if (gain !== null && (best < 0 || gain > gains[best])) best = number; });
    return element("tr", { class: "link", title: "Colour the heads by this gain", onclick: () => colour(`gain:${index}`) },
      element("td", {}, element("button", { type: "button", onclick: () => colour(`gain:${index}`) }, relation.words)),
      cell(relation.n.toLocaleString("en"), "number"),
      cell(relation.why && relation.detectable === null ? relation.why : fraction(relation.detectable), "number"),
      cell(best < 0 ? "–" : signed(gains[best]), "number"), cell(best < 0 ? "" : data.heads[best].name));
  }));
}

/** The section about another run, or about the steps of a training. */
function drawSection() {
  const { title, sentence, notes, headings, rows } = data.section;
  const table = tableOf(headings, rows.map((row) =>
    element("tr", row.head === null ? {} : { class: "link", onclick: (event) => open(row.head, event.shiftKey) },
      ...row.cells.map((text, column) => column === 0 && row.head !== null
        ? element("td", {}, element("a", { href: `#${data.heads[row.head].name}` }, text))
        : cell(text, headings[column][1] || "wrap")))));
  const found = document.getElementById("section");
  document.getElementById("sentence").textContent = sentence;
  found.append(element("h2", {}, title),
    ...notes.map((note) => element("p", { class: "note" }, note)), table);
  found.hidden = false;
}

/** The slider that moves through the steps of a training; its last step is this run. */
function startSlider() {
  const slider = document.getElementById("step");
  const label = document.getElementById("step-name");
  slider.max = data.views.length - 1;
  slider.value = slider.max;
  label.textContent = data.views.at(-1).label;
  slider.addEventListener("input", () => {
    label.textContent = data.views[slider.value].label;
    document.getElementById("colour").value = `view:${slider.value}`;
    drawGrid();
  });
  document.getElementById("steps").hidden = false;
}

function colour(value) {
  document.getElementById("colour").value = value;
  drawGrid();
  document.querySelector(".map").scrollIntoView({ block: "nearest" });
}

function readHash() {
  const names = decodeURIComponent(location.hash.slice(1)).split("+");
  show(names.map((name) => byName.get(name)), true);
}

function start() {
  const groups = new Set(data.heads.slice(0, data.columns).map((head) => head.group)).size;
  document.getElementById("shape").textContent =
    `${data.heads.length.toLocaleString("en")} attention heads: ${data.layers} layers of ${data.columns}` +
    (groups < data.columns ? `, in ${groups} KV groups` : "");
  const select = document.getElementById("colour");
  const option = (value, label) => element("option", { value }, label);
  const views = data.views ?? [];
  select.append(option("role", "role"),
    ...(views.length ? [element("optgroup", { label: data.slider ? "roles at a step" : "another run" },
      ...views.map((view, index) => option(`view:${index}`, view.label)))] : []),
    element("optgroup", { label: "statistics" }, ...NUMBERS.map(([name], index) => option(`number:${index}`, name))),
    ...(data.effects.length ? [element("optgroup", { label: "harm of ablation" }, ...data.effects.map((each, index) => option(`effect:${index}`, each.outcome)))] : []),
    element("optgroup", { label: "gain on a relation" }, ...data.relations.map((relation, index) => option(`gain:${index}`, relation.words))));
  select.addEventListener("change", drawGrid);
  const search = document.getElementById("search");
  search.addEventListener("input", filter);
  search.addEventListener("keydown", (event) => { if (event.key === "Enter" && search.value && matching.size) open(order.find((number) => matching.has(number)), event.shiftKey); });
  const help = document.getElementById("help");
  const toggle = () => { help.hidden = !help.hidden; document.getElementById("help-button").setAttribute("aria-expanded", String(!help.hidden)); };
  document.getElementById("help-button").addEventListener("click", toggle);
  const grid = document.getElementById("grid");
  grid.addEventListener("click", (event) => {
    const chosen = event.target.closest("[data-head]");
    if (chosen) open(Number(chosen.dataset.head), event.shiftKey);
  });
  const moves = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
  grid.addEventListener("keydown", (event) => {
    if (moves[event.key]) moveFocus(...moves[event.key]);
    else if (event.key === "Home") moveFocus(0, -data.columns);
    else if (event.key === "End") moveFocus(0, data.columns);
    else if (event.key === "Enter" || event.key === " ") { open(focused, event.shiftKey); focusCell(focused); }
    else return;
    event.preventDefault();
  });
  document.addEventListener("keydown", (event) => {
    const typing = ["INPUT", "SELECT"].includes(document.activeElement.tagName);
    if (event.key === "Escape") {
      if (typing && search.value) { search.value = ""; filter(); } else if (typing) document.activeElement.blur();
      else show([]);
    } else if (typing || event.ctrlKey || event.metaKey || event.altKey) return;
    else if (event.key === "/") { event.preventDefault(); search.focus(); }
    else if (event.key === "n") step(1);
    else if (event.key === "p") step(-1);
    else if (event.key === "?") toggle();
  });
  window.addEventListener("hashchange", readHash);
  let waiting = null;
  window.addEventListener("resize", () => { clearTimeout(waiting); waiting = setTimeout(redrawArcs, 80); });
  const facts = document.getElementById("facts");
  for (const [label, text] of data.facts) facts.append(element("dt", {}, label), element("dd", {}, text));
  if (data.section) drawSection();
  if (data.slider) startSlider();
  drawRelations();
  drawTable();
  readHash();
}

start();
