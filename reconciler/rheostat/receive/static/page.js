"use strict";
(() => {
  const colours = { gil: "#3b7dd8", cpu: "#d9822b", wall: "#6f56b5", memory: "#2f9e6e", "": "#7a8691" };
  const $ = (id) => document.getElementById(id);
  const inline = window.RHEOSTAT;
  let data = inline || { names: [], stacks: [], profiles: [] };
  let chart = null;
  const tags = new Map();

  const mode = (p) => (p.labels.__name__ === "memory" ? "memory" : p.labels.profiling_mode || "");
  const row = (p) =>
    [p.labels.service_name || "?", p.labels.instance, p.labels.pid && `pid ${p.labels.pid}`].filter(Boolean).join(" · ");
  const begins = (p) => p.at - (p.seconds || 1);
  const clock = (at) => new Date(at * 1000).toLocaleTimeString();

  function bounds() {
    const all = data.profiles;
    if (!all.length) return [0, 1];
    const low = Math.min(...all.map(begins));
    return [low, Math.max(low + 1, ...all.map((p) => p.at))];
  }

  function chosen(from, to) {
    const [low, high] = bounds();
    const at = (id) => low + ((high - low) * $(id).value) / 1000;
    return [Math.min(at(from), at(to)), Math.max(at(from), at(to))];
  }

  function selected([low, high]) {
    const type = $("type").value;
    return data.profiles.filter(
      (p) =>
        p.at > low && begins(p) < high && p.types.includes(type) &&
        [...tags].every(([tag, value]) => !value || p.labels[tag] === value));
  }

  // The samples of some profiles as a tree: a node's value includes those of its children.
  function tree(profiles, type, into, side) {
    for (const p of profiles) {
      const column = 1 + p.types.indexOf(type);
      for (const sample of p.samples) {
        const value = sample[column];
        let node = into;
        node[side] += value;
        for (const name of data.stacks[sample[0]].slice().reverse()) {
          let next = node.index.get(name);
          if (!next) {
            next = fresh(data.names[name]);
            node.index.set(name, next);
          }
          node = next;
          node[side] += value;
        }
        node.self += side === "a" ? value : 0;
      }
    }
    return into;
  }

  const fresh = (name) => ({ name, a: 0, b: 0, self: 0, index: new Map() });

  function finished(node, scale) {
    node.value = scale === null ? node.a : node.a + node.b * scale;
    node.delta = scale === null ? 0 : node.a - node.b * scale;
    node.children = [...node.index.values()].map((child) => finished(child, scale));
    delete node.index;
    return node;
  }

  function amount(value, type) {
    if (type.endsWith("/nanoseconds")) return `${(value / 1e9).toPrecision(3)} s`;
    if (type.endsWith("/bytes")) return `${(value / 2 ** 20).toPrecision(3)} MiB`;
    return value.toLocaleString();
  }

  function drawTimeline() {
    const rows = [...new Set(data.profiles.map(row))].sort();
    const [low, high] = bounds();
    const width = Math.max(280, $("timeline").clientWidth);
    const bar = 16, gap = 22, height = rows.length * (bar + gap) + 4;
    const x = (at) => ((at - low) / (high - low)) * width;
    const svg = d3.create("svg").attr("viewBox", `0 0 ${width} ${height}`).attr("height", height).attr("role", "img")
      .attr("aria-label", `${rows.length} processes over time`);
    for (const [number, name] of rows.entries()) {
      const top = number * (bar + gap) + 14;
      svg.append("text").attr("x", 0).attr("y", top - 3).text(name);
      svg.append("rect").attr("x", 0).attr("y", top).attr("width", width).attr("height", bar).attr("fill", "#eef0f2");
      for (const p of data.profiles.filter((each) => row(each) === name)) {
        svg.append("rect").attr("x", x(begins(p))).attr("y", top).attr("height", bar)
          .attr("width", Math.max(1, x(p.at) - x(begins(p)))).attr("fill", colours[mode(p)] || colours[""])
          .attr("opacity", mode(p) === "memory" ? 0.35 : 1)
          .append("title").text(`${mode(p)} ${p.rate ? p.rate + " Hz" : ""} until ${clock(p.at)}`);
      }
      let last = null;
      for (const p of data.profiles.filter((each) => row(each) === name && each.rate).sort((a, b) => a.at - b.at)) {
        const said = `${mode(p)} ${p.rate} Hz`;
        if (said !== last) {
          svg.append("text").attr("x", x(begins(p)) + 2).attr("y", top + 12).style("fill", "#fff").text(said);
          last = said;
        }
      }
    }
    const shade = svg.append("rect").attr("y", 0).attr("height", height).attr("fill", "#000").attr("opacity", 0.12)
      .attr("pointer-events", "none");
    const mark = ([from, to]) => shade.attr("x", x(from)).attr("width", Math.max(0, x(to) - x(from)))
      .attr("visibility", x(to) - x(from) > width - 1 ? "hidden" : "visible");
    mark(chosen("from", "to"));
    let start = null;
    const at = (event) => Math.round((1000 * d3.pointer(event, svg.node())[0]) / width);
    svg.on("pointerdown", (event) => { start = at(event); });
    svg.on("pointermove", (event) => {
      if (start === null || Math.abs(at(event) - start) < 5) return;
      $("from").value = Math.min(start, at(event));
      $("to").value = Math.max(start, at(event));
      mark(chosen("from", "to"));
    });
    svg.on("pointerup pointerleave", () => { if (start !== null) { start = null; drawFlames(); } });
    $("timeline").replaceChildren(svg.node());
    const modes = [...new Set(data.profiles.map(mode))];
    $("legend").replaceChildren(...modes.flatMap((each) => {
      const swatch = document.createElement("span");
      swatch.className = "swatch";
      swatch.style.background = colours[each] || colours[""];
      return [swatch, document.createTextNode(each || "profile")];
    }));
  }

  function fill(select, values, kept) {
    select.replaceChildren(...values.map(([value, text]) => new Option(text, value, false, value === kept)));
  }

  function drawChoices() {
    const types = [...new Set(data.profiles.flatMap((p) => p.types))].sort((a, b) => (b === "cpu/nanoseconds") - (a === "cpu/nanoseconds"));
    fill($("type"), types.map((each) => [each, each.replace("/", ", ")]), $("type").value);
    const hidden = ["__name__", "service_repository", "__session_id__"];
    const known = new Map();
    for (const p of data.profiles)
      for (const [tag, value] of Object.entries(p.labels))
        if (!hidden.includes(tag)) known.set(tag, (known.get(tag) || new Set()).add(value));
    const several = [...known].filter(([, values]) => values.size > 1).sort();
    $("tags").replaceChildren(...several.map(([tag, values]) => {
      const label = document.createElement("label"), select = document.createElement("select");
      fill(select, [["", "all"], ...[...values].sort().map((each) => [each, each])], tags.get(tag) || "");
      select.dataset.tag = tag;
      select.addEventListener("change", () => { tags.set(tag, select.value); drawFlames(); });
      label.append(`${tag} `, select);
      return label;
    }));
  }

  function drawFlames() {
    const type = $("type").value, compares = $("compare").checked, range = chosen("from", "to");
    $("range").textContent = data.profiles.length ? `${clock(range[0])} to ${clock(range[1])}` : "";
    $("other").hidden = !compares;
    const root = tree(selected(range), type, fresh("all"), "a");
    let scale = null;
    if (compares) {
      const other = chosen("from2", "to2");
      $("range2").textContent = `${clock(other[0])} to ${clock(other[1])}`;
      tree(selected(other), type, root, "b");
      // Ranges differ in length: what counts is each function's part of its own.
      scale = root.b ? root.a / root.b || 1 : 0;
    }
    const total = root.a;
    finished(root, scale);
    const said = (node) => {
      const part = total ? ` (${((100 * node.a) / total).toFixed(1)} %)` : "";
      const changed = compares && total ? `, ${node.delta > 0 ? "+" : ""}${((100 * node.delta) / total).toFixed(1)} % beside the other range` : "";
      return `${node.name}: ${amount(node.a, type)}${part}${changed}`;
    };
    const box = $("flames");
    box.replaceChildren();
    $("details").textContent = total ? "" : "No samples here.";
    if (root.value) {
      chart = flamegraph.default().width(Math.max(280, box.clientWidth)).cellHeight(18).minFrameSize(2).transitionDuration(0)
        .inverted(true).sort((a, b) => d3.descending(a.value, b.value)).title("").setLabelHandler((d) => said(d.data))
        .onHover((d) => { $("details").textContent = said(d.data); })
        .onClick(() => window.setTimeout(reachable, 0));
      if (compares) {
        const widest = d3.max(d3.hierarchy(root).descendants(), (d) => Math.abs(d.data.delta)) || 1;
        const colour = d3.scaleLinear().domain([-widest, 0, widest]).range(["#4a7fd1", "#e8e8e8", "#d8553f"]);
        chart.setColorMapper((d) => (d.highlight ? "#e600e6" : colour(d.data.delta)));
      }
      d3.select(box).datum(root).call(chart);
      reachable();
      if ($("search").value) chart.search($("search").value);
    }
    drawHottest(root, total, type);
  }

  // By keyboard, too: Tab and the arrows go from frame to frame, Enter zooms, Escape shows the whole.
  function reachable() {
    const frames = [...$("flames").querySelectorAll("g.frame, g[name]")];
    for (const [number, frame] of frames.entries()) {
      const datum = d3.select(frame).datum();
      frame.setAttribute("tabindex", number ? "-1" : "0");
      frame.setAttribute("role", "button");
      if (datum) frame.setAttribute("aria-label", datum.data.name);
      frame.onfocus = () => { if (datum) frame.dispatchEvent(new MouseEvent("mouseover")); };
      frame.onkeydown = (event) => {
        if (event.key === "Enter") frame.dispatchEvent(new MouseEvent("click", { bubbles: true }));
        const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
        if (step && frames[number + step]) {
          event.preventDefault();
          frames[number + step].focus();
        }
      };
    }
  }

  function drawHottest(root, total, type) {
    const found = new Map();
    const walk = (node, above) => {
      const entry = found.get(node.name) || { self: 0, total: 0 };
      entry.self += node.self;
      // A function that calls itself counts once.
      if (!above.has(node.name)) entry.total += node.a;
      found.set(node.name, entry);
      const below = above.has(node.name) ? above : new Set(above).add(node.name);
      for (const child of node.children) walk(child, below);
    };
    for (const child of root.children) walk(child, new Set());
    const rows = [...found].sort((a, b) => b[1].self - a[1].self).slice(0, 15);
    const part = (value) => (total ? `${((100 * value) / total).toFixed(1)} %` : "");
    document.querySelector("#hottest tbody").replaceChildren(...rows.map(([name, { self, total: all }]) => {
      const line = document.createElement("tr");
      for (const text of [part(self), part(all), name]) line.insertCell().textContent = text;
      line.title = amount(self, type);
      return line;
    }));
  }

  function draw() {
    const count = data.profiles.length;
    const processes = new Set(data.profiles.map(row)).size, many = (number, name) => `${number} ${name}${number === 1 ? "" : "s"}`;
    $("summary").textContent = count ? `${many(count, "profile")} of ${processes === 1 ? "1 process" : `${processes} processes`}` : "No profile has arrived yet.";
    drawTimeline();
    drawChoices();
    drawFlames();
  }

  let waiting = 0;
  const soon = () => { window.clearTimeout(waiting); waiting = window.setTimeout(() => { drawTimeline(); drawFlames(); }, 60); };
  for (const id of ["from", "to", "from2", "to2", "compare", "type"]) $(id).addEventListener("input", soon);
  $("search").addEventListener("input", () => { if (chart) $("search").value ? chart.search($("search").value) : chart.clear(); });
  $("reset").addEventListener("click", () => { if (chart) { chart.resetZoom(); reachable(); } });
  for (const form of document.forms) form.addEventListener("submit", (event) => event.preventDefault());
  document.addEventListener("keydown", (event) => { if (event.key === "Escape" && chart) { chart.resetZoom(); reachable(); } });
  window.addEventListener("resize", soon);

  async function ask() {
    try {
      const answer = await fetch("/data");
      const found = await answer.json();
      const last = (each) => each.profiles.length && each.profiles[each.profiles.length - 1].at;
      if (found.profiles.length !== data.profiles.length || last(found) !== last(data)) {
        data = found;
        draw();
      }
    } catch {
      $("summary").textContent = "The receiver has ended; what is shown is what it had.";
      return;
    }
    window.setTimeout(ask, 2000);
  }

  draw();
  if (!inline) ask();
})();
