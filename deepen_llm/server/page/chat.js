"use strict";
// Everything that is shown comes as markup from the server, where it was escaped, or is set as text.
const find = (selector, from = document) => from.querySelector(selector);
const all = (selector, from = document) => [...from.querySelectorAll(selector)];
const make = (name, look, text = "") => Object.assign(document.createElement(name), { className: look, textContent: text });

const conversation = find(".conversation");
const question = find(".question");
let members = [];
let isChat = true;
let turns = []; // {text, replies: [{text, card}], kept}
let numAnswers = 0;
let running = null; // the AbortController of the answer that is coming

// --- Who answers, and how much each counts ---------------------------------------------------------------------------

const isOn = (member) => find(".on", member).checked;
const share = (member) => (isOn(member) ? Number(find(".prior", member).value) : 0);

function readPrior() {
  const shares = members.map(share);
  const total = shares.reduce((sum, one) => sum + one, 0);
  return shares.map((one) => one / total);
}

function isAsLoaded() {
  return members.every((member) => isOn(member) && find(".prior", member).value === find(".prior", member).defaultValue);
}

function showPrior() {
  if (!members.some(isOn)) find(".on", members[0]).checked = true; // somebody must answer
  const prior = isAsLoaded() ? members.map((member) => Number(member.dataset.weight)) : readPrior();
  members.forEach((member, index) => {
    find("output", member).value = Number(prior[index].toPrecision(3));
    find(".prior", member).disabled = !isOn(member) || members.filter(isOn).length < 2;
  });
}

function describePrior() {
  if (members.length === 1) return "";
  if (isAsLoaded()) return "all, as configured";
  const prior = readPrior();
  const named = members.map((member, index) => [member.dataset.name, prior[index]]).filter(([, weight]) => weight > 0);
  return named.length === 1 ? `${named[0][0]} alone` : named.map(([name, weight]) => `${name} ${weight.toFixed(2)}`).join(", ");
}

// --- Asking ----------------------------------------------------------------------------------------------------------

function listMessages(turn) {
  const before = turns.slice(0, turns.indexOf(turn));
  const messages = before.flatMap(({ text, replies, kept }) => [
    { role: "user", content: text },
    ...(replies[kept]?.text ? [{ role: "assistant", content: replies[kept].text }] : []),
  ]);
  return [...messages, { role: "user", content: turn.text }];
}

function ask(text) {
  find(".placeholder")?.remove();
  const element = make("div", "turn");
  const answers = make("div", "answers");
  element.append(make("div", "user", text), answers);
  conversation.append(element);
  const turn = { text, replies: [], kept: 0, answers };
  turns.push(turn);
  answer(turn);
}

async function answer(turn) {
  const reply = addReply(turn);
  const asked = {
    messages: listMessages(turn),
    prior: members.length === 1 || isAsLoaded() ? null : readPrior(),
    max_tokens: Number(find(".max-tokens").value),
    temperature: Number(find(".temperature").value),
    number: numAnswers++,
  };
  running = new AbortController();
  showRunning();
  try {
    await receive(asked, reply, running.signal);
  } catch (error) {
    if (error.name === "AbortError") end(reply, "stopped");
    else fail(reply, error.message);
  } finally {
    running = null;
    reply.card.classList.remove("running");
    showRunning();
  }
}

async function receive(asked, reply, signal) {
  const headers = { "Content-Type": "application/json" };
  const response = await call("page/answers", { method: "POST", headers, body: JSON.stringify(asked), signal });
  for await (const event of readEvents(response.body)) {
    if (event.kind === "tokens") show(reply, event);
    else if (event.kind === "end") end(reply, describeEnd(event));
    else if (event.error) throw new Error(event.error.message);
  }
}

// A request with the key, where there is one; the box for it comes up where the server wants one.
async function call(place, { headers = {}, ...options } = {}) {
  const key = find(".key").value;
  const response = await fetch(place, { ...options, headers: key ? { ...headers, Authorization: `Bearer ${key}` } : headers });
  if (response.status === 401) {
    find(".keyed").hidden = false;
    find(".key").focus();
  }
  if (!response.ok) throw new Error(await readProblem(response));
  return response;
}

async function load() {
  try {
    const { html, is_chat } = await (await call("page/members")).json();
    find(".who").innerHTML = html;
    members = all(".member");
    isChat = is_chat;
    members.forEach((member) => member.addEventListener("input", showPrior));
    showPrior();
    showRunning();
    question.focus();
  } catch (error) {
    find(".who").replaceChildren(make("p", "error", error.message));
  }
}

async function readProblem(response) {
  const body = await response.json().catch(() => ({}));
  return body.error?.message ?? `the server answered ${response.status}`;
}

async function* readEvents(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let held = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    held += value.replaceAll("\r", "");
    const events = held.split("\n\n");
    held = events.pop();
    for (const event of events) {
      const data = event.split("\n").filter((line) => line.startsWith("data:")).map((line) => line.slice(5)).join("\n");
      if (data && data.trim() !== "[DONE]") yield JSON.parse(data);
    }
  }
}

// --- Showing ---------------------------------------------------------------------------------------------------------

function addReply(turn) {
  const card = make("article", "reply running");
  const text = make("div", "text");
  const foot = make("footer", "");
  text.translate = false;
  text.dir = "auto";
  card.append(make("small", "", describePrior()), text, foot);
  turn.answers.append(card);
  const reply = { card, text: "", turn, foot, place: text };
  turn.replies.push(reply);
  keep(turn, turn.replies.length - 1);
  card.scrollIntoView({ block: "nearest" });
  return reply;
}

function show(reply, { html, text }) {
  const isAtEnd = window.innerHeight + window.scrollY >= document.body.scrollHeight - 80;
  reply.place.insertAdjacentHTML("beforeend", html);
  reply.text += text;
  const tokens = all(".token", reply.place);
  tokens.forEach((token, index) => (token.tabIndex = index ? -1 : 0)); // Tab goes from answer to answer, arrows within
  if (isAtEnd) window.scrollTo(0, document.body.scrollHeight);
}

function end(reply, description) {
  reply.foot.prepend(make("small", "", description));
  const copy = make("button", "small", "Copy");
  copy.type = "button";
  copy.addEventListener("click", () => copyText(reply.text, copy));
  reply.foot.append(copy);
  if (isChat) addKeep(reply);
}

function addKeep(reply) {
  const button = make("button", "small keep", "Go on from here");
  button.type = "button";
  button.addEventListener("click", () => keep(reply.turn, reply.turn.replies.indexOf(reply)));
  reply.foot.append(button);
  keep(reply.turn, reply.turn.kept);
}

function keep(turn, place) {
  turn.kept = place;
  turn.replies.forEach(({ card }, index) => {
    card.classList.toggle("kept", index === place && turn.replies.length > 1);
    const button = find(".keep", card);
    if (button) button.hidden = turn.replies.length < 2 || index === place;
  });
}

function fail(reply, message) {
  reply.foot.prepend(make("small", "error", message));
}

function describeEnd({ finish_reason, weights, share_fused, num_tokens, seconds }) {
  const facts = [`${num_tokens} tokens`, `${(num_tokens / seconds).toFixed(1)} a second`];
  const names = Object.entries(weights);
  if (names.length > 1) {
    facts.push(`${Math.round(100 * share_fused)}% fused`);
    facts.push(`weights at the end: ${names.map(([name, weight]) => `${name} ${Number(weight.toPrecision(2))}`).join(", ")}`);
  }
  if (finish_reason === "length") facts.push("cut at max tokens");
  return facts.join(" · ");
}

async function copyText(text, button) {
  try {
    await navigator.clipboard.writeText(text);
    button.textContent = "Copied";
  } catch {
    button.textContent = "The browser does not allow it";
  }
  setTimeout(() => (button.textContent = "Copy"), 1500);
}

function showRunning() {
  find(".send").disabled = find(".again").disabled = Boolean(running) || !members.length;
  find(".again").disabled ||= !turns.length;
  find(".stop").disabled = !running;
}

// --- Keys and buttons ------------------------------------------------------------------------------------------------

function send() {
  const text = question.value;
  if (running || !members.length || !text.trim()) return;
  question.value = "";
  ask(text);
}

find(".composer").addEventListener("submit", (event) => {
  event.preventDefault();
  send();
});
find(".again").addEventListener("click", () => answer(turns.at(-1)));
find(".stop").addEventListener("click", () => running?.abort());
find(".new").addEventListener("click", () => {
  running?.abort();
  turns = [];
  conversation.replaceChildren();
  showRunning();
  question.focus();
});
find(".theme").addEventListener("click", () => {
  const root = document.documentElement;
  const isDark = (root.dataset.theme ?? (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark";
  root.dataset.theme = isDark ? "light" : "dark";
});
question.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
    event.preventDefault();
    find(".composer").requestSubmit();
  }
});
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") {
    running?.abort();
    document.activeElement?.closest(".token")?.blur();
  }
  const token = document.activeElement?.closest(".token");
  const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
  if (!token || !step) return;
  const next = step > 0 ? token.nextElementSibling : token.previousElementSibling;
  if (next?.classList.contains("token")) next.focus();
  event.preventDefault();
});
find(".key").addEventListener("change", load);
new ResizeObserver(([{ target }]) => document.documentElement.style.setProperty("--foot", `${target.offsetHeight}px`)).observe(find(".composer"));
load();
