// Shows what state.json says. Everything that comes from the cluster is put in as text.
"use strict";
import { draw, number } from "./plots.js";

const EVERY_MS = 5000;
const MARKS = { good: "✓", bad: "✕", warn: "!", unknown: "?" };
const WORDS = { good: "fine", bad: "wrong", warn: "soon wrong", unknown: "not known" };
const THEMES = ["auto", "light", "dark"];
const byId = (id) => document.getElementById(id);
const cards = new Map();
let filter = "";

function el(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [key, value] of Object.entries(attributes)) {
    if (key === "class") made.className = value;
    else made.setAttribute(key, value);
  }
  made.append(...children.filter((child) => child !== null));
  return made;
}

function mark(state) {
  return el("span", { class: "mark", "data-state": state, role: "img", "aria-label": WORDS[state] }, MARKS[state]);
}

const percent = (share) => `${Math.round(share * 100)} %`;
const whole = (value) => new Intl.NumberFormat("en").format(value);
const keyOf = (policy) => `${policy.namespace}/${policy.name}`;

function lasting(seconds) {
  if (seconds >= 7200) return `${Math.round(seconds / 3600)} hours`;
  return seconds >= 120 ? `${Math.round(seconds / 60)} minutes` : `${Math.round(seconds)} seconds`;
}

// --- parts of a policy's row

function meter(parts, attributes) {
  const made = el("span", { class: "meter", ...attributes });
  for (const [share, name] of parts) {
    const part = el("b", { class: name });
    part.style.width = `${share * 100}%`;
    made.append(part);
  }
  return made;
}

function quota(policy) {
  const { used, limit, share, live } = policy.quota;
  const of = limit === null ? "unlimited" : `of ${whole(limit)} calls`;
  const level = share === null ? "none" : share >= 1 ? "full" : share >= 0.8 ? "near" : "fine";
  const says = used === null ? "not counted yet" : `${whole(used)} ${of}`;
  return el("span", {},
    el("span", { class: "figure" }, says),
    meter(share === null ? [] : [[share, ""]], {
      role: "meter", "data-level": level, "aria-label": `Quota of the day: ${says}`,
      "aria-valuemin": "0", "aria-valuemax": String(limit ?? 0), "aria-valuenow": String(used ?? 0),
    }),
    el("span", { class: "sub" }, share === null ? "today" : `${percent(share)} of today${live ? "" : ", by status"}`),
    ...policy.quota.limits.map((it) => el("span", { class: "sub" }, `${it.name}: ${it.shown}`)),
    policy.quota.mode === "Observe" ? el("span", { class: "sub" }, "observed, not enforced") : null);
}

function cache(policy) {
  const found = policy.cache;
  if (found === null) return el("span", {}, el("span", { class: "figure" }, "–"), el("span", { class: "sub" }, "no texts counted"));
  const says = `${percent(found.memory + found.redis)} from the cache`;
  return el("span", {},
    el("span", { class: "figure" }, says),
    meter([[found.memory, ""], [found.redis, "second"]], { role: "img", "aria-label": says }),
    el("span", { class: "sub" }, `${percent(found.memory)} memory, ${percent(found.redis)} Redis`));
}

function pair(figure, sub) {
  return el("span", {}, el("span", { class: "figure" }, figure), el("span", { class: "sub" }, sub));
}

function row(policy) {
  const chain = policy.providers.flatMap((provider, index) =>
    [index ? " → " : "", el("span", { class: "model" }, provider.model)]);
  const name = el("span", { class: "name" }, el("i", {}, `${policy.namespace}/`), policy.name);
  const { pods, cost, failovers, breakers } = policy;
  const failing = breakers.length ? `${breakers.join(", ")} not asked` : "failovers";
  return [
    el("span", { class: "who" }, mark(policy.ready.state), el("span", {}, name, el("span", { class: "sub" }, ...chain))),
    quota(policy),
    cache(policy),
    pair(`${pods.covered}/${pods.matching}`, "pods covered"),
    pair(failovers === null ? "–" : number(failovers), failing),
    pair(cost === null ? "–" : cost.shown, cost?.currency ? `${cost.currency}, list price` : "cost"),
    pair(policy.rules.word, "alert rules"),
    el("span", { class: "chevron" }),
  ];
}

function condition(found) {
  return el("li", {},
    mark(found.state),
    el("span", {}, el("strong", {}, found.type), found.reason === found.type ? "" : el("span", { class: "reason" }, found.reason)),
    el("p", {}, found.message),
    found.advice ? el("p", { class: "do" }, found.advice) : null);
}

// --- cards, kept from one look to the next so that focus and what is open stay

function card(policy) {
  const key = keyOf(policy);
  const button = el("button", { class: "open", type: "button", "aria-expanded": "false" });
  const conditions = el("ul", { class: "conditions" }), plots = el("div", { class: "plots" }), period = el("h3", {}, "Plots");
  const more = el("div", { class: "more" },
    el("div", {}, el("h3", {}, "Conditions"), conditions),
    el("div", {}, period, plots));
  more.hidden = true;
  const article = el("article", { "aria-label": key }, button, more);
  const made = { article, button, more, conditions, plots, period, policy };
  button.addEventListener("click", () => {
    more.hidden = !more.hidden;
    button.setAttribute("aria-expanded", String(!more.hidden));
    if (!more.hidden) showPlots(made);
  });
  return made;
}

function update(made, policy) {
  made.policy = policy;
  made.button.replaceChildren(...row(policy));
  made.conditions.replaceChildren(...[policy.ready, ...policy.conditions].map(condition));
  if (!made.more.hidden) showPlots(made);
}

async function showPlots(made) {
  const query = new URLSearchParams({ namespace: made.policy.namespace, name: made.policy.name });
  let found;
  try {
    found = await read(`plots.json?${query}`);
  } catch (error) {
    made.plots.replaceChildren(el("p", { class: "aside" }, error.message));
    return;
  }
  if (found === null) {
    const words = "Plots come from Prometheus: start the command with --prometheus http://HOST or NAMESPACE/SERVICE:PORT.";
    made.plots.replaceChildren(el("p", { class: "aside" }, words));
  } else {
    made.period.textContent = `Last ${lasting(found.seconds)}`;
    made.plots.replaceChildren(...found.plots.map(draw));
  }
}

// --- the page

function summary({ policies, ready, pods, uncovered, hitRate, calls }) {
  const figures = [
    ["Policies ready", whole(ready), ` of ${whole(policies)}`],
    ["Calls today", whole(calls), ""],
    ["From the cache", hitRate === null ? "–" : percent(hitRate), ""],
    ["Pods selected", whole(pods), ""],
    ["Pods uncovered", whole(uncovered), ""],
  ];
  byId("summary").replaceChildren(...figures.map(([term, figure, rest]) =>
    el("div", {}, el("dt", {}, term), el("dd", {}, figure, el("small", {}, rest)))));
}

function tasks(policies) {
  const found = policies.flatMap((policy) => policy.tasks.map((task) => ({ ...task, policy })));
  found.sort((one, other) => (one.state === "bad" ? 0 : 1) - (other.state === "bad" ? 0 : 1));
  const items = found.map((task) => {
    const link = el("a", { href: "#policies" }, keyOf(task.policy));
    link.addEventListener("click", (event) => {
      event.preventDefault();
      open(keyOf(task.policy));
    });
    return el("li", {}, mark(task.state), link,
      el("span", {}, el("span", { class: "do" }, task.do), el("br"), el("span", { class: "what" }, task.what)));
  });
  const calm = el("li", { class: "calm" }, mark("good"), "Nothing. Every policy shown here is in force.");
  byId("tasks").replaceChildren(...(items.length ? items : [calm]));
}

function open(key) {
  const found = cards.get(key);
  if (found === undefined) return;
  if (found.more.hidden) found.button.click();
  found.button.focus();
  found.article.scrollIntoView({ block: "nearest" });
}

function policies(shown) {
  const place = byId("policies"), keys = new Set(shown.map(keyOf));
  place.querySelector(".empty")?.remove();
  for (const [key, made] of cards) {
    if (!keys.has(key)) {
      made.article.remove();
      cards.delete(key);
    }
  }
  shown.forEach((policy, index) => {
    const key = keyOf(policy);
    if (!cards.has(key)) cards.set(key, card(policy));
    const made = cards.get(key);
    if (place.children[index] !== made.article) place.insertBefore(made.article, place.children[index] ?? null);
    update(made, policy);
  });
  sift();
  if (shown.length === 0) place.append(el("p", { class: "empty" }, "There is no EmbeddingPolicy here. Apply one, or start the command with -A."));
}

function sift() {
  for (const [key, made] of cards) made.article.hidden = !key.toLowerCase().includes(filter);
}

function show(state) {
  const figures = state.source === "status" ? "figures from the policies' status" : `figures from ${state.source}, over ${state.period}`;
  const at = new Date(state.at).toLocaleTimeString([], { hour12: false });
  byId("source").textContent = `${state.scope} · ${figures} · read at ${at}`;
  summary(state.summary);
  tasks(state.policies);
  byId("notes").replaceChildren(...state.notes.map((note) => el("li", {}, note)));
  policies(state.policies);
}

async function read(path) {
  let answer;
  try {
    answer = await fetch(path, { cache: "no-store" });
  } catch {
    throw new Error("The command that serves this page has ended; start it again.");
  }
  const body = await answer.json().catch(() => ({ error: `HTTP ${answer.status}` }));
  if (!answer.ok) throw new Error(body.error);
  return body;
}

async function look() {
  const trouble = byId("trouble");
  if (document.hidden) return;
  try {
    show(await read("state.json"));
    trouble.hidden = true;
  } catch (error) {
    trouble.textContent = error.message;
    trouble.hidden = false;
  }
}

async function follow() {
  await look();
  setTimeout(follow, EVERY_MS);
}

// --- controls

function theme(chosen) {
  if (chosen === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = chosen;
  byId("theme").querySelector("span").textContent = chosen;
  try {
    localStorage.setItem("theme", chosen);
  } catch {
    // Without storage it holds until the page is closed.
  }
}

function nextTheme() {
  const now = document.documentElement.dataset.theme ?? "auto";
  theme(THEMES[(THEMES.indexOf(now) + 1) % THEMES.length]);
}

function step(by) {
  const shown = [...cards.values()].filter((made) => !made.article.hidden)
    .sort((one, other) => one.article.compareDocumentPosition(other.article) & Node.DOCUMENT_POSITION_FOLLOWING ? -1 : 1);
  if (shown.length === 0) return;
  const now = shown.findIndex((made) => made.button === document.activeElement);
  const next = now < 0 ? (by > 0 ? 0 : shown.length - 1) : Math.min(Math.max(now + by, 0), shown.length - 1);
  shown[next].button.focus();
}

byId("theme").querySelector("span").textContent = document.documentElement.dataset.theme ?? "auto";
byId("theme").addEventListener("click", nextTheme);
byId("filter").addEventListener("input", (event) => {
  filter = event.target.value.trim().toLowerCase();
  sift();
});
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.target === byId("filter")) {
    if (event.key === "Escape") {
      byId("filter").value = filter = "";
      sift();
      byId("policies").focus();
    }
    return;
  }
  const keys = { "/": () => byId("filter").focus(), j: () => step(1), k: () => step(-1), t: nextTheme };
  if (keys[event.key]) {
    event.preventDefault();
    keys[event.key]();
  }
});
document.addEventListener("visibilitychange", look);
follow();
